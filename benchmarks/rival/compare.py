"""Judge the same runs by our rule and by inference-doctor's: python benchmarks/rival/compare.py

Prints the tables of README.md in this folder as Markdown; ``--write`` puts them there. Seeded;
needs neither an engine nor inference-doctor. About a minute and a half.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from noise import OUTLIERS, PAUSING, POOL, Noise, kinds, pausing
from rules import MARGIN, Intervals, ours, paired_t, welch
from tabulate import tabulate

DRAWS = 2000
RUNS = (6, 12, 24)
ON_MARGIN = MARGIN.size / 100
SLOWDOWNS = (0.0, 0.1, 0.2)
OURS, THEIRS, PAIRED = "ours", "inference-doctor", "paired t"
AT_95 = f"{THEIRS}, 95 %"
PAGE = Path(__file__).with_name("README.md")
TABLES = re.compile(r"(?<=<!-- tables -->\n).*(?=<!-- end of tables -->)", re.DOTALL)


def drawn(noise: Noise, runs: int, draws: int) -> np.ndarray:
    """The same runs for the same noise and size, whoever asks."""
    return noise.draw(np.random.default_rng((runs, *noise.name.encode())), draws, runs)


def judged_by_all(noise: Noise, runs: int, draws: int) -> dict[str, Intervals]:
    """Every rule's intervals of the same draws, as each ships."""
    values = drawn(noise, runs, draws)
    return {
        OURS: ours(values, noise),
        THEIRS: welch(values),
        AT_95: welch(values, 0.95),
        PAIRED: paired_t(values, noise),
    }


def errors(found: Intervals, factor: float | np.ndarray = 1.0) -> tuple[float, float]:
    """Shares of "safe" and of "not safe" with the truth on the margin: both are wrong."""
    return (
        float(found.safe(ON_MARGIN, factor).mean()),
        float(found.not_safe(ON_MARGIN, factor).mean()),
    )


def answers(found: Intervals, slowdown: float, factor: float | np.ndarray = 1.0) -> list[float]:
    """Shares of right, of wrong and of no answers."""
    safe = float(found.safe(slowdown, factor).mean())
    not_safe = float(found.not_safe(slowdown, factor).mean())
    right, wrong = (not_safe, safe) if slowdown > ON_MARGIN else (safe, not_safe)
    return [right, wrong, 1 - right - wrong]


def percent(*shares: float) -> str:
    return " / ".join(f"{100 * share:.0f}" for share in shares)


def row(name: str, found: Intervals, factor: float | np.ndarray = 1.0) -> list[str]:
    """A rule's errors on the margin and its answers to every slowdown."""
    on_margin = " / ".join(f"{100 * share:.1f}" for share in errors(found, factor))
    return [name, on_margin, *(percent(*answers(found, s, factor)) for s in SLOWDOWNS)]


Rows = list[list[str]]


def rows(noise: Noise, runs: int, draws: int) -> tuple[list[str], Rows, Rows]:
    """Of one noise and size: a row that shows all rules calibrated side by side, the rows of the
    rules as they ship, and those of the calibrated ones."""
    found = judged_by_all(noise, runs, draws)
    factors = {name: found[name].calibrated() for name in (OURS, THEIRS, PAIRED)}
    short = [
        percent(*(answers(found[name], s, factor)[0] for name, factor in factors.items()))
        for s in SLOWDOWNS
    ]
    where = [noise.name, str(runs)]
    shipped = [[*where, *row(name, one)] for name, one in found.items()]
    calibrated = [
        [*where, *row(name, found[name], factor), f"{factor.mean():.2f}"]
        for name, factor in factors.items()
    ]
    return [*where, *short], shipped, calibrated


def pausing_rows(sizes: Sequence[int], draws: int) -> Iterator[list[str]]:
    """Of a new side that is slow now and then: how often each rule calls it safe, and not safe."""
    noise = Noise("pausing", pausing)
    for runs in sizes:
        for name, found in judged_by_all(noise, runs, draws).items():
            if name != PAIRED:
                safe, not_safe = found.safe(0.0).mean(), found.not_safe(0.0).mean()
                yield [str(runs), name, *(f"{100 * x:.0f}" for x in (safe, not_safe))]


def tables(draws: int, pool: Path = POOL, sizes: Sequence[int] = RUNS) -> str:
    short, shipped, calibrated = [], [], []
    for noise in kinds(pool):
        for runs in sizes:
            one, as_shipped, as_calibrated = rows(noise, runs, draws)
            short.append(one)
            shipped += as_shipped
            calibrated += as_calibrated
    truths = ["no change" if s == 0 else f"+{s:.0%}".replace("%", " %") for s in SLOWDOWNS]
    where, on_margin = ["noise", "runs"], "on the margin"
    wide = [*where, "rule", on_margin, *truths]
    slow = f"slow in {OUTLIERS:.0%} of runs, {PAUSING:g} times as long".replace("%", " %")
    error = 100 * math.sqrt(0.025 * 0.975 / draws)
    parts = (
        f"Right answers in % at equal error: {OURS} / {THEIRS} / {PAIRED}.",
        tabulate(short, [*where, *truths], "github", disable_numparse=True),
        "As they ship. On the margin: safe / not safe in %, both wrong; then right / wrong / no "
        f"answer in %. {draws} draws a row: an error of 2.5 % is known to {error:.1f} points.",
        tabulate(shipped, wide, "github", disable_numparse=True),
        "Calibrated to the same error. The factor is that of the interval's width, against 95 % "
        f"for {OURS} and {PAIRED} and 90 % for {THEIRS}.",
        tabulate(calibrated, [*wide, "factor"], "github", disable_numparse=True),
        f"As they ship, the new side {slow}, in %.",
        tabulate(
            pausing_rows(sizes, draws), ["runs", "rule", "safe", "not safe"], "github",
            disable_numparse=True,
        ),
    )  # fmt: skip
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--pool", type=Path, default=POOL)
    parser.add_argument("--runs", type=int, nargs="+", default=RUNS, help="a side")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    given = parser.parse_args()
    found = tables(given.draws, given.pool, given.runs)
    print(found)
    if given.write:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(TABLES.sub(lambda _old: f"\n{found}\n\n", page), encoding="utf-8")


if __name__ == "__main__":
    main()
