"""Reports show every case with every claim, to people and to programs."""

from __future__ import annotations

import io
import itertools
import json
import lzma
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.synthetic import judged, record, run, sample

from pytest_rllm import registry
from pytest_rllm.metrics import ACCURACY, TBT, TPS
from pytest_rllm.records.reader import packed
from pytest_rllm.records.run import RecordError
from pytest_rllm.reports import FORMATS
from pytest_rllm.reports.progress import Progress
from pytest_rllm.reports.row import Row, range_text
from pytest_rllm.reports.session_report import Decision, SessionReport
from pytest_rllm.reports.table import table_of
from pytest_rllm.reports.terminal import case_text
from pytest_rllm.verdicts.claims import higher, lower, not_lower, pct, pp
from pytest_rllm.verdicts.judge import Judged
from pytest_rllm.verdicts.judgement import Block, Judgement
from pytest_rllm.verdicts.reasons import Reason

OF_A_SESSION = ("json", "markdown", "table")
"""Formats that show one session; ``findings`` adds what it measured to a file."""
FASTER = judged(lower(TBT, by=pct(10)), "holds", (math.log(0.6), math.log(0.75), math.log(0.85)))
RIGHT = judged(not_lower(ACCURACY, by_more_than=pp(3)), "inconclusive", (-0.04, -0.01, 0.02))
UNDECIDED = replace(RIGHT, n=64, replicate="questions", further=40)
UNKNOWN = replace(
    judged(higher(TPS, by=pct(5)), "inconclusive", (-math.inf, 0.25, math.inf)),
    detectable=math.inf,
    n=1,
    why="1 block(s): an error bar needs at least two",
)
THROTTLED = "gpu0 was throttled"
INVALID = replace(judged(higher(TPS, by=pct(5)), "invalid", None, None), why=THROTTLED)


def shown(*verdicts: Judged, **more: Any) -> Judgement:
    """A judgement; each reason of an invalid verdict is said once with all the claims it costs."""
    costs: dict[str, list[str]] = {}
    for one in verdicts:
        if one.verdict == "invalid" and one.why:
            costs.setdefault(one.why, []).append(one.slug)
    reasons = tuple(Reason(why, tuple(slugs)) for why, slugs in costs.items())
    return Judgement("1", ("reasoning", "plain"), verdicts, reasons, **more)


def row(*verdicts: Judged, remarks: Sequence[str] = (), **changed: Any) -> Row:
    about: dict[str, Any] = {
        "finding": "speculative_decoding",
        "case": "tiny-ngram",
        "sentence": "Speculation lowers TBT.",
        "cite": "Li et al.",
        "outcome": "fail",
        "judgements": (shown(*verdicts, remarks=tuple(remarks)),) if verdicts else (),
        "statuses": tuple(one.verdict for one in verdicts),
        "records": "records/here",
    }
    return Row(**about | changed)


WHOLE = row(FASTER, UNDECIDED, INVALID, notes=("stale baseline: engine is b",))
BROKEN = row(outcome="error", case="tiny-draft", notes=("the engine died",))
DECISION = Decision(
    "not safe", "vllm 2", "vllm 1", ("gate [tiny]: TBT: refuted",), ("metric gone: x",)
)
ENVIRONMENT = {
    "engines": ["mock 1", "vllm 2"],
    "hardware": ["cpu-x-2c"],
    "versions": {"python": "3.11"},
}
SESSION = SessionReport(
    rows=(WHOLE, BROKEN),
    decision=DECISION,
    environment=ENVIRONMENT,
    records="records",
    messages=("the API is as it is stored",),
)


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    """What a format writes of a session."""

    def write(name: str, report: SessionReport) -> str:
        path = tmp_path / f"report.{name}"
        FORMATS.load(name)(report, path)
        return path.read_text(encoding="utf-8")

    return write


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
            replace(FASTER, estimate=None),
            ("TBT lower by 10 %", "", "", "", "", "holds"),
        ),
    ],
    ids=["percent", "points", "unknown", "invalid", "no estimate"],
)
def test_a_claim_is_one_line(claim: Judged, line: tuple[str, ...]) -> None:
    assert row(claim).lines() == [line]


