"""Intervals cover what they say they cover, and never pretend to an error bar."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Hashable, Sequence
from fractions import Fraction
from random import Random

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from doubles import close, four_errors
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_rllm.verdicts.effects import Effects, Kind
from pytest_rllm.verdicts.intervals import CONFIDENCE, Interval
from pytest_rllm.verdicts.location import location
from pytest_rllm.verdicts.means import mean
from pytest_rllm.verdicts.server_spread import NO_SPREAD, ServerSpread
from pytest_rllm.verdicts.shares import no_difference, share

SHARED = ServerSpread(0.1)

Drawn = Callable[[np.random.Generator, int], np.ndarray]
Averaged = Callable[[Sequence[float]], Interval]

# Numbers with three decimals: they are equal, or apart by more than rounding.
effects = st.lists(st.integers(-(10**6), 10**6).map(lambda i: i / 1000), min_size=2, max_size=12)
many_effects = st.lists(st.integers(-(10**6), 10**6).map(lambda i: i / 1000), min_size=6)
differences = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=2, max_size=30)
levels = st.sampled_from([0.8, 0.9, 0.95, 0.99, 0.999])
kinds: st.SearchStrategy[Kind] = st.sampled_from(["location", "mean", "share"])
sizes = st.sampled_from([None, 0.5, 1.0])
NORMAL: Drawn = lambda rng, n: rng.normal(size=n)  # noqa: E731
HEAVY: Drawn = lambda rng, n: rng.standard_t(3, n)  # noqa: E731
LAPLACE: Drawn = lambda rng, n: rng.laplace(size=n)  # noqa: E731


def each_alone(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    return share(values, range(len(values)), confidence)


def width(interval: Interval) -> float:
    return interval.high - interval.low


# ---- location


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [8, 9, 12, 20, 60])
def test_location_ends_where_wilcoxon_rejects(n: int, confidence: float) -> None:
    values = np.random.default_rng(n).standard_t(3, n) + 0.3
    interval = location(values.tolist(), confidence)

    def p(effect: float) -> float:
        return float(scipy.stats.wilcoxon(values - effect, method="exact").pvalue)

    a_hair = 1e-9
    for bound, inwards in ((interval.low, a_hair), (interval.high, -a_hair)):
        assert p(bound + inwards) > 1 - confidence, "the interval is too wide"
        assert p(bound - inwards) <= 1 - confidence, "the interval is too narrow"
    assert p(interval.estimate) > 0.9


@given(st.lists(st.integers(-50, 50), min_size=8, max_size=10))
def test_location_is_the_median_of_all_pairs_and_its_bounds_are_counted_out(
    values: list[int],
) -> None:
    n = len(values)
    assume(2 * max(map(values.count, values)) <= n)
    pairs = sorted(Fraction(values[i] + values[j], 2) for i in range(n) for j in range(i, n))
    signs = itertools.product((0, 1), repeat=n)
    sums = [sum(r for r, up in enumerate(signs_of, 1) if up) for signs_of in signs]
    left_out = next(k for k in itertools.count() if sum(s <= k for s in sums) > 0.025 * 2**n)
    interval = location([float(v) for v in values])
    assert interval.estimate == float(statistics.median(pairs))
    assert (interval.low, interval.high) == (float(pairs[left_out - 1]), float(pairs[-left_out]))
    assert (interval.n, interval.df, interval.confidence, interval.why) == (n, n - 1, 0.95, None)


@pytest.mark.parametrize(
    ("confidence", "needed"), [(0.95, 6), (0.99, 8), (1 - 2**-5, 6), (1 - 2**-6, 7), (0.999, 11)]
)
def test_few_blocks_cannot_carry_a_high_confidence(confidence: float, needed: int) -> None:
    values = [float(i * i) for i in range(needed)]
    few = location(values[:-1], confidence)
    assert (few.low, few.high) == (-math.inf, math.inf)
    assert few.why == (
        f"{needed - 1} blocks cannot carry a confidence of {confidence:.2%}, {needed} can"
    )
    assert (few.detectable, few.further(1e6)) == (math.inf, None)
    enough = location(values, confidence)
    assert (enough.low, enough.high, enough.why) == (values[0], values[-1], None)


def test_a_wild_block_moves_a_location_little() -> None:
    calm = [0.1 + i / 1000 for i in range(12)]
    wild = [*calm[:-1], 1000.0]
    assert abs(location(wild).estimate - location(calm).estimate) < 0.002
    assert location(wild).high < 0.2 < mean(wild).high


# ---- mean and share


def test_mean_is_students() -> None:
    interval = mean([1.0, 2.0, 3.0])
    half = 4.302653 / math.sqrt(3)  # t of 2 degrees of freedom at 97.5 %, standard deviation 1
    assert (interval.estimate, interval.n, interval.why) == (2.0, 3, None)
    assert interval.df == pytest.approx(2)
    assert (interval.low, interval.high) == pytest.approx((2 - half, 2 + half), rel=1e-6)


@pytest.mark.parametrize(("confidence", "t"), [(0.95, 2.022691), (0.99, 2.707913)])
def test_share_of_single_answers_keeps_what_a_score_test_keeps(confidence: float, t: float) -> None:
    """The variance under a mean on the bound is found anew, by maximum likelihood."""
    n, gained, lost = 40, 9, 2
    values = [1.0] * gained + [-1.0] * lost + [0.0] * (n - gained - lost)
    interval = each_alone(values, confidence)
    assert interval.estimate == pytest.approx((gained - lost) / n)
    assert interval.confidence == confidence
    for bound in (interval.low, interval.high):

        def unlikely(worse: float, mean: float = bound) -> float:
            better = worse + mean
            return -(
                gained * math.log(better)
                + lost * math.log(worse)
                + (n - gained - lost) * math.log(1 - better - worse)
            )

        ends = (max(0.0, -bound) + 1e-9, (1 - bound) / 2 - 1e-9)
        worse = scipy.optimize.minimize_scalar(
            unlikely, bounds=ends, method="bounded", options={"xatol": 1e-12}
        ).x
        error = math.sqrt((2 * worse + bound - bound**2) / n)
        assert abs(interval.estimate - bound) / error == pytest.approx(t, rel=1e-5)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
@pytest.mark.parametrize("n", [2, 40, 132])
def test_no_change_at_all_leaves_what_would_have_gone_unseen(n: int, confidence: float) -> None:
    told = each_alone([0.0] * n, confidence)
    exact = scipy.stats.binomtest(0, n).proportion_ci(confidence, "exact")
    assert (-told.low, told.high) == pytest.approx((exact.high, exact.high))
    assert told.high < each_alone([1.0] + [0.0] * (n - 1), confidence).high


@pytest.mark.parametrize("lost", [1, 6, 40])
def test_losses_alone_may_be_as_many_as_wilson_says(lost: int) -> None:
    n = 4000
    told = each_alone([-1.0] * lost + [0.0] * (n - lost))
    wilson = scipy.stats.binomtest(lost, n).proportion_ci(method="wilson")
    assert -told.low == pytest.approx(wilson.high, rel=0.002)


@pytest.mark.parametrize("n", [100, 200, 500, 1319])
@pytest.mark.parametrize("margin", [0.01, 0.03, 0.05])
def test_losses_on_the_margin_are_rarely_called_small(n: int, margin: float) -> None:
    """Every change is for the worse, at a rate that is exactly the margin: the share of "no loss
    beyond the margin", summed over the binomial distribution."""
    small = sum(
        float(scipy.stats.binom.pmf(lost, n, margin))
        for lost in range(math.ceil(n * margin) + 1)
        if each_alone([-1.0] * lost + [0.0] * (n - lost)).low > -margin
    )
    assert small <= 0.03


