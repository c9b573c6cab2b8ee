"""Stored levels beside fresh ones: which of them can be compared, and which have drifted.

A level is the value of a metric in one arm. A share of right answers is the same on any machine of
a class. A time is not: it says something of the engine only on the machine that stored it, and only
beyond what that machine's own change of speed explains.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ..verdicts.claims import Claim
from ..verdicts.intervals import CONFIDENCE
from ..verdicts.judgement import Judgement
from .case import Case, described
from .ledger import Stored

SPREADS = 3.0
"""A level has drifted when it moved by more than three spreads; one that travels must have moved by
more than its claim's margin, too. A level that enough sessions stored is predicted instead."""
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
    sessions: Stored = MappingProxyType({}),
    *,
    same_class: bool = True,
) -> list[Level]:
    """The levels that are both stored and fresh, each once.

    Args:
        stored, fresh: the two cases.
        judgements: what was judged; its margins.
        sessions: what several sessions stored by the level's key, see ``ledger.by_session``.
        same_class: whether the stored case is of this class of machine; else no level decides.
    """
    shared: dict[str, tuple[Claim, str]] = {}
    for judgement in judgements:
        for claim, j in zip(judgement.claims, judgement.verdicts, strict=True):
            for key, arm in zip(j.level_keys, j.arms, strict=True):
                if key in stored.levels and key in fresh.levels:
                    shared.setdefault(key, (claim, arm))
    predictions = _predictions({key: claim for key, (claim, _) in shared.items()}, sessions)
    found = []
    for key, (claim, arm) in shared.items():
        level = _Compared(key, claim, stored, fresh, predictions.get(key))
        decides = same_class and level.comparable
        found.append(
            Level(
                key=key,
                arm=arm,
                metric=claim.metric.name,
                unit=claim.metric.unit,
                stored=level.was,
                here=level.now,
                decides=decides,
                drift=level.drift() if decides else "",
            )
        )
    return found


@dataclass(frozen=True)
class _Prediction:
    """Where the next session's value of a level is to be expected.

    Attributes:
        sessions: how many there were.
        mean: of their values, in the metric's unit.
        half: half the width of the interval about the mean that holds the next value.
    """

    sessions: int
    mean: float
    half: float


def _predictions(claims: Mapping[str, Claim], sessions: Stored) -> dict[str, _Prediction]:
    """Prediction intervals that hold the levels of one more session, all together.

    One more of k normal values with mean m and standard deviation s lies within
    ``t(k - 1) * s * sqrt(1 + 1 / k)`` of m (Hahn and Meeker, Statistical Intervals, 1991). Times
    scatter by a share of their size, which is pooled over them; they move together with the
    machine, so that adds no degrees of freedom. The error is split among all levels (Bonferroni).

    Args:
        claims: by the level's key.
        sessions: what several sessions stored of some of these levels, or of others.
    """
    values = {key: sessions[key] for key in claims if key in sessions}
    if not values:
        return {}
    from scipy import stats

    means = {key: statistics.fmean(values[key]) for key in values}
    timed = [key for key in values if claims[key].metric.timed and means[key] > 0]
    squares = sum((value / means[key] - 1) ** 2 for key in timed for value in values[key])
    freedom = sum(len(values[key]) - 1 for key in timed)
    found = {}
    for key, stored in values.items():
        k = len(stored)
        pooled = key in timed
        spread = means[key] * math.sqrt(squares / freedom) if pooled else statistics.stdev(stored)
        t = float(stats.t.ppf(1 - (1 - CONFIDENCE) / 2 / len(values), k - 1))
        found[key] = _Prediction(k, means[key], t * spread * math.sqrt(1 + 1 / k))
    return found


def pace(stored: Case, fresh: Case, comparison: str) -> float:
    """How many times as long the reference load takes now as when the case was stored; 1 where
    either is unknown."""
    was, now = (case.reference_s.get(comparison) for case in (stored, fresh))
    return now / was if was and now else 1.0


def same_machine(stored: Case, fresh: Case) -> bool:
    """Whether two cases were measured on one machine, as far as that is known."""
    return stored.machine == fresh.machine != ""


def same_pace(stored: Case, fresh: Case, comparison: str) -> bool:
    """Whether they were measured on one machine that was about as fast both times."""
    slower = pace(stored, fresh, comparison)
    return same_machine(stored, fresh) and 1 / SAME_PACE < slower < SAME_PACE


@dataclass(frozen=True)
class _Compared:
    """One level of two cases."""

    key: str
    claim: Claim
    stored: Case
    fresh: Case
    prediction: _Prediction | None

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
    def comparison(self) -> str:
        return self.key.partition("/")[0]

    @property
    def pace(self) -> float:
        return pace(self.stored, self.fresh, self.comparison)

    @property
    def comparable(self) -> bool:
        metric = self.claim.metric
        if metric.travels:
            return True
        if metric.timed:
            return same_machine(self.stored, self.fresh)
        return same_pace(self.stored, self.fresh, self.comparison)

    def drift(self) -> str:
        """How far the level moved, where that is more than is usual."""
        low, high = self._explained()
        moved = max(low - self.now, self.now - high)
        allowed = self._allowed()
        if moved <= allowed:
            return ""
        text = f"{described(self.key, self.fresh.labels)} went from {self.was:g} to {self.now:g}, "
        if self.prediction is not None:
            text += (
                f"and {self.prediction.sessions} sessions with this engine version gave "
                f"{self.prediction.mean:.3g} on average; "
            )
        if low != high:
            text += (
                f"and the machine explains {low:.3g} to {high:.3g} (its reference load takes "
                f"{self.pace:.2f} times as long); "
            )
        beyond = " beyond that" if low != high or self.prediction else ""
        return text + f"more than {allowed:.3g}{beyond}"

    def _explained(self) -> tuple[float, float]:
        """Where the level may lie for the machine's change of speed alone: an engine follows it
        fully, not at all, or in between."""
        usual = self.was if self.prediction is None else self.prediction.mean
        if not self.claim.metric.timed:
            return usual, usual
        slower = 1 / self.pace if self.claim.metric.is_rate else self.pace
        return min(usual, usual * slower), max(usual, usual * slower)

    def _allowed(self) -> float:
        """How far the level may lie from what is explained, in the metric's unit."""
        if self.prediction is not None:
            return max(self._margin(), self.prediction.half)
        between = SESSION_SPREAD * abs(self.was) if self.claim.metric.timed else 0.0
        own = [case.levels[self.key][1] or 0 for case in (self.stored, self.fresh)]
        return max(self._margin(), SPREADS * math.hypot(*own, between))

    def _margin(self) -> float:
        """Of the claim, as far as it says something of a level: how much faster one arm is than the
        other says nothing of how fast either is."""
        margin = self.claim.margin
        if self.claim.metric.timed:
            return 0.0
        return margin.size / 100 * (abs(self.was) if margin.scale == "percent" else 1.0)


def drifts(levels: Sequence[Level]) -> Iterator[str]:
    """Sentences on the levels that drifted."""
    return (level.drift for level in levels if level.drift)
