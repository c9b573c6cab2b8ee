"""What fresh verdicts mean beside the stored ones: the table of outcomes, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from types import MappingProxyType
from typing import Literal

from ..verdicts.claims import Claim, Verdict
from ..verdicts.judge import Judged
from ..verdicts.judgement import Judgement
from ..verdicts.precedence import overall
from .case import (
    Case,
    described,
    differ,
    missing,
    part_of,
    stale,
    stored_verdict,
    unclaimed,
)
from .effects import WORSE, comparable, worse
from .ledger import Stored
from .levels import Level, beside, drifts, pace
from .schema1 import upgrade, upgrade_sessions

Ending = Literal["pass", "fail", "xfail", "inconclusive", "invalid", "skip"]
KNOWN = "known deviation"
HIDING = (KNOWN, "holds", "inconclusive")
"""Statuses that let a case pass, or be skipped, whatever became of the effect."""


@dataclass
class Outcome:
    """How a test case ends.

    Attributes:
        ending: what pytest is told.
        statuses: per claim, in the order of the judgements and of their claims, a word: ``holds``,
            ``holds (paper)``, ``changed``, ``refuted``, ``regression``, ``known deviation``,
            ``worse``, ``inconclusive``, ``invalid``.
        notes: all else that a reader must know; each makes the case fail.
        levels: stored ones beside the fresh ones.
        stored_on: class of the machine whose baseline was used; empty when there is none.
        pace: how many times as long a load that is no engine takes as when the baseline was stored
            on this machine; None where that is unknown.
    """

    ending: Ending
    statuses: list[str]
    notes: list[str] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    stored_on: str = ""
    pace: float | None = None


def decide(
    judgements: Sequence[Judgement],
    fresh: Case,
    stored: Case | None,
    sessions: Stored = MappingProxyType({}),
    *,
    elsewhere: Mapping[str, Case] = MappingProxyType({}),
    partly: bool = False,
) -> Outcome:
    """Compare fresh verdicts with the stored case, or with the paper when none is stored.

    Args:
        judgements: of the test case's comparisons.
        fresh: what would be stored of them.
        stored: what is stored for this class of machine, in today's schema or an older one.
        sessions: what several sessions stored, with the keys of ``stored``; see
            ``ledger.by_session``.
        elsewhere: what other classes of machine stored, by the class. Where nothing is stored for
            this one, a claim that is known not to hold there is a known deviation here, too, as far
            as it is not shown to be worse than there; their levels are shown and decide nothing.
        partly: whether only a part of the case could be measured; it is compared with that part of
            what is stored.
    """
    judged = list(_judged(judgements))
    if stored is None:
        found = [_status(claim, j, None, elsewhere) for claim, j in judged]
        worsened = [_worse_than_all(claim, j, elsewhere, fresh, len(judged)) for claim, j in judged]
        statuses, notes = _not_hidden(found, worsened)
        outcome = Outcome(_ending(judgements, statuses, notes), statuses, notes)
        for name, case in list(elsewhere.items())[:1]:
            outcome.stored_on = name
            outcome.levels = beside(case, fresh, judgements, same_class=False)
        return outcome
    sessions = upgrade_sessions(sessions, judgements)
    stored = upgrade(stored, judgements)
    if partly:
        stored = part_of(stored, fresh, judgements)
    notes = [f"stale baseline: {what}" for what in stale(stored, fresh)]
    levels: list[Level] = []
    if not notes:
        mine = stored.machine == fresh.machine != ""
        levels = beside(stored, fresh, judgements, sessions)
        notes = [
            *(
                f"not in the baseline: {described(key, fresh.labels)} "
                "(--rllm-baseline=create stores it)"
                for key in missing(stored, fresh, levels=mine)
            ),
            *(
                f"in the baseline and no longer claimed: {described(key, stored.labels)} "
                "(--rllm-baseline=trim drops it)"
                for key in unclaimed(stored, judgements)
            ),
            *(f"drift: {what}" for what in drifts(levels)),
        ]
    # What another version made worse is worth knowing before it is accepted.
    same = differ(stored, fresh) <= {"engine_version"}
    statuses, more = _not_hidden(
        [_status(claim, j, stored) for claim, j in judged],
        [_worse(claim, j, stored, fresh, len(judged)) if same else "" for claim, j in judged],
    )
    notes += more
    return Outcome(
        _ending(judgements, statuses, notes),
        statuses,
        notes,
        levels,
        stored_on=fresh.match.get("hardware", ""),
        pace=_pace(stored, fresh),
    )


def _not_hidden(statuses: Sequence[str], worsened: Sequence[str]) -> tuple[list[str], list[str]]:
    """Statuses of which none hides that its claim's effect became worse, and the sentences on
    those that would have."""
    found = [
        WORSE if text and status in HIDING else status
        for status, text in zip(statuses, worsened, strict=True)
    ]
    pairs = zip(found, worsened, strict=True)
    return found, [text for status, text in pairs if status == WORSE]


def _worse(claim: Claim, j: Judged, stored: Case, fresh: Case, among: int) -> str:
    """How much worse an effect is than that of a stored case; empty where it is not, or where the
    two cannot be compared."""
    effect = stored.effects.get(j.effect_key)
    if effect is None or not comparable(claim, j, stored, fresh):
        return ""
    return worse(claim, j, effect, among)


def _worse_than_all(
    claim: Claim, j: Judged, elsewhere: Mapping[str, Case], fresh: Case, among: int
) -> str:
    """How much worse a deviation is than it is known to be anywhere; empty where one case knows it
    as it is, or none does."""
    knowing = [case for case in elsewhere.values() if j.key in case.deviations]
    if j.verdict != "refuted" or not knowing:
        return ""
    texts = [_worse(claim, j, case, fresh, among) for case in knowing]
    return texts[0] if all(texts) else ""


def _pace(stored: Case, fresh: Case) -> float | None:
    """Of all comparisons together; None on another machine than that which stored the case."""
    if not fresh.machine or fresh.machine != stored.machine:
        return None
    shared = sorted(stored.reference_s.keys() & fresh.reference_s.keys())
    return median(pace(stored, fresh, key) for key in shared) if shared else None


def decide_upgrade(judgements: Sequence[Judgement]) -> Outcome:
    """Compare two builds with each other: no baseline has a say."""
    words = {"holds": "no regression", "refuted": "regression"}
    statuses = [words.get(j.verdict, j.verdict) for _, j in _judged(judgements)]
    return Outcome(_ending(judgements, statuses, []), statuses)


def _judged(judgements: Sequence[Judgement]) -> Iterable[tuple[Claim, Judged]]:
    for judgement in judgements:
        yield from zip(judgement.claims, judgement.verdicts, strict=True)


def _status(
    claim: Claim,
    j: Judged,
    stored: Case | None,
    elsewhere: Mapping[str, Case] = MappingProxyType({}),
) -> str:
    if j.verdict in ("inconclusive", "invalid"):
        return j.verdict
    if stored is None:
        if j.verdict == "holds":
            return "holds (paper)"
        known = any(j.key in case.deviations for case in elsewhere.values())
        return KNOWN if known else "refuted"
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
