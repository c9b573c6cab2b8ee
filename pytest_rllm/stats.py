"""Confidence intervals of mean effects, and how much more would decide. Imports nothing of ours."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
"""Two-sided: with the true effect on a margin, "holds" comes out at most 2.5 % of the time."""

POWER = 0.8
ROUNDING = 1e-12
"""Effects that differ by a smaller share of their size differ by rounding only: no spread."""


@dataclass(frozen=True)
class Interval:
    """A mean effect and its confidence interval.

    Attributes:
        estimate, low, high: in the unit of the effects; infinite bounds when nothing is known.
        n: effects that were averaged.
        df: degrees of freedom behind the bounds.
        why: why the bounds are infinite, None when they are not.
    """

    estimate: float
    low: float
    high: float
    n: int
    df: int
    why: str | None = None

    @property
    def detectable(self) -> float:
        """Distance from a margin that a true effect needs to be seen with 80 % power."""
        if not self.df or math.isinf(self.high):
            return math.inf
        from scipy import stats

        half = (self.high - self.low) / 2
        return half * (1 + stats.t.ppf(POWER, self.df) / _quantile(self.df))

    def further(self, margin: float) -> int | None:
        """How many more effects like these would put the interval clear of ``margin``.

        None when no number can be told: no spread is known, or the estimate lies on the margin.
        """
        gap = abs(self.estimate - margin)
        half = (self.high - self.low) / 2
        if math.isinf(half) or gap == 0:
            return None
        # With n effects the half width is t(n) * s / sqrt(n); t shrinks too, so this is an upper
        # bound for few effects and right for many.
        return max(1, math.ceil(self.n * (half / gap) ** 2) - self.n)


def mean_interval(effects: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Interval:
    """Student's t interval of the mean of effects.

    Fewer than two effects, or effects without any spread, have no error bar: the bounds are
    infinite, never zero. A value that is not finite is a ValueError.

    Args:
        effects: one per replicate.
        clusters: per effect, what it shares with others; without them effects are independent.
            The variance is then robust to effects of one cluster being alike (sandwich estimator,
            t with clusters - 1 degrees of freedom).
    """
    x = _finite(effects)
    groups = _groups(x, clusters)
    if isinstance(groups, str):
        return _unknown(x, groups)
    if np.ptp(x) <= ROUNDING * np.abs(x).max():
        return _unknown(x, f"all {x.size} effects are exactly the same: no error bar")
    df = int(groups.max())
    mean = float(x.mean())
    half = _quantile(df) * _standard_error(x, groups)
    return Interval(mean, mean - half, mean + half, x.size, df)


def share_interval(differences: Sequence[float], clusters: Sequence[Hashable]) -> Interval:
    """Interval of the mean of paired differences in -1..1 (answers to the same questions).

    As :func:`mean_interval`, with one pair of pseudo-differences, +1 and -1, added (Bonett and
    Price, Psychological Methods 2012: for single answers this is their adjusted Wald interval of
    paired proportions), so equal answers everywhere do not make an error bar of zero. The
    pseudo-differences count as no cluster.
    """
    x = _finite(differences)
    groups = _groups(x, clusters)
    if isinstance(groups, str):
        return _unknown(x, groups)
    df = int(groups.max())
    padded = np.concatenate([x, [1.0, -1.0]])
    centre = float(padded.mean())
    half = _quantile(df) * _standard_error(padded, np.append(groups, [df + 1, df + 2]))
    return Interval(float(x.mean()), centre - half, centre + half, x.size, df)


def _groups(x: np.ndarray, clusters: Sequence[Hashable] | None) -> np.ndarray | str:
    """The number of each effect's cluster, from 0; or why there is no error bar."""
    names = range(x.size) if clusters is None else clusters
    if len(names) != x.size:
        raise ValueError(f"{x.size} effects and {len(names)} clusters")
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    if x.size < 2:
        return f"{x.size} effect(s): an error bar needs at least two"
    if len(numbers) < 2:
        return f"all {x.size} effects are of one cluster: no error bar"
    return np.array([numbers[name] for name in names])


def _standard_error(x: np.ndarray, groups: np.ndarray) -> float:
    """Of the mean, from sums of residuals per cluster; the usual one when every cluster is one."""
    sums = np.bincount(groups, weights=x - x.mean())
    return math.sqrt(float((sums**2).sum()) * sums.size / (sums.size - 1)) / x.size


def _quantile(df: int) -> float:
    from scipy import stats

    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, df))


def _finite(values: Sequence[float]) -> np.ndarray:
    x = np.asarray(values, dtype=float)
    if not np.isfinite(x).all():
        raise ValueError(f"effects must be finite numbers, got {x[~np.isfinite(x)].tolist()}")
    return x


def _unknown(x: np.ndarray, why: str) -> Interval:
    mean = float(x.mean()) if x.size else math.nan
    return Interval(mean, -math.inf, math.inf, int(x.size), 0, why)
