"""Metrics of the engine's own telemetry: KV cache, preemptions, prefix cache, speculation."""

from __future__ import annotations

import numpy as np

from ..records.run import Run
from ..telemetry.series import fall, impossible
from .base import MetricUnavailable, NotTold, finished, metric

FULL = 0.95
"""KV-cache use from which a cache counts as full: blocks are given out whole."""
LEAST_READINGS = 3
"""Readings of a gauge while requests are in flight that say something of a run."""


def counted(run: Run, name: str) -> float:
    """The increase of an engine's counter during a run.

    Raises:
        MetricUnavailable: the series was not recorded at the run's start and end, or cannot be
            right.
    """
    times, values = _readings(run, name)
    if why := fall(times, values):
        raise MetricUnavailable(f"the counter {name!r} {why}")
    if times[0] > 0 or times[-1] < max((s.ended_s for s in run.samples), default=0.0):
        raise MetricUnavailable(
            f"the counter {name!r} was not read at both ends of the run, but from {times[0]:.2f} s "
            f"to {times[-1]:.2f} s"
        )
    return values[-1] - values[0]


def while_busy(run: Run) -> np.ndarray:
    """KV-cache use while requests were in flight; shape (readings,), shares of the cache.

    Raises:
        MetricUnavailable: there are fewer than three such readings.
    """
    return _while_busy(run, "kv_use")


def _while_busy(run: Run, name: str) -> np.ndarray:
    _readings(run, name)
    busy = busy_readings(run, name)
    if len(busy) < LEAST_READINGS:
        what = {"kv_use": "KV use"}.get(name, name)
        raise MetricUnavailable(
            f"{what} was read {len(busy)} times while requests were in flight, {LEAST_READINGS} "
            "are needed: the run is too short for its telemetry; use more requests or longer "
            "answers"
        )
    return busy


def busy_readings(run: Run, name: str) -> np.ndarray:
    """Readings of a gauge while requests were in flight; empty where it was not recorded.

    The client's times decide what is in flight. The engine's count of running requests is 0 between
    two waves of short answers, which are part of the run.
    """
    times, values = run.series.get(name, ([], []))
    begun = np.searchsorted(sorted(s.sent_s for s in run.samples), times, side="right")
    ended = np.searchsorted(sorted(s.ended_s for s in run.samples), times, side="left")
    return np.array(values)[begun > ended]


def _readings(run: Run, name: str) -> tuple[list[float], list[float]]:
    """Times and values of a series.

    Raises:
        MetricUnavailable: it was not recorded, or has a value that it cannot have.
    """
    times, values = run.series.get(name, ([], []))
    if not values:
        raise NotTold(_no_series(run, name))
    for value in values:
        if why := impossible(name, value):
            raise NotTold(f"{name} is {why}")
    return times, values


@metric("KV peak", "share", better="lower", paced=True, series=("kv_use",))
def KV_PEAK(run: Run) -> float:
    """Highest KV-cache use of the run, as a share of the cache."""
    return float(while_busy(run).max())


@metric("KV mean", "share", better="lower", paced=True, series=("kv_use",))
def KV_MEAN(run: Run) -> float:
    """Mean KV-cache use over the readings of the run, as a share of the cache."""
    return float(while_busy(run).mean())


@metric("KV full", "share", better="lower", paced=True, series=("kv_use",))
def KV_FULL(run: Run) -> float:
    """Share of the readings of the run at which at least FULL of the KV cache was in use."""
    return float((while_busy(run) >= FULL).mean())


@metric("KV swing", "share", better="lower", paced=True, series=("kv_use",))
def KV_SWING(run: Run) -> float:
    """Largest decrease of KV-cache use from a maximum to a later minimum while requests run.

    Telemetry is read at a fixed rate, and the fewer readings a run has, the more often its extremes
    lie between two of them: a fast machine shows less swing than a slow one.
    """
    use = while_busy(run)
    return float((np.maximum.accumulate(use) - use).max())


