"""The reference server: one thread, one epoll, one heap of due writes.

A delta costs a heap entry, one ``%`` and one ``send``.
"""

from __future__ import annotations

import heapq
import json
import os
import select
import socket
import time
from dataclasses import asdict, replace
from typing import Any

from .connections import Connection
from .responses import MODEL, Events, Stream
from .schedules import Script

WHOLE_S = 0.001
"""Sleeps of at most this are not divided, in s."""
AT_ONCE = 256
"""Number of writes after which the sockets are polled, even if more writes are due."""


class Server:
    """All connections, and the heap of due writes.

    Attributes:
        blocked: number of writes that the kernel did not accept completely, because the client
            does not read.
    """

    def __init__(self, script: Script, metrics_bytes: int) -> None:
        self._script, self._metrics_bytes = script, metrics_bytes
        self.poll = select.epoll()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.poll.register(self._listener, select.EPOLLIN)
        self._connections: dict[int, Connection] = {}
        self._due: list[tuple[float, int, Stream]] = []
        self._generated = self._prompted = self._order = 0
        self._begin(script)

    def _begin(self, script: Script) -> None:
        self._script, self._number = script, 0
        self.blocked = self._deltas = self._writes = 0
        self._late = self._latest = 0.0
        self._cpu = time.process_time()

    def serve(self, stdin: int | None) -> None:
        """Serve until ``stdin`` closes; for ever without one that can close."""
        if stdin is not None:
            try:
                self.poll.register(stdin, select.EPOLLIN)
            except PermissionError:  # a file or /dev/null, which never closes
                stdin = None
        due, clock = self._due, time.monotonic
        polled = [self.poll.fileno()]
        while True:
            now = clock()
            for _ in range(AT_ONCE):
                if not due or due[0][0] > now:
                    break
                self._write(now)
            # select, because epoll waits in whole milliseconds. The kernel may wake a sleeper late
            # by a share of its sleep, so a long sleep is divided into 95 % and the rest.
            wait = max(0.0, due[0][0] - clock()) if due else None
            if wait and wait > WHOLE_S:
                wait *= 0.95
            if not select.select(polled, (), (), wait)[0]:
                continue
            for number, mask in self.poll.poll(0):
                if number in self._connections:
                    self._connections[number].ready(mask)
                elif number == stdin:
                    if not os.read(number, 4096):
                        return
                else:
                    self._accept()

    def _write(self, now: float) -> None:
        planned, order, stream = self._due[0]
        connection = stream.connection
        if not connection.open:
            heapq.heappop(self._due)
            return
        late = now - planned
        self._late += late
        self._latest = max(late, self._latest)
        deltas = stream.write()
        self._writes += 1
        self._deltas += deltas
        self._generated += deltas * stream.script.tokens
        if stream.sent < stream.deltas and not connection.pending:
            heapq.heapreplace(self._due, (stream.due(), order, stream))
            return
        heapq.heappop(self._due)
        if stream.sent == stream.deltas and connection.open:
            connection.stream = None
            connection.answer()

    def plan(self, stream: Stream) -> None:
        """Put the next write of a stream on the heap."""
        self._order += 1
        heapq.heappush(self._due, (stream.due(), self._order, stream))

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except BlockingIOError:
                return
            connection = Connection(self, client)
            self._connections[connection.number] = connection
            self.poll.register(client, select.EPOLLIN)

    def closed(self, connection: Connection) -> None:
        """Forget a closed connection; the kernel has removed its socket from the poll."""
        del self._connections[connection.number]

    def answer(self, to: Connection, method: str, path: str, body: bytes) -> None:
        """Answer one request, or start its stream."""
        if (method, path) in (("POST", "/v1/chat/completions"), ("POST", "/v1/completions")):
            self._start(to, path == "/v1/chat/completions", body)
        elif path == "/timing" and method == "POST":
            try:
                self._begin(Script(**json.loads(body)))
            except (ValueError, TypeError) as error:
                to.respond({"error": {"message": str(error)}}, "400 Bad Request")
                return
            to.respond(self._report())
        elif path == "/timing":
            to.respond(self._report())
        elif path == "/v1/models":
            model: dict[str, Any] = {
                "id": MODEL,
                "object": "model",
                "created": 0,
                "owned_by": "timing",
            }
            to.respond(
                {"object": "list", "data": [model | {"root": MODEL, "max_model_len": 131072}]}
            )
        elif path == "/metrics":
            to.respond(self._metrics(), kind="text/plain; version=0.0.4; charset=utf-8")
        elif path == "/health":
            to.respond("", kind="text/plain")
        else:
            to.respond({"error": {"message": f"{method} {path} is not served"}}, "404 Not Found")

    def _start(self, to: Connection, chat: bool, content: bytes) -> None:
        try:
            body = json.loads(content)
            script = replace(self._script, **(body.get("timing") or {}))
            limit = body.get("max_completion_tokens") or body.get("max_tokens")
            if limit:
                script = script.lasting(limit, exactly=bool(body.get("ignore_eos")))
            if not body.get("stream"):
                raise ValueError("this server only streams: set stream=true")
        except (ValueError, TypeError, AttributeError) as error:
            to.respond({"error": {"message": str(error)}}, "400 Bad Request")
            return
        to.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        to.stream = Stream(to, script, Events(self._number, body, chat), self._number)
        self._number += 1
        self._prompted += to.stream.events.prompt_tokens
        self.plan(to.stream)

    def _report(self) -> dict[str, Any]:
        """What was sent since the script was set, how late it was, and the CPU time; times in s."""
        return {
            "script": asdict(self._script),
            "responses": self._number,
            "deltas": self._deltas,
            "writes": self._writes,
            "blocked": self.blocked,
            "late_mean_s": round(self._late / max(1, self._writes), 9),
            "late_max_s": round(self._latest, 9),
            "cpu_s": round(time.process_time() - self._cpu, 6),
        }

    def _metrics(self) -> str:
        """A page of metrics as an engine has one; filler makes it as long as a real one."""
        labels = f'{{engine="0",model_name="{MODEL}"}}'
        values = {
            "num_requests_running": sum(x.stream is not None for x in self._connections.values()),
            "num_requests_waiting": 0,
            "kv_cache_usage_perc": 0.0,
            "num_preemptions_total": 0,
            "prompt_tokens_total": self._prompted,
            "generation_tokens_total": self._generated,
            "prefix_cache_queries_total": self._prompted,
            "prefix_cache_hits_total": 0,
            "request_prefill_time_seconds_sum": 0,
            "request_decode_time_seconds_sum": 0,
        }
        page = "".join(f"vllm:{name}{labels} {float(value)}\n" for name, value in values.items())
        filler = 'vllm:padding_seconds_bucket{engine="0",le="%d",model_name="under-test"} 0.0\n'
        lines = range(max(0, self._metrics_bytes - len(page)) // len(filler))
        return page + "".join(filler % line for line in lines)
