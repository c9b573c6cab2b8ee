"""What fresh verdicts mean beside the stored ones: the table of outcomes, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..verdicts.claims import Claim, Verdict
from ..verdicts.judge import Judged
from ..verdicts.judgement import Judgement
from ..verdicts.precedence import overall
from .case import (
    Case,
    Spreads,
    described,
    drifts,
    missing,
    part_of,
    stale,
    stored_verdict,
    unclaimed,
)
from .schema1 import upgrade, upgrade_spreads

Ending = Literal["pass", "fail", "xfail", "inconclusive", "invalid", "skip"]
KNOWN = "known deviation"


@dataclass
class Outcome:
    """How a test case ends.

    Attributes:
        ending: what pytest is told.
        statuses: per claim, in the order of the judgements and of their claims, a word: ``holds``,
            ``holds (paper)``, ``changed``, ``refuted``, ``regression``, ``known deviation``,
            ``inconclusive``, ``invalid``.
        notes: all else that a reader must know; each makes the case fail.
    """

    ending: Ending
    statuses: list[str]
    notes: list[str] = field(default_factory=list)


def decide(
    judgements: Sequence[Judgement],
    fresh: Case,
    stored: Case | None,
    sessions: Spreads | None = None,
    *,
    partly: bool = False,
) -> Outcome:
    """Compare fresh verdicts with the stored case, or with the paper when none is stored.

    Args:
        judgements: of the test case's comparisons.
        fresh: what would be stored of them.
        stored: what is stored, in today's schema or an older one.
        sessions: spread of the levels between sessions, with the keys of ``stored``; see
            :func:`drifts`.
        partly: whether only a part of the case could be measured; it is compared with that part of
            what is stored.
    """
    notes = []
    if stored is not None:
        sessions = upgrade_spreads(sessions or {}, judgements)
        stored = upgrade(stored, judgements)
        if partly:
            stored = part_of(stored, fresh, judgements)
        notes = [f"stale baseline: {what}" for what in stale(stored, fresh)]
        if not notes:
            notes = [
                *(
                    f"not in the baseline: {described(key, fresh.labels)} "
                    "(--rllm-baseline=create stores it)"
                    for key in missing(stored, fresh)
                ),
                *(
                    f"in the baseline and no longer claimed: {described(key, stored.labels)} "
                    "(--rllm-baseline=trim drops it)"
                    for key in unclaimed(stored, judgements)
                ),
                *(f"drift: {what}" for what in drifts(stored, fresh, judgements, sessions)),
            ]
    statuses = [_status(claim, j, stored) for claim, j in _judged(judgements)]
    return Outcome(_ending(judgements, statuses, notes), statuses, notes)


def decide_upgrade(judgements: Sequence[Judgement]) -> Outcome:
    """Compare two builds with each other: no baseline has a say."""
    words = {"holds": "no regression", "refuted": "regression"}
    statuses = [words.get(j.verdict, j.verdict) for _, j in _judged(judgements)]
    return Outcome(_ending(judgements, statuses, []), statuses)


def _judged(judgements: Sequence[Judgement]) -> Iterable[tuple[Claim, Judged]]:
    for judgement in judgements:
        yield from zip(judgement.claims, judgement.verdicts, strict=True)


def _status(claim: Claim, j: Judged, stored: Case | None) -> str:
    if j.verdict in ("inconclusive", "invalid"):
        return j.verdict
    if stored is None:
        return "holds (paper)" if j.verdict == "holds" else "refuted"
    known = j.key in stored.deviations
    if j.verdict == "holds":
        return "changed" if known else "holds"
    if known:
        return KNOWN
    before = stored.effects.get(j.effect_key)
    held = before is not None and stored_verdict(claim, before) == "holds"
    return "regression" if held else "refuted"


def _ending(
    judgements: Sequence[Judgement], statuses: Sequence[str], notes: Sequence[str]
) -> Ending:
    """By the precedence of verdicts, in which a known deviation counts as a claim that holds.

    Notes make a case fail that could be judged; one that could not is invalid with or without them.
    """
    verdicts: list[Verdict] = [
        "holds" if status == KNOWN else j.verdict
        for (_, j), status in zip(_judged(judgements), statuses, strict=True)
    ]
    match overall(verdicts):
        case "refuted":
            return "fail"
        case "invalid":
            return "invalid"
        case "inconclusive":
            return "fail" if notes else "inconclusive"
        case "holds" if notes:
            return "fail"
        case "holds":
            return "xfail" if KNOWN in statuses else "pass"
