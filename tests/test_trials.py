"""What one test case may and may not do with its comparisons."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_experiments import WrittenDown, arm, prompts

from pytest_rllm.baselines import Baselines
from pytest_rllm.claims import higher, pct
from pytest_rllm.metrics import E2E
from pytest_rllm.models import PAIRS
from pytest_rllm.serving import Serving
from pytest_rllm.trials import ClaimsNothing, Trial
from pytest_rllm.workloads import together


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    bench: Any = SimpleNamespace(
        source=lambda _pair: source, baselines=Baselines(tmp_path), records=tmp_path
    )
    source = WrittenDown()
    made = Trial("f", "c", "A sentence.", "a source", bench, PAIRS["tiny"], Path("f/c"))
    made.bench.seen = source  # type: ignore[attr-defined]
    return made


def test_measure_runs_one_arm_under_its_name(trial: Trial) -> None:
    run = trial.measure(arm(), "alone")
    assert trial.bench.seen.order == ["alone.jsonl"]  # type: ignore[attr-defined]
    assert run.about["arm"] == "alone"
    assert run.about["finding"] == "f"
    assert len(run.samples) == 12


def test_servings_share_all_else_and_the_pairs_generous_budget(trial: Trial) -> None:
    trial.compare(
        Serving(), against=Serving(prefix_caching=True), prompts=prompts(12), workload=together()
    )
    first, second = trial.bench.seen.prepared  # type: ignore[attr-defined]
    assert first.sampling == second.sampling
    assert first.sampling.max_tokens == PAIRS["tiny"].generous
    assert first.prompts == second.prompts


def test_servings_need_prompts_and_a_workload(trial: Trial) -> None:
    with pytest.raises(TypeError, match="needs prompts= and workload="):
        trial.compare(Serving(), against=Serving(prefix_caching=True))


def test_two_comparisons_that_would_hide_each_other_are_refused(trial: Trial) -> None:
    for _ in range(2):
        comparison = trial.compare(arm(), against=arm(serving=Serving(prefix_caching=True)))
        comparison.shows(higher(E2E, by=pct(5)))
    with pytest.raises(ClaimsNothing, match=r"two comparisons .* same arms and metric"):
        trial.conclude()
