"""Confidence intervals of paired effects, and how much more would decide.

Imports nothing of ours but the spread between servers. Everything is a function of its arguments:
the same effects give the same bounds, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np

from .server_spread import NO_SPREAD, ServerSpread

CONFIDENCE = 0.95
"""Two-sided: with the true effect on a margin, "holds" comes out at most 2.5 % of the time."""

POWER = 0.8
ROUNDING = 1e-12
"""Effects that differ by a smaller share of their size differ by rounding only: no spread."""
RESAMPLES = 9999
_NEAR = 1e-9

Kind = Literal["location", "mean", "share"]
"""How effects are averaged; a function of that name explains each."""


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

        return float(1 + stats.t.ppf(POWER, self.df) / _quantile(self.df, self.confidence))

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
            return _padded(_finite(self.values), self.clusters, self.identical, confidence)
        match self.kind:
            case "location":
                return location(self.values, confidence)
            case "mean":
                return mean(self.values, self.clusters, confidence)
            case "share":
                names = range(len(self.values)) if self.clusters is None else self.clusters
                size = self.identical or 1.0
                return share([v / size for v in self.values], names, confidence).times(size)


def location(effects: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Hodges-Lehmann estimate with the bounds of Wilcoxon's signed-rank test.

    Source: Hodges and Lehmann, Ann. Math. Statist. 1963. The bounds are exact when the effects
    scatter symmetrically, as log ratios of two arms do that differ by a constant factor; a few
    wild blocks move them little. Few effects cannot carry a high confidence: the bounds are then
    infinite and ``why`` says how many it takes. They are infinite too where most effects are
    exactly the same: the others would not show in the bounds at all.

    Args:
        effects: one per run block, independent.
        confidence: two-sided.
    """
    x = _finite(effects)
    if x.size < 2:
        return _unknown(x, f"{x.size} effect(s): an error bar needs at least two", confidence)
    rounding = ROUNDING * np.abs(x).max()
    alike = int((np.abs(x - np.median(x)) <= rounding).sum())
    if 2 * alike > x.size:
        why = f"{alike} of {x.size} effects are exactly the same: no error bar"
        return _unknown(x, why, confidence)
    i, j = np.triu_indices(x.size)
    walsh = np.sort((x[i] + x[j]) / 2)
    estimate = float(np.median(walsh))
    # Rounding lets a bound of 2 ** -n or so miss its level by one part in 10 ** 16.
    left_out = int(np.searchsorted(_signed_rank(x.size), (1 - confidence) / 2 * (1 + 1e-9)))
    if left_out == 0:
        needed = math.ceil(-math.log2((1 - confidence) / 2))
        why = f"{x.size} blocks cannot carry a confidence of {confidence:.2%}, {needed} can"
        return Interval(estimate, -math.inf, math.inf, int(x.size), x.size - 1, why, confidence)
    low, high = float(walsh[left_out - 1]), float(walsh[-left_out])
    if high - low <= rounding:  # many of very many
        return _unknown(x, f"{alike} of {x.size} effects are exactly the same", confidence)
    return Interval(estimate, low, high, int(x.size), x.size - 1, None, confidence)


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
    x = _finite(effects)
    groups = _groups(x, clusters)
    if isinstance(groups, str):
        return _unknown(x, groups, confidence)
    if np.ptp(x) <= ROUNDING * np.abs(x).max():
        return _unknown(x, f"all {x.size} effects are exactly the same: no error bar", confidence)
    df = _degrees(groups)
    centre = float(x.mean())
    half = _quantile(df, confidence) * _standard_error(x, groups)
    return Interval(centre, centre - half, centre + half, x.size, df, None, confidence)


def share(
    differences: Sequence[float],
    clusters: Sequence[Hashable],
    confidence: float = CONFIDENCE,
) -> Interval:
    """Interval of the mean of paired differences in -1..1 (answers to the same questions).

    Tango's score interval of paired proportions (Statistics in Medicine 1998), with Student's t:
    the interval holds every mean that the differences do not contradict, with the variance that
    they would have if that mean were true. Therefore a few one-sided changes do not give a narrow
    interval. Where no answer changed, the bounds are the largest share of changes that may have
    stayed unseen, by the binomial distribution (Clopper and Pearson, Biometrika 1934); of answers
    that are alike in a cluster, its clusters count. For averages of several answers, and for
    clusters, the variance is scaled by the observed one, to which z**2 / 2 pseudo-differences of
    each of +1 and -1 are added against variances of zero.
    """
    from scipy import optimize

    x = _finite(differences)
    if np.abs(x).max(initial=0) > 1:
        raise ValueError(f"a difference of shares lies in -1..1, got {x[np.abs(x) > 1].tolist()}")
    groups = _groups(x, clusters)
    if isinstance(groups, str):
        return _unknown(x, groups, confidence)
    if not x.any():
        return _unseen(x, groups, 1.0, confidence)
    df, centre = _degrees(groups), float(x.mean())
    better, worse = float(x.clip(0).sum()), float((-x).clip(0).sum())
    pads, _, squares = _pseudo(x, groups, 1.0, confidence)
    n = x.size + pads
    alone = (better + worse + pads - (better - worse) ** 2 / n) * n / (n - 1)
    scale = _quantile(df, confidence) * math.sqrt(squares / alone / x.size)

    def beyond(mean: float, side: int) -> float:
        return side * (mean - centre) - scale * math.sqrt(_variance(mean, better, worse, x.size))

    def bound(side: int) -> float:
        near = centre + side * _NEAR  # at the centre itself the variance may be zero
        if abs(near) >= 1 or beyond(side, side) < 0:
            return float(side)
        return float(optimize.brentq(beyond, near, side, args=(side,), xtol=1e-12))

    return Interval(centre, bound(-1), bound(1), x.size, df, None, confidence)


