"""Measure how many deltas per second the client can record faithfully on this machine.

The client is run against the reference server, whose texts are the times at which they were sent.
The error of an arrival is the recorded time less the time at which it was sent. A client is
faithful when the 99th percentile of the errors is at most CLIENT_ERROR_S. If it is not, more
processes are tried first, then lower rates, until a rate is found at which it is faithful.
"""

from __future__ import annotations

import math
import os
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.prompts import Prompt
from ..experiment.workloads import together
from ..records.header import Header
from ..records.run import Run
from ..records.spool import ClientError
from ..records.writer import RunWriter
from . import CLIENT_ERROR_S
from .client import Request
from .reference_server import Running, running, truth
from .run import drive

SECONDS = 0.5
"""Duration of one try."""
TRIES = 3
"""The median of three tries is used, because a single try may be disturbed."""
LEAST_STREAMS = 16
HEADROOM = 2.0
"""The client is measured at this multiple of the expected rate."""
USUAL_RATE = 16_384.0
"""Lowest rate that is tried first, in deltas/s: most clients reach it, and the expected rate may be
an underestimate."""
LEAST_RATE = 1000.0
"""Lowest rate that is tried at all, in deltas/s."""


@dataclass(frozen=True)
class Fidelity:
    """The error of the client's arrival times at one load.

    Attributes:
        streams: number of simultaneous responses.
        processes: number of client processes.
        events_per_s: deltas that arrived per second, over all streams.
        error_p50_s, error_p99_s: median and 99th percentile of recorded less true times, in s.
    """

    streams: int
    processes: int
    events_per_s: float
    error_p50_s: float
    error_p99_s: float

    @property
    def faithful(self) -> bool:
        """Whether the 99th percentile of the errors is at most CLIENT_ERROR_S."""
        return bool(self.error_p99_s <= CLIENT_ERROR_S)

    def to_json(self) -> dict[str, Any]:
        """Plain values, rounded to four significant digits."""
        return {
            name: value if isinstance(value, int) else float(f"{value:.4g}")
            for name, value in asdict(self).items()
        }


class ClientCapacity:
    """The loads at which a session measured its client; no load within one is measured again."""

    def __init__(self) -> None:
        self._found: list[tuple[int, float, Fidelity]] = []

    def at_least(
        self, streams: int, events_per_s: float, say: Callable[[str], None] = lambda _text: None
    ) -> Fidelity:
        """The client's fidelity at this load, with headroom.

        Args:
            streams: number of simultaneous responses.
            events_per_s: expected deltas per second, over all streams.
            say: takes a line of progress before something is measured.

        Returns:
            A fidelity at this load or a higher one; at a lower one, or an unfaithful one, if this
            machine's client cannot reach the load.
        """
        streams = max(LEAST_STREAMS, streams)
        asked = 2 ** math.ceil(math.log2(max(USUAL_RATE, HEADROOM * events_per_s)))
        for most_streams, most, found in self._found:
            if streams <= most_streams and asked <= most:
                return found
        say(f"measuring the client at {asked:.0f} deltas/s on {streams} streams")
        found = find_capacity(streams, asked)
        self._found.append((streams, asked, found))
        return found


def find_capacity(streams: int, events_per_s: float, most: int | None = None) -> Fidelity:
    """Find the number of processes that a rate needs, or else the highest rate that works.

    Args:
        streams: number of simultaneous responses.
        events_per_s: deltas per second, over all streams.
        most: highest number of processes; by default half of the cores, because the server needs
            the others.

    Returns:
        The first faithful measurement; the last one if the client is not faithful at LEAST_RATE.
    """
    most = most or max(1, len(os.sched_getaffinity(0)) // 2)
    processes, rate = 1, events_per_s
    with running() as server:
        while True:
            found = measure(server, streams, rate, processes)
            if found.faithful or (processes == most and rate <= LEAST_RATE):
                return found
            if processes < most:
                processes = min(most, 2 * processes)
            else:
                rate = max(LEAST_RATE, min(rate, found.events_per_s) / 2)


def measure(server: Running, streams: int, events_per_s: float, processes: int = 1) -> Fidelity:
    """Measure the client at one load, with exponential gaps between deltas; the median of TRIES."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(TRIES):
            with RunWriter(Path(folder) / f"{number}.jsonl", Header()) as writer:
                requests = _requests(streams, events_per_s, number)
                run = drive(server.url, requests, together(), writer, processes=processes)
            found.append(_of_run(run, streams, processes))
    return sorted(found, key=lambda one: one.error_p99_s)[TRIES // 2]


def _requests(streams: int, events_per_s: float, seed: int) -> list[Request]:
    gap_s = streams / events_per_s
    timing = {
        "answer": max(2, round(SECONDS / gap_s)),
        "gap_s": gap_s,
        "gaps": "exponential",
        "spread_s": gap_s,
    }
    return [
        Request(
            Prompt(str(i), "", "", "easy", "word", ""),
            {
                "messages": [],
                "stream": True,
                "stream_options": {"include_usage": True},
                "timing": timing | {"seed": seed * streams + i},
            },
        )
        for i in range(streams)
    ]


def errors_s(run: Run) -> list[float]:
    """Errors of a run against the reference server: recorded less true arrival, per delta, in s."""
    assert run.closing
    start = run.closing["start_clock_s"]
    found: list[float] = []
    for sample in run.samples:
        sent = truth(sample.deltas.text())
        found += (start + sample.deltas.at_s - np.array(sent)).tolist()
    return found


def _of_run(run: Run, streams: int, processes: int) -> Fidelity:
    failed = [sample.error for sample in run.samples if sample.error]
    if failed:
        raise ClientError(
            f"a request of the client to the bundled reference server failed: {failed[0]}; its "
            "arrival times cannot be checked on this machine"
        )
    errors = errors_s(run)
    times = np.concatenate([sample.deltas.at_s for sample in run.samples])
    early, late = np.quantile(times, [0.25, 0.75])  # between these all streams are active
    return Fidelity(
        streams,
        processes,
        len(times) / 2 / float(late - early),
        statistics.median(errors),
        float(np.quantile(errors, 0.99)),
    )
