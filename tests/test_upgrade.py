"""The gate's decision: what it follows from, what it costs, and how pytest ends with it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.mock_source import RecordingMockSource
from doubles.synthetic import MATCH, judged

from pytest_rllm.datasets.prompts import Prompt
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, closed
from pytest_rllm.metrics import ACCURACY, E2E
from pytest_rllm.records.header import Header
from pytest_rllm.reports.row import Row
from pytest_rllm.reports.session_report import Decision
from pytest_rllm.session.comparison import compare
from pytest_rllm.session.upgrade import CANNOT_TELL, Builds, decide
from pytest_rllm.verdicts.claims import no_worse, pct, pp
from pytest_rllm.verdicts.judge import Judged
from pytest_rllm.verdicts.judgement import Judgement
from pytest_rllm.verdicts.reasons import Reason

NEW, OLD = "vllm 2", "vllm 1"


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are looked for whole."""
    monkeypatch.setenv("COLUMNS", "1000")


FAST = no_worse(E2E, within=pct(5))
RIGHT = no_worse(ACCURACY, within=pp(5))

# ---- the decision


def row(*verdicts: Judged, outcome: Any = "pass", case: str = "tiny", **more: Any) -> Row:
    told: dict[str, Any] = {
        "finding": "gate",
        "case": case,
        "sentence": "As fast.",
        "cite": "x",
        "outcome": outcome,
        "judgements": (shown(*verdicts),) if verdicts else (),
        "statuses": tuple(one.verdict for one in verdicts),
        "records": "r",
    }
    return Row.from_json(Row(**told | more).to_json())


def shown(*verdicts: Judged, **more: Any) -> Judgement:
    return Judgement("1", ("a", "b"), verdicts, **more)


def decided(rows: list[Row], *left_out: Any) -> Decision:
    return decide(Builds(NEW, OLD), rows, *left_out)


HOLDS = judged(FAST, "holds", (-0.01, 0.0, 0.01))
WORSE = judged(RIGHT, "refuted", (-0.2, -0.15, -0.1))
OPEN = replace(judged(FAST, "inconclusive", (-0.01, 0.02, 0.1)), further=40, further_s=200.0)
LOST = replace(judged(RIGHT, "invalid", None, None), why="gpu0 was throttled")
LOST_ALL = Judgement("1", ("a", "b"), (LOST, LOST), (Reason("gpu0 was throttled", (RIGHT.slug,)),))


def test_safe_is_that_every_claim_of_every_case_holds() -> None:
    found = decided([row(HOLDS, HOLDS), row(HOLDS, case="huge")])
    assert found.word == "safe"
    assert found.reasons == ("3 claims of no regression hold, in 2 cases",)


@pytest.mark.parametrize(
    "others",
    [[], [row(HOLDS)], [row(OPEN, outcome="inconclusive")], [row(LOST, outcome="invalid")]],
    ids=["alone", "holds", "inconclusive", "invalid"],
)
@pytest.mark.parametrize("silent", [[], ["gate [huge]"]])
def test_one_refuted_claim_is_not_safe(others: list[Row], silent: list[str]) -> None:
    found = decided([*others, row(HOLDS, WORSE, outcome="fail", case="bad")], silent)
    assert found.word == "not safe"
    assert found.reasons == (
        "gate [bad]: accuracy not lower by more than 5 pp: refuted, -15.0 pp "
        "(-20.0 .. -10.0 at 95 %)",
    )


