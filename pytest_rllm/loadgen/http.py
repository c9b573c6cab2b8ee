"""HTTP/1.1 exchanges with one server; each read of a response is kept with its arrival time.

Only the HTTP parser (httptools) runs between the socket and the kept read. Nothing is retried and
no proxy is used: what happens to a request is its result. ``benchmarks/clients`` compares this
module with other HTTP clients.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import urlsplit

import httptools

from .. import access
from ..records.framing import DONE
from ..refusals import Refusal, about_tls
from .life import Life

Spill = Callable[[list[float], list[bytes]], None]
"""Takes reads of a response's body: arrival times on the clock of the connections, and bytes."""

CONNECT_WITHIN_S = 30.0
IDLE_S = 2.0
"""A connection that was idle for longer is not used again, because servers close idle connections
(uvicorn: after 5 s)."""
LINGER_S = 0.25
"""A response is over with ``[DONE]``. The end of its body, after which its connection can be used
again, is waited for so long, whatever else arrives."""
SPILL_READS = 256
"""Number of reads that are kept per response before they are spilled."""
SPILL_PHASE = 101
"""Number of reads by which each exchange spills earlier than the previous one."""
SILENT = "stalled"
"""How the error of a response begins in which nothing with content arrived any more."""
EVENTS = "text/event-stream"
NEAR_END = -64
"""From where on in a read ``[DONE]`` is looked for at once."""
LOOK_EVERY_S = 5.0
"""Seconds that a response is trusted to live after it was seen to; a quarter of what makes it
stalled, if that is less."""
WATCH_EVERY_S = 1.0
"""Seconds between two checks for stalled responses."""


