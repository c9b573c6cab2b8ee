"""Does telemetry (/metrics, host, GPU) disturb a run? Paired blocks with and without, on real vLLM.

    python benchmarks/bench_telemetry.py

Prints the effect of telemetry on TPS and TBT with its 95 % interval, and the client's CPU time.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tabulate import tabulate

from pytest_rllm.datasets.prompts import choose
from pytest_rllm.engines import engine_named
from pytest_rllm.engines.pool import Pool
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, closed
from pytest_rllm.loadgen.client import Request
from pytest_rllm.loadgen.pages import Scrape
from pytest_rllm.loadgen.run import drive
from pytest_rllm.metrics import TBT, TPS
from pytest_rllm.models import pair_named
from pytest_rllm.records.header import Header
from pytest_rllm.records.run import Run
from pytest_rllm.records.writer import RunWriter
from pytest_rllm.telemetry.gpu import Gpu
from pytest_rllm.telemetry.host import Host
from pytest_rllm.verdicts.means import mean


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny", help="model pair (default: the bundled one)")
    parser.add_argument("--pairs", type=int, default=8, help="pairs of blocks, on and off")
    parser.add_argument("--requests", type=int, default=16, help="requests per block")
    parser.add_argument("--tokens", type=int, default=128, help="output tokens per request")
    parser.add_argument("--in-flight", type=int, default=8, help="requests at any time")
    parser.add_argument("--every", type=float, default=Scrape.every_s, help="seconds per reading")
    return parser.parse_args()


def measure(chosen: argparse.Namespace, folder: Path) -> list[dict[bool, Run]]:
    """Pairs of runs with telemetry (True) and without (False), in the order ABBA, on one server."""
    engine, pair, serving = engine_named("vllm"), pair_named(chosen.model), Serving()
    sampling = Sampling(chosen.tokens, fixed_length=True)
    prompts = choose(pair.tiers, "hard", n=chosen.requests)
    requests = [Request(prompt, engine.body(prompt, sampling)) for prompt in prompts]
    host, gpu = Host(), Gpu()
    with Pool(folder) as pool:
        server = pool.serve(engine, serving, pair)
        telemetry = Scrape(
            server.url + (engine.metrics_path or ""),
            lambda page: engine.read_metrics(page, serving),
            chosen.every,
        )

        def block(name: str, on: bool) -> Run:
            with RunWriter(folder / f"{name}.jsonl", Header()) as writer:
                run = drive(
                    server.url,
                    requests,
                    closed(chosen.in_flight),
                    writer,
                    scrape=telemetry if on else None,
                    monitor=(lambda: host.read() | gpu.read()) if on else None,
                )
            failed = [sample.error for sample in run.samples if sample.error]
            errors = list(run.closing["telemetry_errors"]) if run.closing else []
            if failed or errors:
                raise SystemExit(f"{name}: {len(failed)} requests failed: {(failed + errors)[0]}")
            return run

        block("warm-up", True)
        return [
            {on: block(f"{i:02d}-{on}", on) for on in ((True, False) if i % 2 else (False, True))}
            for i in range(chosen.pairs)
        ]


def cpu_s(run: Run) -> float:
    assert run.closing is not None
    return float(run.closing["client_cpu_s"])


def main() -> None:
    chosen = options()
    with tempfile.TemporaryDirectory() as folder:
        pairs = measure(chosen, Path(folder))
    rows = []
    for name, unit, number in (
        ("TPS", "token/s", TPS.of_run),
        ("TBT", "s", TBT.of_run),
        ("client CPU", "s", cpu_s),
    ):
        on, off = ([number(pair[state]) for pair in pairs] for state in (True, False))
        effect = mean([100 * (a / b - 1) for a, b in zip(on, off, strict=True)])
        level = [sum(values) / len(values) for values in (off, on)]
        rows.append([name, unit, *level, effect.estimate, effect.low, effect.high])
    readings = sum(len(pair[True].series["running"][0]) for pair in pairs) / len(pairs)
    print(
        f"{len(pairs)} pairs of {chosen.requests} requests x {chosen.tokens} tokens, "
        f"{closed(chosen.in_flight)}; {readings:.0f} readings per run with telemetry"
    )
    headers = ["", "unit", "off", "on", "effect, %", "95 % from", "to"]
    print(tabulate(rows, headers, floatfmt=("", "", ".4g", ".4g", "+.2f", "+.2f", "+.2f")))


if __name__ == "__main__":
    main()
