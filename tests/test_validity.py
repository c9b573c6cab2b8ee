"""Every reason for which runs carry no verdict, and none on a clean pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from doubles.synthetic import run, sample

from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling
from pytest_rllm.metrics import (
    ACCURACY,
    AGREEMENT,
    E2E,
    FAILED,
    KV_PEAK,
    KV_SWING,
    OUTPUT_TOKENS,
    PREEMPTIONS,
    PREFIX_HITS,
    TBT,
    TPS,
)
from pytest_rllm.records.run import Run, Sample
from pytest_rllm.records.sse import Delta
from pytest_rllm.verdicts.claims import Claim, higher, lower, no_worse, pct, pp, unchanged
from pytest_rllm.verdicts.reasons import Reason
from pytest_rllm.verdicts.validity import Checked, check, problems
from pytest_rllm.verdicts.void_blocks import void_blocks

FAST = lower(TBT, by=pct(10))
RIGHT = higher(ACCURACY, by=pp(5))
SLOW = higher(E2E, by=pct(10))
LESS_KV = lower(KV_PEAK, by=pp(5))
FEWER_PREEMPTIONS = no_worse(PREEMPTIONS, within=pp(5))
NO_MORE_FAILURES = no_worse(FAILED, within=pp(1))


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
            lambda: run(*four(), closing={"cut": 2, "cuts_planned": 3}),
            "A: only 2 of 3 requests hung up: the others failed or ended before",
        ),
        (
            lambda: run(*four(late_s=0.2)),
            "the client was saturated: 1 of 1 blocks are void; block 1 is void: the client was "
            "late: p99 200 ms, its event loop was blocked for 0% of the time, at a median E2E of "
            "1.00 s; let nothing else run on this machine, or ask for less at once",
        ),
        (
            lambda: run(*four(), closing={"loop_lag_share": 0.2}),
            "the client was saturated: 1 of 1 blocks are void; block 1 is void: the client was "
            "late: p99 0 ms, its event loop was blocked for 20% of the time, at a median E2E of "
            "1.00 s; let nothing else run on this machine, or ask for less at once",
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
            lambda: run(*four(), series={"gpu0_clock_reasons": [0x48, 0, 0x48, 0x20]}),
            "the GPU was throttled: 1 of 1 blocks are void; block 1 is void: gpu0 was throttled in "
            "75% of 4 readings (HwThermalSlowdown, SwThermalSlowdown), 5% are allowed; cool it, or "
            "limit its power (nvidia-smi -pl)",
        ),
        (
            lambda: run(*four(), serving=INT4, signature=(-0.5, -0.5)),
            "A: quantization was not really on: log probabilities are bit for bit the same",
        ),
        (
            lambda: run(*four(), serving=INT4, signature=(-0.5, -9.5)),
            "A: quantization broke the model: a token's log probability moves by 4.5",
        ),
        (
            lambda: run(*four(), serving=INT4, signature=()),
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
        lambda: run(*four(), series={"gpu0_clock_reasons": [0x05, 0x04]}),
        lambda: run(*four(), series={"gpu0_clock_reasons": [0x08, 0x0C]}),
        lambda: run(*four(), series={"gpu0_clock_reasons": [0x40] + [0] * 19}),
        lambda: run(*four(), serving=INT4),
        lambda: run(*(sample(f"q{i}") for i in range(100)), sample("q", error="HTTP 500")),
        lambda: run(*four(), closing={"cut": 3, "cuts_planned": 3}),
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
        "a power cap and idleness",
        "changes of clock",
        "throttled for a twentieth of the run",
        "quantised numerics",
        "one failure in a hundred",
        "all hung up that were to",
    ],
)
def test_a_run_that_only_looks_like_a_problem_is_judged(make: Callable[[], Run]) -> None:
    assert found(make()) == []


@pytest.mark.parametrize("claim", [FAST, higher(TPS, by=pct(5))], ids=str)
def test_speed_is_compared_between_equal_lengths_only(claim: Claim) -> None:
    longer = run(*four(tokens=10))
    assert found(longer, claims=[claim]) == [
        f"output lengths apart: 40 against 36 tokens; {claim.metric} can be compared only between "
        "equal lengths (Sampling(fixed_length=True))"
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
    other = run(
        *four(thought=""), arm="B", serving=Serving(model="plain", quantization="awq"), signature=()
    )
    assert found(clean("A"), other) == []


def test_a_reason_is_said_once_however_many_blocks_have_it() -> None:
    late = (run(*four(late_s=0.2)), clean())
    assert len(problems([late, late], [SLOW])) == 1


# ---- the machine


CLIENT = {
    "streams": 16,
    "processes": 1,
    "events_per_s": 5.0,
    "error_p50_s": 1e-5,
    "error_p99_s": 1e-4,
}


def busy(deltas: int, **about: object) -> Run:
    """All deltas of one request within a tenth of a second."""
    said = [Delta(1.0 + i / 10 / deltas, "reasoning", 1, "x") for i in range(deltas)]
    return run(sample("q", deltas=said, ended_s=1.1), **about)


def test_a_host_that_is_read_does_not_hide_an_engine_that_is_not() -> None:
    quiet = run(
        *four(),
        series={"kv_use": [0.1] * 89, "host_busy": [0.5] * 100},
        closing={"telemetry_errors": {"HTTP 503: busy": 11}},
    )
    assert found(quiet, claims=[LESS_KV]) == ["A: telemetry failed: HTTP 503: busy"]


def test_telemetry_that_failed_costs_what_rests_on_it_and_nothing_else() -> None:
    broken = run(*four(), closing={"telemetry_errors": {"ValueError: no page": 3}})
    (reason,) = check([(broken, clean())], [SLOW, LESS_KV, RIGHT, FEWER_PREEMPTIONS]).reasons
    assert reason == Reason(
        "A: telemetry failed: ValueError: no page",
        (LESS_KV.slug, FEWER_PREEMPTIONS.slug),
        side="A",
        by_engine=True,
    )
    assert found(broken, claims=[SLOW, RIGHT]) == []


def test_more_than_the_client_is_known_to_carry_is_void() -> None:
    within, beyond = busy(5, client=CLIENT), busy(6, client=CLIENT)
    quiet = busy(6)  # recorded by a client of which nothing is known
    assert void_blocks([(within, within), (within, beyond), (quiet, within)]) == {
        1: "the client carries 5 deltas/s on 16 streams in 1 process(es), 6 arrived in one second"
    }
    (reason,) = problems([(within, within), (beyond, beyond)], [SLOW])
    assert reason.startswith("the client was saturated: 1 of 2 blocks are void; block 2 is void: ")


def test_a_client_that_errs_at_any_rate_is_the_story() -> None:
    erring = busy(1, client=CLIENT | {"error_p99_s": 0.0021})
    assert void_blocks([(erring, erring)]) == {
        0: "the client errs: p99 2.1 ms at 5 deltas/s against a server whose times are known, "
        "1 ms are allowed"
    }


def probed(*anchors: tuple[float | None, float | None], **about: object) -> list[tuple[Run, Run]]:
    """Blocks whose runs were opened by anchor probes of so many seconds."""
    return [
        (
            run(*four(), **({} if a is None else {"anchor_s": a}), **about),
            run(*four(), arm="B", **({} if b is None else {"anchor_s": b}), **about),
        )
        for a, b in anchors
    ]


CALM = [(0.1, 0.1)] * 9


def test_a_block_whose_anchor_moved_is_void_and_says_so() -> None:
    blocks = probed(*CALM[:2], (0.1, 0.21), *CALM[2:])
    checked = check(blocks, [SLOW])
    assert checked.void == {2: "its anchor probe took 210 ms, 100 ms is usual"}
    assert checked.reasons == ()


@pytest.mark.parametrize(
    ("anchor", "void"), [(0.149, False), (0.151, True), (0.068, False), (0.065, True)]
)
@pytest.mark.parametrize("arm", [0, 1])
def test_an_anchor_may_take_half_as_long_again_or_two_thirds(
    anchor: float, void: bool, arm: int
) -> None:
    odd = (anchor, 0.1) if arm == 0 else (0.1, anchor)
    assert list(void_blocks(probed(*CALM, odd))) == ([9] if void else [])


@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        (probed(*CALM[:6], (0.3, 0.1), (0.1, 0.3)), []),
        (
            probed(*CALM[:7], (0.3, 0.1), (0.1, 0.3), (0.1, 0.01)),
            [
                "CPU contention: 3 of 10 blocks are void; block 8 is void: its anchor probe took "
                "300 ms, 100 ms is usual; let nothing else run on this machine, or ask for less "
                "at once"
            ],
        ),
    ],
    ids=["a quarter", "more"],
)
def test_many_void_blocks_were_measured_on_a_machine_that_others_use(
    blocks: list[tuple[Run, Run]], reason: list[str]
) -> None:
    assert problems(blocks, [SLOW]) == reason
    assert problems(blocks, [RIGHT, SLOW]) == reason


@pytest.mark.parametrize(
    "claim", [RIGHT, unchanged(OUTPUT_TOKENS, within=pct(5)), lower(AGREEMENT, by=pp(5))], ids=str
)
def test_what_was_answered_does_not_depend_on_the_clock(claim: Claim) -> None:
    blocks = probed(*[(0.1, 0.9)] * 3, *[(0.9, 0.1)] * 3)
    assert check(blocks, [claim]) == Checked({}, ())
    for other in (SLOW, LESS_KV):
        both = check(blocks, [claim, other])
        assert sorted(both.void) == [0, 1, 2, 3, 4, 5]
        (reason,) = both.reasons
        assert reason.text.startswith("CPU contention: 6 of 6 blocks are void; ")
        assert reason.claims == (other.slug,)


@pytest.mark.parametrize("key", ["server", "engine"])
def test_an_anchor_is_held_against_its_own_servers(key: str) -> None:
    slow = [(0.3, 0.3)] * 4
    blocks = [*probed(*CALM, **{key: 1}), *probed(*slow, **{key: 2})]
    assert void_blocks(blocks) == {}
    assert list(void_blocks([*probed(*CALM), *probed(*slow)])) == [9, 10, 11, 12]


def timed(*references: tuple[float, float], anchor_s: float = 0.1) -> list[tuple[Run, Run]]:
    """Blocks before whose runs the reference load took so many seconds, the anchor probes of the
    first arm ever longer."""
    return [
        (
            run(*four(), reference_s=a, anchor_s=anchor_s * (1 + i)),
            run(*four(), arm="B", reference_s=b, anchor_s=anchor_s),
        )
        for i, (a, b) in enumerate(references)
    ]


def test_what_the_engine_answers_voids_nothing_where_a_reference_load_was_timed() -> None:
    assert void_blocks(timed(*[(0.02, 0.02)] * 9)) == {}
    blocks = timed(*[(0.02, 0.02)] * 9, (0.02, 0.041), (0.039, 0.02), (0.009, 0.02), (0.02, 0.011))
    assert void_blocks(blocks) == {
        9: "the reference load took 41 ms, 20 ms is usual",
        11: "the reference load took 9 ms, 20 ms is usual",
    }


def test_a_reference_load_is_held_against_its_own_machine() -> None:
    blocks = [
        (run(*four(), reference_s=0.02, machine="x"), run(*four(), reference_s=0.1, machine="y"))
    ] * 4
    assert void_blocks(blocks) == {}


@pytest.mark.parametrize(
    ("first", "second", "both", "fair"),
    [(5, 0, 0, True), (6, 0, 0, False), (0, 6, 0, False), (6, 1, 0, True), (7, 1, 3, True),
     (8, 1, 0, False), (0, 0, 9, True)],
)  # fmt: skip
def test_blocks_that_are_void_by_one_arm_are_no_chance(
    first: int, second: int, both: int, fair: bool
) -> None:
    odd = [(0.3, 0.1)] * first + [(0.1, 0.3)] * second + [(0.3, 0.3)] * both
    blocks = probed(*[(0.1, 0.1)] * (60 - len(odd)), *odd)
    found = problems(blocks, [SLOW, RIGHT])
    assert (found == []) is fair
    if not fair:
        (reason,) = check(blocks, [SLOW, RIGHT]).reasons
        arm, more, other, less = ("A", first, "B", second)
        if second > first:
            arm, more, other, less = ("B", second, "A", first)
        assert reason.text.startswith(
            f"{more} blocks are void by {arm} alone and {less} by {other} alone (p = 0.0"
        )
        assert reason.claims == (SLOW.slug,)


def test_runs_that_no_probe_opened_are_kept() -> None:
    assert void_blocks(probed((None, None), (0.1, None), (None, 0.1))) == {}


# ---- what a request means


RESOLVED = {"template": "abc of 64 tokens", "sampling_defaults": {"top_k": 20}}


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (RESOLVED, None),
        (
            RESOLVED | {"template": "abd of 65 tokens"},
            "the chat template differs between the arms: abc of 64 tokens against abd of 65 tokens",
        ),
        (
            RESOLVED | {"sampling_defaults": {"top_k": 0}},
            "a sampling default differs between the arms: {'top_k': 20} against {'top_k': 0}",
        ),
        (RESOLVED | {"sampling_defaults": {"top_k": 20, "stop": [], "min_p": 0.0}}, None),
        (
            RESOLVED | {"sampling_defaults": {"top_k": 20, "dry_multiplier": 0.8}},
            "a sampling default differs between the arms: {'top_k': 20} against "
            "{'top_k': 20, 'dry_multiplier': 0.8}",
        ),
        (RESOLVED | {"sampling_defaults": {}}, None),
        ({"sampling_defaults": {"top_k": 20}}, None),
    ],
    ids=[
        "equal",
        "template",
        "sampling",
        "only one knows it and has it off",
        "only one knows it and has it on",
        "sampling not told",
        "template not told",
    ],
)
def test_a_request_has_to_mean_the_same_to_both_arms(
    other: dict[str, object], reason: str | None
) -> None:
    first = run(*four(), **RESOLVED)
    for claims in ((SLOW,), (RIGHT,)):
        found_now = found(first, run(*four(), arm="B", **other), claims=claims)
        assert found_now == ([reason] if reason else [])


def test_engines_have_numbers_of_their_own_for_a_parameter_that_is_off() -> None:
    def told(**sampling: float) -> Run:
        return run(*four(), sampling_defaults={"temperature": 0.6} | sampling)

    assert found(told(top_k=0), told(top_k=-1)) == found(told(), told(top_k=-1)) == []
    assert len(found(told(top_k=20), told(top_k=-1))) == 1
    assert len(found(told(penalty=0.0), told(penalty=-1.0))) == 1


def test_two_models_may_have_two_templates() -> None:
    plain = run(*four(thought=""), arm="B", serving=Serving(model="plain"), template="other")
    assert found(run(*four(), **RESOLVED), plain) == []


def test_one_hiccup_of_the_client_voids_its_block_and_more_of_them_all() -> None:
    def pair(late_s: float) -> tuple[Run, Run]:
        return run(*four(late_s=late_s), arm="A"), clean()

    one = [pair(0.2), *(pair(0.0) for _ in range(7))]
    ((at, why),) = check(one, [SLOW]).void.items()
    assert at == 0
    assert why.startswith("the client was late: p99 200 ms")
    assert problems(one, [SLOW]) == []
    (reason,) = problems([*(pair(0.2) for _ in range(3)), *one[:5]], [SLOW])
    assert reason.startswith("the client was saturated: 4 of 8 blocks are void")


BUDGET = Sampling(8)


def ran_out(arm: str, share: float, **about: object) -> Run:
    samples = [
        sample(f"q{i}", finish_reason="length" if i < share * 10 else "stop") for i in range(10)
    ]
    return run(*samples, arm=arm, **{"sampling": BUDGET, **about})


def test_a_budget_that_is_too_small_for_both_arms_carries_no_verdict() -> None:
    (reason,) = found(ran_out("A", 0.5), ran_out("B", 0.3), claims=(RIGHT,))
    assert reason == (
        "30% of the answers of either arm ran into the budget of 8 tokens: "
        "raise Sampling.max_tokens"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(ran_out("A", 0.5), ran_out("B", 0.1), id="one arm alone"),
        pytest.param(
            ran_out("A", 1.0, sampling=Sampling(4)),
            ran_out("B", 0.5),
            id="two budgets",
        ),
        pytest.param(
            *(ran_out(arm, 1.0, sampling=Sampling(8, fixed_length=True)) for arm in "AB"),
            id="fixed length",
        ),
    ],
)
def test_answers_that_end_with_the_budget_are_told_by_claims(first: Run, second: Run) -> None:
    assert found(first, second, claims=(RIGHT,)) == []


SHARED = "the GPU was shared: 1 of 1 blocks are void; block 1 is void: "
ALONE = "; let nothing else run on it, or choose another one"


@pytest.mark.parametrize(
    ("about", "said"),
    [
        (
            {"gpu_strangers": {"gpu0": "process 4711 with 55.0 GiB of others"}},
            "gpu0 was shared: process 4711 with 55.0 GiB of others",
        ),
        (
            {"series": {"gpu1_processes": [2, 2, 3, 2]}},
            "gpu1 was shared: processes came or went while it was measured",
        ),
        (
            {"series": {"gpu0_memory_gib": [20, 20.5, 31]}},
            "gpu0 was shared: what is held of its memory went from 20.0 to 31.0 GiB while it was "
            "measured, and its driver lists no processes",
        ),
        (
            {"series": {"gpu0_memory_gib": [20, 31], "gpu0_processes": [0, 0]}},
            "gpu0 was shared: what is held of its memory went from 20.0 to 31.0 GiB while it was "
            "measured, and its driver lists no processes",
        ),
    ],
    ids=["before", "came and went", "not listed", "none listed"],
)
def test_a_gpu_that_others_use_is_named(about: dict[str, Any], said: str) -> None:
    assert found(run(*four(), arm="A", **about)) == [SHARED + said + ALONE]


@pytest.mark.parametrize(
    "series",
    [
        {"gpu1_processes": [2, 2, 2]},
        {"gpu0_memory_gib": [20, 21.9]},
        {"gpu0_memory_gib": [20, 31], "gpu0_processes": [2, 2]},
    ],
    ids=["the same processes", "an engine that takes a little more", "its own memory"],
)
def test_what_an_engine_does_on_its_gpu_is_its_own(series: dict[str, list[float]]) -> None:
    assert found(run(*four(), series=series)) == []


def test_a_gpu_that_was_hot_in_one_block_costs_that_block_alone() -> None:
    hot = run(*four(), series={"gpu0_clock_reasons": [0x40]})
    found_in = check([(hot, clean()), *((clean(), clean()) for _ in range(7))], [SLOW, RIGHT])
    assert found_in.void == {
        0: "gpu0 was throttled in 100% of 1 readings (HwThermalSlowdown), 5% are allowed"
    }
    assert found_in.reasons == ()


# ---- what a reason costs, and whose it is


EVERY = (RIGHT, SLOW, FAST, LESS_KV, FEWER_PREEMPTIONS, NO_MORE_FAILURES)
NO_GAUGE = {"kv_use": "kv_use: none of vllm:kv_cache_usage_perc, vllm:gpu_cache_usage_perc"}


def slugs(*claims: Claim) -> tuple[str, ...]:
    return tuple(claim.slug for claim in claims)


def test_a_page_without_the_kv_gauge_costs_kv_claims_only() -> None:
    gone = run(*four(), closing={"series_missing": NO_GAUGE})
    blocks = [(gone, clean()), (gone, clean())]
    assert check(blocks, EVERY) == Checked(
        {}, (Reason(f"A: {NO_GAUGE['kv_use']}", slugs(LESS_KV), side="A", by_engine=True),)
    )
    swing = lower(KV_SWING, by=pp(5))
    (once,) = check(blocks, [swing, RIGHT, LESS_KV]).reasons
    assert once.claims == slugs(swing, LESS_KV)
    assert check(blocks, [RIGHT, SLOW]).reasons == ()


def test_a_metric_of_several_series_needs_each() -> None:
    gone = run(*four(), closing={"series_missing": {"prefix_hits": "prefix_hits: not there"}})
    hits = higher(PREFIX_HITS, by=pp(5))
    (reason,) = check([(clean("A"), gone)], [hits, FEWER_PREEMPTIONS]).reasons
    assert (reason.claims, reason.side, reason.by_engine) == (slugs(hits), "B", True)


@pytest.mark.parametrize(
    "about",
    [
        {"series": {"gpu0_clock_reasons": [0, 0x40, 0]}},
        {"series": {"gpu0_processes": [1, 2, 1]}},
        {"gpu_strangers": {"gpu0": "process 1 of others"}},
        {"closing": {"monitor_error": "NVMLError: lost"}},
        {"closing": {"loop_lag_share": 0.2}},
    ],
    ids=["throttled", "shared", "shared before", "monitor", "client"],
)
def test_a_disturbed_machine_costs_times_and_no_answers(about: dict[str, Any]) -> None:
    (reason,) = check([(run(*four(), **about), clean())], EVERY).reasons
    assert reason.claims == slugs(SLOW, FAST, LESS_KV, FEWER_PREEMPTIONS)
    assert (reason.side, reason.by_engine) == (None, False)
    assert found(run(*four(), **about), claims=(RIGHT, NO_MORE_FAILURES)) == []


def test_requests_that_fail_cost_all_claims_but_that_of_failures() -> None:
    failing = run(*four()[:3], sample("q3", error="HTTP 500"))
    (reason,) = check([(failing, clean())], EVERY).reasons
    assert reason.text == "A: 1 of 4 requests failed: HTTP 500"
    assert reason.claims == slugs(*(claim for claim in EVERY if claim is not NO_MORE_FAILURES))
    assert found(failing, claims=[NO_MORE_FAILURES]) == []
    assert FAILED.evidence == "requests"


@pytest.mark.parametrize(
    "make",
    [cut_short, lambda: run(*four(), closing={"planned": 5})],
    ids=["cut short", "requests lost"],
)
def test_a_record_that_is_not_whole_costs_every_claim(make: Callable[[], Run]) -> None:
    (reason,) = check([(make(), clean())], EVERY).reasons
    assert (reason.claims, reason.side, reason.by_engine) == (slugs(*EVERY), None, False)


def test_a_budget_and_a_template_do_not_touch_the_count_of_failures() -> None:
    for blocks in (
        [(ran_out("A", 0.5), ran_out("B", 0.5))],
        [(run(*four(), template="a"), run(*four(), arm="B", template="b"))],
    ):
        (reason,) = check(blocks, [RIGHT, SLOW, NO_MORE_FAILURES]).reasons
        assert (reason.claims, reason.side) == (slugs(RIGHT, SLOW), None)


def test_lengths_apart_cost_claims_of_speed_at_a_fixed_length_only() -> None:
    (reason,) = check([(run(*four(tokens=10)), clean())], EVERY).reasons
    assert reason.claims == slugs(FAST)


def failing(arm: str, errors: int, of: int = 96) -> Run:
    return run(
        *(sample(f"q{i}", error="HTTP 500" if i < errors else None) for i in range(of)), arm=arm
    )


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ((8, 0), [("A", True)]),
        ((0, 8), [("B", True)]),
        ((7, 0), [("A", True)]),  # p = 0.0069
        ((6, 0), [("A", None)]),  # p = 0.014
        ((1, 0), [("A", None)]),
        ((8, 8), [(None, None), (None, None)]),
        ((9, 8), [(None, None), (None, None)]),
        ((48, 2), [("A", True), (None, False)]),
        ((2, 48), [(None, False), ("B", True)]),
        ((0, 0), []),
    ],
)
def test_an_arm_fails_alone_when_that_is_no_chance(
    errors: tuple[int, int], expected: list[tuple[str | None, bool | None]]
) -> None:
    """Fisher's exact test at 1 %, one-sided, over all blocks of an arm."""
    blocks = [(failing("A", errors[0]), failing("B", errors[1]))]
    reasons = check(blocks, [RIGHT]).reasons
    assert [(reason.side, reason.by_engine) for reason in reasons] == expected


