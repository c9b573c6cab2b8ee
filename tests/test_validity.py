"""Every reason for which runs carry no verdict, and none on a clean pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from synthetic import run, sample

from pytest_rllm.claims import Claim, higher, lower, pct, pp
from pytest_rllm.metrics import ACCURACY, E2E, TBT, TPS
from pytest_rllm.samples import Run, Sample
from pytest_rllm.serving import Serving
from pytest_rllm.validity import problems

FAST = lower(TBT, by=pct(10))
RIGHT = higher(ACCURACY, by=pp(5))
SLOW = higher(E2E, by=pct(10))


def four(**kwargs: object) -> list[Sample]:
    return [sample(f"q{i}", **kwargs) for i in range(4)]  # type: ignore[arg-type]


def clean(arm: str = "B") -> Run:
    return run(*four(), arm=arm)


def found(first: Run, second: Run | None = None, *, claims: Sequence[Claim] = (SLOW,)) -> list[str]:
    return problems([(first, second or clean())], claims)


def test_a_clean_pair_has_no_problem() -> None:
    assert found(clean("A"), claims=(FAST, RIGHT)) == []


def test_a_late_client_spoils_times_and_no_answers() -> None:
    late = run(*four(late_s=0.2), closing={"loop_lag_share": 0.2})
    assert found(late, claims=(RIGHT,)) == []
    assert len(found(late, claims=(RIGHT, SLOW))) == 1


def cut_short() -> Run:
    cut = clean("A")
    cut.closing = None
    return cut


SPECULATING = Serving(speculative="ngram")
CACHING = Serving(prefix_caching=True)
FP8 = Serving(kv_cache_dtype="fp8")
INT4 = Serving(quantization="awq")
THOUGHTLESS = four(thought="")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (cut_short, "A: the record was cut short after 4 requests"),
        (
            lambda: run(*four()[:3], sample("q3", error="HTTP 500: out of memory")),
            "A: 1 of 4 requests failed: HTTP 500: out of memory",
        ),
        (
            lambda: run(*four(error="refused"), serving=SPECULATING),
            "A: 4 of 4 requests failed: refused",
        ),
        (lambda: run(*four(), closing={"planned": 5}), "A: 4 of 5 requests were recorded"),
        (lambda: run(closing={"planned": 5}), "A: 0 of 5 requests were recorded"),
        (
            lambda: run(*four(late_s=0.2)),
            "A: the client was saturated: p99 lateness 200 ms, its event loop was blocked "
            "for 0% of the time, at a median E2E of 1.00 s",
        ),
        (
            lambda: run(*four(), closing={"loop_lag_share": 0.2}),
            "A: the client was saturated: p99 lateness 0 ms, its event loop was blocked "
            "for 20% of the time, at a median E2E of 1.00 s",
        ),
        (
            lambda: run(*four(), closing={"telemetry_errors": {"MetricMissing: kv_use": 3}}),
            "A: telemetry failed: MetricMissing: kv_use",
        ),
        (
            lambda: run(*four(), closing={"monitor_error": "NVMLError: lost"}),
            "A: the monitor stopped: NVMLError: lost",
        ),
        (
            lambda: run(*four(), serving=SPECULATING, series={"drafts": [5, 5]}),
            "A: speculation was not really on: drafts stayed at 0",
        ),
        (
            lambda: run(*four(), serving=SPECULATING),
            "A: whether speculation was on is unknown: "
            "the series 'drafts' was not recorded; there are none",
        ),
        (
            lambda: run(*four(), serving=CACHING, series={"prefix_hits": [5, 5]}, repeats=True),
            "A: prefix caching was not really on: prefix_hits stayed at 0",
        ),
        (
            lambda: run(*four(), serving=CACHING, series={"prefix_hits": [5]}, repeats=True),
            "A: whether prefix caching was on is unknown: "
            "the counter 'prefix_hits' was not read at both ends of the run, "
            "but from 0.00 s to 0.00 s",
        ),
        (
            lambda: run(*THOUGHTLESS),
            "A: no reasoning in any answer; fields of the stream's deltas were content, role: "
            "was one renamed?",
        ),
        (
            lambda: run(*four(), series={"gpu0_throttled": [0, 1, 0]}),
            "A: gpu0 was throttled",
        ),
        (
            lambda: run(*four(), serving=INT4, signature=[-0.5, -0.5]),
            "A: quantization was not really on: log probabilities are bit for bit the same",
        ),
        (
            lambda: run(*four(), serving=INT4, signature=[-0.5, -9.5]),
            "A: quantization broke the model: a token's log probability moves by 4.5",
        ),
        (
            lambda: run(*four(), serving=INT4, signature=[]),
            "A: whether quantization is on is unknown: the engine told no log probabilities",
        ),
    ],
)
def test_a_run_that_cannot_be_judged_says_why(make: Callable[[], Run], reason: str) -> None:
    assert found(make()) == [reason]


@pytest.mark.parametrize(
    "make",
    [
        lambda: run(*four(late_s=0.04)),
        lambda: run(*four(late_s=0.2, ended_s=30.0)),
        lambda: run(*four(), serving=SPECULATING, series={"drafts": [5, 6]}),
        lambda: run(*four(), serving=CACHING, series={"prefix_hits": [5, 6]}, repeats=True),
        lambda: run(*four(), serving=CACHING),
        lambda: run(*THOUGHTLESS, serving=Serving(model="plain")),
        lambda: run(*THOUGHTLESS[:3], sample("q3")),
        lambda: run(*four(answer="<think>hm</think> 7", thought="")),
        lambda: run(*four(), series={"gpu0_throttled": [0, 0]}),
        lambda: run(*four(), serving=INT4),
        lambda: run(*(sample(f"q{i}") for i in range(100)), sample("q", error="HTTP 500")),
    ],
    ids=[
        "a little late",
        "late beside long answers",
        "drafts",
        "prefix hits",
        "nothing repeated that could hit",
        "a plain model need not reason",
        "one answer reasons",
        "inline reasoning",
        "never throttled",
        "quantised numerics",
        "one failure in a hundred",
    ],
)
def test_a_run_that_only_looks_like_a_problem_is_judged(make: Callable[[], Run]) -> None:
    assert found(make()) == []


@pytest.mark.parametrize("claim", [FAST, higher(TPS, by=pct(5))], ids=str)
def test_speed_is_compared_between_equal_lengths_only(claim: Claim) -> None:
    longer = run(*four(tokens=10))
    assert found(longer, claims=[claim]) == [
        f"output lengths apart: 40 against 36 tokens; {claim.metric} can be compared only between "
        "equal lengths (Sampling(ignore_eos=True))"
    ]
    assert found(longer, claims=[RIGHT, lower(E2E, by=pct(5))]) == []


def test_lengths_within_two_per_cent_are_equal() -> None:
    first, second = run(*four(tokens=100)), run(*four(tokens=101), arm="B")
    assert found(first, second, claims=[FAST]) == []


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(
    ("room", "own", "reason"),
    [
        ([2000], [1000], None),
        ([1100], [1000], "kv_cache_dtype was not really on: room for 1100 tokens against 1000"),
        ([2000], None, "whether kv_cache_dtype is on is unknown: the engine tells no capacity"),
    ],
)
def test_a_smaller_kv_cache_type_has_to_make_room(
    room: list[float], own: list[float] | None, reason: str | None, swapped: bool
) -> None:
    small = run(*four(), arm="A", serving=FP8, series={"kv_capacity_tokens": room})
    plain = run(*four(), arm="B", series={"kv_capacity_tokens": own} if own else {})
    pair = (plain, small) if swapped else (small, plain)
    assert found(*pair) == ([f"A: {reason}"] if reason else [])


def test_arms_of_different_models_need_no_equal_numerics() -> None:
    other = run(*four(), arm="B", serving=Serving(model="plain", quantization="awq"), signature=[])
    assert found(clean("A"), other) == []


def test_a_reason_is_said_once_however_many_blocks_have_it() -> None:
    late = (run(*four(late_s=0.2)), clean())
    assert len(problems([late, late], [SLOW])) == 1
