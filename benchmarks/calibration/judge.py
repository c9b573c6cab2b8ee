"""Judge a measured pool many times over: python benchmarks/calibration/judge.py POOL ANSWERS

Comparisons are drawn from the pool with a seed and judged by the very functions that judge a
session, look after look. The truth is known: two servers of one build, one of them held back by a
known share, or shifted on the computer by exactly the margin. Prints the tables of README.md in
this folder as Markdown. Needs no engine; about a minute.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from pytest_rllm import ACCURACY, no_worse, pct, pp
from pytest_rllm.baselines.machines import Machine
from pytest_rllm.metrics import METRICS, Metric
from pytest_rllm.records.header import Header
from pytest_rllm.records.run import Run
from pytest_rllm.session.case import LOOKS
from pytest_rllm.verdicts.claims import Claim
from pytest_rllm.verdicts.intervals import Effects, no_difference
from pytest_rllm.verdicts.judge import Judged, Look, judge_family
from pytest_rllm.verdicts.judgement import settled

DRAWS = 1000
ANSWER_DRAWS = 400
MARGIN = pct(5)
ACCURACY_MARGIN = pp(3)
TIMED = {"speed": ("TBT", "TPS", "E2E"), "first": ("TTFT",)}
START_S = 24.0
"""Seconds to start two servers together and warm them up, measured."""
Block = dict[str, Any]


@dataclass
class Pool:
    """Blocks by sitting, load and arm, in the order of their rounds."""

    path: Path
    blocks: dict[tuple[int, str, str], list[Block]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found: defaultdict[tuple[int, str, str], list[Block]] = defaultdict(list)
        for line in self.path.read_text().splitlines():
            block = json.loads(line)
            found[block["sitting"], block["load"], block["arm"]].append(block)
        self.blocks = {k: sorted(v, key=lambda b: b["round"]) for k, v in found.items()}

    def sittings(self, load: str, arm: str) -> list[int]:
        return sorted({s for s, kind, name in self.blocks if (kind, name) == (load, arm)})

    def ratios(self, load: str, arm: str, name: str) -> list[np.ndarray]:
        """Per sitting the log ratios of an arm to B, block by block."""
        return [
            np.log(
                [
                    a[name] / b[name]
                    for a, b in zip(
                        self.blocks[s, load, arm], self.blocks[s, load, "B"], strict=True
                    )
                ]
            )
            for s in self.sittings(load, arm)
        ]


def server_spread(ratios: Sequence[np.ndarray]) -> float:
    """Standard deviation between servers: the sittings' means, less what their blocks explain.

    Few sittings estimate a variance badly, so one standard error of it is added: rather too wide.
    """
    within = statistics.fmean(r.var(ddof=1) / r.size for r in ratios)
    between = statistics.variance(float(r.mean()) for r in ratios)
    error = between * math.sqrt(2 / (len(ratios) - 1))
    return math.sqrt(max(0.0, between - within + error))


def stored(name: str) -> Metric:
    """A metric that reads its number from the pool's block."""
    real = METRICS[name]
    return Metric(
        name, real.unit, real.better, "run", lambda run: run.header.notes[name], real.timed
    )


def pairs(pool: Pool, load: str, arm: str, sittings: Sequence[int], swap: bool) -> Iterator[Any]:
    for server, s in enumerate(sittings):
        for a, b in zip(pool.blocks[s, load, arm], pool.blocks[s, load, "B"], strict=True):
            runs = [
                Run(
                    Header(engine=engine, server=server, notes=block),
                    closing={"wall_s": block["wall_s"]},
                )
                for engine, block in (("new", b if swap else a), ("old", a if swap else b))
            ]
            yield tuple(runs)


@dataclass
class Compared:
    """What one comparison said, and what it cost."""

    verdicts: list[str]
    blocks: int
    requests: int
    seconds: float

    @property
    def word(self) -> str:
        if "refuted" in self.verdicts:
            return "not safe"
        return "safe" if set(self.verdicts) == {"holds"} else "cannot tell"


def look_by_look(
    claims: Sequence[Claim],
    found: Sequence[tuple[Run, Run]],
    machine: Machine,
    looks: Sequence[int],
) -> Compared:
    """As ``Comparison.shows``, on blocks from the pool."""
    family: list[Judged] = []
    size = 0
    for at, size in enumerate(looks):
        look = Look(tuple(looks), at)
        fresh = judge_family(claims, found[:size], ("new", "old"), {}, look, machine.spread)
        family = settled(family, fresh) if family else fresh
        if all(j.verdict != "inconclusive" for j in family):
            break
    runs = [run for pair in found[:size] for run in pair]
    servers = len({run.header.server for run in runs})
    blocks = [run.header.notes for run in runs]
    return Compared(
        [j.verdict for j in family],
        size,
        sum(block["requests"] for block in blocks),
        sum(block["wall_s"] + block["anchor_s"] for block in blocks) + START_S * servers,
    )


