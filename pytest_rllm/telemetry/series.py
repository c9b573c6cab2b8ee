"""What values a series of an engine's telemetry can have, and how several of them become one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

SHARES = frozenset({"kv_use"})
"""Series that are shares of 1."""
ROUNDING = 1e-6
"""By how much a share may lie outside of 0..1."""
PROCESS = "pid"
"""Label of a gauge that each process of a server tells for itself; those that ended stay there."""


@dataclass(frozen=True)
class Sample:
    """One line of a page.

    Attributes:
        name: as it stands on the page (``x_total``).
        labels: of this line.
        value: in the unit of its family.
    """

    name: str
    labels: Mapping[str, str]
    value: float


Room = Callable[[Sample], float | None]


def impossible(series: str, value: float) -> str | None:
    """Why a series of ours cannot have a value, to follow "is"; None where it can.

    Args:
        series: shares of 1, requests, tokens or seconds, by our name: none of them is negative.
        value: as it was read.
    """
    if not math.isfinite(value):
        return f"{value}, which is no number to judge by"
    if series in SHARES and not -ROUNDING <= value <= 1 + ROUNDING:
        return f"{value:g}, outside of 0..1"
    return f"{value:g}, and cannot be below 0" if value < -ROUNDING else None


def fall(times: Sequence[float], values: Sequence[float]) -> str | None:
    """The first fall of what can only grow, to follow its name; None where it never fell.

    Args:
        times: of the readings, in s.
        values: as many.
    """
    readings = pairwise(zip(times, values, strict=True))
    fallen = ((at, was, now) for (_, was), (at, now) in readings if now < was - ROUNDING)
    for at, was, now in fallen:
        return (
            f"fell from {was:g} to {now:g} after {at:.1f} s: its engine restarted, or a balancer "
            "asked another replica for the page"
        )
    return None


def refusal(series: str, samples: Sequence[Sample]) -> str | None:
    """Why the samples of a series cannot be read as one value, to follow their name; None where
    they can.

    Args:
        series: by our name.
        samples: at least one, from each engine behind the page.
    """
    for sample in samples:
        if why := impossible(series, sample.value):
            return f"is {why}"
    seen: dict[frozenset[tuple[str, str]], str] = {}
    for sample in samples:
        labels = dict(sample.labels)
        process = labels.pop(PROCESS, "")
        before = seen.setdefault(frozenset(labels.items()), process)
        if process != before:
            return (
                f"is told by the processes {before} and {process}, of which one may have ended: "
                "they are not added up"
            )
    if len({frozenset(sample.labels.items()) for sample in samples}) < len(samples):
        return "stands there twice with the same labels"
    return None


def together(series: str, samples: Sequence[Sample], room: Room = lambda _: None) -> float:
    """One value of the samples of a series.

    Requests, tokens and seconds add up. A share is the mean of the engines' shares, weighted by
    what each has room for where that is known of every one of them.

    Args:
        series: by our name.
        samples: at least one, from each engine behind the page.
        room: tokens that the KV cache of the engine has room for that a sample is of.
    """
    if series not in SHARES:
        return math.fsum(sample.value for sample in samples)
    known = [told for sample in samples if (told := room(sample))]
    weights = known if len(known) == len(samples) else [1.0] * len(samples)
    of_all = zip(weights, samples, strict=True)
    return math.fsum(weight * sample.value for weight, sample in of_all) / math.fsum(weights)