# ---- coverage

TRIES = 3000


@pytest.mark.parametrize("n", [6, 8, 12])
@pytest.mark.parametrize("draw", [NORMAL, HEAVY, LAPLACE], ids=["normal", "t(3)", "Laplace"])
def test_location_covers_as_often_as_wilcoxons_table_says(draw: Drawn, n: int) -> None:
    """The bounds depend on no distribution, so they are held against the table's own level (2 out
    of 64 lie outside for 6 blocks, 10 out of 256 for 8, 170 out of 4096 for 12)."""
    outside = {6: 2 / 64, 8: 10 / 256, 12: 170 / 4096}[n]
    rng = np.random.default_rng(n)
    found = [location((0.1 + draw(rng, n)).tolist()) for _ in range(TRIES)]
    covered = statistics.fmean(i.low <= 0.1 <= i.high for i in found)
    assert covered == pytest.approx(1 - outside, abs=four_errors(outside, TRIES))


def ratios(rng: np.random.Generator) -> Interval:
    return mean(rng.normal(0.1, 0.3, 5).tolist())


def questions(rng: np.random.Generator) -> Interval:
    return each_alone(rng.choice([1.0, 0.0, -1.0], 60, p=[0.2, 0.7, 0.1]).tolist())


def templates(clusters: int) -> Callable[[np.random.Generator], Interval]:
    def drawn(rng: np.random.Generator) -> Interval:
        shifts = rng.normal(0.1, 0.3, clusters).clip(-0.7, 0.9)
        a = rng.random((15, clusters)) < 0.5 + shifts / 2
        b = rng.random((15, clusters)) < 0.5 - shifts / 2
        names = np.tile(np.arange(clusters), 15)
        return share((a.astype(float) - b).ravel().tolist(), list(names))

    return drawn


