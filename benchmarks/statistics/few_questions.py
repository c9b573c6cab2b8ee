"""What does a data set of few questions do to claims about answers? The paper's pairs, simulated.

    python benchmarks/statistics/few_questions.py

The gate asks for no loss of accuracy on every tier. AIME 2024 has 30 questions, the other data sets
of the paper have hundreds: how are they spread over the looks, and which claims can hold at all?
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from pytest_rllm import ACCURACY, Arm, Sampling, Serving, no_worse, pp
from pytest_rllm.datasets.prompts import Prompts, choose
from pytest_rllm.experiment.workloads import Workload
from pytest_rllm.local_data import LocalData
from pytest_rllm.verdicts.judge import Look
from pytest_rllm.verdicts.shares import share

LOOKS = (12, 24, 36, 48, 60)
BLOCKS = LOOKS[-1]
SIZES = {"easy": 1319, "medium": 500, "hard": 30, "knowledge": 198}
"""Questions of GSM8K, MATH-500, AIME 2024 and GPQA diamond."""
WITHIN = no_worse(ACCURACY, within=pp(5))


def asked(sizes: Mapping[str, int], n: int = 48 * BLOCKS) -> Prompts:
    """What the gate asks of data sets of these sizes, or as much as they have."""
    with tempfile.TemporaryDirectory() as folder:
        tiers: dict[str, str | LocalData] = {}
        for tier, size in sizes.items():
            path = Path(folder, f"{tier}.jsonl")
            rows = ({"question": f"{tier} {i}?", "answer": str(i)} for i in range(size))
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            tiers[tier] = LocalData(path, tier, "answer", "question")
        return choose(tiers, *tiers, n=n, at_most=True)


def arm(prompts: Prompts) -> Arm:
    """An arm that asks these."""
    return Arm(Serving(), prompts, Workload("closed", 16), Sampling(1024, temperature=0))


def by_block(of: Arm, blocks: int = BLOCKS) -> list[Counter[str]]:
    """How many questions of each tier every block has."""
    parts = (of.block(i, blocks) for i in range(blocks))
    return [Counter(prompt.tier for prompt in part.prompts) for part in parts]


def seen_at(blocks: Sequence[Counter[str]], look: int) -> Counter[str]:
    """How many questions of each tier the first so many blocks have."""
    return sum(blocks[:look], Counter())


def holds(n: int, changed: float, draws: int, seed: int = 0) -> float:
    """How often "accuracy falls by no more than 5 points" holds at the last look, with n questions
    of which that share becomes right and that share becomes wrong by chance."""
    rng = np.random.default_rng(seed)
    confidence = Look(LOOKS, len(LOOKS) - 1).confidence()
    better, worse, _ = rng.multinomial(n, (changed, changed, 1 - 2 * changed), draws).T
    counts = Counter(zip(better.tolist(), worse.tolist(), strict=True))
    found = 0
    for (up, down), times in counts.items():
        effects = [1.0] * up + [-1.0] * down + [0.0] * (n - up - down)
        found += times * (WITHIN.of(share(effects, range(n), confidence)) == "holds")
    return found / draws


def spread_rows() -> Iterator[tuple[str, ...]]:
    """Per tier its share of the questions at every look, and its pooled part of a loss."""
    blocks = by_block(arm(asked(SIZES)))
    for tier in SIZES:
        shares = (seen_at(blocks, look)[tier] / seen_at(blocks, look).total() for look in LOOKS)
        fewest, most = min(b[tier] for b in blocks), max(b[tier] for b in blocks)
        yield tier, *(f"{value:.1%}" for value in shares), f"{fewest} to {most}"


def holds_rows(draws: int) -> Iterator[tuple[str, ...]]:
    """Per number of questions how often the claim holds."""
    for n in (30, 60, 81, 82, 120, 198, 500):
        yield str(n), *(f"{holds(n, changed, draws):.0%}" for changed in (0.0, 0.005, 0.01))


def main(write: Callable[[str], object] = print) -> None:
    """Print both tables."""
    write("Share of each tier among the questions of the first blocks:\n")
    headers = ("tier", *(f"{look} blocks" for look in LOOKS), "in a block")
    write(tabulate(spread_rows(), headers, tablefmt="github"))
    write("\nHow often a claim of 5 points holds when nothing is wrong:\n")
    headers = ("questions", "no answer changes", "0.5 % each way", "1 % each way")
    write(tabulate(holds_rows(1000), headers, tablefmt="github"))


if __name__ == "__main__":
    main()
