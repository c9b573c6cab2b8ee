"""The knee of an engine: the highest rate of arrivals that it still answers in time.

It is searched before a finding that offers load below, at or above it. Its runs are recorded, so
that a replay finds the same knee, and a session that goes on does not search again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..experiment.arm import Arm
from ..experiment.workloads import Workload, closed, poisson
from ..metrics import E2E, TTFT, goodput, in_time
from ..records.run import Run
from .case import FindingCase
from .comparison import CannotMeasure

ALONE = 8
"""Requests that are sent one at a time, to see how long one takes alone."""
TOGETHER = 8
"""The search begins at the rate at which so many requests would be in flight if each took as long
as alone: engines take up several at once."""
LATE = 10
"""A first token is late after so many times as long as it takes alone: a request that is taken up
at once waits for some steps of others, one that has to wait for room waits for whole answers."""
KEPT = 0.9
"""Share of the requests that have to be in time: nine of ten, as a service promises its 90th
percentile."""
DOUBLINGS = 8
"""Steps by a factor of two until the knee lies between two rates: a factor of 256 either way."""
BISECTIONS = 2
"""Steps after that: the knee is known to a factor of 2 ** (1/4), 19 %."""


class NoKnee(ValueError):
    """Every rate is answered in time, or none is."""


@dataclass(frozen=True)
class Knee:
    """What a search found.

    Attributes:
        rate: requests per second: the highest tried one at which requests were in time.
        ttft_s: seconds to the first token after which a request is late.
        tried: per rate, in the order of the search, the goodput there, in requests per second.
    """

    rate: float
    ttft_s: float
    tried: dict[float, float] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        """A sentence for the end of a session."""
        tried = ", ".join(f"{rate:g}/s: {good:.3g}/s" for rate, good in sorted(self.tried.items()))
        return (
            f"{self.rate:g} requests/s, the first token within {self.ttft_s:g} s for "
            f"{KEPT:.0%} of them; goodput by rate: {tried}"
        )


def find(keeps_up: Callable[[float], bool], start: float) -> float:
    """The highest rate that keeps up, to a factor of ``2 ** (1 / 2 ** BISECTIONS)``.

    Args:
        keeps_up: whether an engine keeps up with a rate; asked once per rate.
        start: the first rate to try, above 0.

    Raises:
        NoKnee: all rates up to ``2 ** DOUBLINGS * start`` keep up, or none down to as small a part.
    """
    factor = 2.0 if keeps_up(start) else 0.5
    inside, outside = start, start
    for _ in range(DOUBLINGS):
        outside = _rounded(inside * factor)
        if keeps_up(outside) != (factor > 1):
            break
        inside = outside
    else:
        raise NoKnee(f"{'every rate' if factor > 1 else 'no rate'} from {start:g} to {outside:g}/s")
    good, bad = sorted((inside, outside))
    for _ in range(BISECTIONS):
        middle = _rounded(math.sqrt(good * bad))
        good, bad = (middle, bad) if keeps_up(middle) else (good, middle)
    return good


def knee_of(case: FindingCase, arm: Arm) -> Knee:
    """The knee of the engine that serves an arm, searched with the arm's questions.

    All cases of a session share the search of an arm. Every run asks all questions, so a queue that
    grows too slowly to fill the KV cache within a run is not seen: compare runs of that length.

    Args:
        case: the test case that wants to know.
        arm: what is served, asked and sampled; its workload is not used.

    Raises:
        CannotMeasure: the engine cannot serve the arm, or answers so many questions in time at any
            rate, or at none.
    """
    arm = replace(arm, workload=closed(1))
    where = Path("knee") / case.pair.name / arm.fingerprint
    what = f"{case.pair.name} ({arm.serving}, up to {arm.sampling.max_tokens} tokens)"
    if case.session.planning:
        if left_out := case.session.tier.leaves_out(case.tier):
            raise CannotMeasure(left_out)
        most = 1 + DOUBLINGS + BISECTIONS
        case.note(
            f"the knee of {what} is searched first: {ALONE} requests one at a time, then "
            f"{len(arm.prompts)} at each of some 5 rates, {most} at most"
        )
        return Knee(1.0, 1.0)

    def run(workload: Workload, name: str, asked: Arm = arm) -> Run:
        return case.measure(replace(asked, workload=workload), name, where=where)

    alone = run(closed(1), "alone", replace(arm, prompts=arm.prompts[:ALONE]))
    limit = _rounded(LATE * TTFT.of_run(alone))
    tried: dict[float, float] = {}

    def keeps_up(rate: float) -> bool:
        at_rate = run(poisson(rate), f"{rate:g}-per-s")
        tried[rate] = goodput(ttft_s=limit).of_run(at_rate)
        return in_time(ttft_s=limit).of_run(at_rate) >= KEPT

    try:
        found = Knee(find(keeps_up, _rounded(TOGETHER / E2E.of_run(alone))), limit, tried)
    except NoKnee as error:
        raise CannotMeasure(
            f"{arm.serving}: {error} answers {KEPT:.0%} of {len(arm.prompts)} requests within "
            f"{limit:g} s to the first token: there is no knee to measure at; ask more questions, "
            "or give the pair a KV cache of another size (kv_cache_bytes)"
        ) from error
    case.note(f"knee of {what}: {found}")
    return found


def _rounded(value: float) -> float:
    """To two significant digits: a rate is part of what a record must match."""
    return float(f"{value:.2g}")
