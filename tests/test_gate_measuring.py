"""The gate measures no more than its decision needs, and says what it left out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from doubles.mock_session import DeclaringEngine, mock_engines
from doubles.mock_source import RecordingMockSource

from pytest_rllm.engines.base import EngineError
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.records.header import Header
from pytest_rllm.records.run import Run
from pytest_rllm.session.sources import EngineDied, Place
from pytest_rllm.session.upgrade import CANNOT_TELL


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are looked for whole."""
    monkeypatch.setenv("COLUMNS", "1000")


NEW, OLD = "engine 2", "engine 1"
SAID = {"vllm": NEW, "old": OLD}
"""What the options call them."""
GATE = """
from pytest_rllm import ACCURACY, E2E, Prompt, Sampling, Serving, no_worse, pct, pp, upgrade

QUESTIONS = [Prompt(f"q{i}", f"{i}?", "7", "easy", "math", f"q{i}") for i in range(128)]

def compared(compare_builds, workload):
    return compare_builds(
        Serving(), prompts=QUESTIONS, workload=workload.closed(2), sampling=Sampling(64),
        blocks=(16, 32),
    )

@upgrade("Answers come as fast and are as right.")
def test_both(compare_builds, workload):
    compared(compare_builds, workload).shows(
        no_worse(E2E, within=pct(5)), no_worse(ACCURACY, within=pp(5))
    )

@upgrade("Answers are as right.")
def test_answers(compare_builds, workload):
    compared(compare_builds, workload).shows(no_worse(ACCURACY, within=pp(20)))

@upgrade("Answers come as fast.")
def test_speed(compare_builds, workload):
    compared(compare_builds, workload).shows(no_worse(E2E, within=pct(5)))
"""
CASES = ["both-tiny", "answers-tiny", "speed-tiny"]
ARGS = ("-p", "no:cacheprovider", "-p", "no:randomly", "--rllm-model", "tiny")
LIVE = ("--rllm-against=old", "--rllm-record=records", "--rllm-inconclusive=skip")
KNOWN = (
    "the decision is known from gate [both-tiny]: not safe; "
    "--rllm-complete measures the other cases, too"
)


@dataclass
class GateSource(RecordingMockSource):
    """Records what two builds would have said.

    Attributes:
        failing: per arm's letter the number of requests that fail in each block.
        dies: per arm's engine and case what is raised when a run of theirs begins.
    """

    failing: Mapping[str, int] | None = None
    dies: Callable[[Arm, Header], Exception | None] = lambda _arm, _header: None

    def run(self, arm: Arm, path: Path, header: Header, place: Place) -> Run:
        if error := self.dies(arm, header):
            raise error
        return super().run(arm, path, header, place)

    def changed(self, run: Run, letter: str) -> None:
        for sample in run.samples[: (self.failing or {}).get(letter, 0)]:
            sample.error = "HTTP 500"


def speeds(new: float) -> Callable[[int, str], Any]:
    """Every answer is right; the new build takes so many times as long."""
    return lambda block, letter: (
        new * (1 + (block % 5 - 2) / 500) if letter == "A" else 1.0,
        4,
    )


