"""Reports show every case with every claim, to people and to programs."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from doubles.synthetic import judged

from pytest_rllm.metrics import ACCURACY, TBT, TPS
from pytest_rllm.reports import FORMATS, render_named
from pytest_rllm.reports.progress import Progress
from pytest_rllm.reports.row import Row
from pytest_rllm.reports.table import of_one
from pytest_rllm.verdicts.claims import higher, lower, not_lower, pct, pp

FASTER = judged(
    lower(TBT, by=pct(10)), "holds", (math.log(0.6), math.log(0.75), math.log(0.85))
).to_json()
RIGHT = judged(not_lower(ACCURACY, by_more_than=pp(3)), "inconclusive", (-0.04, -0.01, 0.02))
UNDECIDED = replace(RIGHT, n=64, replicate="questions", further=40).to_json()
UNKNOWN = replace(
    judged(higher(TPS, by=pct(5)), "inconclusive", (-math.inf, 0.25, math.inf)),
    detectable=math.inf,
    n=1,
    why="1 block(s): an error bar needs at least two",
).to_json()
INVALID = replace(
    judged(higher(TPS, by=pct(5)), "invalid", None, None), why="gpu0 was throttled"
).to_json()


def row(*claims: dict[str, Any], **changed: Any) -> Row:
    about = {
        "finding": "speculative_decoding",
        "case": "tiny-ngram",
        "sentence": "Speculation lowers TBT.",
        "cite": "Li et al.",
        "ending": "fail",
        "claims": claims,
        "standings": [claim["verdict"] for claim in claims],
        "notes": [],
        "records": "records/here",
    }
    return Row(**about | changed)


WHOLE = row(FASTER, UNDECIDED, INVALID, notes=["stale baseline: engine is b"])
BROKEN = row(ending="error", case="tiny-draft", notes=["the engine died"])


@pytest.mark.parametrize(
    ("claim", "line"),
    [
        (
            FASTER,
            (
                "TBT lower by 10 %",
                "-25.0 %",
                "-40.0 .. -15.0 at 95 %",
                "6 blocks",
                "5.1 %",
                "holds",
            ),
        ),
        (
            UNDECIDED,
            (
                "accuracy not lower by more than 3 pp",
                "-1.0 pp",
                "-4.0 .. +2.0 at 95 %",
                "64 questions",
                "5.0 pp",
                "inconclusive",
            ),
        ),
        (
            UNKNOWN,
            (
                "TPS higher by 5 %",
                "+28.4 %",
                "unknown .. unknown at 95 %",
                "1 blocks",
                "unknown %",
                "inconclusive",
            ),
        ),
        (INVALID, ("TPS higher by 5 %", "", "", "", "", "invalid")),
        (
            FASTER | {"estimate": None},
            ("TBT lower by 10 %", "", "", "", "", "holds"),
        ),
    ],
    ids=["percent", "points", "unknown", "invalid", "no estimate"],
)
def test_a_claim_is_one_line(claim: dict[str, Any], line: tuple[str, ...]) -> None:
    assert row(claim).lines() == [line]


def test_large_effects_are_shown_without_decimals() -> None:
    claim = judged(higher(TPS, by=pct(5)), "holds", (math.log(1.5), math.log(2.341), math.log(9)))
    assert row(claim.to_json()).lines()[0][1:3] == ("+134 %", "+50.0 .. +800 at 95 %")


@pytest.mark.parametrize(
    ("confidence", "shown"),
    [(0.95, "95 %"), (0.968416, "96.8 %"), (0.99046, "99 %"), (0.9999, "99.9 %")],
)
def test_an_interval_says_its_confidence(confidence: float, shown: str) -> None:
    (line,) = row(FASTER | {"confidence": confidence}).lines()
    assert line[2] == f"-40.0 .. -15.0 at {shown}"


def test_all_that_needs_saying_is_said_once() -> None:
    told = row(INVALID, INVALID, UNDECIDED, UNKNOWN, notes=["drift"], remarks=["block 3 is void"])
    assert told.reasons() == [
        "TPS higher by 5 %: gpu0 was throttled",
        "TPS higher by 5 %: 1 block(s): an error bar needs at least two",
        "accuracy not lower by more than 3 pp: about 40 more questions would decide",
        "drift",
        "block 3 is void",
    ]
    assert "block 3 is void" in of_one(told)
    assert "block 3 is void" in render_named("table")([told])
    assert Row.from_json(told.to_json()).remarks == ["block 3 is void"]


def cells(text: str, marks: str) -> list[list[str]]:
    """Rows of a table as lists, without its rules."""
    split = re.compile(marks)
    lines = [line for line in text.splitlines() if not set(line) <= set("|-: ")]
    return [[cell.strip() for cell in split.split(line.strip("| "))] for line in lines]


def test_the_table_has_a_line_per_claim_and_the_reasons_below() -> None:
    text = render_named("table")([WHOLE, BROKEN])
    head, first, second, third, broken, *reasons = cells(text, r"  +")
    assert head == ["finding", "claim", "effect", "interval", "n", "can see", "verdict"]
    assert first[:3] == ["speculative_decoding [tiny-ngram]", "TBT lower by 10 %", "-25.0 %"]
    assert second[0] == "accuracy not lower by more than 3 pp"
    assert third == ["TPS higher by 5 %", "invalid"]
    assert broken == ["speculative_decoding [tiny-draft]", "error"]
    assert [reason for (reason,) in reasons if reason] == [
        f"{row.title}: {reason}" for row in (WHOLE, BROKEN) for reason in row.reasons()
    ]


def test_markdown_names_the_case_in_every_line_and_keeps_a_broken_case() -> None:
    text = render_named("markdown")([WHOLE, BROKEN])
    table, _, reasons = text.partition("\n\n")
    rows = cells(table, r" *\| *")
    assert [line[0] for line in rows] == ["finding", *[WHOLE.title] * 3, BROKEN.title]
    assert [line[-1] for line in rows[1:]] == ["holds", "inconclusive", "invalid", "error"]
    assert all(len(line) == 7 for line in rows)
    assert f"- {WHOLE.title}: stale baseline: engine is b\n" in reasons
    assert f"- {BROKEN.title}: the engine died\n" in reasons


def test_markdown_without_reasons_is_a_table_alone() -> None:
    text = render_named("markdown")([row(FASTER)])
    assert all(line.startswith("|") for line in text.splitlines())


def test_json_has_a_line_per_case_and_nothing_is_lost() -> None:
    rows = [row(FASTER, UNKNOWN, sentence="Größe\nπ"), BROKEN]
    lines = render_named("json")(rows).splitlines()
    assert [plain(Row.from_json(line)) for line in lines] == [plain(r) for r in rows]


def plain(of: Row) -> object:
    return json.loads(of.to_json())


def test_one_case_is_shown_with_its_sentence_arms_and_records() -> None:
    text = of_one(WHOLE)
    assert text.startswith(
        "speculative_decoding [tiny-ngram]: Speculation lowers TBT.\n(Li et al.)\n"
        "A: reasoning   against   B: plain\n\n"
    )
    assert text.count("against") == 1
    assert "* stale baseline: engine is b\n" in text
    assert text.endswith("\nrecords: records/here")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_takes_a_session_without_findings(name: str) -> None:
    assert isinstance(render_named(name)([]), str)


def test_an_unknown_format_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="unknown report 'html'; there are json, markdown, table"):
        render_named("html")


# ---- progress


class Terminal(io.StringIO):
    """A terminal that shows its last line."""

    @property
    def line(self) -> str:
        return self.getvalue().rpartition("\r\x1b[K")[2]


def progress(times: Iterable[float], width: int = 80) -> tuple[Progress, Terminal]:
    terminal, ticks = Terminal(), iter(times)
    return Progress(terminal, width, lambda: next(ticks)), terminal


def test_progress_tells_how_long_it_still_takes() -> None:
    say, terminal = progress([99, 100, 130, 140])
    say("starting")
    assert terminal.line == "starting"
    say("block 1", 0.25)
    assert terminal.line == "block 1"
    say("block 2", 0.5)  # a quarter took 30 s, half is left
    assert terminal.line == "block 2, 1:00 left"
    say("block 3", 0.75)  # half took 40 s
    assert terminal.line == "block 3, 0:20 left"


@pytest.mark.parametrize(("seconds", "shown"), [(59.7, "1:00"), (119.6, "2:00"), (61, "1:01")])
def test_seconds_are_rounded_into_minutes(seconds: float, shown: str) -> None:
    say, terminal = progress([0, seconds])
    say("begun", 1 / 3)
    say("half", 2 / 3)
    assert terminal.line == f"half, {shown} left"


def test_another_comparison_begins_anew() -> None:
    say, terminal = progress([0, 10, 1000, 1030])
    say("first", 0.25)
    say("first", 0.75)
    say("second", 0.25)
    assert terminal.line == "second"
    say("second", 0.5)
    assert terminal.line == "second, 1:00 left"


def test_the_same_share_again_keeps_the_time_left() -> None:
    say, terminal = progress([0, 30, 30.2])
    say("one", 0.25)
    say("two", 0.5)
    say("three", 0.5)
    assert terminal.line == "three, 1:00 left"


def test_a_terminal_is_not_written_to_for_every_answer() -> None:
    say, terminal = progress([0, 0.05, 0.09, 0.2])
    for i in range(4):
        say(f"{i} of 4 answers")
    assert terminal.getvalue() == "\r\x1b[K0 of 4 answers\r\x1b[K3 of 4 answers"


def test_a_line_fits_the_terminal() -> None:
    say, terminal = progress([0], width=10)
    say("0123456789abc")
    assert terminal.line == "012345678"


def test_the_line_is_taken_away_once() -> None:
    say, terminal = progress([0])
    say.clear()
    assert terminal.getvalue() == ""
    say("measuring")
    say.clear()
    say.clear()
    assert terminal.getvalue() == "\r\x1b[Kmeasuring\r\x1b[K"


def test_a_log_stays_quiet() -> None:
    def unused() -> float:
        raise AssertionError("nobody is told, so no time is read")

    say = Progress(None, clock=unused)
    say("measuring", 0.5)
    say.clear()