@pytest.mark.parametrize(
    ("draw", "least"),
    [(ratios, 0.92), (questions, 0.92), (templates(3), 0.92), (templates(10), 0.90)],
    ids=["ratios", "questions", "3 templates", "10 templates"],
)
def test_intervals_cover_the_truth_as_often_as_they_say(
    draw: Callable[[np.random.Generator], Interval], least: float
) -> None:
    rng = np.random.default_rng(1)
    intervals = [draw(rng) for _ in range(400)]
    covered = statistics.fmean(i.low <= 0.1 <= i.high for i in intervals)
    assert least <= covered < 0.995


def test_a_spread_between_servers_is_covered_when_it_is_added() -> None:
    """All blocks share their servers' speed. Without the spread three quarters of the intervals
    would miss; the two parts are added as if both were normal, which costs a point or two."""
    rng = np.random.default_rng(3)
    tries = 1000
    bars = [(rng.normal(0, 0.04) + rng.normal(0, 0.02, 12)).tolist() for _ in range(tries)]
    alone, widened = (
        statistics.fmean(
            i.low <= 0 <= i.high
            for i in (Effects(bar, "location", spread=ServerSpread(s)).interval() for bar in bars)
        )
        for s in (0.0, 0.04)
    )
    assert alone < 0.4
    assert 0.93 < widened < 0.98


# ---- no error bar


@pytest.mark.parametrize("average", [mean, location])
@pytest.mark.parametrize(
    "values", [[], [1.5], [0.0, 0.0], [2.0] * 15, [0.1] * 3, [0.1 + 0.2, 0.3, 0.3]], ids=str
)
def test_effects_without_spread_have_no_error_bar(average: Averaged, values: list[float]) -> None:
    interval = average(values)
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    assert interval.detectable == math.inf
    assert interval.further(0.0) is None
    assert interval.why
    assert interval.widened(SHARED) == interval


@pytest.mark.parametrize(("still", "moved"), [(11, 1), (49, 11), (7, 6)])
def test_a_few_blocks_that_moved_are_not_hidden_by_the_many_that_did_not(
    still: int, moved: int
) -> None:
    """A median of them would be 0 with an error bar of 0, whatever the others did."""
    for steady in (0.0, 0.7):
        interval = location([steady] * still + [steady + 1.0 + i / 100 for i in range(moved)])
        assert (interval.low, interval.high) == (-math.inf, math.inf)
        assert interval.why == (
            f"{still} of {still + moved} effects are exactly the same: no error bar"
        )


def test_half_of_very_many_blocks_may_not_make_an_error_bar_of_zero_either() -> None:
    interval = location([0.0] * 50 + [1.0] * 25 + [-1.0] * 25)
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    assert interval.why == "50 of 100 effects are exactly the same"


@pytest.mark.parametrize(
    ("values", "clusters"), [([], []), ([1.0], ["a"]), ([1.0, 0.0, -1.0], ["a", "a", "a"])]
)
def test_one_question_or_one_template_has_no_error_bar(
    values: list[float], clusters: list[str]
) -> None:
    interval = share(values, clusters)
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
@pytest.mark.parametrize("interval", [location, mean, each_alone])
def test_effects_that_are_no_numbers_are_refused(interval: Averaged, bad: float) -> None:
    with pytest.raises(ValueError, match=rf"finite numbers, got \[{bad}\]"):
        interval([0.5, bad, 1.0])


@pytest.mark.parametrize(
    "of",
    [lambda: share([0.0, 1.0, 0.0], ["a", "b"]), lambda: mean([0.0, 1.0, 0.0], ["a", "b"])],
    ids=["share", "mean"],
)
def test_every_difference_needs_its_cluster(of: Callable[[], Interval]) -> None:
    with pytest.raises(ValueError, match="3 effects and 2 clusters"):
        of()
    with pytest.raises(ValueError, match="3 differences and 2 clusters"):
        no_difference([0.0, 1.0, 0.0], ["a", "b"])


