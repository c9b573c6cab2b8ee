"""Are whole comparisons right? python benchmarks/statistics/sessions.py

Storms: preemptions that come in few blocks, and then in all of their requests. Cases: several
claims that lie exactly on their margins. Further: whether as many more blocks as are named decide.
Disturbed: a claim that is refuted at the first look, before something disturbs the second. Blocks
are judged by ``judge_family`` itself. A minute.
"""

from __future__ import annotations

import math

import numpy as np
from tabulate import tabulate

from pytest_rllm import no_worse, pct, pp
from pytest_rllm.metrics import PREEMPTIONS, Metric
from pytest_rllm.records.header import Header
from pytest_rllm.records.run import Run
from pytest_rllm.verdicts.claims import Claim
from pytest_rllm.verdicts.judge import Look, judge_family
from pytest_rllm.verdicts.judgement import settled

CLOSING = {"planned": 0, "wall_s": 1.0}
REQUESTS = 16
STORM = 3.0
"""Preemptions per request."""
CASES, CLAIMS = 6, 4


def numbered(i: int) -> Metric:
    return Metric(f"time {i}", "s", "lower", "run", lambda r: r.header.notes["v"][i], timed=True)


def pairs(effects: np.ndarray) -> list[tuple[Run, Run]]:
    """Blocks with these log ratios; shape (blocks, metrics)."""
    return [
        (
            Run(Header(arm="A", server=1, notes={"v": list(np.exp(of))}), closing=CLOSING),
            Run(Header(arm="B", server=1, notes={"v": [1.0] * of.size}), closing=CLOSING),
        )
        for of in effects
    ]


def storms(share: float, blocks: int, draws: int, *, bursty: bool, seed: int = 0) -> float:
    """How often preemptions are said not to rise by more than 20 points, when in that share of the
    blocks every request is preempted three times: in a tenth of them, 30 points are the truth.

    Args:
        share: of the blocks.
        blocks: in a comparison.
        draws: comparisons.
        bursty: whether the metric says that what it counts comes in bursts; False as it was.
        seed: of the random numbers.
    """
    from dataclasses import replace

    rng = np.random.default_rng(seed)
    metric = replace(PREEMPTIONS, of=lambda r: r.header.notes["v"][0], bursty=bursty)
    claim = no_worse(metric, within=pp(20))
    sample = [None] * REQUESTS
    held = 0
    for _ in range(draws):
        made = []
        for stormy in rng.random(blocks) < share:
            arms = [
                Run(Header(arm=a, server=1, notes={"v": [v]}), samples=sample, closing=CLOSING)  # type: ignore[arg-type]
                for a, v in (("A", STORM * float(stormy)), ("B", 0.0))
            ]
            made.append((arms[0], arms[1]))
        held += judge_family([claim], made, ("A", "B"))[0].verdict == "holds"
    return held / draws


def on_their_margins(draws: int, seed: int = 0) -> tuple[float, float]:
    """Shares of cases, and of gates of six such cases, that say "not safe" when all four
    independent claims of each case lie exactly on their margins."""
    rng = np.random.default_rng(seed)
    claims = [no_worse(numbered(i), within=pct(5)) for i in range(CLAIMS)]
    refuted = []
    for _ in range(draws):
        x = rng.normal(math.log(1.05), 0.03, (30, CLAIMS))
        found = judge_family(claims, pairs(x), ("A", "B"))
        refuted.append(any(j.verdict == "refuted" for j in found))
    gates = np.array(refuted[: draws // CASES * CASES]).reshape(-1, CASES).any(axis=1)
    return float(np.mean(refuted)), float(gates.mean())


def as_many_further(draws: int, seed: int = 0) -> float:
    """How often as many more blocks as were named decide, if the estimate was true."""
    rng = np.random.default_rng(seed)
    claim = [no_worse(numbered(0), within=pct(5))]
    decided, asked = 0, 0
    while asked < draws:
        x = rng.normal(0.02, 0.05, (16, 1))
        (found,) = judge_family(claim, pairs(x), ("A", "B"))
        if found.verdict != "inconclusive" or not found.further or found.further > 400:
            continue
        if found.n + found.further < 29:  # what "no worse" takes in any case
            continue
        asked += 1
        again = rng.normal(found.estimate, x.std(ddof=1), (16 + found.further, 1))
        (found,) = judge_family(claim, pairs(again), ("A", "B"))
        decided += found.verdict != "inconclusive"
    return decided / draws


def disturbed_later() -> str:
    """Of a claim that the first look refutes, the verdict after a second one that is invalid."""
    claim: Claim = no_worse(numbered(0), within=pct(5))
    x = np.random.default_rng(0).normal(0.5, 0.03, (24, 1))
    blocks = pairs(x)
    first = judge_family([claim], blocks[:12], ("A", "B"), look=Look((12, 24), 0))
    reasons = {claim.slug: ["CPU contention"]}
    second = judge_family([claim], blocks, ("A", "B"), reasons, Look((12, 24), 1))
    return settled(first, second)[0].verdict


def main() -> None:
    rows = [
        (
            f"storms in {share:.0%} of {n} blocks: said not to rise by 20 points",
            *(f"{storms(share, n, 500, bursty=bursty):.0%}" for bursty in (False, True)),
        )
        for share, n in ((0.1, 12), (0.1, 30), (0.3, 12), (0.0, 30))
    ]
    print(tabulate(rows, ("", "a request's size, as it was", "a block's size"), "github"), "\n")
    case, gate = on_their_margins(1200)
    print(f"all claims on their margins: {case:.1%} of cases and {gate:.1%} of gates not safe")
    print(f"as many more blocks as are named decide in {as_many_further(300):.0%}")
    print(f"refuted, then disturbed: {disturbed_later()}")


if __name__ == "__main__":
    main()
