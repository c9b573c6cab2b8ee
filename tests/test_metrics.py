"""Each metric on a run that is small enough to compute by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from doubles.synthetic import run, sample

from pytest_rllm.experiment.serving import Serving
from pytest_rllm.metrics import (
    ACCEPTANCE_LENGTH,
    ACCEPTANCE_RATE,
    ACCURACY,
    AGREEMENT,
    DECODE_PER_PREFILL,
    DELTAS_PER_S,
    E2E,
    E2E_P90,
    EARLY_AGREEMENT,
    EMPTY,
    FAILED,
    KV_FULL,
    KV_MEAN,
    KV_PEAK,
    KV_SWING,
    LANES_FILLED,
    METRICS,
    OUTPUT_TOKENS,
    PREEMPTIONS,
    PREFIX_HITS,
    REASONING_TOKENS,
    RUN_TIME,
    STRAGGLING,
    TBT,
    TBT_P99,
    TPS,
    TRUNCATED,
    TTFT,
    TTFT_P90,
    TTFVT,
    UNFINISHED,
    UNPARSED,
    Metric,
    MetricUnavailable,
    counted,
    goodput,
    in_time,
    metric,
)
from pytest_rllm.metrics import base as quantities
from pytest_rllm.metrics.answers import START
from pytest_rllm.metrics.base import NotTold
from pytest_rllm.records.deltas import Delta
from pytest_rllm.records.run import Run

# Three requests, intended at 0, 0 and 1 s; the last one thinks to its end and shows nothing.
RUN = run(
    sample("q0", first_s=0.5, ended_s=2.5, tokens=5),
    sample("q1", r"\boxed{8}", first_s=1.0, ended_s=4.0, tokens=7),
    sample(
        "q2",
        intended_s=1.0,
        late_s=0.25,
        ended_s=5.0,
        deltas=[Delta(3.0, "reasoning", 2, "so"), Delta(5.0, "reasoning", 10, "...")],
        finish_reason="length",
    ),
    sample("q3", ended_s=4.5, error="HTTP 500"),
    series={
        "kv_use": [0.9, 0.1, 0.6, 0.2, 0.5],
        "running": [0, 1, 3, 2, 1],
        "draft_tokens": [10, 20, 50],
        "accepted_tokens": [4, 8, 14],
        "drafts": [3, 5, 23],
        "preemptions": [7, 7, 9],
        "prefix_queries": [100, 200, 340],
        "prefix_hits": [30, 50, 90],
        "prefill_s": [1.0, 1.0, 1.5],
        "decode_s": [20.0, 22.0, 24.0],
    },
)


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (ACCURACY, 1 / 3),
        (UNFINISHED, 1 / 3),
        (TRUNCATED, 1 / 3),
        (UNPARSED, 0.0),
        (EMPTY, 0.0),
        (FAILED, 1 / 4),
        (OUTPUT_TOKENS, (5 + 7 + 12) / 3),
        (REASONING_TOKENS, (1 + 1 + 12) / 3),
        (TPS, 24 / 5),
        (DELTAS_PER_S, 6 / 5),
        (TTFT, (0.5 + 1.0 + 2.0) / 3),
        (TTFVT, (2.5 + 4.0 + 4.0) / 3),
        (TBT, (2.0 / 4 + 3.0 / 6 + 2.0 / 10) / 3),
        (E2E, (2.5 + 4.0 + 4.0) / 3),
        (RUN_TIME, 5.0),
        (STRAGGLING, 1 - 4.5 / 5),
        (KV_PEAK, 0.9),
        (KV_FULL, 0.0),
        (KV_MEAN, 0.46),
        (KV_SWING, 0.8),
        (LANES_FILLED, 7 / 5 / 3),
        (PREEMPTIONS, 2 / 4),
        (DECODE_PER_PREFILL, 4.0 / 0.5),
        (PREFIX_HITS, 60 / 240),
        (ACCEPTANCE_RATE, 10 / 40),
        (ACCEPTANCE_LENGTH, 1 + 10 / 20),
    ],
    ids=str,
)
def test_value(measured: Metric, expected: float) -> None:
    assert measured.of_run(RUN) == pytest.approx(expected)


TOLD = {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 6}}


@pytest.mark.parametrize(
    ("deltas", "usage", "expected"),
    [
        # one delta with reasoning, answer and five tokens: between 3 and 8
        ([("reasoning", 3, "a"), ("reasoning", 5, "b"), ("content", 0, "c")], {}, None),
        ([("reasoning", 3, "a"), ("reasoning", 5, "b"), ("content", 0, "c")], TOLD, 6),
        ([("reasoning", 3, "a"), ("reasoning", 1, "b"), ("content", 0, "c")], {}, None),
        # the same with tags
        ([("content", 3, "<think>a"), ("content", 5, "b</think>c")], {}, None),
        ([("content", 3, "<think>a"), ("content", 5, "b</think>c")], TOLD, 6),
        ([("content", 3, "<think>a"), ("content", 2, "</think>"), ("content", 4, "c")], {}, 5),
        # counts that are unknown
        ([("reasoning", None, "a"), ("content", None, "c")], {}, None),
        ([("reasoning", None, "a"), ("content", None, "c")], TOLD, 6),
        # hidden reasoning: tokens without text, or more than the text can hold
        ([("", 7, ""), ("content", 2, "c")], {}, None),
        ([("", 7, ""), ("content", 2, "c")], TOLD, 6),
        ([("content", 300, "c"), ("content", 1, "d")], {}, None),
        ([("content", 8, "c"), ("content", 1, "d")], TOLD, 6),
        ([("", 9, "")], {}, None),
        # none
        ([("content", 1, " "), ("content", 8, "cdefghij")], {}, 1),
        # what an engine tells and cannot be right
        ([("reasoning", None, "a"), ("content", None, "c")], TOLD | {"completion_tokens": 5}, None),
        ([("reasoning", None, "a"), ("content", None, "c")], {"reasoning_tokens": 0}, None),
        ([("reasoning", None, "a"), ("content", None, "c")], {"reasoning_tokens": True}, None),
        ([("reasoning", None, "a"), ("content", None, "c")], {"reasoning_tokens": 4}, 4),
        ([("reasoning", 3, "a"), ("content", 6, "c")], {"reasoning_tokens": 0}, 3),
    ],
)
def test_reasoning_tokens_are_never_divided_by_guess(
    deltas: list[tuple[str, int | None, str]], usage: dict[str, object], expected: int | None
) -> None:
    """A row without tokens and with text came in one event with the row before it."""
    at_s, rows = 0.0, list[Delta]()
    for field, tokens, text in deltas:
        at_s += 0.0 if tokens == 0 and text else 1.0
        rows.append(Delta(at_s, field, tokens, text))
    answer = sample(deltas=rows)
    answer.usage = usage
    assert answer.reasoning_tokens == expected


def test_why_tokens_are_unknown_is_said() -> None:
    told = {"answers": 3, "why": "it stayed at 0 while text came"}
    odd = run(sample(deltas=UNKNOWN), closing={"uncounted": told})
    for asked in (TBT, REASONING_TOKENS):
        with pytest.raises(MetricUnavailable, match="cannot be right in 3 of 1 answers, the first"):
            asked.of_run(odd)
    assert OUTPUT_TOKENS.of_run(odd) == odd.samples[0].output_tokens


def test_every_metric_is_tested_above() -> None:
    mark = next(mark for mark in test_value.pytestmark)  # type: ignore[attr-defined]
    below = {AGREEMENT.name, EARLY_AGREEMENT.name, TTFT_P90.name, TBT_P99.name, E2E_P90.name}
    served = {m.name for m in METRICS.values() if m.evidence == "served"}  # test_quantised.py
    assert {tested.name for tested, _ in mark.args[1]} | below | served == METRICS.keys()


@pytest.mark.parametrize(
    ("limits", "within"),
    [({"e2e_s": 3.0}, 1), ({"ttft_s": 0.5}, 1), ({"ttft_s": 1.0, "e2e_s": 4.0}, 2)],
    ids=str,
)
def test_goodput_counts_requests_within_the_limits(limits: dict[str, float], within: int) -> None:
    """Of four requests in five seconds; the one that failed after 4.5 s is never within them."""
    assert goodput(**limits).of_run(RUN) == pytest.approx(within / 5)
    assert in_time(**limits).of_run(RUN) == pytest.approx(within / 4)
    assert in_time(e2e_s=60.0).of_run(RUN) == pytest.approx(3 / 4)


@pytest.mark.parametrize("limits", [{}, {"ttft_s": 0.0}, {"ttft_s": 1.0, "e2e_s": -1.0}], ids=str)
def test_goodput_needs_a_limit(limits: dict[str, float]) -> None:
    for made in (goodput, in_time):
        with pytest.raises(ValueError, match="needs a limit above 0 s"):
            made(**limits)


def test_a_cache_is_full_from_95_percent_on() -> None:
    assert KV_FULL.of_run(run(sample(), series={"kv_use": [0.94, 0.95, 1.0, 0.1]})) == 0.5


def test_the_slowest_tenth_of_the_answers() -> None:
    requests = [sample(f"q{i}", ended_s=1.0 + i) for i in range(11)]
    assert E2E_P90.of_run(run(*requests)) == pytest.approx(10.0)
    with pytest.raises(MetricUnavailable, match="9 requests have no 90th percentile"):
        E2E_P90.of_run(run(*requests[:9]))


def test_the_slowest_tenth_of_the_first_tokens() -> None:
    requests = [sample(f"q{i}", first_s=1.0 + i, ended_s=20.0) for i in range(11)]
    assert TTFT_P90.of_run(run(*requests)) == pytest.approx(10.0)
    with pytest.raises(MetricUnavailable, match="9 requests have no 90th percentile, it takes 10"):
        TTFT_P90.of_run(run(*requests[:9]))


def test_the_longest_hundredth_of_the_gaps_between_deltas() -> None:
    """Also where they are in one answer, and what carries no token is no delta."""
    steady = [Delta(i / 100, "content", 1, "x") for i in range(1, 102)]
    stalled = [*steady[:-1], Delta(3.0, "content", 1, "x"), Delta(9.0, "content", 0, "")]
    requests = [sample("q0", deltas=steady), sample("q1", deltas=stalled)]
    assert TBT_P99.of_run(run(requests[0])) == pytest.approx(0.01)
    assert 0.02 < TBT_P99.of_run(run(requests[1])) < 0.04, "one gap of a hundred is 2 s long"
    assert TBT_P99.of_run(run(*requests)) == pytest.approx(0.01), "one of two hundred"
    with pytest.raises(MetricUnavailable, match="no 99th percentile, it takes 100"):
        TBT_P99.of_run(run(sample("q0", deltas=steady[:50])))


def test_failed_requests_are_a_share_of_all_requests_of_their_question() -> None:
    of = run(
        sample("q0"),
        sample("q0", repeat=1, error="HTTP 500: engine is dead"),
        sample("q1", error="stalled: nothing arrived for 2 s"),
        sample("q2"),
        sample("q3", tier="hard", error="closed early"),
    )
    assert FAILED.of_questions(of) == {"q0": 0.5, "q1": 1.0, "q2": 0.0, "q3": 1.0}
    assert FAILED.on("hard").of_questions(of) == {"q3": 1.0}
    assert (FAILED.slug, FAILED.better, FAILED.timed) == ("failed-requests", "lower", False)


def test_a_run_whose_requests_all_failed_has_a_share_of_failed_ones() -> None:
    assert FAILED.of_run(run(sample("q0", error="HTTP 500"))) == 1.0
    assert FAILED.of_run(run(sample("q0", r"\boxed{8}", finish_reason="length"))) == 0.0
    with pytest.raises(MetricUnavailable, match="the run holds no request"):
        FAILED.of_run(run())


def test_time_between_tokens_is_over_the_tokens_after_the_first_delta() -> None:
    deltas = [
        Delta(1.0, "content", 4, "a"),
        Delta(1.5, "content", 0, ""),
        Delta(2.0, "content", 2, "b"),
        Delta(4.0, "content", 3, "c"),
    ]
    assert TBT.of_run(run(sample(deltas=deltas))) == pytest.approx(3.0 / 5)


def test_the_cache_counts_only_while_requests_are_in_flight() -> None:
    paused = run(
        sample("q0", ended_s=1.0),
        sample("q1", intended_s=3.0, ended_s=4.0),
        series={"kv_use": [0.2, 0.3, 0.9, 0.5, 0.1]},
    )
    assert KV_PEAK.of_run(paused) == 0.5
    assert KV_MEAN.of_run(paused) == pytest.approx(0.275)
    assert KV_SWING.of_run(paused) == pytest.approx(0.4)


def test_repeats_of_a_question_are_averaged_before_the_questions() -> None:
    answers = [r"\boxed{7}", r"\boxed{8}", r"\boxed{8}", r"\boxed{7}"]
    repeated = run(
        *(sample("q0", answer, repeat=i) for i, answer in enumerate(answers)), sample("q1")
    )
    assert ACCURACY.of_questions(repeated) == {"q0": 0.5, "q1": 1.0}
    assert ACCURACY.of_run(repeated) == 0.75


@pytest.mark.parametrize(
    ("answer", "finish_reason", "unfinished"),
    [
        (r"\boxed{7}", "stop", None),
        (r"\boxed{8}", "stop", None),
        (r"\boxed{8}", "length", None),
        ("7", "stop", UNPARSED),
        ("7", "length", TRUNCATED),
        ("", "stop", EMPTY),
        (" \n", "stop", EMPTY),
    ],
)
def test_an_answer_without_a_result_is_counted_by_its_cause(
    answer: str, finish_reason: str, unfinished: Metric | None
) -> None:
    """A wrong answer is finished."""
    of = run(sample("q", answer, finish_reason=finish_reason))
    found = [kind for kind in (TRUNCATED, UNPARSED, EMPTY) if kind.of_run(of) == 1]
    assert found == ([unfinished] if unfinished else [])
    assert UNFINISHED.of_run(of) == len(found)


def test_a_metric_on_a_tier_sees_its_requests_only() -> None:
    mixed = run(
        sample("e0", tier="easy", ended_s=2.0),
        sample("h0", r"\boxed{8}", tier="hard", ended_s=4.0),
        sample("h1", tier="hard", ended_s=8.0),
    )
    assert ACCURACY.on("hard").of_questions(mixed) == {"h0": 0.0, "h1": 1.0}
    assert E2E.on("easy").of_run(mixed) == 2.0
    assert E2E.on("hard").of_pair(mixed, mixed) == (6.0, 6.0)
    hard = E2E.on("hard")
    assert (hard.name, str(hard), hard.unit, hard.better) == ("E2E on hard",) * 2 + ("s", "lower")
    assert (hard.timed, hard.per) == (True, "run")
    assert hard.name not in METRICS
    assert len(mixed.samples) == 3


# ---- two runs


def texts(*said: str, **more: object) -> Run:
    return run(*(sample(f"q{i}", answer) for i, answer in enumerate(said)), **more)  # type: ignore[arg-type]


def test_agreement_is_word_for_word() -> None:
    first, second = texts("7", "8", "9"), texts("7", "8 ", "9", arm="B")
    assert AGREEMENT.of_question_pairs(first, second) == (
        {"q0": 1.0, "q1": 0.0, "q2": 1.0},
        {"q0": 1.0, "q1": 1.0, "q2": 1.0},
    )
    assert AGREEMENT.of_pair(first, second) == (pytest.approx(2 / 3), 1.0)
    assert AGREEMENT.of_pair(first, first) == (1.0, 1.0)


def test_agreement_covers_the_reasoning_and_ignores_the_division_into_deltas() -> None:
    whole = run(sample(deltas=[Delta(1.0, "reasoning", 2, "so, 7"), Delta(2.0, "content", 1, "7")]))
    cut = run(
        sample(
            deltas=[
                Delta(1.0, "reasoning", 1, "so"),
                Delta(1.5, "reasoning", 1, ", 7"),
                Delta(2.0, "content", 1, "7"),
            ]
        )
    )
    other = run(sample(deltas=[Delta(1.0, "reasoning", 2, "is 7"), Delta(2.0, "content", 1, "7")]))
    assert AGREEMENT.of_pair(whole, cut) == (1.0, 1.0)
    assert AGREEMENT.of_pair(whole, other) == (0.0, 1.0)


def test_early_agreement_ends_after_the_first_characters() -> None:
    start = "x" * (START - 2)  # beside the two characters of the sample's reasoning
    late, early = texts(start + "7"), texts(start[1:] + "7")
    assert EARLY_AGREEMENT.of_pair(texts(start + "8"), late) == (1.0, 1.0)
    assert AGREEMENT.of_pair(texts(start + "8"), late) == (0.0, 1.0)
    assert EARLY_AGREEMENT.of_pair(early, late) == (0.0, 1.0)


def test_each_repeat_agrees_with_its_own() -> None:
    first, second = (
        run(*(sample("q0", said, repeat=k) for k, said in enumerate(order)))
        for order in ("abc", "acb")
    )
    assert AGREEMENT.of_question_pairs(first, second)[0] == {"q0": pytest.approx(1 / 3)}


def test_agreement_on_a_tier() -> None:
    first, second = (
        run(sample("e", "7", tier="easy"), sample("h", answer, tier="hard"))
        for answer in ("7", "8")
    )
    assert AGREEMENT.on("easy").of_pair(first, second) == (1.0, 1.0)
    assert AGREEMENT.on("hard").of_pair(first, second) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (texts("7", "8"), "the arms did not answer the same questions"),
        (texts("7", "8", "9", "10"), "the arms did not answer the same questions"),
        (
            run(sample("q0"), sample("q1"), sample("q2", error="HTTP 500")),
            "the arms did not answer the same questions",
        ),
        (run(), "no request of the run finished"),
    ],
)
def test_agreement_is_between_answers_to_the_same_questions(second: Run, message: str) -> None:
    with pytest.raises(MetricUnavailable, match=message):
        AGREEMENT.of_pair(texts("7", "8", "9"), second)


UNKNOWN = [Delta(1.0, "content", None, "a"), Delta(2.0, "content", None, "b")]


@pytest.mark.parametrize(
    ("measured", "of", "message"),
    [
        (TPS, run(sample(error="refused")), "no request of the run finished"),
        (ACCURACY, run(), "no request of the run finished"),
        (TTFT, run(sample(deltas=[])), "the answer to q0 has no first token"),
        (TBT, run(sample(deltas=[Delta(1.0, "content", 9, "a")])), "q0 came in one delta"),
        (TBT, run(sample(deltas=[Delta(1.0, "content", 1, "a")])), "q0 is one token long"),
        (TBT, run(sample(deltas=UNKNOWN)), "the engine did not report tokens per delta"),
        (
            REASONING_TOKENS,
            run(sample(deltas=UNKNOWN)),
            "the engine did not report tokens per delta",
        ),
        (RUN_TIME, run(sample(ended_s=0.0)), "the run took no time"),
        (KV_PEAK, run(sample()), r"'kv_use' was not recorded; there are none$"),
        (
            KV_MEAN,
            run(sample(), series={"running": [0] * 4, "waiting": [0] * 4}),
            "'kv_use' was not recorded; there are running, waiting",
        ),
        (
            KV_PEAK,
            run(sample(), closing={"telemetry_errors": {"HTTP 404": 3}}),
            "telemetry errors: HTTP 404",
        ),
        (
            KV_SWING,
            run(sample(), series={"kv_use": [0.1] * 2}),
            "KV use was read 2 times while requests were in flight, 3 are needed",
        ),
        (
            ACCURACY.on("hard"),
            run(sample(tier="easy")),
            "^accuracy on hard: no request of the run is known to be of 'hard'; there are easy$",
        ),
        (
            ACCURACY.on("hard"),
            run(sample(tier="hard", error="refused")),
            "no request of the run finished",
        ),
        (
            PREEMPTIONS.on("hard"),
            run(sample(), series={"preemptions": [0, 1]}),
            "is known to be of 'hard'",
        ),
        (PREEMPTIONS, run(sample()), "'preemptions' was not recorded"),
        (LANES_FILLED, run(sample()), "'running' was not recorded"),
        (
            LANES_FILLED,
            run(sample(), series={"running": [0, 0, 0]}),
            "no request was running at any reading",
        ),
        (PREFIX_HITS, run(sample()), "'prefix_queries' was not recorded"),
        (
            PREFIX_HITS,
            run(
                sample(),
                serving=Serving(prefix_caching=True),
                series={"prefix_queries": [8, 8], "prefix_hits": [8, 8]},
            ),
            "no lookups in its prefix cache: prefix caching was not enabled",
        ),
        (DECODE_PER_PREFILL, run(sample()), "'prefill_s' was not recorded"),
        (
            DECODE_PER_PREFILL,
            run(sample(), series={"prefill_s": [8, 8], "decode_s": [8, 9]}),
            "the engine counted no time in prefill",
        ),
        (ACCEPTANCE_RATE, run(sample()), "'accepted_tokens' was not recorded"),
        (
            ACCEPTANCE_RATE,
            run(sample(), series={"accepted_tokens": [1, 1], "draft_tokens": [1, 1]}),
            "the engine counted no draft tokens: speculation was not enabled",
        ),
        (
            ACCEPTANCE_LENGTH,
            run(sample(), series={"accepted_tokens": [1, 1], "drafts": [1, 1]}),
            "the engine counted no drafts: speculation was not enabled",
        ),
        (
            ACCEPTANCE_LENGTH,
            run(sample(), series={"drafts": [1]}),
            "the counter 'drafts' was not read at both ends of the run, but from 0.00 s to 0.00 s",
        ),
    ],
)
def test_missing_data_is_named(measured: Metric, of: Run, message: str) -> None:
    with pytest.raises(MetricUnavailable, match=message):
        measured.of_run(of)


def test_output_tokens_that_the_engine_did_not_count_are_unavailable() -> None:
    told = sample(deltas=UNKNOWN)
    told.usage = {}
    for measured in (TPS, OUTPUT_TOKENS):
        with pytest.raises(MetricUnavailable, match="did not report output tokens"):
            measured.of_run(run(told))


def test_a_counter_is_its_increase_during_the_run() -> None:
    assert counted(run(series={"drafts": [100, 105, 130]}), "drafts") == 30


def test_two_metrics_cannot_have_one_name() -> None:
    before = dict(METRICS)
    with pytest.raises(ValueError, match="two metrics are called 'TPS'"):
        metric("TPS", "token/s", better="higher")(lambda _: 1.0)
    assert before == METRICS


def test_a_new_metric_takes_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantities, "METRICS", {})
    requests = metric("requests", "1", better="neither")(lambda of: float(len(of.samples)))
    assert (str(requests), requests.unit, requests.better) == ("requests", "1", "neither")
    assert requests.of_run(RUN) == 4
    with pytest.raises(AssertionError, match="requests is a metric of a run, not of a question"):
        requests.of_questions(RUN)


def test_a_value_is_worked_out_once_per_run() -> None:
    asked: list[list[str]] = []

    def of(of_run: Run) -> float:
        asked.append([s.prompt.id for s in of_run.samples])
        return float(len(asked))

    counting = Metric("counting", "1", "neither", "run", of)
    one, other = run(sample("a"), sample("b", tier="hard")), run(sample("a"))
    assert [counting.of_run(one), counting.of_run(one), counting.of_run(other)] == [1, 1, 2]
    assert counting.of_pair(one, other) == (1, 2)
    hard = counting.on("hard")
    assert [hard.of_run(one), hard.of_run(one), counting.of_run(one)] == [3, 3, 1]
    assert asked == [["a", "b"], ["a"], ["b"]]
    again = replace(one, samples=one.samples)
    assert again == one, "what was worked out is no part of a run"
    assert counting.of_run(again) == 4


def test_what_cannot_be_had_is_asked_for_again() -> None:
    of = run(sample())
    for _ in range(2):
        with pytest.raises(MetricUnavailable, match="'kv_use' was not recorded"):
            KV_PEAK.of_run(of)
    assert of.computed == {}


def test_every_metric_says_what_it_rests_on() -> None:
    evidence = {name: measured.evidence for name, measured in METRICS.items()}
    assert {name for name, kind in evidence.items() if kind == "requests"} == {"failed requests"}
    served = {"KV room", "changed numerics", "sanity"}
    assert {name for name, kind in evidence.items() if kind == "served"} == served
    answers = {m.name for m in METRICS.values() if m.per in ("question", "pair")}
    answers -= {FAILED.name, EARLY_AGREEMENT.name, *served}
    assert EARLY_AGREEMENT.evidence == "beginnings"
    assert {name for name, kind in evidence.items() if kind == "answers"} == answers
    assert ACCURACY.on("easy").evidence == "answers"
    assert FAILED.on("easy").evidence == "requests"
    assert KV_PEAK.on("easy").series == ("kv_use",)


def test_a_series_that_no_page_held_says_what_was_looked_for() -> None:
    missing = {"kv_use": "kv_use: none of x is on the page"}
    of = run(sample(), closing={"series_missing": missing})
    with pytest.raises(NotTold, match=r"^kv_use: none of x is on the page$") as caught:
        KV_PEAK.of_run(of)
    assert caught.value.by_engine


def test_a_serving_without_a_prefix_cache_hits_nothing() -> None:
    series = {"prefix_queries": [8, 8], "prefix_hits": [8, 8]}
    assert PREFIX_HITS.value(run(sample(), series=series)) == 0
