"""A fault of the evidence, and the reason that it becomes for the claims which rest on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..metrics.base import Evidence
from .claims import Claim

Side = Literal["A", "B"]
EVERYTHING: frozenset[Evidence] = frozenset(
    ("requests", "answers", "beginnings", "times", "served")
)
WHAT_IS_ASKED: frozenset[Evidence] = EVERYTHING - {"served"}
WHAT_FINISHED: frozenset[Evidence] = WHAT_IS_ASKED - {"requests"}
WHAT_ENDS: frozenset[Evidence] = WHAT_FINISHED - {"beginnings"}
TIMES: frozenset[Evidence] = frozenset(("times",))


@dataclass(frozen=True)
class Reason:
    """Why a part of the evidence cannot be used.

    Attributes:
        text: for a person.
        claims: slugs of the claims that it makes invalid; none when all were decided before.
        side: the arm whose runs lack the evidence; None when both do, or none alone.
        by_engine: whether the engine caused it: requests that fail, reasoning that vanished, a
            metric that is gone. None: more requests would tell.
    """

    text: str
    claims: tuple[str, ...]
    side: Side | None = None
    by_engine: bool | None = False

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Fault:
    """What is wrong with the runs of a comparison, and the evidence that it spoils.

    Attributes:
        text: for a person.
        spoils: the kinds of evidence that cannot be used.
        series: telemetry that cannot be used; ``"*"`` is all of it.
        metrics: names of the only metrics concerned; empty when all that rest on the evidence are.
        kind: equal for one fault in both arms.
        side, by_engine: as of a :class:`Reason`.
    """

    text: str
    spoils: frozenset[Evidence]
    series: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    kind: str = ""
    side: Side | None = None
    by_engine: bool | None = False

    def costs(self, claim: Claim) -> bool:
        """Whether a claim rests on what is spoilt."""
        metric = claim.metric
        if self.metrics:
            return metric.name in self.metrics or metric.whole in self.metrics
        if self.series and metric.series:
            return "*" in self.series or bool(set(self.series) & set(metric.series))
        return metric.evidence in self.spoils
