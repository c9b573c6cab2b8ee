"""What every engine can tell: how to start it, how to ask it, what its telemetry means."""

from __future__ import annotations

import json
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, ClassVar

from ..datasets.prompts import Prompt
from ..experiment.serving import Serving
from ..experiment.workloads import Sampling
from ..models import ModelPair

if TYPE_CHECKING:
    from .builds import Build

MODEL_NAME = "under-test"
"""Name under which a server that we start serves the model; part of no verdict."""

NO_ANSWER = (OSError, HTTPException)
"""What :func:`ask` raises when no server answers, or not as one does over HTTP."""
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
    """One build of one kind of serving engine. Servers live in the pool.

    Args:
        build: what serves: another interpreter's engine, or a server that runs already; None is
            the engine of the running interpreter.
    """

    name: ClassVar[str]
    health_path: ClassVar[str] = "/health"
    metrics_path: ClassVar[str | None] = "/metrics"
    token_ids: ClassVar[Mapping[str, Any]] = {}
    """What a request's body adds to be told the prompt's token ids, where an engine tells them."""
    build: Build | None = None

    def __init__(self, build: Build | None = None) -> None:
        self.build = build

    @property
    def url(self) -> str | None:
        """Base of the server that runs already; None for a build that is started."""
        return self.build.url if self.build else None

    @property
    def on_cpu(self) -> bool:
        """Whether the build is known to serve on a CPU.

        A server that runs already need not say on what: where it does not, this is False, and the
        hardware that a record names is that of this machine.
        """
        return False

    @property
    def distribution(self) -> str:
        """Name of the package that the build is, as ``pip install`` takes it."""
        return self.name

    @cached_property
    def model_name(self) -> str:
        """What a request's body calls the model; a server that runs already tells its own name."""
        if self.url is None:
            return MODEL_NAME
        # A base model comes before its adapters.
        return self._told("/v1/models", lambda said: said["data"][0]["id"])

    def _told(self, path: str, pick: Callable[[Any], Any]) -> str:
        """What a server that runs already says of itself."""
        try:
            return str(pick(json.loads(ask(f"{self.url}{path}"))))
        except (*NO_ANSWER, ValueError, LookupError, TypeError) as error:
            raise EngineError(
                f"GET {self.url}{path} did not answer as {self.name} does "
                f"({type(error).__name__}: {error}); does the server still run, and is it one?"
            ) from error

    def switched_on(self, page: str) -> list[str]:  # noqa: ARG002
        """Optimisations that a server which runs already has on, as far as its page shows them."""
        return []

    @abstractmethod
    def launch(self, serving: Serving, pair: ModelPair, port: int) -> Launch:
        """Flags for a serving; ValueError for what this engine cannot do."""

    @abstractmethod
    def version(self) -> str:
        """Version of the build.

        Raises:
            EngineError: it is not there.
        """

    @abstractmethod
    def read_metrics(self, page: str, serving: Serving) -> dict[str, float]:
        """Our names (GAUGES, COUNTERS) from a page of the engine's.

        Raises:
            MetricMissing: one that this serving must have is not there.
        """

    def sampling_defaults(self, url: str, context: int) -> dict[str, Any] | None:  # noqa: ARG002
        """What a server resolves for a request that leaves every sampling parameter out.

        Args:
            url: base of the server's API.
            context: its longest sequence in tokens.

        Returns:
            Value by parameter; None when this engine does not tell.
        """
        return None

    def body(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        """JSON body of a streamed chat completion that asks ``prompt``."""
        return {
            "model": self.model_name,
            "messages": [{"role": "user", "content": prompt.text}],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


def ask(url: str, body: dict[str, Any] | None = None, timeout_s: float = 60) -> bytes:
    """GET, or POST as JSON, from a server: never through a proxy, as when it is measured.

    Raises:
        OSError, HTTPException: it does not answer, or with a status of failure.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310
    with _DIRECT.open(request, timeout=timeout_s) as response:
        return bytes(response.read())


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
