"""The comparison with inference-doctor, on few draws: no calibrated rule errs too often."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks" / "rival"
MANY, FEW = 10_000, 200
"""Draws for rules that are one line of numpy, and for ours, which takes a millisecond each."""


@pytest.fixture(scope="module")
def compare() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        import compare
    finally:
        sys.path.pop(0)
    return compare


def likely(draws: int) -> float:
    """Four standard deviations of a calibrated rule's error: each half of the draws is judged with
    a factor that both ends of the other half's intervals gave."""
    return 4 * math.sqrt((1 + 1 / 2) * 0.025 * 0.975 / draws)


@pytest.mark.parametrize("runs", [6, 24])
@pytest.mark.parametrize(
    "kind",
    ["independent", "drifting", "outliers", "servers", "pool, TBT", "pool, TTFT"],
)
def test_on_the_margin_no_calibrated_rule_errs_more_than_it_should(
    compare: ModuleType, kind: str, runs: int
) -> None:
    (noise,) = (noise for noise in compare.kinds() if noise.name == kind)
    draws = compare.drawn(noise, runs, MANY)
    for found in (compare.welch(draws), compare.paired_t(draws, noise)):
        errors = compare.errors(found, found.calibrated())
        assert max(errors) == pytest.approx(0.025, abs=likely(MANY))


@pytest.mark.parametrize("kind", ["independent", "outliers", "servers", "pool, TBT"])
def test_on_the_margin_our_rule_errs_no_more_than_it_should(compare: ModuleType, kind: str) -> None:
    (noise,) = (noise for noise in compare.kinds() if noise.name == kind)
    found = compare.ours(compare.drawn(noise, 6, FEW), noise)
    for factor in (1.0, found.calibrated()):
        assert max(compare.errors(found, factor)) < 0.025 + likely(FEW)


def test_a_spread_between_servers_makes_a_rule_err_that_is_not_told_of_it(
    compare: ModuleType,
) -> None:
    (noise,) = (noise for noise in compare.kinds() if noise.name == "servers")
    limit = 0.025 + likely(FEW)
    assert min(compare.errors(compare.welch(compare.drawn(noise, 12, MANY)))) > limit
    assert max(compare.errors(compare.ours(compare.drawn(noise, 12, FEW), noise))) < limit


OLD = (100.0, 103.0, 98.0, 101.0, 97.0, 104.0)
NEAR = (102.0, 99.0, 101.0, 100.0, 103.0, 98.0)
SLOW = (121.0, 118.0, 124.0, 119.0, 117.0, 122.0)
WILD = (105.0, 104.0, 180.0, 103.0, 106.0, 101.0)


@pytest.mark.parametrize(
    ("new", "confidence", "status", "low", "high"),
    [
        (NEAR, 0.90, "PASS", 0.9755532469231303, 1.025059373390406),
        (NEAR, 0.95, "PASS", 0.9698965097201527, 1.0310378375199363),
        (SLOW, 0.90, "FAIL", 1.1649814320437515, 1.2272043943090443),
        (SLOW, 0.95, "FAIL", 1.157993750924007, 1.2346097131800124),
        (WILD, 0.90, "INCONCLUSIVE", 0.9301422632270825, 1.4446756379141834),
        (WILD, 0.95, "INCONCLUSIVE", 0.8757652691219113, 1.5343767500917758),
    ],
)
def test_its_rule_answers_what_the_package_answered(
    compare: ModuleType,
    new: tuple[float, ...],
    confidence: float,
    status: str,
    low: float,
    high: float,
) -> None:
    """The figures are those of ``decide_regression`` of inference-doctor 0.4.1 at 5 %."""
    found = compare.welch(np.array([[new, OLD]]), confidence)
    assert np.exp([found.low[0], found.high[0]]) == pytest.approx([low, high], rel=1e-10)
    assert (found.safe(0.0)[0], found.not_safe(0.0)[0]) == (status == "PASS", status == "FAIL")


@pytest.mark.parametrize("runs", [6, 12, 24])
def test_a_slowdown_moves_our_interval_and_changes_nothing_else(
    compare: ModuleType, runs: int
) -> None:
    """Our function judges every slowdown anew and gives the words that the benchmark works out; of
    some that are safe by the typical run it says that the mean is not."""
    judged: Callable[..., Any] = sys.modules["rules"].judged
    words = set()
    for noise in (*compare.kinds(), compare.Noise("pausing", compare.pausing)):
        draws = compare.drawn(noise, runs, 5)
        found = compare.ours(draws, noise)
        for slowdown in (0.0, 0.05, 0.1, 0.2):
            slow = np.array([1 + slowdown, 1.0])[:, None]
            verdicts = [judged(draw * slow, noise).verdict for draw in draws]
            words |= set(verdicts)
            held = [v == "holds" for v in verdicts]
            safe = found.safe(slowdown)
            assert all(one >= other for one, other in zip(safe, held, strict=True))
            assert [v == "refuted" for v in verdicts] == list(found.not_safe(slowdown))
    assert words == {"holds", "refuted", "inconclusive"}


def test_the_page_has_a_row_for_every_noise_size_and_rule(compare: ModuleType) -> None:
    fresh = compare.tables(20)
    page = compare.TABLES.search(compare.PAGE.read_text(encoding="utf-8"))
    assert page is not None
    assert keys(fresh) == keys(page.group())
    assert len(keys(fresh)) == 6 * 3 * (1 + 4 + 3) + 3 * 3 + 4


def keys(tables: str) -> list[list[str]]:
    """The first two cells of every row: what it is a row of."""
    rows = [line for line in tables.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.split("|")[1:3]] for row in rows]
