"""What fresh verdicts mean beside the stored ones: the table of outcomes, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..verdicts.claims import Claim
from ..verdicts.judge import Judged
from . import store as baselines
from .store import Case

Ending = Literal["pass", "fail", "xfail", "inconclusive", "invalid"]


@dataclass
class Outcome:
    """How a test case ends.

    Attributes:
        ending: what pytest is told.
        standings: per claim a word: ``holds``, ``holds (paper)``, ``changed``, ``refuted``,
            ``regression``, ``known deviation``, ``inconclusive``, ``invalid``.
        notes: all else that a reader must know; each makes the case fail.
    """

    ending: Ending
    standings: list[str]
    notes: list[str] = field(default_factory=list)


def decide(
    claims: Sequence[tuple[Claim, Judged]],
    fresh: Case,
    stored: Case | None,
    sessions: baselines.Spreads | None = None,
) -> Outcome:
    """Hold fresh verdicts against the stored case, or against the paper when none is stored;
    ``sessions`` as in ``baselines.drifts``."""
    notes = []
    if stored is not None:
        notes = [f"stale baseline: {what}" for what in baselines.stale(stored, fresh)]
        if not notes:
            notes = [
                *(
                    f"not in the baseline: {key} (--rllm-baseline=create stores it)"
                    for key in baselines.missing(stored, fresh)
                ),
                *(
                    f"in the baseline and no longer claimed: {key} (--rllm-baseline=trim drops it)"
                    for key in baselines.unclaimed(stored, [j for _, j in claims])
                ),
                *(f"drift: {what}" for what in baselines.drifts(stored, fresh, claims, sessions)),
            ]
    standings = [_standing(claim, j, stored) for claim, j in claims]
    return Outcome(_ending(standings, notes), standings, notes)


def decide_upgrade(claims: Sequence[tuple[Claim, Judged]]) -> Outcome:
    """Two builds held against each other: no baseline has a say."""
    words = {"holds": "no regression", "refuted": "regression"}
    standings = [words.get(j.verdict, j.verdict) for _, j in claims]
    return Outcome(_ending(standings, []), standings)


def _standing(claim: Claim, j: Judged, stored: Case | None) -> str:
    if j.verdict in ("inconclusive", "invalid"):
        return j.verdict
    if stored is None:
        return "holds (paper)" if j.verdict == "holds" else "refuted"
    known = j.claim in stored.deviations
    if j.verdict == "holds":
        return "changed" if known else "holds"
    if known:
        return "known deviation"
    before = stored.effects.get(baselines.effect_key(j))
    held = before is not None and _said(claim, before) == "holds"
    return "regression" if held else "refuted"


def _said(claim: Claim, effect: Sequence[float]) -> str:
    """The verdict of a stored effect under the margin of today."""
    _, low, high, _ = effect
    if claim.margin.scale == "percent":
        return claim.verdict(_log_ratio(low), _log_ratio(high))
    return claim.verdict(low / 100, high / 100)


def _log_ratio(percent: float) -> float:
    """Of a stored bound; one that was rounded to -100 % lies below every margin."""
    return math.log1p(percent / 100) if percent > -100 else -math.inf


def _ending(standings: Sequence[str], notes: Sequence[str]) -> Ending:
    if "invalid" in standings:
        return "invalid"
    if notes or "regression" in standings or "refuted" in standings:
        return "fail"
    if "inconclusive" in standings:
        return "inconclusive"
    return "xfail" if "known deviation" in standings else "pass"
