"""Reasons why runs cannot be judged: they make a verdict INVALID, no pass and no regression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .claims import Claim
from .metrics import MetricUnavailable, counted
from .samples import Run

FAILED_SHARE = 0.01
"""More failed requests than this, and what is left is no fair sample."""
TELEMETRY_LOST = 0.1
"""A page now and then may be late; a larger share, and the engine does not tell what it must."""
LENGTHS_APART = 0.02
LATE_SHARE = 0.1
LATE_S = 0.05
"""The client is saturated when its p99 lateness exceeds 50 ms and a tenth of the median E2E, or
when its event loop was blocked for a tenth of the time."""
CAPACITY_GROWTH = 1.5
"""An 8-bit KV cache has room for about twice the tokens; with less than this it is off."""
FAR_OFF = 2.0
"""Mean change of a token's log probability beyond which quantised numerics are implausible."""


def problems(blocks: Sequence[tuple[Run, Run]], claims: Sequence[Claim]) -> list[str]:
    """Every reason why these blocks cannot carry these claims, each said once."""
    found = [
        *(reason for pair in blocks for run in pair for reason in _of_run(run)),
        *_clients(blocks, claims),
        *_lengths(blocks, claims),
        *_numerics(blocks),
    ]
    return list(dict.fromkeys(found))


def _of_run(run: Run) -> Iterator[str]:
    arm = run.about["arm"]
    if run.closing is None:
        yield f"{arm}: the record was cut short after {len(run.samples)} requests"
        return
    failed = [s for s in run.samples if s.error]
    if len(failed) > FAILED_SHARE * run.closing["planned"]:
        yield f"{arm}: {len(failed)} of {len(run.samples)} requests failed: {failed[0].error}"
    if run.closing["planned"] != len(run.samples):
        yield f"{arm}: {len(run.samples)} of {run.closing['planned']} requests were recorded"
    if len(failed) == len(run.samples):
        return
    lost = run.closing["telemetry_errors"]
    read = max((len(times) for times, _ in run.series.values()), default=0)
    if sum(lost.values()) > TELEMETRY_LOST * (sum(lost.values()) + read):
        yield f"{arm}: telemetry failed: {'; '.join(lost)}"
    if run.closing["monitor_error"]:
        yield f"{arm}: the monitor stopped: {run.closing['monitor_error']}"
    yield from _really_on(run, arm)
    for name in run.series:
        values = run.series[name][1]
        if name.endswith("_throttled") and any(values):
            yield f"{arm}: {name.removesuffix('_throttled')} was throttled"


def _clients(blocks: Sequence[tuple[Run, Run]], claims: Sequence[Claim]) -> Iterator[str]:
    """A late client spoils what is measured in time; what the answers say it does not change."""
    if any(claim.metric.per == "run" for claim in claims):
        for arm in zip(*blocks, strict=True):
            yield from _client([run for run in arm if run.closing and run.samples])


def _client(runs: Sequence[Run]) -> Iterator[str]:
    """Over all blocks of an arm: one hiccup of the machine is not a saturated client."""
    if not runs:
        return
    samples = [s for run in runs for s in run.samples]
    closings = [run.closing for run in runs if run.closing]
    late = float(np.quantile([s.sent_s - s.intended_s for s in samples], 0.99))
    median = float(np.median([s.ended_s - s.intended_s for s in samples]))
    wall = sum(closing["wall_s"] for closing in closings)
    blocked = sum(closing["loop_lag_share"] * closing["wall_s"] for closing in closings) / wall
    if blocked > LATE_SHARE or late > max(LATE_S, LATE_SHARE * median):
        yield (
            f"{runs[0].about['arm']}: the client was saturated: p99 lateness {late * 1e3:.0f} ms, "
            f"its event loop was blocked for {blocked:.0%} of the time, at a median E2E of "
            f"{median:.2f} s"
        )


def _really_on(run: Run, arm: str) -> Iterator[str]:
    """An optimisation that was asked for and ignored."""
    serving = run.about["serving"]
    wanted = []
    if serving["speculative"]:
        wanted.append(("drafts", "speculation"))
    if serving["prefix_caching"] and run.about["repeats"]:
        wanted.append(("prefix_hits", "prefix caching"))
    for series, what in wanted:
        try:
            if counted(run, series) <= 0:
                yield f"{arm}: {what} was not really on: {series} stayed at 0"
        except MetricUnavailable as error:
            yield f"{arm}: whether {what} was on is unknown: {error}"
    if serving["model"] == "reasoning" and not any(s.reasoned for s in run.samples):
        assert run.closing is not None
        yield (
            f"{arm}: no reasoning in any answer; fields of the stream's deltas were "
            f"{', '.join(run.closing['delta_fields'])}: was one renamed?"
        )


def _lengths(blocks: Sequence[tuple[Run, Run]], claims: Sequence[Claim]) -> Iterator[str]:
    speed = [str(claim.metric) for claim in claims if claim.metric.fixed_length]
    if not speed:
        return
    first, second = (
        sum(s.output_tokens or 0 for pair in blocks for s in pair[i].samples) for i in (0, 1)
    )
    if abs(first - second) > LENGTHS_APART * max(first, second):
        yield (
            f"output lengths apart: {first} against {second} tokens; {', '.join(speed)} can be "
            "compared only between equal lengths (Sampling(ignore_eos=True))"
        )


def _numerics(blocks: Sequence[tuple[Run, Run]]) -> Iterator[str]:
    """Quantisation shows in three signs: more room, other numerics, and not far off."""
    first, second = blocks[0][0], blocks[0][1]
    one, other = first.about["serving"], second.about["serving"]
    if one["model"] != other["model"]:
        return
    for kind in ("kv_cache_dtype", "quantization"):
        if one[kind] == other[kind]:
            continue
        arm = (first if one[kind] else second).about["arm"]
        change = _change(first.about["signature"], second.about["signature"])
        if change is None:
            yield f"{arm}: whether {kind} is on is unknown: the engine told no log probabilities"
        elif change == 0:
            yield f"{arm}: {kind} was not really on: log probabilities are bit for bit the same"
        elif change > FAR_OFF:
            yield f"{arm}: {kind} broke the model: a token's log probability moves by {change:.1f}"
    if one["kv_cache_dtype"] and not other["kv_cache_dtype"]:
        yield from _room(first, second)
    if other["kv_cache_dtype"] and not one["kv_cache_dtype"]:
        yield from _room(second, first)


def _room(small: Run, own: Run) -> Iterator[str]:
    """A KV cache of a smaller type has to hold more tokens than one of the model's own type."""
    arm = small.about["arm"]
    rooms = [run.series.get("kv_capacity_tokens", ([], []))[1] for run in (small, own)]
    if not all(rooms):
        yield f"{arm}: whether kv_cache_dtype is on is unknown: the engine tells no capacity"
    elif rooms[0][0] < CAPACITY_GROWTH * rooms[1][0]:
        yield (
            f"{arm}: kv_cache_dtype was not really on: room for {rooms[0][0]:.0f} tokens "
            f"against {rooms[1][0]:.0f}"
        )


def _change(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Mean absolute difference of log probabilities at the same prompt's tokens."""
    if not first or len(first) != len(second):
        return None
    return float(np.abs(np.array(first) - np.array(second)).mean())
