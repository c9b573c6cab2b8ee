"""Intervals cover what they say they cover, and never pretend to an error bar."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Hashable, Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_rllm.stats import Interval, mean_interval, share_interval

# Numbers with three decimals: they are equal, or apart by more than rounding.
effects = st.lists(st.integers(-(10**6), 10**6).map(lambda i: i / 1000), min_size=2, max_size=12)
differences = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=2, max_size=30)


def each_alone(values: Sequence[float]) -> Interval:
    return share_interval(values, range(len(values)))


def width(interval: Interval) -> float:
    return interval.high - interval.low


def close(values: Sequence[float]) -> object:
    return pytest.approx(values, rel=1e-7, abs=1e-9)


def test_mean_interval_is_students() -> None:
    interval = mean_interval([1.0, 2.0, 3.0])
    half = 4.302653 / math.sqrt(3)  # t of 2 degrees of freedom at 97.5 %, standard deviation 1
    assert (interval.estimate, interval.n, interval.df, interval.why) == (2.0, 3, 2, None)
    assert (interval.low, interval.high) == pytest.approx((2 - half, 2 + half), rel=1e-6)


def test_share_interval_of_single_answers_is_the_adjusted_wald_interval() -> None:
    n, gained, lost = 40, 9, 2
    interval = each_alone([1.0] * gained + [-1.0] * lost + [0.0] * (n - gained - lost))
    more, less = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    error = math.sqrt((more + less - (more - less) ** 2) / (n + 1))
    half = 2.022691 * error  # t of 39 degrees of freedom at 97.5 %
    assert interval.estimate == pytest.approx((gained - lost) / n)
    assert interval.low == pytest.approx(more - less - half, abs=1e-7)
    assert interval.high == pytest.approx(more - less + half, abs=1e-7)


def blocks(rng: np.random.Generator) -> Interval:
    return mean_interval(rng.normal(0.1, 0.3, 5).tolist())


def questions(rng: np.random.Generator) -> Interval:
    return each_alone(rng.choice([1.0, 0.0, -1.0], 60, p=[0.2, 0.7, 0.1]).tolist())


def templates(clusters: int) -> Callable[[np.random.Generator], Interval]:
    def drawn(rng: np.random.Generator) -> Interval:
        shifts = rng.normal(0.1, 0.3, clusters).clip(-0.7, 0.9)
        a = rng.random((15, clusters)) < 0.5 + shifts / 2
        b = rng.random((15, clusters)) < 0.5 - shifts / 2
        names = np.tile(np.arange(clusters), 15)
        return share_interval((a.astype(float) - b).ravel().tolist(), list(names))

    return drawn


@pytest.mark.parametrize(
    ("draw", "least"),
    [(blocks, 0.92), (questions, 0.92), (templates(3), 0.92), (templates(10), 0.90)],
    ids=["blocks", "questions", "3 templates", "10 templates"],
)
def test_intervals_cover_the_truth_as_often_as_they_say(
    draw: Callable[[np.random.Generator], Interval], least: float
) -> None:
    rng = np.random.default_rng(1)
    intervals = [draw(rng) for _ in range(400)]
    covered = statistics.fmean(i.low <= 0.1 <= i.high for i in intervals)
    assert least <= covered < 0.995


@pytest.mark.parametrize(
    "values", [[], [1.5], [0.0, 0.0], [2.0] * 5, [0.1] * 3, [0.1 + 0.2, 0.3, 0.3]], ids=str
)
def test_effects_without_spread_have_no_error_bar(values: list[float]) -> None:
    interval = mean_interval(values)
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    assert interval.detectable == math.inf
    assert interval.further(0.0) is None
    assert interval.why


@pytest.mark.parametrize(
    ("values", "clusters"), [([], []), ([1.0], ["a"]), ([1.0, 0.0, -1.0], ["a", "a", "a"])]
)
def test_one_question_or_one_template_has_no_error_bar(
    values: list[float], clusters: list[str]
) -> None:
    interval = share_interval(values, clusters)
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    assert interval.why


@pytest.mark.parametrize("difference", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("n", [2, 10, 500])
def test_equal_answers_everywhere_leave_an_error_bar(difference: float, n: int) -> None:
    interval = each_alone([difference] * n)
    assert interval.estimate == difference
    assert width(interval) > 1 / n
    assert math.isfinite(interval.detectable)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("interval", [mean_interval, each_alone])
def test_effects_that_are_no_numbers_are_refused(
    interval: Callable[[list[float]], Interval], bad: float
) -> None:
    with pytest.raises(ValueError, match=rf"finite numbers, got \[{bad}\]"):
        interval([0.5, bad, 1.0])


def test_every_difference_needs_its_cluster() -> None:
    with pytest.raises(ValueError, match="3 effects and 2 clusters"):
        share_interval([0.0, 1.0, 0.0], ["a", "b"])


@pytest.mark.parametrize("size", [2, 5])
def test_alike_questions_of_a_cluster_widen_the_interval(size: int) -> None:
    values = [1.0, 0.0, 0.0, -1.0, 1.0, 1.0, 0.0, 1.0]
    repeated = [v for v in values for _ in range(size)]
    clusters: list[Hashable] = [i for i in range(len(values)) for _ in range(size)]
    assert width(share_interval(repeated, clusters)) > 1.2 * width(each_alone(repeated))


def test_as_many_further_effects_as_told_would_decide() -> None:
    pattern = [0.0, 1.0]
    few = mean_interval(pattern * 5)
    margin = 0.35
    assert few.low < margin
    further = few.further(margin)
    assert further is not None
    assert mean_interval(pattern * math.ceil((few.n + further) / 2)).low > margin
    assert mean_interval(pattern * (few.n // 2 + further // 4)).low < margin


def test_no_number_of_effects_decides_an_estimate_on_its_margin() -> None:
    assert mean_interval([0.0, 1.0]).further(0.5) is None


@pytest.mark.parametrize("interval", [mean_interval, each_alone])
def test_a_true_effect_of_the_detectable_size_is_mostly_seen(
    interval: Callable[[Sequence[float]], Interval],
) -> None:
    rng = np.random.default_rng(2)
    draws = rng.choice([-1.0, 0.0, 1.0], (400, 50), p=[0.1, 0.8, 0.1])
    found = [interval(draw.tolist()) for draw in draws]
    size = statistics.fmean(i.detectable for i in found)
    seen = statistics.fmean(i.low + size > 0 for i in found)
    assert 0.7 < seen < 0.9


@given(effects)
def test_swapped_arms_mirror_a_mean_interval(values: list[float]) -> None:
    one, other = mean_interval(values), mean_interval([-v for v in values])
    assert (one.low, one.high, one.detectable) == (-other.high, -other.low, other.detectable)


@given(differences)
def test_swapped_arms_mirror_a_share_interval(values: list[float]) -> None:
    one, other = each_alone(values), each_alone([-v for v in values])
    assert [one.low, one.high, one.detectable] == close([-other.high, -other.low, other.detectable])


@given(effects, st.randoms(use_true_random=False))
def test_order_does_not_matter(values: list[float], random: Random) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    one, other = mean_interval(values), mean_interval(shuffled)
    assert [one.low, one.high] == close([other.low, other.high])


@given(
    st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), st.integers(0, 5)), min_size=2),
    st.randoms(use_true_random=False),
)
def test_order_of_questions_does_not_matter(pairs: list[tuple[float, int]], random: Random) -> None:
    one = share_interval(*zip(*pairs, strict=True))
    shuffled = list(pairs)
    random.shuffle(shuffled)
    other = share_interval(*zip(*shuffled, strict=True))
    assert [one.low, one.high] == close([other.low, other.high])


@given(effects, st.sampled_from([0.001, 0.5, 60.0, 1000.0]))
def test_units_do_not_matter(values: list[float], factor: float) -> None:
    one, other = mean_interval(values), mean_interval([factor * v for v in values])
    assert [factor * one.low, factor * one.high] == close([other.low, other.high])


@given(effects, st.floats(1, 10))
def test_more_spread_is_never_a_narrower_interval(values: list[float], stretch: float) -> None:
    middle = statistics.fmean(values)
    stretched = [middle + stretch * (v - middle) for v in values]
    assert width(mean_interval(stretched)) >= width(mean_interval(values)) * (1 - 1e-9)


@given(differences)
def test_a_further_disagreement_never_narrows_a_share_interval(values: list[float]) -> None:
    calm, disagreeing = [*values, 0.0, 0.0], [*values, 1.0, -1.0]
    assert width(each_alone(disagreeing)) > width(each_alone(calm))
