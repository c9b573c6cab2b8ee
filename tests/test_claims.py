"""Each verb is one rule on an interval, and an effect is paired as its metric asks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import pytest
from doubles.synthetic import SHARE, TIME, VALUE, answers, run, sample, valued
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_rllm.metrics import (
    ACCURACY,
    AGREEMENT,
    E2E,
    KV_PEAK,
    OUTPUT_TOKENS,
    PREEMPTIONS,
    TPS,
    Metric,
)
from pytest_rllm.records.run import Run
from pytest_rllm.verdicts import sequential as looks
from pytest_rllm.verdicts.claims import (
    Claim,
    Margin,
    Verb,
    higher,
    lower,
    no_worse,
    not_higher,
    not_lower,
    pct,
    pp,
    unchanged,
)
from pytest_rllm.verdicts.judge import Judged, Look, judge, judge_family
from pytest_rllm.verdicts.location import location
from pytest_rllm.verdicts.server_spread import NO_SPREAD, ServerSpread

ARMS = ("fp8", "bf16")
VERBS: list[Verb] = ["lower", "higher", "not_lower", "not_higher", "unchanged"]


def verdict(claim: Claim, low: float, high: float) -> str:
    """Of an interval in per cent or percentage points."""
    if claim.margin.scale == "points":
        return claim.verdict(low / 100, high / 100)
    return claim.verdict(math.log1p(low / 100), math.log1p(high / 100))


def judged_on(claim: Claim, *pairs: tuple[Run, Run]) -> Judged:
    return judge(claim, pairs, ARMS)


def halved(*factors: float) -> list[tuple[Run, Run]]:
    """Blocks in which the first arm's value is about half of the second's."""
    return [(valued(factor * (0.5 + i / 1000)), valued(factor)) for i, factor in enumerate(factors)]


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
    scale: Callable[[float], Margin], verb: Verb, low: float, high: float, expected: str
) -> None:
    claim = Claim(verb, SHARE, scale(10))
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
    verb: Verb, low: float, high: float
) -> None:
    claim = Claim(verb, SHARE, pp(10))
    assert claim.verdict(low, high) == "inconclusive"


@pytest.mark.parametrize("verb", VERBS)
def test_an_unknown_interval_decides_nothing(verb: Verb) -> None:
    claim = Claim(verb, VALUE, pct(10))
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


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (TPS, "TPS not lower by more than 5 %"),
        (E2E, "E2E not higher by more than 5 %"),
        (OUTPUT_TOKENS, "output tokens unchanged within 5 %"),
    ],
)
def test_no_worse_is_in_the_direction_that_the_metric_declares(metric: Metric, words: str) -> None:
    assert str(no_worse(metric, within=pct(5))) == words


def test_blocks_are_paired_as_ratios() -> None:
    pairs = [(0.5, 1.0), (4.0, 9.0), (60.0, 100.0), (0.1, 0.25), (1.0, 1.8), (9.0, 20.0)]
    found = judged_on(lower(VALUE, by=pct(10)), *((valued(a), valued(b)) for a, b in pairs))
    effect = location([math.log(a / b) for a, b in pairs])
    assert (found.n, found.replicate, found.scale) == (6, "blocks", "percent")
    assert found.estimate == pytest.approx(effect.estimate)
    assert (found.low, found.high) == (math.log(0.4), math.log(0.6))
    assert found.detectable == effect.detectable
    assert found.in_percent(math.log(0.4)) == pytest.approx(-60)
    assert found.levels == pytest.approx(
        (sum(a for a, _ in pairs) / 6, sum(b for _, b in pairs) / 6)
    )
    assert (found.arms, found.verdict, found.no_difference) == (ARMS, "holds", None)


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
    pairs = halved(*[2.0] * 6)
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


def test_an_undecided_claim_says_how_much_more_would_decide_and_how_long_that_takes() -> None:
    pairs = [(valued(v), valued(1.0)) for v in (0.5, 0.95, 0.6, 0.9) * 2]
    found = judged_on(lower(VALUE, by=pct(10)), *pairs)
    assert found.verdict == "inconclusive"
    assert found.further is not None
    assert 1 <= found.further <= 24
    assert found.further_s == 2.0 * found.further  # two runs of a second each
    decided = judged_on(lower(VALUE, by=pct(10)), *pairs * 4)
    assert (decided.verdict, decided.further, decided.further_s) == ("holds", None, None)


def test_questions_take_their_share_of_the_time() -> None:
    found = judged_on(
        higher(ACCURACY, by=pp(10)),
        (answers(*[True] * 6, False), answers(*[False] * 5, True, True, arm="B")),
        (answers(*[True] * 7, first=7), answers(*[True] * 7, first=7, arm="B")),
    )
    assert (found.n, found.verdict) == (14, "inconclusive")
    assert found.further is not None
    assert found.further_s == pytest.approx(found.further * 4 / 14, abs=0.05)


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


# ---- what is added to an interval, and what is taken from a question


def test_the_same_answers_are_told_from_different_ones_that_lie_within_a_margin() -> None:
    right, wrong = answers(*[True] * 40), answers(*[False] * 9, *[True] * 31, arm="B")
    found = judged_on(not_lower(ACCURACY, by_more_than=pp(10)), (right, wrong))
    assert found.verdict == "holds"
    assert found.no_difference == pytest.approx(2 * 0.5**9)  # McNemar: 9 to 0
    same = judged_on(not_lower(ACCURACY, by_more_than=pp(10)), (right, right))
    assert same.no_difference == 1.0


@pytest.mark.parametrize("claim", [lower(OUTPUT_TOKENS, by=pct(5)), lower(KV_PEAK, by=pp(5))])
def test_whether_answers_differ_at_all_is_asked_of_shares_of_questions_only(claim: Claim) -> None:
    runs = [
        run(*(sample(f"q{i}", tokens=n + i % 2) for i in range(8)), series={"kv_use": [n / 20] * 3})
        for n in (5, 6, 7, 8, 9, 10, 11, 12)
    ]
    found = judged_on(claim, *zip(runs, runs[1:] + runs[:1], strict=True))
    assert found.verdict != "invalid"
    assert found.no_difference is None


@pytest.mark.parametrize(
    ("servers", "share"),
    [
        ([(1, 1)] * 8, 0.0),
        ([(1, 2)] * 8, 1.0),
        ([(1, 2)] * 4 + [(3, 4)] * 4, math.sqrt(1 / 2)),
        ([(1, 2), (3, 4), (5, 6), (7, 8)] * 2, 1 / 2),
        ([(1, 2)] * 4 + [(1, 4)] * 4, 1.0),
    ],
    ids=["one for both", "one each", "two each", "four each", "one against two"],
)
def test_times_of_two_servers_are_as_far_apart_as_servers_of_one_build(
    servers: list[tuple[int, int]], share: float
) -> None:
    values = [0.5 + i / 100 for i in range(8)]
    pairs = [
        (valued(v, server=a), valued(1.0, server=b))
        for v, (a, b) in zip(values, servers, strict=True)
    ]
    claim = lower(TIME, by=pct(10))
    (found,) = judge_family([claim], pairs, ARMS, spread=lambda m: ServerSpread(0.04))
    expected = location([math.log(v) for v in values]).widened(ServerSpread(0.04 * share))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    builds = [(replace(a, header=replace(a.header, engine="new")), b) for a, b in pairs]
    (other,) = judge_family([claim], builds, ARMS, spread=lambda m: ServerSpread(0.04))
    assert (other.low == found.low) is (share > 0), "server 1 of another build is another server"


@pytest.mark.parametrize(
    ("spread", "servers", "hidden"), [(0.005, 1, False), (0.03, 1, True), (0.02, 6, False)]
)
def test_what_two_servers_hide_more_blocks_do_not_show(
    spread: float, servers: int, hidden: bool
) -> None:
    values = [0.82 + i / 100 for i in range(12)]  # 13 % lower, give or take some
    pairs = [
        (valued(v, server=1 + 2 * (i % servers)), valued(1.0, server=2 + 2 * (i % servers)))
        for i, v in enumerate(values)
    ]
    exactly = ServerSpread(spread)
    (found,) = judge_family([lower(TIME, by=pct(10))], pairs, ARMS, {}, None, lambda _: exactly)
    assert found.verdict == "inconclusive"
    assert (found.further is None) is hidden
    assert (found.why or "").endswith("more fresh servers can") is hidden


def test_each_metric_has_a_spread_of_its_own() -> None:
    asked = []

    def spread(metric: Metric) -> ServerSpread:
        asked.append(metric)
        return NO_SPREAD

    judge_family(
        [lower(TIME, by=pct(1)), lower(SHARE, by=pp(1))], halved(1.0, 2.0), ARMS, {}, None, spread
    )
    assert asked == [TIME, SHARE]


def test_agreement_is_held_against_full_agreement_by_question() -> None:
    first = run(*(sample(f"q{i}") for i in range(20)))
    second = run(*(sample(f"q{i}", thought="so" if i < 2 else "hm") for i in range(20)), arm="B")
    found = judged_on(not_lower(AGREEMENT, by_more_than=pp(35)), (first, second))
    assert (found.n, found.replicate, found.levels) == (20, "questions", (0.9, 1.0))
    assert found.estimate == pytest.approx(-0.1)
    assert found.verdict == "holds"


def test_a_claim_on_a_tier_is_judged_on_its_questions_only() -> None:
    first, second = (
        run(
            *(sample(f"e{i}", tier="easy") for i in range(30)),
            *(
                sample(f"h{i}", r"\boxed{7}" if is_right else r"\boxed{8}", tier="hard")
                for i in range(30)
            ),
            arm=arm,
        )
        for arm, is_right in (("A", False), ("B", True))
    )
    easy, hard, both = judge_family(
        [no_worse(m, within=pp(20)) for m in (ACCURACY.on("easy"), ACCURACY.on("hard"), ACCURACY)],
        [(first, second)],
        ARMS,
    )
    assert (easy.n, easy.estimate, easy.verdict) == (30, 0.0, "holds")
    assert (hard.n, hard.estimate, hard.verdict) == (30, -1.0, "refuted")
    assert (both.n, both.estimate) == (60, -0.5)
    assert easy.metric == "accuracy on easy"
    missing = judged_on(no_worse(ACCURACY.on("medium"), within=pp(20)), (first, second))
    why = (
        "accuracy on medium: no request of the run is known to be of 'medium'; there are easy, hard"
    )
    assert (missing.verdict, missing.why) == ("invalid", why)


# ---- equal pairs


def test_equal_times_are_no_evidence() -> None:
    found = judged_on(unchanged(TIME, within=pct(10)), *[(valued(1.0), valued(1.0))] * 60)
    assert (found.verdict, found.further) == ("inconclusive", None)
    assert found.why == "60 of 60 effects are exactly the same: no error bar"


@pytest.mark.parametrize(
    ("claim", "n", "expected"),
    [
        (unchanged(SHARE, within=pp(10)), 8, "inconclusive"),
        (unchanged(SHARE, within=pp(10)), 40, "holds"),
        (unchanged(VALUE, within=pct(10)), 8, "inconclusive"),
        (unchanged(VALUE, within=pct(10)), 40, "holds"),
    ],
)
def test_equal_counts_are_evidence_when_there_are_many(claim: Claim, n: int, expected: str) -> None:
    found = judged_on(claim, *[(valued(0.5), valued(0.5))] * n)
    assert (found.verdict, found.estimate) == (expected, 0.0)
    assert found.low is not None
    assert found.low < 0


def test_blocks_in_which_all_was_thrown_away_are_not_hidden_by_calm_ones() -> None:
    """Eleven blocks of sixty with a preemption per request: their median is none at all."""

    def block(count: int, arm: str) -> Run:
        return run(sample("q0"), sample("q1"), arm=arm, series={"preemptions": [5, 5 + 2 * count]})

    pairs = [(block(int(i % 6 == 0 or i == 1), "A"), block(0, "B")) for i in range(60)]
    found = judged_on(no_worse(PREEMPTIONS, within=pp(20)), *pairs)
    assert found.estimate == pytest.approx(11 / 60)
    assert found.verdict == "inconclusive"
    assert judged_on(no_worse(PREEMPTIONS, within=pp(5)), *pairs).verdict == "refuted"


# ---- looks and families


def test_an_early_look_is_surer_than_the_only_one() -> None:
    pairs = halved(*[1.0] * 12)
    claim = lower(TIME, by=pct(10))
    only, first, last = (
        judge_family([claim], pairs, ARMS, {}, look)[0]
        for look in (None, Look((12, 24), 0), Look((6, 12), 1))
    )
    assert first.low < last.low < only.low  # type: ignore[operator]
    assert only.high < last.high < first.high  # type: ignore[operator]
    effects = [math.log(a.header.notes["value"]) for a, _ in pairs]
    at_first = location(effects, looks.confidences((12, 24))[0])
    assert (first.low, first.high) == (at_first.low, at_first.high)


def numbered(n: int) -> list[Metric]:
    """Metrics that are the values of a run's header, one after the other."""
    return [
        Metric(f"m{i}", "share", "higher", "run", lambda of, i=i: of.header.notes["values"][i])
        for i in range(n)
    ]


