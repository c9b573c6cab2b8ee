"""Read a monitor in the background during a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self


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
            try:
                self._keep(self._clock(), self._read())
            except Exception as error:  # noqa: BLE001 - kept, because nobody sees a thread's error
                self.error = f"{type(error).__name__}: {error}"
                return

    def __enter__(self) -> Self:
        self._keep(self._clock(), self._read())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
