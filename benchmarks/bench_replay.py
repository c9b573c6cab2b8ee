"""What it costs to judge a million recorded deltas, and the parts of it.

    python -m pytest benchmarks/bench_replay.py --benchmark-columns=min,median,max

All figures are CPU seconds. The session is synthetic: the upgrade gate on two builds, ten pairs of
run blocks with 50 answers of 1,000 deltas in each arm. It is judged by a pytest of its own, as
``--rllm-replay`` does it.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pytest_rllm.datasets.prompts import Prompt
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, closed
from pytest_rllm.metrics import METRICS, Metric
from pytest_rllm.records.header import SCHEMA, Header
from pytest_rllm.records.reader import read_run
from pytest_rllm.records.run import Run
from pytest_rllm.records.sse import parse
from pytest_rllm.session.comparison import compare
from pytest_rllm.session.sources import Place
from pytest_rllm.session.upgrade import Builds

BLOCKS, ANSWERS, DELTAS = 10, 50, 1_000
THOUGHT = 700
"""Deltas of an answer before the first visible one."""
GOAL_S, GOAL_MIB = 10.0, 500.0
NEW, OLD = "mock 2", "mock 1"
HARDWARE = "cpu-synthetic-2c"
GATE = """
from pytest_rllm import *

METRICS = (
    ACCURACY, TRUNCATED, UNPARSED, EMPTY, OUTPUT_TOKENS, REASONING_TOKENS,
    TTFT, TTFVT, TBT, TPS, DELTAS_PER_S, E2E, RUN_TIME, STRAGGLING, KV_PEAK, PREEMPTIONS,
)
IDS = [f"q{{i}}" for i in range({questions})]
QUESTIONS = [Prompt(i, i + "?", "7", "easy", "math", i) for i in IDS]

@upgrade("Nothing is worse.")
def test_gate(compare_builds, workload):
    compare_builds(
        Serving(), prompts=QUESTIONS, workload=workload.closed(8), sampling=Sampling(2_000),
        blocks=({half}, {blocks}),
    ).shows(*(no_worse(m, within=pp(5) if m.unit == "share" else pct(5)) for m in METRICS))
