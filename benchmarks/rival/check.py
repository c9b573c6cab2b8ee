"""Hold our statement of inference-doctor's rule against the package: python
benchmarks/rival/check.py

Builds a virtual environment with the package from PyPI, in a folder that is deleted afterwards
(``--venv`` names one that stays). Its function judges draws of every noise and size with every
slowdown, at 90 and at 95 %; its command line judges a few of them from files. Every answer must be
equal, and every bound to ten digits. About two minutes; exits with 1 when anything differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from compare import ON_MARGIN, RUNS, SLOWDOWNS, drawn
from noise import kinds
from rules import MARGIN, welch

PACKAGE = "inference-doctor==0.4.1"
CONFIDENCES = (0.90, 0.95)
DRAWS = 100
BY_COMMAND = 2
"""Cases of every noise and size, on average, that the command line judges."""
METRIC = "e2el_mean_ms"
SAME = 1e-10
"""Relative difference of two bounds that are the same."""


@dataclass(frozen=True)
class Case:
    """Run times of both sides, and the settings they are judged with."""

    new: list[float]
    old: list[float]
    confidence: float
    margin: float = MARGIN.size


@dataclass(frozen=True)
class Answer:
    """A verdict in inference-doctor's words, and the bounds of the ratio new to old."""

    status: str
    low: float
    high: float

    def equals(self, other: Answer) -> bool:
        bounds = np.array([self.low, self.high]), np.array([other.low, other.high])
        return self.status == other.status and np.allclose(*bounds, rtol=SAME, atol=0)


def cases(draws: int) -> list[Case]:
    """So many draws of every noise and size, with every slowdown and at both confidences."""
    return [
        Case(list(new * (1 + slowdown)), list(old), confidence)
        for noise in kinds()
        for runs in RUNS
        for new, old in drawn(noise, runs, draws)
        for slowdown in (ON_MARGIN, *SLOWDOWNS)
        for confidence in CONFIDENCES
    ]


def by_statement(asked: Sequence[Case]) -> list[Answer]:
    """The answers of ``rules.welch``."""
    found = []
    for case in asked:
        interval = welch(np.array([[case.new, case.old]]), case.confidence)
        safe, not_safe = interval.safe(0.0)[0], interval.not_safe(0.0)[0]
        status = "PASS" if safe else "FAIL" if not_safe else "INCONCLUSIVE"
        low, high = np.exp([interval.low[0], interval.high[0]])
        found.append(Answer(status, float(low), float(high)))
    return found


def by_function(python: Path, asked: Sequence[Case]) -> list[Answer]:
    """The answers of the package's own function."""
    done = subprocess.run(
        [python, Path(__file__).with_name("their_answers.py")],
        input=json.dumps([asdict(case) for case in asked]),
        capture_output=True,
        text=True,
        check=True,
    )
    return [Answer(*each) for each in json.loads(done.stdout)]


def by_command(python: Path, case: Case, folder: Path) -> Answer:
    """The answer of the package's command line to files as ``vllm bench serve`` writes them."""
    for side in ("old", "new"):
        (folder / side).mkdir(exist_ok=True)
        for i, value in enumerate(getattr(case, side)):
            record = {
                "model_id": "m", "num_prompts": 8, "completed": 8, "failed": 0,
                "request_throughput": 1.0, "mean_e2el_ms": value,
            }  # fmt: skip
            (folder / side / f"{i:02}.json").write_text(json.dumps(record), encoding="utf-8")
    words: list[str | Path] = [
        python, "-m", "inference_doctor", "compare-runs", "--json", "--gpu", "any",
        "--baseline", folder / "old", "--candidate", folder / "new", "--metric", METRIC,
        "--regression-percent", str(case.margin), "--confidence", str(case.confidence),
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    bounds = report["confidence_interval"]
    return Answer(report["result"], bounds["ratio_low"], bounds["ratio_high"])


def environment(folder: Path) -> Path:
    """The Python of a virtual environment with the package; built where it is not there yet."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", PACKAGE], check=True)
    return python


def check(python: Path, draws: int) -> bool:
    """Whether all answers are equal; tells how many of each there were."""
    right = True
    asked = cases(draws)
    few = asked[:: len(asked) // (BY_COMMAND * len(kinds()) * len(RUNS)) + 1]
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / str(i) for i in range(len(few))]
        for folder in folders:
            folder.mkdir()
        told = [by_command(python, case, folder) for case, folder in zip(few, folders, strict=True)]
    for way, of, answers in (
        ("function", asked, by_function(python, asked)),
        ("command line", few, told),
    ):
        stated = by_statement(of)
        wrong = [i for i, (a, b) in enumerate(zip(answers, stated, strict=True)) if not a.equals(b)]
        words = sorted({a.status for a in answers})
        counts = ", ".join(f"{sum(a.status == w for a in answers)} {w}" for w in words)
        print(f"{way}: {len(answers)} answers ({counts}), {len(wrong)} differ from ours")
        for i in wrong[:3]:
            print(f"  {of[i]}: {answers[i]}, ours {stated[i]}")
        right = right and not wrong
    return right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--venv", type=Path, help="where the environment stays")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of every noise and size")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        python = environment(given.venv or Path(folder) / "venv")
        right = check(python, given.draws)
    sys.exit(not right)


if __name__ == "__main__":
    main()