def test_large_effects_are_shown_without_decimals() -> None:
    claim = judged(higher(TPS, by=pct(5)), "holds", (math.log(1.5), math.log(2.341), math.log(9)))
    assert row(claim).lines()[0][1:3] == ("+134 %", "+50.0 .. +800 at 95 %")


@pytest.mark.parametrize(
    ("confidence", "shown"),
    [(0.95, "95 %"), (0.968416, "96.8 %"), (0.99046, "99 %"), (0.9999, "99.9 %")],
)
def test_an_interval_says_its_confidence(confidence: float, shown: str) -> None:
    (line,) = row(replace(FASTER, confidence=confidence)).lines()
    assert line[2] == f"-40.0 .. -15.0 at {shown}"


@pytest.mark.parametrize(
    ("n", "further", "further_s", "reach"),
    [
        (240, 2400, 60.0, True),
        (240, 98_729, 60.0, False),  # no data set has so many
        (240, 400, 3601.0, False),
        (240, 400, None, True),
    ],
)
def test_more_than_anybody_measures_is_told_as_the_margins_that_are_decided(
    n: int, further: int, further_s: float | None, reach: bool
) -> None:
    told = row(replace(UNDECIDED, n=n, further=further, further_s=further_s)).explanations()
    if reach:
        assert told == [
            f"accuracy not lower by more than 3 pp: about {further} more questions would decide"
        ]
    else:
        assert told == [
            "accuracy not lower by more than 3 pp: the effect lies on the margin: it would take "
            f"{further} more questions; what was measured decides on margins outside of "
            f"{range_text(UNDECIDED)} pp"
        ]


def test_all_that_needs_saying_is_said_once() -> None:
    again = replace(INVALID, claim="TPS on hard higher by 5 %", slug="tps-on-hard-higher-5pct")
    told = row(INVALID, again, UNDECIDED, UNKNOWN, notes=("drift",), remarks=["block 3 is void"])
    assert told.explanations() == [
        "gpu0 was throttled (invalid for it: TPS higher by 5 %; TPS on hard higher by 5 %)",
        "TPS higher by 5 %: 1 block(s): an error bar needs at least two",
        "accuracy not lower by more than 3 pp: about 40 more questions would decide",
        "block 3 is void",
        "drift",
    ]
    assert "block 3 is void" in case_text(told)
    assert "block 3 is void" in table_of([told])
    assert Row.from_json(told.to_json()).judgements[0].remarks == ("block 3 is void",)


def test_a_reason_that_costs_every_claim_does_not_list_them() -> None:
    assert row(INVALID).explanations() == [THROTTLED]


def test_a_claim_that_an_engine_cannot_tell_is_named() -> None:
    left_out = "KV peak higher by 5 pp is not measured: engine 2 does not tell kv_use"
    told = row(FASTER, judgements=(shown(FASTER, not_measured=(left_out,)),))
    assert told.explanations() == [left_out]
    assert told.not_measured == (left_out,)


def cells(text: str, marks: str) -> list[list[str]]:
    """Rows of a table as lists, without its rules."""
    split = re.compile(marks)
    lines = [line for line in text.splitlines() if not set(line) <= set("|-: ")]
    return [[cell.strip() for cell in split.split(line.strip("| "))] for line in lines]


def test_the_table_has_a_line_per_claim_and_the_reasons_below() -> None:
    text = table_of([WHOLE, BROKEN])
    head, first, second, third, broken, *reasons = cells(text, r"  +")
    assert head == ["finding", "claim", "effect", "interval", "n", "detectable", "status"]
    assert first[:3] == ["speculative_decoding [tiny-ngram]", "TBT lower by 10 %", "-25.0 %"]
    assert second[0] == "accuracy not lower by more than 3 pp"
    assert third == ["TPS higher by 5 %", "invalid"]
    assert broken == ["speculative_decoding [tiny-draft]", "error"]
    assert [reason for (reason,) in reasons if reason] == [
        f"{row.title}: {reason}" for row in (WHOLE, BROKEN) for reason in row.explanations()
    ]
    assert len(reasons) == 4


