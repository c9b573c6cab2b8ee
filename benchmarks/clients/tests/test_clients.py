"""The comparison of clients: are its figures the truth, whichever client recorded the times?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from benchmarks.clients import bare
from benchmarks.clients.aiperf import AIPerf
from benchmarks.clients.arrivals import (
    Recorded,
    Stream,
    all_errors,
    by_stage,
    of_chunks,
    of_metrics,
    of_text,
    sending,
)
from benchmarks.clients.bench import Bench
from benchmarks.clients.carriers import CARRIERS, Carrier, carrier
from benchmarks.clients.guidellm import GuideLLM, wall_less_monotonic
from benchmarks.clients.loads import Load, ladder, request, steady
from benchmarks.clients.page import capacity, stages, write
from benchmarks.clients.processes import ClientFailed, run
from benchmarks.clients.results import Results
from benchmarks.clients.vllm_bench import VllmBench
from pytest_rllm.loadgen.reference_server import Script, running

MS = 1e-3


def text(*times: float) -> str:
    return "".join(f"{at:015.6f} " for at in times)


def recorded(late_s: float, *, n: int = 50, gap_s: float = 0.01, visible: int = 0) -> Recorded:
    truths = 1000 + gap_s * np.arange(n)
    return Recorded([Stream(999.0, truths + late_s, truths, visible)])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench([], Results(tmp_path / "measured.jsonl"), tmp_path / "runs", 0, 0)


def test_a_constant_delay_is_in_ttft_and_in_no_gap() -> None:
    found = of_metrics(recorded(5 * MS, visible=20))
    assert found["TTFT"]["p50_s"] == pytest.approx(5 * MS)
    assert found["TTFVT"]["p99_s"] == pytest.approx(5 * MS)
    assert found["TBT"]["p99_s"] == pytest.approx(0, abs=1e-9)
    assert all_errors(recorded(5 * MS))["p99_s"] == pytest.approx(5 * MS)
    assert all_errors(recorded(5 * MS))["rate"] == pytest.approx(100, rel=0.1)
    load = Load(1, Script(first_s=0.9), 1)
    assert sending(recorded(5 * MS), load)["p50_s"] == pytest.approx(0.1)


def test_one_late_delta_is_in_two_gaps() -> None:
    run = recorded(0.0, n=11)
    run.streams[0].arrivals[5] += 3 * MS
    found = of_metrics(run)
    assert found["TBT"]["p99_s"] == pytest.approx(3 * MS, rel=0.01)
    assert found["TBT"]["p50_s"] == pytest.approx(0, abs=1e-9)
    assert found["TBT mean"]["p50_s"] == pytest.approx(0, abs=1e-9)


def test_what_a_client_does_not_keep_has_no_figure() -> None:
    run = recorded(2 * MS)
    run.streams[0].arrivals[1:-1] = np.nan
    run.streams[0].visible = None
    found = of_metrics(run)
    assert found["TBT"] == found["TTFVT"] == {}
    assert found["TBT mean"]["n"] == 1
    assert all_errors(run)["n"] == 2


def test_a_delta_arrived_with_the_read_that_completed_it() -> None:
    said = [f'{{"content":"{text(at)}"}}'.encode() for at in (1.0, 2.0, 3.0)]
    whole = b"".join(said)
    cut = len(said[0]) + 20  # within the second
    stream = of_chunks(0.5, [(1.1, whole[:cut]), (3.1, whole[cut:])])
    assert stream.truths.tolist() == [1.0, 2.0, 3.0]
    assert stream.arrivals.tolist() == [1.1, 3.1, 3.1]


def test_times_and_texts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 deltas and 3 times"):
        of_text(0.0, text(1, 2), [1, 2, 3])


def test_stages_end_where_the_first_stream_ends() -> None:
    load = ladder(2, 100.0, 3, 1.0, 2.0)
    assert load.rate == pytest.approx(100)
    times = [np.array(load.script.schedule(i)) for i in range(2)]
    late = [np.where(at - 1 < 2.0, 0.1 * MS, 5 * MS) for at in times]
    run = Recorded([Stream(0.0, at + by, at) for at, by in zip(times, late, strict=True)])
    found = by_stage(run, load)
    assert [stage["due"] for stage in found] == pytest.approx([100, 200, 400])
    assert [stage["rate"] for stage in found] == pytest.approx([100, 200, 400], rel=0.4)
    assert found[0]["p99_s"] == pytest.approx(0.1 * MS)
    assert found[2]["p99_s"] == pytest.approx(5 * MS)


@pytest.mark.parametrize("name", ["us", "bare"])
def test_a_client_in_a_process_of_its_own_is_measured(name: str, bench: Bench) -> None:
    load = steady(4, 100.0, 1.0, rounds=2)
    one = carrier(name, bench.folder)
    item = bench.carry("times", one, "a second", 0, load, lambda got, _: all_errors(got))
    assert item
    assert "failed" not in item
    assert item["requests_failed"] == 0
    assert item["n"] == load.tokens == 200
    assert 0 < item["p50_s"] < 0.1
    assert item["client_cpu_s"] > 0
    assert item["server"]["deltas"] == 200
    again = Results(bench.results.path)
    assert again.has(part="times", client=name, case="a second", repeat=0)


def test_a_known_delay_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.monotonic
    monkeypatch.setattr(bare, "time", SimpleNamespace(monotonic=lambda: real() + 0.25))
    load = Load(4, Script(answer=10, gap_s=0.005), 4)
    with running() as server:
        body = load.body | {"timing": asdict(load.script)}
        answers = bare.read_all(server.url, [request(body)] * 4, 4)
    errors = all_errors(Recorded([of_chunks(*answer) for answer in answers]))
    assert errors["n"] == 40
    assert 0.25 < errors["p50_s"] < 0.35


class Broken(Carrier):
    name, title, keeps = "bare", "broken", "nothing"

    def command(self, url: str, load: Load, folder: Path) -> list[str]:
        return [sys.executable, "-c", "raise SystemExit('no such flag: --loud')"]

    def read(self, load: Load, folder: Path) -> Recorded:
        raise AssertionError


def test_a_client_that_fails_says_how_and_is_tried_again(bench: Bench) -> None:
    load = Load(1, Script(answer=2), 1)
    broken = Broken(bench.folder)
    assert bench.carry("times", broken, "any", 0, load, lambda *_: {}) is None
    (item,) = bench.results.items
    assert "no such flag: --loud" in item["failed"]
    assert bench.carry("times", broken, "any", 0, load, lambda *_: {}) is None
    assert len(bench.results.items) == 2


def test_a_process_pays_for_its_children_and_leaves_none(tmp_path: Path) -> None:
    burn = "import time; t = time.process_time()\nwhile time.process_time() - t < 0.3: pass"
    code = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {burn!r}])\n"
        "left = subprocess.Popen(['sleep', '600']); print(left.pid, flush=True)"
    )
    log = tmp_path / "log"
    spent = run([sys.executable, "-c", code], cpus={0}, env=os.environ, log=log, memory=True)
    assert spent.cpu_s >= 0.3
    assert spent.wall_s >= 0.3
    assert spent.peak_bytes
    assert spent.peak_bytes > 1 << 20
    deadline = time.monotonic() + 10
    while psutil.pid_exists(int(log.read_text())):
        status = psutil.Process(int(log.read_text())).status()
        assert status == psutil.STATUS_ZOMBIE or time.monotonic() < deadline
        if status == psutil.STATUS_ZOMBIE:
            break


def test_a_process_that_does_not_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ClientFailed, match="did not end within"):
        run(["sleep", "600"], cpus=None, env=os.environ, log=tmp_path / "log", timeout_s=0.3)


def test_vllms_opening_event_is_no_delta(tmp_path: Path) -> None:
    result = {
        "output_throughput": 10.0,
        "median_ttft_ms": 900.0,
        "median_tpot_ms": 100.0,
        "failed": 1,
        "start_times": [10.0, 10.0],
        "ttfts": [1.0, 0.0],
        "itls": [[0.001, 0.101], []],
        "generated_texts": [text(11.0, 11.1), ""],
        "errors": ["", "refused"],
    }
    (tmp_path / "result.json").write_text(json.dumps(result))
    got = VllmBench(tmp_path).read(Load(2, Script(answer=2), 2), tmp_path)
    assert got.failed == 1
    (stream,) = got.streams
    assert stream.errors.tolist() == pytest.approx([1 * MS, 2 * MS])
    assert stream.visible is None
    assert got.told == {"tps": 10.0, "ttft_s": 0.9, "tbt_s": 0.1}


def test_guidellms_wall_clock_is_moved(tmp_path: Path) -> None:
    offset = wall_less_monotonic()
    (tmp_path / "clocks").write_text(repr(offset))
    metric = {"successful": {"mean": 10.0, "median": 900.0}}
    one = {
        "output": text(12.0, 12.5),
        "reasoning_output": text(11.0, 11.5),
        "info": {
            "timings": {
                "request_start": offset + 10.0,
                "first_token_iteration": offset + 11.002,
                "first_output_token_iteration": offset + 12.003,
                "last_token_iteration": offset + 12.504,
            }
        },
    }
    names = ("output_tokens_per_second", "time_to_first_token_ms", "inter_token_latency_ms")
    benchmark = {
        "metrics": dict.fromkeys(names, metric),
        "requests": {"successful": [one], "errored": [], "incomplete": None},
    }
    (tmp_path / "benchmarks.json").write_text(json.dumps({"benchmarks": [benchmark]}))
    load = Load(1, Script(reasoning=2, answer=2), 1)
    got = GuideLLM(tmp_path).read(load, tmp_path)
    (stream,) = got.streams
    assert stream.sent == pytest.approx(10.0, abs=1 * MS)
    known = stream.errors[~np.isnan(stream.errors)]
    assert known.tolist() == pytest.approx([2 * MS, 3 * MS, 4 * MS], abs=1 * MS)
    assert abs(got.notes["wall clock moved, s"]) < 0.1


def test_aiperfs_events_are_read_by_their_texts(tmp_path: Path) -> None:
    def event(perf_s: float, delta: dict[str, str]) -> dict[str, Any]:
        data = json.dumps({"choices": [{"delta": delta}], "usage": {"completion_tokens": 1}})
        return {"perf_ns": round(perf_s * 1e9), "packets": [{"name": "data", "value": data}]}

    lines = [
        {
            "metadata": {"benchmark_phase": "profiling"},
            "start_perf_ns": 10_000_000_000,
            "responses": [
                event(10.9, {"role": "assistant", "content": ""}),
                event(11.001, {"reasoning": text(11.0)}),
                event(12.002, {"content": text(12.0)}),
            ],
        },
        {"metadata": {"benchmark_phase": "warmup"}},
    ]
    (tmp_path / "profile_export_raw.jsonl").write_text("\n".join(map(json.dumps, lines)))
    names = ("output_token_throughput", "time_to_first_token", "inter_token_latency")
    summary = {name: {"avg": 10.0, "p50": 100.0} for name in names}
    (tmp_path / "profile_export_aiperf.json").write_text(json.dumps(summary))
    (stream,) = AIPerf(tmp_path).read(Load(1, Script(1, 1), 1), tmp_path).streams
    assert stream.errors.tolist() == pytest.approx([1 * MS, 2 * MS])
    assert stream.visible == 1
    assert stream.sent == 10.0


def stage(due: float, rate: float, p99_ms: float) -> dict[str, float]:
    return {"due": due, "rate": rate, "p99_s": p99_ms * MS}


@pytest.mark.parametrize(
    ("ladder", "most"),
    [
        ([stage(1, 1, 0.1), stage(2, 2, 0.9), stage(4, 4, 1.1), stage(8, 8, 9.0)], (2, "client")),
        ([stage(1, 1, 0.1), stage(2, 2, 5.0), stage(4, 4, 0.2), stage(8, 8, 9.0)], (4, "client")),
        ([stage(1, 1, 1.5)], (0, "client")),
        ([stage(1, 1, 0.1), stage(2, 2, 0.1)], (2, "ladder")),
        ([stage(1, 1, 0.1), stage(2, 1.5, 0.1), stage(4, 1.6, 0.1)], (1.6, "server")),
    ],
)
def test_the_highest_rate_within_the_error_is_carried(ladder: Any, most: Any) -> None:
    assert capacity(ladder) == most


def test_of_several_runs_the_least_error_counts(tmp_path: Path) -> None:
    results = Results(tmp_path / "measured.jsonl")
    for repeat, p99_ms in enumerate((3.0, 0.2)):
        item = {"part": "rate", "client": "us", "case": "x", "repeat": repeat}
        results.add(item | {"load": {"streams": 16}, "stages": [stage(100, 99, p99_ms)]})
    assert stages(results, "us", 16) == [stage(100, 99, 0.2)]


def test_the_page_says_what_was_not_measured(tmp_path: Path) -> None:
    write(Results(tmp_path / "measured.jsonl"), tmp_path / "page")
    page = (tmp_path / "page" / "README.md").read_text()
    assert page.count("Not measured.") == 4
    assert json.loads((tmp_path / "page" / "results.json").read_text())["items"] == []


def test_an_environment_that_is_there_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def made(command: list[Any], check: bool) -> None:
        commands.append([str(word) for word in command])
        (tmp_path / "aiperf").mkdir(exist_ok=True)

    monkeypatch.setattr(subprocess, "run", made)
    carrier("aiperf", tmp_path).prepare()
    assert commands[-1][-1] == "aiperf==0.13.0"
    commands.clear()
    carrier("aiperf", tmp_path).prepare()
    carrier("us", tmp_path).prepare()
    assert commands == []


def test_every_client_is_complete() -> None:
    for name in CARRIERS:
        one = carrier(name, Path("/nowhere"))
        assert one.name == name
        assert one.title
        assert one.keeps
        load = Load(2, Script(answer=4), 3)
        assert Load.of_json(load.as_json()) == load