def blocks_of(columns: Sequence[Sequence[float]]) -> list[tuple[Run, Run]]:
    """Blocks whose effect on metric i is column i."""
    zeros = [0.0] * len(columns)
    return [
        (
            run(sample(), notes={"values": list(row)}),
            run(sample(), notes={"values": zeros}, arm="B"),
        )
        for row in zip(*columns, strict=True)
    ]


CALM = [0.3 + i / 100 for i in range(8)]
NEARLY = [-0.001, *CALM[1:]]  # 2 of 128 orders of signs are as clear: p = 0.016
CLEAR = CALM  # 1 of 128: p = 0.0078


def family(*columns: Sequence[float]) -> list[Judged]:
    claims = [lower(metric, by=pp(0)) for metric in numbered(len(columns))]
    return judge_family(claims, blocks_of(columns), ARMS)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([NEARLY], ["refuted"]),
        ([NEARLY, [-c for c in CALM]], ["refuted", "holds"]),
        ([NEARLY] * 4, ["inconclusive"] * 4),
        ([NEARLY] + [[-c for c in CALM]] * 3, ["inconclusive"] + ["holds"] * 3),
        # At a level of 0.05 / 4 the clear ones are refuted, and then 0.05 / 2 is left.
        ([CLEAR, NEARLY, CLEAR, [-c for c in CALM]], ["refuted", "refuted", "refuted", "holds"]),
    ],
    ids=["alone", "one of two", "four alike", "one of four", "step by step"],
)
def test_one_of_several_is_refuted_at_holms_level(
    columns: list[Sequence[float]], expected: list[str]
) -> None:
    found = family(*columns)
    assert [j.verdict for j in found] == expected
    for j in found:
        if j.verdict == "inconclusive":
            assert j.why == "refuted alone, not as one of several claims (Holm)"
            assert j.further is not None


