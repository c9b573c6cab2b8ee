"""A typical effect with its confidence interval, and how many more effects would decide.

Imports nothing of ours but the spread between servers. Everything here and in the modules of each
kind of interval is a function of its arguments: the same effects give the same bounds, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .server_spread import ServerSpread

CONFIDENCE = 0.95
"""Two-sided: with the true effect on a margin, "holds" comes out at most 2.5 % of the time."""

POWER = 0.8
ROUNDING = 1e-12
"""Effects that differ by a smaller share of their size differ by rounding only: no spread."""


@dataclass(frozen=True)
class Interval:
    """A typical effect and its confidence interval.

    Attributes:
        estimate, low, high: in the unit of the effects; infinite bounds when nothing is known.
        n: effects behind it.
        df: degrees of freedom behind the bounds.
        why: why the bounds are infinite, None when they are not.
        confidence: two-sided, of the bounds.
        fixed: the part of the half width that more effects do not shrink, see :meth:`widened`.
    """

    estimate: float
    low: float
    high: float
    n: int
    df: float
    why: str | None = None
    confidence: float = CONFIDENCE
    fixed: float = 0.0

    @property
    def detectable(self) -> float:
        """Distance from a margin that a true effect needs to be seen with 80 % power."""
        if not self.df or math.isinf(self.high):
            return math.inf
        return (self.high - self.low) / 2 * self._power

    @property
    def _power(self) -> float:
        """Of half the interval, what a true effect needs to be seen four times out of five."""
        from scipy import stats

        return float(1 + stats.t.ppf(POWER, self.df) / quantile(self.df, self.confidence))

    def times(self, factor: float) -> Interval:
        """Of effects that are so many times as large."""
        return replace(
            self, estimate=factor * self.estimate, low=factor * self.low, high=factor * self.high
        )

    def widened(self, spread: ServerSpread) -> Interval:
        """With another, independent source of scatter added, which all effects share: more of them
        do not average it away. Half widths add as the sides of a right angle (MOVER: Zou and
        Donner, Statistics in Medicine 2008)."""
        if spread.sd == 0 or math.isinf(self.high):
            return self
        more = spread.half_width(self.confidence)
        return replace(
            self,
            low=self.estimate - math.hypot(self.estimate - self.low, more),
            high=self.estimate + math.hypot(self.high - self.estimate, more),
            fixed=math.hypot(self.fixed, more),
        )

    def unresolvable(self, margin: float) -> bool:
        """True if more replicates cannot separate the estimate from ``margin``, because the error
        that all of them share alone covers it too often."""
        return self.fixed > 0 and 0 < abs(self.estimate - margin) <= self._power * self.fixed

    def further(self, margin: float) -> int | None:
        """How many more effects like these would put the interval clear of ``margin`` four times
        out of five, if the estimate is true.

        None when no number can be told: no spread is known, the estimate lies on the margin, or
        what the effects share hides it.
        """
        half = (self.high - self.low) / 2
        if math.isinf(half):
            return None
        gap = abs(self.estimate - margin) / self._power
        if gap <= self.fixed:
            return None
        # With n effects the half width is t(n) * s / sqrt(n), beside what is fixed; t shrinks too,
        # so this is an upper bound for few effects and right for many.
        shrinking = half**2 - self.fixed**2
        return max(1, math.ceil(self.n * shrinking / (gap**2 - self.fixed**2)) - self.n)


def quantile(df: float, confidence: float) -> float:
    """Of Student's t, two-sided: half widths are so many standard errors."""
    from scipy import stats

    return float(stats.t.ppf(0.5 + confidence / 2, df))


def finite(values: Sequence[float]) -> np.ndarray:
    """Effects as an array.

    Raises:
        ValueError: one is not finite.
    """
    x = np.asarray(values, dtype=float)
    if not np.isfinite(x).all():
        raise ValueError(f"effects must be finite numbers, got {x[~np.isfinite(x)].tolist()}")
    return x


def unknown(x: np.ndarray, why: str, confidence: float) -> Interval:
    """The mean without an error bar, and why there is none."""
    centre = float(x.mean()) if x.size else math.nan
    return Interval(centre, -math.inf, math.inf, int(x.size), 0, why, confidence)
