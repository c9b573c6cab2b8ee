"""Numbers from a run: each is one decorated function, see ``quantities.metric``."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable

import numpy as np

from ..datasets.grading import Grade, grade
from ..records.run import Run, Sample
from .base import METRICS as METRICS
from .base import Metric as Metric
from .base import MetricUnavailable as MetricUnavailable
from .base import metric as metric
from .engine import counted as counted
from .engine import while_busy

# ---- answers


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


@metric("agreement", "share", better="higher", per="pair")
def AGREEMENT(first: Run, second: Run) -> dict[str, float]:
    """Share of a question's answers that are word for word the other arm's, reasoning included.

    Only at temperature 0 does it say anything. The effect is held against full agreement.
    """
    texts = [
        {(s.prompt.id, s.prompt.repeat): s.deltas.text() for s in _finished(run)}
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
    return _per_question(run, lambda s: _known(s.output_tokens, "output tokens"))


@metric("reasoning tokens", "token", better="neither", per="question")
def REASONING_TOKENS(run: Run) -> dict[str, float]:
    """Tokens before the first visible one."""
    return _per_question(run, lambda s: _known(s.reasoning_tokens, "tokens per delta"))


# ---- times


@metric("TPS", "token/s", better="higher", timed=True, fixed_length=True)
def TPS(run: Run) -> float:
    """Output tokens per second of the run, all requests together."""
    return sum(_known(s.output_tokens, "output tokens") for s in _finished(run)) / _duration(run)


@metric("deltas/s", "1/s", better="higher", timed=True, fixed_length=True)
def DELTAS_PER_S(run: Run) -> float:
    """Streamed deltas per second: the TPS of the paper's code. A delta may carry many tokens."""
    return sum(len(s.deltas) for s in _finished(run)) / _duration(run)


@metric("TTFT", "s", better="lower", timed=True)
def TTFT(run: Run) -> float:
    """Median seconds from the intended start to the first token of any kind."""
    return _median(run, lambda s: _since(s, s.first_token_s, "first token"))


@metric("TTFVT", "s", better="lower", timed=True)
def TTFVT(run: Run) -> float:
    """Mean seconds from the intended start to the first visible token, as in the paper.

    A request that never showed a visible token counts with its whole time: a lower bound.
    """
    return statistics.fmean(
        (s.ended_s if s.first_visible_s is None else s.first_visible_s) - s.intended_s
        for s in _finished(run)
    )


@metric("TBT", "s", better="lower", timed=True, fixed_length=True)
def TBT(run: Run) -> float:
    """Seconds between tokens, per request (last - first arrival) / tokens after the first; median.

    Within a delta of several tokens no time is invented: only their number counts.
    """
    return _median(run, _tbt)


@metric("E2E", "s", better="lower", timed=True)
def E2E(run: Run) -> float:
    """Mean seconds from the intended start to the end of the answer."""
    return statistics.fmean(s.ended_s - s.intended_s for s in _finished(run))


@metric("run time", "s", better="lower", timed=True)
def RUN_TIME(run: Run) -> float:
    """Seconds from the first intended start to the end of the last answer."""
    return _duration(run)


@metric("straggling", "share", better="lower")
def STRAGGLING(run: Run) -> float:
    """Share of a batch's time that is left when three quarters of its requests have ended."""
    ends = np.array([s.ended_s for s in _finished(run)]) - min(s.intended_s for s in run.samples)
    return float(1.0 - np.quantile(ends, 0.75) / ends.max())


# ---- the engine's telemetry


@metric("KV peak", "share", better="lower")
def KV_PEAK(run: Run) -> float:
    """Highest KV-cache use of the run, share of the cache."""
    return float(while_busy(run).max())


@metric("KV mean", "share", better="lower")
def KV_MEAN(run: Run) -> float:
    """Mean KV-cache use over the run's readings, share of the cache."""
    return float(while_busy(run).mean())


@metric("KV swing", "share", better="lower")
def KV_SWING(run: Run) -> float:
    """Largest fall of KV-cache use from a high to a later low while requests run."""
    use = while_busy(run)
    return float((np.maximum.accumulate(use) - use).max())


@metric("preemptions", "share", better="lower")
def PREEMPTIONS(run: Run) -> float:
    """Preemptions per request: how often the engine threw a running request's KV cache away."""
    _finished(run)
    return counted(run, "preemptions") / len(run.samples)


@metric("prefix hits", "share", better="higher")
def PREFIX_HITS(run: Run) -> float:
    """Share of the prompts' tokens that were found in the prefix cache."""
    queries = counted(run, "prefix_queries")
    if queries <= 0:
        raise MetricUnavailable("the engine looked nothing up in a prefix cache: it was not on")
    return counted(run, "prefix_hits") / queries


@metric("acceptance rate", "share", better="higher")
def ACCEPTANCE_RATE(run: Run) -> float:
    """Accepted share of the tokens that speculation proposed."""
    return counted(run, "accepted_tokens") / _positive(counted(run, "draft_tokens"), "draft tokens")


@metric("acceptance length", "token", better="higher")
def ACCEPTANCE_LENGTH(run: Run) -> float:
    """Tokens per verified draft: one, and the accepted ones."""
    drafts = _positive(counted(run, "drafts"), "drafts")
    return 1.0 + counted(run, "accepted_tokens") / drafts


def _finished(run: Run) -> list[Sample]:
    finished = [s for s in run.samples if s.error is None]
    if not finished:
        raise MetricUnavailable("no request of the run finished")
    return finished


def _per_question(run: Run, number: Callable[[Sample], float]) -> dict[str, float]:
    numbers: defaultdict[str, list[float]] = defaultdict(list)
    for sample in _finished(run):
        numbers[sample.prompt.id].append(number(sample))
    return {question: statistics.fmean(values) for question, values in numbers.items()}


def _median(run: Run, number: Callable[[Sample], float]) -> float:
    return statistics.median(number(sample) for sample in _finished(run))


def _graded(run: Run, *grades: Grade) -> dict[str, float]:
    """Share of a question's answers that have one of these grades."""

    def found(sample: Sample) -> float:
        prompt = sample.prompt
        given = grade(sample.answer, prompt.answer, prompt.kind, sample.finish_reason)
        return float(given in grades)

    return _per_question(run, found)


def _tbt(sample: Sample) -> float:
    deltas = sample.deltas
    if not deltas.counted:
        raise MetricUnavailable("the engine did not report tokens per delta")
    carrying = np.flatnonzero(deltas.tokens)
    if len(carrying) < 2:
        raise MetricUnavailable(f"TBT: the answer to {sample.prompt.id} came in one delta")
    first, last = carrying[0], carrying[-1]
    return float(deltas.at_s[last] - deltas.at_s[first]) / int(deltas.tokens[first + 1 :].sum())


def _since(sample: Sample, at_s: float | None, what: str) -> float:
    if at_s is None:
        raise MetricUnavailable(f"the answer to {sample.prompt.id} has no {what}")
    return at_s - sample.intended_s


def _known(count: int | None, what: str) -> float:
    if count is None:
        raise MetricUnavailable(f"the engine did not report {what}")
    return float(count)


def _positive(value: float, what: str) -> float:
    if value <= 0:
        raise MetricUnavailable(f"the engine counted no {what}: speculation was not on")
    return value


def _duration(run: Run) -> float:
    _finished(run)
    if run.duration_s <= 0:
        raise MetricUnavailable("the run took no time")
    return run.duration_s