def test_what_decides_one_of_several_is_more_than_what_decides_it_alone() -> None:
    column = [((7 * i) % 20 - 6.3) / 100 for i in range(20)]
    assert family(column)[0].verdict == "refuted"
    found = family(*[column] * 6)[0]
    assert found.verdict == "inconclusive"
    assert found.further == location(column, 1 - 0.05 / 6).further(0.0)
    assert found.further is not None
    assert found.further > 1


def test_what_is_detectable_of_one_of_several_claims_is_what_refutes_one_of_several() -> None:
    column = [((7 * i) % 20 - 6.3) / 100 for i in range(20)]
    alone, together = family(column)[0], family(*[column] * 6)[0]
    assert alone.detectable == location(column).detectable
    assert together.detectable == location(column, 1 - 0.05 / 6).detectable
    assert together.detectable > 1.2 * alone.detectable  # type: ignore[operator]


def test_an_invalid_claim_leaves_the_others_to_be_judged() -> None:
    claims = [lower(numbered(1)[0], by=pp(0)), lower(KV_PEAK, by=pp(5))]
    found = judge_family(claims, blocks_of([[-c for c in CALM]]), ARMS)
    assert [j.verdict for j in found] == ["holds", "invalid"]


# ---- what cannot be judged


def test_no_block_is_no_verdict() -> None:
    found = judged_on(lower(VALUE, by=pct(10)))
    assert (found.verdict, found.why) == ("invalid", "there is no block to judge")