# ---- effects


def test_effects_are_averaged_as_their_kind_says() -> None:
    values, clusters = [0.0, 0.25, -1.0, 1.0, 0.5, -0.25, 0.75, 0.125], list("aabbccdd")
    assert Effects(values, "location").interval() == location(values)
    assert Effects(values, "mean").interval() == mean(values)
    assert Effects(values, "mean", clusters).interval(0.9) == mean(values, clusters, 0.9)
    assert Effects(values, "share").interval() == each_alone(values)
    assert Effects(values, "share", clusters).interval(0.99) == share(values, clusters, 0.99)
    assert Effects(values, "location", spread=SHARED).interval() == location(values).widened(SHARED)


@pytest.mark.parametrize("kind", ["location", "mean"])
def test_equal_pairs_are_evidence_only_where_a_change_would_have_shown(kind: Kind) -> None:
    assert Effects([0.0] * 8, kind).interval() == (location if kind == "location" else mean)(
        [0.0] * 8
    )
    told = Effects([0.0] * 8, kind, identical=0.5).interval()
    half = 0.5 * (1 - 0.025 ** (1 / 8))  # a change of 0.5 that is seen in none of eight
    assert (told.estimate, told.n, told.df, told.why) == (0.0, 8, 7, None)
    assert (told.low, told.high) == pytest.approx((-half, half), rel=1e-6)


def test_more_equal_pairs_are_more_evidence() -> None:
    widths = [width(Effects([0.0] * n, "location", identical=1.0).interval()) for n in (2, 8, 60)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] > 0.08
    assert math.isinf(width(Effects([0.0], "location", identical=1.0).interval()))


def test_most_blocks_being_equal_does_not_hide_the_others_from_their_mean() -> None:
    values = [0.0] * 49 + [1.0] * 11
    told = Effects(values, "location", identical=1.0).interval()
    assert told.estimate == pytest.approx(11 / 60)
    assert told.low > 0.05
    # Where half of them moved a median does see it.
    half = [0.0] * 10 + [1.0 + i / 10 for i in range(10)]
    assert Effects(half, "location", identical=1.0).interval() == location(half)


def test_wider_by_an_independent_spread() -> None:
    bar = Interval(1.0, 0.7, 1.4, 9, 8, None, 0.95)
    more = bar.widened(ServerSpread(0.2))
    assert more.low == pytest.approx(1 - math.hypot(0.3, 1.959964 * 0.2), rel=1e-6)
    assert more.high == pytest.approx(1 + math.hypot(0.4, 1.959964 * 0.2), rel=1e-6)
    assert (more.estimate, more.n, more.df, more.confidence) == (1.0, 9, 8, 0.95)
    surer = Interval(1.0, 0.7, 1.4, 9, 8, None, 0.99).widened(ServerSpread(0.2))
    assert surer.high == pytest.approx(1 + math.hypot(0.4, 2.575829 * 0.2), rel=1e-6)
    assert bar.widened(NO_SPREAD) == bar
    unsure = bar.widened(ServerSpread(0.2, 2))
    assert unsure.high == pytest.approx(1 + math.hypot(0.4, 4.302653 * 0.2), rel=1e-6)


@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("average", [share, mean])
def test_alike_questions_of_a_cluster_widen_the_interval(
    average: Callable[..., Interval], size: int
) -> None:
    values = [1.0, 0.0, 0.0, -1.0, 1.0, 1.0, 0.0, 1.0]
    repeated = [v for v in values for _ in range(size)]
    clusters: list[Hashable] = [i for i in range(len(values)) for _ in range(size)]
    alone = average(repeated, range(len(repeated)))
    assert width(average(repeated, clusters)) > 1.2 * width(alone)


# ---- how much more


