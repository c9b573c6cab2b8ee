"""Metrics of time: latencies and rates, seen by the client."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np

from ..records.run import Run, Sample
from .base import MetricUnavailable, NotTold, finished, known, metric


@metric("TPS", "token/s", better="higher", timed=True, fixed_length=True)
def TPS(run: Run) -> float:
    """Output tokens per second of the run, over all requests."""
    return sum(known(s.output_tokens, "output tokens") for s in finished(run)) / _duration(run)


@metric("deltas/s", "1/s", better="higher", timed=True, fixed_length=True)
def DELTAS_PER_S(run: Run) -> float:
    """Streamed deltas per second, the TPS of the paper's code; a delta may carry many tokens."""
    return sum(len(s.deltas) for s in finished(run)) / _duration(run)


@metric("TTFT", "s", better="lower", timed=True)
def TTFT(run: Run) -> float:
    """Median seconds from the intended start to the first token of any kind."""
    return _median(run, lambda s: _since(s, s.first_token_s, "first token"))


@metric("TTFVT", "s", better="lower", timed=True)
def TTFVT(run: Run) -> float:
    """Mean seconds from the intended start to the first visible token, as in the paper.

    A request without a visible token counts with its whole duration, which is a lower bound.
    """
    return statistics.fmean(
        (s.ended_s if s.first_visible_s is None else s.first_visible_s) - s.intended_s
        for s in finished(run)
    )


@metric("TBT", "s", better="lower", timed=True, fixed_length=True)
def TBT(run: Run) -> float:
    """Median over requests of the seconds between tokens: (last - first arrival) / later tokens.

    The tokens of one delta arrive together; no arrival times are interpolated between them.
    """
    return _median(run, _tbt)


@metric("E2E", "s", better="lower", timed=True)
def E2E(run: Run) -> float:
    """Mean seconds from the intended start to the end of the answer."""
    return statistics.fmean(s.ended_s - s.intended_s for s in finished(run))


@metric("run time", "s", better="lower", timed=True)
def RUN_TIME(run: Run) -> float:
    """Seconds from the first intended start to the end of the last answer."""
    return _duration(run)


@metric("straggling", "share", better="lower", paced=True)
def STRAGGLING(run: Run) -> float:
    """Share of a run's time that remains when three quarters of its requests have ended."""
    ends = np.array([s.ended_s for s in finished(run)]) - min(s.intended_s for s in run.samples)
    return float(1.0 - np.quantile(ends, 0.75) / ends.max())


def _median(run: Run, number: Callable[[Sample], float]) -> float:
    return statistics.median(number(sample) for sample in finished(run))


def _tbt(sample: Sample) -> float:
    deltas = sample.deltas
    if not deltas.counted:
        raise NotTold("the engine did not report tokens per delta")
    carrying = np.flatnonzero(deltas.tokens)
    if len(carrying) < 2:
        if deltas.tokens.sum() == 1:  # no engine can stream it otherwise
            raise MetricUnavailable(f"TBT: the answer to {sample.prompt.id} is one token long")
        raise NotTold(f"TBT: the answer to {sample.prompt.id} came in one delta")
    first, last = carrying[0], carrying[-1]
    return float(deltas.at_s[last] - deltas.at_s[first]) / int(deltas.tokens[first + 1 :].sum())


def _since(sample: Sample, at_s: float | None, what: str) -> float:
    if at_s is None:
        raise NotTold(f"the answer to {sample.prompt.id} has no {what}")
    return at_s - sample.intended_s


def _duration(run: Run) -> float:
    finished(run)
    if run.duration_s <= 0:
        raise MetricUnavailable("the run took no time")
    return run.duration_s
