"""An effect that became worse than the stored one is said to be, whatever its claim's verdict."""

from __future__ import annotations

from dataclasses import replace

import pytest
from doubles.synthetic import MACHINE, judged, judgement

from benchmarks.statistics.worse_than_stored import KNOWN, WEAK, Truth, of_percent, rates
from pytest_rllm.baselines.case import Case, fresh_case
from pytest_rllm.baselines.compare import Outcome, decide
from pytest_rllm.metrics import ACCURACY, E2E, KV_PEAK, OUTPUT_TOKENS, TBT, TTFVT
from pytest_rllm.verdicts.claims import (
    Claim,
    Verdict,
    higher,
    lower,
    not_higher,
    not_lower,
    pct,
    pp,
    unchanged,
)

MATCH = {"hardware": "cpu-synthetic-2c", "engine": "mock", "engine_version": "1"}
Effect = tuple[float, float, float]
FASTER = lower(TBT, by=pct(10))


def case(claim: Claim, effect: Effect, **about: str) -> Case:
    """What a session stores that measured this effect."""
    return fresh_case([shown(claim, effect, **about)])


def shown(claim: Claim, effect: Effect, **about: str):  # type: ignore[no-untyped-def]
    verdict: Verdict = claim.verdict(effect[0], effect[2])
    machine = about.pop("machine", MACHINE)
    match = {**MATCH, **about}
    return judgement((claim, judged(claim, verdict, effect)), match=match, machine=machine)


def outcome(claim: Claim, before: Effect, now: Effect, **about: str) -> Outcome:
    fresh = [shown(claim, now)]
    return decide(fresh, fresh_case(fresh), case(claim, before, **about))


def around(middle: float, half: float = 0.02) -> Effect:
    return middle - half, middle, middle + half


@pytest.mark.parametrize(
    ("claim", "before", "now", "status"),
    [
        (FASTER, -0.03, 0.24, "worse"),  # known not to hold
        (FASTER, -0.03, 0.01, "known deviation"),  # less than half the margin
        (FASTER, -0.60, -0.20, "worse"),  # it holds, by less than it did
        (FASTER, -0.20, -0.60, "holds"),
        (FASTER, -0.60, -0.10, "worse"),  # undecided now
        (not_lower(ACCURACY, by_more_than=pp(10)), -0.15, -0.25, "worse"),
        (not_lower(ACCURACY, by_more_than=pp(10)), -0.25, -0.15, "known deviation"),
        (not_higher(E2E, by_more_than=pct(10)), 0.00, 0.06, "worse"),
        (unchanged(OUTPUT_TOKENS, within=pct(10)), 0.00, -0.06, "worse"),
        (unchanged(OUTPUT_TOKENS, within=pct(10)), 0.06, 0.00, "holds"),
        (unchanged(ACCURACY, within=pp(10)), 0.00, 0.07, "holds"),  # better answers
        (unchanged(ACCURACY, within=pp(10)), 0.00, -0.07, "worse"),
        # Less of what nobody wants is no loss, though it is what was found.
        (higher(TTFVT, by=pct(25)), 0.60, 0.40, "holds"),
    ],
    ids=str,
)
def test_what_leads_away_from_the_claim_is_worse(
    claim: Claim, before: float, now: float, status: str
) -> None:
    found = outcome(claim, around(before), around(now))
    assert found.statuses == [status]
    assert bool([note for note in found.notes if note.startswith("worse than stored")]) is (
        status == "worse"
    )
    assert (found.ending == "fail") is (status == "worse")


def test_the_sentence_holds_both_effects_and_their_difference() -> None:
    found = outcome(FASTER, around(0.0), around(0.2))
    assert found.notes == [
        "worse than stored: TBT lower by 10 %: the effect was +0.0 % and is +22.1 %, "
        "a change of +22.1 (+18.7 .. +25.6) %"
    ]


def test_wide_intervals_show_no_change() -> None:
    assert outcome(FASTER, around(0.0, 0.09), around(0.1, 0.15)).statuses == ["known deviation"]


@pytest.mark.parametrize(
    ("claim", "elsewhere", "other_machine"),
    [
        (FASTER, False, True),
        (not_lower(ACCURACY, by_more_than=pp(10)), True, True),
        (not_higher(KV_PEAK, by_more_than=pp(5)), False, False),
    ],
    ids=str,
)
def test_where_a_stored_effect_can_be_compared(
    claim: Claim, elsewhere: bool, other_machine: bool
) -> None:
    """Of another class of machine, and of another machine of this class."""
    sign = 1 if claim.verb != "not_lower" else -1
    before, now = around(sign * 0.15), around(sign * 0.4)
    there = case(claim, before, hardware="cpu-other-8c")
    fresh = [shown(claim, now)]
    found = decide(fresh, fresh_case(fresh), None, elsewhere={"cpu-other-8c": there})
    assert (found.statuses == ["worse"]) is elsewhere
    assert outcome(claim, before, now).statuses == ["worse"]
    found = outcome(claim, before, now, machine="ba9876543210")
    assert (found.statuses == ["worse"]) is other_machine


def test_what_a_new_version_made_worse_is_told_before_it_is_accepted() -> None:
    found = outcome(FASTER, around(0.0), around(0.2), engine_version="0")
    assert [note.partition(":")[0] for note in found.notes] == [
        "stale baseline",
        "worse than stored",
    ]
    assert outcome(FASTER, around(0.0), around(0.2), arms="others").statuses == ["known deviation"]


# ---- by simulation


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (KNOWN, replace(KNOWN, tbt=of_percent(27))),
        (Truth(of_percent(-45)), Truth(of_percent(-25))),
    ],
    ids=["known deviation", "holds"],
)
def test_a_loss_is_not_hidden(before: Truth, now: Truth) -> None:
    failed, _ = rates(before, now, 40)
    assert failed > 0.9


@pytest.mark.parametrize("truth", [Truth(), KNOWN, WEAK])
def test_an_unchanged_engine_seldom_fails(truth: Truth) -> None:
    failed, _ = rates(truth, truth, 60)
    assert failed < 0.1
