"""How fine must two servers take turns? python benchmarks/turns/measure.py TURNS.jsonl

Starts two servers of one build and asks them in turns, A B B A, one small batch of requests a turn.
A line of the output is one turn: what was asked, when it began, how long it took, and what the
client saw. Nothing differs between the servers but their luck, so whatever their comparison shows
is noise; ``analyse.py`` says how much of it is left for each length and pace of turns. About 15
minutes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_rllm import E2E, TBT, TPS, TTFT, Sampling, Serving, closed
from pytest_rllm.datasets.prompts import Prompt, choose
from pytest_rllm.engines.http import ask
from pytest_rllm.engines.pool import Pool
from pytest_rllm.engines.server import Server
from pytest_rllm.engines.vllm import VllmEngine
from pytest_rllm.loadgen.client import Request
from pytest_rllm.loadgen.run import drive
from pytest_rllm.models import pair_named
from pytest_rllm.records.header import Header
from pytest_rllm.records.writer import RunWriter
from pytest_rllm.telemetry.reference import CpuReference

SERIES_S = 100.0
"""Seconds of turns of one kind."""


@dataclass(frozen=True)
class Batch:
    """What is asked in one turn.

    Attributes:
        requests, in_flight, tokens: how many, how many at a time, and how long the answers are.
        streamed: whether answers come token by token; else whole, and only their ends are seen.
        reference: whether a load that is no engine is timed before each turn.
    """

    requests: int
    in_flight: int
    tokens: int
    streamed: bool = True
    reference: bool = False

    def __str__(self) -> str:
        words = [f"{self.requests} x {self.tokens} tokens, {self.in_flight} in flight"]
        words += ["not streamed"] * (not self.streamed) + ["reference load"] * self.reference
        return ", ".join(words)


BATCHES = (
    Batch(8, 4, 128),  # a block of the upgrade gate as it was
    Batch(4, 4, 128),
    Batch(4, 4, 32),
    Batch(4, 4, 32, streamed=False),
    Batch(4, 4, 32, reference=True),
    Batch(4, 4, 8),
    Batch(16, 16, 32),
    Batch(1, 1, 2),
)


def stolen_s() -> float:
    """Processor seconds that the host has kept from this machine so far."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return int(fields[8]) / 100 if len(fields) > 8 else 0.0


def turn(server: Server, batch: Batch, prompts: list[Prompt], folder: Path) -> dict[str, Any]:
    """One batch on one server."""
    sampling = Sampling(batch.tokens, fixed_length=True)
    bodies = [server.body(prompt, sampling) for prompt in prompts]
    if not batch.streamed:
        begun = time.monotonic()
        with ThreadPoolExecutor(batch.in_flight) as threads:
            url = f"{server.url}/v1/chat/completions"
            whole = [{**body, "stream": False} for body in bodies]
            for body in whole:
                body.pop("stream_options", None)
            list(threads.map(lambda body: ask(url, body), whole))
        return {"E2E": time.monotonic() - begun}
    with RunWriter(folder / "turn.jsonl", Header()) as writer:
        requests = [Request(p, b) for p, b in zip(prompts, bodies, strict=True)]
        run = drive(server.url, requests, closed(batch.in_flight), writer)
    assert not any(sample.error for sample in run.samples), run.samples
    return {metric.name: metric.of_run(run) for metric in (TBT, TPS, E2E, TTFT)}


def series(
    servers: dict[str, Server], batch: Batch, prompts: list[Prompt], folder: Path, seconds: float
) -> Iterator[dict[str, Any]]:
    """Turns A B B A of one kind of batch, for so many seconds."""
    reference = CpuReference()
    begun, i = time.monotonic(), 0
    while time.monotonic() - begun < seconds or i % 4:
        arm = "ABBA"[i % 4]
        asked = [
            prompts[(i // 2 * batch.requests + k) % len(prompts)] for k in range(batch.requests)
        ]
        line: dict[str, Any] = {"batch": str(batch), "turn": i, "arm": arm}
        if batch.reference:
            line["reference_s"] = reference.seconds()
        before, at = stolen_s(), time.monotonic()
        line |= turn(servers[arm], batch, asked, folder)
        line |= {
            "at_s": at - begun,
            "took_s": time.monotonic() - at,
            "stolen_s": stolen_s() - before,
        }
        yield {k: round(v, 7) if isinstance(v, float) else v for k, v in line.items()}
        i += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("turns", type=Path)
    parser.add_argument("--seconds", type=float, default=SERIES_S)
    given = parser.parse_args()
    engine, pair = VllmEngine(), pair_named("tiny")
    prompts = choose(pair.tiers, "medium", n=480)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pools = [stack.enter_context(Pool(folder / name)) for name in "AB"]
        with ThreadPoolExecutor() as threads:
            up = list(threads.map(lambda pool: pool.serve(engine, Serving(), pair), pools))
        servers = dict(zip("AB", up, strict=True))
        file = stack.enter_context(open(given.turns, "a", encoding="utf-8"))
        for batch in BATCHES:
            list(series(servers, batch, list(prompts), folder, 3.0))  # warms up
            lines = list(series(servers, batch, list(prompts), folder, given.seconds))
            file.writelines(json.dumps(line) + "\n" for line in lines)
            file.flush()
            print(f"{batch}: {len(lines)} turns", flush=True)


if __name__ == "__main__":
    main()
