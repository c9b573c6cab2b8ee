"""Claims on more than two arms: on a whole curve, and on the difference of two effects.

A claim on a curve, whose arms differ by one number such as requests in flight, is made of claims on
pairs of its points, its steps. It holds when every step holds, which needs no correction for their
number. It is refuted when a step is, by Holm's method over all steps of all claims on the curve: a
true claim is refuted by chance no more often than a single one would be.

Two arms show an effect, two others the same change on another model. Each pair of runs of a block
is one :class:`Versus`, a run whose metrics are effects, and two of these are compared as two runs
are: the effect between them is the difference of log ratios, or of differences of shares, block by
block, or question by question where the same ones were asked. So all intervals and looks are those
of any comparison.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from ..metrics.base import Metric, MetricUnavailable
from ..records.run import Run, ServerId
from .claims import Claim, Margin, Verdict, higher, lower, not_higher, not_lower, unchanged
from .judge import Blocks, Judged
from .precedence import overall
from .validity import Checked, check

Shape = Literal["rises", "falls", "flat", "levels_off"]
Step = tuple[int, int]
"""Two points by their places on the curve, the later one first."""


@dataclass(frozen=True)
class CurveClaim:
    """One thing that a finding says of a metric over all points of a curve.

    Attributes:
        shape: what the curve does.
        metric: whose values it is of.
        by: how much the value changes from the first point to the last, or to ``at``, at least;
            None where it does not.
        within: how far a step may go the wrong way, or two points may lie apart; None where every
            step must go the right way.
        at: for ``levels_off``, the point from which on the curve is level.
    """

    shape: Shape
    metric: Metric
    by: Margin | None = None
    within: Margin | None = None
    at: float | None = None

    def __post_init__(self) -> None:
        for _ in self.steps((1.0, 2.0, 3.0) if self.at is None else (self.at - 1, self.at)):
            pass  # each claim refuses what it cannot say

    def steps(self, points: Sequence[float]) -> Iterator[tuple[Step, Claim]]:
        """The claims that it is made of, each with the two points that it compares.

        Args:
            points: of the curve, growing.

        Raises:
            ValueError: fewer than two points, or the curve levels off at none, or at the first.
        """
        last = len(points) - 1
        if last < 1:
            raise ValueError(f"a curve needs two points at least, not {len(points)}")
        match self.shape:
            case "rises" | "falls":
                yield from self._climbs(0, last)
            case "flat":
                yield from self._level(dict.fromkeys([*_neighbours(0, last), (last, 0)]))
            case "levels_off":
                if self.at not in points[1:]:
                    raise ValueError(
                        f"the curve can level off at {_listed(points[1:])}, not at {self.at:g}"
                    )
                top = points.index(self.at)
                yield from self._climbs(0, top)
                later = itertools.combinations(range(top, last + 1), 2)
                yield from self._level((second, first) for first, second in later)

    def _climbs(self, first: int, last: int) -> Iterator[tuple[Step, Claim]]:
        """Every step from a point to another goes one way, and all together far enough."""
        assert self.by is not None
        down = self.shape == "falls"
        if last - first > 1:
            for step in _neighbours(first, last):
                if self.within is None:
                    none = Margin(0, self.by.scale)
                    yield (
                        step,
                        lower(self.metric, by=none) if down else higher(self.metric, by=none),
                    )
                elif down:
                    yield step, not_higher(self.metric, by_more_than=self.within)
                else:
                    yield step, not_lower(self.metric, by_more_than=self.within)
        all_of_it = (lower if down else higher)(self.metric, by=self.by)
        yield (last, first), all_of_it

    def _level(self, steps: Iterator[Step] | Mapping[Step, None]) -> Iterator[tuple[Step, Claim]]:
        assert self.within is not None
        for step in steps:
            yield step, unchanged(self.metric, within=self.within)

    def __str__(self) -> str:
        match self.shape:
            case "flat":
                return f"{self.metric} is flat within {self.within}"
            case "levels_off":
                return (
                    f"{self.metric} rises by {self.by} and is level within {self.within} "
                    f"from {self.at:g} on"
                )
        steps = "at every step" if self.within is None else f"no step back by {self.within}"
        return f"{self.metric} {self.shape} by {self.by}, {steps}"


def rises(metric: Metric, *, by: Margin, within: Margin | None = None) -> CurveClaim:
    """The value rises from the first point to the last by more than ``by``, and at every step; with
    ``within`` a step may go down by no more than that."""
    return CurveClaim("rises", metric, by, within)


def falls(metric: Metric, *, by: Margin, within: Margin | None = None) -> CurveClaim:
    """The value falls from the first point to the last by more than ``by``, and at every step; with
    ``within`` a step may go up by no more than that."""
    return CurveClaim("falls", metric, by, within)


def flat(metric: Metric, *, within: Margin) -> CurveClaim:
    """No step, and not the last point against the first, differs by more than the margin."""
    return CurveClaim("flat", metric, None, within)


def levels_off(metric: Metric, *, at: float, by: Margin, within: Margin) -> CurveClaim:
    """The value rises from the first point to ``at`` by more than ``by``, and no step until there
    goes down by more than ``within``. Any two points from ``at`` on lie within ``within`` of each
    other: the value does not rise past that, and loses no more."""
    return CurveClaim("levels_off", metric, by, within, at)


def verdict_of(
    claim: CurveClaim, points: Sequence[float], judged: Mapping[Step, Sequence[Judged]]
) -> Verdict:
    """What the verdicts of a claim's steps say of it.

    Args:
        claim: on the curve.
        points: of the curve.
        judged: per step the verdicts on its claims.
    """
    found = []
    for step, part in claim.steps(points):
        found += [j.verdict for j in judged[step] if j.slug == part.slug]
    return overall(found)


def _neighbours(first: int, last: int) -> list[Step]:
    return [(i + 1, i) for i in range(first, last)]


def _listed(points: Sequence[float]) -> str:
    return ", ".join(f"{point:g}" for point in points)


@dataclass(kw_only=True)
class Versus(Run):
    """Two runs of one block as one, whose metrics are the effect of the first against the second.

    Attributes:
        both: the two runs.
    """

    both: tuple[Run, Run]

    @property
    def server(self) -> ServerId:
        """Both servers as one."""
        return " and ".join(f"{engine} {number}" for engine, number in _servers(self.both)), None


def _servers(runs: tuple[Run, Run]) -> list[ServerId]:
    return [run.server for run in runs]


def versus(first: Run, second: Run) -> Versus:
    """Two runs as one that stands for the effect of the first against the second."""
    one, other = first.header, second.header
    header = replace(
        one,
        arm=f"{one.arm} against {other.arm}",
        fingerprint=f"{one.fingerprint} {other.fingerprint}",
        machine=one.machine if one.machine == other.machine else "",
    )
    took = [run.closing["wall_s"] for run in (first, second) if run.closing]
    return Versus(
        header=header,
        samples=[*first.samples, *second.samples],
        closing={"wall_s": sum(took)},
        both=(first, second),
    )


def on_effect(claim: Claim) -> Claim:
    """The claim on the effect on its metric: ``unchanged(TBT, within=pct(10))`` then says that two
    effects on TBT are within 10 % of each other."""
    return replace(claim, metric=effect_on(claim.metric, claim.margin.scale))


@cache
def effect_on(metric: Metric, scale: Literal["percent", "points"]) -> Metric:
    """The metric of a :class:`Versus` that is the effect on a metric of its two runs.

    Its unit is ``ratio`` for effects in per cent, ``share`` for those in points.

    Raises:
        ValueError: the metric compares two runs itself.
    """
    if metric.per == "pair":
        raise ValueError(f"{metric} compares two runs itself: there is no effect on it")

    def of(run: Run) -> dict[str, float] | float:
        assert isinstance(run, Versus)
        first, second = run.both
        if metric.per == "run":
            return _effect(metric, scale, metric.of_run(first), metric.of_run(second))
        a, b = metric.of_questions(first), metric.of_questions(second)
        return {q: _effect(metric, scale, a[q], b[q]) for q in a if q in b}

    return replace(
        metric,
        name=f"effect on {metric.name}",
        unit="ratio" if scale == "percent" else metric.unit,
        of=of,
        whole=metric.whole or metric.name,
        span=2 * metric.span,
    )


def on_agreement(claim: Claim) -> Claim:
    """The claim on how far two runs agree: ``not_lower(EARLY_AGREEMENT, by_more_than=pp(10))`` then
    says that two runs agree as far as two others do, or lose no more than 10 points."""
    return replace(claim, metric=agreement_in(claim.metric))


@cache
def agreement_in(metric: Metric) -> Metric:
    """The metric of a :class:`Versus` that is a metric of pairs of its two runs, per question.

    Raises:
        ValueError: the metric does not compare two runs.
    """
    if metric.per != "pair":
        raise ValueError(f"{metric} is no agreement of two runs, such as EARLY_AGREEMENT")

    def of(run: Run) -> dict[str, float]:
        assert isinstance(run, Versus)
        return metric.of_question_pairs(*run.both)[0]

    return replace(metric, per="question", of=of)


def _effect(metric: Metric, scale: str, first: float, second: float) -> float:
    if scale == "points":
        return first - second
    if first <= 0 or second <= 0:
        text = f"{metric} was {first:g} against {second:g}: a ratio needs both above 0"
        raise MetricUnavailable(text)
    return first / second


def checked_both(blocks: Blocks, claims: Sequence[Claim]) -> Checked:
    """What can be judged of these blocks; of effects each of the two pairs of runs is checked, and
    a block is void when either is."""
    sides = []
    for side in zip(*blocks, strict=True):
        effects = [run for run in side if isinstance(run, Versus)]
        if len(effects) == len(side):
            sides.append([run.both for run in effects])
    if not sides:
        return check(blocks, claims)
    found = [check(pairs, claims) for pairs in sides]
    void = {i: why for each in reversed(found) for i, why in each.void.items()}
    reasons = [replace(reason, side=None) for each in found for reason in each.reasons]
    return Checked(dict(sorted(void.items())), tuple(dict.fromkeys(reasons)))