class Exchange:
    """One request and its response, in the order of arrival.

    Attributes:
        times, datas: arrival times (clock of the connections) and bytes of the reads of the body
            that were not spilled. Two lists, because the garbage collector tracks neither floats
            nor bytes, but tuples of them: those would start collections, which stop the event loop
            for longer the more streams there are.
        status: HTTP status; 0 before it arrives.
        headers: by lower-case name.
        error: why the response is not complete; None if it is.
        done_s: arrival of ``[DONE]``, with which a stream of events is over; None before.
        lingered: whether the end of the body was not waited for any longer after that.
        alive_s: when the request was sent, or later the last look at an event with content.
        cut: whether the client aborted the request, as ``cut_after`` demands.
        bound: number of reads after which :meth:`full` is called.
        keep_alive: whether the connection can be used again.
        now: arrival of the read that is being parsed.
        feed: takes the bytes of a read.
    """

    __slots__ = (
        "_ended", "_life", "_limit", "_parser", "_seen", "_spill",
        "alive_s", "bound", "cut", "datas", "done_s", "error", "feed", "headers", "keep_alive",
        "lingered", "now", "status", "times",
    )  # fmt: skip

    def __init__(
        self,
        limit: int | None = None,
        spill: Spill | None = None,
        phase: int = 0,
    ) -> None:
        self.times: list[float] = []
        self.datas: list[bytes] = []
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.error: str | None = None
        self.cut = False
        self.keep_alive = False
        self.now = self.alive_s = 0.0
        self.done_s: float | None = None
        self.lingered = False
        self._limit, self._spill = limit, spill
        self.bound = limit or SPILL_READS - phase % SPILL_READS
        self._life = Life()
        self._seen = 0
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self.feed = self._parser.feed_data

    @property
    def content_type(self) -> str:
        """The content type without its parameters, in lower case."""
        kind = self.headers.get(b"content-type", b"").partition(b";")[0]
        return kind.decode("latin-1").strip().lower()

    @property
    def text(self) -> str:
        """The text of the reads that were not spilled, without our own secrets."""
        text = b"".join(self.datas).decode("utf-8", "replace")
        return access.current().without_secrets(text)

    @property
    def refusal(self) -> Refusal:
        """What the status and headers say of a response that is none of an engine's."""
        location, encoding = (
            self.headers.get(name, b"").decode("latin-1")
            for name in (b"location", b"content-encoding")
        )
        return Refusal(self.status, location, encoding.strip().lower())

    @property
    def framed(self) -> bool:
        """Whether headers tell where the body ends; otherwise it ends with the connection."""
        return b"content-length" in self.headers or b"transfer-encoding" in self.headers

    @property
    def open(self) -> bool:
        """Whether more may arrive."""
        return not self._ended.done()

    def end(self, error: str | None = None) -> None:
        """End the exchange: nothing more will arrive. One that is over did not fail."""
        if not self.open:
            return
        if error is not None:
            self.look()
        self.error = error if self.done_s is None else None
        self._ended.set_result(None)

    def look(self) -> None:
        """Look whether what arrived since the last look shows that the engine lives, or that the
        response is over."""
        if self.content_type != EVENTS:
            self.alive_s = self.now
        elif self._seen < len(self.datas):
            new = b"".join(self.datas[self._seen :])
            self._seen = len(self.datas)
            if self._life.look(new):
                self.alive_s = self.now
            if self._life.over and self.done_s is None:
                self.done_s = self.now

    def done(self) -> None:
        """The response may be over: wait for the end of its body no longer than LINGER_S."""
        self.look()
        if self.done_s is not None:
            asyncio.get_running_loop().call_later(LINGER_S, self.linger)

    def linger(self) -> None:
        """End an exchange whose response is over and whose body is not."""
        if self.open:
            self.lingered = True
            self.end()

    def full(self) -> bool:
        """Spill the reads, now that ``bound`` have arrived; returns whether to abort instead."""
        if self._limit:
            self.cut = True
            self.end()
        elif self._spill:
            self.look()
            self._spill(self.times, self.datas)
            self.times.clear()
            self.datas.clear()
            self._seen = 0
            self.bound = SPILL_READS
        return self.cut

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Called by the parser, once per part of the body in a read."""
        self.times.append(self.now)
        self.datas.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self.status < 200:  # an interim response; the real one follows
            self.headers.clear()
            return
        self.keep_alive = self._parser.should_keep_alive()
        self.end()

    async def wait(self) -> None:
        """Wait until the response has ended or failed."""
        await self._ended

    def release(self) -> None:
        """Drop the parser, which refers back to this exchange: nothing more will be fed."""
        del self._parser, self.feed


class _Connection(asyncio.Protocol):
    """A connection with at most one exchange at a time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.exchange: Exchange | None = None
        self.transport: Any = None
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:  # no request is under way
            self.transport.abort()
            return
        exchange.now = self._clock()
        try:
            exchange.feed(data)
        except Exception as error:  # noqa: BLE001 - httptools raises many types
            exchange.end(f"not HTTP: {type(error).__name__}: {error}")
            self.transport.abort()
            return
        # At its end only: what is sent behind it, and its parts, are found at the next look.
        if data.find(DONE, NEAR_END) >= 0 and exchange.done_s is None and exchange.open:
            exchange.done()
        if len(exchange.times) >= exchange.bound and exchange.full():
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        if error is not None:
            exchange.end(f"{type(error).__name__}: {error}")
        elif not exchange.status:
            exchange.end("closed early: the connection ended before any answer")
        elif exchange.framed:
            exchange.end("closed early: the connection ended in the middle of the response")
        else:
            exchange.end()