@pytest.mark.parametrize("average", [mean, location])
def test_as_many_further_effects_as_told_would_decide(average: Averaged) -> None:
    pattern = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    few = average(pattern * 2)
    margin = 0.35
    assert few.low < margin
    further = few.further(margin)
    assert further is not None
    assert average(pattern * math.ceil((few.n + further) / 6)).low > margin
    assert average(pattern * ((few.n + further // 8) // 6)).low < margin


def test_no_number_of_effects_decides_an_estimate_on_its_margin() -> None:
    assert mean([0.0, 1.0]).further(0.5) is None
    assert not mean([0.0, 1.0]).unresolvable(0.5)


def test_more_effects_do_not_shrink_what_they_share() -> None:
    pattern, spread = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], 0.05

    def bar(n: int) -> Interval:
        return Effects(pattern * n, "mean", spread=ServerSpread(spread)).interval()

    few, shared = bar(2), 1.959964 * spread  # the estimate is 0.5
    for margin in (0.3, 0.34):
        assert few.low < margin
        assert not few.unresolvable(margin)
        further = few.further(margin)
        assert further is not None
        assert bar(math.ceil((few.n + further) / 6)).low > margin
        assert bar((few.n + further // 12) // 6).low < margin
    for margin in (0.5 - 0.999 * shared, 0.5 + 0.999 * shared):
        assert bar(10_000).low < margin < bar(10_000).high
        assert few.further(margin) is None
    for margin in (0.5 - 1.3 * shared, 0.5 + 1.3 * shared):  # told from it, but not in 80 of 100
        assert few.unresolvable(margin)
        assert few.further(margin) is None


def some_answers(rng: np.random.Generator) -> list[float]:
    return rng.choice([-1.0, 0.0, 1.0], 50, p=[0.1, 0.8, 0.1]).tolist()


def some_blocks(rng: np.random.Generator) -> list[float]:
    return rng.normal(0, 0.1, 16).tolist()


@pytest.mark.parametrize(
    ("average", "draw"),
    [(mean, some_answers), (each_alone, some_answers), (location, some_blocks)],
)
def test_a_true_effect_of_the_detectable_size_is_mostly_seen(
    average: Averaged, draw: Callable[[np.random.Generator], list[float]]
) -> None:
    rng = np.random.default_rng(2)
    found = [average(draw(rng)) for _ in range(400)]
    size = statistics.fmean(i.detectable for i in found)
    seen = statistics.fmean(i.low + size > 0 for i in found)
    assert 0.7 < seen < 0.9


# ---- no difference at all


@pytest.mark.parametrize(("gained", "lost"), [(9, 2), (2, 9), (5, 5), (1, 0), (0, 12)])
def test_single_answers_are_judged_by_mcnemars_exact_test(gained: int, lost: int) -> None:
    values = [1.0] * gained + [-1.0] * lost + [0.0] * 20
    expected = scipy.stats.binomtest(gained, gained + lost).pvalue
    assert no_difference(values, range(len(values))) == pytest.approx(expected)


def flipped(sums: Sequence[float]) -> float:
    """Share of all sign flips whose sum is as far from 0 as the one that was seen."""
    seen = abs(sum(sums))
    flips = itertools.product((-1, 1), repeat=len(sums))
    totals = [abs(sum(s * v for s, v in zip(flip, sums, strict=True))) for flip in flips]
    return statistics.fmean(total >= seen - 1e-9 for total in totals)


@given(st.lists(st.sampled_from([-1.0, -0.75, -0.25, 0.0, 0.5, 1.0]), min_size=1, max_size=8))
def test_averaged_answers_are_judged_by_all_sign_flips(values: list[float]) -> None:
    # A quarter more, so that none is a single answer.
    values = [v / 2 for v in values]
    assert no_difference(values, range(len(values))) == pytest.approx(flipped(values))


@given(
    st.lists(
        st.tuples(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), st.integers(0, 4)),
        min_size=1,
        max_size=15,
    )
)
def test_questions_of_a_cluster_are_flipped_together(pairs: list[tuple[float, int]]) -> None:
    values, clusters = zip(*pairs, strict=True)
    assume(len(set(clusters)) < len(clusters))
    sums = [sum(v for v, c in pairs if c == cluster) for cluster in set(clusters)]
    assert no_difference(values, clusters) == pytest.approx(flipped(sums))


def test_many_flips_are_drawn_by_a_seed_and_come_near_all_of_them() -> None:
    rng = np.random.default_rng(7)
    values = rng.choice([-0.75, -0.5, 0.0, 0.5, 0.75, 1.0], 16).tolist()
    found = no_difference(values, range(16))
    assert found == no_difference(values, range(16))
    assert found == no_difference(values[::-1], range(16))
    moved = [v for v in values if v]
    assert len(moved) > 13, "all flips can be listed: nothing is drawn"
    exact = flipped(moved)
    assert found == pytest.approx(exact, abs=four_errors(exact, 9999))
    assert no_difference([-v for v in values], range(16)) == pytest.approx(
        exact, abs=four_errors(exact, 9999)
    )


@pytest.mark.parametrize(
    ("values", "clusters"),
    [([], []), ([0.0, 0.0], "ab"), ([0.5], "a"), ([1.0, -1.0], "aa"), ([0.5, 0.5], "aa")],
)
def test_nothing_that_moved_or_one_cluster_shows_no_difference(
    values: list[float], clusters: str
) -> None:
    assert no_difference(values, clusters) == 1.0


# ---- properties


def interval_of(
    values: Sequence[float], kind: Kind, confidence: float, size: float | None
) -> Interval:
    if kind == "share":  # differences of shares lie in -1..1
        values = [value / 1000 * (size or 1.0) for value in values]
    return Effects(values, kind, identical=size).interval(confidence)


@given(effects, kinds, levels, sizes)
def test_swapped_arms_mirror_an_interval(
    values: list[float], kind: Kind, level: float, size: float | None
) -> None:
    one = interval_of(values, kind, level, size)
    other = interval_of([-v for v in values], kind, level, size)
    assert [one.estimate, one.low, one.high] == close([-other.estimate, -other.high, -other.low])
    assert one.detectable == close(other.detectable)
    assert one.why == other.why


@given(many_effects, kinds, levels, sizes, st.randoms(use_true_random=False))
def test_order_does_not_matter(
    values: list[float], kind: Kind, level: float, size: float | None, random: Random
) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    one, other = (interval_of(order, kind, level, size) for order in (values, shuffled))
    assert [one.estimate, one.low, one.high] == close([other.estimate, other.low, other.high])


@given(
    st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), st.integers(0, 5)), min_size=2),
    st.randoms(use_true_random=False),
)
def test_order_of_questions_does_not_matter(pairs: list[tuple[float, int]], random: Random) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)
    for average in (share, mean):
        one = average(*zip(*pairs, strict=True))
        other = average(*zip(*shuffled, strict=True))
        assert [one.low, one.high] == close([other.low, other.high])
    assert no_difference(*zip(*pairs, strict=True)) == close(
        no_difference(*zip(*shuffled, strict=True))
    )


