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


def mean_interval(effects: Sequence[float]) -> Interval:
    """Student's t interval of the mean of independent effects (run blocks).

    Fewer than two effects, or effects without any spread, have no error bar: the bounds are
    infinite, never zero. A value that is not finite is a ValueError.
    """
    x = _finite(effects)
    if x.size < 2:
        return _unknown(x, f"{x.size} block(s): an error bar needs at least two")
    spread = float(x.std(ddof=1))
    if np.ptp(x) <= ROUNDING * np.abs(x).max():
        return _unknown(x, f"all {x.size} blocks gave exactly the same effect: no error bar")
    df = x.size - 1
    half = _quantile(df) * spread / math.sqrt(x.size)
    mean = float(x.mean())
    return Interval(mean, mean - half, mean + half, x.size, df)


def share_interval(differences: Sequence[float], clusters: Sequence[Hashable]) -> Interval:
    """Interval of the mean of paired differences in -1..1 (answers to the same questions).

    One pair of pseudo-differences, +1 and -1, is added (Bonett and Price, Psychological Methods
    2012: for single answers this is their adjusted Wald interval of paired proportions), so equal
    answers everywhere do not make an error bar of zero. The variance is robust to questions of one
    cluster being alike (sandwich estimator, t with clusters - 1 degrees of freedom, where the
    pseudo-differences count as no cluster). One cluster alone has no error bar.

    Args:
        differences: per question, mean over its repeats.
        clusters: per question, what it shares with others.
    """
    x = _finite(differences)
    if x.size != len(clusters):
        raise ValueError(f"{x.size} differences and {len(clusters)} clusters")
    if x.size < 2:
        return _unknown(x, f"{x.size} question(s): an error bar needs at least two")
    names = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    if len(names) < 2:
        return _unknown(x, f"all {x.size} questions share a template: no error bar")
    padded = np.concatenate([x, [1.0, -1.0]])
    groups = np.array([names[c] for c in clusters] + [len(names), len(names) + 1])
    centre = float(padded.mean())
    sums = np.bincount(groups, weights=padded - centre)
    g = sums.size
    error = math.sqrt(float((sums**2).sum()) * g / (g - 1)) / padded.size
    df = len(names) - 1
    half = _quantile(df) * error
    return Interval(float(x.mean()), centre - half, centre + half, x.size, df)


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
