"""What is understood of one request and its response, for people and for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from .. import metrics
from ..metrics.base import Metric, MetricUnavailable
from ..records.contradictions import contradiction
from ..records.run import Run, Sample

SHOWN = 60
"""Characters of a delta's text that a line shows."""
NO_TIMES = "the file holds no times"
TIMED = (metrics.TTFT, metrics.TTFVT, metrics.TBT, metrics.E2E)
COUNTED = (metrics.OUTPUT_TOKENS, metrics.REASONING_TOKENS)


def content(sample: Sample, run: Run, *, timed: bool) -> dict[str, Any]:
    """Plain values: what arrived, what it was counted as, and why the rest is unknown.

    Args:
        sample: the request.
        run: that it is of.
        timed: whether its times are known.
    """
    alone = replace(run, samples=[sample])
    unknown: dict[str, str] = {}
    values: dict[str, float] = {}
    if sample.error is None:
        for metric in (*COUNTED, *TIMED):
            if metric in TIMED and not timed and (metric != metrics.TBT or sample.deltas.counted):
                unknown[metric.name] = NO_TIMES
                continue
            value = _value(metric, alone)
            if isinstance(value, str):
                unknown[metric.name] = value
            else:
                values[metric.name] = value
    said = contradiction(sample, run)
    return {
        "outcome": "finished" if sample.error is None else "failed",
        "cause": sample.error,
        "finish_reason": sample.finish_reason,
        "truncated": sample.finish_reason == "length",
        "empty": sample.error is None and not sample.answer.strip(),
        "usage": sample.usage,
        "output_tokens": sample.output_tokens,
        "reasoning_tokens": sample.reasoning_tokens,
        "visible_tokens": sample.visible_tokens,
        "reasoned": sample.reasoned,
        "answer": sample.answer,
        "times": {m.name: round(values[m.name], 6) for m in TIMED if m.name in values},
        "unknown": unknown,
        "contradiction": said,
        "remarks": sample.remarks,
        "deltas": [
            {"field": name, "tokens": tokens, "characters": len(text), "text": text}
            | ({"at_s": at_s} if timed else {})
            for at_s, name, tokens, text in sample.deltas.rows()
        ],
    }


def outcome(said: Mapping[str, Any]) -> str:
    """The outcome in one line."""
    if said["cause"] is not None:
        return f"failed: {said['cause']}"
    notes = []
    if said["truncated"]:
        notes.append("cut off at its limit of tokens")
    if said["empty"]:
        notes.append(
            f"no visible answer, though it ended with {said['finish_reason']}"
            if said["finish_reason"] == "stop"
            else "no visible answer"
        )
    return ", ".join(["finished", *notes])


def counts(said: Mapping[str, Any]) -> str:
    """The tokens in one line."""
    names = ("output", "reasoning", "visible")
    told = ((name, said[f"{name}_tokens"]) for name in names)
    return ", ".join(f"{name} {'unknown' if n is None else n}" for name, n in told)


def lines(said: Mapping[str, Any]) -> Iterator[str]:
    """For people, the deltas first."""
    yield f"  {'field':<18} {'tokens':>7} {'characters':>10}  text"
    for delta in said["deltas"]:
        at = f" at {delta['at_s']:.3f} s" if "at_s" in delta else ""
        tokens = "?" if delta["tokens"] is None else delta["tokens"]
        text = delta["text"] if len(delta["text"]) <= SHOWN else delta["text"][:SHOWN] + "..."
        yield (
            f"  {delta['field'] or '(no text)':<18} {tokens:>7} {delta['characters']:>10}  "
            f"{text!r}{at}"
        )
    if not said["deltas"]:
        yield "  (no delta with text or tokens)"
    usage = ", ".join(f"{key} {value}" for key, value in said["usage"].items())
    yield f"usage: {usage or 'not told'}"
    yield f"finish reason: {said['finish_reason'] or 'none'}"
    yield f"tokens: {counts(said)}"
    for name, value in said["times"].items():
        yield f"{name}: {_seconds(value)}"
    for why in dict.fromkeys(said["unknown"].values()):
        names = [name for name, other in said["unknown"].items() if other == why]
        yield f"{', '.join(names)} unknown: {why}"
    if said["contradiction"]:
        yield f"contradicts itself: {said['contradiction']}"
    for remark in said["remarks"]:
        yield f"note: {remark}"
    yield f"outcome: {outcome(said)}"


def _value(metric: Metric, run: Run) -> float | str:
    """The metric of a single answer, or why it is unknown."""
    try:
        return metric.of_run(run)
    except MetricUnavailable as error:
        return str(error)


def _seconds(value: float) -> str:
    return f"{value:.4g} s" if math.isfinite(value) else str(value)
