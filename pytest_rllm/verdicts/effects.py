"""Paired effects of one metric, and the interval of them by how they are averaged."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from .intervals import CONFIDENCE, Interval, finite
from .location import location
from .means import mean, padded
from .server_spread import NO_SPREAD, ServerSpread
from .shares import share

Kind = Literal["location", "mean", "share"]
"""How effects are averaged; a function of that name explains each."""


@dataclass(frozen=True)
class Effects:
    """Paired effects of one metric, from which an interval of any confidence can be had.

    Attributes:
        values: one per replicate, finite.
        kind: how they are averaged.
        clusters: per effect, what it shares with others; None when all are independent.
        spread: of the typical effect, which the values cannot show: what all of them share (the
            servers' own speed).
        identical: the size of a change that any effect could have shown. For effects that are all
            zero (``location``: most of them, of which a median would show nothing else); None when
            equal values are no evidence (times). Of a ``share``, which can be no larger.
    """

    values: Sequence[float]
    kind: Kind
    clusters: Sequence[Hashable] | None = None
    identical: float | None = None
    spread: ServerSpread = NO_SPREAD

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """The interval of the typical effect."""
        return self._of_values(confidence).widened(self.spread)

    def _of_values(self, confidence: float) -> Interval:
        n, equal = len(self.values), sum(value == 0 for value in self.values)
        still = 2 * equal > n if self.kind == "location" else equal == n
        if self.identical is not None and self.kind != "share" and n > 1 and still:
            return padded(finite(self.values), self.clusters, self.identical, confidence)
        match self.kind:
            case "location":
                return location(self.values, confidence)
            case "mean":
                return mean(self.values, self.clusters, confidence)
            case "share":
                names = range(len(self.values)) if self.clusters is None else self.clusters
                size = self.identical or 1.0
                return share([v / size for v in self.values], names, confidence).times(size)
