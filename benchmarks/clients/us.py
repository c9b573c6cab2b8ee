"""pytest-rllm's own client, ``loadgen.drive``, in one process."""

from __future__ import annotations

import sys
from pathlib import Path

from pytest_rllm.datasets.prompts import Prompt
from pytest_rllm.experiment.workloads import closed
from pytest_rllm.loadgen.client import Request
from pytest_rllm.loadgen.run import drive
from pytest_rllm.metrics import TBT, TPS, TTFT, MetricUnavailable
from pytest_rllm.records.header import Header
from pytest_rllm.records.reader import read_run
from pytest_rllm.records.run import Run
from pytest_rllm.records.writer import RunWriter

from .arrivals import Recorded, of_text
from .carriers import Carrier
from .loads import PROMPT, Load


class Us(Carrier):
    name = "us"
    title = "pytest-rllm"
    keeps = "the time and the text of every delta"

    def command(self, url: str, load: Load, folder: Path) -> list[str]:
        module = "benchmarks.clients.us"
        return [sys.executable, "-m", module, url, load.as_json(), str(folder / "run.jsonl")]

    def read(self, load: Load, folder: Path) -> Recorded:
        run = read_run(folder / "run.jsonl")
        assert run.closing is not None
        start = run.closing["start_clock_s"]
        well = [sample for sample in run.samples if sample.error is None]
        streams = []
        if load.timed:
            for sample in well:
                deltas = sample.deltas
                visible = int(deltas.within("content").argmax())
                sent = start + sample.sent_s
                streams.append(of_text(sent, deltas.text(), start + deltas.at_s, visible))
        return Recorded(streams, len(run.samples) - len(well), _told(run))


def _told(run: Run) -> dict[str, float]:
    told = {}
    for name, metric in (("tps", TPS), ("ttft_s", TTFT), ("tbt_s", TBT)):
        try:
            told[name] = metric.of_run(run)
        except MetricUnavailable:
            continue
    return told


def main(url: str, load: Load, path: Path) -> None:
    prompt = Prompt("1", PROMPT, "", "easy", "math", "1")
    with RunWriter(path, Header()) as writer:
        requests = [Request(prompt, load.body)] * load.requests
        drive(url, requests, closed(load.streams), writer)


if __name__ == "__main__":
    main(sys.argv[1], Load.of_json(sys.argv[2]), Path(sys.argv[3]))
