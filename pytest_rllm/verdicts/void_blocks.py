"""Run blocks that say nothing of the engine's times: the machine or the client disturbed them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from ..loadgen.limits import CLIENT_ERROR_S
from ..records.run import Run, ServerId
from .judge import Blocks

ANCHOR_BAND = 1.5
"""A block is void when its anchor probe took this many times its server's median, or that much
less."""
LATE_SHARE = 0.1
LATE_S = 0.05
"""The client is late when its p99 lateness exceeds 50 ms and a tenth of the median E2E, or when its
event loop was blocked for a tenth of the time."""


def void_blocks(blocks: Blocks) -> dict[int, str]:
    """Per void block, by its index, the first reason.

    A block is void when the anchor probe (one fixed request, timed alone before each run) shows
    that the machine was suddenly slower or faster, when the client sent its requests late, or when
    it read more than it is known to carry. Claims about answers keep such blocks: what is answered
    does not depend on the clock.
    """
    usual = _usual_anchors(blocks)
    found = {}
    for i, pair in enumerate(blocks):
        per_run = [(_off_anchor(run, usual), _late(run), _beyond_capacity(run)) for run in pair]
        reasons = [reason for of_run in per_run for reason in of_run if reason]
        if reasons:
            found[i] = reasons[0]
    return found


def busiest(run: Run) -> int:
    """Deltas that arrived in the busiest second."""
    times = np.sort(np.concatenate([np.zeros(0), *(s.deltas.at_s for s in run.samples)]))
    within = np.searchsorted(times, times + 1.0) - np.arange(times.size)
    return int(within.max(initial=0))


def _usual_anchors(blocks: Blocks) -> dict[ServerId, float]:
    """Median of the anchor probe per server, in seconds."""
    anchors: defaultdict[ServerId, list[float]] = defaultdict(list)
    for pair in blocks:
        for run in pair:
            if run.header.anchor_s is not None:
                anchors[run.server].append(run.header.anchor_s)
    return {server: statistics.median(times) for server, times in anchors.items()}


def _off_anchor(run: Run, usual: Mapping[ServerId, float]) -> str | None:
    took = run.header.anchor_s
    if took is None:
        return None
    median = usual[run.server]
    if median / ANCHOR_BAND <= took <= median * ANCHOR_BAND:
        return None
    return f"its anchor probe took {took * 1e3:.0f} ms, {median * 1e3:.0f} ms is usual"


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
