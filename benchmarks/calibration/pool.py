"""Measure a pool of run blocks with a known truth: python benchmarks/calibration/pool.py POOL

Each sitting starts two fresh servers of one build, A and B, and asks both the same, in turns: an
A/A comparison. Whatever it shows is luck. A line of the pool is one block: a pair of runs. The
loads are those of tests_findings/test_upgrade.py; change them together. Two minutes a sitting;
measure them over several hours, with nothing else on the machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_rllm import (
    E2E,
    TBT,
    TBT_P99,
    TPS,
    TTFT,
    TTFT_P90,
    Arm,
    Sampling,
    Serving,
    closed,
)
from pytest_rllm.datasets.prompts import choose
from pytest_rllm.engines.pool import Pool
from pytest_rllm.engines.vllm import VllmEngine
from pytest_rllm.experiment.turns import TURN_TOKENS, turns_of
from pytest_rllm.metrics import Metric
from pytest_rllm.models import ModelPair, pair_named
from pytest_rllm.records.header import Header
from pytest_rllm.records.run import Run
from pytest_rllm.session.live import Live
from pytest_rllm.session.run_blocks import header_of
from pytest_rllm.session.sources import Place
from pytest_rllm.telemetry.gpu import Gpu

ROUNDS = 12
CALIBRATION = Header(finding="calibration")


class Twin(VllmEngine):
    """The same engine, whose servers are others."""

    @property
    def key(self) -> str:
        return f"{super().key}, its twin"


ENGINES = {"A": VllmEngine(), "B": Twin()}


@dataclass(frozen=True)
class Load:
    """What is asked in the blocks, and what is read from them."""

    arm: Arm
    metrics: tuple[Metric, ...]


def loads(pair: ModelPair) -> dict[str, Load]:
    """The two timed loads of the upgrade gate."""
    questions = choose(pair.tiers, "medium", n=8 * ROUNDS, repeats=2)
    short = choose(pair.tiers, "medium", n=8 * ROUNDS, repeats=2)
    return {
        "speed": Load(
            Arm(Serving(), questions, closed(4), Sampling(TURN_TOKENS, fixed_length=True)),
            (TBT, TPS, E2E, TBT_P99),
        ),
        # One at a time: what the engine itself needs, no queue.
        "first": Load(
            Arm(Serving(), short, closed(1), Sampling(2, fixed_length=True)),
            (TTFT, TTFT_P90),
        ),
    }


def sitting(number: int, folder: Path, pair: ModelPair) -> Iterator[dict[str, Any]]:
    """Lines of the pool from one pair of fresh servers."""
    with Pool(folder) as pool:
        live = Live(ENGINES.__getitem__, pair, pool, Gpu(), folder, lambda *_: None)
        for kind, load in loads(pair).items():
            arms = {side: replace(load.arm, engine=side) for side in ENGINES}
            begin = time.monotonic()
            live.prepare(list(arms.values()) if number % 2 == 0 else list(arms.values())[::-1])
            started_s = time.monotonic() - begin
            turns = turns_of(arms["A"], arms["B"], ROUNDS)
            for i in range(ROUNDS):
                begin = time.monotonic()
                runs = one_round(live, arms, i, turns)
                yield {
                    "sitting": number,
                    "at": round(time.time()),
                    "load": kind,
                    "round": i,
                    "started_s": round(started_s, 1),
                    "took_s": round(time.monotonic() - begin, 4),
                    "requests": sum(len(run.samples) for run in runs.values()),
                    **{side: told(load, run) for side, run in runs.items()},
                }


def one_round(live: Live, arms: dict[str, Arm], i: int, turns: int) -> dict[str, Run]:
    """One block of both arms, in turns; every other block begins with B."""
    order = list(arms) if i % 2 == 0 else list(arms)[::-1]
    wanted = []
    for side in order:
        arm = arms[side].block(i, ROUNDS)
        header = header_of(arm, CALIBRATION, name=side, side=None, blocks=ROUNDS)
        wanted.append((arm, Path(f"{side}.jsonl"), replace(header, turns=turns)))
    runs = dict(zip(order, live.runs_in_turns(wanted, Place()), strict=True))
    failed = [s.error for run in runs.values() for s in run.samples if s.error]
    assert not failed, failed
    return runs


def told(load: Load, run: Run) -> dict[str, Any]:
    """The metrics of a run, and the mean E2E of each of its turns."""
    assert run.closing is not None
    ends = [
        [s.ended_s - s.intended_s for s in run.samples if begin <= s.intended_s <= end]
        for begin, end in run.closing["turns"]
    ]
    return {
        "reference_s": run.header.reference_s,
        "wall_s": run.closing["wall_s"],
        **{metric.name: round(metric.of_run(run), 8) for metric in load.metrics},
        "turns": [round(sum(of_turn) / len(of_turn), 6) for of_turn in ends],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--sittings", type=int, default=10)
    given = parser.parse_args()
    pair = pair_named("tiny")
    lines = given.pool.read_text().splitlines() if given.pool.exists() else []
    begin = 1 + max((json.loads(line)["sitting"] for line in lines), default=-1)
    for number in range(begin, begin + given.sittings):
        with tempfile.TemporaryDirectory() as folder:
            found = list(sitting(number, Path(folder), pair))
        with open(given.pool, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in found)
        print(f"sitting {number}: {len(found)} blocks", flush=True)


if __name__ == "__main__":
    main()
