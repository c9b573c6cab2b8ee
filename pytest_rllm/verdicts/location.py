"""Intervals of the location of effects: what most of them are like, whatever a few are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from .intervals import CONFIDENCE, ROUNDING, Interval, finite, unknown


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
    x = finite(effects)
    if x.size < 2:
        return unknown(x, f"{x.size} effect(s): an error bar needs at least two", confidence)
    rounding = ROUNDING * np.abs(x).max()
    alike = int((np.abs(x - np.median(x)) <= rounding).sum())
    if 2 * alike > x.size:
        why = f"{alike} of {x.size} effects are exactly the same: no error bar"
        return unknown(x, why, confidence)
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
        return unknown(x, f"{alike} of {x.size} effects are exactly the same", confidence)
    return Interval(estimate, low, high, int(x.size), x.size - 1, None, confidence)


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
