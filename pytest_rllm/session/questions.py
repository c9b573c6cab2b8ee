"""Whether a comparison has questions enough for a claim on answers to hold at all."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..experiment.arm import Arm
from ..verdicts.claims import Claim
from ..verdicts.means import unseen
from ..verdicts.tails import NO_HARM


def too_few_questions(claim: Claim, arms: Sequence[Arm], confidence: float) -> str | None:
    """Why a claim on shares of answers could not hold even if no answer changed; None if it could.

    Where no answer of n independent questions changed, a share of up to
    ``1 - ((1 - confidence) / 2) ** (1 / n)`` may change unseen (Clopper and Pearson, Biometrika
    1934). Questions of one template are not independent and count once.

    Args:
        claim: that is to be judged.
        arms: both sides, with all the questions that they are ever asked.
        confidence: two-sided, of the interval at the last look.
    """
    margin, metric = claim.margin, claim.metric
    if metric.per == "run" or claim.verb not in NO_HARM or margin.scale != "points":
        return None
    if not 0 < margin.size < 100:
        return None
    first, second = (
        {p.id: p.template for p in arm.prompts if metric.tier in ("", p.tier)} for arm in arms
    )
    n = len(set(first.values()))
    if first != second or n == 0:
        return None  # judged by blocks, or not at all
    error = (1 - confidence) / 2
    may_change = unseen(error, n)
    if may_change < margin.size / 100:
        return None
    needed = math.floor(math.log(error) / math.log1p(-margin.size / 100)) + 1
    of_tier = f" of tier {metric.tier}" if metric.tier else ""
    return (
        f"{n} independent questions{of_tier} are too few for it to hold: if no answer changes, "
        f"{100 * may_change:.1f} pp may still change unseen; {needed} questions would do"
    )
