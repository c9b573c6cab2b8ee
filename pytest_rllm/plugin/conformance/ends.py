"""What an engine refuses, what it does while nothing is asked, and its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError

import psutil
import pytest

from ...engines.base import Endpoint, EngineError, Launcher
from ...engines.capabilities import Capabilities
from ...engines.pool import Pool
from ...engines.server import Attached, Server, Started, served_as
from ...experiment.serving import Serving
from ...experiment.workloads import Sampling
from ...models import ModelPair
from ...records.sse import parse
from .base import (
    IDLE_WITHIN_S,
    IN_FLIGHT,
    OPTIONAL,
    PROMPTS,
    TOKENS,
    Chapter,
    idle,
    long_answer,
    page_of,
    raw_answer,
    sent,
    streamed,
)

TOO_LONG = 1.25
"""So many times the context in pairs of words, of four tokens with the bundled models: that prompt
does not fit, and a server that takes it all the same is not busy for minutes."""
IDLE_USE = 0.25
"""Of one processor: more than what a server at rest needs for its timers and health."""


class Ends(Chapter):
    """Errors, refusals, rest, and how a server ends."""

    def test_what_is_not_declared_is_refused_with_a_reason(
        self, pool: Pool, adapter: Endpoint, models: ModelPair, can: Capabilities
    ) -> None:
        """Before a server is started."""
        refused = [
            serving for serving in OPTIONAL.values() if can.lacking(served_as(serving, models))
        ]
        if not refused:
            pytest.skip("the engine declares every capability: there is nothing to refuse")
        started = pool.started
        for serving in refused:
            assert adapter.cannot(serving), f"'{serving}' is not declared, and not refused"
            with pytest.raises(ValueError, match="cannot"):
                pool.serve(adapter, serving, models)
        assert pool.started == started

    def test_a_fixed_length_that_is_not_declared_is_refused(
        self, adapter: Endpoint, can: Capabilities
    ) -> None:
        """Before anything is asked."""
        reason = adapter.cannot(Serving(), Sampling(TOKENS, fixed_length=True))
        assert (reason is None) == can.fixed_length

    @pytest.mark.parametrize("fault", ["no messages", "too long a prompt", "negative max_tokens"])
    def test_a_request_that_cannot_be_served_is_refused(
        self, server: Server, models: ModelPair, fault: str
    ) -> None:
        """With an HTTP status of 4xx or an error in the stream; and the next one is answered."""
        body = server.body(PROMPTS[0], Sampling(TOKENS))
        if fault == "no messages":
            del body["messages"]
        elif fault == "too long a prompt":
            text = " 7 8" * int(TOO_LONG * models.max_model_len)
            body["messages"] = [{"role": "user", "content": text}]
        else:
            body["max_tokens"] = -1
        status, said = _refusal(server, body)
        assert 400 <= (status or 400) < 500, f"a request with {fault}: HTTP status {status}: {said}"
        assert said, f"a request with {fault} was answered"
        assert server.answers(server.engine.health_path)
        assert streamed(server, Sampling(TOKENS)).error is None

    def test_an_idle_server_leaves_the_processors_to_the_other_arm(
        self, adapter: Endpoint, server: Server
    ) -> None:
        """Both arms of a comparison are up, and one is asked at a time. The least of three tries
        counts, because a server may be tidying up."""
        _startable(adapter)
        assert isinstance(server, Started)
        idle(server)
        used = [_processors_used(server, seconds=2) for _ in range(3)]
        assert min(used) < IDLE_USE, f"an idle server keeps {min(used):.2f} processors busy"

    def test_a_server_that_does_not_start_says_why(
        self, pool: Pool, adapter: Endpoint, models: ModelPair
    ) -> None:
        """In its own last words, and none of its processes is left."""
        serving = OPTIONAL["flags"]
        if reason := adapter.cannot(serving):
            pytest.skip(reason)
        (flag,) = serving.flags
        with pytest.raises(EngineError) as caught:
            pool.serve(adapter, serving, models)
        words = str(caught.value).partition("last lines:")[2]
        assert flag in words, f"the engine's last words do not name {flag}:\n{caught.value}"
        assert not _running(flag), f"still running: {_running(flag)}"

    def test_a_port_that_another_server_took_is_said(
        self, adapter: Endpoint, models: ModelPair, tmp_path: Path
    ) -> None:
        """And the other server is not measured as this one."""
        _startable(adapter)
        with _another_server() as (port, asked), Pool(tmp_path, start_s=self.start_s) as pool:
            pool._free_port = lambda: port  # type: ignore[method-assign]
            with pytest.raises(EngineError, match=f"the port {port}, which .* was taken by"):
                pool.serve(adapter, Serving(), models)
            assert not pool.servers
        assert set(asked) <= {adapter.health_path}, f"the other server was asked {asked}"

    def test_a_server_that_is_killed_fails_its_requests_and_is_replaced(
        self,
        pool: Pool,
        adapter: Endpoint,
        models: ModelPair,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        """SIGKILL in the middle of its answers: all fail with a cause, and none of its processes
        is left."""
        _startable(adapter)
        server = pool.serve(adapter, Serving(), models)
        assert isinstance(server, Started)
        tree = psutil.Process(server.process.pid).children(recursive=True)
        with ThreadPoolExecutor(1) as beside:
            killing = beside.submit(_kill_when_it_runs, server)
            run = sent(
                server, tmp_path_factory, long_answer(server), IN_FLIGHT, PROMPTS[:IN_FLIGHT]
            )
            killing.result()
        assert len(run.samples) == IN_FLIGHT
        assert all(sample.error for sample in run.samples), [s.error for s in run.samples]
        _, left = psutil.wait_procs(tree, timeout=IDLE_WITHIN_S)
        assert not [one for one in left if one.status() != psutil.STATUS_ZOMBIE]
        server.process.wait(timeout=IDLE_WITHIN_S)
        assert not server.alive
        another = pool.serve(adapter, Serving(), models)
        assert another.number != server.number
        assert streamed(another, Sampling(TOKENS)).error is None

    def test_a_server_is_gone_when_it_is_stopped(
        self, pool: Pool, adapter: Endpoint, models: ModelPair
    ) -> None:
        """One that we started; one that ran already stays up."""
        server = pool.serve(adapter, Serving(), models)
        server.stop()
        ours = not isinstance(server, Attached)
        assert server.alive is not ours
        assert server.answers(adapter.health_path) is not ours


def _refusal(server: Server, body: dict[str, Any]) -> tuple[int | None, str | None]:
    """HTTP status of a request that is refused, and the error; None of one that is answered."""
    try:
        return None, parse([(0.0, raw_answer(server, body))]).error
    except HTTPError as refused:
        return refused.code, str(refused)


def _startable(adapter: Endpoint) -> None:
    """Skip where servers of the engine are not started here."""
    if adapter.url is not None or not isinstance(adapter, Launcher):
        pytest.skip("a server that somebody else runs is neither started nor killed")


def _running(argument: str) -> list[int]:
    """Processes of ours that were started with that argument."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if argument in process.cmdline():
                found.append(process.pid)
    return found