"""

AND_PEAK = """
import sys, pytest
pytest.main(sys.argv[1:])
print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1])
"""
"""A pytest that says last how much memory it had at most, in KiB: its own, since it was started."""
pytestmark = pytest.mark.benchmark(timer=time.process_time)


class Written:
    """A source whose runs are made up and written down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.random = random.Random(7)  # noqa: S311 - no secret

    def prepare(self, arms: Any, **_: Any) -> None:
        """Nothing to start."""

    def has(self, path: Path) -> bool:  # noqa: ARG002
        return True

    def run(self, arm: Arm, path: Path, header: Header, place: Place) -> Run:  # noqa: ARG002
        header = replace(
            header,
            server=1,
            signature=(-0.5,),
            match={"hardware": HARDWARE, "engine": "mock", "engine_version": "1", "models": "x"},
        )
        samples = [self.sample(prompt) for prompt in arm.prompts]
        end_s = max(sample["ended_s"] for sample in samples)
        closing = {
            "planned": len(samples),
            "wall_s": end_s,
            "loop_lag_share": 0.001,
            "monitor_error": None,
            "telemetry_errors": {},
            "delta_fields": ["content", "reasoning", "role"],
        }
        points = [
            {"at_s": end_s * (i / 200), "values": {"kv_use": i % 50 / 100, "preemptions": 0}}
            for i in range(201)
        ]
        lines = [
            {"kind": "run", "schema": SCHEMA, **header.to_json()},
            *({"kind": "point", **point} for point in points),
            *({"kind": "sample", **sample} for sample in samples),
            {"kind": "end", "samples": len(samples), **closing},
        ]
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        with open(self.folder / path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        return Run(header)

    def sample(self, prompt: Prompt) -> dict[str, Any]:
        """An answer of ``DELTAS`` deltas, some of two tokens, as it stands in a record."""
        at_s, deltas = 0.2, []
        for i in range(DELTAS):
            at_s += self.random.uniform(0.01, 0.02)
            text = r"\boxed{7}" if i == DELTAS - 1 else f" word{i % 97}"
            field = "reasoning" if i < THOUGHT else "content"
            deltas.append([round(at_s, 6), field, 1 + (i % 10 == 0), text])
        return {
            "prompt": list(asdict(prompt).values()),
            "intended_s": 0.0,
            "sent_s": 0.0,
            "ended_s": round(at_s, 6),
            "finish_reason": "stop",
            "error": None,
            "usage": {"completion_tokens": DELTAS + DELTAS // 10},
            "deltas": deltas,
        }


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a gate and a recorded session of it in ``records``."""
    folder = tmp_path_factory.mktemp("session")
    questions = BLOCKS * ANSWERS
    (folder / "test_gate.py").write_text(
        GATE.format(questions=questions, half=BLOCKS // 2, blocks=BLOCKS)
    )
    machine = folder / "baselines" / HARDWARE / "mock" / "machine.json"
    machine.parent.mkdir(parents=True)
    spreads = {metric.name: 0.001 for metric in METRICS.values() if metric.timed}
    machine.write_text(json.dumps({"server_spread": spreads, "sittings": 9}))
    Builds(NEW, OLD).write(folder / "records")
    ids = [f"q{i}" for i in range(questions)]
    asked = [Prompt(i, i + "?", "7", "easy", "math", i) for i in ids]
    new, old = (Arm(Serving(), asked, closed(8), Sampling(2_000), build) for build in (NEW, OLD))
    made = compare(
        Written(folder / "records"),
        new,
        old,
        blocks=(BLOCKS // 2, BLOCKS),
        where=Path("gate") / "tiny" / "0",
        header=Header(finding="gate", case="tiny", pair="tiny"),
    )
    for block in range(BLOCKS):
        made.pair(block)
    return folder


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.benchmark(timer=cpu_of_children)
def test_a_million_deltas_are_judged_again(benchmark: Any, session: Path) -> None:
    """Read, judge and report, with the start of Python and pytest."""
    arguments = ["-p", "no:cacheprovider", "--rllm-model=tiny", "--rllm-report=json:report.json"]
    command = [sys.executable, "-c", AND_PEAK, *arguments, "--rllm-replay=records", "test_gate.py"]
    env = os.environ | {"PYTHONPYCACHEPREFIX": str(session / "bytecode")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    peaks = []

    def replay() -> None:
        done = subprocess.run(command, cwd=session, env=env, capture_output=True, text=True)
        assert f"{OLD} -> {NEW}: SAFE" in done.stdout, done.stdout + done.stderr
        peaks.append(int(done.stdout.split()[-1]) / 1024)

    benchmark.pedantic(replay, rounds=5, warmup_rounds=1)
    benchmark.extra_info["peak_mib"] = round(max(peaks))
    assert benchmark.stats.stats.median <= GOAL_S
    assert max(peaks) <= GOAL_MIB


def test_a_million_deltas_are_read(benchmark: Any, session: Path) -> None:
    records = sorted((session / "records").rglob("*.jsonl"))

    def read() -> int:
        return sum(len(sample.deltas) for path in records for sample in read_run(path).samples)

    assert benchmark.pedantic(read, rounds=3) == 2 * BLOCKS * ANSWERS * DELTAS


@pytest.mark.parametrize("size", [None, 1460], ids=["an event each", "1,460 bytes each"])
def test_ten_thousand_deltas_are_parsed(benchmark: Any, size: int | None) -> None:
    """As vLLM writes them with running usage, by reads of one event or of a packet's size."""
    events = [
        b"data: %b\n\n"
        % json.dumps(
            {
                "id": "chatcmpl-8d2f5f3c9c5a4c0c",
                "object": "chat.completion.chunk",
                "created": 1_760_000_000,
                "model": "m",
                "choices": [
                    {
                        "index": 0,
                        "delta": {"content": f" word{i % 97}"},
                        "logprobs": None,
                        "finish_reason": None if i < 9_999 else "stop",
                        "token_ids": None,
                    }
                ],
                "usage": {"prompt_tokens": 52, "total_tokens": 53 + i, "completion_tokens": 1 + i},
            },
            separators=(",", ":"),
        ).encode()
        for i in range(10_000)
    ]
    reads = events
    if size is not None:
        whole = b"".join(events)
        reads = [whole[i : i + size] for i in range(0, len(whole), size)]
    chunks = [(i / 100, read) for i, read in enumerate(reads)]
    stream = benchmark.pedantic(parse, (chunks,), rounds=10)
    assert (len(stream.deltas), stream.error) == (10_000, None)


@pytest.mark.parametrize("metric", METRICS.values(), ids=str)
def test_a_metric_of_fifty_thousand_deltas(benchmark: Any, session: Path, metric: Metric) -> None:
    """Of a run that was just read: nothing is known of its samples yet."""
    path = session / "records" / "gate" / "tiny" / "0" / "00-A.jsonl"
    of: Callable[..., Any] = metric.of
    if metric.name in ("prefix hits", "acceptance rate", "acceptance length"):
        pytest.skip("takes two readings of a counter")
    runs = 2 if metric.per == "pair" else 1
    benchmark.pedantic(of, setup=lambda: ([read_run(path)] * runs, {}), rounds=10)
