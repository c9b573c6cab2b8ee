"""What the typical block does not show: a few blocks that are far slower than the others.

The Hodges-Lehmann estimate of a typical effect hardly moves when one block in ten takes twice as
long, and its bounds hardly move either. That is what refutes well on a noisy machine, and it is not
enough to call an upgrade safe: users pay the mean. So a claim about runs that holds of the typical
block must pass two more tests.

- It must hold of the mean over the blocks, too, by Student's t at the same confidence. Blocks that
  are far slower widen that interval and move it.
- Where it is claimed that nothing is worse, far slower blocks must have had the chance to be seen.
  Of n blocks without one, a share of ``1 - 0.01 ** (1 / n)`` may be so, with 99 % confidence. It
  is tolerated as long as blocks twice as slow would cost no more than the margin, or 15 % of the
  blocks where the margin is smaller than that: 29 blocks are needed, and 12 for a margin of 25 %.
  Runs of other tools are exempt: a run is as long there as many of our blocks, and few of them are
  made.

Of 10 % of blocks twice as slow (a mean of +10 %), and of 20 % five times as slow, that passes as
few as a bound on the share of far blocks does, which needs 36 blocks of an engine without any
(``benchmarks/statistics/tails.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .claims import Claim
from .effects import Effects
from .intervals import Interval
from .means import unseen

TOLERATED = 0.15
"""Share of blocks that may be far slower unseen, where the margin does not say more."""
TWICE = math.log(2)
"""A block that is far slower takes twice as long (log ratio)."""
ERROR = 0.01
"""How often so many far slower blocks are not seen."""
MOST_BLOCKS = 1000
FAR = 0.25
"""A block lies far from the typical one if its ratio does by this share, or its difference by this
much of 1, and by more than three standard deviations of the others."""
TO_SIGMA = 1.4826
"""The standard deviation of normal values is their median absolute deviation times this."""
NO_HARM = ("not_lower", "not_higher", "unchanged")
"""Verbs that claim that nothing is worse."""


@dataclass(frozen=True)
class Lacking:
    """What a claim that holds of the typical block lacks to hold.

    Attributes:
        why: for people.
        further: about how many more blocks would do; None where no number can be told.
    """

    why: str
    further: int | None


def lacking(
    claim: Claim, effects: Effects, confidence: float, *, imported: bool = False
) -> Lacking | None:
    """What a claim about runs lacks, which holds of the typical block; None where it holds.

    Args:
        claim: which holds by ``effects.interval(confidence)``.
        effects: one per block, of kind ``location``.
        confidence: two-sided.
        imported: whether the blocks are runs of another tool.
    """
    if effects.kind != "location":
        return None
    mean = _mean(effects, confidence)
    if mean is not None and claim.of(mean) != "holds":
        further = mean.further(claim.nearest(mean.estimate))
        why = _uneven(claim, effects, mean, confidence)
        return Lacking(why, further if _holds_at(claim, mean.estimate) else None)
    n, needed = len(effects.values), blocks_needed(claim)
    if n < needed and not imported:
        why = (
            f"{n} blocks cannot show that no more than {_tolerated(claim):.0%} of them are far "
            f"worse, {needed} can"
        )
        return Lacking(why, needed - n)
    return None


def blocks_needed(claim: Claim) -> int:
    """Blocks from which on a claim that nothing is worse can hold; 1 for other claims."""
    if claim.verb not in NO_HARM or claim.metric.per != "run":
        return 1
    share = _tolerated(claim)
    return next(n for n in range(1, MOST_BLOCKS) if unseen(ERROR, n) < share)


def _tolerated(claim: Claim) -> float:
    """Share of blocks that may be far slower and cost no more than the margin."""
    margin = claim.margin.up() / TWICE if claim.margin.scale == "percent" else 0.0
    return min(1.0, max(TOLERATED, margin))


def _mean(effects: Effects, confidence: float) -> Interval | None:
    """Of the mean effect; None where the blocks have no scatter, which says nothing against it."""
    found = replace(effects, kind="mean", clusters=None).interval(confidence)
    return None if found.why else found


def _uneven(claim: Claim, effects: Effects, mean: Interval, confidence: float) -> str:
    """How many blocks lie far off on the side to which they move the mean, and what that costs."""
    import numpy as np
    from scipy import stats

    typical = effects.interval(confidence).estimate
    above = mean.estimate > typical
    off = (1 if above else -1) * (np.asarray(effects.values) - typical)
    deviation = TO_SIGMA * float(np.median(np.abs(off - np.median(off))))
    least = math.log1p(FAR) if claim.margin.scale == "percent" else FAR
    n, far = off.size, int((off > max(least, 3 * deviation)).sum())
    blocks = f"its {n} blocks are uneven"
    if far:
        # The upper bound of Clopper and Pearson, Biometrika 1934.
        most = float(stats.beta.ppf((1 + confidence) / 2, far + 1, n - far))
        where, lie = "above" if above else "below", "lies" if far == 1 else "lie"
        blocks = f"{far} of {n} blocks {lie} far {where} it, and {most:.0%} of all may"
    told = (
        f"it holds for the typical block, but {blocks}: the mean is {_told(claim, mean.estimate)}"
    )
    if _holds_at(claim, mean.estimate):
        low, high = (_told(claim, bound) for bound in (mean.low, mean.high))
        return f"{told}, {low} to {high}; more blocks would tell whether it holds for that, too"
    return f"{told}; find out what was different in these blocks"


def _holds_at(claim: Claim, effect: float) -> bool:
    return claim.verdict(effect, effect) == "holds"


def _told(claim: Claim, effect: float) -> str:
    if claim.margin.scale == "percent":
        return f"{100 * math.expm1(effect):+.1f} %"
    return f"{100 * effect:+.1f} pp"