@pytest.mark.parametrize(
    ("claim", "cost"),
    [
        (OPEN, "about 40 more blocks would decide, 3 min"),
        (replace(OPEN, further_s=4.0), "about 40 more blocks would decide, 1 min"),
        (
            replace(OPEN, further=2157, further_s=37080.0),
            "the effect lies on the margin: it would take 2157 more blocks; what was measured "
            "decides on margins outside of -1.0 .. +10.5 %",
        ),
        (
            replace(OPEN, further=None, further_s=None),
            "the effect lies on the margin, or its scatter is unknown: more runs may not decide",
        ),
        (
            replace(OPEN, further=None, further_s=None, why="more fresh servers would decide"),
            "more fresh servers would decide",
        ),
    ],
)
def test_an_undecided_claim_cannot_tell_and_says_what_it_costs(claim: Judged, cost: str) -> None:
    found = decided([row(HOLDS), row(HOLDS, claim, outcome="inconclusive", case="open")])
    assert found.word == "cannot tell yet"
    said = "gate [open]: E2E not higher by more than 5 %: inconclusive, +2.0 %"
    assert found.reasons == (f"{said} (-1.0 .. +10.5 at 95 %); {cost}",)


@pytest.mark.parametrize(
    ("rows", "silent", "reasons"),
    [
        (
            [row(LOST, LOST, outcome="invalid", judgements=(LOST_ALL,))],
            [],
            ["gate [tiny]: gpu0 was throttled"],
        ),
        (
            [row(HOLDS), row(outcome="error", case="bad", notes=("vllm died",))],
            [],
            ["gate [bad]: vllm died"],
        ),
        ([row(HOLDS), row(outcome="error", case="bad")], [], ["gate [bad]: error"]),
        ([row(HOLDS)], ["gate [huge]"], ["gate [huge]: ended without a verdict"]),
        ([], [], ["no case compared the builds"]),
    ],
    ids=["invalid", "error", "error without a word", "silent", "nothing"],
)
def test_what_was_not_judged_cannot_tell(
    rows: list[Row], silent: list[str], reasons: list[str]
) -> None:
    found = decided(rows, silent)
    assert (found.word, found.reasons) == ("cannot tell yet", tuple(reasons))


# ---- one arm broken


def lost(side: Any, by_engine: bool | None, *verdicts: Judged, **more: Any) -> Row:
    reason = Reason("4 of 9 requests failed: HTTP 500", (RIGHT.slug,), side, by_engine)
    found = shown(*verdicts, reasons=(reason,))
    return row(*verdicts, judgements=(found,), **more)


@pytest.mark.parametrize(
    "verdicts",
    [(LOST,), (HOLDS, LOST), (LOST, OPEN)],
    ids=["alone", "beside holds", "beside inconclusive"],
)
def test_what_the_new_engine_alone_broke_is_not_safe(verdicts: tuple[Judged, ...]) -> None:
    found = decided([row(HOLDS), lost("A", True, *verdicts, outcome="fail", case="bad")])
    assert found.word == "not safe"
    assert found.reasons == ("gate [bad]: the new build alone: 4 of 9 requests failed: HTTP 500",)


@pytest.mark.parametrize(
    ("side", "by_engine"),
    [("B", True), (None, True), ("A", False), ("A", None), ("B", False), (None, False)],
)
def test_what_others_broke_cannot_tell(side: Any, by_engine: bool | None) -> None:
    """The old engine, both, the machine, or too few requests to know."""
    found = decided([row(HOLDS), lost(side, by_engine, LOST, outcome="invalid", case="bad")])
    assert found.word == "cannot tell yet"
    assert found.reasons == ("gate [bad]: 4 of 9 requests failed: HTTP 500",)


def died(label: str) -> Row:
    note = f"{label} died in the middle of a run, status 1; 9 requests so far"
    return row(outcome="error", case="bad", notes=(note,), died=label)


def test_a_new_engine_that_dies_is_not_safe_and_an_old_one_cannot_tell() -> None:
    for label, word in ((NEW, "not safe"), (OLD, "cannot tell yet")):
        found = decided([row(HOLDS), died(label)])
        assert found.word == word
        assert found.reasons == (
            f"gate [bad]: {label} died in the middle of a run, status 1; 9 requests so far",
        )


# ---- what was not measured


LEFT_OUT = "KV peak not higher by more than 5 pp is not measured: vllm 2 does not tell kv_use"


