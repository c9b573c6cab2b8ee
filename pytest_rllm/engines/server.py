"""A server that runs: how to reach it, to ask it, to see that it is well, and to end it."""

from __future__ import annotations

import contextlib
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from ..datasets.prompts import Prompt
from ..experiment.serving import Serving
from ..experiment.workloads import Sampling
from ..models import ModelPair
from ..models.fit import misfit
from .base import Endpoint
from .http import NO_ANSWER, Refused, ask
from .last_words import first_error
from .placement import Placement

LAST_LINES = 30
GATEWAY = (502, 503, 504)
"""Statuses of a gateway whose server does not answer."""

Key = tuple[str, str, str, int]
"""Engine with its build, pair, serving, and which copy of such a server: one server each."""


@dataclass
class Server(ABC):
    """One running server and how to reach it and ask it.

    A server of one checkpoint with two modes is both roles of its pair: there is an object for each
    of them, which asks in its role's way, and both stand for the one process.

    Attributes:
        engine: what serves.
        serving, pair: what it serves, how, and in which role.
        url: base of its API, without ``/v1``.
        number: counts the servers of a pool, from 1.
        started_in_s: seconds until it was healthy.
        copy: which of several servers of one kind, from 0.
        placement: on which GPUs it is, and what it may take of them; None of one on a CPU, and of
            one that is not ours.
    """

    engine: Endpoint
    serving: Serving
    pair: ModelPair
    url: str
    number: int
    started_in_s: float = field(default=0.0, kw_only=True)
    copy: int = field(default=0, kw_only=True)
    placement: Placement | None = field(default=None, kw_only=True)

    @property
    def key(self) -> Key:
        """What it is found by in a pool."""
        return key_of(self.engine, self.serving, self.pair, self.copy)

    def body(
        self, prompt: Prompt, sampling: Sampling, priority: int | None = None
    ) -> dict[str, Any]:
        """JSON body of a streamed chat completion that asks ``prompt``, with the role's fields.

        It leaves nothing to the model's own generation configuration, which would sample the two
        roles of a pair differently, unless the pair says so.

        Args:
            prompt, sampling: what is asked, and how the answer is sampled.
            priority: of which the lowest is served first; None where the server has its own order.

        Raises:
            ValueError: the pair sets a field that the engine's adapter sets itself.
        """
        body = self.engine.body(prompt, sampling)
        if priority is not None:
            body = self.engine.prioritised(body, priority)
        return {**self.engine.neutral, **self.pair.asks(body, self.serving.model)}

    def sampled_by(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """What its answers are sampled by: what requests say of themselves, else its defaults.

        Args:
            defaults: value per parameter, as the engine resolves it for a request that says none.
        """
        said = {**self.engine.neutral, **self.pair.asks({}, self.serving.model)}
        return {name: said.get(name, value) for name, value in defaults.items()}

    def greedy_body(
        self, text: str, tokens: int, *, log_probabilities: bool = False
    ) -> dict[str, Any]:
        """JSON body of a probe, see ``Endpoint.greedy_body``, with the role's fields.

        Raises:
            ValueError: the pair sets a field that the engine's adapter sets itself.
        """
        body = self.engine.greedy_body(text, tokens, log_probabilities=log_probabilities)
        return self.pair.asks(body, self.serving.model)

    @property
    @abstractmethod
    def alive(self) -> bool: ...

    @property
    def status(self) -> int | None:
        """Exit status; None while it runs, and of a server that is not ours."""
        return None

    def answers(self, path: str) -> bool:
        """Whether it is alive and says so at ``path``."""
        return self.alive and _healthy(self.url + path)

    @abstractmethod
    def last_words(self) -> str:
        """What is known of its end, for messages."""

    @abstractmethod
    def stop(self) -> None:
        """End the server and every process of it; returns when they are gone."""


@dataclass
class Started(Server):
    """A server that the pool started."""

    command: list[str]
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def status(self) -> int | None:
        return self.process.poll()

    @property
    def port(self) -> int:
        """Where it was told to listen."""
        return int(self.url.rpartition(":")[2])

    def log_lines(self, last_bytes: int | None = None) -> list[str]:
        """Lines of the log, those in its last bytes or all."""
        with open(self.log, "rb") as log:
            if last_bytes is not None:
                log.seek(max(0, self.log.stat().st_size - last_bytes))
            return log.read().decode(errors="replace").splitlines()

    def last_words(self) -> str:
        """The command, the last lines of the log, and its first error where that is farther up."""
        lines = self.log_lines()
        early = [i for i in first_error(lines) if i < len(lines) - LAST_LINES]
        memory = "" if self.placement is None else f"  memory: {self.placement}\n"
        told = f"  command: {' '.join(self.command)}\n{memory}  log: {self.log}, "
        if early:
            told += f"first error, in line {early[0] + 1} of {len(lines)}:\n"
            told += "".join(f"  | {lines[i]}\n" for i in early) + "  "
        shown = "\n".join(f"  | {line}" for line in lines[-LAST_LINES:]) or "  | (it said nothing)"
        return f"{told}last lines:\n{shown}"

    def stop(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()  # tells the supervisor to end all
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            self.process.kill()
            self.process.wait()


@dataclass
class Attached(Server):
    """A server that somebody else started, and that stays up."""

    @property
    def alive(self) -> bool:
        return _healthy(self.url + "/v1/models", lenient=self.engine.named)

    def answers(self, path: str) -> bool:
        return self.alive and _healthy(self.url + path, lenient=self.engine.named)

    def last_words(self) -> str:
        return f"  the server at {self.url} is not ours: look for its log where it was started"

    def stop(self) -> None:
        """Leaves it as it is."""


def key_of(engine: Endpoint, serving: Serving, pair: ModelPair, copy: int = 0) -> Key:
    """Equal for what one server can serve."""
    return engine.key, pair.name, served_as(serving, pair).key, copy


def served_as(serving: Serving, pair: ModelPair) -> Serving:
    """How the server is started that serves so: one checkpoint with two modes is served as the
    reasoning model, whichever role is asked."""
    return replace(serving, model="reasoning") if pair.two_modes else serving


def refusal(
    engine: Endpoint, serving: Serving, pair: ModelPair, sampling: Sampling | None = None
) -> str | None:
    """Why an engine cannot serve a pair, or be asked, in that way; None when it can.

    As ``Endpoint.cannot``, with what the pair has: a quantised checkpoint is no quantisation that
    the engine does, and one whose weights were rounded is like any other.
    """
    drafted = {"draft": pair.draft, "eagle": pair.eagle}
    if engine.url is None and drafted.get(serving.speculative or "", "") is None:
        what = "draft model" if serving.speculative == "draft" else "EAGLE head"
        return f"the model pair {pair.name!r} has no {what}"
    if engine.url is None:
        model = served_as(serving, pair).model
        if why := misfit(pair, model, serving.quantization, serving.speculative):
            return why
    if engine.url is not None or serving.quantization is None:
        return engine.cannot(serving, sampling)
    if why := pair.why_not(serving.quantization, serving.model):
        return why
    if not pair.quantizes(serving.quantization):
        return engine.cannot(serving, sampling)
    given = serving.quantization in pair.quantized
    if given and not engine.capabilities.checkpoints:
        return (
            f"the engine {engine.name!r} cannot serve the checkpoint with {serving.quantization} "
            f"weights of the pair {pair.name!r}"
        )
    return engine.cannot(replace(serving, quantization=None), sampling)


def _healthy(url: str, *, lenient: bool = False) -> bool:
    """Whether a page answers; ``lenient``: a server without that page is well, too."""
    try:
        ask(url, timeout_s=5)
        return True
    except Refused as error:
        return lenient and error.advice is None and error.code not in GATEWAY
    except NO_ANSWER:
        return False
