"""The seeded schedule of a response, and the times read back from its text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

STAMP = "%015.6f "
"""Text of a delta: the monotonic clock in s, always 16 characters."""


@dataclass(frozen=True)
class Script:
    """The deltas that answer a request, and their schedule, which follows from script and number.

    Attributes:
        reasoning, answer: number of deltas of each.
        first_s: seconds from the request to its first delta.
        gap_s: seconds from one write to the next; the mean of random ones.
        gaps: ``fixed`` (all equal), ``exponential``, or ``steps``: writes of all responses fall on
            one grid of the server's clock, as those of an engine's steps do.
        think_s: seconds between reasoning and answer, on top of the gap.
        tokens: tokens that one delta carries.
        events: deltas that one write carries.
        spread_s: the first delta is later by a random part of this, so that simultaneous
            responses do not write at the same moments.
        stage_s, growth: after every ``stage_s`` seconds the rate of deltas is multiplied by
            ``growth``. 0 s keeps one rate.
        seed: seed of the random gaps and spreads.
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
                "no number of a script may be negative; tokens, events and growth are at least 1"
            )
        if self.reasoning + self.answer < 1:
            raise ValueError("a script needs at least 1 delta: reasoning or answer")
        if self.gaps not in ("fixed", "exponential", "steps"):
            raise ValueError(f"gaps must be fixed, exponential or steps, not {self.gaps!r}")
        if self.gaps == "steps" and not self.gap_s:
            raise ValueError("gaps of steps need a gap_s above 0")

    def lasting(self, tokens: int, *, exactly: bool) -> Script:
        """This script with at most, or exactly, this number of tokens; reasoning comes first."""
        deltas = -(-tokens // self.tokens)
        if not exactly:
            deltas = min(deltas, self.reasoning + self.answer)
        reasoning = min(self.reasoning, deltas)
        return replace(self, reasoning=reasoning, answer=deltas - reasoning)

    def schedule(self, number: int = 0) -> list[float]:
        """Times at which the writes of a response are due, in s from its request."""
        writes = -(-(self.reasoning + self.answer) // self.events)
        rng = np.random.default_rng((self.seed, number))
        gaps = np.full(writes, self.gap_s)
        if self.gaps == "exponential":
            gaps = rng.exponential(self.gap_s, writes)
        gaps[0] = 0.0
        due = self._accelerated(np.cumsum(gaps)) + self.first_s + self.spread_s * rng.random()
        if 0 < self.reasoning < self.reasoning + self.answer:
            due[-(-self.reasoning // self.events) :] += self.think_s
        times: list[float] = due.tolist()
        return times

    def _accelerated(self, even: np.ndarray) -> np.ndarray:
        """Times since the first delta, shortened by the growing rates of the stages."""
        if not self.stage_s or self.growth == 1:
            return even
        stages = [0.0]
        while stages[-1] < even[-1]:
            stages.append(stages[-1] + self.stage_s * self.growth ** (len(stages) - 1))
        times: np.ndarray = np.interp(even, stages, self.stage_s * np.arange(len(stages)))
        return times


def truth(text: str) -> list[float]:
    """Times at which the deltas of a text were sent, in s of CLOCK_MONOTONIC.

    Raises:
        ValueError: the text is not of the reference server, or ends inside a delta.
    """
    if len(text) % 16:
        raise ValueError(
            f"{len(text)} characters of text are no whole number of deltas of 16: the text is cut "
            "short, or not of the reference server"
        )
    return [float(text[i : i + 16]) for i in range(0, len(text), 16)]
