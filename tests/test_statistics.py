"""What the review of the statistics found, by simulation, in a few draws each."""

from __future__ import annotations

import pytest

from benchmarks.statistics import answers, interleaved, servers, sessions, tails, voids
from benchmarks.statistics.servers import Setting


@pytest.mark.parametrize("scatter", tails.SCATTERS)
def test_few_far_slower_blocks_are_not_called_safe(scatter: float) -> None:
    """As it was, 10 % of blocks twice as slow passed in 76 to 94 %."""
    assert tails.shares(scatter, 0.1, 2.0, draws=60)["mean_too"] < 0.2
    assert tails.shares(scatter, 0.2, 5.0, draws=60)["mean_too"] < 0.05
    assert tails.shares(scatter, 0.0, 1.0, draws=60)["mean_too"] > 0.95


@pytest.mark.parametrize(("questions", "most"), [(528, 0.04), (132, 0.08), (96, 0.08)])
def test_lengths_on_the_margin_are_rarely_unchanged(questions: int, most: float) -> None:
    """By Student's t 4 to 8 %."""
    found = answers.lengths(questions, 400)
    assert found["score interval"] < found["t"] + 0.005
    assert found["score interval"] < most


def test_few_unequal_clusters_have_wider_intervals() -> None:
    found = answers.few_clusters(8, 400)
    assert found["CR2"] < 0.08 < found["clusters - 1"]


def test_answers_of_a_cluster_change_as_one() -> None:
    was, now = answers.unchanged_clusters()
    assert (round(was, 3), round(now, 3)) == (0.028, 0.116)


def test_storms_are_not_bounded_by_a_requests_size() -> None:
    """As it was, storms in a tenth of the blocks passed in a quarter of the comparisons."""
    assert sessions.storms(0.1, 12, 60, bursty=True) == 0
    assert sessions.storms(0.1, 30, 60, bursty=True) < 0.15
    assert sessions.storms(0.0, 30, 5, bursty=True) == 1


def test_a_case_errs_as_seldom_as_a_claim() -> None:
    case, gate = sessions.on_their_margins(300)
    assert case < 0.05
    assert gate < 0.3


def test_as_many_blocks_as_are_named_decide_four_times_out_of_five() -> None:
    """As it was, in half of the comparisons."""
    assert sessions.as_many_further(40) > 0.65


def test_a_refutation_survives_a_later_disturbance() -> None:
    assert sessions.disturbed_later() == "refuted"


def test_a_curve_errs_as_seldom_as_a_claim() -> None:
    """Three claims of four steps each, as many as can be on their margins; one step beyond."""
    truths = {name: steps for name, (_, steps) in sessions.CURVE.items()}
    assert sessions.curve(truths, 25)["any"][1] < 0.1
    held = sessions.curve(sessions.BEYOND, 25)
    assert max(held[name][0] for name in sessions.CURVE) < 0.1


def test_two_effects_on_their_margin_err_seldom() -> None:
    for held, refuted in sessions.effects_on_their_margin(25).values():
        assert max(held, refuted) < 0.1


# ---- where servers differ, engines void their blocks, and machines drift

GATE = {"scatter": 0.03}
ONE_PAIR = {"scatter": 0.02, "looks": (12,), "restarts": False}


@pytest.mark.parametrize(
    ("known", "between"), [(GATE, 0.03), (ONE_PAIR, 0.03), (ONE_PAIR, 0.04)], ids=str
)
def test_servers_further_apart_than_assumed_are_seldom_a_verdict(
    known: dict[str, object], between: float
) -> None:
    """On the margin; 2.5 % a side are meant. With the normal distribution and no pooling it was 8
    to 16 % a side."""
    found = servers.sessions(Setting(between, **known), 5, draws=150)  # type: ignore[arg-type]
    assert found.holds < 0.06
    assert found.refuted < 0.06


def test_what_is_clear_is_decided_on_an_unmeasured_machine() -> None:
    gate = Setting(0.02, scatter=0.03)
    assert servers.sessions(gate, 0, draws=40).holds > 0.7
    assert servers.sessions(gate, 20, draws=40).refuted > 0.9
    finding = Setting(0.02, looks=(16,), restarts=False, margin=25)
    assert servers.sessions(finding, 0, draws=40).holds > 0.8
    assert servers.sessions(finding, 75, draws=40).refuted > 0.8


@pytest.mark.parametrize("timed", [False, True], ids=["anchor probe", "reference load"])
def test_an_engine_does_not_pass_by_voiding_the_blocks_in_which_it_stalls(timed: bool) -> None:
    """A fifth of its blocks take twice as long; it passed in half of the sessions."""
    found = voids.sessions(stalled=0.2, factor=2.0, timed=timed, draws=80)
    assert found.get("holds", 0) < 0.15


@pytest.mark.parametrize("timed", [False, True], ids=["anchor probe", "reference load"])
def test_blocks_that_the_machine_disturbed_do_not_keep_a_claim_from_holding(timed: bool) -> None:
    found = voids.sessions(stalled=0.0, factor=1.0, timed=timed, draws=80)
    assert found["holds"] > 0.75
    assert found.get("invalid", 0) < 0.06


def test_a_machine_that_drifts_does_not_hide_a_slower_service() -> None:
    """A is 10 % slower and was measured earlier; it passed as safe."""
    early = interleaved.ORDERS[2]
    assert interleaved.endings(early, drift=40, draws=20) == {"invalid": 1.0}
    for order in interleaved.ORDERS[:2]:
        found = interleaved.endings(order, drift=0, draws=20, fresh_servers=True)
        assert found == {"fail": 1.0}
