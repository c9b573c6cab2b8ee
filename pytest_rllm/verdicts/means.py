"""Intervals of the mean of effects, of which some may share a cluster."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from .intervals import CONFIDENCE, ROUNDING, Interval, finite, quantile, unknown


def mean(
    effects: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Student's t interval of the mean of effects.

    Fewer than two effects, or effects without any spread, have no error bar: the bounds are
    infinite, never zero. A value that is not finite is a ValueError.

    Args:
        effects: one per replicate.
        clusters: per effect, what it shares with others; without them effects are independent.
            The variance is then robust to effects of one cluster being alike, with the correction
            and the degrees of freedom that few clusters, or clusters of unequal size, need (CR2:
            Bell and McCaffrey, Survey Methodology 2002).
        confidence: two-sided.
    """
    x = finite(effects)
    groups = groups_of(x, clusters)
    if isinstance(groups, str):
        return unknown(x, groups, confidence)
    if np.ptp(x) <= ROUNDING * np.abs(x).max():
        return unknown(x, f"all {x.size} effects are exactly the same: no error bar", confidence)
    df = degrees(groups)
    centre = float(x.mean())
    half = quantile(df, confidence) * _standard_error(x, groups)
    return Interval(centre, centre - half, centre + half, x.size, df, None, confidence)


def padded(
    x: np.ndarray, clusters: Sequence[Hashable] | None, size: float, confidence: float
) -> Interval:
    """The t interval with pseudo-effects added, z**2 / 2 of each of plus and minus ``size``."""
    groups = groups_of(x, clusters)
    if isinstance(groups, str):
        return unknown(x, groups, confidence)
    if not x.any():
        return none_seen(x, groups, size, confidence)
    df = degrees(groups)
    pads, centre, squares = pseudo_effects(x, groups, size, confidence)
    half = quantile(df, confidence) * math.sqrt(squares) / (x.size + pads)
    return Interval(float(x.mean()), centre - half, centre + half, x.size, df, None, confidence)


def none_seen(x: np.ndarray, groups: np.ndarray, size: float, confidence: float) -> Interval:
    """The interval of effects that are all zero: the share of changes of ``size`` that may still
    have stayed unseen, in either direction. A cluster may change as one."""
    clusters = int(groups.max()) + 1
    high = size * unseen((1 - confidence) / 2, clusters)
    return Interval(0.0, -high, high, x.size, clusters - 1, None, confidence)


def unseen(error: float, n: int) -> float:
    """The largest share of cases of which none is among n, but for an error of that size."""
    return float(1 - error ** (1 / n))


def pseudo_effects(
    x: np.ndarray, groups: np.ndarray, size: float, confidence: float
) -> tuple[float, float, float]:
    """With z**2 / 2 pseudo-effects of each of plus and minus ``size``, which count as no cluster:
    their number, the mean of all, and the sum of squares about it, summed by cluster."""
    from scipy import stats

    pads = float(stats.norm.ppf(0.5 + confidence / 2)) ** 2
    centre = float(x.sum()) / (x.size + pads)
    sums, n = np.bincount(groups, weights=x - centre), x.size + pads
    squares = float((sums**2 / (1 - np.bincount(groups) / n)).sum())
    added = pads / 2 * ((size - centre) ** 2 + (size + centre) ** 2) / (1 - 1 / n)
    return pads, centre, squares + added


def groups_of(x: np.ndarray, clusters: Sequence[Hashable] | None) -> np.ndarray | str:
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
    """Of the mean, from sums of residuals per cluster (CR2); the usual one when every cluster is
    one."""
    sums = np.bincount(groups, weights=x - x.mean())
    return math.sqrt(float((sums**2 / (1 - np.bincount(groups) / x.size)).sum())) / x.size


def degrees(groups: np.ndarray) -> float:
    """Degrees of freedom of a mean's standard error (Satterthwaite), if effects were independent;
    clusters - 1 of clusters of one size."""
    sizes = np.bincount(groups).astype(float)
    n = sizes.sum()
    kept = 1 - sizes / n
    # Covariance of the corrected sums; its diagonal is the sizes.
    squares = (sizes**2).sum() + ((sizes**2 / kept).sum() ** 2 - (sizes**4 / kept**2).sum()) / n**2
    return float(n**2 / squares)
