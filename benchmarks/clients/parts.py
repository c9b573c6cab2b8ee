"""The parts of the comparison. Each goes through all clients, turn by turn, on the same loads."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psutil

from pytest_rllm.engines.http import ask
from pytest_rllm.engines.pool import Pool
from pytest_rllm.engines.server import Started
from pytest_rllm.engines.vllm import VllmEngine
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.loadgen.reference_server import Script
from pytest_rllm.models import pair_named

from .arrivals import Recorded, all_errors, by_stage, of_metrics, sending
from .bench import Bench
from .loads import Load, begin_s, ladder, steady
from .processes import cpu_s, tree

ALLOWED_S = 1e-3
"""The p99 error up to which a client carries a rate."""
GROWTH = 2**0.5
LIGHT = ("us", "bare")
"""Clients that a ladder up to the topmost rate is tried with at once."""
LOWEST, HIGHER, TOPMOST = 1000.0, 32_000.0, 90_000.0
"""Rates at which ladders begin and end, deltas per second; HIGHER is where the first ends that the
other clients climb, and the second begins."""
STEPS = (500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16_000.0)
"""Rates for a client that does not keep the time of every delta: one run for each."""
ENGINE_STREAMS = 4


def rate(bench: Bench) -> None:
    """How many deltas per second before the p99 error passes 1 ms, per number of streams."""
    for repeat in range(bench.repeats):
        for streams in bench.streams:
            for carrier in bench.carriers:
                if carrier.stages:
                    _climb(bench, carrier, streams, repeat)
                else:
                    _step(bench, carrier, streams, repeat)


def _climb(bench: Bench, carrier: Any, streams: int, repeat: int) -> None:
    """Ladders of rates within a run; a second one goes on where all of the first was carried."""
    lowest, top = LOWEST, TOPMOST if carrier.name in LIGHT else HIGHER
    while lowest < TOPMOST:
        stages, due = 0, lowest
        while due < top * bench.volume:
            due, stages = due * GROWTH, stages + 1
        load = ladder(streams, lowest, max(1, stages), 1.5, GROWTH)
        item = bench.carry(
            "rate",
            carrier,
            f"{streams} streams from {lowest:.0f}/s",
            repeat,
            load,
            lambda recorded, load: {"stages": by_stage(recorded, load)},
        )
        if not item or not item["stages"] or bench.volume < 1:
            return
        if all(not stage.get("p99_s", 1) <= ALLOWED_S for stage in item["stages"][-2:]):
            return
        lowest, top = item["stages"][-1]["due"] * GROWTH, TOPMOST


def _step(bench: Bench, carrier: Any, streams: int, repeat: int) -> None:
    rounds = max(1, round(128 * bench.volume / streams))
    for due in STEPS:
        load = steady(streams, due, 2.0, rounds)

        def figures(recorded: Recorded, _load: Load, due: float = due) -> dict[str, Any]:
            return {"stages": [{"due": due} | all_errors(recorded)]}

        case = f"{streams} streams from {due:.0f}/s"
        item = bench.carry("rate", carrier, case, repeat, load, figures)
        if not item or item["stages"][0]["p99_s"] > 3 * ALLOWED_S or bench.volume < 1:
            return


def times(bench: Bench) -> None:
    """Errors of what metrics are made of, at 256 streams of 10 deltas per second each."""
    streams = 256 if bench.volume == 1 else 16
    answer, first_s = round(40 * bench.volume), begin_s(streams)
    fixed = Script(answer=answer, gap_s=0.1, first_s=first_s)
    scripts = {
        "fixed gaps": fixed,
        "random gaps": replace(fixed, gaps="exponential"),
        "bursts": replace(fixed, gap_s=0.2, events=2, tokens=4),
        "slow first token": replace(fixed, first_s=first_s + 5),
        "reasoning, then answer": replace(
            fixed, reasoning=answer // 2, answer=answer // 2, think_s=0.5
        ),
    }
    for repeat in range(max(1, bench.repeats - 1)):
        for case, script in scripts.items():
            load = Load(streams, script, streams)
            for carrier in bench.carriers:
                bench.carry("times", carrier, case, repeat, load, _errors)


def _errors(recorded: Recorded, load: Load) -> dict[str, Any]:
    return {
        "errors": of_metrics(recorded),
        "sending": sending(recorded, load),
        "all": all_errors(recorded),
    }


def cost(bench: Bench) -> None:
    """CPU time and memory: a run of many tokens less one of hardly any."""
    streams = 256 if bench.volume == 1 else 16
    idle = Load(streams, Script(answer=2, first_s=begin_s(streams)), streams)
    full = steady(streams, 2000.0, 30.0 * bench.volume)
    million = steady(streams, 20_000.0, 50.0 * bench.volume)
    for repeat in range(max(1, bench.repeats - 1)):
        for carrier in bench.carriers:
            cases = {"start and end": idle, "2000/s": full}
            if carrier.name in LIGHT and repeat == 0:
                cases["a million at 20000/s"] = million
            for case, load in cases.items():
                bench.carry(
                    "cost",
                    carrier,
                    case,
                    repeat,
                    load,
                    lambda recorded, load: {"tokens": load.tokens, "all": all_errors(recorded)},
                    memory=True,
                )


def engine(bench: Bench) -> None:
    """A real vLLM under the same load by each client, with two cores and with one."""
    answer = round(128 * bench.volume)
    load = Load(ENGINE_STREAMS, Script(answer=answer), round(48 * bench.volume), timed=False)
    carriers = [carrier for carrier in bench.carriers if carrier.name != "bare"]
    settings: dict[str, set[int] | None] = {
        "cores of their own": None,
        "one core for both": {bench.server_cpu},
    }
    if all(
        bench.results.has(part="engine", client=carrier.name, case=case, repeat=repeat)
        for carrier in carriers
        for case in settings
        for repeat in range(bench.repeats)
    ):
        return
    with Pool(bench.folder / "engine") as pool:
        server = pool.serve(VllmEngine(), Serving(), pair_named("tiny"))
        assert isinstance(server, Started)
        for case, cpus in settings.items():
            _pin(tree(server.process.pid), cpus)
            for carrier in carriers:  # warm-up, thrown away
                bench.process(carrier, server.url, load, _nothing, cpus=cpus)
                break
            for repeat in range(bench.repeats):
                for carrier in carriers[:: 1 if repeat % 2 == 0 else -1]:
                    names = {"part": "engine", "client": carrier.name, "case": case}
                    if bench.results.has(**names, repeat=repeat):
                        continue
                    before = _counters(server)
                    item = bench.process(carrier, server.url, load, _nothing, cpus=cpus)
                    told = _served(before, _counters(server))
                    bench.results.add({**names, "repeat": repeat, **item, "server": told})


def _nothing(_recorded: Recorded, _load: Load) -> dict[str, Any]:
    return {}


def _pin(processes: list[psutil.Process], cpus: set[int] | None) -> None:
    every = list(range(psutil.cpu_count() or 1))
    for process in processes:
        for thread in process.threads():
            psutil.Process(thread.id).cpu_affinity(sorted(cpus) if cpus else every)


SUMS = {
    "tokens": "vllm:generation_tokens_total",
    "gaps_s": "vllm:inter_token_latency_seconds_sum",
    "gaps": "vllm:inter_token_latency_seconds_count",
    "first_s": "vllm:time_to_first_token_seconds_sum",
    "firsts": "vllm:time_to_first_token_seconds_count",
    "e2e_s": "vllm:e2e_request_latency_seconds_sum",
}


def _counters(server: Started) -> dict[str, float]:
    page = ask(f"{server.url}/metrics").decode()
    found = {}
    for name, theirs in SUMS.items():
        values = re.findall(rf"^{re.escape(theirs)}(?:{{.*}})? (\S+)", page, re.MULTILINE)
        if not values:
            raise LookupError(f"/metrics of this vLLM has no {theirs}")
        found[name] = sum(map(float, values))
    return found | {"cpu_s": cpu_s(tree(server.process.pid))}


def _served(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """What the engine did meanwhile, by its own counters."""
    by = {name: after[name] - before[name] for name in after}
    return {
        "tokens": by["tokens"],
        "cpu_s": by["cpu_s"],
        "tbt_s": by["gaps_s"] / max(1.0, by["gaps"]),
        "ttft_s": by["first_s"] / max(1.0, by["firsts"]),
        "tps": ENGINE_STREAMS * by["tokens"] / by["e2e_s"] if by["e2e_s"] else 0.0,
    }


PARTS: dict[str, Callable[[Bench], None]] = {
    "rate": rate,
    "times": times,
    "cost": cost,
    "engine": engine,
}
