"""AIPerf. Its raw export holds every event with its time (``perf_counter_ns``: monotonic)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from .arrivals import Recorded, Stream, of_text
from .carriers import TOKENIZER, Carrier, installed
from .loads import MODEL, Load

NS = 1e-9


class AIPerf(Carrier):
    name = "aiperf"
    title = "AIPerf"
    keeps = "the time and the text of every event"
    requirements = ("aiperf==0.13.0",)

    @property
    def version(self) -> str:
        return installed(self.python, "aiperf")

    @property
    def env(self) -> dict[str, str]:
        # It fails on a local tokenizer when the hub is called offline.
        return {name: value for name, value in super().env.items() if name != "HF_HUB_OFFLINE"}

    def command(self, url: str, load: Load, folder: Path) -> list[str]:
        options = {
            "-m": MODEL,
            "--url": url,
            "--endpoint-type": "chat",
            "--tokenizer": TOKENIZER,
            "--concurrency": str(load.streams),
            "--request-count": str(load.requests),
            "--isl": "16",
            "--osl": str(load.tokens_each),
            "--extra-inputs": "ignore_eos:true",
            "--artifact-dir": str(folder),
            "--export-level": "raw" if load.timed else "records",
            "--ui": "none",
            "--random-seed": "7",
        }
        flags = ["--streaming", "--use-server-token-count", "--per-chunk-usage"]
        flags += ["--no-gpu-telemetry", "--no-server-metrics"]
        pairs = [text for pair in options.items() for text in pair]
        return [str(self.environment / "bin" / "aiperf"), "profile", *pairs, *flags]

    def read(self, load: Load, folder: Path) -> Recorded:
        summary = json.loads((folder / "profile_export_aiperf.json").read_text())
        told = {
            "tps": summary["output_token_throughput"]["avg"],
            "ttft_s": summary["time_to_first_token"]["p50"] / 1e3,
            "tbt_s": summary["inter_token_latency"]["p50"] / 1e3,
        }
        failed = int((summary.get("error_request_count") or {"avg": 0})["avg"])
        streams = []
        if load.timed:
            for line in (folder / "profile_export_raw.jsonl").read_text().splitlines():
                one = json.loads(line)
                if one["metadata"]["benchmark_phase"] != "profiling" or one.get("error"):
                    continue
                streams.append(_stream(one))
        return Recorded(streams, failed, told)


def _stream(one: dict[str, Any]) -> Stream:
    """One line of its raw export."""
    at: list[float] = []
    texts, fields = [], []
    for response in one["responses"]:
        for packet in response["packets"]:
            if packet["name"] != "data" or not packet["value"].startswith("{"):
                continue
            for choice in json.loads(packet["value"])["choices"]:
                for field in ("reasoning", "content"):
                    if choice["delta"].get(field):
                        at.append(response["perf_ns"] * NS)
                        texts.append(choice["delta"][field])
                        fields.append(field)
    visible = fields.index("content")
    return of_text(one["start_perf_ns"] * NS, "".join(texts), np.array(at), visible)
