"""Metrics of what was answered: right or not, with how many tokens."""

from __future__ import annotations

import statistics
from collections import defaultdict

from ..datasets.grading import Grade, grade
from ..records.run import Run, Sample
from .base import MetricUnavailable, finished, known, metric, per_question


@metric("accuracy", "share", better="higher", per="question")
def ACCURACY(run: Run) -> dict[str, float]:
    """Share of right answers per question; truncated, unparsed and empty ones are wrong."""
    return _graded(run, "right")


@metric("unfinished", "share", better="lower", per="question")
def UNFINISHED(run: Run) -> dict[str, float]:
    """Share of answers without a result: truncated, unparsed or empty."""
    return _graded(run, "truncated", "unparsed", "empty")


@metric("truncated", "share", better="lower", per="question")
def TRUNCATED(run: Run) -> dict[str, float]:
    """Share of answers that ran into the token budget."""
    return _graded(run, "truncated")


@metric("unparsed", "share", better="lower", per="question")
def UNPARSED(run: Run) -> dict[str, float]:
    """Share of finished answers in which no result can be found."""
    return _graded(run, "unparsed")


@metric("empty", "share", better="lower", per="question")
def EMPTY(run: Run) -> dict[str, float]:
    """Share of finished answers without any visible text."""
    return _graded(run, "empty")


@metric("failed requests", "share", better="lower", per="question", counts_failed=True)
def FAILED(run: Run) -> dict[str, float]:
    """Share of a question's requests that failed or were aborted, of all requests of the run.

    The other metrics are of finished requests only: without this one, an engine that fails at its
    hardest requests would look better.
    """
    if not run.samples:
        raise MetricUnavailable("the run holds no request")
    failures: defaultdict[str, list[float]] = defaultdict(list)
    for sample in run.samples:
        failures[sample.prompt.id].append(float(sample.error is not None))
    return {question: statistics.fmean(values) for question, values in failures.items()}


@metric("agreement", "share", better="higher", per="pair")
def AGREEMENT(first: Run, second: Run) -> dict[str, float]:
    """Share of a question's answers that are word for word the other arm's, reasoning included.

    Only at temperature 0 does it say anything. The effect is held against full agreement.
    """
    texts = [
        {(s.prompt.id, s.prompt.repeat): s.deltas.text() for s in finished(run)}
        for run in (first, second)
    ]
    if texts[0].keys() != texts[1].keys():
        raise MetricUnavailable("agreement: the arms did not answer the same questions")
    same: defaultdict[str, list[float]] = defaultdict(list)
    for key, text in texts[0].items():
        same[key[0]].append(float(text == texts[1][key]))
    return {question: statistics.fmean(values) for question, values in same.items()}


@metric("output tokens", "token", better="neither", per="question")
def OUTPUT_TOKENS(run: Run) -> dict[str, float]:
    """Tokens generated per answer, reasoning included, by the engine's count."""
    return per_question(run, lambda s: known(s.output_tokens, "output tokens"))


@metric("reasoning tokens", "token", better="neither", per="question")
def REASONING_TOKENS(run: Run) -> dict[str, float]:
    """Tokens before the first visible one."""
    return per_question(run, lambda s: known(s.reasoning_tokens, "tokens per delta"))


def _graded(run: Run, *grades: Grade) -> dict[str, float]:
    """Share of a question's answers that have one of these grades."""

    def found(sample: Sample) -> float:
        prompt = sample.prompt
        given = grade(sample.answer, prompt.answer, prompt.kind, sample.finish_reason)
        return float(given in grades)

    return per_question(run, found)