@pytest.mark.parametrize(
    ("rows", "word"),
    [([row(HOLDS)], "safe"), ([row(OPEN)], "cannot tell yet"), ([row(WORSE)], "not safe")],
    ids=["safe", "cannot tell", "not safe"],
)
def test_what_was_not_measured_is_named_and_decides_nothing(rows: list[Row], word: str) -> None:
    before = decided(rows)
    why = "the engine 'openai' cannot serve prefix caching"
    more = [
        row(outcome="skip", case="cache", notes=(why,)),
        row(
            HOLDS,
            case="kv",
            judgements=(shown(HOLDS, not_measured=(LEFT_OUT,)),),
        ),
        row(HOLDS, outcome="skip", case="half", notes=(f"only a part was measured: {why}",)),
    ]
    known = "the decision is known from gate [tiny]: not safe"
    left_out = {
        "gate [a]": "needs a GPU",
        "gate [b]": known,
        "gate [c]": known,
    }
    found = decided([*rows, *more], [], left_out)
    assert found.word == before.word == word
    assert found.reasons[len(before.reasons) :] == (
        f"gate [kv]: {LEFT_OUT}",
        f"gate [half]: only a part was measured: {why}",
        f"gate [cache]: not measured: {why}",
        "gate [a]: not measured: needs a GPU",
        f"2 cases were not measured: {known}",
    )


def test_a_session_in_which_nothing_could_be_measured_cannot_tell() -> None:
    found = decided([row(outcome="skip", notes=("the engine cannot",))], [], {"gate [a]": "no GPU"})
    assert found.word == "cannot tell yet"
    assert found.reasons == (
        "no case compared the builds",
        "gate [tiny]: not measured: the engine cannot",
        "gate [a]: not measured: no GPU",
    )


def test_the_decision_comes_first_and_what_the_engines_say_differently_last() -> None:
    builds = Builds(NEW, OLD, ["metric renamed: a -> b"])
    assert decide(builds, [row(HOLDS)]).lines() == [
        "vllm 1 -> vllm 2: SAFE",
        "  1 claim of no regression holds, in 1 case",
        "  metric renamed: a -> b",
    ]


# ---- which builds


def test_builds_are_kept_beside_the_records(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    assert Builds.read(folder) is None
    builds = Builds("vllm 2 (./é)", OLD, ["metric gone: x"])
    builds.write(folder)
    assert Builds.read(folder) == builds


@pytest.mark.parametrize("text", ["{", "[]", '{"new": "a"}', '{"new": "a", "old": "b", "odd": 1}'])
def test_a_broken_file_of_builds_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "upgrade.json").write_text(text)
    with pytest.raises(ValueError, match=r"upgrade\.json: broken .* record the session anew"):
        Builds.read(tmp_path)


# ---- the gate, on synthetic records

GATE = """
import pytest
from pytest_rllm import ACCURACY, E2E, Prompt, Sampling, Serving, finding, no_worse, pct, pp
from pytest_rllm import upgrade

QUESTIONS = [Prompt(f"q{i}", f"{i}?", "7", "easy", "math", f"q{i}") for i in range(128)]

def compared(compare_builds, workload):
    return compare_builds(
        Serving(), prompts=QUESTIONS, workload=workload.closed(2), sampling=Sampling(64),
        blocks=(16, 32),
    )

@upgrade("Answers come as fast.")
def test_gate_speed(compare_builds, workload):
    compared(compare_builds, workload).shows(no_worse(E2E, within=pct(5)))

@upgrade("Answers are as right.")
def test_gate_answers(compare_builds, workload):
    compared(compare_builds, workload).shows(no_worse(ACCURACY, within=pp(20)))
"""
FINDING = """
@finding("A sentence.", cite="a source")
def test_gate_finding(compare):
    raise AssertionError("must not run")
"""
CASES = ("gate-speed-tiny", "gate-answers-tiny")
ARGS = ("-p", "no:cacheprovider", "-p", "no:randomly", "--rllm-model", "tiny")


Speeds = Callable[[int], float]


