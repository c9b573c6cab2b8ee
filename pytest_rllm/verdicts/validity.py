"""Reasons why runs cannot be judged: they make a verdict INVALID, no pass and no regression."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..loadgen.limits import CLIENT_ERROR_S
from ..metrics import MetricUnavailable, counted
from ..records.run import Run
from .claims import Claim
from .judge import Blocks

FAILED_SHARE = 0.01
"""More failed requests than this, and what is left is no fair sample."""
TELEMETRY_LOST = 0.1
"""A page now and then may be late; a larger share, and the engine does not tell what it must."""
OTHERS = ("host_", "gpu")
"""Series that no page of the engine tells: they go on when it falls silent."""
LENGTHS_APART = 0.02
LATE_SHARE = 0.1
LATE_S = 0.05
"""The client is late when its p99 lateness exceeds 50 ms and a tenth of the median E2E, or when its
event loop was blocked for a tenth of the time."""
CAPACITY_GROWTH = 1.5
"""An 8-bit KV cache has room for about twice the tokens; with less than this it is off."""
ANCHOR_BAND = 1.5
"""A block is void when its anchor probe took so many times its server's median, or so much less."""
VOID_SHARE = 0.25
"""More void blocks than this, and nothing is judged. Of 326 pairs of blocks on two cores of a
shared host 24 were void; with that, three of eight are in one or two cases of a hundred."""
TRUNCATED_SHARE = 0.2
RESOLVED = {"template": "the chat template", "sampling_defaults": "a sampling default"}
FAR_OFF = 2.0
"""Mean change of a token's log probability beyond which quantised numerics are implausible."""


def problems(blocks: Blocks, claims: Sequence[Claim]) -> list[str]:
    """Every reason why these blocks cannot carry these claims, each said once."""
    found = [
        *(reason for pair in blocks for run in pair for reason in _of_run(run)),
        *_machine(blocks, claims),
        *_lengths(blocks, claims),
        *_resolved(blocks),
        *_truncated(blocks),
        *_numerics(blocks),
    ]
    return list(dict.fromkeys(found))


def sound(blocks: Blocks, claims: Sequence[Claim]) -> tuple[list[tuple[Run, Run]], list[str]]:
    """The blocks that can be judged, and for each other one why it is void.

    A block is void when the machine or the client had a moment of their own: its anchor probe (one
    fixed request, timed alone before each run) shows a machine that was suddenly slower or faster,
    or the client sent its requests late, or read more than it is known to carry. Such a pair of
    runs says nothing about the engine. What is answered does not depend on the clock: claims about
    questions alone keep every block.
    """
    if all(claim.metric.per != "run" for claim in claims):
        return list(blocks), []
    usual = _usual_anchors(blocks)
    kept, voids = [], []
    for i, pair in enumerate(blocks):
        told = [(_off_anchor(run, usual), _late(run), _beyond(run)) for run in pair]
        reasons = [why for of_run in told for why in of_run if why]
        if reasons:
            voids.append(f"block {i + 1} is void: {reasons[0]}")
        else:
            kept.append(pair)
    return kept, voids


def _usual_anchors(blocks: Blocks) -> dict[tuple[Any, ...], float]:
    """Median of the anchor probe per server, in seconds."""
    anchors: defaultdict[tuple[Any, ...], list[float]] = defaultdict(list)
    for pair in blocks:
        for run in pair:
            if "anchor_s" in run.about:
                anchors[run.server].append(run.about["anchor_s"])
    return {server: statistics.median(times) for server, times in anchors.items()}


def _off_anchor(run: Run, usual: Mapping[tuple[Any, ...], float]) -> str | None:
    took = run.about.get("anchor_s")
    if took is None:
        return None
    median = usual[run.server]
    if median / ANCHOR_BAND <= took <= median * ANCHOR_BAND:
        return None
    return f"its anchor probe took {took * 1e3:.0f} ms, {median * 1e3:.0f} ms is usual"


def _late(run: Run) -> str | None:
    """Whether the client, not the engine, made the times of a run."""
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


