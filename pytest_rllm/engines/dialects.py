"""Servers that speak OpenAI's API, and what their documents say on top: a table each.

None of them was seen running here. What stands in a table is from the page that it names; what the
page does not say, or says of something else than our series mean, is left out. Whoever runs one of
them, runs the conformance suite against it, and takes the mark away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from ..experiment.serving import Serving
from ..telemetry.prometheus import Page, read_series
from .capabilities import Capabilities
from .openai import OpenAIEndpoint

MARK = "by its documents, not yet seen running"


@dataclass(frozen=True)
class Dialect:
    """What a server's documents say.

    Attributes:
        pages: where.
        metrics: our names of series to the server's.
        notes: what a user has to know of its streams and pages.
        reasoning: whether it streams reasoning in a field of its own without being told to.
        version: the page that tells the version, in the field ``version``; None where none does.
    """

    pages: tuple[str, ...]
    metrics: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reasoning: bool = False
    version: str | None = None


class DialectEndpoint(OpenAIEndpoint):
    """A server whose words are from documents only."""

    dialect: ClassVar[Dialect]

    def version(self) -> str:
        return super().version() if self.dialect.version is None else self._version

    @cached_property
    def label(self) -> str:
        return f"{self.name} ({MARK}) {self.version()} at {self.url}"

    @cached_property
    def _version(self) -> str:
        assert self.dialect.version
        return self.told(self.dialect.version, lambda said: said["version"])

    @property
    def declared(self) -> Capabilities:
        return Capabilities(
            series=frozenset(self.dialect.metrics), reasoning=self.dialect.reasoning
        )

    def read_metrics(self, page: str, serving: Serving) -> Page:  # noqa: ARG002
        wanted = {ours: (theirs,) for ours, theirs in self.dialect.metrics.items()}
        where = f"{self.metrics_path} of {self.name}, {MARK} ({self.dialect.pages[0]})"
        return read_series(page, wanted, where)


class Tgi(DialectEndpoint):
    """Hugging Face text-generation-inference."""

    name = "openai+tgi"
    health_path = "/health"
    metrics_path = "/metrics"
    dialect = Dialect(
        pages=("https://huggingface.co/docs/text-generation-inference/reference/metrics",),
        metrics={
            "running": "tgi_batch_current_size",
            "waiting": "tgi_queue_size",
            "generation_tokens": "tgi_request_generated_tokens_sum",
            "prompt_tokens": "tgi_request_input_length_sum",
        },
        notes=("tokens are counted when a request has ended: they do not grow while it runs",),
        version="/info",
    )


class TrtLlm(DialectEndpoint):
    """TensorRT-LLM's ``trtllm-serve``."""

    name = "openai+trtllm"
    health_path = "/health"
    metrics_path = "/prometheus/metrics"
    dialect = Dialect(
        pages=(
            "https://nvidia.github.io/TensorRT-LLM/latest/examples/prometheus_metrics.html",
            "https://nvidia.github.io/TensorRT-LLM/latest/commands/trtllm-serve.html",
            "https://github.com/NVIDIA/TensorRT-LLM/blob/main/tensorrt_llm/metrics/collector.py",
        ),
        metrics={
            "kv_use": "trtllm_kv_cache_utilization",
            "running": "trtllm_num_requests_running",
            "waiting": "trtllm_num_requests_waiting",
            "generation_tokens": "trtllm_generation_tokens_total",
            "prompt_tokens": "trtllm_prompt_tokens_total",
        },
        notes=(
            "its page /metrics is JSON of iterations, not a metrics page",
            "reasoning has a field of its own only where it was started with a parser",
        ),
        version="/version",
    )


class Dynamo(DialectEndpoint):
    """NVIDIA Dynamo's HTTP frontend."""

    name = "openai+dynamo"
    health_path = "/health"
    metrics_path = "/metrics"
    dialect = Dialect(
        pages=("https://docs.nvidia.com/dynamo/latest/observability/metrics.html",),
        metrics={
            "generation_tokens": "dynamo_frontend_output_sequence_tokens_sum",
            "prompt_tokens": "dynamo_frontend_input_sequence_tokens_sum",
        },
        notes=(
            "its gauges of requests mean something else: inflight ones hold those that wait, and "
            "queued ones those that are in prefill",
            "pages of its workers are at other ports, and are not read",
        ),
    )


class Ollama(DialectEndpoint):
    """Ollama."""

    name = "openai+ollama"
    dialect = Dialect(
        pages=(
            "https://docs.ollama.com/api/openai-compatibility",
            "https://github.com/ollama/ollama/blob/main/openai/openai.go",
        ),
        notes=(
            "it has no metrics page, and tells usage at the end of a stream only",
            "models are called NAME:TAG: say --rllm-model-name NAME:TAG",
        ),
        reasoning=True,
        version="/api/version",
    )


class LmDeploy(DialectEndpoint):
    """LMDeploy's server."""

    name = "openai+lmdeploy"
    health_path = "/health"
    metrics_path = "/metrics"
    dialect = Dialect(
        pages=(
            "https://lmdeploy.readthedocs.io/en/latest/advance/metrics.html",
            "https://github.com/InternLM/lmdeploy/blob/main/lmdeploy/metrics/loggers.py",
        ),
        metrics={
            "running": "lmdeploy:num_requests_running",
            "waiting": "lmdeploy:num_requests_waiting",
            "prompt_tokens": "lmdeploy:prompt_tokens_total",
        },
        notes=(
            "its use of the KV cache is left out: one of its backends tells that of prefixes",
            "its counter of generated tokens is left out: one release adds each step twice",
            "reasoning has a field of its own only where it was started with a parser",
        ),
    )