def compared(
    pool: Pool,
    load: str,
    arm: str,
    machine: Machine,
    looks: Sequence[int],
    draws: int,
    shift: float = 0.0,
) -> list[Compared]:
    """Comparisons drawn from the pool: sittings in a random order, and for A/A arms swapped at
    random. ``shift`` multiplies the new arm's numbers by a known factor (log ratio)."""
    rng = np.random.default_rng(0)
    claims = [no_worse(stored(name), within=MARGIN) for name in TIMED[load]]
    there = pool.sittings(load, arm)
    each = len(pool.blocks[there[0], load, arm])
    results = []
    for _ in range(draws):
        chosen = [int(s) for s in rng.permutation(there)[: math.ceil(looks[-1] / each)]]
        swap = arm == "A" and bool(rng.integers(2))
        found = list(pairs(pool, load, arm, chosen, swap))
        for new, _old in found:
            worse = {
                metric.name: new.header.notes[metric.name]
                * math.exp(shift if metric.better == "lower" else -shift)
                for metric in (claim.metric for claim in claims)
            }
            new.header = replace(new.header, notes={**new.header.notes, **worse})
        results.append(look_by_look(claims, found, machine, looks))
    return results


def summary(found: Sequence[Compared]) -> list[str]:
    n = len(found)
    words = [sum(c.word == word for c in found) / n for word in ("safe", "not safe", "cannot tell")]
    return [
        *(f"{share:.1%}" for share in words),
        f"{statistics.fmean(c.blocks for c in found):.0f}",
        f"{statistics.fmean(c.requests for c in found):.0f}",
        f"{statistics.fmean(c.seconds for c in found) / 60:.1f}",
    ]


RIGHT = {"A": "safe", "+10": "not safe"}
"""The right answer to two truths: how often it is given is a test's power."""


