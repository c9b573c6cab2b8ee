"""Runs of two servers of one build, drawn with a seed from known noise or from recorded runs.

A draw is one comparison: run times in seconds, of shape (draws, 2, runs), the new side first. Run
i of the new side and run i of the old one make a pair: they were measured one right after the
other. Nothing differs between the sides but noise; a known slowdown is put on afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pytest_rllm.baselines.machines import Machine, machine

BENCHMARKS = Path(__file__).resolve().parents[1]
POOL = BENCHMARKS / "calibration" / "pool.jsonl"
POOL_MACHINE = machine(BENCHMARKS.parent / "baselines", "cpu-amd-avx2-2c", "vllm")
LOADS = {"TBT": "speed", "TTFT": "first"}
"""Which load of the pool each of its metrics is read from."""
SCATTER = 0.04
"""Standard deviation of a run by itself, on the log scale; inference-doctor's own calibration
takes the same 4 %."""
DRIFT = 0.06
"""Standard deviation of a drift that both sides share."""
DRIFT_RUNS = 10.0
"""Number of runs after which that drift has lost all but 1/e of its memory: minutes."""
OUTLIERS = 0.1
"""Share of slow runs."""
SLOW = 1.5
"""How many times as long a slow run takes."""
PAUSING = 2.0
"""How many times as long the new side's slow runs take, where only it has some."""
SPREAD = 0.025
"""Standard deviation of the log ratio between two servers of one build; the pool's is 0.6 % (TTFT)
and 1.0 % (TBT)."""
PER_PAIR = 6
"""Run blocks that one pair of fresh servers answers. With 6, the pool's 30 sittings of 12 rounds
have enough different comparisons of every size."""


@dataclass(frozen=True)
class Noise:
    """Where the runs of a comparison come from.

    Attributes:
        name: for the tables.
        draw: from a generator, a number of draws and a number of runs to run times.
        metric: name of the metric that the times are taken for.
        machine: what our rule is told of the spread between servers.
    """

    name: str
    draw: Callable[[np.random.Generator, int, int], np.ndarray]
    metric: str = "TBT"
    machine: Machine = Machine("synthetic", {"TBT": 0.0}, 15)  # noqa: RUF009 - it is frozen


def pairs_of_servers(runs: int) -> int:
    """How many pairs of servers a comparison of so many runs a side starts."""
    return -(-runs // PER_PAIR)


def independent(rng: np.random.Generator, draws: int, runs: int) -> np.ndarray:
    """Every run scatters by itself."""
    return np.exp(rng.normal(0, SCATTER, (draws, 2, runs)))


def drifting(rng: np.random.Generator, draws: int, runs: int) -> np.ndarray:
    """A shared drift over minutes (autoregressive, of order 1) comes on top. Sides take turns and
    change their order from pair to pair: new, old, old, new."""
    kept = np.exp(-1 / DRIFT_RUNS)
    steps = rng.normal(0, DRIFT, (2 * runs, draws))
    path = steps[:1]
    for step in steps[1:]:
        path = np.vstack([path, kept * path[-1] + np.sqrt(1 - kept**2) * step])
    in_pairs = path.T.reshape(draws, runs, 2)
    in_pairs[:, 1::2] = in_pairs[:, 1::2, ::-1]
    return independent(rng, draws, runs) * np.exp(in_pairs.transpose(0, 2, 1))


def with_outliers(rng: np.random.Generator, draws: int, runs: int) -> np.ndarray:
    """A tenth of the runs of both sides is slow."""
    slow = rng.random((draws, 2, runs)) < OUTLIERS
    return independent(rng, draws, runs) * np.where(slow, SLOW, 1.0)


def between_servers(rng: np.random.Generator, draws: int, runs: int) -> np.ndarray:
    """Every server has a speed of its own for as long as it lives."""
    own = rng.normal(0, SPREAD / np.sqrt(2), (draws, 2, pairs_of_servers(runs)))
    return independent(rng, draws, runs) * np.exp(own.repeat(PER_PAIR, axis=2)[:, :, :runs])


def pausing(rng: np.random.Generator, draws: int, runs: int) -> np.ndarray:
    """A tenth of the runs of the new side takes twice as long; those of the old one do not. The
    new side is 10 % slower on average."""
    times = independent(rng, draws, runs)
    times[:, 0] *= np.where(rng.random((draws, runs)) < OUTLIERS, PAUSING, 1.0)
    return times


def recorded(path: Path, metric: str) -> np.ndarray:
    """Run times of the pool, of shape (sittings, 2, rounds): servers A and B of one build."""
    found: dict[int, dict[int, tuple[float, float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        block = json.loads(line)
        if block["load"] == LOADS[metric]:
            times = block["A"][metric], block["B"][metric]
            found.setdefault(block["sitting"], {})[block["round"]] = times
    rounds = sorted(set.intersection(*(set(of) for of in found.values())))
    return np.array([[found[s][i] for i in rounds] for s in sorted(found)]).transpose(0, 2, 1)


def from_pool(values: np.ndarray, rng: np.random.Generator, draws: int, runs: int) -> np.ndarray:
    """Sittings in a random order, each used once, with as many rounds in a row as are needed, from
    a random one on; which of its servers is the new side is drawn, too."""
    pairs = pairs_of_servers(runs)
    each = -(-runs // pairs)
    order = rng.permuted(np.tile(np.arange(len(values)), (draws, 1)), axis=1)[:, :pairs, None, None]
    start = rng.integers(values.shape[2] - each + 1, size=(draws, pairs, 1, 1))
    new = rng.integers(2, size=(draws, pairs, 1, 1))
    sides = np.stack([new, 1 - new])
    rounds = start + np.arange(each)[None, None, None]
    chosen = values[order[None], sides, rounds[None]]  # sides, draws, pairs, 1, rounds
    return chosen.transpose(1, 0, 2, 3, 4).reshape(draws, 2, pairs * each)[:, :, :runs]


def kinds(pool: Path = POOL) -> Sequence[Noise]:
    """All noise that has a margin: the synthetic kinds and the pool's two metrics."""
    return (
        Noise("independent", independent),
        Noise("drifting", drifting),
        Noise("outliers", with_outliers),
        Noise("servers", between_servers, machine=Machine("synthetic", {"TBT": SPREAD}, 15)),
        *(
            Noise(f"pool, {name}", partial(from_pool, recorded(pool, name)), name, POOL_MACHINE)
            for name in LOADS
        ),
    )