def _processors_used(server: Started, seconds: float) -> float:
    """How many processors the processes of a server keep busy."""
    before, started = _cpu_s(server), time.monotonic()
    time.sleep(seconds)
    return (_cpu_s(server) - before) / (time.monotonic() - started)


def _cpu_s(server: Started) -> float:
    """Processor time that the processes of a server have used, in seconds."""
    supervisor, used = psutil.Process(server.process.pid), 0.0
    for process in (supervisor, *supervisor.children(recursive=True)):
        with suppress(psutil.Error):
            times = process.cpu_times()
            used += times.user + times.system
    return used


def _kill_when_it_runs(server: Started) -> None:
    """Kill the server's first process while it answers; without a gauge, after a second."""
    told = "running" in server.engine.capabilities.series
    given_up = time.monotonic() + IDLE_WITHIN_S
    while told and not page_of(server).values["running"]:
        assert time.monotonic() < given_up, "no request was seen running"
    time.sleep(0.1 if told else 1.0)
    processes = psutil.Process(server.process.pid).children()
    min(processes, key=lambda process: process.create_time()).kill()


@contextmanager
def _another_server() -> Iterator[tuple[int, list[str]]]:
    """Port of a server that is well whatever it is asked, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1], asked
        finally:
            server.shutdown()
            thread.join()
