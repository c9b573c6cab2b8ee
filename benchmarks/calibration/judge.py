"""Judge a measured pool many times over: python benchmarks/calibration/judge.py POOL

Comparisons are drawn from the pool with a seed and judged by the very functions that judge a
session, look after look. The truth is known: two servers of one build, whose numbers are multiplied
by a known factor on the computer. The spread between servers is taken from the sittings that a
comparison is not drawn from. Prints the tables of README.md in this folder as Markdown. Needs no
engine; about two minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from pytest_rllm import no_worse, pct
from pytest_rllm.baselines.machines import Machine
from pytest_rllm.metrics import METRICS, Metric
from pytest_rllm.records.header import Header
from pytest_rllm.records.run import Run
from pytest_rllm.session.case import UPGRADE_LOOKS
from pytest_rllm.verdicts.claims import Claim
from pytest_rllm.verdicts.judge import Judged, Look, judge_family
from pytest_rllm.verdicts.judgement import settled

DRAWS = 500
MARGINS = {
    "speed": {"TBT": 5, "TPS": 5, "TBT p99": 25},
    "first": {"TTFT": 5, "TTFT p90": 25},
}
"""The claims of the gate that stand together, by load: metrics and their margins in per cent."""
TRUTHS = (1.0, 1.03, 1.05, 1.10, 1.20)
"""What the new arm takes, times the old one."""
Block = dict[str, Any]


@dataclass
class Pool:
    """Blocks by load and sitting, in the order of their rounds."""

    path: Path

    @cached_property
    def blocks(self) -> dict[tuple[str, int], list[Block]]:
        found: defaultdict[tuple[str, int], list[Block]] = defaultdict(list)
        for line in self.path.read_text(encoding="utf-8").splitlines():
            block = json.loads(line)
            found[block["load"], block["sitting"]].append(block)
        return {key: sorted(of, key=lambda block: block["round"]) for key, of in found.items()}

    @property
    def sittings(self) -> list[int]:
        return sorted({sitting for _, sitting in self.blocks})

    @property
    def hours(self) -> int:
        """Different hours in which it was measured."""
        return len({block["at"] // 3600 for of in self.blocks.values() for block in of})

    def ratios(self, load: str, sitting: int, name: str) -> np.ndarray:
        """Log ratios of A to B, block by block."""
        return np.log([block["A"][name] / block["B"][name] for block in self.blocks[load, sitting]])

    def measured(self, load: str) -> list[str]:
        """Names of the metrics of a load."""
        return [name for name in self.blocks[load, self.sittings[0]][0]["A"] if name in METRICS]

    @property
    def start_s(self) -> float:
        """Seconds to start a pair of servers and warm it up."""
        first = [of[0]["started_s"] for (load, _), of in self.blocks.items() if load == "speed"]
        return statistics.fmean(first)


def spread_of(ratios: Sequence[np.ndarray]) -> float:
    """Standard deviation between servers: of sittings' means, less what their blocks explain.

    It is no less than the smallest one that so many sittings would show: the standard error of what
    their blocks explain.
    """
    within = statistics.fmean(r.var(ddof=1) / r.size for r in ratios)
    between = statistics.variance(float(r.mean()) for r in ratios)
    shown = within * math.sqrt(2 / (len(ratios) - 1))
    return math.sqrt(max(shown, between - within))


def machine_of(pool: Pool, sittings: Sequence[int]) -> Machine:
    """What those sittings tell of the machine."""
    spreads = {
        name: round(spread_of([pool.ratios(load, sitting, name) for sitting in sittings]), 4)
        for load in MARGINS
        for name in pool.measured(load)
    }
    spreads["deltas/s"] = spreads["TPS"]  # every delta of these loads carries one token
    spreads["TTFVT"] = spreads["TBT"]  # what comes before a visible token is tokens
    return Machine("pool", spreads, len(sittings))


def stored(name: str, factor: float) -> Metric:
    """A metric that reads its number from the pool's block, the new arm's times a factor."""
    real = METRICS[name]
    worse = factor if real.better == "lower" else 1 / factor

    def of(run: Run) -> float:
        return float(run.header.notes[name]) * (worse if run.header.engine == "new" else 1.0)

    return Metric(name, real.unit, real.better, "run", of, real.timed)


def claims_of(load: str, factor: float) -> list[Claim]:
    """The gate's claims of a load, of a new arm that takes so many times as long."""
    return [
        no_worse(stored(name, factor), within=pct(margin)) for name, margin in MARGINS[load].items()
    ]


