"""What the timing server says and when: pure, seeded, and the way back from its texts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

STAMP = "%015.6f "
"""Text of a delta: seconds of the monotonic clock, always 16 characters."""


@dataclass(frozen=True)
class Script:
    """What is answered to one request, and when. The same number and script: the same schedule.

    Attributes:
        reasoning, answer: number of deltas of each.
        first_s: seconds from the request to its first delta.
        gap_s: seconds from one write to the next; the mean of random ones.
        gaps: all alike, or exponential, or (``steps``) on a grid of the server's clock that all
            responses share, as the steps of an engine are.
        think_s: seconds between reasoning and answer, on top of the gap.
        tokens: tokens that one delta carries.
        events: deltas that one write carries.
        spread_s: the first delta is later by a random part of this, so that responses that were
            asked for together do not stay in step.
        stage_s, growth: after so many seconds of deltas their rate grows by this factor, and again
            after so many more: a ladder of rates in one response. 0 s is one rate for all.
        seed: draws of the gaps and of the spread.
    """

    reasoning: int = 0
    answer: int = 64
    first_s: float = 0.02
    gap_s: float = 0.01
    gaps: Literal["fixed", "exponential", "steps"] = "fixed"
    think_s: float = 0.0
    tokens: int = 1
    events: int = 1
    spread_s: float = 0.0
    stage_s: float = 0.0
    growth: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        times = (self.first_s, self.gap_s, self.think_s, self.spread_s, self.stage_s)
        if (
            min(*times, self.reasoning, self.answer, self.seed) < 0
            or min(self.tokens, self.events, self.growth) < 1
        ):
            raise ValueError(
                "no number of a script is negative; tokens, events and growth are at least 1"
            )
        if self.reasoning + self.answer < 1:
            raise ValueError("a script has at least 1 delta")
        if self.gaps not in ("fixed", "exponential", "steps"):
            raise ValueError(f"gaps are fixed, exponential or steps, not {self.gaps!r}")
        if self.gaps == "steps" and not self.gap_s:
            raise ValueError("steps need a gap_s")

    def lasting(self, tokens: int, *, exactly: bool) -> Script:
        """The same with at most, or exactly, so many tokens; reasoning comes first."""
        deltas = -(-tokens // self.tokens)
        if not exactly:
            deltas = min(deltas, self.reasoning + self.answer)
        reasoning = min(self.reasoning, deltas)
        return replace(self, reasoning=reasoning, answer=deltas - reasoning)

    def schedule(self, number: int = 0) -> list[float]:
        """When the writes of the ``number``-th response are due, in s from its request."""
        writes = -(-(self.reasoning + self.answer) // self.events)
        rng = np.random.default_rng((self.seed, number))
        gaps = np.full(writes, self.gap_s)
        if self.gaps == "exponential":
            gaps = rng.exponential(self.gap_s, writes)
        gaps[0] = 0.0
        due = self._hastened(np.cumsum(gaps)) + self.first_s + self.spread_s * rng.random()
        if 0 < self.reasoning < self.reasoning + self.answer:
            due[-(-self.reasoning // self.events) :] += self.think_s
        times: list[float] = due.tolist()
        return times

    def _hastened(self, even: np.ndarray) -> np.ndarray:
        """Times from the first delta on, as the stages shorten them."""
        if not self.stage_s or self.growth == 1:
            return even
        stages = [0.0]
        while stages[-1] < even[-1]:
            stages.append(stages[-1] + self.stage_s * self.growth ** (len(stages) - 1))
        times: np.ndarray = np.interp(even, stages, self.stage_s * np.arange(len(stages)))
        return times


def truth(text: str) -> list[float]:
    """The times in a text of the server, in s of CLOCK_MONOTONIC, one per delta.

    Raises:
        ValueError: the text is not the server's, or cut short inside a delta.
    """
    if len(text) % 16:
        raise ValueError(f"cut short: {len(text)} characters are no whole number of deltas")
    return [float(text[i : i + 16]) for i in range(0, len(text), 16)]
