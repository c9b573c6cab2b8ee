"""GuideLLM. It keeps the first and the last event of an answer, and the first of its visible part.

Its times are those of the wall clock. They are moved to the monotonic clock by the difference of
the two, read at the end of the run; how far that difference went meanwhile is noted.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from pytest_rllm.loadgen.reference_server import truth

from .arrivals import Recorded, Stream
from .carriers import TOKENIZER, Carrier, installed
from .loads import MODEL, Load


class GuideLLM(Carrier):
    name = "guidellm"
    title = "GuideLLM"
    keeps = "first and last event of an answer, and the first of its visible part"
    requirements = ("torch==2.13.0+cpu", "guidellm==0.8.1")
    stages = False

    @property
    def version(self) -> str:
        return installed(self.python, "guidellm")

    def command(self, url: str, load: Load, folder: Path) -> list[str]:
        (folder / "clocks").write_text(repr(wall_less_monotonic()))
        options = {
            "--tokenizer": f"kind=hf_auto,model={TOKENIZER}",
            "--backend": f"kind=openai_http,target={url},model={MODEL},"
            "request_format=/v1/chat/completions",
            "--profile": f"kind=concurrent,streams={load.streams}",
            "--constraint": f"kind=max_requests,count={load.requests}",
            "--data": f"kind=synthetic_text,prompt_tokens=16,output_tokens={load.tokens_each}",
            "--output": f"kind=json,path={folder / 'benchmarks.json'}",
        }
        pairs = [text for pair in options.items() for text in pair]
        program = str(self.environment / "bin" / "guidellm")
        return [program, "run", "--disable-console-interactive", *pairs]

    def read(self, load: Load, folder: Path) -> Recorded:
        offset = wall_less_monotonic()
        drift = offset - float((folder / "clocks").read_text())
        (benchmark,) = json.loads((folder / "benchmarks.json").read_text())["benchmarks"]
        metrics, requests = benchmark["metrics"], benchmark["requests"]
        told = {
            "tps": metrics["output_tokens_per_second"]["successful"]["mean"],
            "ttft_s": metrics["time_to_first_token_ms"]["successful"]["median"] / 1e3,
            "tbt_s": metrics["inter_token_latency_ms"]["successful"]["median"] / 1e3,
        }
        streams = [_stream(one, offset) for one in requests["successful"] if load.timed]
        failed = len(requests["errored"] or ()) + len(requests["incomplete"] or ())
        return Recorded(streams, failed, told, {"wall clock moved, s": drift})


def _stream(one: dict, offset: float) -> Stream:  # type: ignore[type-arg]
    """One request of its file; unknown arrivals are NaN."""
    times = one["info"]["timings"]
    reasoning = truth(one["reasoning_output"] or "")
    truths = np.array([*reasoning, *truth(one["output"] or "")])
    arrivals = np.full(len(truths), np.nan)
    arrivals[0] = times["first_token_iteration"] - offset
    arrivals[-1] = times["last_token_iteration"] - offset
    visible = len(reasoning)
    if times["first_output_token_iteration"] is not None:
        arrivals[visible] = times["first_output_token_iteration"] - offset
    return Stream(times["request_start"] - offset, arrivals, truths, visible)


def wall_less_monotonic() -> float:
    """By how much the wall clock is ahead of the monotonic one, s: the tightest of 100 readings."""
    readings = []
    for _ in range(100):
        before, wall, after = time.monotonic(), time.time(), time.monotonic()
        readings.append((after - before, wall - (before + after) / 2))
    return min(readings)[1]
