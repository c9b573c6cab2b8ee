"""Answers that contradict themselves, deltas in clumps, and what they cost a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from doubles.synthetic import run, sample

from pytest_rllm.metrics import ACCURACY, OUTPUT_TOKENS, TBT, TTFT, TTFVT
from pytest_rllm.metrics.base import MetricUnavailable
from pytest_rllm.records.contradictions import contradiction
from pytest_rllm.records.deltas import Delta
from pytest_rllm.records.header import CONTEXT, OPENED, Header
from pytest_rllm.records.reader import read_run
from pytest_rllm.records.run import Run, Sample
from pytest_rllm.records.writer import RunWriter
from pytest_rllm.verdicts.claims import lower, pct, pp, unchanged
from pytest_rllm.verdicts.validity import check, problems

FAST = lower(TBT, by=pct(10))
SOON = lower(TTFT, by=pct(10))
AS_LONG = unchanged(OUTPUT_TOKENS, within=pct(5))
AS_RIGHT = unchanged(ACCURACY, within=pp(5))


def streamed(
    reads: Sequence[int],
    tokens: int = 1,
    silent: int = 0,
    finish_reason: str = "stop",
    **more: object,
) -> Sample:
    """An answer of so many deltas per read, a read every 0.1 s, and of tokens without text."""
    deltas = [
        Delta(round(0.1 * (i + 1), 6), "content" if i else "reasoning", tokens, "so ")
        for i, n in enumerate(reads)
        for _ in range(n)
    ]
    deltas += [Delta(5 + i / 100, "", 1, "") for i in range(silent)]
    return sample(deltas=deltas, ended_s=9.0, finish_reason=finish_reason, **more)  # type: ignore[arg-type]


def within(one: Sample, *, budget: int = 256, context: int | None = 2048) -> Run:
    made = run(one)
    notes = {} if context is None else {CONTEXT: context}
    assert made.header.sampling is not None
    sampling = replace(made.header.sampling, max_tokens=budget)
    made.header = replace(made.header, notes=notes, sampling=sampling)
    one.usage["prompt_tokens"] = 40
    return made


@pytest.mark.parametrize(
    ("reads", "silent", "finish", "budget", "context", "said"),
    [
        (12, 0, "stop", 256, 2048, None),
        (12, 4, "stop", 256, 2048, None),
        (12, 30, "stop", 256, 2048, "30 of its 42 tokens were counted one after the other while"),
        (12, 0, "length", 12, 2048, None),
        (12, 0, "length", 20, 2048, None),
        (12, 0, "length", 256, None, None),
        (12, 0, "length", 256, 55, None),
        (
            *(12, 0, "length", 256, 2048),
            "it ended with length after 12 tokens, short of its budget of 256 and of the context "
            "of 2048",
        ),
    ],
)
def test_how_an_answer_contradicts_itself(
    reads: int, silent: int, finish: str, budget: int, context: int | None, said: str | None
) -> None:
    one = streamed([1] * reads, silent=silent, finish_reason=finish)
    found = contradiction(one, within(one, budget=budget, context=context))
    assert (found is None) if said is None else (found is not None and found.startswith(said))


def test_characters_of_several_tokens_are_no_contradiction() -> None:
    """Of three bytes each, of which only the last one shows."""
    shown = [i % 3 == 2 for i in range(60)]
    deltas = [Delta(i, "content" if show else "", 1, "ক" * show) for i, show in enumerate(shown)]
    one = sample(deltas=deltas, ended_s=60.0)
    assert contradiction(one, within(one)) is None


def test_hidden_reasoning_that_is_told_is_no_contradiction() -> None:
    one = streamed([1] * 12, silent=30)
    one.usage["completion_tokens_details"] = {"reasoning_tokens": 30}
    assert contradiction(one, within(one)) is None


def test_what_failed_is_no_contradiction() -> None:
    one = streamed([1] * 12, silent=30)
    one.error = "closed early"
    assert contradiction(one, within(one)) is None


def a_run(*samples: Sample, arm: str = "A") -> Run:
    for i, one in enumerate(samples):
        one.prompt = replace(one.prompt, id=f"q{i}")
    return run(*samples, arm=arm)


def test_answers_that_contradict_themselves_are_judged_by_nobody() -> None:
    """Tried: answers cut after 12 events with length while the usage counted on."""
    cut = a_run(*(streamed([1] * 12, silent=388, finish_reason="length") for _ in range(4)))
    whole = a_run(*(streamed([1] * 400) for _ in range(4)), arm="B")
    (reason,) = check([(cut, whole)], [AS_LONG, AS_RIGHT, FAST]).reasons
    assert reason.text.startswith("A: 4 of 4 answers contradict themselves: 388 of its 400 tokens")
    assert (reason.side, reason.by_engine) == ("A", True)
    assert set(reason.claims) == {AS_LONG.slug, AS_RIGHT.slug, FAST.slug}
    assert problems([(whole, whole)], [AS_LONG, FAST]) == []


@pytest.mark.parametrize(
    ("reads", "held"),
    [([1] * 40, False), ([1] * 30 + [5, 5], False), ([2] * 20, True), ([10] * 4, True)],
)
def test_deltas_in_clumps_cost_the_times_between_tokens(reads: list[int], held: bool) -> None:
    blocks = [(a_run(streamed(reads)), a_run(streamed([1] * 40), arm="B")) for _ in range(3)]
    found = check(blocks, [FAST, SOON]).reasons
    assert bool(found) == held
    if held:
        (reason,) = found
        assert reason.claims == (FAST.slug,)
        assert "arrived together with the one before them" in reason.text


def test_tokens_that_speculation_makes_together_are_no_clumps() -> None:
    pair = a_run(streamed([2] * 20)), a_run(streamed([1] * 40), arm="B")
    pair[0].series["accepted_tokens"] = ([0.0, 9.0], [0.0, 20.0])
    assert problems([pair], [FAST]) == []


def test_one_disturbed_run_of_several_is_no_gateway() -> None:
    disturbed = a_run(streamed([8] * 5)), a_run(streamed([1] * 40), arm="B")
    usual = a_run(streamed([1] * 40)), a_run(streamed([1] * 40), arm="B")
    assert problems([disturbed, usual, usual], [FAST]) == []


def test_tbt_of_answers_that_came_whole_is_unknown() -> None:
    whole, usual = streamed([40]), streamed([1] * 40)
    with pytest.raises(MetricUnavailable, match=r"TBT: 1 of 1 answers came whole in one read"):
        TBT.of_run(a_run(whole))
    with pytest.raises(MetricUnavailable, match=r"TBT: 1 of 2 answers came whole in one read"):
        TBT.of_run(a_run(whole, usual))
    few = a_run(whole, *(streamed([1] * 40) for _ in range(30)))
    assert TBT.of_run(few) == pytest.approx(0.1)


def test_text_in_an_unknown_field_is_no_late_first_token() -> None:
    one = sample(deltas=[Delta(0.1, "thought", 3, "so"), Delta(0.5, "content", 1, "7")])
    for metric in (TTFT, TTFVT):
        with pytest.raises(
            MetricUnavailable, match=r"has text in delta\.thought, which is not known"
        ):
            metric.of_run(run(one))
    assert one.reasoning_tokens is None


def test_a_template_that_opens_the_reasoning_makes_what_was_cut_off_reasoning(
    tmp_path: Path,
) -> None:
    """Without a field of its own, and only where the record says so."""
    told = {}
    for opened in (False, True):
        path = tmp_path / f"{opened}.jsonl"
        with RunWriter(path, Header(notes={OPENED: True} if opened else {})) as writer:
            deltas = [
                Delta(0.1, "content", 3, "Okay, 3+4"),
                Delta(0.2, "content", 8, " is 8? Wait,"),
            ]
            writer.sample(sample(deltas=deltas, finish_reason="length"))
            writer.close({"planned": 1})
        (one,) = read_run(path).samples
        told[opened] = one.reasoning_tokens, one.answer, one.first_visible_s
    assert told == {False: (0, "Okay, 3+4 is 8? Wait,", 0.1), True: (11, "", None)}


def test_a_contradiction_and_remarks_are_kept_in_the_record(tmp_path: Path) -> None:
    one = sample()
    one.contradiction, one.remarks = "12 tokens, and 400", ["text after the finish reason"]
    with RunWriter(tmp_path / "run.jsonl", Header()) as writer:
        writer.sample(one)
        stored = writer.close({"planned": 1})
    assert stored.samples == [one]