@metric("lanes filled", "share", better="higher", paced=True, series=("running",))
def LANES_FILLED(run: Run) -> float:
    """Mean number of running requests over their highest number, over the readings of the run: 1
    when all requests of a batch end together, little when a few run on alone."""
    running = _while_busy(run, "running")
    if not running.max() > 0:
        raise MetricUnavailable("no request was running at any reading: the run is too short")
    return float(running.mean() / running.max())


@metric("preemptions", "share", better="lower", paced=True, bursty=True, series=("preemptions",))
def PREEMPTIONS(run: Run) -> float:
    """Preemptions per request: how often the engine dropped a running request's KV cache."""
    finished(run)
    return counted(run, "preemptions") / len(run.samples)


@metric(
    "decode per prefill", "times", better="neither", paced=True, series=("prefill_s", "decode_s")
)
def DECODE_PER_PREFILL(run: Run) -> float:
    """Seconds that requests spent in decoding per second that they spent in prefill, by the
    engine's own clock, without waiting.

    With one request at a time both are the engine's time, and the value is how many workers that
    only decode keep up with one that only reads prompts (1P7D for 7), where none of them batches.
    With more in flight, a step of the engine counts once for every request in it.
    """
    finished(run)
    read_s = counted(run, "prefill_s")
    if read_s <= 0:
        raise NotTold("the engine counted no time in prefill")
    return counted(run, "decode_s") / read_s


@metric("prefix hits", "share", better="higher", series=("prefix_queries", "prefix_hits"))
def PREFIX_HITS(run: Run) -> float:
    """Share of the prompts' tokens that were in the prefix cache; 0 of a serving without one."""
    queries, serving = counted(run, "prefix_queries"), run.header.serving
    if queries <= 0 and serving is not None and not serving.prefix_caching:
        return 0.0
    if queries <= 0:
        raise NotTold(
            "the engine counted no lookups in its prefix cache: prefix caching was not enabled"
        )
    return counted(run, "prefix_hits") / queries


@metric("acceptance rate", "share", better="higher", series=("draft_tokens", "accepted_tokens"))
def ACCEPTANCE_RATE(run: Run) -> float:
    """Share of the tokens proposed by speculation that were accepted."""
    return counted(run, "accepted_tokens") / _positive(counted(run, "draft_tokens"), "draft tokens")


@metric("acceptance length", "token", better="higher", series=("drafts", "accepted_tokens"))
def ACCEPTANCE_LENGTH(run: Run) -> float:
    """Tokens per verified draft: one, plus the accepted ones."""
    drafts = _positive(counted(run, "drafts"), "drafts")
    return 1.0 + counted(run, "accepted_tokens") / drafts


@metric("KV room", "token", better="higher", series=("kv_capacity_tokens",), exact=True)
def KV_ROOM(run: Run) -> float:
    """Tokens that the server's KV cache has room for."""
    return _readings(run, "kv_capacity_tokens")[1][0]


@metric("changed numerics", "share", better="neither", per="pair", exact=True)
def CHANGED_NUMERICS(first: Run, second: Run) -> dict[str, float]:
    """Share of the tokens of a fixed greedy probe whose log probability is not bit for bit that of
    the other arm: 0 where a number format is not really on."""
    one, other = first.header.signature, second.header.signature
    if not one or len(one) != len(other):
        raise NotTold("the engine told no log probabilities of the probe")
    pairs = zip(one, other, strict=True)
    return {f"token {i}": float(a != b) for i, (a, b) in enumerate(pairs)}


def _no_series(run: Run, name: str) -> str:
    closing = run.closing or {}
    if name in (missing := closing.get("series_missing", {})):
        return str(missing[name])
    errors = "; ".join(closing.get("telemetry_errors", {}))
    return (
        f"the series {name!r} was not recorded; there are {', '.join(sorted(run.series)) or 'none'}"
        + (f"; telemetry errors: {errors}" if errors else "")
    )


def _positive(value: float, what: str) -> float:
    if value <= 0:
        raise NotTold(f"the engine counted no {what}: speculation was not enabled")
    return value
