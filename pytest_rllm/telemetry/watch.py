"""Read a monitor in the background during a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self

PATIENCE_S = 30.0
"""A driver whose GPU is lost may never answer: the run goes on without its readings."""


class Watch:
    """Reads a monitor in a thread, from entry to exit; a context manager.

    Args:
        read: returns one reading: values by name.
        keep: takes each reading with its time, immediately and in order.
        every_s: seconds between readings.
        clock: monotonic seconds.

    Attributes:
        error: why the readings stopped early; None if they did not.
    """

    def __init__(
        self,
        read: Callable[[], dict[str, float]],
        keep: Callable[[float, dict[str, float]], None],
        every_s: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.error: str | None = None
        self._read, self._keep, self._every_s, self._clock = read, keep, every_s, clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="rllm-monitor", daemon=True)

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            if not self._keep_one():
                return

    def _keep_one(self) -> bool:
        """Take a reading; whether that went well."""
        try:
            self._keep(self._clock(), self._read())
        except Exception as error:  # noqa: BLE001 - kept: readings must not end what is measured
            self.error = f"{type(error).__name__}: {error}"
            return False
        return True

    def __enter__(self) -> Self:
        if self._keep_one():
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.ident is None:
            return
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            self.error = f"a reading did not end within {PATIENCE_S:g} s"