def as_fast(block: int) -> float:
    return 1.0 + (block % 5 - 2) / 500


def slower(block: int) -> float:
    return 1.2 * as_fast(block)


def on_the_margin(block: int) -> float:
    return 1.05 + (block % 5 - 2) / 50


@pytest.fixture
def gate(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Record a session that compared two builds, and judge its records."""
    monkeypatch.delenv("CI", raising=False)
    machine = pytester.path / "baselines" / MATCH["hardware"] / MATCH["engine"] / "machine.json"
    machine.parent.mkdir(parents=True)
    machine.write_text(json.dumps({"server_spread": {"E2E": 0.0005}, "sittings": 9}))
    records = pytester.path / "records"
    Builds(NEW, OLD, ["metric renamed: a -> b"]).write(records)

    def judged_again(
        *args: str,
        speed: Speeds = as_fast,
        right: int = 4,
        blocks: int = 32,
        without: str = "",
        more: str = "",
        about: dict[str, Any] | None = None,
        run: Callable[..., pytest.RunResult] = pytester.runpytest_inprocess,
    ) -> pytest.RunResult:
        questions = [Prompt(f"q{i}", f"{i}?", "7", "easy", "math", f"q{i}") for i in range(128)]
        arms = [Arm(Serving(), questions, closed(2), Sampling(64), build) for build in (NEW, OLD)]
        for case in set(CASES) - {without}:
            source = RecordingMockSource(
                lambda block, letter: (speed(block), right) if letter == "A" else (1.0, 4),
                about=lambda block, letter: about or {},
                folder=records,
            )
            header = Header(finding="gate", case=case, pair="tiny")
            where = Path("gate") / case / "0"
            made = compare(source, *arms, blocks=(16, 32), where=where, header=header)
            for block in range(blocks):
                made.pair(block)
        pytester.makepyfile(test_gate=GATE + more)
        return run(*ARGS, f"--rllm-replay={records}", *args)

    return judged_again


def told(result: pytest.RunResult) -> list[str]:
    """The decision and its reasons."""
    lines = result.outlines
    at = next(i for i, line in enumerate(lines) if line.startswith("vllm 1 -> vllm 2: "))
    return list(itertools.takewhile(lambda line: not line.startswith("records: "), lines[at:]))


def test_a_safe_upgrade_ends_with_0(gate: Callable[..., pytest.RunResult]) -> None:
    result = gate()
    assert result.ret == 0
    result.assert_outcomes(passed=2)
    assert told(result) == [
        "vllm 1 -> vllm 2: SAFE",
        "  2 claims of no regression hold, in 2 cases",
        "  metric renamed: a -> b",
    ]
    result.stdout.fnmatch_lines(["*E2E may rise by 5 % * no regression"])


@pytest.mark.parametrize("inconclusive", ["skip", "fail"])
def test_an_upgrade_that_loses_speed_ends_with_1(
    gate: Callable[..., pytest.RunResult], inconclusive: str
) -> None:
    result = gate("--rllm-inconclusive", inconclusive, speed=slower)
    assert result.ret == 1
    result.assert_outcomes(passed=1, failed=1)
    first, reason, *_ = told(result)
    assert first == "vllm 1 -> vllm 2: NOT SAFE"
    assert reason.startswith(
        "  gate [gate-speed-tiny]: E2E not higher by more than 5 %: refuted, +20.0 % ("
    )


def test_an_upgrade_that_loses_answers_ends_with_1(
    gate: Callable[..., pytest.RunResult],
) -> None:
    result = gate(right=2)
    assert result.ret == 1
    assert (
        "gate [gate-answers-tiny]: accuracy not lower by more than 20 pp: refuted"
        in told(result)[1]
    )


@pytest.mark.parametrize(
    ("inconclusive", "outcomes"),
    [("skip", {"skipped": 1, "passed": 1}), ("fail", {"failed": 1, "passed": 1})],
)
def test_an_upgrade_that_is_undecided_ends_with_8_and_says_what_would_decide(
    gate: Callable[..., pytest.RunResult], inconclusive: str, outcomes: dict[str, int]
) -> None:
    result = gate("--rllm-inconclusive", inconclusive, speed=lambda i: on_the_margin(i) - 0.005)
    assert result.ret == CANNOT_TELL == 8
    result.assert_outcomes(**outcomes)
    first, reason, *_ = told(result)
    assert first == "vllm 1 -> vllm 2: CANNOT TELL YET"
    assert "inconclusive, +4." in reason
    assert "more blocks would decide, " in reason
    assert reason.endswith(" min")


BODIES = {
    "skipped": 'pytest.skip("not today")',
    "failed": 'assert False, "a mistake in the test"',
    "claims nothing": "compared(compare_builds, workload)",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_case_that_ended_without_a_verdict_is_not_safe(
    gate: Callable[..., pytest.RunResult], body: str
) -> None:
    more = f'\n@upgrade("More.")\ndef test_gate_more(compare_builds, workload):\n    {body}\n'
    result = gate(more=more)
    assert result.ret == CANNOT_TELL
    assert told(result)[:2] == [
        "vllm 1 -> vllm 2: CANNOT TELL YET",
        "  gate [gate-more-tiny]: ended without a verdict",
    ]


def test_cases_that_were_not_reached_are_not_safe(gate: Callable[..., pytest.RunResult]) -> None:
    more = """
@upgrade("More.")
def test_gate_more(compare_builds, workload):
    raise AssertionError("must not run")
"""
    result = gate("-x", "--rllm-inconclusive", "fail", speed=on_the_margin, more=more)
    assert result.ret in (CANNOT_TELL, pytest.ExitCode.INTERRUPTED)
    assert told(result)[0] == "vllm 1 -> vllm 2: CANNOT TELL YET"
    assert "  gate [gate-more-tiny]: ended without a verdict" in told(result)


def test_records_that_are_missing_are_not_safe(gate: Callable[..., pytest.RunResult]) -> None:
    result = gate(without="gate-answers-tiny")
    assert result.ret == CANNOT_TELL
    assert "gate [gate-answers-tiny]: " in told(result)[1]
    assert "00-A.jsonl: cannot be read" in told(result)[1]


def test_a_broken_file_on_the_machine_is_said_in_a_sentence(
    gate: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    (pytester.path / "baselines" / MATCH["hardware"] / MATCH["engine"] / "machine.json").write_text(
        "{"
    )
    result = gate()
    result.assert_outcomes(errors=2)
    assert result.ret == CANNOT_TELL
    result.stdout.fnmatch_lines(["*machine.json: *measure it anew*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*pytest_rllm/*.py:*")


def test_runs_that_cannot_be_judged_are_not_safe(gate: Callable[..., pytest.RunResult]) -> None:
    result = gate(about={"gpu_strangers": {"gpu0": "process 4711 of others"}})
    assert result.ret == CANNOT_TELL
    assert told(result)[0] == "vllm 1 -> vllm 2: CANNOT TELL YET"
    assert "gpu0 was shared: process 4711 of others" in told(result)[1]


def test_a_session_that_was_cut_short_after_a_look_tells_what_it_knows(
    gate: Callable[..., pytest.RunResult],
) -> None:
    assert gate(blocks=20, speed=slower).ret == 1
    assert gate(blocks=20, speed=on_the_margin).ret == CANNOT_TELL


def test_what_this_machine_cannot_run_is_left_out(gate: Callable[..., pytest.RunResult]) -> None:
    more = """
@pytest.mark.gpu(memory_gib=80)
@upgrade("On a GPU.")
def test_gate_gpu(compare_builds):
    raise AssertionError("must not run")
"""
    result = gate(more=more)
    result.assert_outcomes(passed=2, skipped=1)
    assert result.ret == 0
    first, _, left_out, *_ = told(result)
    assert first == "vllm 1 -> vllm 2: SAFE"
    assert left_out.startswith(
        "  gate [gate-gpu-tiny]: not measured: a GPU case that is not recorded in"
    )


def test_another_test_that_fails_keeps_its_failure(gate: Callable[..., pytest.RunResult]) -> None:
    more = "\ndef test_of_something_else():\n    assert False\n"
    assert gate(more=more).ret == 1
    assert gate(more=more, speed=on_the_margin).ret == CANNOT_TELL


def test_nothing_selected_is_no_decision(gate: Callable[..., pytest.RunResult]) -> None:
    assert gate("-k", "nothing_of_that_name").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_part_that_was_selected_is_decided_upon(gate: Callable[..., pytest.RunResult]) -> None:
    result = gate("-k", "answers", speed=slower)
    assert result.ret == 0
    assert told(result)[1] == "  1 claim of no regression holds, in 1 case"


def test_workers_would_know_a_part_of_the_cases_each(
    gate: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    result = gate("-n", "2", run=pytester.runpytest_subprocess)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "leave out -n, or --dist and --tx" in "\n".join(result.errlines + result.outlines)


def test_workers_are_known_by_xdist_itself(
    gate: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    result = gate("--tx", "2*popen", "--dist", "load", run=pytester.runpytest_subprocess)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: the upgrade gate takes one decision" in "\n".join(result.errlines)


# ---- which tests are meant


def test_findings_are_left_out_when_builds_are_compared(
    gate: Callable[..., pytest.RunResult],
) -> None:
    result = gate(more=FINDING)
    result.assert_outcomes(passed=2, deselected=1)
    assert result.ret == 0


@pytest.mark.parametrize(
    ("args", "asked", "left_out"),
    [
        ((), "test_gate_finding", "test_gate_speed"),
        (("--rllm-against", "vllm==0"), "test_gate_speed", "test_gate_finding"),
    ],
    ids=["findings", "upgrade"],
)
def test_either_findings_or_the_upgrade_are_asked_for(
    pytester: pytest.Pytester, args: tuple[str, ...], asked: str, left_out: str
) -> None:
    pytester.makepyfile(test_gate=GATE + FINDING + "\ndef test_plain(): pass\n")
    result = pytester.runpytest_inprocess(*ARGS, *args, "--collect-only", "-q")
    text = result.stdout.str()
    assert f"{asked}[tiny]" in text
    assert f"{left_out}[tiny]" not in text
    assert "test_plain" in text
    result.stdout.fnmatch_lines(["* deselected*"])
    assert result.ret == 0


def test_a_session_without_the_option_decides_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_gate=GATE)
    result = pytester.runpytest_inprocess(*ARGS)
    result.assert_outcomes(deselected=2)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize("mark", ["", '@finding("A sentence.", cite="a source")'])
def test_builds_cannot_be_compared_without_the_option(pytester: pytest.Pytester, mark: str) -> None:
    pytester.makepyfile(test_gate=GATE.replace('@upgrade("Answers come as fast.")', mark))
    result = pytester.runpytest_inprocess(*ARGS)
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*compare_builds needs a build to compare with: --rllm-against *"])


def test_a_case_of_the_upgrade_must_compare(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        'from pytest_rllm.plugin.findings import upgrade\n@upgrade("x")\ndef test_it(): pass'
    )
    result = pytester.runpytest_inprocess(*ARGS)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_it: a @finding must use a fixture of *"])


@pytest.mark.parametrize("judge", ["compare", "contract"])
def test_a_case_of_the_upgrade_compares_builds_and_nothing_else(
    pytester: pytest.Pytester, judge: str
) -> None:
    pytester.makepyfile(
        f'from pytest_rllm import upgrade\n@upgrade("x")\ndef test_it({judge}): pass'
    )
    result = pytester.runpytest_inprocess(*ARGS)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_it*: an @upgrade must use 'compare_builds'"])


def test_a_broken_file_of_builds_stops_the_session(
    gate: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    (pytester.path / "records" / "upgrade.json").write_text("{")
    result = gate()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*upgrade.json: broken*record the session anew*"])