def test_the_table_ends_with_the_outcomes_the_decision_and_what_was_measured(
    written: Callable[..., str],
) -> None:
    text = written("table", SESSION)
    before, after = text.split(table_of(SESSION.rows))
    assert before == "the API is as it is stored\n\n"
    assert after.splitlines()[2:] == [
        "1 fail, 1 error",
        "",
        "vllm 1 -> vllm 2: NOT SAFE",
        "  gate [tiny]: TBT: refuted",
        "  metric gone: x",
        "",
        "next: keep vllm 1; the lines below the decision say why",
        "",
        "engines: mock 1, vllm 2",
        "hardware: cpu-x-2c",
    ]


def test_markdown_names_the_case_in_every_line_and_keeps_a_broken_case(
    written: Callable[..., str],
) -> None:
    text = written("markdown", replace(SESSION, decision=None))
    table, _, reasons = text.partition("\n\n")
    rows = cells(table, r" *\| *")
    assert [line[0] for line in rows] == ["finding", *[WHOLE.title] * 3, BROKEN.title]
    assert [line[-1] for line in rows[1:]] == ["holds", "inconclusive", "invalid", "error"]
    assert all(len(line) == 7 for line in rows)
    assert f"- {WHOLE.title}: stale baseline: engine is b\n" in reasons
    assert f"- {BROKEN.title}: the engine died\n" in reasons


def test_markdown_begins_with_the_decision_and_ends_with_what_was_measured(
    written: Callable[..., str],
) -> None:
    text = written("markdown", SESSION)
    assert text.startswith(
        "**vllm 1 -> vllm 2: NOT SAFE**\n\n- gate [tiny]: TBT: refuted\n- metric gone: x\n\n| "
    )
    assert text.endswith(
        "\n\n- the API is as it is stored\n- engines: mock 1, vllm 2\n- hardware: cpu-x-2c\n"
        "- next: keep vllm 1; the lines below the decision say why\n"
    )


def test_markdown_without_reasons_is_a_table_and_what_to_do_next(
    written: Callable[..., str],
) -> None:
    *table, empty, last = written("markdown", SessionReport((row(FASTER, outcome="pass"),))).split(
        "\n"
    )[:-1]
    assert all(line.startswith("|") for line in table)
    assert (empty, last.partition(";")[0]) == ("", "- next: nothing, all is as it is known to be")


def test_json_is_one_object_and_nothing_is_lost(written: Callable[..., str]) -> None:
    session = replace(SESSION, rows=(row(FASTER, UNKNOWN, sentence="Größe\nπ"), *SESSION.rows))
    text = written("json", session)
    assert json.loads(text)["schema"] == 2
    assert "Größe" in text
    assert SessionReport.from_json(json.loads(text)) == session


@pytest.mark.parametrize(
    "session",
    [SESSION, SessionReport(()), replace(SESSION, decision=None), replace(SESSION, replayed=True)],
    ids=["whole", "nothing", "no decision", "replayed"],
)
def test_a_session_comes_back_as_it_was(session: SessionReport) -> None:
    dumped = json.dumps(session.to_json(), allow_nan=False)
    assert SessionReport.from_json(json.loads(dumped)) == session


def test_a_judgement_comes_back_with_its_blocks_and_numbers_that_are_none() -> None:
    """As JSON that any program reads: an infinity, or what is not a number, is null."""
    blocks = (
        Block(1, {"tbt": (0.5, 1.0)}),
        Block(2, {"tbt": (math.inf, 1.0)}, void="the client was late"),
    )
    of = replace(
        shown(FASTER, UNKNOWN, spreads={"1/a/tbt": 0.25}, match={"engine": "mock"}),
        blocks=blocks,
        reasons=(Reason("requests failed", (FASTER.slug,), "A", True),),
    )
    dumped = json.dumps(of.to_json(), allow_nan=False)
    again = Judgement.from_json(json.loads(dumped))
    assert again.blocks[0] == blocks[0]
    assert math.isnan(again.blocks[1].levels["tbt"][0])
    assert again.blocks[1].void == "the client was late"
    assert replace(again, blocks=()) == replace(of, blocks=())
    assert again.broken == of.broken == of.reasons