def _beyond(run: Run) -> str | None:
    """Whether more arrived than the client was measured to carry, or it carries nothing."""
    known = run.about.get("client")
    if known is None:  # recorded by another client
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
        f"the client carries {known['events_per_s']:.0f} deltas/s on {known['streams']} streams "
        f"in {known['processes']} process(es), {most} arrived in one second"
    )


def busiest(run: Run) -> int:
    """Deltas that arrived in the busiest second."""
    times = np.sort(np.concatenate([np.zeros(0), *(s.deltas.at_s for s in run.samples)]))
    within = np.searchsorted(times, times + 1.0) - np.arange(times.size)
    return int(within.max(initial=0))


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
    cut, cuts = run.closing.get("cut", 0), run.closing.get("cuts_planned", 0)
    if cut < cuts:
        yield f"{arm}: only {cut} of {cuts} requests hung up: the others failed or ended before"
    if len(failed) == len(run.samples):
        return
    lost = run.closing["telemetry_errors"]
    engines = (t for name, (t, _) in run.series.items() if not name.startswith(OTHERS))
    read = max(map(len, engines), default=0)
    if sum(lost.values()) > TELEMETRY_LOST * (sum(lost.values()) + read):
        yield f"{arm}: telemetry failed: {'; '.join(lost)}"
    if run.closing["monitor_error"]:
        yield f"{arm}: the monitor stopped: {run.closing['monitor_error']}"
    yield from _really_on(run, arm)
    for name in run.series:
        values = run.series[name][1]
        device, _, what = name.rpartition("_")
        if what == "throttled" and any(values):
            yield f"{arm}: {device} was throttled"
        if what == "processes" and min(values) < max(values):
            yield f"{arm}: {device} was shared: processes came or went while it was measured"
    for device, count in run.about.get("gpu_strangers", {}).items():
        yield f"{arm}: {device} was shared: {count:.0f} process(es) before the first server"


def _machine(blocks: Blocks, claims: Sequence[Claim]) -> Iterator[str]:
    """More than a moment: so many void blocks that the others were not measured in peace either."""
    _, voids = sound(blocks, claims)
    if len(voids) <= VOID_SHARE * len(blocks):
        return
    saturated = [void for void in voids if ": the client " in void]
    what = "the client was saturated" if len(saturated) * 2 > len(voids) else "CPU contention"
    stolen = [
        v for pair in blocks for run in pair for v in run.series.get("host_stolen", ([], []))[1]
    ]
    taken = f"; other machines took {np.mean(stolen):.0%} of the processors" if any(stolen) else ""
    yield (
        f"{what}: {len(voids)} of {len(blocks)} blocks are void; {(saturated or voids)[0]}{taken}; "
        "let nothing else run on this machine, or ask for less at once"
    )


def _truncated(blocks: Blocks) -> Iterator[str]:
    """A budget that is too small for either arm: lengths, times and answers are then its work.

    Where one arm alone runs into it, that is a difference, and the claims are to tell it.
    """
    samplings = [run.about["sampling"] for run in blocks[0]]
    budgets = {sampling["max_tokens"] for sampling in samplings}
    if len(budgets) > 1 or any(sampling["ignore_eos"] for sampling in samplings):
        return
    shares = []
    for arm in zip(*blocks, strict=True):
        reasons = [s.finish_reason for run in arm for s in run.samples if not s.error]
        shares.append(reasons.count("length") / len(reasons) if reasons else 0.0)
    if min(shares) > TRUNCATED_SHARE:
        yield (
            f"{min(shares):.0%} of the answers of either arm ran into the budget of "
            f"{budgets.pop()} tokens: raise Sampling.max_tokens"
        )


def _resolved(blocks: Blocks) -> Iterator[str]:
    """What the engine makes of a request: only with the same prompt and sampling the arms'
    answers can be compared."""
    first, second = (run.about for run in blocks[0])
    if first["serving"]["model"] != second["serving"]["model"]:
        return
    for key, what in RESOLVED.items():
        one, other = first.get(key), second.get(key)
        if one and other and one != other:  # an engine need not tell
            yield f"{what} differs between the arms: {one} against {other}"


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


def _lengths(blocks: Blocks, claims: Sequence[Claim]) -> Iterator[str]:
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


def _numerics(blocks: Blocks) -> Iterator[str]:
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
