"""What every engine can tell: how to start it, how to ask it, what its telemetry means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..datasets import Prompt
from ..models import ModelPair
from ..serving import Serving
from ..workloads import Sampling

MODEL_NAME = "under-test"
"""Name under which an engine serves the model; part of no verdict."""

GAUGES = ("kv_use", "running", "waiting", "kv_capacity_tokens")
COUNTERS = (
    "preemptions",
    "generation_tokens",
    "prompt_tokens",
    "prefix_queries",
    "prefix_hits",
    "drafts",
    "draft_tokens",
    "accepted_tokens",
)
"""Our names of series: gauges are values, counters only grow; shares of 1, requests, tokens."""


class EngineError(RuntimeError):
    """An engine could not be started, or died; the message shows its command and its last words."""


class MetricMissing(LookupError):
    """A promised metric is not on an engine's page; the message says what was there."""


@dataclass(frozen=True)
class Launch:
    """How to start a server: arguments, and what to add to the environment (None removes)."""

    argv: Sequence[str]
    env: Mapping[str, str | None] = field(default_factory=dict)


class Engine(ABC):
    """One kind of serving engine. Stateless: servers live in the pool."""

    name: ClassVar[str]
    health_path: ClassVar[str] = "/health"
    metrics_path: ClassVar[str | None] = "/metrics"

    @property
    def on_cpu(self) -> bool:
        """Whether the build that would be started serves on a CPU."""
        return False

    @abstractmethod
    def launch(self, serving: Serving, pair: ModelPair, port: int) -> Launch:
        """Flags for a serving; ValueError for what this engine cannot do."""

    @abstractmethod
    def version(self) -> str:
        """Version of the build that :meth:`launch` would start."""

    @abstractmethod
    def read_metrics(self, page: str, serving: Serving) -> dict[str, float]:
        """Our names (GAUGES, COUNTERS) from a page of the engine's.

        Raises:
            MetricMissing: one that this serving must have is not there.
        """

    def body(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        """JSON body of a streamed chat completion that asks ``prompt``."""
        return {
            "model": MODEL_NAME,
            "messages": [{"role": "user", "content": prompt.text}],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