def test_questions_that_no_arm_shares_are_no_verdict() -> None:
    """Each arm lost the question that the other one answered."""
    first = run(sample("q0", error="HTTP 500"), sample("q1"))
    second = run(sample("q0"), sample("q1", error="HTTP 500"), arm="B")
    found = judged_on(lower(ACCURACY, by=pp(10)), (first, second))
    assert found.verdict == "invalid"
    assert found.why == "accuracy: no question was answered in both arms"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_no_number_is_no_verdict(bad: float) -> None:
    pairs = [*halved(*[1.0] * 7), (valued(bad), valued(1.0))]
    for claim in (lower(VALUE, by=pct(10)), lower(SHARE, by=pp(10))):
        found = judged_on(claim, *pairs)
        assert (found.verdict, found.why) == (
            "invalid",
            f"effects must be finite numbers, got [{bad}]",
        )


def test_an_interval_that_is_not_known_travels_as_none() -> None:
    told = judged_on(lower(VALUE, by=pct(10)), (valued(1.0), valued(2.0))).to_json()
    assert (told["low"], told["high"], told["detectable"]) == (None, None, None)
    assert json.loads(json.dumps(told, allow_nan=False))["levels"] == [1.0, 2.0]


# ---- properties

MIRRORED: dict[Verb, Verb] = {
    "lower": "higher",
    "higher": "lower",
    "not_lower": "not_higher",
    "not_higher": "not_lower",
    "unchanged": "unchanged",
}
VALUES = st.integers(1, 400).map(lambda i: i / 100)
PAIRS = st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=12)
METRICS = st.sampled_from([VALUE, TIME])
SIZES = st.sampled_from([0, 5, 10, 50])


