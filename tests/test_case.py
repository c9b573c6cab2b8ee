"""What one test case may and may not do with its comparisons."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from doubles.synthetic import MATCH, SHARE, TIME
from test_comparison import CACHING, WrittenDown, arm, prompts, twice

from pytest_rllm.baselines.machines import Machine
from pytest_rllm.baselines.store import Baselines
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, together
from pytest_rllm.metrics.latency import E2E
from pytest_rllm.models import PAIRS
from pytest_rllm.reports.progress import Progress
from pytest_rllm.session.case import BLOCKS, LOOKS, ClaimsNothing, Trial
from pytest_rllm.session.session import Bench
from pytest_rllm.session.upgrade import Builds
from pytest_rllm.verdicts.claims import higher, lower, no_worse, pct, pp

NEW, OLD = "vllm 2", "vllm 1"


@pytest.fixture
def source() -> WrittenDown:
    return WrittenDown()


@pytest.fixture
def trial(tmp_path: Path, source: WrittenDown) -> Trial:
    """A test case on a bench that measures nothing."""
    bench: Any = SimpleNamespace(
        source=lambda _pair: source,
        baselines=Baselines(tmp_path),
        records=tmp_path,
        shown_records=tmp_path,
        builds=None,
        machine=lambda hardware: Machine(hardware, {"time": 0.0}, 8),
    )
    return Trial("f", "c", "A sentence.", "a source", bench, PAIRS["tiny"], Path("f/c"))


@pytest.fixture
def gate(trial: Trial) -> Trial:
    """A test case in a session that compares two builds."""
    bench: Any = trial.bench
    bench.builds = Builds(NEW, OLD)
    bench.builds_compared = lambda: (NEW, OLD)
    return trial


def test_measure_runs_one_arm_under_its_name(trial: Trial, source: WrittenDown) -> None:
    run = trial.measure(arm(), "00-alone")
    assert source.order == ["00-alone.jsonl"]
    assert run.about["arm"] == "00-alone"
    assert run.about["finding"] == "f"
    assert len(run.samples) == 12


def test_servings_share_all_else_and_the_pairs_generous_budget(
    trial: Trial, source: WrittenDown
) -> None:
    comparison = trial.compare(Serving(), against=CACHING, prompts=prompts(12), workload=together())
    comparison.shows(higher(E2E, by=pct(5)))
    (((first, second), _),) = source.prepared
    assert first.sampling == second.sampling
    assert first.sampling.max_tokens == PAIRS["tiny"].generous
    assert first.prompts == second.prompts


def test_a_finding_that_does_not_say_has_blocks_enough_to_refute_one_of_two_claims(
    trial: Trial, source: WrittenDown
) -> None:
    source.value = twice
    comparison = trial.compare(arm(), against=arm(serving=CACHING))
    found = comparison.shows(higher(TIME, by=pct(5)), lower(SHARE, by=pp(5)))
    assert [(j.verdict, j.n) for j in found] == [("refuted", BLOCKS), ("holds", BLOCKS)]
    row = trial.conclude()
    assert (row.ending, row.standings) == ("fail", ["refuted", "holds (paper)"])
    assert row.remarks == []


def test_a_row_tells_what_a_reader_should_know(trial: Trial, source: WrittenDown) -> None:
    source.value = twice
    source.about = lambda block, letter: {"anchor_s": 9.0 if block == 7 else 0.1}
    trial.bench.machine = Machine  # type: ignore[assignment, method-assign]
    trial.compare(arm(), against=arm(serving=CACHING)).shows(lower(TIME, by=pct(5)))
    void, spread = trial.conclude().remarks
    assert void == "block 8 is void: its anchor probe took 9000 ms, 100 ms is usual"
    assert "was not measured: 2% is assumed" in spread


def test_servings_need_prompts_and_a_workload(trial: Trial) -> None:
    with pytest.raises(TypeError, match="needs prompts= and workload="):
        trial.compare(Serving(), against=CACHING)


def test_two_comparisons_that_would_hide_each_other_are_refused(trial: Trial) -> None:
    for _ in range(2):
        comparison = trial.compare(arm(), against=arm(serving=CACHING))
        comparison.shows(higher(E2E, by=pct(5)))
    with pytest.raises(ClaimsNothing, match=r"two comparisons .* same arms and metric"):
        trial.conclude()


@pytest.mark.parametrize("claimed", [True, False])
def test_a_comparison_of_which_nothing_is_claimed_is_refused(trial: Trial, claimed: bool) -> None:
    first, _ = (trial.compare(arm(), against=arm(serving=CACHING)) for _ in range(2))
    if claimed:
        first.shows(higher(E2E, by=pct(5)))
    with pytest.raises(ClaimsNothing, match=r"without .shows\(...\): nothing was claimed of it"):
        trial.conclude()


# ---- two builds


def compared(gate: Trial, **more: Any) -> Any:
    return gate.compare_builds(CACHING, prompts=prompts(60), workload=together(), **more)


def test_builds_serve_and_are_asked_alike(gate: Trial, source: WrittenDown) -> None:
    comparison = compared(gate, sampling=Sampling(7))
    assert comparison.arms == tuple(
        f"{build}: reasoning, prefix caching on easy" for build in (NEW, OLD)
    )
    comparison.shows(no_worse(SHARE, within=pp(5)))
    (new, old), fresh = source.prepared[0]
    assert (new.build, old.build, fresh) == (NEW, OLD, False)
    assert new.fingerprint == old.fingerprint
    assert new.sampling == old.sampling == Sampling(7)


def on_the_margin(block: int, letter: str) -> float:
    """Five points less, give or take three."""
    return 0.95 + (block % 5 - 2) / 64 if letter == "A" else 1.0


def test_builds_are_looked_at_until_they_are_told_apart(gate: Trial, source: WrittenDown) -> None:
    source.value = twice
    compared(gate).shows(no_worse(SHARE, within=pp(5)))
    assert len(source.order) == 2 * LOOKS[0]
    source.value = on_the_margin
    compared(gate).shows(no_worse(SHARE, within=pp(5)))
    assert len(source.order) == 2 * LOOKS[0] + 2 * LOOKS[-1]
    fresh = [False] + [True] * (len(LOOKS) - 1)
    assert [is_fresh for _, is_fresh in source.prepared] == [False, *fresh]


@pytest.mark.parametrize(
    ("worse", "ending", "standing"),
    [
        (0.05, "fail", "regression"),
        (0.0, "inconclusive", "inconclusive"),
        (-0.049, "pass", "no regression"),
    ],
)
def test_no_baseline_has_a_say_between_builds(
    gate: Trial, source: WrittenDown, tmp_path: Path, worse: float, ending: str, standing: str
) -> None:
    (tmp_path / MATCH["hardware"]).mkdir()
    (tmp_path / MATCH["hardware"] / "f.json").write_text("broken")
    source.value = lambda i, letter: on_the_margin(i, letter) - worse * (letter == "A")
    compared(gate).shows(no_worse(SHARE, within=pp(5)))
    row = gate.conclude()
    assert (row.ending, row.standings, row.notes) == (ending, [standing], [])
    assert row.records == str(tmp_path / "f/c")


def test_a_session_without_two_builds_says_what_is_needed(tmp_path: Path) -> None:
    bench = Bench("vllm", tmp_path, False, Baselines(tmp_path), "fail", None, Progress(None))
    trial = Trial("f", "c", "A sentence.", "a source", bench, PAIRS["tiny"], Path("f/c"))
    with pytest.raises(ValueError, match="needs a build to compare with: --rllm-against BUILD"):
        trial.compare_builds(Serving(), prompts=prompts(60), workload=together())