def test_failures_are_counted_over_the_blocks_of_an_arm() -> None:
    """Four of 48 against none are few; eight of 96 are not."""
    block = failing("A", 4, 48), failing("B", 0, 48)
    (few,) = check([block], [RIGHT]).reasons
    (many,) = check([block, block], [RIGHT]).reasons
    assert (few.text, few.by_engine) == ("A: 4 of 48 requests failed: HTTP 500", None)
    assert (many.text, many.by_engine) == ("A: 8 of 96 requests failed: HTTP 500", True)


@pytest.mark.parametrize(
    ("make", "costs"),
    [
        (lambda arm: run(*THOUGHTLESS, arm=arm), slugs(RIGHT, SLOW, FAST, LESS_KV)),
        (
            lambda arm: run(*four(), arm=arm, closing={"series_missing": NO_GAUGE}),
            slugs(LESS_KV),
        ),
        (
            lambda arm: run(*four(), arm=arm, closing={"telemetry_errors": {"HTTP 404": 9}}),
            slugs(LESS_KV),
        ),
        (
            lambda arm: run(*four(), arm=arm, serving=SPECULATING, series={"drafts": [5, 5]}),
            slugs(RIGHT, SLOW, FAST, LESS_KV),
        ),
    ],
    ids=["no reasoning", "no gauge", "no page", "no speculation"],
)
def test_what_one_arm_lacks_is_its_own_and_what_both_lack_is_neithers(
    make: Callable[[str], Run], costs: tuple[str, ...]
) -> None:
    claims = (RIGHT, SLOW, FAST, LESS_KV)
    for blocks, side in (
        ([(make("A"), clean("B"))], "A"),
        ([(clean("A"), make("B"))], "B"),
        ([(make("A"), make("B"))], None),
    ):
        reasons = check(blocks, claims).reasons
        assert [reason.side for reason in reasons] == ([side] if side else [None, None])
        assert {reason.by_engine for reason in reasons} == {True}
        assert {reason.claims for reason in reasons} == {costs}
