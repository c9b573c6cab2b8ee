"""How often verdicts are wrong where servers differ, engines void their blocks, machines drift."""

from __future__ import annotations

import pytest

from benchmarks.statistics import interleaved, servers, voids
from benchmarks.statistics.servers import Setting

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
