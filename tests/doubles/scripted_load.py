"""Requests that the tests send to a scripted server, with the real client and a real record."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from doubles.scripted_server import AnswerScript, ScriptedServer
from pytest_rllm.datasets.prompts import Prompt
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, Workload
from pytest_rllm.loadgen.client import Request
from pytest_rllm.loadgen.run import drive
from pytest_rllm.records.header import Header
from pytest_rllm.records.run import Run, Sample
from pytest_rllm.records.writer import RunWriter
from pytest_rllm.telemetry.prometheus import Page

HEADER = Header(arm="A", serving=Serving(), sampling=Sampling(64))
STALL_S = 2.0
NAMES = [f"question {i}" for i in range(12)]
LONG = AnswerScript(reasoning=60, answer=40, gap_s=0.01, seed=3)


def requests(names: Sequence[str]) -> list[Request]:
    return [
        Request(
            Prompt(name, name, "7", "easy", "math", name),
            {"messages": [{"role": "user", "content": name}], "stream": True},
        )
        for name in names
    ]


def run(
    url: str,
    names: Sequence[str],
    workload: Workload,
    path: Path,
    cut: Mapping[str, int] = MappingProxyType({}),
    **more: object,
) -> Run:
    """Send one request per name; ``cut`` maps a name to the chunks after which it is aborted."""
    asked = [replace(r, cut_after=cut.get(r.prompt.id)) for r in requests(names)]
    with RunWriter(path, HEADER) as writer:
        return drive(url, asked, workload, writer, stall_s=STALL_S, **more)


def by_name(run: Run) -> dict[str, Sample]:
    return {sample.prompt.id: sample for sample in run.samples}


def noticed(server: ScriptedServer, names: Collection[str]) -> bool:
    """Whether the server sees within 10 s that exactly these requests were aborted."""
    until = time.monotonic() + 10
    while len(server.hung_up) < len(names) and time.monotonic() < until:
        time.sleep(0.01)
    return sorted(server.hung_up) == sorted(names)


def with_cuts(server: ScriptedServer, cut_after: int) -> tuple[list[str], dict[str, int]]:
    """Names of which every third is aborted after ``cut_after`` chunks, and those that are."""
    names = [f"cut {name}" if i % 3 == 1 else name for i, name in enumerate(NAMES)]
    cut = {name: cut_after for name in names if name.startswith("cut")}
    server.answers |= dict.fromkeys(cut, LONG)
    return names, cut


def tokens(page: str) -> Page:
    return Page({"tokens": float(page.split()[1])})
