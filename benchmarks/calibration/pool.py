"""Measure a pool of run blocks with a known truth: python benchmarks/calibration/pool.py POOL.jsonl

Each sitting starts two fresh servers of one build, A and B, and asks both the same, block by block
in a rotating order: an A/A comparison. In the same rounds A is also asked through proxies that hold
its deltas back by a known time, +3 and +10 % in one sitting, +5 and +20 % in the next: slowdowns
that are known to be there. Every arm goes through a proxy, the others through one that holds
nothing back. One line of the pool is one run block. About two minutes a sitting.

The workloads are those of tests_findings/test_upgrade.py; change them together.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from pytest_rllm import E2E, TBT, TPS, TTFT, Arm, Sampling, Serving, closed
from pytest_rllm.datasets.prompts import Prompt, choose
from pytest_rllm.engines.pool import Pool, Server
from pytest_rllm.engines.vllm import VllmEngine
from pytest_rllm.experiment.workloads import Workload
from pytest_rllm.metrics import Metric
from pytest_rllm.models import ModelPair, pair_named
from pytest_rllm.records.header import Header
from pytest_rllm.session.comparison import header_of
from pytest_rllm.session.sources import Live, Place
from pytest_rllm.telemetry.gpu import Gpu

ROUNDS = 12
CALIBRATION = Header(finding="calibration")
HELD_S = 0.002
"""Every arm's deltas are held back so long: a timer of 0 would be more exact than the others."""
SLOWDOWNS = ((3, 10), (5, 20))
"""Per cent; those of even sittings and those of odd ones."""


@dataclass(frozen=True)
class Load:
    """What is asked in a block, what is read from it, and which delay slows what it measures."""

    prompts: Sequence[Prompt]
    workload: Workload
    sampling: Sampling
    metrics: Sequence[Metric]
    slowed: Metric

    def arm(self, name: str) -> Arm:
        return Arm(Serving(), self.prompts, self.workload, self.sampling, engine=name)

    def delays(self, base_s: float, percent: float) -> tuple[float, float]:
        """Seconds for the first delta and for each one."""
        delay_s = base_s * percent / 100
        return (HELD_S + delay_s, 0.0) if self.slowed is TTFT else (HELD_S, delay_s)


def loads(pair: ModelPair) -> dict[str, Load]:
    """The two timed workloads of the upgrade gate."""
    return {
        "speed": Load(
            choose(pair.tiers, "hard", n=8 * ROUNDS),
            closed(4),
            Sampling(128, fixed_length=True),
            (TBT, TPS, E2E),
            TBT,
        ),
        "first": Load(
            choose(pair.tiers, "medium", n=24 * ROUNDS),
            # One at a time: an answer that is held back must not change what the next one meets.
            closed(1),
            Sampling(2, fixed_length=True),
            (TTFT,),
            TTFT,
        ),
    }


@contextmanager
def proxied(server: Server, delays: Sequence[tuple[float, float]]) -> Iterator[list[str]]:
    """URLs of proxies to a server, one per pair of delays."""
    port = server.url.rpartition(":")[2]
    numbers = [str(number) for pair in delays for number in pair]
    script = str(Path(__file__).with_name("delay_proxy.py"))
    with subprocess.Popen(
        [sys.executable, script, port, *numbers], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield [f"http://127.0.0.1:{port}" for port in process.stdout.readline().split()]
        finally:
            process.kill()


@dataclass
class Through(Live):
    """Measures a server that runs already, through another URL."""

    url: str = ""
    server: Server | None = None

    def prepare(self, arms: Sequence[Arm], *, fresh: bool = False) -> None:
        """Warm up as usual; the server is that of another source."""
        assert self.server is not None
        self.pool.servers[self.server.key] = replace(self.server, url=self.url)
        super().prepare(arms, fresh=fresh)


def sitting(number: int, folder: Path, engine: VllmEngine, pair: ModelPair) -> Iterator[Any]:
    """Lines of the pool from one pair of fresh servers."""
    with ExitStack() as stack:
        pools = [stack.enter_context(Pool(folder / name)) for name in "AB"]
        with ThreadPoolExecutor() as threads:
            servers = list(threads.map(lambda pool: pool.serve(engine, Serving(), pair), pools))

        def through(url: str, server: Server) -> Through:
            return Through(
                lambda _name: engine, pair, Pool(folder), Gpu(), folder, lambda *_: None,
                url=url, server=server,
            )  # fmt: skip

        slowdowns = SLOWDOWNS[number % 2]
        for kind, load in loads(pair).items():
            with proxied(servers[0], [load.delays(0, 0)]) as urls:
                base = base_of(load, through(urls[0], servers[0]))
            delays = [load.delays(base, percent) for percent in (0, *slowdowns)]
            with proxied(servers[0], delays) as slow, proxied(servers[1], delays[:1]) as plain:
                sources = {
                    "A": through(slow[0], servers[0]),
                    "B": through(plain[0], servers[1]),
                    **{
                        f"+{percent}": through(url, servers[0])
                        for percent, url in zip(slowdowns, slow[1:], strict=True)
                    },
                }
                arms = {name: load.arm(name) for name in sources}
                for name, source in sources.items():
                    source.prepare([arms[name]])
                for i in range(ROUNDS):
                    yield from one_round(number, kind, i, load, sources, arms, delays)


def one_round(
    number: int,
    kind: str,
    i: int,
    load: Load,
    sources: Mapping[str, Live],
    arms: Mapping[str, Arm],
    delays: Sequence[tuple[float, float]],
) -> Iterator[dict[str, Any]]:
    """One block of every arm, in an order that rotates and turns round."""
    names = list(sources)
    names = names[i // 2 % len(names) :] + names[: i // 2 % len(names)]
    for name in names if i % 2 == 0 else names[::-1]:
        header = header_of(arms[name], CALIBRATION, name=name, side=None, blocks=ROUNDS)
        arm = arms[name].block(i, ROUNDS)
        run = sources[name].run(arm, Path("block.jsonl"), header, Place())
        assert not any(sample.error for sample in run.samples), run.samples
        assert run.closing is not None
        yield {
            "sitting": number,
            "load": kind,
            "round": i,
            "arm": name,
            "anchor_s": run.header.anchor_s,
            "wall_s": run.closing["wall_s"],
            "requests": len(run.samples),
            **{metric.name: round(metric.of_run(run), 8) for metric in load.metrics},
            "held_s": [
                round(seconds, 9) for seconds in delays[max(0, list(sources).index(name) - 1)]
            ],
        }


def base_of(load: Load, live: Live) -> float:
    """What the slowed metric is on this server, in seconds."""
    arm = load.arm("base")
    live.prepare([arm])
    header = header_of(arm, CALIBRATION, name="base", side=None, blocks=ROUNDS)
    values = []
    for i in range(3):
        run = live.run(arm.block(i, ROUNDS), Path("base.jsonl"), header, Place())
        values.append(load.slowed.of_run(run))
    return median(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--sittings", type=int, default=20)
    given = parser.parse_args()
    engine, pair = VllmEngine(), pair_named("tiny")
    lines = given.pool.read_text().splitlines() if given.pool.exists() else []
    begin = 1 + max((json.loads(line)["sitting"] for line in lines), default=-1)
    for number in range(begin, begin + given.sittings):
        with tempfile.TemporaryDirectory() as folder:
            found = list(sitting(number, Path(folder), engine, pair))
        with open(given.pool, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in found)
        print(f"sitting {number}: {len(found)} blocks", flush=True)


if __name__ == "__main__":
    main()
