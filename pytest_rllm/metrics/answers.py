"""Metrics of answers: their grades, their agreement, their lengths, and failed requests."""

from __future__ import annotations

import statistics
from collections import defaultdict

from ..datasets.grading import Grade, grade
from ..datasets.sandbox import NoSandbox
from ..records.run import Run, Sample
from .base import MetricUnavailable, finished, known, metric, per_question, uncounted

START = 500
"""Characters of an answer's start, some 125 tokens: answers of right engines seldom part there, and
those of a broken one do."""


@metric("accuracy", "share", better="higher", per="question")
def ACCURACY(run: Run) -> dict[str, float]:
    """Share of right answers per question; truncated, unparsed and empty ones count as wrong."""
    return _graded(run, "right")


@metric("sanity", "share", better="higher", per="question", of_server=True)
def SANITY(run: Run) -> dict[str, float]:
    """Share of a question's answers that are right, as accuracy, asked of easy questions: what a
    broken number format answers is wrong, however sure it is. It says what a server is, and is
    judged of one on which a number format is not really on, too."""
    return ACCURACY.of_questions(run)


@metric("unfinished", "share", better="lower", per="question")
def UNFINISHED(run: Run) -> dict[str, float]:
    """Share of answers without a result: truncated, unparsed or empty."""
    return _graded(run, "truncated", "unparsed", "empty")


@metric("truncated", "share", better="lower", per="question")
def TRUNCATED(run: Run) -> dict[str, float]:
    """Share of answers without a result that reached the limit of output tokens."""
    return _graded(run, "truncated")


@metric("unparsed", "share", better="lower", per="question")
def UNPARSED(run: Run) -> dict[str, float]:
    """Share of finished answers with text but without a result."""
    return _graded(run, "unparsed")


@metric("empty", "share", better="lower", per="question")
def EMPTY(run: Run) -> dict[str, float]:
    """Share of finished answers without any visible text."""
    return _graded(run, "empty")


@metric("failed requests", "share", better="lower", per="question", counts_failed=True)
def FAILED(run: Run) -> dict[str, float]:
    """Share of a question's requests that failed or were aborted, of all requests of the run.

    The other metrics cover finished requests only, so an engine that fails at its hardest requests
    would look better without this one.
    """
    if not run.samples:
        raise MetricUnavailable("the run holds no request")
    failures: defaultdict[str, list[float]] = defaultdict(list)
    for sample in run.samples:
        failures[sample.prompt.id].append(float(sample.error is not None))
    return {question: statistics.fmean(values) for question, values in failures.items()}


@metric("agreement", "share", better="higher", per="pair")
def AGREEMENT(first: Run, second: Run) -> dict[str, float]:
    """Share of a question's answers that equal the other arm's in every character, with reasoning.

    It is only meaningful at temperature 0. The effect is the difference to full agreement.
    """
    return _same(first, second, None)


@metric("early agreement", "share", better="higher", per="pair", of_beginnings=True)
def EARLY_AGREEMENT(first: Run, second: Run) -> dict[str, float]:
    """Share of a question's answers whose first START characters equal the other arm's, with
    reasoning.

    Like agreement it is only meaningful at temperature 0, but it does not fall with the length of
    the answers: two right engines part by rounding at some rate per token, and a longer answer
    gives them more tokens to part at.
    """
    return _same(first, second, START)


@metric("output tokens", "token", better="neither", per="question")
def OUTPUT_TOKENS(run: Run) -> dict[str, float]:
    """Number of generated tokens per answer, with reasoning, as counted by the engine."""
    return per_question(run, lambda s: known(s.output_tokens, "output tokens"))


@metric("reasoning tokens", "token", better="neither", per="question")
def REASONING_TOKENS(run: Run) -> dict[str, float]:
    """Number of tokens before the first visible one; where deltas do not tell it, as the engine
    says."""
    apart = "how many of its tokens are reasoning, and the deltas do not show it"
    untold = f"tokens per delta, nor how many of all are reasoning{uncounted(run)}"
    return per_question(
        run, lambda s: known(s.reasoning_tokens, apart if s.deltas.counted else untold)
    )


def _same(first: Run, second: Run, until: int | None) -> dict[str, float]:
    """Per question the share of answers that equal the other arm's until that character."""
    texts = [
        {(s.prompt.id, s.prompt.repeat): s.deltas.text()[:until] for s in finished(run)}
        for run in (first, second)
    ]
    if texts[0].keys() != texts[1].keys():
        raise MetricUnavailable("agreement: the arms did not answer the same questions")
    same: defaultdict[str, list[float]] = defaultdict(list)
    for key, text in texts[0].items():
        same[key[0]].append(float(text == texts[1][key]))
    return {question: statistics.fmean(values) for question, values in same.items()}


def _graded(run: Run, *grades: Grade) -> dict[str, float]:
    """Share of a question's answers that have one of these grades."""

    def found(sample: Sample) -> float:
        prompt = sample.prompt
        try:
            given = grade(sample.answer, prompt.answer, prompt.kind, sample.finish_reason)
        except NoSandbox as missing:
            raise MetricUnavailable(str(missing)) from missing
        return float(given in grades)

    return per_question(run, found)
