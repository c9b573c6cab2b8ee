"""The page on the calibration says what its stored pool says, by the code of today."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pytest_rllm.baselines.machines import Machine

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks" / "calibration"


@pytest.fixture(scope="module")
def judging() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        import judge
    finally:
        sys.path.pop(0)
    return judge


def stored_machine() -> Machine:
    path = ROOT / "baselines" / "cpu-amd-avx512bf16-2c" / "vllm" / "machine.json"
    content = json.loads(path.read_text())
    return Machine("pool", content["server_spread"], content["sittings"])


def test_the_spread_between_servers_is_that_of_the_pool(judging: ModuleType) -> None:
    pool, known = judging.Pool(FOLDER / "pool.jsonl"), stored_machine()
    assert known.sittings == len(pool.sittings("speed", "A"))
    for load, names in judging.TIMED.items():
        for name in names:
            spread = judging.server_spread(pool.ratios(load, "A", name))
            assert spread == pytest.approx(known.server_spread[name], abs=5e-5)


def test_fresh_comparisons_end_as_the_page_says(judging: ModuleType) -> None:
    page = (FOLDER / "README.md").read_text()
    pool = judging.Pool(FOLDER / "pool.jsonl")
    rows = list(judging.fresh_rows(pool, stored_machine()))
    assert len(rows) == 10
    for row in rows:
        cells = " | ".join(row)
        assert f"| {cells} |" in " ".join(page.split()), cells


def test_no_sitting_of_equal_servers_is_called_not_safe_and_no_slow_one_safe(
    judging: ModuleType,
) -> None:
    pool = judging.Pool(FOLDER / "pool.jsonl")
    for _load, truth, _n, safe, not_safe, _unknown in judging.fresh_rows(pool, stored_machine()):
        if truth == "A/A":
            assert not_safe == "0"
        if truth in ("+10 %", "+20 %"):
            assert safe == "0"
