"""Are intervals of answers as wide as they must be? python benchmarks/statistics/answers.py

Lengths: few answers that become much longer, so that the mean lies exactly on the margin. Clusters:
questions of one template that change together. Both are judged by the very functions of
``verdicts.means``, beside what these did before. Half a minute.
"""

from __future__ import annotations

import math

import numpy as np
from tabulate import tabulate

from pytest_rllm import pct, unchanged
from pytest_rllm.metrics import OUTPUT_TOKENS
from pytest_rllm.verdicts.effects import Effects
from pytest_rllm.verdicts.intervals import Interval
from pytest_rllm.verdicts.means import mean, unseen

MARGIN = pct(5)
LONGER = 0.05
"""Share of the answers that become longer."""
BUDGET = math.log(1024 / 40)
"""A short answer has 40 of 1024 tokens."""


def lengths(n: int, draws: int, seed: int = 0) -> dict[str, float]:
    """How often lengths are said to be unchanged within 5 % though their mean grew by exactly that.

    Args:
        n: questions.
        draws: comparisons.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    claim = unchanged(OUTPUT_TOKENS, within=MARGIN)
    size = MARGIN.up() / LONGER
    said = {"t": 0, "score interval": 0}
    for _ in range(draws):
        x = [float(v) for v in size * (rng.random(n) < LONGER)]
        found = {
            "t": mean(x) if any(x) else None,
            "score interval": Effects(x, "share", identical=max(BUDGET, size)).interval(),
        }
        for name, interval in found.items():
            said[name] += interval is None or claim.of(interval) == "holds"
    return {name: count / draws for name, count in said.items()}


def few_clusters(clusters: int, draws: int, seed: int = 0) -> dict[str, float]:
    """How often an interval of 95 % misses the true mean of questions that are alike in clusters
    of very unequal size.

    Args:
        clusters: how many.
        draws: comparisons.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    sizes = np.array([1 + 12 * (i % 4 == 0) for i in range(clusters)])
    names = list(np.repeat(np.arange(clusters), sizes))
    missed = {"clusters - 1": 0, "CR2": 0}
    for _ in range(draws):
        x = np.repeat(rng.normal(0, 1, clusters), sizes) + rng.normal(0, 0.5, len(names))
        sums = np.bincount(names, weights=x - x.mean())
        from scipy import stats

        error = math.sqrt(float((sums**2).sum()) * clusters / (clusters - 1)) / x.size
        half = float(stats.t.ppf(0.975, clusters - 1)) * error
        missed["clusters - 1"] += abs(float(x.mean())) > half
        found: Interval = mean(list(x), names)
        missed["CR2"] += not found.low <= 0 <= found.high
    return {name: count / draws for name, count in missed.items()}


def unchanged_clusters() -> tuple[float, float]:
    """Largest share of answers that may change unseen, of 132 questions in 30 clusters of which
    none changed: as if all were independent, and as it is."""
    error = 0.025
    names = [i % 30 for i in range(132)]
    return unseen(error, 132), Effects([0.0] * 132, "share", names).interval().high


def main() -> None:
    rows = [
        (f"lengths on the margin, {n} questions: said to be unchanged", *lengths(n, 2000).values())
        for n in (528, 132, 96)
    ]
    print(tabulate(rows, ("", "t, as it was", "score interval"), "github", floatfmt=".1%"), "\n")
    rows = [
        (f"{n} clusters of unequal size: 95 % interval misses", *few_clusters(n, 2000).values())
        for n in (8, 16, 40)
    ]
    print(tabulate(rows, ("", "clusters - 1, as it was", "CR2"), "github", floatfmt=".1%"), "\n")
    was, now = unchanged_clusters()
    print(
        f"132 unchanged questions in 30 clusters: up to {was:.1%} unseen as it was, {now:.1%} now"
    )


if __name__ == "__main__":
    main()
