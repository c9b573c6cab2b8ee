"""How faithful this client is on this machine, at a rate: measured before it is relied on.

The client is driven against the bundled timing server, whose texts tell when they were sent. The
error of an arrival is the recorded time less that; beyond CLIENT_ERROR_S at the 99th percentile the
times are the client's story. More processes are tried first, then lower rates, so that the answer
is a rate that can be carried.
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
from ..records.run import Run, RunWriter
from ..records.spool import ClientError
from .client import Request
from .reference_server import Running, running, truth
from .run import drive

CLIENT_ERROR_S = 1e-3
"""Stated error of the client: p99 of recorded arrivals against the truth."""
SECONDS = 0.5
TRIES = 3
"""Of which the median counts: a machine has moments of its own."""
LEAST_STREAMS = 16
HEADROOM = 2.0
"""A rate that is expected is measured with so much more."""
USUAL_RATE = 16_384.0
"""Never less is asked of a client: most carry it, and what was expected may be too little."""
LEAST_RATE = 1000.0
"""Where a client does not carry what is asked, nothing slower than this is measured."""


@dataclass(frozen=True)
class Fidelity:
    """What a client was measured to carry.

    Attributes:
        streams: responses at once.
        processes: of the client.
        events_per_s: deltas that arrived per second, all streams together.
        error_p50_s, error_p99_s: recorded arrival less the truth, in seconds.
    """

    streams: int
    processes: int
    events_per_s: float
    error_p50_s: float
    error_p99_s: float

    @property
    def faithful(self) -> bool:
        """Whether the error is within the stated one."""
        return self.error_p99_s <= CLIENT_ERROR_S

    def to_json(self) -> dict[str, Any]:
        """Plain values, four significant digits."""
        return {
            name: value if isinstance(value, int) else float(f"{value:.4g}")
            for name, value in asdict(self).items()
        }


class Certificates:
    """Fidelities of this session: what is covered by one is not measured again."""

    def __init__(self) -> None:
        self._found: list[tuple[int, float, Fidelity]] = []

    def of(
        self, streams: int, events_per_s: float, say: Callable[[str], None] = lambda _text: None
    ) -> Fidelity:
        """What the client carries of so many streams and deltas per second, all together."""
        streams = max(LEAST_STREAMS, streams)
        asked = 2 ** math.ceil(math.log2(max(USUAL_RATE, HEADROOM * events_per_s)))
        for most_streams, most, found in self._found:
            if streams <= most_streams and asked <= most:
                return found
        say(f"measuring the client at {asked:.0f} deltas/s on {streams} streams")
        found = certify(streams, asked)
        self._found.append((streams, asked, found))
        return found


def certify(streams: int, events_per_s: float, most: int | None = None) -> Fidelity:
    """Find the processes that carry a rate; or else the rate that the most of them carry.

    Args:
        streams: responses at once.
        events_per_s: of all streams together.
        most: processes; half of the cores by default, the others are the server's.

    Returns:
        A faithful one, or the last measured when not even LEAST_RATE is carried.
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
    """Drive the timing server at a rate; gaps between deltas are exponential."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(TRIES):
            with RunWriter(Path(folder) / f"{number}.jsonl", {}) as writer:
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
    """Per delta of a run against the timing server: its recorded arrival less the truth."""
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
        raise ClientError(f"the client failed at the bundled timing server: {failed[0]}")
    errors = errors_s(run)
    times = np.concatenate([sample.deltas.at_s for sample in run.samples])
    early, late = np.quantile(times, [0.25, 0.75])  # in between all streams are under way
    return Fidelity(
        streams,
        processes,
        len(times) / 2 / float(late - early),
        statistics.median(errors),
        float(np.quantile(errors, 0.99)),
    )
