"""Stored effects beside fresh ones: what became worse, whatever the claim's verdict is.

A claim may hold, be undecided, or be known not to hold, and its effect may be worse than it was all
the same. The effect is a comparison of two arms that were measured side by side, so effects of two
sessions can be compared where their levels cannot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..verdicts.claims import Claim
from ..verdicts.intervals import CONFIDENCE
from ..verdicts.judge import Judged
from .case import Case, stored_effect
from .levels import same_pace

WORSE = "worse"
"""Status of a claim whose effect is worse than the stored one."""


def comparable(claim: Claim, j: Judged, stored: Case, fresh: Case) -> bool:
    """Whether the effects of two cases on a claim's metric can be compared.

    Shares of answers can on any machine. Ratios of times can within a class of machine, because
    both arms were slowed alike. What depends on the machine's pace without being a time can on one
    machine at about one pace.
    """
    metric = claim.metric
    if metric.travels:
        return True
    if stored.match.get("hardware") != fresh.match.get("hardware"):
        return False
    return metric.timed or same_pace(stored, fresh, j.comparison)


def worse(claim: Claim, j: Judged, stored: Sequence[float], among: int) -> str:
    """A sentence on how much worse an effect is than the stored one; empty where it is not shown
    to be, by half the margin or more.

    Worse is what leads further from the claim, unless the metric counts it as better. The interval
    of the difference is made of those of both effects (MOVER: Zou and Donner, Statistics in
    Medicine 2008), so neither session's blocks are needed.

    Args:
        claim: that is judged.
        j: its verdict of today.
        stored: estimate, low, high (per cent or points) and n.
        among: how many claims of the test case are compared so; they err together as often as one
            would alone (Bonferroni).
    """
    if j.estimate is None or j.low is None or j.high is None:
        return ""
    was, was_low, was_high = stored_effect(claim, stored)
    change = j.estimate - was
    wider = _quantile(among) / _quantile(1)
    low = change - wider * math.hypot(j.estimate - j.low, was_high - was)
    high = change + wider * math.hypot(j.high - j.estimate, was - was_low)
    shown = low > 0 or high < 0
    if not (shown and _harms(claim, j.estimate, change)):
        return ""
    if abs(change) < abs(claim.nearest(change)) / 2:
        return ""
    unit = "%" if j.scale == "percent" else "pp"
    before, now, by, at_least, at_most = (
        f"{j.in_percent(value):+.1f}" for value in (was, j.estimate, change, low, high)
    )
    return (
        f"worse than stored: {claim}: the effect was {before} {unit} and is {now} {unit}, "
        f"a change of {by} ({at_least} .. {at_most}) {unit}"
    )


def _harms(claim: Claim, estimate: float, change: float) -> bool:
    """Whether a change of an effect leads further from the claim, and not to a better value."""
    match claim.verb:
        case "lower" | "not_higher":
            away = change > 0
        case "higher" | "not_lower":
            away = change < 0
        case "unchanged":
            away = change * estimate > 0
    better = {"higher": change > 0, "lower": change < 0, "neither": False}
    return away and not better[claim.metric.better]


def _quantile(claims: int) -> float:
    """Of the normal distribution, two-sided, for so many claims together."""
    from scipy import stats

    return float(stats.norm.ppf(1 - (1 - CONFIDENCE) / 2 / claims))
