"""The claims of the metamorphic checks can tell a right engine from a broken one."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from benchmarks.statistics.same_answers import RULES, accuracy, shares
from pytest_rllm.metrics import ACCURACY, EARLY_AGREEMENT

FINDINGS = Path(__file__).parent.parent / "tests_findings" / "test_metamorphic.py"


@pytest.fixture(scope="module")
def margins() -> dict[str, float]:
    """In points, by the metric's name."""
    return {one.metric.name: one.margin.size for one in runpy.run_path(str(FINDINGS))["SAME"]}


def test_the_finding_claims_what_was_simulated(margins: dict[str, float]) -> None:
    assert margins.keys() == {ACCURACY.name, EARLY_AGREEMENT.name}


@pytest.mark.parametrize("length", [150, 1000, 4000])
def test_rounding_in_long_answers_refutes_nothing_and_spoilt_requests_do(length: int) -> None:
    rule = RULES["first 500 characters"]
    held, refuted = shares(rule, (length, 1e-4, 0.0), 200)
    assert held > 0.5
    assert refuted == 0
    assert shares(rule, (length, 1e-4, 0.15), 200)[1] > 0.95


def test_accuracy_holds_though_some_answers_change(margins: dict[str, float]) -> None:
    """Within 3 points it held in 54 % of such sessions."""
    assert accuracy(160, margins[ACCURACY.name], 0.01, 0.0, 400)[0] > 0.85
    assert accuracy(160, margins[ACCURACY.name], 0.01, 0.12, 400)[1] > 0.7
