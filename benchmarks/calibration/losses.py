"""How often each rule lets a known loss of accuracy pass.

    python benchmarks/calibration/losses.py ANSWERS

Right answers of one run of recorded answers are made wrong at a known rate, and several rules judge
the loss. Prints the last table of README.md in this folder. Needs no engine; half a minute.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from pytest_rllm import ACCURACY, no_worse, pp
from pytest_rllm.verdicts.effects import Effects
from pytest_rllm.verdicts.shares import no_difference

ANSWER_DRAWS = 400
ACCURACY_MARGIN = pp(3)


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
    parser.add_argument("answers", type=Path)
    given = parser.parse_args()
    header = ("answers", "questions", "loss", "safe", "not safe", "cannot tell")
    others = ("0.08 absolute", "8 % relative", "unpaired z", "McNemar alone")
    print(tabulate(accuracy_rows(given.answers), (*header, *others), "github"))


if __name__ == "__main__":
    main()