def _variance(mean: float, better: float, worse: float, n: int) -> float:
    """Most likely variance of a difference of answers, if the true mean were ``mean``."""
    if mean < 0:
        mean, better, worse = -mean, worse, better
    slope = better + worse + (better - worse - 2 * n) * mean
    against = (slope + math.sqrt(slope**2 + 8 * n * worse * mean * (1 - mean))) / (4 * n)
    return max(0.0, 2 * against + mean - mean**2)


def no_difference(differences: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """Two-sided p value of "the arms do not differ at all", for paired differences.

    Single answers to independent questions: McNemar's exact test (binomial). Otherwise the
    sign-flip permutation test of the clusters' sums, exact while all flips can be listed, else on
    RESAMPLES seeded flips.

    Args:
        differences: one per question, repeats averaged.
        clusters: per question, what it shares with others.
    """
    from scipy import stats

    x = _finite(differences)
    if len(clusters) != x.size:
        raise ValueError(f"{x.size} differences and {len(clusters)} clusters")
    if not x.any():
        return 1.0
    if len(set(clusters)) == x.size and np.isin(x, (-1.0, 0.0, 1.0)).all():
        better, worse = int((x > 0).sum()), int((x < 0).sum())
        return float(stats.binomtest(better, better + worse).pvalue)
    sums: dict[Hashable, float] = {}
    for cluster, value in zip(clusters, x, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + float(value)
    moved = np.array([value for value in sums.values() if abs(value) > ROUNDING])
    if moved.size < 2:
        return 1.0
    # Sorted: which flips are drawn must not depend on the order of the questions.
    test = stats.permutation_test(
        (np.sort(moved),),
        lambda flipped, axis: flipped.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(test.pvalue)


@cache
def _signed_rank(n: int) -> np.ndarray:
    """Distribution function of Wilcoxon's signed-rank statistic of n effects, exact."""
    counts = np.ones(1)
    for rank in range(1, n + 1):
        longer = np.zeros(counts.size + rank)
        longer[: counts.size] += counts / 2
        longer[rank:] += counts / 2
        counts = longer
    return np.cumsum(counts)


def _padded(
    x: np.ndarray, clusters: Sequence[Hashable] | None, size: float, confidence: float
) -> Interval:
    """The t interval with pseudo-effects added, z**2 / 2 of each of plus and minus ``size``."""
    groups = _groups(x, clusters)
    if isinstance(groups, str):
        return _unknown(x, groups, confidence)
    if not x.any():
        return _unseen(x, groups, size, confidence)
    df = _degrees(groups)
    pads, centre, squares = _pseudo(x, groups, size, confidence)
    half = _quantile(df, confidence) * math.sqrt(squares) / (x.size + pads)
    return Interval(float(x.mean()), centre - half, centre + half, x.size, df, None, confidence)


def _unseen(x: np.ndarray, groups: np.ndarray, size: float, confidence: float) -> Interval:
    """The interval of effects that are all zero: the share of changes of ``size`` that may still
    have stayed unseen, in either direction. A cluster may change as one."""
    clusters = int(groups.max()) + 1
    high = size * unseen((1 - confidence) / 2, clusters)
    return Interval(0.0, -high, high, x.size, clusters - 1, None, confidence)


def unseen(error: float, n: int) -> float:
    """The largest share of cases of which none is among n, but for an error of that size."""
    return float(1 - error ** (1 / n))


def _pseudo(
    x: np.ndarray, groups: np.ndarray, size: float, confidence: float
) -> tuple[float, float, float]:
    """With z**2 / 2 pseudo-effects of each of plus and minus ``size``, which count as no cluster:
    their number, the mean of all, and the sum of squares about it, summed by cluster."""
    from scipy import stats

    pads = float(stats.norm.ppf(0.5 + confidence / 2)) ** 2
    centre = float(x.sum()) / (x.size + pads)
    sums, n = np.bincount(groups, weights=x - centre), x.size + pads
    squares = float((sums**2 / (1 - np.bincount(groups) / n)).sum())
    padded = pads / 2 * ((size - centre) ** 2 + (size + centre) ** 2) / (1 - 1 / n)
    return pads, centre, squares + padded


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
    """Of the mean, from sums of residuals per cluster (CR2); the usual one when every cluster is
    one."""
    sums = np.bincount(groups, weights=x - x.mean())
    return math.sqrt(float((sums**2 / (1 - np.bincount(groups) / x.size)).sum())) / x.size


def _degrees(groups: np.ndarray) -> float:
    """Degrees of freedom of that standard error (Satterthwaite), if effects were independent;
    clusters - 1 of clusters of one size."""
    sizes = np.bincount(groups).astype(float)
    n = sizes.sum()
    kept = 1 - sizes / n
    # Covariance of the corrected sums; its diagonal is the sizes.
    squares = (sizes**2).sum() + ((sizes**2 / kept).sum() ** 2 - (sizes**4 / kept**2).sum()) / n**2
    return float(n**2 / squares)


def _quantile(df: float, confidence: float) -> float:
    from scipy import stats

    return float(stats.t.ppf(0.5 + confidence / 2, df))


def _finite(values: Sequence[float]) -> np.ndarray:
    x = np.asarray(values, dtype=float)
    if not np.isfinite(x).all():
        raise ValueError(f"effects must be finite numbers, got {x[~np.isfinite(x)].tolist()}")
    return x


def _unknown(x: np.ndarray, why: str, confidence: float) -> Interval:
    centre = float(x.mean()) if x.size else math.nan
    return Interval(centre, -math.inf, math.inf, int(x.size), 0, why, confidence)
