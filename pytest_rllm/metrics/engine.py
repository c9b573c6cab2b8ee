"""What the series beside a run say of it: counters of the engine, and its KV cache while busy."""

from __future__ import annotations

import numpy as np

from ..records.run import Run
from .base import MetricUnavailable


def counted(run: Run, name: str) -> float:
    """How far a counter of the engine went up during a run.

    Raises:
        MetricUnavailable: the series was not recorded at the run's start and end.
    """
    times, values = run.series.get(name, ([], []))
    if not values:
        raise MetricUnavailable(_no_series(run, name))
    if times[0] > 0 or times[-1] < max((s.ended_s for s in run.samples), default=0.0):
        raise MetricUnavailable(
            f"the counter {name!r} was not read at both ends of the run, but from {times[0]:.2f} s "
            f"to {times[-1]:.2f} s"
        )
    return values[-1] - values[0]


def while_busy(run: Run) -> np.ndarray:
    """Readings of KV use while at least one request was in flight, by the client's clock; shape
    (readings,), shares of the cache.

    The engine's own count of running requests is no help here: it is 0 between two waves of short
    answers, which are part of the run.

    Raises:
        MetricUnavailable: there are fewer than three.
    """
    if "kv_use" not in run.series:
        raise MetricUnavailable(_no_series(run, "kv_use"))
    times, use = run.series["kv_use"]
    spans = [(s.sent_s, s.ended_s) for s in run.samples]
    busy = [u for t, u in zip(times, use, strict=True) if any(a <= t <= b for a, b in spans)]
    if len(busy) < 3:
        raise MetricUnavailable(
            f"KV use was read {len(busy)} times while requests were in flight, 3 are needed: "
            "the run is too short for its telemetry"
        )
    return np.array(busy)


def _no_series(run: Run, name: str) -> str:
    errors = "; ".join((run.closing or {}).get("telemetry_errors", {}))
    return (
        f"the series {name!r} was not recorded; there are {', '.join(sorted(run.series)) or 'none'}"
        + (f"; telemetry said: {errors}" if errors else "")
    )
