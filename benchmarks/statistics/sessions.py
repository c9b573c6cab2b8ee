"""Are whole comparisons right? python benchmarks/statistics/sessions.py

Storms: preemptions that come in few blocks, and then in all of their requests. Cases: several
claims that lie exactly on their margins. Further: whether as many more blocks as are named decide.
Disturbed: a claim that is refuted at the first look, before something disturbs the second. Blocks
are judged by ``judge_family`` itself. Curves and effects: claims on more than two arms whose truth
lies exactly on their margins. Some minutes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from tabulate import tabulate

from pytest_rllm import Prompt, flat, levels_off, no_worse, pct, pp, rises, unchanged
from pytest_rllm.metrics import PREEMPTIONS, Metric
from pytest_rllm.records.deltas import Deltas
from pytest_rllm.records.header import Header
from pytest_rllm.records.run import Run, Sample
from pytest_rllm.verdicts.claims import Claim, Verdict
from pytest_rllm.verdicts.contrasts import CurveClaim, Step, on_effect, verdict_of, versus
from pytest_rllm.verdicts.judge import Evidence, Judged, Look, judge_family, judge_together
from pytest_rllm.verdicts.judgement import settled

CLOSING = {"planned": 0, "wall_s": 1.0}
REQUESTS = 16
STORM = 3.0
"""Preemptions per request."""
CASES, CLAIMS = 6, 4
UP, DOWN = math.log(1.1), math.log(0.9)
"""A margin of 10 % on the scale of effects."""


def numbered(i: int) -> Metric:
    return Metric(f"time {i}", "s", "lower", "run", lambda r: r.header.notes["v"][i], timed=True)


RIGHT = Metric(
    "right",
    "share",
    "higher",
    "question",
    lambda r: dict(zip((s.prompt.id for s in r.samples), r.header.notes["v"], strict=True)),
)
"""Whether each question was answered rightly."""


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


CURVE: dict[str, tuple[CurveClaim, tuple[float, ...]]] = {
    "rises": (
        rises(numbered(0), by=pct(50), within=pct(10)),
        (DOWN, math.log(1.5) - 2 * DOWN, DOWN),
    ),
    "flat": (flat(numbered(1), within=pct(10)), (UP, DOWN, UP)),
    "levels off": (
        levels_off(numbered(2), at=1, by=pct(50), within=pct(10)),
        (math.log(1.5), UP, DOWN),
    ),
}
"""Claims on a curve of four points, each with steps (log ratios) of which as many as can be lie on
their margins."""
BEYOND: dict[str, tuple[float, ...]] = {
    "rises": (0.3, DOWN, 0.5),
    "flat": (0.05, 0.0, DOWN),
    "levels off": (0.8, 0.05, DOWN),
}
"""Steps of which a single one is exactly so wrong that the claim is not true any more."""
LOOKS_OF_CURVES = (12, 32)


def curve(
    steps: Mapping[str, Sequence[float]], draws: int, *, together: bool = True, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """How often each claim on a curve holds and is refuted, and under ``"any"`` how often one of
    them holds, or is refuted, at either look.

    Args:
        steps: the true steps of each claim's metric, as log ratios.
        draws: curves.
        together: whether the steps are one family; else each is judged alone.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    truth = np.array([np.concatenate([[0.0], np.cumsum(steps[name])]) for name in CURVE]).T
    points = range(len(truth))
    claims = {name: claim for name, (claim, _) in CURVE.items()}
    counted = {name: [0, 0] for name in (*CURVE, "any")}
    for _ in range(draws):
        x = truth + rng.normal(0, 0.03, (LOOKS_OF_CURVES[-1], *truth.shape))
        runs = [
            [
                Run(Header(arm=str(i), server=1, notes={"v": list(np.exp(of))}), closing=CLOSING)
                for i, of in enumerate(block)
            ]
            for block in x
        ]
        found = _curve_verdicts(claims, runs, points, together=together)
        for name, verdict in (*found.items(), *(("any", v) for v in set(found.values()))):
            counted[name][0] += verdict == "holds"
            counted[name][1] += verdict == "refuted"
    return {name: (held / draws, refuted / draws) for name, (held, refuted) in counted.items()}