def test_a_report_of_an_older_schema_is_read() -> None:
    told = SESSION.to_json() | {"schema": 1}
    for later in ("tier", "interrupted"):
        del told[later]
    for each in told["rows"]:
        for later in ("levels", "stored_on", "pace"):
            del each[later]
    assert SessionReport.from_json(told) == SESSION


def test_a_report_of_a_newer_schema_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="schema 3; this version reads up to 2: update"):
        SessionReport.from_json(SESSION.to_json() | {"schema": 3})


def test_one_case_is_shown_with_its_sentence_arms_and_records() -> None:
    text = case_text(WHOLE)
    assert text.startswith(
        "speculative_decoding [tiny-ngram]: Speculation lowers TBT.\n(Li et al.)\n"
        "A: reasoning   against   B: plain\n\n"
    )
    assert text.count("against") == 1
    assert "* stale baseline: engine is b\n" in text
    assert text.endswith("\nrecords: records/here")


@pytest.mark.parametrize("name", OF_A_SESSION)
def test_every_format_takes_a_session_without_findings(
    name: str, written: Callable[..., str]
) -> None:
    assert "vllm 2" not in written(name, SessionReport(()))


@pytest.mark.parametrize("name", OF_A_SESSION)
def test_every_format_holds_the_decision_and_the_environment(
    name: str, written: Callable[..., str]
) -> None:
    text = written(name, SESSION)
    for said in ("not safe", "gate [tiny]: TBT: refuted", "metric gone: x", "cpu-x-2c", "mock 1"):
        assert said in text.lower() or said in text


def test_an_unknown_format_names_those_there_are() -> None:
    with pytest.raises(
        ValueError, match="unknown report 'html'; there are findings, json, markdown, table"
    ):
        FORMATS.load("html")


def test_a_format_of_another_package_is_one_file_and_one_entry_point(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed as pip would leave it: a module, and its distribution's metadata."""
    site = pytester.mkdir("site")
    (site / "rllm_counts.py").write_text(
        "def write(report, path):\n"
        "    path.write_text(f'{len(report.rows)} case(s), decision {report.decision}')\n"
    )
    info = site / "rllm_counts-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rllm-counts\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[pytest_rllm.reports]\ncounts = rllm_counts:write\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(registry, "_entries", registry._entries.__wrapped__)  # as a new process
    assert FORMATS.names() == ("findings", *OF_A_SESSION, "counts")
    pytester.makepyfile(
        """
        from pytest_rllm import finding
        from pytest_rllm.engines.base import EngineError

        @finding("A sentence.", cite="a source")
        def test_it(compare, model):
            raise EngineError("no engine here")
        """
    )
    result = pytester.runpytest_inprocess(
        "-p", "no:cacheprovider", "--rllm-model=tiny", "--rllm-report=counts:out.txt"
    )
    result.stdout.fnmatch_lines(["report: out.txt"])
    assert (pytester.path / "out.txt").read_text() == "1 case(s), decision None"


# ---- recorded runs


def test_a_rows_runs_are_read_with_their_series(tmp_path: Path) -> None:
    """Two comparisons of a case have files of the same names."""
    for number, block in itertools.product((0, 1), ("00-A", "00-B")):
        of = run(sample(f"q{number}"), arm=block, series={"kv_use": [0.25, 0.5 + number]})
        record(tmp_path / str(number) / f"{block}.jsonl", of)
    last = tmp_path / "1" / "00-B.jsonl"
    packed(last).write_bytes(lzma.compress(last.read_bytes()))
    last.unlink()
    (tmp_path / "1" / "00-A.jsonl.spool-0").write_bytes(b"left by a process that died")
    found = list(row(FASTER, records=str(tmp_path)).runs())
    assert [path.relative_to(tmp_path).as_posix() for path, _ in found] == [
        "0/00-A.jsonl",
        "0/00-B.jsonl",
        "1/00-A.jsonl",
        "1/00-B.jsonl",
    ]
    assert [of.header.arm for _, of in found] == ["00-A", "00-B"] * 2
    assert [of.series["kv_use"][1] for _, of in found] == [[0.25, 0.5]] * 2 + [[0.25, 1.5]] * 2


def test_a_row_whose_records_are_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"gone: there is no such folder of records; unpack"):
        list(row(FASTER, records=str(tmp_path / "gone")).runs())


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
