"""Verdicts are summed up in one written order."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from pytest_rllm.verdicts.claims import Verdict
from pytest_rllm.verdicts.precedence import overall


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (("refuted", "invalid", "inconclusive", "holds"), "refuted"),
        (("refuted", "invalid"), "refuted"),
        (("invalid", "inconclusive", "holds"), "invalid"),
        (("invalid", "holds"), "invalid"),
        (("inconclusive", "holds"), "inconclusive"),
        (("holds", "holds"), "holds"),
        (("refuted",), "refuted"),
    ],
    ids=" ".join,
)
def test_the_first_of_the_order_decides_wherever_it_stands(
    verdicts: tuple[Verdict, ...], expected: Verdict
) -> None:
    for order in itertools.permutations(verdicts):
        assert overall(order) == expected


@pytest.mark.parametrize(
    ("verdicts", "message"),
    [([], "no verdicts"), (["holds", "passed"], "unknown verdicts: passed")],
)
def test_what_is_no_verdict_is_no_silent_success(verdicts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        overall(verdicts)
