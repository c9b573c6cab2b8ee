"""HTTP/1.1 exchanges with one server, each read noted with its time: the seam under the client.

Between the socket and a read that is kept with its time there is the framing of HTTP (httptools),
and nothing else. Nothing is retried and no proxy is used: what happened to a request is its
outcome. ``benchmarks/clients`` measures it beside other HTTP clients.
"""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit

import httptools

if TYPE_CHECKING:
    from ssl import SSLContext

Spill = Callable[[list[float], list[bytes]], None]
"""Takes reads of a response's body: when, on the clock of the wire, and what."""

CONNECT_WITHIN_S = 30.0
IDLE_S = 2.0
"""Servers close idle connections (uvicorn: after 5 s); one that is about to be is not used."""
LINGER_S = 1.0
"""A response that has said ``[DONE]`` and leaves its body open for so long has ended."""
SPILL_READS = 256
"""So many reads are kept per response before they are spilled."""
SPILL_PHASE = 101
"""By so many reads each exchange spills earlier than the one before it."""
WATCH_EVERY_S = 1.0


class Exchange:
    """One request and what came back, in the order of arrival.

    Attributes:
        times, datas: reads of the body that were not spilled: when (clock of the wire), and what.
            Two lists of what Python's garbage collector does not track: pairs of them would start
            collections, which stop everything, the longer the more streams there are.
        status: HTTP status; 0 before there is one.
        headers: by lower-case name.
        error: why there is no whole response; None when there is one.
        cut: whether we hung up, as asked.
        bound: reads after which something is to be done: hang up, or spill.
    """

    __slots__ = (
        "_ended", "_limit", "_parser", "_spill", "_tail",
        "bound", "cut", "datas", "error", "feed", "headers", "keep_alive", "now", "status", "times",
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
        self.now = 0.0
        self._limit, self._spill = limit, spill
        self.bound = limit or SPILL_READS - phase % SPILL_READS
        self._tail = b""
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self.feed = self._parser.feed_data

    @property
    def content_type(self) -> str:
        """Without its parameters."""
        kind = self.headers.get(b"content-type", b"").partition(b";")[0]
        return kind.decode("latin-1").strip().lower()

    @property
    def text(self) -> str:
        """The body that was not spilled."""
        return b"".join(self.datas).decode("utf-8", "replace")

    @property
    def framed(self) -> bool:
        """Whether the response says where it ends; otherwise the connection's end is its own."""
        return b"content-length" in self.headers or b"transfer-encoding" in self.headers

    @property
    def said_done(self) -> bool:
        """Whether the last that arrived was the end of a stream of events."""
        last = self.datas[-1] if self.datas else self._tail
        return last.rstrip().endswith(b"[DONE]")

    @property
    def open(self) -> bool:
        """Whether more may arrive."""
        return not self._ended.done()

    def end(self, error: str | None = None) -> None:
        """Nothing more will arrive."""
        if self.open:
            self.error = error
            self._ended.set_result(None)

    def full(self) -> bool:
        """``bound`` reads have arrived: spill them, or say that it is time to hang up."""
        if self._limit:
            self.cut = True
            self.end()
        elif self._spill:
            self._tail = self.datas[-1]
            self._spill(self.times, self.datas)
            self.times.clear()
            self.datas.clear()
            self.bound = SPILL_READS
        return self.cut

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Called by the parser, once per piece of the body in a read."""
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
        """Until the response has ended or failed."""
        await self._ended

    def release(self) -> None:
        """Nothing more is fed: let go of the parser, which holds on to this."""
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
        if exchange is None:  # nothing was asked
            self.transport.abort()
            return
        exchange.now = self._clock()
        try:
            exchange.feed(data)
        except Exception as error:  # noqa: BLE001 - httptools has errors of many kinds
            exchange.end(f"not HTTP: {type(error).__name__}: {error}")
            self.transport.abort()
            return
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


class Wire:
    """Connections to one server, kept alive between exchanges; an async context manager.

    Args:
        url: base, ``http://`` or ``https://``, with a path and a user where the server wants them.
        stall_s: a response that says nothing for so long has failed.
        clock: monotonic seconds; the times of reads.

    Raises:
        ValueError: a URL that no server can have.
    """

    def __init__(
        self, url: str, *, stall_s: float = 120.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not the URL of a server: {url!r}; it begins with http:// and a host")
        self._host, self._tls = parts.hostname, parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._base = parts.path.rstrip("/")
        self._stall_s, self._clock = stall_s, clock
        user = ""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            user = f"Authorization: Basic {b64encode(pair.encode()).decode()}\r\n"
        host = parts.netloc.rpartition("@")[2]
        self._headers = f"Host: {host}\r\nUser-Agent: pytest-rllm\r\n{user}"
        self._exchanges = 0
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()

    async def __aenter__(self) -> Self:
        self._ssl = _tls() if self._tls else None
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watcher.cancel()
        for connection in (*self._idle, *self._busy):
            connection.transport.abort()
        await asyncio.sleep(0)

    def get(self, path: str) -> bytes:
        """The bytes that ask for a page."""
        return f"GET {self._base}{path} HTTP/1.1\r\n{self._headers}\r\n".encode()

    def post(self, path: str, body: bytes) -> bytes:
        """The bytes that send JSON and ask for a stream of events."""
        return (
            f"POST {self._base}{path} HTTP/1.1\r\n{self._headers}Accept: text/event-stream\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    async def exchange(
        self,
        request: bytes,
        *,
        cut_after: int | None = None,
        spill: Spill | None = None,
    ) -> Exchange:
        """Send a request and wait for the end of its response, good or bad.

        Args:
            request: of :meth:`get` or :meth:`post`.
            cut_after: hang up when so many pieces of the body have arrived.
            spill: takes reads away while the response goes on, so that memory stays bounded.
        """
        # Streams that go on in step must not spill in step: that would be one long pause.
        self._exchanges += 1
        exchange = Exchange(cut_after, spill, phase=self._exchanges * SPILL_PHASE)
        try:
            connection = await self._connection()
        except (OSError, TimeoutError) as error:
            why = str(error) or f"no connection within {CONNECT_WITHIN_S:g} s"
            exchange.end(
                f"cannot connect to {self._host}:{self._port}: {type(error).__name__}: {why}"
            )
            return exchange
        connection.exchange = exchange
        self._busy.add(connection)
        try:
            exchange.now = self._clock()
            connection.transport.write(request)
            await exchange.wait()
        finally:
            self._busy.discard(connection)
            connection.exchange = None
            exchange.release()
            if exchange.keep_alive and not connection.transport.is_closing():
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
        return made

    async def _watch(self) -> None:
        """Ends responses that say nothing more; on no response's own time."""
        while True:
            await asyncio.sleep(min(WATCH_EVERY_S, self._stall_s / 10))
            for connection in tuple(self._busy):
                exchange = connection.exchange
                if exchange is None or not exchange.open:
                    continue
                silent = self._clock() - exchange.now
                if silent > LINGER_S and exchange.said_done:
                    exchange.end()
                elif silent > self._stall_s:
                    exchange.end(f"stalled: nothing arrived for {self._stall_s:g} s")


def _tls() -> SSLContext:
    from ssl import create_default_context

    return create_default_context()
