"""One line that says what is being measured, on a terminal only; a log stays quiet."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

EVERY_S = 0.1
"""A terminal may be slow, and it is written to by the thread that measures."""


@dataclass
class Progress:
    """Call it with what goes on; :meth:`clear` takes the line away.

    Args:
        out: the terminal, None for silence.
        width: columns of the terminal.
        clock: monotonic seconds.
        later_s: estimated seconds of all that comes after this comparison; None where unknown.
    """

    out: TextIO | None
    width: int = 80
    clock: Callable[[], float] = time.monotonic
    later_s: float | None = None
    _begun: tuple[float, float] | None = None
    _last: float = 0.0
    _shown: bool = False
    _shown_at: float = -math.inf

    def __call__(self, text: str, done: float | None = None) -> None:
        """Show ``text``; ``done`` (0 to 1) of the comparison adds how long it will still take."""
        if self.out is None:
            return
        now = self.clock()
        left = self._seconds_left(done, now)
        if self._shown and now - self._shown_at < EVERY_S:
            return
        self._shown_at = now
        if left is not None:
            minutes, seconds = divmod(round(left), 60)
            text += f", {minutes}:{seconds:02} left"
            if self.later_s is not None:
                text += f" of about {math.ceil((left + self.later_s) / 60)} min"
        self.out.write("\r\x1b[K" + text[: self.width - 1])
        self.out.flush()
        self._shown = True

    def clear(self) -> None:
        if self.out is not None and self._shown:
            self.out.write("\r\x1b[K")
            self.out.flush()
            self._shown = False
        self._begun = None

    def _seconds_left(self, done: float | None, now: float) -> float | None:
        if not done:
            return None
        if self._begun is None or done < self._last:  # less than before is another comparison
            self._begun = (now, done)
        self._last = done
        begun, before = self._begun
        return (now - begun) / (done - before) * (1 - done) if done > before else None
