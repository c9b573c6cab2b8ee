"""Streams that cannot be believed: answers that contradict themselves, deltas in clumps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..metrics import DELTAS_PER_S, TBT, TBT_P99
from ..metrics.base import MetricUnavailable
from ..metrics.engine import counted
from ..metrics.latency import TOGETHER_S
from ..records.contradictions import contradiction
from ..records.run import Run
from .judge import Blocks
from .reasons import WHAT_FINISHED, Fault, Side

CONTRADICTING_SHARE = 0.01
"""With a larger share of answers that contradict themselves, what the others say is in doubt."""
CLUMPED = 0.25
"""In half of an arm's runs, a larger share of deltas that arrive together with the one before is no
disturbance. Of 2,424 recorded runs of three engines the median was 1.5 % and less, and single runs
on a busy machine had up to 73 %; a gateway that holds back every second delta has 50 %."""
FEWEST = 20
"""Deltas after the first of an answer, below which a run shows no clumps."""


def contradicting(blocks: Blocks) -> Iterator[Fault]:
    """Arms of which more than CONTRADICTING_SHARE of the answers contradict themselves."""
    sides: tuple[Side, Side] = ("A", "B")
    for side, arm in zip(sides, zip(*blocks, strict=True), strict=True):
        answers = [(s, run) for run in arm for s in run.samples if not s.error]
        found = list(filter(None, (contradiction(sample, run) for sample, run in answers)))
        if len(found) > CONTRADICTING_SHARE * len(answers):
            yield Fault(
                f"{arm[0].header.arm}: {len(found)} of {len(answers)} answers contradict "
                f"themselves: {found[0]}",
                WHAT_FINISHED,
                kind="contradictions",
                side=side,
                by_engine=True,
            )


def clumped(runs: Sequence[Run]) -> Iterator[Fault]:
    """One arm's deltas that arrive together, beyond what its engine makes together."""
    shares = [share for share in map(_together, runs) if share is not None]
    if not shares or np.median(shares) <= CLUMPED:
        return
    metrics = (TBT.name, TBT_P99.name, DELTAS_PER_S.name)
    yield Fault(
        f"{runs[0].header.arm}: {np.median(shares):.0%} of the deltas arrived together with the "
        "one before them, which the engine's counters do not explain: something between engine and "
        "client holds them back, so the times between tokens are not the engine's",
        frozenset(),
        metrics=metrics,
        kind="clumps",
    )


def _together(run: Run) -> float | None:
    """Share of a run's deltas that arrived in one read with the one before them, without those
    that speculation explains, which makes several tokens in one step; None of too few."""
    gaps = [
        np.diff(s.deltas.at_s[(s.deltas.tokens != 0) | (s.deltas.sizes > 0)])
        for s in run.samples
        if not s.error
    ]
    every = np.concatenate([np.zeros(0), *gaps])
    if len(every) < FEWEST:
        return None
    try:
        explained = counted(run, "accepted_tokens") / len(every)
    except MetricUnavailable:
        explained = 0.0
    return float((every <= TOGETHER_S).mean()) - explained