def _curve_verdicts(
    claims: Mapping[str, CurveClaim],
    runs: Sequence[Sequence[Run]],
    points: Sequence[float],
    *,
    together: bool,
) -> dict[str, Verdict]:
    """As a session judges a curve: looks at growing data, decided steps settled."""
    steps: dict[Step, list[Claim]] = {}
    for claim in claims.values():
        for step, part in claim.steps(points):
            steps.setdefault(step, []).append(part)
    before: list[list[Judged]] | None = None
    for at, size in enumerate(LOOKS_OF_CURVES):
        look = Look(LOOKS_OF_CURVES, at)
        of = [
            Evidence(parts, [(block[a], block[b]) for block in runs[:size]], (str(a), str(b)))
            for (a, b), parts in steps.items()
        ]
        if together:
            now = judge_together(of, look)
        else:
            now = [
                [judge_together([replace(each, claims=[c])], look)[0][0] for c in each.claims]
                for each in of
            ]
        before = (
            now
            if before is None
            else [settled(was, fresh) for was, fresh in zip(before, now, strict=True)]
        )
        if all(j.verdict != "inconclusive" for each in before for j in each):
            break
    assert before is not None
    judged = dict(zip(steps, before, strict=True))
    return {name: verdict_of(claim, points, judged) for name, claim in claims.items()}


def effects_on_their_margin(draws: int, seed: int = 0) -> dict[str, tuple[float, float]]:
    """How often a difference of two effects that lies exactly on its margin holds and is refuted:
    of a time over 32 blocks, and of the accuracy of 240 questions."""
    rng = np.random.default_rng(seed)
    timed = on_effect(unchanged(numbered(0), within=pct(10)))
    right = on_effect(unchanged(RIGHT, within=pp(10)))
    counted = {"time": [0, 0], "accuracy": [0, 0]}
    for _ in range(draws):
        blocks = []
        for of in rng.normal((UP, 0.0, 0.0, 0.0), 0.03, (32, 4)):
            one, other, plain, base = (
                Run(Header(arm=x, server=1, notes={"v": [math.exp(v)]}), closing=CLOSING)
                for x, v in zip("ABCD", of, strict=True)
            )
            blocks.append((versus(one, other), versus(plain, base)))
        judged = [judge_family([timed], blocks, ("A", "B"))[0]]
        questions = [
            Sample(Prompt(f"q{i}", "", "7", "easy", "math", f"q{i}"), 0.0, 0.0, 1.0, Deltas())
            for i in range(240)
        ]
        shares = rng.random((4, 240)) < np.array([[0.8], [0.9], [0.5], [0.5]])
        answered = [
            Run(Header(arm=x, server=1, notes={"v": list(v)}), questions, closing=CLOSING)
            for x, v in zip("ABCD", shares.astype(float), strict=True)
        ]
        both = versus(answered[0], answered[1]), versus(answered[2], answered[3])
        judged.append(judge_family([right], [both], ("A", "B"))[0])
        for name, one_judged in zip(counted, judged, strict=True):
            counted[name][0] += one_judged.verdict == "holds"
            counted[name][1] += one_judged.verdict == "refuted"
    return {name: (held / draws, refuted / draws) for name, (held, refuted) in counted.items()}


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
    print(f"refuted, then disturbed: {disturbed_later()}\n")
    truths = {name: steps for name, (_, steps) in CURVE.items()}
    tables = {
        "true, on their margins": curve(truths, 1000),
        "the same, every step judged alone": curve(truths, 500, together=False),
        "one step on the wrong side": curve(BEYOND, 1000),
    }
    rows = [
        (f"{what}: {name}", f"{held:.1%}", f"{refuted:.1%}")
        for what, table in tables.items()
        for name, (held, refuted) in table.items()
    ] + [
        (f"difference of two effects on {name}, on its margin", f"{held:.1%}", f"{refuted:.1%}")
        for name, (held, refuted) in effects_on_their_margin(1000).items()
    ]
    print(tabulate(rows, ("claims on more than two arms", "holds", "refuted"), "github"))


if __name__ == "__main__":
    main()
