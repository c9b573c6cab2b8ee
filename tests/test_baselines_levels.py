"""Stored levels beside fresh ones: whose they are, and what the machine explains of them."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest
from doubles.synthetic import judged, judgement

from benchmarks.statistics.drift_between_sessions import rates
from pytest_rllm.baselines.case import Case
from pytest_rllm.baselines.ledger import Stored
from pytest_rllm.baselines.levels import Level, beside, drifts
from pytest_rllm.metrics import ACCURACY, E2E, KV_SWING, TBT, TPS
from pytest_rllm.verdicts.claims import Claim, higher, lower, not_lower, pct, pp

HERE, OTHER = "0123456789ab", "ba9876543210"
FASTER = higher(TPS, by=pct(10))
RIGHT = not_lower(ACCURACY, by_more_than=pp(3))
SWINGS = higher(KV_SWING, by=pp(10))


def level(
    claim: Claim,
    was: float,
    now: float,
    *,
    spread: float = 0.0,
    machine: str = HERE,
    reference: tuple[float, float] = (0.02, 0.02),
    sessions: Stored = MappingProxyType({}),
    same_class: bool = True,
) -> Level:
    """The second arm's level beside the stored one; ``reference`` is the time of the load that is
    no engine, when it was stored and now."""
    key = f"1/b/{claim.metric.slug}"
    stored, fresh = (
        Case({}, levels={key: [value, spread]}, machine=where, reference_s={"1": seconds})
        for value, where, seconds in zip((was, now), (machine, HERE), reference, strict=True)
    )
    shown = judgement(*[(claim, judged(claim, "holds"))] * 2)
    (found,) = beside(stored, fresh, [shown], sessions, same_class=same_class)
    assert (found.key, found.stored, found.here) == (key, was, now)
    return found


@pytest.mark.parametrize(
    ("claim", "was", "now", "spread", "drifted"),
    [
        # Times move by 5 % between sessions, as long as nothing is known: 3 * 5 are 15.
        (FASTER, 100.0, 114.0, 0.0, False),
        (FASTER, 100.0, 116.0, 0.0, True),
        (FASTER, 100.0, 84.0, 0.0, True),
        # How far two arms lie apart by a claim says nothing of how fast either is.
        (higher(TPS, by=pct(40)), 100.0, 70.0, 0.0, True),
        (FASTER, 100.0, 144.0, 10.0, False),  # 3 * hypot(10, 10, 5) is 45
        (FASTER, 100.0, 146.0, 10.0, True),
        (RIGHT, 0.50, 0.52, 0.0, False),
        (RIGHT, 0.50, 0.54, 0.0, True),
        (RIGHT, 0.50, 0.54, 0.01, False),  # 3 * hypot(0.01, 0.01) is 0.042
        (SWINGS, 0.05, 0.14, 0.0, False),
        (SWINGS, 0.05, 0.16, 0.0, True),
    ],
)
def test_a_level_drifts_beyond_what_is_usual(
    claim: Claim, was: float, now: float, spread: float, drifted: bool
) -> None:
    found = level(claim, was, now, spread=spread)
    assert found.decides
    assert found.drift.startswith(f"1/b/{claim.metric.slug} ") is drifted


@pytest.mark.parametrize(
    ("values", "now", "drifted"),
    [
        # t(3) = 3.182, s = 1.472: 3.182 * 1.472 * sqrt(1 + 1 / 4) is 5.24
        ([99.0, 101.0, 98.5, 101.5], 106.0, True),
        ([99.0, 101.0, 98.5, 101.5], 105.0, False),
        ([90.0, 110.0, 85.0, 115.0], 120.0, False),
        # It is the mean of all sessions that a value is held against, not the last one.
        ([119.0, 121.0, 118.5, 121.5], 120.0, False),
        ([119.0, 121.0, 118.5, 121.5], 100.0, True),
    ],
)
def test_what_sessions_have_shown_replaces_what_is_assumed(
    values: list[float], now: float, drifted: bool
) -> None:
    assert bool(level(FASTER, 100.0, now, sessions={"1/b/tps": values}).drift) is drifted


@pytest.mark.parametrize("claim", [FASTER, lower(TBT, by=pct(10)), SWINGS])
@pytest.mark.parametrize("machine", [OTHER, ""])
def test_what_depends_on_the_machine_decides_nothing_on_another_one(
    claim: Claim, machine: str
) -> None:
    found = level(claim, 0.1, 0.9, machine=machine)
    assert (found.decides, found.drift) == (False, "")


def test_right_answers_are_compared_on_every_machine_of_a_class_and_on_no_other_class() -> None:
    assert level(RIGHT, 0.9, 0.5, machine=OTHER).drift
    found = level(RIGHT, 0.9, 0.5, machine=OTHER, same_class=False)
    assert (found.decides, found.drift) == (False, "")


@pytest.mark.parametrize(
    ("claim", "now", "reference", "drifted"),
    [
        # The machine takes 1.5 times as long: an engine may follow it fully, or not at all.
        (lower(E2E, by=pct(10)), 1.0, 1.5, False),
        (lower(E2E, by=pct(10)), 1.5, 1.5, False),
        (lower(E2E, by=pct(10)), 1.7, 1.5, True),
        (lower(E2E, by=pct(10)), 0.8, 1.5, True),
        (lower(E2E, by=pct(10)), 1.5, 1.0, True),
        (FASTER, 0.7, 1.5, False),
        (FASTER, 0.5, 1.5, True),
        (FASTER, 1.2, 1.5, True),
        # It became faster: an engine that did not follow is no slower engine.
        (lower(E2E, by=pct(10)), 1.0, 0.5, False),
        (lower(E2E, by=pct(10)), 0.5, 0.5, False),
        (lower(E2E, by=pct(10)), 1.2, 0.5, True),
    ],
)
def test_what_the_machine_explains_is_not_put_down_to_the_engine(
    claim: Claim, now: float, reference: float, drifted: bool
) -> None:
    found = level(claim, 1.0, now, reference=(0.02, 0.02 * reference))
    assert bool(found.drift) is drifted
    if drifted and reference != 1:
        assert f"{reference:.2f} times as long" in found.drift


@pytest.mark.parametrize(("reference", "decides"), [(1.1, True), (1.3, False), (0.7, False)])
def test_what_overlaps_is_compared_at_one_pace_only(reference: float, decides: bool) -> None:
    """A slower machine sees more of the swing, and not in proportion."""
    found = level(SWINGS, 0.05, 0.3, reference=(0.02, 0.02 * reference))
    assert found.decides is decides
    assert bool(found.drift) is decides


def test_without_a_reference_the_machine_explains_nothing() -> None:
    assert "went from 1 to 1.2, more than 0.15" in level(lower(E2E, by=pct(10)), 1.0, 1.2).drift


def test_the_drifts_of_a_case_are_its_levels_sentences() -> None:
    one = level(FASTER, 100.0, 50.0)
    assert list(drifts([one, replace(one, drift="")])) == [one.drift]


# ---- by simulation: six times of a test case, which move together with the machine


def test_levels_of_an_unchanged_engine_seldom_drift() -> None:
    """Before the prediction interval, 8 % of all levels and 30 % of all cases did."""
    for_each, for_a_case = rates(4, 1.0, 150)
    assert for_each < 0.02
    assert for_a_case < 0.05


def test_a_slower_engine_drifts_though_a_change_was_accepted_before() -> None:
    """Before, the accepted change counted as scatter, and nothing drifted."""
    assert rates(10, 1.3, 40, accepted=1.5)[1] > 0.9
