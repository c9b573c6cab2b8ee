"""Running servers: one per distinct serving, started when first asked for, all ended at the end."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from ..models import ModelPair
from ..serving import Serving
from .base import Engine, EngineError

NEEDED_BYTES = 3 * 2**30
"""Free host memory that another server may need."""
LAST_LINES = 30
_CHILD = "pytest_rllm.engines.warden"


@dataclass
class Server:
    """One running server and how to reach it."""

    serving: Serving
    pair: ModelPair
    url: str
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes]
    number: int
    started_in_s: float = 0.0

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def answers(self, path: str) -> bool:
        """Whether it is alive and says so at ``path``."""
        return self.alive and _healthy(self.url + path)

    def last_words(self) -> str:
        """The command and the last lines of the log, for messages."""
        lines = self.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        shown = "\n".join(f"  | {line}" for line in lines) or "  | (it said nothing)"
        return f"  command: {' '.join(self.command)}\n  log: {self.log}, last lines:\n{shown}"

    def stop(self) -> None:
        """End the server and every process of it; returns when they are gone."""
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
            ValueError: the engine cannot serve so.
        """
        key = (pair.name, serving.key)
        server = self.servers.pop(key, None)
        if server is None or not server.alive:
            self._make_room(beside)
            server = self._start(serving, pair)
        self.servers[key] = server  # last used comes last
        return server

    def _start(self, serving: Serving, pair: ModelPair) -> Server:
        port = free_port()
        launch = self.engine.launch(serving, pair, port)
        self.started += 1
        log = self.folder / f"{self.engine.name}-{self.started}-{serving.key}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        env = os.environ | {"PYTHONUNBUFFERED": "1"}
        for name, value in launch.env.items():
            if value is None:
                env.pop(name, None)
            else:
                env[name] = value
        begun = time.monotonic()
        with open(log, "wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", _CHILD, *launch.argv],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=env,
            )
        url = f"http://127.0.0.1:{port}"
        server = Server(serving, pair, url, list(launch.argv), log, process, self.started)
        try:
            self._wait_until_healthy(server, begun)
        except BaseException:
            server.stop()
            raise
        server.started_in_s = time.monotonic() - begun
        return server

    def _wait_until_healthy(self, server: Server, begun: float) -> None:
        while True:
            waited = time.monotonic() - begun
            if not server.alive:
                raise EngineError(
                    f"{self.engine.name} ended with status {server.process.returncode} "
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


def ask(url: str, body: dict[str, Any] | None = None, timeout_s: float = 60) -> bytes:
    """GET, or POST as JSON, from a server on this machine: never through a proxy."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310
    with _DIRECT.open(request, timeout=timeout_s) as response:
        return bytes(response.read())


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _healthy(url: str) -> bool:
    try:
        ask(url, timeout_s=5)
        return True
    except (urllib.error.URLError, OSError):
        return False
