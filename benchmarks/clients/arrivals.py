"""What a client recorded, held against the truth in the texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

STAMP = re.compile(rb'"(\d{8}\.\d{6}) "')


@dataclass
class Stream:
    """One response as a client recorded it; times in s of CLOCK_MONOTONIC.

    Attributes:
        sent: when the client says that it asked.
        arrivals: when it says that each delta came; NaN where it does not say.
        truths: when each was really sent; as long as ``arrivals``.
        visible: index of the first delta of the answer.
    """

    sent: float
    arrivals: np.ndarray
    truths: np.ndarray
    visible: int = 0


@dataclass
class Recorded:
    """All responses of a run, and what the client does not record, by name of the figure."""

    streams: list[Stream]
    not_recorded: dict[str, str] = field(default_factory=dict)
    failed: int = 0


def of_chunks(sent: float, chunks: Sequence[tuple[float, bytes]], visible: int = 0) -> Stream:
    """From what was read of the socket, with the time of each read. A delta arrived with the bytes
    that completed it."""
    ends = np.cumsum([len(data) for _, data in chunks])
    times = np.array([at for at, _ in chunks])
    found = list(STAMP.finditer(b"".join(data for _, data in chunks)))
    truths = np.array([float(match[1]) for match in found])
    completed = np.searchsorted(ends, [match.end() for match in found])
    return Stream(sent, times[completed] if found else truths, truths, visible)


def carried(truths: np.ndarray) -> float:
    """Deltas per second that were really sent, in the middle half of them."""
    first, last = np.percentile(truths, (25, 75))
    return float(len(truths) / 2 / (last - first))
