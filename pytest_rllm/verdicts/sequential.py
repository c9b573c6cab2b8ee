"""Group-sequential confidence levels: alpha is spent over the looks, however many are taken.

Imports nothing of ours but the confidence of a single look.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from .intervals import CONFIDENCE

GRID = 1001
"""Points of the numerical integration over the outcomes that earlier looks left undecided."""
SPENDING = 1.5
"""Power of the information share in the alpha that is spent by a look (Kim and DeMets, Biometrika
1987): 1 spends evenly, 3 keeps nearly all for the end."""


@cache
def confidences(looks: tuple[int, ...], alpha: float = 1 - CONFIDENCE) -> tuple[float, ...]:
    """Two-sided confidence of the interval at each look, for an error of alpha over all looks.

    The intervals of all looks hold the true effect together with probability 1 - alpha (repeated
    confidence intervals, Jennison and Turnbull, JRSS B 1989), so a verdict may be taken from
    whichever look decides first. Alpha is spent as ``alpha * share ** SPENDING`` (Lan and DeMets,
    Biometrika 1983); the bounds come from the recursion of Armitage, McPherson and Rowe (1969).

    Args:
        looks: replicates at each look, growing; the last is the stated maximum.
        alpha: two-sided error of all looks together.
    """
    if not looks or list(looks) != sorted(set(looks)) or looks[0] < 1:
        raise ValueError(f"looks are growing numbers of replicates, not {looks}")
    if len(looks) == 1:
        return (1 - alpha,)
    from scipy import optimize, stats

    shares = np.array(looks) / looks[-1]
    to_spend = np.diff(alpha * shares**SPENDING, prepend=0.0)
    steps = np.sqrt(np.diff(shares, prepend=0.0))
    found: list[float] = []
    points, mass = np.zeros(1), np.ones(1)  # distribution of the undecided outcomes
    for end, step, spend in zip(np.sqrt(shares), steps, to_spend, strict=True):
        bound = optimize.brentq(
            lambda z, *known: _crossing(z, *known) - spend,  # noqa: B023 - called at once
            0.0,
            20.0,
            args=(end, step, points, mass),
            xtol=1e-10,
        )
        found.append(float(1 - 2 * stats.norm.sf(bound)))
        fresh = np.linspace(-bound * end, bound * end, GRID)
        width = np.full(GRID, fresh[1] - fresh[0])
        width[[0, -1]] /= 2
        mass = stats.norm.pdf((fresh[:, None] - points) / step) @ mass * width / step
        points = fresh
    return tuple(found)


def _crossing(z: float, end: float, step: float, points: np.ndarray, mass: np.ndarray) -> float:
    """Probability that the next look lies outside of plus and minus z, and no earlier one did."""
    from scipy import stats

    above = stats.norm.sf((z * end - points) / step)
    below = stats.norm.cdf((-z * end - points) / step)
    return float(mass @ (above + below))
