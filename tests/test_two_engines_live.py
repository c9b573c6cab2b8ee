"""Two engines in one session, over real HTTP: the mock engine that we start against one that runs
already, and against real vLLM."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_rllm.engines.mock.engine import MockEngine
from pytest_rllm.engines.pool import Pool
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.models import PAIRS
from pytest_rllm.session.upgrade import CANNOT_TELL


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are looked for whole."""
    monkeypatch.setenv("COLUMNS", "1000")


FINDING = """
from pytest_rllm import ACCURACY, FAILED, Arm, Sampling, Serving, finding, higher, not_higher, pp

@finding("One engine is right more often than another, and fails no more often.", cite="this test")
def test_right(compare, dataset, workload):
    def served(engine):
        return Arm(Serving(), dataset("easy", n=48), workload.closed(8), Sampling(512), engine)

    compare(served("FIRST"), against=served("SECOND"), blocks=2).shows(
        higher(ACCURACY, by=pp(10)), not_higher(FAILED, by_more_than=pp(10))
    )
"""
GATE = """
from pytest_rllm import ACCURACY, Sampling, Serving, no_worse, pp, upgrade

@upgrade("Answers are as right.")
def test_right(compare_builds, dataset, workload):
    compare_builds(
        Serving(), prompts=dataset("easy", n=48), workload=workload.closed(8),
        sampling=Sampling(512), blocks=(2, 4),
    ).shows(no_worse(ACCURACY, within=pp(30)))
"""
ARGS = ("-p", "no:cacheprovider", "-p", "no:randomly", "--rllm-model", "tiny")
Start = Callable[..., str]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start mock engines of somebody else, by their flags; gives their URLs."""
    with Pool(tmp_path / "servers") as pool:
        yield lambda *flags: pool.serve(MockEngine(), Serving(flags=flags), PAIRS["tiny"]).url


def write(folder: Path, first: str, second: str) -> None:
    text = FINDING.replace("FIRST", first).replace("SECOND", second)
    (folder / "test_right.py").write_text(text)


def rows(name: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(Path(name).read_text())["rows"]
    return found


@pytest.mark.parametrize("adapter", ["mock", "openai"])
def test_the_mock_engine_is_compared_with_a_server_that_runs_already(
    start: Start, pytester: pytest.Pytester, tmp_path: Path, adapter: str
) -> None:
    (tmp_path / "answers.json").write_text("{}")
    url = start("--accuracy", "0.2", "--answers", str(tmp_path / "answers.json"))
    write(pytester.path, "", f"{adapter}@{url}")
    result = pytester.runpytest_inprocess(
        *ARGS,
        "--rllm-engine=mock",
        "--rllm-record=records",
        "--rllm-baseline=create",
        "--rllm-report=json:live.json",
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "--rllm-baseline stores nothing of right ?tiny?: a mock engine measured it, *",
            "*accuracy higher by 10 pp * 48 questions * holds (paper)",
            "*failed requests may rise by 10 pp * holds (paper)",
        ]
    )
    assert not (pytester.path / "baselines").exists()
    (row,) = rows("live.json")
    (judgement,) = row["judgements"]  # type: ignore[misc]
    first, second = judgement["arms"]
    assert first == "mock engine: reasoning on easy"
    assert second.endswith(f" at {url}: reasoning on easy")
    engines = "mock" if adapter == "mock" else "mock-vs-openai"
    assert judgement["match"]["engine"] == engines
    logs = list((pytester.path / "records" / "servers").glob("*.log"))
    assert len(logs) == 1, "the other server was running"

    again = pytester.runpytest_inprocess(
        *ARGS, "--rllm-replay=records", "--rllm-report=json:again.json"
    )
    again.assert_outcomes(passed=1)
    assert rows("again.json") == rows("live.json")


@pytest.mark.parametrize(
    ("new_fails", "said", "status"),
    [
        (True, "NOT SAFE\n  right [tiny]: the new build alone: ", 1),
        (False, "CANNOT TELL YET\n  right [tiny]: ", CANNOT_TELL),
    ],
    ids=["new", "old"],
)
def test_the_gate_tells_which_engine_fails(
    start: Start, pytester: pytest.Pytester, new_fails: bool, said: str, status: int
) -> None:
    url = start("--fail-share", "0.34")
    (pytester.path / "test_right.py").write_text(GATE)
    new, old = f"mock@{url}", "mock"
    if not new_fails:
        new, old = old, new
    result = pytester.runpytest_inprocess(
        *ARGS, f"--rllm-engine={new}", f"--rllm-against={old}", "--rllm-record=records"
    )
    assert result.ret == status
    text = result.stdout.str()
    assert f": {said}" in text
    assert "requests failed: HTTP 500" in text
    assert f"mock engine at {url}: reasoning on easy: " in text


# ---- real vLLM


@pytest.mark.engine
def test_the_mock_engine_is_compared_with_real_vllm(pytester: pytest.Pytester) -> None:
    write(pytester.path, "mock", "")
    result = pytester.runpytest_inprocess(
        *ARGS,
        "--rllm-engine=vllm",
        "--rllm-record=records",
        "--rllm-inconclusive=skip",
        "--rllm-report=json:live.json",
    )
    outcomes = result.parseoutcomes()
    assert outcomes.keys() <= {"passed", "skipped", "failed"}, "whatever it is, it is a verdict"
    (row,) = rows("live.json")
    (judgement,) = row["judgements"]  # type: ignore[misc]
    first, second = judgement["arms"]
    assert first == "mock engine: reasoning on easy"
    assert second.startswith("vllm")
    assert judgement["match"]["engine"] == "mock-vs-vllm"
    assert judgement["match"]["engine_version"].startswith("mock-vs-")
    verdicts = {v["metric"]: v for v in judgement["verdicts"]}
    assert verdicts["failed requests"]["verdict"] == "holds"
    assert verdicts["accuracy"]["verdict"] in ("holds", "refuted", "inconclusive")
    assert all(level > 0 for level in verdicts["accuracy"]["levels"]), "both answered"
    logs = sorted(path.name for path in (pytester.path / "records" / "servers").glob("*.log"))
    assert len(logs) == 2
    again = pytester.runpytest_inprocess(
        *ARGS,
        "--rllm-replay=records",
        "--rllm-inconclusive=skip",
        "--rllm-report=json:again.json",
    )
    assert again.parseoutcomes() == outcomes
    assert rows("again.json") == rows("live.json")