def pairs(pool: Pool, load: str, sittings: Sequence[int], swap: bool) -> Iterator[Any]:
    """The blocks of sittings as pairs of runs."""
    for server, sitting in enumerate(sittings):
        for block in pool.blocks[load, sitting]:
            yield tuple(
                Run(
                    Header(engine=engine, server=server, notes=block[side]),
                    closing={"wall_s": block[side]["wall_s"]},
                )
                for engine, side in zip(("new", "old"), "BA" if swap else "AB", strict=True)
            )


@dataclass
class Compared:
    """What one comparison said, and what it cost."""

    verdicts: list[str]
    blocks: int
    pairs: int
    requests: float
    seconds: float

    @property
    def word(self) -> str:
        if "refuted" in self.verdicts:
            return "not safe"
        return "safe" if set(self.verdicts) == {"holds"} else "cannot tell"


@dataclass
class Draws:
    """Comparisons of one load that are drawn from the pool.

    Attributes:
        pool, load: from which.
        looks: numbers of blocks at which the claims are looked at; a pair of servers has as many as
            a sitting.
        draws: how many comparisons.
    """

    pool: Pool
    load: str
    looks: tuple[int, ...] = UPGRADE_LOOKS
    draws: int = DRAWS

    @property
    def each(self) -> int:
        """Blocks of a sitting."""
        return len(self.pool.blocks[self.load, self.pool.sittings[0]])

    def compared(self, factor: float) -> list[Compared]:
        """Sittings in a random order, arms swapped at random."""
        rng = np.random.default_rng(0)
        claims = claims_of(self.load, factor)
        sittings, results = self.pool.sittings, []
        for _ in range(self.draws):
            order = [int(s) for s in rng.permutation(sittings)]
            needed = -(-self.looks[-1] // self.each)
            chosen, others = order[:needed], order[needed:]
            swap = bool(rng.integers(2))
            machine = machine_of(self.pool, others)
            results.append(self._one(claims, chosen, machine, swap))
        return results

    def _one(
        self, claims: Sequence[Claim], chosen: Sequence[int], machine: Machine, swap: bool
    ) -> Compared:
        """As ``Comparison.shows``, on blocks from the pool."""
        found = list(pairs(self.pool, self.load, chosen, swap))
        looks = self.looks
        family: list[Judged] = []
        size = 0
        for at, size in enumerate(looks):
            look = Look(looks, at)
            fresh = judge_family(claims, found[:size], ("new", "old"), {}, look, machine.spread)
            family = settled(family, fresh) if family else fresh
            words = [j.verdict for j in family]
            if "refuted" in words or "inconclusive" not in words:  # as the gate does
                break
        servers = -(-size // self.each)
        blocks = [b for s in chosen for b in self.pool.blocks[self.load, s]][:size]
        return Compared(
            [j.verdict for j in family],
            size,
            servers,
            sum(block["requests"] for block in blocks),
            sum(block["took_s"] for block in blocks) + self.pool.start_s * servers,
        )


def summary(found: Sequence[Compared]) -> list[str]:
    n = len(found)
    words = [sum(c.word == word for c in found) / n for word in ("safe", "not safe", "cannot tell")]
    return [
        *(f"{share:.1%}" for share in words),
        f"{statistics.fmean(c.blocks for c in found):.0f}",
        f"{statistics.fmean(c.pairs for c in found):.1f}",
        f"{statistics.fmean(c.requests for c in found):.0f}",
        f"{statistics.fmean(c.seconds for c in found) / 60:.1f}",
    ]


def scatter_rows(pool: Pool) -> Iterator[tuple[str, ...]]:
    """Per metric: scatter between blocks and between servers, with its 95 % interval."""
    from scipy import stats

    n = len(pool.sittings)
    for load in MARGINS:
        for name in pool.measured(load):
            ratios = [pool.ratios(load, sitting, name) for sitting in pool.sittings]
            blocks = math.sqrt(statistics.fmean(r.var(ddof=1) for r in ratios))
            means = statistics.stdev(float(r.mean()) for r in ratios)
            low, high = (
                means * math.sqrt((n - 1) / stats.chi2.ppf(p, n - 1)) for p in (0.975, 0.025)
            )
            yield (
                load,
                name,
                f"{blocks:.1%}",
                f"{means:.2%}",
                f"{low:.2%} .. {high:.2%}",
                f"{spread_of(ratios):.2%}",
            )


def truth_rows(pool: Pool, draws: int) -> Iterator[tuple[str, ...]]:
    for load in MARGINS:
        for factor in TRUTHS:
            truth = "no change (A/A)" if factor == 1 else f"times {factor:.2f}"
            yield (load, truth, *summary(Draws(pool, load, draws=draws).compared(factor)))


RIGHT = {1.0: "safe", 1.10: "not safe"}
"""The right answer to two truths: how often it is given is a test's power."""


def cost_rows(pool: Pool, draws: int) -> Iterator[tuple[str, ...]]:
    """Cost of the looks, beside a test of one size that is right as often (to one per cent)."""
    for load in MARGINS:
        for factor, word in RIGHT.items():
            looked = Draws(pool, load, draws=draws).compared(factor)
            power = statistics.fmean(c.word == word for c in looked)
            for size in range(15, UPGRADE_LOOKS[-1] * 2, 5):
                fixed = Draws(pool, load, (size,), draws).compared(factor)
                if statistics.fmean(c.word == word for c in fixed) >= power - 0.01:
                    break
            ratio = statistics.fmean(c.requests for c in looked) / fixed[0].requests
            yield (
                load,
                f"{'A/A' if factor == 1 else f'times {factor:.2f}'}: {word}",
                f"{power:.1%}",
                f"{statistics.fmean(c.blocks for c in looked):.0f}",
                f"{fixed[0].blocks}",
                f"{statistics.fmean(c.seconds for c in looked) / 60:.1f}",
                f"{fixed[0].seconds / 60:.1f}",
                f"{ratio:.2f}",
            )


def alone_rows(pool: Pool) -> Iterator[tuple[str, ...]]:
    """Every sitting by itself, one look: nothing drawn, nothing used twice, the spread from the
    others."""
    for load in MARGINS:
        claims = claims_of(load, 1.0)
        words = []
        for sitting in pool.sittings:
            others = [s for s in pool.sittings if s != sitting]
            one = Draws(pool, load, UPGRADE_LOOKS[:1])
            words.append(one._one(claims, [sitting], machine_of(pool, others), False).word)
        counts = [str(words.count(word)) for word in ("safe", "not safe", "cannot tell")]
        yield (load, str(len(words)), *counts)


def tables(pool: Pool, draws: int = DRAWS) -> str:
    judged = ("safe", "not safe", "cannot tell")
    cost = ("blocks", "pairs of servers", "requests", "minutes")
    parts = [
        f"{len(pool.sittings)} sittings in {pool.hours} different hours; {pool.start_s:.0f} s to "
        "start a pair of servers",
        tabulate(
            scatter_rows(pool),
            ("load", "metric", "between blocks", "sittings' means", "95 %", "between servers"),
            "github",
        ),
        tabulate(truth_rows(pool, draws), ("load", "truth", *judged, *cost), "github"),
        tabulate(alone_rows(pool), ("load", "sittings", *judged), "github"),
        tabulate(
            cost_rows(pool, draws),
            ("load", "truth: answer", "given", "blocks", "fixed", "minutes", "fixed", "requests"),
            "github",
        ),
    ]
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--draws", type=int, default=DRAWS)
    given = parser.parse_args()
    pool = Pool(given.pool)
    known = machine_of(pool, pool.sittings)
    print(json.dumps({"server_spread": known.server_spread, "sittings": known.sittings}), "\n")
    print(tables(pool, given.draws))


if __name__ == "__main__":
    main()
