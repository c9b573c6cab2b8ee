"""Two arms on two different engines, in one session."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from doubles.arms import CACHING, arm, prompts
from doubles.mock_session import DeclaringEngine, measuring, mock_engines
from doubles.mock_source import MockSource, RecordingMockSource, twice
from doubles.synthetic import MATCH, SHARE, TIME, VALUE

from pytest_rllm.baselines.machines import Machine
from pytest_rllm.baselines.store import Baselines
from pytest_rllm.models import PAIRS
from pytest_rllm.records.header import Header
from pytest_rllm.session.case import FindingCase
from pytest_rllm.session.comparison import compare
from pytest_rllm.verdicts.claims import lower, pct, pp

OURS, OTHER = "engine 1", "engine 2"


def two_engines(block: int, letter: str) -> dict[str, Any]:
    """The second arm is served by another engine, on the same machine."""
    return {"match": MATCH | {"engine": "other", "engine_version": "7"}} if letter == "B" else {}


@pytest.fixture
def source() -> MockSource:
    return MockSource(twice, about=two_engines)


@pytest.fixture
def case(tmp_path: Path, source: MockSource) -> FindingCase:
    session = measuring(source, tmp_path, DeclaringEngine(OURS), DeclaringEngine(OTHER))
    return FindingCase("f", "c", "A sentence.", "a source", session, PAIRS["tiny"], Path("f/c"))


def test_arms_carry_the_labels_of_their_engines(case: FindingCase, source: MockSource) -> None:
    comparison = case.compare(arm(), against=arm(engine=OTHER))
    found = comparison.shows(lower(TIME, by=pct(10)))
    names = (f"{OURS}: reasoning on easy", f"{OTHER}: reasoning on easy")
    assert found.arms == found.verdicts[0].arms == names
    ((arms, fresh),) = source.prepared
    assert ([one.engine for one in arms], fresh) == (["", OTHER], False)
    assert [run.header.engine for run in comparison.blocks[0]] == ["", OTHER]


def test_two_builds_of_one_label_are_told_apart_by_how_the_arms_name_them(
    tmp_path: Path, source: MockSource
) -> None:
    other = DeclaringEngine(OURS)
    session = measuring(source, tmp_path, DeclaringEngine(OURS))
    session.engines.made["vllm@./other"] = other
    case = FindingCase("f", "c", "A sentence.", "x", session, PAIRS["tiny"], Path("f/c"))
    found = case.compare(arm(), against=arm(engine="vllm@./other")).shows(lower(TIME, by=pct(10)))
    assert found.arms == (
        f"{OURS}: reasoning on easy",
        f"{OURS} (vllm@./other): reasoning on easy",
    )


@pytest.mark.parametrize(
    ("templates", "invalid"),
    [
        (("a1 of 9 tokens", "b2 of 9 tokens"), True),
        (("a1 of 9 tokens", "9 tokens, ids not told"), False),
        (("a1 of 9 tokens", "8 tokens, ids not told"), True),
        (("8 tokens, ids not told", "9 tokens, ids not told"), True),
        (("a1 of 9 tokens", "not told"), False),
        (("not told", "not told"), False),
        (("a1 of 9 tokens", None), False),
    ],
)
def test_templates_are_compared_as_far_as_both_engines_tell_them(
    case: FindingCase, source: MockSource, templates: tuple[Any, Any], invalid: bool
) -> None:
    source.about = lambda block, letter: {"template": templates["AB".index(letter)]}
    found = case.compare(arm(), against=arm(engine=OTHER)).shows(lower(TIME, by=pct(10)))
    assert found.verdict == ("invalid" if invalid else "holds")
    assert bool(found.reasons) is invalid


def test_arms_of_one_engine_do_not_name_it(case: FindingCase) -> None:
    comparison = case.compare(arm(engine=OTHER), against=arm(engine=OTHER, serving=CACHING))
    found = comparison.shows(lower(TIME, by=pct(10)))
    assert found.arms == ("reasoning on easy", "reasoning, prefix caching on easy")


def test_the_match_of_two_engines_names_both(case: FindingCase) -> None:
    found = case.compare(arm(), against=arm(engine=OTHER)).shows(lower(TIME, by=pct(10)))
    assert found.match == {
        "hardware": MATCH["hardware"],
        "engine": "mock-vs-other",
        "engine_version": "1-vs-7",
        "models": MATCH["models"],
        "arms": found.match["arms"],
    }
    first, second = found.match["arms"].split()
    assert first == second, "both do the same"


def test_two_engines_have_a_baseline_of_their_own(
    case: FindingCase, source: MockSource, tmp_path: Path
) -> None:
    case.session.baselines = Baselines(tmp_path, frozenset({"create"}))
    case.compare(arm(), against=arm(engine=OTHER)).shows(lower(SHARE, by=pp(5)))
    assert case.conclude().outcome == "pass"
    case.session.baselines.store()
    stored = Baselines(tmp_path)
    assert list(stored.cases(MATCH["hardware"], "mock-vs-other", "f")) == ["c"]
    assert stored.cases(MATCH["hardware"], "mock", "f") == {}
    assert stored.cases(MATCH["hardware"], "other", "f") == {}


def test_the_report_names_each_engine_once(case: FindingCase) -> None:
    for other in (arm(engine=OTHER), arm(engine=OTHER)):
        case.compare(arm(), against=other).shows(lower(SHARE, by=pp(5)))
    case.session.rows.append(case.conclude())
    environment = case.session.report().environment
    assert environment["engines"] == ["mock 1", "other 7"]
    assert environment["hardware"] == [MATCH["hardware"]]


def test_each_engine_gives_half_of_what_is_known_of_its_servers(source: MockSource) -> None:
    """Of two servers of one engine 0.3 is known; of another engine nearly nothing."""
    spreads = {"mock": 0.3, "other": 0.0}

    def machine(hardware: str, engine: str) -> Machine:
        return Machine(hardware, {"time": spreads[engine]}, 8)

    def found(spread: Any) -> Any:
        made = compare(
            source,
            arm(prompts=prompts(60)),
            arm(prompts=prompts(60), engine=OTHER),
            blocks=10,
            where=Path("w"),
            header=Header(),
            machine=spread,
        )
        return made.shows(lower(TIME, by=pct(10)), lower(VALUE, by=pct(10)))

    def width(judged: Any) -> float:
        return judged.high - judged.low

    time, value = found(machine).verdicts
    alone, _ = found(lambda hardware, _: Machine(hardware, {"time": 0.0}, 8)).verdicts
    half, _ = found(lambda hardware, _: Machine(hardware, {"time": 0.3 / math.sqrt(2)}, 8)).verdicts
    assert width(value) == width(alone) < width(time) == pytest.approx(width(half))


# ---- through the plugin


FINDING = """
from pytest_rllm import (
    ACCURACY, Arm, Prompt, Sampling, Serving, finding, higher, pp
)