@pytest.fixture
def source(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> GateSource:
    monkeypatch.delenv("CI", raising=False)
    source = GateSource(speeds(1.2), folder=pytester.path / "records")
    mock_engines(
        monkeypatch, source, {text: DeclaringEngine(label) for text, label in SAID.items()}
    )
    pytester.makepyfile(test_gate=GATE)
    return source


@pytest.fixture
def gate(pytester: pytest.Pytester, source: GateSource) -> Callable[..., pytest.RunResult]:
    def measured(*args: str) -> pytest.RunResult:
        return pytester.runpytest_inprocess(*ARGS, *LIVE, "-rs", *args)

    return measured


def told(result: pytest.RunResult) -> list[str]:
    """The decision and its reasons."""
    lines = result.outlines
    at = next(i for i, line in enumerate(lines) if line.startswith(f"{OLD} -> {NEW}: "))
    return list(itertools.takewhile(lambda line: not line.startswith("records: "), lines[at:]))


def blocks(source: GateSource) -> list[int]:
    """Blocks that were measured of each case, in the order of the cases."""
    counts: list[int] = []
    for name in source.order:
        if name == "00-A.jsonl":
            counts.append(0)
        counts[-1] += name.endswith("-B.jsonl")
    return counts


# ---- a decision that is known


def test_a_case_stops_at_the_look_at_which_a_claim_is_refuted(
    gate: Callable[..., pytest.RunResult], source: GateSource
) -> None:
    """Its other claim is open still, and no longer matters."""
    result = gate()
    assert blocks(source) == [16]
    assert result.ret == 1
    result.assert_outcomes(failed=1, skipped=2)
    result.stdout.fnmatch_lines(
        [
            "*E2E may rise by 5 % * 16 blocks * regression",
            "*accuracy may fall by 5 pp * inconclusive",
        ]
    )


def test_later_cases_are_skipped_with_the_reason_and_named_in_the_decision(
    gate: Callable[..., pytest.RunResult], source: GateSource
) -> None:
    result = gate()
    assert len(source.prepared) == 1, "no server is started for them"
    first, refuted, left_out = told(result)
    assert first == f"{OLD} -> {NEW}: NOT SAFE"
    assert refuted.startswith(
        "  gate [both-tiny]: E2E not higher by more than 5 %: refuted, +20.0 % ("
    )
    assert left_out == f"  2 cases were not measured: {KNOWN}"
    (skipped,) = [line for line in result.outlines if line.startswith("SKIPPED [2] ")]
    assert skipped.endswith(f": {KNOWN}")


def test_of_two_engines_every_case_is_measured_until_it_is_decided(
    gate: Callable[..., pytest.RunResult], source: GateSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = {text: DeclaringEngine(label) for text, label in SAID.items()}
    engines["old"].name = "another"  # type: ignore[misc]
    mock_engines(monkeypatch, source, engines)
    result = gate()
    assert blocks(source) == [16, 16, 16]
    assert result.ret == 1
    result.assert_outcomes(failed=2, passed=1)


@pytest.mark.parametrize("how", ["option", "ini"])
def test_the_whole_table_is_measured_when_it_is_asked_for(
    gate: Callable[..., pytest.RunResult],
    source: GateSource,
    pytester: pytest.Pytester,
    how: str,
) -> None:
    if how == "ini":
        pytester.makeini("[pytest]\nrllm_complete = true\n")
    result = gate(*(["--rllm-complete"] if how == "option" else []))
    assert blocks(source) == [32, 16, 16]
    assert result.ret == 1
    result.assert_outcomes(failed=2, passed=1)
    first, *reasons = told(result)
    assert first == f"{OLD} -> {NEW}: NOT SAFE"
    assert [reason.partition(":")[0] for reason in reasons] == [
        "  gate [both-tiny]",
        "  gate [speed-tiny]",
    ]


def test_while_the_decision_is_open_every_case_is_measured(
    gate: Callable[..., pytest.RunResult], source: GateSource
) -> None:
    source.value = speeds(1.05)
    result = gate()
    assert blocks(source) == [32, 16, 32]
    assert result.ret == CANNOT_TELL
    assert told(result)[0] == f"{OLD} -> {NEW}: CANNOT TELL YET"


def test_in_a_replay_everything_that_was_recorded_is_judged(
    gate: Callable[..., pytest.RunResult], source: GateSource, pytester: pytest.Pytester
) -> None:
    gate("--rllm-complete", "--rllm-report=json:live.json")
    args = ("--rllm-replay=records", "--rllm-inconclusive=skip", "--rllm-report=json:again.json")
    result = pytester.runpytest_inprocess(*ARGS, *args)
    assert result.ret == 1
    live, again = (json.loads(Path(f"{name}.json").read_text()) for name in ("live", "again"))
    assert again["replayed"]
    assert again["decision"] == live["decision"]
    assert again["rows"] == live["rows"]
    ns = [v["n"] for row in again["rows"] for j in row["judgements"] for v in j["verdicts"]]
    assert ns == [64, 16, 128, 16]


def test_a_replay_of_a_session_that_stopped_says_what_was_said(
    gate: Callable[..., pytest.RunResult], source: GateSource, pytester: pytest.Pytester
) -> None:
    live = gate()
    result = pytester.runpytest_inprocess(*ARGS, "--rllm-replay=records")
    assert result.ret == live.ret == 1
    assert told(result) == told(live)
    result.assert_outcomes(failed=1, skipped=2)


@pytest.mark.parametrize("text", ["{", "[]", '{"odd": 1}'])
def test_a_broken_memo_stops_a_replay_with_what_to_do(
    gate: Callable[..., pytest.RunResult], pytester: pytest.Pytester, text: str
) -> None:
    gate()
    (pytester.path / "records" / "session.json").write_text(text)
    result = pytester.runpytest_inprocess(*ARGS, "--rllm-replay=records")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*session.json: broken*record the session anew*"])


# ---- one arm broken


def test_requests_that_fail_in_the_new_build_alone_are_not_safe(
    gate: Callable[..., pytest.RunResult], source: GateSource
) -> None:
    source.value, source.failing = speeds(1.0), {"A": 1}
    result = gate()
    assert result.ret == 1
    first, reason, left_out = told(result)
    assert first == f"{OLD} -> {NEW}: NOT SAFE"
    assert reason == (
        f"  gate [both-tiny]: the new build alone: {NEW}: reasoning on easy: "
        "16 of 64 requests failed: HTTP 500"
    )
    assert left_out == f"  2 cases were not measured: {KNOWN}"
    assert blocks(source) == [16]
    result.assert_outcomes(failed=1, skipped=2)


def test_requests_that_fail_in_the_old_build_alone_cannot_tell(
    gate: Callable[..., pytest.RunResult], source: GateSource
) -> None:
    source.value, source.failing = speeds(1.0), {"B": 1}
    result = gate()
    assert result.ret == CANNOT_TELL == 8
    first, *reasons = told(result)
    assert first == f"{OLD} -> {NEW}: CANNOT TELL YET"
    text = f"{OLD}: reasoning on easy: 16 of 64 requests failed: HTTP 500"
    assert reasons == [f"  gate [{case}]: {text}" for case in CASES]
    result.assert_outcomes(errors=3)


def test_requests_that_fail_in_both_builds_cannot_tell(
    gate: Callable[..., pytest.RunResult], source: GateSource
) -> None:
    source.value, source.failing = speeds(1.0), {"A": 1, "B": 1}
    result = gate()
    assert result.ret == CANNOT_TELL
    assert told(result)[0] == f"{OLD} -> {NEW}: CANNOT TELL YET"


@pytest.mark.parametrize(
    ("engine", "word", "status"),
    [("vllm", "NOT SAFE", 1), ("old", "CANNOT TELL YET", CANNOT_TELL)],
)
def test_an_engine_that_dies_is_told_by_its_name(
    gate: Callable[..., pytest.RunResult],
    source: GateSource,
    engine: str,
    word: str,
    status: int,
) -> None:
    said = f"{SAID[engine]} died in the middle of a run, status 1"
    source.value = speeds(1.0)
    source.dies = lambda arm, header: (
        EngineDied(engine, f"{said}\n  | the log") if arm.engine == engine else None
    )
    result = gate()
    assert result.ret == status
    first, *reasons = told(result)
    assert first == f"{OLD} -> {NEW}: {word}"
    if engine == "vllm":
        assert reasons == [
            f"  gate [both-tiny]: {said}",
            f"  2 cases were not measured: {KNOWN}",
        ]
        result.assert_outcomes(errors=1, skipped=2)
    else:
        assert reasons == [f"  gate [{case}]: {said}" for case in CASES]
        result.assert_outcomes(errors=3)
    result.stdout.no_fnmatch_line("*Traceback*")


def test_two_builds_of_one_version_are_told_apart_when_one_dies(
    gate: Callable[..., pytest.RunResult], source: GateSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = {text: DeclaringEngine("engine 2", key=text) for text in SAID}
    mock_engines(monkeypatch, source, same)
    source.dies = lambda arm, header: (
        EngineDied("old", "engine 2 died in the middle of a run") if arm.engine == "old" else None
    )
    result = gate()
    assert result.ret == CANNOT_TELL
    result.stdout.fnmatch_lines(["engine 2 (old) -> engine 2: CANNOT TELL YET"])


def test_an_engine_is_not_compared_with_itself(
    gate: Callable[..., pytest.RunResult], source: GateSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    mock_engines(monkeypatch, source, {text: DeclaringEngine("engine 2") for text in SAID})
    result = gate()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--rllm-against: old is the engine that is measured: name *"])


def test_a_probe_that_is_always_refused_is_an_error_row_with_one_sentence(
    gate: Callable[..., pytest.RunResult], source: GateSource
) -> None:
    source.value = speeds(1.0)
    said = f"{NEW} refused a probe 3 times: POST http://x: HTTP Error 500"
    source.dies = lambda arm, header: (
        EngineError(f"{said}\n  | the log") if header.case == "answers-tiny" else None
    )
    result = gate("--rllm-report=json:out.json")
    assert result.ret == CANNOT_TELL
    rows = {row["case"]: row for row in json.loads(Path("out.json").read_text())["rows"]}
    assert (rows["answers-tiny"]["outcome"], rows["answers-tiny"]["notes"]) == ("error", [said])
    assert f"  gate [answers-tiny]: {said}" in told(result)
    result.stdout.no_fnmatch_line("*Traceback*")


# ---- what an engine cannot do


CACHE = """
@upgrade("A prefix cache answers as right.")
def test_cache(compare_builds, workload):
    compare_builds(
        Serving(prefix_caching=True), prompts=QUESTIONS, workload=workload.closed(2),
        sampling=Sampling(64), blocks=(16, 32),
    ).shows(no_worse(ACCURACY, within=pp(20)))
"""
KV = """
from pytest_rllm import KV_PEAK

@upgrade("The KV cache is as full.")
def test_kv(compare_builds, workload):
    compared(compare_builds, workload).shows(
        no_worse(KV_PEAK, within=pp(5)), no_worse(ACCURACY, within=pp(20))
    )
"""


@pytest.mark.parametrize("lacking", ["vllm", "old"])
def test_what_an_engine_cannot_do_is_named_and_leaves_the_decision_safe(
    gate: Callable[..., pytest.RunResult],
    source: GateSource,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    lacking: str,
) -> None:
    engines = {text: DeclaringEngine(label) for text, label in SAID.items()}
    can = engines[lacking].declared
    fewer = replace(can, prefix_caching=False, series=can.series - {"kv_use"})
    mock_engines(monkeypatch, source, engines | {lacking: DeclaringEngine(SAID[lacking], fewer)})
    source.value = speeds(1.0)
    pytester.makepyfile(test_gate=GATE + CACHE + KV)
    result = gate("-k", "answers or speed or cache or kv")
    result.assert_outcomes(passed=3, skipped=1, deselected=1)
    assert result.ret == 0
    cannot = "the engine 'declaring' cannot serve prefix caching"
    assert told(result) == [
        f"{OLD} -> {NEW}: SAFE",
        "  3 claims of no regression hold, in 3 cases",
        "  gate [kv-tiny]: KV peak not higher by more than 5 pp is not measured: "
        f"{SAID[lacking]} does not tell kv_use",
        f"  gate [cache-tiny]: not measured: {cannot}",
    ]
    result.stdout.fnmatch_lines([f"SKIPPED * {cannot}"])
    again = pytester.runpytest_inprocess(
        *ARGS, "--rllm-replay=records", "-k", "answers or speed or cache or kv"
    )
    again.assert_outcomes(passed=3, skipped=1, deselected=1)
    assert told(again) == told(result), "a replay knows what was not measured"
    assert all(not arm.serving.prefix_caching for arms, _ in source.prepared for arm in arms)
