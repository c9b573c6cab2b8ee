"""Stored levels beside fresh ones: which of them can be compared, and which have drifted.

A level is the value of a metric in one arm. A share of right answers is the same on any machine of
a class. A time is not: it says something of the engine only on the machine that stored it, and only
beyond what that machine's own change of speed explains.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..verdicts.claims import Claim
from ..verdicts.judgement import Judgement
from .case import Case, Spreads, described

SPREADS = 3.0
"""A level has drifted when it moved by more than three spreads; one that travels must have moved by
more than its claim's margin, too."""
SESSION_SPREAD = 0.05
"""Share by which a time is taken to move between sessions on one machine, what its reference load
explains taken off, until the ledger holds enough of them: blocks of one session do not show it."""
SAME_PACE = 1.2
"""A machine that is this many times faster or slower than it was is another one for values that
depend on its pace and do not follow it in proportion."""


@dataclass(frozen=True)
class Level:
    """A stored level beside the fresh one; plain values.

    Attributes:
        key: of the level among a case's stored numbers.
        arm: the arm's name, for people.
        metric, unit: of the value.
        stored, here: the values.
        decides: whether the two can be compared.
        drift: a sentence on how they differ, where they can be compared and differ; else empty.
    """

    key: str
    arm: str
    metric: str
    unit: str
    stored: float
    here: float
    decides: bool
    drift: str = ""


def beside(
    stored: Case,
    fresh: Case,
    judgements: Sequence[Judgement],
    sessions: Spreads | None = None,
    *,
    same_class: bool = True,
) -> list[Level]:
    """The levels that are both stored and fresh, each once.

    Args:
        stored, fresh: the two cases.
        judgements: what was judged; its margins.
        sessions: spread between sessions by the level's key, from the ledger.
        same_class: whether the stored case is of this class of machine; else no level decides.
    """
    found: dict[str, Level] = {}
    for judgement in judgements:
        for claim, j in zip(judgement.claims, judgement.verdicts, strict=True):
            for key, arm in zip(j.level_keys, j.arms, strict=True):
                if key not in stored.levels or key not in fresh.levels or key in found:
                    continue
                level = _Compared(key, claim, stored, fresh, sessions or {})
                decides = same_class and level.comparable
                found[key] = Level(
                    key=key,
                    arm=arm,
                    metric=claim.metric.name,
                    unit=claim.metric.unit,
                    stored=level.was,
                    here=level.now,
                    decides=decides,
                    drift=level.drift() if decides else "",
                )
    return list(found.values())


def pace(stored: Case, fresh: Case, comparison: str) -> float:
    """How many times as long the reference load takes now as when the case was stored; 1 where
    either is unknown."""
    was, now = (case.reference_s.get(comparison) for case in (stored, fresh))
    return now / was if was and now else 1.0


@dataclass(frozen=True)
class _Compared:
    """One level of two cases."""

    key: str
    claim: Claim
    stored: Case
    fresh: Case
    sessions: Mapping[str, float]

    @property
    def was(self) -> float:
        value = self.stored.levels[self.key][0]
        assert value is not None
        return value

    @property
    def now(self) -> float:
        value = self.fresh.levels[self.key][0]
        assert value is not None
        return value

    @property
    def pace(self) -> float:
        return pace(self.stored, self.fresh, self.key.partition("/")[0])

    @property
    def comparable(self) -> bool:
        metric = self.claim.metric
        if metric.travels:
            return True
        if not self.fresh.machine or self.fresh.machine != self.stored.machine:
            return False
        return metric.timed or 1 / SAME_PACE < self.pace < SAME_PACE

    def drift(self) -> str:
        """How far the level moved, where that is more than is usual."""
        low, high = self._explained()
        moved = max(low - self.now, self.now - high)
        allowed = max(self._margin(), SPREADS * self._spread())
        if moved <= allowed:
            return ""
        text = f"{described(self.key, self.fresh.labels)} went from {self.was:g} to {self.now:g}, "
        if low != high:
            text += (
                f"and the machine explains {low:.3g} to {high:.3g} (its reference load takes "
                f"{self.pace:.2f} times as long); "
            )
        return text + f"more than {allowed:.3g}" + (" beyond that" if low != high else "")

    def _explained(self) -> tuple[float, float]:
        """Where the level may lie for the machine's change of speed alone: an engine follows it
        fully, not at all, or in between."""
        if not self.claim.metric.timed:
            return self.was, self.was
        slower = 1 / self.pace if self.claim.metric.is_rate else self.pace
        return min(self.was, self.was * slower), max(self.was, self.was * slower)

    def _margin(self) -> float:
        """Of the claim, as far as it says something of a level: how much faster one arm is than the
        other says nothing of how fast either is."""
        margin = self.claim.margin
        if self.claim.metric.timed:
            return 0.0
        return margin.size / 100 * (abs(self.was) if margin.scale == "percent" else 1.0)

    def _spread(self) -> float:
        between = SESSION_SPREAD * abs(self.was) if self.claim.metric.timed else 0.0
        own = [case.levels[self.key][1] or 0 for case in (self.stored, self.fresh)]
        return math.hypot(*own, self.sessions.get(self.key, between))


def drifts(levels: Sequence[Level]) -> Iterator[str]:
    """Sentences on the levels that drifted."""
    return (level.drift for level in levels if level.drift)