QUESTIONS = [Prompt(f"q{i}", f"{i}?", "7", "easy", "math", f"q{i}") for i in range(16)]

@finding("One engine answers better than another.", cite="this test")
def test_better(compare, workload, model):
    def served(engine):
        return Arm(Serving(), QUESTIONS, workload.closed(2), Sampling(64), engine=engine)

    compare(served(""), against=served("other"), blocks=2).shows(higher(ACCURACY, by=pp(5)))
"""
ARGS = ("-p", "no:cacheprovider", "-p", "no:randomly", "--rllm-model", "tiny")


def test_two_engines_are_compared_stored_and_replayed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = RecordingMockSource(
        lambda block, letter: (1.0, 8 * (letter == "A")),
        about=lambda block, letter: (
            two_engines(block, letter) | {"engine": OTHER if letter == "B" else OURS}
        ),
        folder=pytester.path / "records",
    )
    with monkeypatch.context() as patched:
        engines = {"vllm": DeclaringEngine(OURS), "other": DeclaringEngine(OTHER)}
        mock_engines(patched, source, engines)
        pytester.makepyfile(test_better=FINDING)
        live = ("--rllm-record=records", "--rllm-baseline=create", "--rllm-report=json:live.json")
        result = pytester.runpytest_inprocess(*ARGS, *live)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["engines: mock 1, other 7"])
    (written,) = (pytester.path / "baselines").rglob("better.json")
    assert written.parent.name == "mock-vs-other"
    replay = ("--rllm-replay=records", "--rllm-report=json:again.json")
    result = pytester.runpytest_inprocess(*ARGS, *replay)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*accuracy higher by 5 pp * holds"])
    live_rows, rows = (
        json.loads(Path(f"{name}.json").read_text())["rows"] for name in ("live", "again")
    )
    (judgement,) = rows[0]["judgements"]
    assert judgement["arms"] == [f"{OURS}: reasoning on easy", f"{OTHER}: reasoning on easy"]
    assert live_rows[0]["judgements"] == rows[0]["judgements"]
