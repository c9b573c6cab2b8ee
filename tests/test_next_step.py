"""What a person should do after a session: one sentence for every way in which it can end."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from doubles.synthetic import TIME, judged, judgement

from pytest_rllm.reports.next_step import next_step
from pytest_rllm.reports.row import Row
from pytest_rllm.reports.session_report import Decision, SessionReport
from pytest_rllm.verdicts.claims import lower, pct
from pytest_rllm.verdicts.judge import Judged

FASTER = lower(TIME, by=pct(10))
HELD, REFUTED = judged(FASTER, "holds"), judged(FASTER, "refuted")
UNDECIDED = replace(judged(FASTER, "inconclusive"), further=40, further_s=150.0)
FAR = replace(UNDECIDED, further_s=7200.0)
HOPELESS = replace(UNDECIDED, further=None, further_s=None)
INVALID = judged(FASTER, "invalid", None)


def row(outcome: Any, *verdicts: Judged, status: str = "", **more: Any) -> Row:
    shown = (judgement(*((FASTER, one) for one in verdicts)),) if verdicts else ()
    statuses = tuple(status or one.verdict for one in verdicts)
    return Row("f", "c", "A sentence.", "x", outcome, shown, statuses, **more)


HERE = row("pass", HELD, pace=1.0)
PAPER = row("pass", HELD, status="holds (paper)")
KNOWN = row("xfail", REFUTED, status="known deviation", pace=1.0)
OPEN = row("inconclusive", UNDECIDED)
FAILED = row("fail", REFUTED)
DRIFTED = row("fail", HELD, notes=("drift: x",), pace=1.0)
CHANGED = row("fail", HELD, status="changed", pace=1.0)
ERROR = row("error", notes=("the server ended",))
BROKEN = row("invalid", INVALID)
SKIPPED = row("skip", notes=("no NVIDIA GPU",))
SAFE, NOT_SAFE, UNKNOWN = (
    Decision(word, "new 2", "old 1", ("a reason",))  # type: ignore[arg-type]
    for word in ("safe", "not safe", "cannot tell yet")
)
NOTHING = "nothing, all is as it is known to be"
STORE = f"{NOTHING}; to watch the times of this machine, too, measure once with .*create,fix"


@pytest.mark.parametrize(
    ("rows", "about", "said"),
    [
        # stopped
        ((HERE, ERROR), {"interrupted": True}, "stopped; .* --rllm-record=R goes on where it was"),
        ((), {"interrupted": True}, "stopped; .* --rllm-record=R goes on where it was"),
        ((FAILED,), {"interrupted": True, "decision": NOT_SAFE}, "stopped; .*--rllm-record=R"),
        # two builds
        ((HERE,), {"decision": SAFE}, "nothing; new 2 may take the place of old 1"),
        ((FAILED, ERROR), {"decision": NOT_SAFE}, "keep old 1; the lines below the decision"),
        ((OPEN,), {"decision": UNKNOWN}, "1 claim undecided; --rllm-tier=fine"),
        ((ERROR,), {"decision": UNKNOWN}, "1 case could not be judged: put right"),
        ((HERE, SKIPPED), {"decision": UNKNOWN}, "measure what the lines below the decision name"),
        # not judged
        ((ERROR,), {}, r"1 case could not be judged: put right .* \(pytest --lf\)"),
        ((ERROR, BROKEN, FAILED, OPEN), {}, "2 cases could not be judged: put right"),
        # failed
        ((FAILED, OPEN, HERE), {}, "1 case failed: find out what changed in .*create,fix stores"),
        ((FAILED, row("fail", REFUTED, status="regression")), {}, "2 cases failed: find out"),
        ((FAILED, DRIFTED), {}, "2 cases failed: find out"),
        ((DRIFTED,), {}, "1 case differ.* no claim is refuted: .*create,fix,trim stores it"),
        ((CHANGED, DRIFTED), {}, "2 cases differ from the baseline, and no claim is refuted"),
        # undecided
        ((OPEN, HERE), {}, "1 claim undecided; --rllm-tier=fine .*, about 3 min of measuring"),
        ((OPEN, OPEN), {}, "2 claims undecided; --rllm-tier=fine .*, about 5 min of measuring"),
        (
            (row("inconclusive", FAR),),
            {},
            "1 claim undecided: the effects lie on their margins, and an hour would not decide",
        ),
        ((row("inconclusive", HOPELESS),), {}, "1 claim undecided; .* four times as much$"),
        ((OPEN,), {"tier": "smoke"}, "1 claim undecided.*smoke.*--rllm-tier=short.*--rllm-plan"),
        (
            (OPEN,),
            {"tier": "fine"},
            "1 claim undecided at tier fine: the effect lies on its margin",
        ),
        ((OPEN,), {"replayed": True}, "1 claim undecided; .* records cannot"),
        # as it is known
        ((HERE, KNOWN, SKIPPED), {}, f"{NOTHING}$"),
        ((HERE, PAPER), {}, STORE),
        ((row("pass", HELD),), {}, STORE),
        ((PAPER,), {"replayed": True}, f"{NOTHING}$"),
    ],
)
def test_a_session_ends_with_what_to_do_next(
    rows: tuple[Row, ...], about: dict[str, Any], said: str
) -> None:
    found = next_step(SessionReport(rows, records="R", **about))
    assert re.search(said, found), found
    assert "\n" not in found


@pytest.mark.parametrize("tier", ["smoke", "fine", "paper"])
def test_nobody_is_told_to_store_what_the_tier_does_not_store(tier: str) -> None:
    assert "--rllm-baseline" not in next_step(SessionReport((PAPER,), tier=tier))


@pytest.mark.parametrize("rows", [(), (SKIPPED,)], ids=["no case", "skipped ones"])
def test_a_session_that_measured_nothing_does_not_say_that_all_is_well(
    rows: tuple[Row, ...],
) -> None:
    assert "all is as it is known to be" not in next_step(SessionReport(rows))


def test_a_replay_that_was_stopped_is_not_told_to_record() -> None:
    report = SessionReport((HERE,), records="R", replayed=True, interrupted=True)
    assert "--rllm-record" not in next_step(report)