def of_pairs(pairs: Sequence[tuple[float, float]]) -> list[tuple[Run, Run]]:
    return [(valued(a), valued(b)) for a, b in pairs]


def off_the_margin(claim: Claim, found: Judged) -> None:
    """Leave out intervals that end on a margin up to rounding."""
    margins = [claim.margin.up(), *([claim.margin.down()] if claim.verb != "higher" else [])]
    for bound in (found.low, found.high):
        assert bound is not None
        assume(all(abs(bound - margin) > 1e-9 for margin in margins))


@given(PAIRS, st.sampled_from(VERBS), SIZES)
def test_swapped_arms_mirror_a_difference(
    pairs: list[tuple[float, float]], verb: Verb, size: float
) -> None:
    one = judged_on(Claim(verb, SHARE, pp(size)), *of_pairs(pairs))
    swapped = of_pairs([(b, a) for a, b in pairs])
    other = judged_on(Claim(MIRRORED[verb], SHARE, pp(size)), *swapped)
    off_the_margin(Claim(verb, SHARE, pp(size)), one)
    assert other.verdict == one.verdict
    assert [other.estimate, other.low, other.high] == pytest.approx(
        [-one.estimate, -one.high, -one.low]  # type: ignore[operator]
    )
    assert (other.further, other.n) == (one.further, one.n)


@given(PAIRS, METRICS, st.sampled_from(VERBS), SIZES)
def test_swapped_arms_mirror_a_ratio(
    pairs: list[tuple[float, float]], metric: Metric, verb: Verb, size: float
) -> None:
    """Lower by 10 % seen from the other arm is higher by a ninth."""
    up = 100 * math.expm1(-math.log1p(-size / 100))
    for one_size, other_size in ((size, up), (up, size)):
        if max(one_size, other_size) >= 100 or verb == "unchanged":
            continue
        claim = Claim(verb, metric, pct(one_size))
        if (verb in ("lower", "not_lower")) != (one_size == size):
            continue
        one = judged_on(claim, *of_pairs(pairs))
        off_the_margin(claim, one)
        other = judged_on(
            Claim(MIRRORED[verb], metric, pct(other_size)), *of_pairs([(b, a) for a, b in pairs])
        )
        assert other.verdict == one.verdict
        assert other.low == pytest.approx(-one.high)  # type: ignore[operator]


