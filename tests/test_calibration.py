"""The page on the calibration says what its stored pool says, by the code of today."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.calibration import judge
from pytest_rllm.baselines.machines import machine

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks" / "calibration"


@pytest.fixture(scope="module")
def pool() -> judge.Pool:
    return judge.Pool(FOLDER / "pool.jsonl")


def test_the_stored_spread_between_servers_is_that_of_the_pool(pool: judge.Pool) -> None:
    stored = machine(ROOT / "baselines", "cpu-amd-avx2-2c", "vllm")
    found = judge.machine_of(pool, pool.sittings)
    assert (dict(stored.server_spread), stored.sittings) == (found.server_spread, found.sittings)


def test_sittings_that_are_all_alike_still_leave_room_for_a_spread_that_they_cannot_show() -> None:
    blocks = np.tile([0.04, -0.04], 6)
    few, many = (judge.spread_of([blocks] * sittings) for sittings in (5, 30))
    assert 0 < many < few < blocks.std(ddof=1) / np.sqrt(blocks.size)


def test_the_page_says_what_every_sitting_says_by_itself(pool: judge.Pool) -> None:
    page = " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())
    rows = [*judge.scatter_rows(pool), *judge.alone_rows(pool)]
    assert len(rows) == 8
    for row in rows:
        assert f"| {' | '.join(row)} |" in page, row


@pytest.mark.parametrize("load", judge.MARGINS)
@pytest.mark.parametrize(("factor", "never"), [(1.0, "not safe"), (1.1, "safe"), (1.2, "safe")])
def test_no_comparison_that_is_drawn_says_the_opposite_of_the_truth(
    pool: judge.Pool, load: str, factor: float, never: str
) -> None:
    words = [found.word for found in judge.Draws(pool, load, draws=12).compared(factor)]
    assert never not in words
    assert len(words) == 12


def test_every_line_of_the_pool_is_a_block_of_two_runs_in_turns(pool: judge.Pool) -> None:
    lines = [json.loads(line) for line in pool.path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 24 * len(pool.sittings)
    for line in lines:
        assert len(line["A"]["turns"]) == len(line["B"]["turns"]) >= 4
