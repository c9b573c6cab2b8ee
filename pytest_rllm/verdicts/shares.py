"""Intervals and tests of paired differences of shares, as of answers to the same questions."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from .intervals import CONFIDENCE, ROUNDING, Interval, finite, quantile, unknown
from .means import degrees, groups_of, none_seen, pseudo_effects

RESAMPLES = 9999
_NEAR = 1e-9


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

    x = finite(differences)
    if np.abs(x).max(initial=0) > 1:
        raise ValueError(f"a difference of shares lies in -1..1, got {x[np.abs(x) > 1].tolist()}")
    groups = groups_of(x, clusters)
    if isinstance(groups, str):
        return unknown(x, groups, confidence)
    if not x.any():
        return none_seen(x, groups, 1.0, confidence)
    df, centre = degrees(groups), float(x.mean())
    better, worse = float(x.clip(0).sum()), float((-x).clip(0).sum())
    pads, _, squares = pseudo_effects(x, groups, 1.0, confidence)
    n = x.size + pads
    alone = (better + worse + pads - (better - worse) ** 2 / n) * n / (n - 1)
    scale = quantile(df, confidence) * math.sqrt(squares / alone / x.size)

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

    x = finite(differences)
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
