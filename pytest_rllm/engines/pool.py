"""Running servers: one per distinct serving, started when first asked for, all ended at the end."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

from ..experiment.serving import Serving
from ..models import ModelPair
from .base import NO_ANSWER, Engine, EngineError
from .base import ask as ask

NEEDED_BYTES = 3 * 2**30
"""Free host memory that another server may need."""
LAST_LINES = 30
_WARDEN = Path(__file__).with_name("supervisor.py")


@dataclass
class Server(ABC):
    """One running server and how to reach it.

    Attributes:
        serving, pair: what it serves, and how.
        url: base of its API, without ``/v1``.
        number: counts the servers of a pool, from 1.
        started_in_s: seconds until it was healthy.
    """

    serving: Serving
    pair: ModelPair
    url: str
    number: int
    started_in_s: float = field(default=0.0, kw_only=True)

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

    def last_words(self) -> str:
        """The command and the last lines of the log."""
        lines = self.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        shown = "\n".join(f"  | {line}" for line in lines) or "  | (it said nothing)"
        return f"  command: {' '.join(self.command)}\n  log: {self.log}, last lines:\n{shown}"

    def stop(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()  # the warden's sign to end all
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
        return _healthy(self.url + "/v1/models")

    def last_words(self) -> str:
        return f"  the server at {self.url} is not ours: look for its log where it was started"

    def stop(self) -> None:
        """Leaves it as it is."""


@dataclass
class Pool:
    """Servers by serving and pair; a context manager that stops them all.

    A server stays up for the whole session where memory allows; else the one that was used longest
    ago goes. Servers that answer nobody cost nothing, so both arms of a comparison are up at once.

    Attributes:
        engine: what to start.
        folder: where logs go.
        start_s: a server that is not healthy by then has failed.
        say: told what is being waited for.
    """

    engine: Engine
    folder: Path
    start_s: float = 300.0
    say: Callable[[str], None] = lambda _text: None
    servers: dict[tuple[str, str], Server] = field(default_factory=dict)
    started: int = 0

    def serve(self, serving: Serving, pair: ModelPair, *, beside: Server | None = None) -> Server:
        """The running server for a serving, started when there is none, or when it has died.

        Args:
            serving: how to serve.
            pair: the models.
            beside: a server that must stay up.

        Raises:
            EngineError: it did not come up; with its command and last words.
            ValueError: the engine cannot serve so, or a server that runs already does not.
        """
        key = (pair.name, serving.key)
        server = self.servers.pop(key, None)
        if server is None or not server.alive:
            if self.engine.url is None:
                self._make_room(beside)
                server = self._start(serving, pair)
            else:
                server = self._attach(self.engine.url, serving, pair)
        self.servers[key] = server  # last used comes last
        return server

    def _attach(self, url: str, serving: Serving, pair: ModelPair) -> Server:
        if serving != Serving():
            raise ValueError(
                f"{url} serves what it serves: it cannot be asked for '{serving}', only for "
                f"'{Serving()}'; name a version or an interpreter to have servers started"
            )
        self.started += 1
        server = Attached(serving, pair, url, self.started)
        if not server.answers(self.engine.health_path):
            raise EngineError(
                f"{self.engine.name} at {url} does not answer, or {self.engine.health_path} says "
                f"that it is not well\n{server.last_words()}"
            )
        if self.engine.metrics_path:
            page = server.url + self.engine.metrics_path
            try:
                on = self.engine.switched_on(ask(page).decode())
            except NO_ANSWER as error:
                raise EngineError(f"GET {page}, which measures are read from: {error}") from error
            if on:
                raise ValueError(
                    f"{url} serves with {' and '.join(on)}: start it without, so that builds are "
                    "compared and nothing else"
                )
        return server

    def _start(self, serving: Serving, pair: ModelPair) -> Started:
        port = free_port()
        launch = self.engine.launch(serving, pair, port)
        self.started += 1
        log = self.folder / f"{self.engine.name}-{self.started}-{serving.key}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "PYTHONUNBUFFERED": "1", **launch.env}
        begun = time.monotonic()
        with open(log, "wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-P", str(_WARDEN), *launch.argv],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={name: value for name, value in env.items() if value is not None},
            )
        url = f"http://127.0.0.1:{port}"
        server = Started(serving, pair, url, self.started, list(launch.argv), log, process)
        try:
            self._wait_until_healthy(server, begun)
        except BaseException:
            server.stop()
            raise
        server.started_in_s = time.monotonic() - begun
        return server

    def _wait_until_healthy(self, server: Started, begun: float) -> None:
        while True:
            waited = time.monotonic() - begun
            if not server.alive:
                raise EngineError(
                    f"{self.engine.name} ended with status {server.status} "
                    f"after {waited:.0f} s, before it was healthy\n{server.last_words()}"
                )
            if server.answers(self.engine.health_path):
                return
            if waited > self.start_s:
                raise EngineError(
                    f"{self.engine.name} was not healthy after {self.start_s:.0f} s\n"
                    f"{server.last_words()}"
                )
            self.say(f"starting {self.engine.name}: {server.serving} ({waited:.0f} s)")
            time.sleep(0.2)

    def _make_room(self, beside: Server | None) -> None:
        """Stop servers of other pairs, and the oldest while memory is short."""
        for key, server in list(self.servers.items()):
            short = psutil.virtual_memory().available < NEEDED_BYTES
            crowded = server.pair.gpu_memory_gib > 4 and len(self.servers) > 1
            if server is not beside and (short or crowded):
                self.servers.pop(key).stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop every server."""
        while self.servers:
            self.servers.popitem()[1].stop()


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _healthy(url: str) -> bool:
    try:
        ask(url, timeout_s=5)
        return True
    except NO_ANSWER:
        return False