class Connections:
    """Connections to one server that are kept alive between exchanges; an async context manager.

    Args:
        url: base, ``http://`` or ``https://``, with a path if the server needs one; keys and TLS
            come from ``access``.
        stall_s: a response fails when nothing with content arrives for this many seconds.
        clock: monotonic seconds; gives the times of reads.

    Attributes:
        opened: number of connections so far.

    Raises:
        ValueError: the URL has another scheme, no host, or a user.
    """

    def __init__(
        self, url: str, *, stall_s: float = 120.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        parts = urlsplit(access.checked_url(url))
        assert parts.hostname
        self._url = url
        self._host, self._tls = parts.hostname, parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._base = parts.path.rstrip("/")
        self._stall_s, self._clock = stall_s, clock
        lines = f"Host: {parts.netloc}\r\nUser-Agent: pytest-rllm\r\nAccept-Encoding: identity\r\n"
        self._headers = access.HiddenBytes(lines.encode() + access.header_lines(url))
        self.opened = 0
        self._exchanges = 0
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()

    async def __aenter__(self) -> Self:
        self._ssl = access.tls_context() if self._tls else None
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watcher.cancel()
        for connection in (*self._idle, *self._busy):
            connection.transport.abort()
        await asyncio.sleep(0)

    def get(self, path: str) -> bytes:
        """The bytes of a request for a page."""
        first = f"GET {self._base}{path} HTTP/1.1\r\n".encode()
        return access.HiddenBytes(first + self._headers + b"\r\n")

    def post(self, path: str, body: bytes, *, closes: bool = False) -> bytes:
        """The bytes of a request that sends JSON and accepts a stream of events.

        Args:
            path: from the base on.
            body: JSON.
            closes: whether the server is asked to end the connection after its response.
        """
        first = f"POST {self._base}{path} HTTP/1.1\r\n".encode()
        last = "Connection: close\r\n" if closes else ""
        about = (
            f"{last}Accept: text/event-stream\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        return access.HiddenBytes(first + self._headers + about + body)

    async def exchange(
        self,
        request: bytes,
        *,
        cut_after: int | None = None,
        spill: Spill | None = None,
        closes: bool = False,
    ) -> Exchange:
        """Send a request and wait until its response has ended or failed.

        Args:
            request: from :meth:`get` or :meth:`post`.
            cut_after: number of parts of the body after which the request is aborted.
            spill: takes reads while the response goes on, so that memory use stays bounded.
            closes: whether the request asks for the end of the connection: many a server ends it
                then without a word in its headers, and the next request would be lost.
        """
        # Streams that run in step must not all spill at once, which would be one long pause.
        self._exchanges += 1
        exchange = Exchange(cut_after, spill, phase=self._exchanges * SPILL_PHASE)
        try:
            connection = await self._connection()
        except (OSError, TimeoutError) as error:
            why = str(error) or f"no connection within {CONNECT_WITHIN_S:g} s"
            exchange.end(
                f"cannot connect to {self._host}:{self._port}: {type(error).__name__}: {why}"
                f"{about_tls(error)}"
            )
            return exchange
        connection.exchange = exchange
        self._busy.add(connection)
        try:
            exchange.now = exchange.alive_s = self._clock()
            connection.transport.write(request)
            await exchange.wait()
        finally:
            self._busy.discard(connection)
            connection.exchange = None
            exchange.release()
            if exchange.keep_alive and not closes and not connection.transport.is_closing():
                connection.idle_since = self._clock()
                self._idle.append(connection)
            else:
                connection.transport.abort()
        return exchange

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            fresh = self._clock() - connection.idle_since < IDLE_S
            if fresh and not connection.transport.is_closing():
                return connection
            connection.transport.abort()
        async with asyncio.timeout(CONNECT_WITHIN_S):
            _, made = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self._clock), self._host, self._port, ssl=self._ssl
            )
        self.opened += 1
        return made

    async def _watch(self) -> None:
        """End stalled responses, outside of the path that reads them."""
        while True:
            await asyncio.sleep(min(WATCH_EVERY_S, self._stall_s / 10))
            for connection in tuple(self._busy):
                exchange = connection.exchange
                if exchange is None or not exchange.open:
                    continue
                if self._clock() - exchange.alive_s > min(LOOK_EVERY_S, self._stall_s / 4):
                    exchange.look()
                if exchange.done_s is not None:
                    if self._clock() - exchange.done_s > LINGER_S:
                        exchange.linger()
                elif self._clock() - exchange.alive_s > self._stall_s:
                    pinged = exchange.now > exchange.alive_s + self._stall_s / 2
                    exchange.end(
                        f"{SILENT}: nothing with content arrived for {self._stall_s:g} s, though "
                        "the connection was kept alive by comments or empty events"
                        if pinged
                        else f"{SILENT}: nothing arrived for {self._stall_s:g} s"
                    )