def cost_rows(pool: Pool, load: str, machine: Machine) -> Iterator[tuple[str, ...]]:
    """Cost of the looks, beside a test of a fixed size that is right as often (to one per cent)."""
    found = {arm: compared(pool, load, arm, machine, LOOKS, DRAWS) for arm in RIGHT}
    power = {arm: statistics.fmean(c.word == RIGHT[arm] for c in found[arm]) for arm in RIGHT}
    for arm, word in RIGHT.items():
        looked = found[arm]
        for size in range(12, LOOKS[-1] + 1, 4):
            fixed = compared(pool, load, arm, machine, (size,), DRAWS // 4)
            if statistics.fmean(c.word == word for c in fixed) >= power[arm] - 0.01:
                break
        ratio = statistics.fmean(c.requests for c in looked) / fixed[0].requests
        means = (statistics.fmean(c.blocks for c in looked), fixed[0].blocks)
        minutes = (statistics.fmean(c.seconds for c in looked), fixed[0].seconds)
        yield (
            load,
            f"{arm if arm != 'A' else 'A/A'}: {word}",
            f"{power[arm]:.1%}",
            *(f"{blocks:.0f}" for blocks in means),
            *(f"{seconds / 60:.1f}" for seconds in minutes),
            f"{ratio:.2f}",
        )


def fresh_rows(pool: Pool, machine: Machine) -> Iterator[tuple[str, ...]]:
    """Every sitting by itself, as it was measured: nothing drawn, nothing used twice."""
    for load, names in TIMED.items():
        claims = [no_worse(stored(name), within=MARGIN) for name in names]
        for arm in ("A", "+3", "+5", "+10", "+20"):
            there = pool.sittings(load, arm)
            words = [
                look_by_look(claims, list(pairs(pool, load, arm, [s], False)), machine, (12,)).word
                for s in there
            ]
            counts = [str(words.count(word)) for word in ("safe", "not safe", "cannot tell")]
            yield (load, "A/A" if arm == "A" else f"{arm} %", str(len(there)), *counts)


def timed_tables(pool: Pool) -> str:
    parts = []
    spreads = {
        name: round(server_spread(pool.ratios(load, "A", name)), 4)
        for load, names in TIMED.items()
        for name in names
    }
    machine = Machine("pool", spreads, len(pool.sittings("speed", "A")))
    scatter = {
        name: math.sqrt(statistics.fmean(r.var(ddof=1) for r in pool.ratios(load, "A", name)))
        for load, names in TIMED.items()
        for name in names
    }
    rows = [(n, f"{scatter[n]:.1%}", f"{spreads[n]:.2%}") for n in spreads]
    parts.append(tabulate(rows, ("metric", "between blocks", "between servers"), "github"))
    print(json.dumps({"server_spread": spreads, "sittings": machine.sittings}))
    rows = []
    header = ("load", "truth", "safe", "not safe", "cannot tell", "blocks", "requests", "minutes")
    for load in TIMED:
        for arm, truth in (
            ("A", "no change (A/A)"),
            *((f"+{p}", f"+{p} %") for p in (3, 5, 10, 20)),
        ):
            if pool.sittings(load, arm):
                found = compared(pool, load, arm, machine, LOOKS, DRAWS)
                rows.append((load, truth, *summary(found)))
        for factor in (1 + MARGIN.size / 100, 1.1):
            found = compared(pool, load, "A", machine, LOOKS, DRAWS, math.log(factor))
            rows.append((load, f"A/A times {factor:.2f}", *summary(found)))
    parts.append(tabulate(rows, header, "github"))
    header = ("load", "truth", "sittings", "safe", "not safe", "cannot tell")
    parts.append(tabulate(fresh_rows(pool, machine), header, "github"))
    header = ("load", "truth: answer", "given", "blocks", "fixed", "minutes", "fixed", "requests")
    rows = [row for load in TIMED for row in cost_rows(pool, load, machine)]
    parts.append(tabulate(rows, header, "github"))
    return "\n\n".join(parts)


def accuracy_rows(path: Path) -> list[tuple[str, ...]]:
    """How often each rule lets a known loss of accuracy pass."""
    content = json.loads(path.read_text())
    runs = {
        name: np.array([[int(c) for c in run] for run in content[name]], dtype=float)
        for name in content
        if name != "tiers"
    }
    rng = np.random.default_rng(0)
    rows = []
    for mode in ("greedy", "sampled"):
        for n in (200, 500, 1319):
            for loss in (0.0, 0.02, 0.03, 0.05):
                found = [altered(runs[mode], n, loss, rng) for _ in range(ANSWER_DRAWS)]
                rows.append((mode, n, f"-{loss * 100:.0f} pp", *shares(found)))
    for name in runs:
        base, _, bits = name.partition(", ")
        if bits:
            new, old = runs[name], runs[base]
            loss = f"{(new.mean() - old.mean()) * 100:+.1f} pp"
            for n in (200, 500, 1319):
                found = [
                    rules(new[0, chosen][None], old[0, chosen][None])
                    for chosen in (rng.permutation(new.shape[1])[:n] for _ in range(ANSWER_DRAWS))
                ]
                rows.append((name, n, loss, *shares(found)))
    return rows


def altered(runs: np.ndarray, n: int, loss: float, rng: np.random.Generator) -> dict[str, str]:
    """Two runs of the same questions; right answers of the first are made wrong at the rate that
    costs ``loss`` on average."""
    order = rng.permutation(len(runs))
    chosen = rng.permutation(runs.shape[1])[:n]
    new, old = (runs[order[i]][None, chosen] for i in (0, 1))
    spoilt = rng.random(new.shape) < loss / runs.mean()
    return rules(np.where(spoilt, 0.0, new), old)


def rules(new: np.ndarray, old: np.ndarray) -> dict[str, str]:
    """What each rule says of right answers (1) and wrong ones (0), runs by questions."""
    claim = no_worse(ACCURACY, within=ACCURACY_MARGIN)
    differences = new.mean(axis=0) - old.mean(axis=0)
    questions = range(differences.size)
    verdict = claim.of(Effects(list(differences), "share", questions).interval())
    before, after = old.mean(), new.mean()
    pooled = (before + after) / 2
    sd = math.sqrt(max(pooled * (1 - pooled), 1e-12) * 2 / new.size)
    real = no_difference(list(differences), questions) < 0.05
    return {
        "ours": {"holds": "safe", "refuted": "not safe"}.get(verdict, "cannot tell"),
        "0.08 absolute": "safe" if after >= before - 0.08 else "not safe",
        "8 % relative": "safe" if after >= 0.92 * before else "not safe",
        "unpaired z": "not safe" if (after - before) / sd < -1.645 else "safe",
        "McNemar alone": "not safe" if after < before and real else "safe",
    }


def shares(found: Sequence[dict[str, str]]) -> list[str]:
    """Ours in three words, and how often the others let it pass."""
    n = len(found)
    ours = [f["ours"] for f in found]
    others = [name for name in found[0] if name != "ours"]
    return [
        *(f"{ours.count(word) / n:.1%}" for word in ("safe", "not safe", "cannot tell")),
        *(f"{sum(f[name] == 'safe' for f in found) / n:.1%}" for name in others),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("answers", type=Path)
    given = parser.parse_args()
    print(timed_tables(Pool(given.pool)))
    header = ("answers", "questions", "loss", "safe", "not safe", "cannot tell")
    others = ("0.08 absolute", "8 % relative", "unpaired z", "McNemar alone")
    print()
    print(tabulate(accuracy_rows(given.answers), (*header, *others), "github"))


if __name__ == "__main__":
    main()
