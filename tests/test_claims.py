"""Each verb is one rule on an interval, and an effect is paired as its metric asks."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from synthetic import SHARE, VALUE, answers, run, sample, valued

from pytest_rllm.claims import (
    Claim,
    Judged,
    Margin,
    higher,
    judge,
    lower,
    not_higher,
    not_lower,
    pct,
    pp,
    unchanged,
)
from pytest_rllm.metrics import ACCURACY, KV_PEAK, OUTPUT_TOKENS, Metric
from pytest_rllm.samples import Run

ARMS = ("fp8", "bf16")
Verb = Callable[[Metric, Margin], Claim]


def verdict(claim: Claim, low: float, high: float) -> str:
    """Of an interval in per cent or percentage points."""
    if claim.margin.scale == "points":
        return claim.verdict(low / 100, high / 100)
    return claim.verdict(math.log1p(low / 100), math.log1p(high / 100))


def judged_on(claim: Claim, *pairs: tuple[Run, Run]) -> Judged:
    return judge(claim, pairs, ARMS)


@pytest.mark.parametrize(
    ("verb", "low", "high", "expected"),
    [
        ("lower", -20, -11, "holds"),
        ("lower", -20, -9, "inconclusive"),
        ("lower", -9, -1, "refuted"),
        ("lower", 11, 20, "refuted"),
        ("higher", 11, 20, "holds"),
        ("higher", 9, 20, "inconclusive"),
        ("higher", 1, 9, "refuted"),
        ("higher", -20, -11, "refuted"),
        ("not_lower", -9, 5, "holds"),
        ("not_lower", 11, 20, "holds"),
        ("not_lower", -11, -9, "inconclusive"),
        ("not_lower", -20, -11, "refuted"),
        ("not_higher", -5, 9, "holds"),
        ("not_higher", -20, -11, "holds"),
        ("not_higher", 9, 11, "inconclusive"),
        ("not_higher", 11, 20, "refuted"),
        ("unchanged", -9, 9, "holds"),
        ("unchanged", -11, 9, "inconclusive"),
        ("unchanged", -9, 11, "inconclusive"),
        ("unchanged", -20, 20, "inconclusive"),
        ("unchanged", 11, 20, "refuted"),
        ("unchanged", -20, -11, "refuted"),
    ],
)
@pytest.mark.parametrize("scale", [pct, pp])
def test_verdict_of_an_interval_beside_a_margin_of_ten(
    scale: Callable[[float], Margin], verb: str, low: float, high: float, expected: str
) -> None:
    claim = Claim(verb, SHARE, scale(10))  # type: ignore[arg-type]
    assert verdict(claim, low, high) == expected


@pytest.mark.parametrize(
    ("verb", "low", "high"),
    [
        ("lower", -0.5, -0.1),
        ("lower", -0.1, 0.5),
        ("higher", 0.1, 0.5),
        ("higher", -0.5, 0.1),
        ("not_lower", -0.1, 0.5),
        ("not_lower", -0.5, -0.1),
        ("not_higher", -0.5, 0.1),
        ("not_higher", 0.1, 0.5),
        ("unchanged", -0.1, 0.05),
        ("unchanged", -0.05, 0.1),
        ("unchanged", 0.1, 0.5),
        ("unchanged", -0.5, -0.1),
    ],
)
def test_an_interval_that_touches_its_margin_is_undecided(
    verb: str, low: float, high: float
) -> None:
    claim = Claim(verb, SHARE, pp(10))  # type: ignore[arg-type]
    assert claim.verdict(low, high) == "inconclusive"


@pytest.mark.parametrize("verb", ["lower", "higher", "not_lower", "not_higher", "unchanged"])
def test_an_unknown_interval_decides_nothing(verb: str) -> None:
    claim = Claim(verb, VALUE, pct(10))  # type: ignore[arg-type]
    assert claim.verdict(-math.inf, math.inf) == "inconclusive"


def test_a_percentage_is_of_the_second_arm_and_points_are_a_difference() -> None:
    assert (pct(25).up(), pct(25).down()) == pytest.approx((math.log(1.25), math.log(0.75)))
    assert (pp(25).up(), pp(25).down()) == (0.25, -0.25)


@pytest.mark.parametrize("scale", [pct, pp])
@pytest.mark.parametrize("size", [-1, math.nan, math.inf])
def test_a_margin_is_a_finite_size(scale: Callable[[float], Margin], size: float) -> None:
    with pytest.raises(ValueError, match="finite number of at least 0"):
        scale(size)


@pytest.mark.parametrize(
    "make",
    [
        lambda: lower(VALUE, by=pct(100)),
        lambda: not_lower(VALUE, by_more_than=pct(100)),
        lambda: unchanged(VALUE, within=pct(150)),
    ],
    ids=["lower", "not_lower", "unchanged"],
)
def test_lower_by_all_of_it_is_refused_before_anything_is_measured(
    make: Callable[[], Claim],
) -> None:
    with pytest.raises(ValueError, match="lower by 100 %"):
        make()


def test_upwards_a_margin_may_exceed_the_whole() -> None:
    assert verdict(higher(VALUE, by=pct(100)), 120, 150) == "holds"
    assert verdict(not_higher(VALUE, by_more_than=pct(100)), 50, 90) == "holds"
    assert verdict(not_higher(VALUE, by_more_than=pct(100)), 120, 150) == "refuted"


def test_points_are_for_shares() -> None:
    with pytest.raises(ValueError, match=r"output tokens is in token: percentage points .*pct"):
        lower(OUTPUT_TOKENS, by=pp(5))


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        (lower(VALUE, by=pct(10)), "value lower by 10 %"),
        (higher(SHARE, by=pp(2.5)), "share higher by 2.5 pp"),
        (not_lower(SHARE, by_more_than=pp(3)), "share not lower by more than 3 pp"),
        (not_higher(VALUE, by_more_than=pct(3)), "value not higher by more than 3 %"),
        (unchanged(VALUE, within=pct(3)), "value unchanged within 3 %"),
    ],
)
def test_a_claim_reads_as_a_sentence(claim: Claim, words: str) -> None:
    assert str(claim) == words


def test_blocks_are_paired_as_ratios() -> None:
    found = judged_on(
        lower(VALUE, by=pct(10)),
        (valued(0.5), valued(1.0)),
        (valued(4.0), valued(9.0)),
        (valued(60.0), valued(100.0)),
    )
    mean = (math.log(0.5) + math.log(4 / 9) + math.log(0.6)) / 3
    assert (found.n, found.replicate, found.scale) == (3, "blocks", "percent")
    assert found.estimate == pytest.approx(mean)
    assert found.in_percent(mean) == pytest.approx(100 * math.expm1(mean))
    assert found.levels == pytest.approx((64.5 / 3, 110 / 3))
    assert (found.arms, found.verdict) == (ARMS, "holds")


def test_shares_of_blocks_are_paired_as_differences() -> None:
    found = judged_on(
        higher(SHARE, by=pp(10)), (valued(0.5), valued(0.25)), (valued(0.5), valued(0.125))
    )
    assert found.estimate == pytest.approx((0.25 + 0.375) / 2)
    assert found.in_percent(0.25) == 25


def test_accuracy_is_paired_by_question_and_its_answers_averaged_first() -> None:
    first = run(
        *(sample("q0", answer, repeat=k) for k, answer in enumerate([r"\boxed{7}", r"\boxed{8}"])),
        sample("q1"),
    )
    found = judged_on(
        higher(ACCURACY, by=pp(10)),
        (first, answers(True, False, arm="B")),
        (answers(False, True, first=2), answers(False, False, first=2, arm="B")),
    )
    assert (found.n, found.replicate) == (4, "questions")
    assert found.estimate == pytest.approx((-0.5 + 1 + 0 + 1) / 4)
    assert found.verdict == "inconclusive"


def test_questions_of_one_template_are_one_cluster() -> None:
    def arm(right: int, shared: bool) -> Run:
        return run(
            *(
                sample(
                    f"q{i}",
                    r"\boxed{7}" if i < right else "no idea",
                    template=f"t{i // 6 if shared else i}",
                )
                for i in range(24)
            )
        )

    claim = higher(ACCURACY, by=pp(10))
    alone, clustered = (judged_on(claim, (arm(12, s), arm(0, s))) for s in (False, True))
    assert alone.estimate == clustered.estimate == 0.5
    assert alone.verdict == "holds"
    assert clustered.verdict == "inconclusive"


def test_different_questions_are_compared_by_block() -> None:
    found = judged_on(
        higher(ACCURACY, by=pp(10)),
        (answers(True, True), answers(False, True, first=10)),
        (answers(True, True), answers(False, False, first=20)),
    )
    assert (found.n, found.replicate) == (2, "blocks")
    assert found.estimate == pytest.approx(0.75)


def test_a_question_that_failed_in_one_arm_is_left_out() -> None:
    failed = run(sample("q0"), sample("q1", error="HTTP 500"), sample("q2"))
    found = judged_on(higher(ACCURACY, by=pp(10)), (failed, answers(False, False, False)))
    assert (found.n, found.estimate) == (2, 1.0)


@pytest.mark.parametrize(("first", "second"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_a_ratio_with_zero_is_invalid(first: float, second: float) -> None:
    found = judged_on(lower(VALUE, by=pct(10)), (valued(first), valued(second)))
    assert found.verdict == "invalid"
    assert found.why == f"value was {first:g} against {second:g}: a ratio needs both above 0"
    assert found.estimate is None


def test_a_missing_metric_is_invalid_with_its_reason() -> None:
    found = judged_on(lower(KV_PEAK, by=pp(10)), (valued(1), valued(1)))
    assert (found.verdict, found.levels) == ("invalid", None)
    assert found.why == "the series 'kv_use' was not recorded; there are none"


def test_reasons_why_runs_are_invalid_dominate_every_verdict() -> None:
    pairs = [(valued(1.0 + i / 100), valued(2.0)) for i in range(4)]
    claim = lower(VALUE, by=pct(10))
    assert judge(claim, pairs, ARMS).verdict == "holds"
    found = judge(claim, pairs, ARMS, invalid=["throttled", "saturated"])
    assert (found.verdict, found.why) == ("invalid", "throttled; saturated")
    assert found.estimate is None


def test_one_block_is_inconclusive_and_says_why() -> None:
    found = judged_on(lower(VALUE, by=pct(10)), (valued(1.0), valued(2.0)))
    assert found.verdict == "inconclusive"
    assert found.why == "1 effect(s): an error bar needs at least two"
    assert found.further is None


def test_an_undecided_claim_says_how_much_more_would_decide() -> None:
    pairs = [(valued(v), valued(1.0)) for v in (0.5, 0.95, 0.5, 0.95)]
    found = judged_on(lower(VALUE, by=pct(10)), *pairs)
    assert found.verdict == "inconclusive"
    assert found.further is not None
    assert judged_on(lower(VALUE, by=pct(10)), *pairs * 8).further is None
    assert 1 <= found.further <= 28


@pytest.mark.parametrize(
    ("claim", "estimate", "bound"),
    [
        (lower(SHARE, by=pp(10)), 0.3, -0.1),
        (not_lower(SHARE, by_more_than=pp(10)), 0.3, -0.1),
        (higher(SHARE, by=pp(10)), -0.3, 0.1),
        (not_higher(SHARE, by_more_than=pp(10)), -0.3, 0.1),
        (unchanged(SHARE, within=pp(10)), 0.05, 0.1),
        (unchanged(SHARE, within=pp(10)), -0.05, -0.1),
    ],
)
def test_an_estimate_is_held_against_the_bound_that_decides(
    claim: Claim, estimate: float, bound: float
) -> None:
    assert claim.nearest(estimate) == bound
