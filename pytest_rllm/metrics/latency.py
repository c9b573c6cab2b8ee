"""Metrics of time: latencies and rates, seen by the client."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import numpy as np

from ..records.run import Run, Sample
from .base import Metric, MetricUnavailable, NotTold, finished, known, metric, uncounted

TOGETHER_S = 1e-4
"""Deltas that arrive within this time arrived together; no engine makes tokens that fast one after
the other."""
MOST_WHOLE = 0.05
"""Share of answers that may have come whole in one read, for times between tokens of the others."""


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
    """Mean seconds from the intended start to the first token of any kind.

    A mean and no median, here and below: what one request in five has to wait longer must show.
    """
    return statistics.fmean(_first_tokens(run))


@metric("TTFT p90", "s", better="lower", timed=True)
def TTFT_P90(run: Run) -> float:
    """90th percentile over the requests of a run of the seconds to the first token."""
    return _percentile(_first_tokens(run), 90, "requests")


@metric("TTFVT", "s", better="lower", timed=True)
def TTFVT(run: Run) -> float:
    """Mean seconds from the intended start to the first visible token, as in the paper.

    A request without a visible token counts with its whole duration, which is a lower bound.
    """
    for sample in finished(run):
        _all_known(sample, "TTFVT")
    return statistics.fmean(
        (s.ended_s if s.first_visible_s is None else s.first_visible_s) - s.intended_s
        for s in finished(run)
    )


@metric("TBT", "s", better="lower", timed=True, fixed_length=True)
def TBT(run: Run) -> float:
    """Mean over requests of the seconds between tokens: (last - first arrival) / later tokens.

    The tokens of one delta arrive together; no arrival times are interpolated between them. Answers
    that came whole in one read have no such time, and are left out as long as they are few.
    """
    times = [_tbt(sample, run) for sample in finished(run)]
    known = [time for time in times if time is not None]
    whole = len(times) - len(known)
    if not known or whole > MOST_WHOLE * len(times):
        raise MetricUnavailable(
            f"TBT: {whole} of {len(times)} answers came whole in one read: something between "
            "engine and client holds them back"
        )
    return statistics.fmean(known)


@metric("TBT p99", "s", better="lower", timed=True)
def TBT_P99(run: Run) -> float:
    """99th percentile over all deltas of a run of the seconds since the delta before it: the stalls
    that a reader sees."""
    gaps = [
        np.diff(s.deltas.at_s[(s.deltas.tokens != 0) | (s.deltas.sizes > 0)]) for s in finished(run)
    ]
    return _percentile(np.concatenate([np.zeros(0), *gaps]), 99, "gaps between deltas")


@metric("E2E", "s", better="lower", timed=True)
def E2E(run: Run) -> float:
    """Mean seconds from the intended start to the end of the answer."""
    return statistics.fmean(s.ended_s - s.intended_s for s in finished(run))


@metric("E2E p90", "s", better="lower", timed=True)
def E2E_P90(run: Run) -> float:
    """90th percentile over the requests of a run of the seconds to the end of the answer."""
    return _percentile([s.ended_s - s.intended_s for s in finished(run)], 90, "requests")


@metric("run time", "s", better="lower", timed=True)
def RUN_TIME(run: Run) -> float:
    """Seconds from the first intended start to the end of the last answer."""
    return _duration(run)


@metric("straggling", "share", better="lower", paced=True)
def STRAGGLING(run: Run) -> float:
    """Share of a run's time that remains when three quarters of its requests have ended."""
    ends = np.array([s.ended_s for s in finished(run)]) - min(s.intended_s for s in run.samples)
    return float(1.0 - np.quantile(ends, 0.75) / ends.max())


def goodput(*, ttft_s: float | None = None, e2e_s: float | None = None) -> Metric:
    """The metric ``goodput``: requests per second of the run that finished within the limits.

    Args:
        ttft_s: seconds that may pass from the intended start to the first token of any kind.
        e2e_s: seconds that may pass from the intended start to the end of the answer.

    Raises:
        ValueError: no limit is given, or one that is not above 0.
    """
    within = _within(ttft_s, e2e_s)

    def of(run: Run) -> float:
        return sum(map(within, run.samples)) / _duration(run)

    return Metric("goodput", "1/s", "higher", "run", of, timed=True)


def in_time(*, ttft_s: float | None = None, e2e_s: float | None = None) -> Metric:
    """The metric ``in time``: the share of all requests that finished within the limits; failed
    ones did not. It is what part of the offered load is goodput.

    Args, Raises: as of :func:`goodput`.
    """
    within = _within(ttft_s, e2e_s)

    def of(run: Run) -> float:
        finished(run)
        return sum(map(within, run.samples)) / len(run.samples)

    return Metric("in time", "share", "higher", "run", of, paced=True)


def _within(ttft_s: float | None, e2e_s: float | None) -> Callable[[Sample], bool]:
    limits = [limit for limit in (ttft_s, e2e_s) if limit is not None]
    if not limits or min(limits) <= 0:
        raise ValueError(
            f"goodput needs a limit above 0 s, ttft_s= or e2e_s=, not {ttft_s} and {e2e_s}"
        )

    def within(sample: Sample) -> bool:
        if sample.error is not None:
            return False
        first = _first_token(sample) if ttft_s is not None else 0.0
        took = sample.ended_s - sample.intended_s
        return first <= (ttft_s or 0.0) and (e2e_s is None or took <= e2e_s)

    return within


def _first_tokens(run: Run) -> list[float]:
    return [_first_token(sample) for sample in finished(run)]


def _first_token(sample: Sample) -> float:
    _all_known(sample, "TTFT")
    return _since(sample, sample.first_token_s, "first token")


def _all_known(sample: Sample, what: str) -> None:
    """Raises NotTold where an answer has text that may be its first token, or may be none."""
    if sample.unknown_fields:
        raise NotTold(
            f"{what}: the answer to {sample.prompt.id} has text in "
            f"{' and '.join(f'delta.{name}' for name in sample.unknown_fields)}, which is not "
            "known here: whether it is reasoning or an answer is unknown"
        )


def _percentile(values: Sequence[float] | np.ndarray, percent: int, what: str) -> float:
    needed = 100 // (100 - percent)
    if len(values) < needed:
        raise MetricUnavailable(
            f"{len(values)} {what} have no {percent}th percentile, it takes {needed}: ask for more "
            "in a block"
        )
    return float(np.percentile(values, percent))


def _tbt(sample: Sample, run: Run) -> float | None:
    """Seconds between tokens; None where all of them came in one read."""
    deltas = sample.deltas
    if not deltas.counted:
        raise NotTold(f"the engine did not report tokens per delta{uncounted(run)}")
    carrying = np.flatnonzero(deltas.tokens)
    if len(carrying) < 2:
        if deltas.tokens.sum() == 1:  # no engine can stream it otherwise
            raise MetricUnavailable(f"TBT: the answer to {sample.prompt.id} is one token long")
        raise NotTold(f"TBT: the answer to {sample.prompt.id} came in one delta")
    first, last = carrying[0], carrying[-1]
    if deltas.at_s[last] - deltas.at_s[first] <= TOGETHER_S:
        return None
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
