"""One line that says what is being measured, on a terminal only; a log stays quiet."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO


@dataclass
class Progress:
    """Call it with what goes on; :meth:`clear` takes the line away.

    Args:
        out: the terminal, None for silence.
        width: columns of the terminal.
        clock: monotonic seconds.
    """

    out: TextIO | None
    width: int = 80
    clock: Callable[[], float] = time.monotonic
    _begun: tuple[float, float] | None = None
    _last: float = 0.0
    _shown: bool = False

    def __call__(self, text: str, done: float | None = None) -> None:
        """Show ``text``; ``done`` (0 to 1) of the comparison adds how long it will still take."""
        if self.out is None:
            return
        left = self._seconds_left(done)
        if left is not None:
            minutes, seconds = divmod(round(left), 60)
            text += f", {minutes}:{seconds:02} left"
        self.out.write("\r\x1b[K" + text[: self.width - 1])
        self.out.flush()
        self._shown = True

    def clear(self) -> None:
        if self.out is not None and self._shown:
            self.out.write("\r\x1b[K")
            self.out.flush()
            self._shown = False
        self._begun = None

    def _seconds_left(self, done: float | None) -> float | None:
        if not done:
            return None
        now = self.clock()
        if self._begun is None or done < self._last:  # less than before is another comparison
            self._begun = (now, done)
        self._last = done
        begun, before = self._begun
        return (now - begun) / (done - before) * (1 - done) if done > before else None
