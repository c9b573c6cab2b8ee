"""What a client recorded, held against the truth in the texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pytest_rllm.loadgen.reference_server import truth

from .loads import Load

STAMP = re.compile(rb'"(\d{8}\.\d{6}) "')
AROUND = (50, 99)
"""Percentiles that are told of an error."""


@dataclass
class Stream:
    """One response as a client recorded it; times in s of CLOCK_MONOTONIC.

    Attributes:
        sent: when the client says that it asked.
        arrivals: when it says that each delta came; NaN where it does not say.
        truths: when each was really sent; as long as ``arrivals``.
        visible: index of the first delta of the answer; None when the client does not tell.
    """

    sent: float
    arrivals: np.ndarray
    truths: np.ndarray
    visible: int | None = 0

    @property
    def errors(self) -> np.ndarray:
        """By how much the recorded arrivals are later than the truth, s."""
        late: np.ndarray = self.arrivals - self.truths
        return late


@dataclass
class Recorded:
    """All responses of a run.

    Attributes:
        streams: those that ended well.
        failed: requests that did not, as the client says.
        told: what the client itself says of the run, by name.
        notes: what else must be known of its times.
    """

    streams: list[Stream]
    failed: int = 0
    told: dict[str, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


def of_chunks(sent: float, chunks: Sequence[tuple[float, bytes]], visible: int = 0) -> Stream:
    """From what was read of the socket, with the time of each read. A delta arrived with the bytes
    that completed it."""
    ends = np.cumsum([len(data) for _, data in chunks])
    times = np.array([at for at, _ in chunks])
    found = list(STAMP.finditer(b"".join(data for _, data in chunks)))
    truths = np.array([float(match[1]) for match in found])
    completed = np.searchsorted(ends, [match.end() for match in found])
    return Stream(sent, times[completed] if found else truths, truths, visible)


def of_text(
    sent: float, text: str, arrivals: Sequence[float] | np.ndarray, visible: int | None = 0
) -> Stream:
    """From the whole text of an answer and when each delta of it came.

    Raises:
        ValueError: there are more or fewer times than deltas.
    """
    truths = truth(text)
    if len(truths) != len(arrivals):
        raise ValueError(f"{len(truths)} deltas and {len(arrivals)} times")
    return Stream(sent, np.array(arrivals), np.array(truths), visible)


def carried(truths: np.ndarray) -> float:
    """Deltas per second that were really sent, in the middle half of them."""
    first, last = np.percentile(truths, (25, 75))
    return float(len(truths) / 2 / (last - first)) if last > first else float("nan")


def spread(errors: np.ndarray) -> dict[str, float]:
    """Median and p99 of the size of errors, s; empty where none is known."""
    known = np.abs(errors[~np.isnan(errors)])
    if not len(known):
        return {}
    found = zip(AROUND, np.percentile(known, AROUND), strict=True)
    return {f"p{p}_s": float(value) for p, value in found} | {"n": len(known)}


def all_errors(recorded: Recorded) -> dict[str, float]:
    """Of all arrivals of a run, with the rate at which they were really sent (1/s)."""
    errors = np.concatenate([stream.errors for stream in recorded.streams])
    truths = np.concatenate([stream.truths for stream in recorded.streams])
    return spread(errors) | {"rate": carried(truths)}


def by_stage(recorded: Recorded, load: Load) -> list[dict[str, float]]:
    """Per stage of a ladder, as long as no stream has ended: the rate due, the rate really sent
    (deltas/s), and the errors of what was sent in it (s)."""
    script = load.script
    errors = np.concatenate([stream.errors for stream in recorded.streams])
    truths = np.concatenate([stream.truths for stream in recorded.streams])
    begin, end = truths.min(), min(stream.truths[-1] for stream in recorded.streams)
    stages: list[dict[str, float]] = []
    while begin + script.stage_s <= end:
        within = (begin <= truths) & (truths < begin + script.stage_s)
        begin += script.stage_s
        due = load.rate * script.growth ** len(stages)
        sent = float(within.sum() / script.stage_s)
        stages.append({"due": due, "rate": sent} | spread(errors[within]))
    return stages


def of_metrics(recorded: Recorded) -> dict[str, dict[str, float]]:
    """Errors of the times that metrics are made of, s; one that the client does not keep is empty.

    ``TTFT`` and ``TTFVT`` per request, ``TBT`` per gap, and ``TBT mean`` per answer: all that is
    known where only its first and last delta have times.
    """
    streams = recorded.streams
    gaps = np.concatenate([np.diff(one.arrivals) - np.diff(one.truths) for one in streams])
    ends = np.array([(one.errors[-1] - one.errors[0]) / (len(one.errors) - 1) for one in streams])
    visible = [np.nan if one.visible is None else one.errors[one.visible] for one in streams]
    return {
        "TTFT": spread(np.array([one.errors[0] for one in streams])),
        "TTFVT": spread(np.array(visible)),
        "TBT": spread(gaps),
        "TBT mean": spread(ends),
    }


def sending(recorded: Recorded, load: Load) -> dict[str, float]:
    """Seconds from a request's start as the client tells it until the server answered it, by the
    server's schedule: what a TTFT holds that is not the server's."""
    first_s = load.script.first_s
    late = [stream.truths[0] - first_s - stream.sent for stream in recorded.streams]
    return spread(np.array(late))
