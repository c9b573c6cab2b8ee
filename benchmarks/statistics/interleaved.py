"""Are imported runs judged where their machine drifts? python benchmarks/statistics/interleaved.py

A service that is 10 % slower than another is measured by turns with it, in some order, while the
machine becomes slower from the first run to the last: of runs that are made early the machine hides
it. Judged by ``importers.against.judge``. Prints a Markdown table.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from tabulate import tabulate

from pytest_rllm.datasets.prompts import Prompt
from pytest_rllm.importers.against import GATED, judge
from pytest_rllm.metrics import E2E
from pytest_rllm.records.deltas import Deltas
from pytest_rllm.records.header import Header, Imported
from pytest_rllm.records.run import Run, Sample

ORDERS = ("ABBAABBAABBAABBA", "ABABABABABABABAB", "AAAAABABABABBBBB", "AAAAAAAABBBBBBBB")
"""Sixteen runs, one after the other."""


def endings(
    order: str,
    *,
    drift: float,
    draws: int,
    slower: float = 10,
    scatter: float = 0.01,
    **options: bool,
) -> dict[str, float]:
    """Shares of the judgements with each outcome on "A is no more than 5 % slower than B".

    Args:
        order: which side ran when.
        drift: how much slower the machine is at the end than at the beginning, in per cent.
        draws: judgements.
        slower: how much slower A is than B, in per cent.
        scatter: standard deviation of a run's time, a log ratio.
        options: of ``judge``.
    """
    rng = np.random.default_rng(0)
    words: Counter[str] = Counter()
    slowness = np.log1p(drift / 100) * np.linspace(0, 1, len(order))
    slowness += np.log1p(slower / 100) * np.array([side == "A" for side in order])
    for _ in range(draws):
        seconds = np.exp(slowness + rng.normal(0, scatter, len(order)))
        times = zip(order, seconds.tolist(), strict=True)
        runs = [_run(side, at, took) for at, (side, took) in enumerate(times)]
        sides = [[run for run in runs if run.header.arm == side] for side in "AB"]
        words[judge(*sides, 5.0, **options).outcome] += 1
    return {word: count / draws for word, count in words.items()}


def _run(side: str, at: int, seconds: float) -> Run:
    """A run of one request that took so long, as another tool would have kept it."""
    not_kept = {metric.name: "is not simulated" for metric in GATED if metric is not E2E}
    source = Imported("a tool", f"{at}.json", "run", {}, 60.0 * at, 1, (E2E.name,), not_kept)
    sample = Sample(Prompt("q", "q?", "", "", "word", "q"), 0.0, 0.0, seconds, Deltas([]))
    return Run(Header(arm=side, imported=source), [sample], closing={"planned": 1, "wall_s": 1.0})


def table(draws: int) -> str:
    """Shares of each outcome, in Markdown."""
    rows = []
    for drift in (0, 20, 40):
        for order in ORDERS:
            found = endings(order, drift=drift, draws=draws, fresh_servers=True)
            told = [f"{found.get(w, 0):.0%}" for w in ("pass", "fail", "inconclusive", "invalid")]
            rows.append((f"{drift} %", order, *told))
    header = ("drift", "order", "safe", "not safe", "inconclusive", "invalid")
    return tabulate(rows, header, "github", disable_numparse=True)


if __name__ == "__main__":
    print(table(draws=100))
