"""What a person should do after a session, in one plain sentence."""

from __future__ import annotations

import math

from ..baselines.effects import WORSE
from ..experiment.tiers import TIERS
from ..verdicts.judge import Judged
from .session_report import SessionReport

UNUSABLE = ("error", "invalid")


def next_step(report: SessionReport) -> str:
    """The one thing to do next, the most urgent first."""
    again = {(row.finding, row.case, row.attempt - 1) for row in report.rows}
    rows = [r for r in report.rows if (r.finding, r.case, r.attempt) not in again]
    if report.interrupted and report.replayed:
        return "this session was stopped; replay the records again to judge all of them"
    if report.interrupted:
        return (
            "this session was stopped; the same command with "
            f"--rllm-record={report.records} goes on where it was"
        )
    unusable = [row for row in rows if row.outcome in UNUSABLE]
    failed = [row for row in rows if row.outcome == "fail"]
    undecided = [j for row in rows for j in row.verdicts if j.verdict == "inconclusive"]
    if report.decision is not None:
        if report.decision.word == "safe":
            return f"nothing; {report.decision.new} may take the place of {report.decision.old}"
        if report.decision.word == "not safe":
            return f"keep {report.decision.old}; the lines below the decision say why"
    if unusable:
        return (
            f"{_count(len(unusable), 'case')} could not be judged: put right what the lines above "
            "name, then measure again what failed (pytest --lf)"
        )
    if failed:
        return _after_failures(report)
    if undecided:
        return _to_decide(report, undecided)
    if report.decision is not None:
        return "measure what the lines below the decision name"
    if not any(row.verdicts for row in rows):
        return "nothing was measured; the lines above say why"
    stores = TIERS[report.tier].as_planned and not report.replayed
    if stores and any(_unwatched(row.pace, row.verdicts) for row in rows):
        return (
            "nothing, all is as it is known to be; to watch the times of this machine, too, "
            "measure once with --rllm-baseline=create,fix, which stores them"
        )
    return "nothing, all is as it is known to be"


def _after_failures(report: SessionReport) -> str:
    failed = [row for row in report.rows if row.outcome == "fail"]
    verdicts = {status for row in failed for status in row.statuses}
    if verdicts & {"refuted", "regression", WORSE}:
        return (
            f"{_count(len(failed), 'case')} failed: find out what changed in the engine, the "
            "models or the machine; what is right as it is, --rllm-baseline=create,fix stores as "
            "known"
        )
    return (
        f"{_count(len(failed), 'case')} differ from the baseline, and no claim is refuted: where "
        "the change is meant (another version, other questions), --rllm-baseline=create,fix,trim "
        "stores it"
    )


def _to_decide(report: SessionReport, undecided: list[Judged]) -> str:
    what = f"{_count(len(undecided), 'claim')} undecided"
    if report.replayed:
        return f"{what}; measure more blocks to decide, records cannot"
    if report.tier == "smoke":
        return (
            f"{what}, of which tier smoke measures too little; --rllm-tier=short decides, and with "
            "--rllm-plan tells before how long that takes"
        )
    if not TIERS[report.tier].as_planned:
        return f"{what} at tier {report.tier}: the effect lies on its margin, or scatters too much"
    if not any(judged.within_reach or not judged.further for judged in undecided):
        return (
            f"{what}: the effects lie on their margins, and an hour would not decide; the lines "
            "above say which margins are decided"
        )
    known = [j.further_s for j in undecided if j.further_s and j.within_reach]
    minutes = f", about {math.ceil(sum(known) / 60)} min of measuring" if known else ""
    return f"{what}; --rllm-tier=fine measures four times as much{minutes}"


def _unwatched(pace: float | None, verdicts: tuple[Judged, ...]) -> bool:
    """Whether no times of this machine are stored for a case that was judged."""
    return pace is None and bool(verdicts)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
