"""Run blocks that say nothing of the engine's times: the machine or the client disturbed them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping

import numpy as np

from ..loadgen import CLIENT_ERROR_S
from ..records.run import Run
from .gpus import disturbed_gpu
from .judge import Blocks

REFERENCE_BAND = 2.0
"""A block is void when the reference load took this many times its usual time, or that much less.
One try of 25 ms scatters by 19 % where nothing happens (784 runs on two cores of a shared host, in
16 sessions of an engine): 2.9 % of the tries are off by half as much again, and the runs that
followed were not slower than others; 0.4 % are off by twice."""
ANCHOR_BAND = 1.5
"""The same for the anchor probe, which scatters as much, about its server's median."""
LATE_SHARE = 0.1
LATE_S = 0.05
"""The client is late when its p99 lateness exceeds 50 ms and a tenth of the median E2E, or when its
event loop was blocked for a tenth of the time."""


Reasons = tuple[str | None, ...]
"""Why each run of a block says nothing of the engine's times; None for one that does."""


def void_blocks(blocks: Blocks) -> dict[int, str]:
    """Per void block, by its index, the first reason; see :func:`disturbed`."""
    return {i: first_reason(reasons) for i, reasons in disturbed(blocks).items()}


def first_reason(reasons: Reasons) -> str:
    """Of a void block."""
    return next(reason for reason in reasons if reason)


def disturbed(blocks: Blocks) -> dict[int, Reasons]:
    """Per void block, by its index, the first reason against each of its runs.

    A block is void when a GPU was throttled or served others, too, when the machine was suddenly
    slower or faster, when the client sent its requests late, or when it read more than it is known
    to carry. What tells of the machine is the
    reference load, which is no engine and is timed right before each run. Where it cannot run
    beside the engine, the anchor probe (one fixed request) has to do, which the engine under test
    answers. Claims about answers keep such blocks: what is answered does not depend on the clock.
    """
    anchors = _usual(blocks, _server, lambda run: run.header.anchor_s)
    references = _usual(blocks, _machine, lambda run: run.header.reference_s)
    found = {}
    for i, pair in enumerate(blocks):
        reasons = tuple(
            disturbed_gpu(run)
            or _off_usual(run, anchors, references)
            or _late(run)
            or _beyond_capacity(run)
            for run in pair
        )
        if any(reasons):
            found[i] = reasons
    return found


def busiest(run: Run) -> int:
    """Deltas that arrived in the busiest second."""
    times = np.sort(np.concatenate([np.zeros(0), *(s.deltas.at_s for s in run.samples)]))
    within = np.searchsorted(times, times + 1.0) - np.arange(times.size)
    return int(within.max(initial=0))


def _usual(
    blocks: Blocks, of: Callable[[Run], Hashable], seconds: Callable[[Run], float | None]
) -> dict[Hashable, float]:
    """Median of what was timed before the runs, by what it is a time of."""
    times: defaultdict[Hashable, list[float]] = defaultdict(list)
    for pair in blocks:
        for run in pair:
            took = seconds(run)
            if took is not None:
                times[of(run)].append(took)
    return {key: statistics.median(found) for key, found in times.items()}


def _server(run: Run) -> Hashable:
    return run.server


def _machine(run: Run) -> Hashable:
    """Where the reference load ran: on the processors or the GPU of a machine."""
    return run.header.machine, run.header.match.get("hardware")


def _off_usual(
    run: Run, anchors: Mapping[Hashable, float], references: Mapping[Hashable, float]
) -> str | None:
    """Why the machine was not as fast as usual before a run; None where it was, or nobody knows."""
    reference_s, anchor_s = run.header.reference_s, run.header.anchor_s
    if reference_s is not None:
        usual_s = references[_machine(run)]
        return _off("the reference load", reference_s, usual_s, REFERENCE_BAND)
    if anchor_s is not None:
        return _off("its anchor probe", anchor_s, anchors[_server(run)], ANCHOR_BAND)
    return None


def _off(what: str, took_s: float, usual_s: float, band: float) -> str | None:
    if usual_s / band <= took_s <= usual_s * band:
        return None
    return f"{what} took {took_s * 1e3:.0f} ms, {usual_s * 1e3:.0f} ms is usual"


def _late(run: Run) -> str | None:
    """Why the client, not the engine, made the times of a run; None when it did not."""
    if not run.closing or not run.samples:
        return None
    late = float(np.quantile([s.sent_s - s.intended_s for s in run.samples], 0.99))
    median = float(np.median([s.ended_s - s.intended_s for s in run.samples]))
    blocked = run.closing["loop_lag_share"]
    if blocked <= LATE_SHARE and late <= max(LATE_S, LATE_SHARE * median):
        return None
    return (
        f"the client was late: p99 {late * 1e3:.0f} ms, its event loop was blocked for "
        f"{blocked:.0%} of the time, at a median E2E of {median:.2f} s"
    )


def _beyond_capacity(run: Run) -> str | None:
    """Why the client may have read late: more arrived than it was measured to carry."""
    known = run.header.client
    if known is None:  # a client that was not measured
        return None
    if known["error_p99_s"] > CLIENT_ERROR_S:
        return (
            f"the client errs: p99 {known['error_p99_s'] * 1e3:.1f} ms at "
            f"{known['events_per_s']:.0f} deltas/s against a server whose times are known, "
            f"{CLIENT_ERROR_S * 1e3:g} ms are allowed"
        )
    most = busiest(run)
    if most <= known["events_per_s"]:
        return None
    return (
        f"the client carries {known['events_per_s']:.0f} deltas/s on {known['streams']:.0f} "
        f"streams in {known['processes']:.0f} process(es), {most} arrived in one second"
    )