@given(PAIRS, METRICS, st.sampled_from(VERBS), SIZES, st.sampled_from([0.001, 60.0, 1000.0]))
def test_the_unit_of_a_value_does_not_matter(
    pairs: list[tuple[float, float]], metric: Metric, verb: Verb, size: float, unit: float
) -> None:
    claim = Claim(verb, metric, pct(size))
    one = judged_on(claim, *of_pairs(pairs))
    off_the_margin(claim, one)
    other = judged_on(claim, *of_pairs([(unit * a, unit * b) for a, b in pairs]))
    assert other.verdict == one.verdict
    assert [other.low, other.high] == pytest.approx([one.low, one.high], abs=1e-9)


@given(PAIRS, st.sampled_from([VALUE, TIME, SHARE]), st.sampled_from(VERBS), st.randoms())
def test_the_order_of_blocks_does_not_matter(
    pairs: list[tuple[float, float]], metric: Metric, verb: Verb, random: Random
) -> None:
    claim = Claim(verb, metric, pp(10) if metric is SHARE else pct(10))
    one = judged_on(claim, *of_pairs(pairs))
    off_the_margin(claim, one)
    shuffled = list(pairs)
    random.shuffle(shuffled)
    other = judged_on(claim, *of_pairs(shuffled))
    assert (other.verdict, other.further, other.why) == (one.verdict, one.further, one.why)
    assert [other.low, other.high] == pytest.approx([one.low, one.high])


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 5)), min_size=2), st.randoms()
)
def test_the_order_of_questions_does_not_matter(
    asked: list[tuple[bool, bool, int]], random: Random
) -> None:
    def arms(order: Sequence[int]) -> tuple[Run, Run]:
        one, other = (
            run(
                *(
                    sample(
                        f"q{i}",
                        r"\boxed{7}" if asked[i][arm] else r"\boxed{8}",
                        template=f"t{asked[i][2]}",
                    )
                    for i in order
                )
            )
            for arm in (0, 1)
        )
        return one, other

    order = list(range(len(asked)))
    one = judged_on(higher(ACCURACY, by=pp(10)), arms(order))
    random.shuffle(order)
    other = judged_on(higher(ACCURACY, by=pp(10)), arms(order))
    assert (other.verdict, other.n) == (one.verdict, one.n)
    assert [other.low, other.high] == pytest.approx([one.low, one.high])
    assert other.no_difference == pytest.approx(one.no_difference)


@given(PAIRS, st.sampled_from(VERBS), SIZES, st.floats(1, 10))
def test_wider_data_is_never_a_surer_verdict(
    pairs: list[tuple[float, float]], verb: Verb, size: float, stretch: float
) -> None:
    """Only the scatter about the estimate is stretched."""
    claim = Claim(verb, TIME, pct(size))
    calm = judged_on(claim, *of_pairs(pairs))
    assert calm.estimate is not None
    off_the_margin(claim, calm)
    effects = [math.log(a / b) for a, b in pairs]
    wider = [
        (math.exp(calm.estimate + stretch * (effect - calm.estimate)), 1.0) for effect in effects
    ]
    wide = judged_on(claim, *of_pairs(wider))
    assert wide.verdict in (calm.verdict, "inconclusive")


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(-30, 60).map(lambda i: i / 100), min_size=12, max_size=12),
            st.sampled_from(VERBS),
            SIZES,
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([None, Look((12, 24, 36), 0), Look((12, 24, 36), 1), Look((6, 12), 1)]),
)
def test_a_family_refutes_and_shows_nothing_that_a_single_claim_does_not(
    members: list[tuple[list[float], Verb, float]], look: Look | None
) -> None:
    pairs = blocks_of([column for column, _, _ in members])
    claims = [
        Claim(verb, metric, pp(size))
        for metric, (_, verb, size) in zip(numbered(len(members)), members, strict=True)
    ]
    together = judge_family(claims, pairs, ARMS, {}, look)
    for claim, j in zip(claims, together, strict=True):
        (alone,) = judge_family([claim], pairs, ARMS, {}, look)
        assert (j.verdict == "holds") == (alone.verdict == "holds")
        assert j.verdict != "refuted" or alone.verdict == "refuted"
        assert (j.low, j.high, j.estimate) == (alone.low, alone.high, alone.estimate)
        at_one_look = judged_on(claim, *pairs)
        assert j.verdict in (at_one_look.verdict, "inconclusive")