@given(effects, st.sampled_from(["location", "mean"]), st.sampled_from([0.001, 0.5, 60.0, 1000.0]))
def test_units_do_not_matter(values: list[float], kind: Kind, factor: float) -> None:
    one, other = (Effects([f * v for v in values], kind).interval() for f in (1.0, factor))
    assert [factor * one.low, factor * one.high] == close([other.low, other.high])


@given(effects, st.sampled_from(["location", "mean"]), levels, st.floats(1, 10))
def test_more_spread_is_never_a_narrower_interval(
    values: list[float], kind: Kind, level: float, stretch: float
) -> None:
    calm = Effects(values, kind).interval(level)
    middle = calm.estimate
    wide = Effects([middle + stretch * (v - middle) for v in values], kind).interval(level)
    slack = 1e-9 * max(1.0, *map(abs, values))
    assert wide.low <= calm.low + slack
    assert wide.high >= calm.high - slack


@given(many_effects, kinds, sizes, st.tuples(levels, levels).map(sorted))
def test_more_confidence_is_never_a_narrower_interval(
    values: list[float], kind: Kind, size: float | None, two: list[float]
) -> None:
    one, other = (interval_of(values, kind, level, size) for level in two)
    assert other.low <= one.low
    assert other.high >= one.high


@given(many_effects | st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2), kinds, levels, sizes)
def test_an_error_bar_is_never_zero(
    values: list[float], kind: Kind, level: float, size: float | None
) -> None:
    bar = interval_of(values, kind, level, size)
    assert width(bar) > 0
    assert bar.low <= bar.estimate <= bar.high or kind == "share" or size is not None
    assert (bar.why is None) == math.isfinite(width(bar))


@given(effects, st.floats(0.001, 10), levels)
def test_a_spread_between_servers_always_widens(
    values: list[float], spread: float, level: float
) -> None:
    bar = location(values, level)
    wide = bar.widened(ServerSpread(spread))
    assert width(wide) > width(bar) or math.isinf(width(bar))
    assert wide.low <= bar.low
    assert wide.high >= bar.high


@given(differences)
def test_a_further_disagreement_never_narrows_a_share(values: list[float]) -> None:
    calm, disagreeing = [*values, 0.0, 0.0], [*values, 1.0, -1.0]
    assert width(each_alone(disagreeing)) > width(each_alone(calm))


@given(differences)
def test_a_p_value_is_one(values: list[float]) -> None:
    found = no_difference(values, [i // 2 for i in range(len(values))])
    assert 0 < found <= 1
