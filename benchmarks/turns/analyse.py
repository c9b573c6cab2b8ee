"""How much noise is left, by length and pace of turns: python benchmarks/turns/analyse.py TURNS PNG

Nothing differs between the two servers of a series but their luck. Each server's mean is taken off,
and the turns are labelled anew: runs of 1, 2, 4 ... turns of one arm, then of the other, A B B A.
What a comparison of those labels shows is noise, and the pace with the least of it is the best.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

PACES = (1, 2, 4, 8, 16)
METRICS = ("E2E", "TBT", "TPS", "TTFT")
WINDOW_S = 12.0
"""Seconds of turns of both arms that one effect is worked out from."""


def series(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Turns by what was asked in them."""
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        turn = json.loads(line)
        found[turn["batch"]].append(turn)
    return dict(found)


def noise(turns: list[dict[str, Any]], metric: str) -> np.ndarray:
    """Log values of a metric, each server's mean taken off; shape (turns,)."""
    values = np.log([turn[metric] for turn in turns])
    arms = np.array([turn["arm"] for turn in turns])
    for arm in "AB":
        values[arms == arm] -= values[arms == arm].mean()
    return values


def labels(turns: int, pace: int) -> np.ndarray:
    """+1 and -1 in the order A B B A, each held for so many turns."""
    pattern = np.repeat([1, -1, -1, 1], pace)
    return np.resize(pattern, turns)


def scatter(values: np.ndarray, pace: int, window: int) -> float:
    """Standard deviation of the effect of one window of so many turns, a whole number of ABBA."""
    window = max(4 * pace, window // (4 * pace) * 4 * pace)
    found = [
        2 * float((values[at : at + window] * labels(window, pace)).mean())
        for at in range(0, values.size - window + 1, window)
    ]
    if len(found) < 4:
        return math.nan
    return math.sqrt(float(np.mean(np.square(found))) * window_share(window, values.size))


def window_share(window: int, turns: int) -> float:
    """Corrects for the means that were taken off."""
    return 1 / (1 - window / turns) if window < turns else 1.0


@dataclass(frozen=True)
class Scatter:
    """What is left of noise at one pace.

    Attributes:
        batch, metric: of what.
        turn_s: seconds of a turn.
        pace: turns of one arm before it is the other's turn.
        minute: standard deviation of the effect of one minute of turns, as a log ratio.
    """

    batch: str
    metric: str
    turn_s: float
    pace: int
    minute: float


def scatters(path: Path) -> Iterator[Scatter]:
    """Of every kind of batch, metric and pace for which there are four windows."""
    for batch, turns in series(path).items():
        took = float(np.mean([turn["took_s"] for turn in turns]))
        for metric in METRICS:
            if metric not in turns[0] or (metric in ("TBT", "TPS") and "x 2 tok" in batch):
                continue
            values = noise(turns, metric)
            for pace in PACES:
                window = max(4 * pace, round(WINDOW_S / took / 4 / pace) * 4 * pace)
                sd = scatter(values, pace, window)
                if not math.isnan(sd):
                    yield Scatter(batch, metric, took, pace, sd * math.sqrt(window * took / 60))


def plot(found: Sequence[Scatter], path: Path) -> None:
    """Scatter of a minute against the seconds that one arm is asked at a time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for batch in dict.fromkeys(one.batch for one in found):
        mine = [one for one in found if (one.batch, one.metric) == (batch, "E2E")]
        x = [one.turn_s * one.pace for one in mine]
        axes.plot(x, [100 * one.minute for one in mine], "o-", label=batch)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
    axes.minorticks_off()
    axes.set_xlabel("seconds of one arm before it is the other's turn")
    axes.set_ylabel("scatter of E2E in a minute of turns, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def rows(found: Sequence[Scatter], path: Path) -> Iterator[tuple[str, ...]]:
    """Per kind of batch and metric: seconds of a turn, its own scatter, and that of a minute."""
    turns = series(path)
    for batch, metric in dict.fromkeys((one.batch, one.metric) for one in found):
        mine = {one.pace: one for one in found if (one.batch, one.metric) == (batch, metric)}
        values = noise(turns[batch], metric)
        lag = float(np.corrcoef(values[1:], values[:-1])[0, 1])
        cells = [f"{mine[pace].minute:.2%}" if pace in mine else "" for pace in PACES]
        turn_s = next(iter(mine.values())).turn_s
        yield (batch, f"{turn_s:.2f}", metric, f"{values.std():.1%}", f"{lag:.2f}", *cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("turns", type=Path)
    parser.add_argument("plot", type=Path, nargs="?", help="a .png; needs matplotlib")
    given = parser.parse_args()
    paces = [f"by {pace}" for pace in PACES]
    header = ("batch", "s a turn", "metric", "scatter of a turn", "lag 1", *paces)
    found = list(scatters(given.turns))
    print(tabulate(rows(found, given.turns), header, "github"))
    if given.plot:
        plot(found, given.plot)


if __name__ == "__main__":
    main()
