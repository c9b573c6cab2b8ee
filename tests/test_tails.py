"""What a claim lacks that holds for the typical block: its words, and how much more would do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from doubles.synthetic import SHARE, TIME

from pytest_rllm.verdicts.claims import (
    Claim,
    higher,
    lower,
    not_higher,
    not_lower,
    pct,
    pp,
    unchanged,
)
from pytest_rllm.verdicts.effects import Effects
from pytest_rllm.verdicts.tails import Lacking, lacking

FIVE = not_higher(TIME, by_more_than=pct(5))


def found(claim: Claim, far: int, size: float, *, typical: float = 0.0, n: int = 40) -> Lacking:
    """What a claim lacks on ``n`` blocks, of which some lie off by ``size``."""
    blocks = typical + np.random.default_rng(0).normal(0, 0.01, n)
    blocks[:far] += size
    effects = Effects(blocks.tolist(), "location")
    assert claim.of(effects.interval()) == "holds"
    lacks = lacking(claim, effects, 0.95)
    assert lacks is not None
    return lacks


def test_far_blocks_are_counted_with_the_share_that_all_may_have_and_what_they_cost() -> None:
    told = found(FIVE, 2, math.log(2))
    assert told.why.startswith(
        "it holds for the typical block, but 2 of 40 blocks lie far above it, and 17% of all may: "
        "the mean is +3.5 %, "
    )
    assert told.why.endswith("; more blocks would tell whether it holds for that, too")
    assert told.further is not None


def test_no_number_of_blocks_is_told_where_the_mean_itself_is_too_far_off() -> None:
    """More of them would only show more surely that the claim does not hold on average."""
    told = found(FIVE, 5, math.log(5))
    assert "5 of 40 blocks lie far above it" in told.why
    assert told.why.endswith("the mean is +22.2 %; find out what was different in these blocks")
    assert told.further is None


@pytest.mark.parametrize(
    ("claim", "typical", "size", "where"),
    [
        (not_lower(TIME, by_more_than=pct(5)), 0.0, -2.0, "below"),
        (unchanged(TIME, within=pct(5)), 0.0, -2.0, "below"),
        (unchanged(TIME, within=pct(5)), 0.0, 2.0, "above"),
        (lower(TIME, by=pct(10)), -0.15, 2.0, "above"),
        (higher(TIME, by=pct(10)), 0.15, -2.0, "below"),
        (not_lower(SHARE, by_more_than=pp(5)), 0.0, -0.8, "below"),
    ],
    ids=str,
)
def test_blocks_count_that_lie_on_the_side_of_the_harm(
    claim: Claim, typical: float, size: float, where: str
) -> None:
    assert f"3 of 40 blocks lie far {where} it" in found(claim, 3, size, typical=typical).why


@pytest.mark.parametrize(
    ("claim", "size"),
    [(FIVE, -2.0), (lower(TIME, by=pct(10)), -2.0)],
)
def test_single_blocks_on_the_other_side_need_not_be_known(claim: Claim, size: float) -> None:
    blocks = -0.3 + np.random.default_rng(0).normal(0, 0.01, 40)
    blocks[:1] += size
    assert lacking(claim, Effects(blocks.tolist(), "location"), 0.95) is None
