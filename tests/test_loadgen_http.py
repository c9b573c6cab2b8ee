"""Exchanges over HTTP/1.1 with servers that send exactly the bytes that a test gives them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_rllm.engines.pool import free_port
from pytest_rllm.loadgen import http as loadgen_http
from pytest_rllm.loadgen.http import SPILL_READS, Connections, Exchange

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
TLS = b"\x16\x03"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class ByteServer:
    """A server that answers each request with given pieces of bytes, and keeps the requests.

    A piece may be a number: seconds to wait. After a last piece of None the connection stays open.
    """

    def __init__(self, *answers: Sequence[bytes | float | None]) -> None:
        self.answers, self.asked, self.connections = list(answers), [], 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        while self.answers:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection, contextlib.suppress(OSError):
                while self.answers and (asked := self._request(connection)):
                    self.asked.append(asked)
                    answer = self.answers.pop(0)
                    for piece in answer:
                        if isinstance(piece, bytes):
                            connection.sendall(piece)
                        elif piece is not None:
                            time.sleep(piece)
                    if answer[-1] is not None:
                        break

    @staticmethod
    def _request(connection: socket.socket) -> bytes:
        asked = b""
        while b"\r\n\r\n" not in asked:
            if not (data := connection.recv(65536)):
                return b""
            asked += data
            if asked.startswith(TLS):
                break
        return asked

    def __enter__(self) -> ByteServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.answers.clear()
        self._listener.close()


def ask(url: str, n: int = 1, **more: object) -> list[Exchange]:
    """Ask for the page ``n`` times, one after the other."""

    async def asking() -> list[Exchange]:
        async with Connections(url, stall_s=more.pop("stall_s", 1.0)) as connections:
            request = more.pop("request", connections.get("/page"))
            return [await connections.exchange(request, **more) for _ in range(n)]

    return asyncio.run(asking())


def body(exchange: Exchange) -> bytes:
    return b"".join(exchange.datas)


def test_a_connection_is_kept_for_the_next_exchange() -> None:
    page = OK + b"Content-Length: 2\r\n\r\nok"
    with ByteServer([page, None], [page, None], [page, None]) as server:
        got = ask(server.url, 3)
    assert [(e.error, e.status, body(e)) for e in got] == [(None, 200, b"ok")] * 3
    assert server.connections == 1


@pytest.mark.parametrize(
    "page",
    [
        OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nok",
        OK + b"\r\nok",
        b"HTTP/1.0 200 OK\r\n\r\nok",
    ],
    ids=["close", "unframed", "HTTP/1.0"],
)
def test_a_connection_that_the_server_closes_is_not_used_again(page: bytes) -> None:
    with ByteServer([page], [page]) as server:
        got = ask(server.url, 2)
    assert [(e.error, body(e)) for e in got] == [(None, b"ok")] * 2
    assert server.connections == 2


def test_an_idle_connection_is_not_trusted_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loadgen_http, "IDLE_S", 0.0)
    page = OK + b"Content-Length: 2\r\n\r\nok"
    with ByteServer([page, None], [page, None]) as server:
        assert [body(e) for e in ask(server.url, 2)] == [b"ok"] * 2
    assert server.connections == 2


def test_a_path_of_the_url_is_sent() -> None:
    with ByteServer([OK + b"Content-Length: 0\r\n\r\n"]) as server:
        ask(f"{server.url}/base/")
    (asked,) = server.asked
    assert asked.startswith(b"GET /base/page HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"Accept-Encoding: identity\r\n" in asked


def test_a_user_of_the_url_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match=r"http://\*\*\*@host: a URL with a user") as caught:
        Connections("http://me%40home:pass@host")
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "localhost"])
def test_a_url_of_no_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not the URL of a server: "):
        Connections(url)


def test_an_interim_response_is_passed_over() -> None:
    interim = b"HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\n"
    with ByteServer([interim, 0.02, OK + b"Content-Length: 2\r\n\r\nok"]) as server:
        (got,) = ask(server.url)
    assert (got.status, body(got), b"x-early" in got.headers) == (200, b"ok", False)


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([b""], "closed early: the connection ended before any answer"),
        ([b"HTTP/1.1 200"], "closed early: the connection ended before any answer"),
        ([CHUNKED + b"5\r\nab"], "closed early: the connection ended in the middle of "),
        ([OK + b"Content-Length: 9\r\n\r\nab"], "closed early: the connection ended in the "),
        ([b"SSH-2.0-OpenSSH_9.6\r\n"], "not HTTP: "),
        ([CHUNKED + b"zz\r\n"], "not HTTP: "),
        ([CHUNKED + b"1\r\na\r\n", 3.0], "stalled: nothing arrived for 1 s"),
        ([CHUNKED + b"1\r\na\r\n", 0.8, b"1\r\na\r\n", 3.0], "stalled: nothing with content"),
    ],
)
def test_an_incomplete_response_has_the_reason(pieces: list[bytes | float], error: str) -> None:
    with ByteServer(pieces) as server:
        (got,) = ask(server.url)
    assert got.error
    assert got.error.startswith(error)


def test_plain_http_is_no_tls() -> None:
    with ByteServer([b"HTTP/1.1 400 Bad Request\r\n\r\n"]) as server:
        (got,) = ask(server.url.replace("http:", "https:"))
    assert got.error
    assert got.error.startswith("cannot connect to 127.0.0.1:")
    assert "SSL" in got.error
    assert got.error.endswith(
        "the server does not speak TLS there: is it http:// and not https://?"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_a_server_that_is_not_there(host: str) -> None:
    (got,) = ask(f"http://{host}:{free_port()}")
    assert got.error
    assert got.error.startswith(f"cannot connect to {host}:")
    assert got.status == 0


def test_a_stream_that_sent_done_may_leave_its_body_open() -> None:
    data, held_open_s = b"data: [DONE]\n\n", 20.0
    with ByteServer([CHUNKED + b"%x\r\n%s\r\n" % (len(data), data), held_open_s]) as server:
        begun = time.monotonic()
        (got,) = ask(server.url, stall_s=30.0)
        took = time.monotonic() - begun
    assert (got.error, body(got)) == (None, data)
    # The client did not wait until the server closed the body.
    assert took < held_open_s / 2
    assert not got.keep_alive


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def a_choice(delta: str, **more: object) -> bytes:
    return b'data: {"choices": [{"delta": %s}]}\n\n' % delta.encode()


@pytest.mark.parametrize(
    "ping",
    [
        b": ping\n\n",
        b"data:\n\n",
        b"data: \r\n\r\n",
        b"event: ping\nid: 3\n\n",
        b"\n",
        b'data: {"choices": []}\n\n',
        a_choice('{"role": "assistant", "content": ""}'),
        b'data: {"choices": [{"delta": {}}], "usage": {"completion_tokens": 2}}\n\n',
    ],
)
def test_what_carries_nothing_is_no_life(ping: bytes) -> None:
    """A gateway pings for as long as it is asked, and the engine behind it is silent."""
    first = (
        b'data: {"choices": [{"delta": {"content": "a"}}], "usage": {"completion_tokens": 2}}\n\n'
    )
    pieces = [CHUNKED + chunk(first), *[0.05, chunk(ping)] * 100]
    with ByteServer(pieces) as server:
        begun = time.monotonic()
        (got,) = ask(server.url, stall_s=0.4)
        took = time.monotonic() - begun
    assert got.error == (
        "stalled: nothing with content arrived for 0.4 s, though the connection was kept alive by "
        "comments or empty events"
    )
    assert took < 100 * 0.05


@pytest.mark.parametrize(
    "life",
    [
        a_choice('{"content": "a"}'),
        a_choice('{"reasoning": "a"}'),
        a_choice('{"thought": "a"}'),
        a_choice('{"tool_calls": [{"function": {"arguments": "a"}}]}'),
        a_choice('{"content": "a"}').replace(b"\n", b"\r\n"),
        b'data: {"choices": [{"delta": {"content": null}, "token_ids": [1]}]}\n\n',
    ],
)
def test_an_event_with_content_is_life_however_it_is_cut(life: bytes) -> None:
    half = len(life) // 2
    pieces = [CHUNKED, *[0.15, chunk(life[:half]), 0.1, chunk(life[half:])] * 4]
    with ByteServer([*pieces, chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n"]) as server:
        (got,) = ask(server.url, stall_s=0.6)
    assert got.error is None


def test_tokens_without_text_are_life() -> None:
    event = 'data: {"choices": [{"delta": {}}], "usage": {"completion_tokens": %d}}\n\n'
    pieces = [CHUNKED, *(p for i in range(8) for p in (0.12, chunk((event % i).encode())))]
    with ByteServer([*pieces, b"0\r\n\r\n"]) as server:
        assert ask(server.url, stall_s=0.5)[0].error is None


def test_reads_that_were_spilled_are_no_life_either() -> None:
    pieces = [CHUNKED, *[chunk(b": ping\n\n"), 0.002] * (2 * SPILL_READS)]
    with ByteServer(pieces) as server:
        (got,) = ask(server.url, stall_s=0.4, spill=lambda _times, _datas: None)
    assert got.error is not None
    assert got.error.startswith("stalled: nothing with content arrived")


@pytest.mark.parametrize(
    "done",
    [
        [b"data: [DONE]\n\n"],
        [b"data:[DONE]\r\n\r\n"],
        [b"data: [DO", b"NE]", b"\n\n"],
        [b"data: [DONE]\n\n: ping\n\n"],
        [b"data: [DONE]\n\n", b"data: [DONE]\n\n", a_choice('{"content": "more"}')],
    ],
)
@pytest.mark.parametrize("last", ["pings", "closes", "stays open"])
def test_a_response_is_over_at_done_whatever_follows(done: list[bytes], last: str) -> None:
    pieces: list[bytes | float | None] = [CHUNKED + chunk(a_choice('{"content": "a"}'))]
    for part in done:
        pieces += [0.01, chunk(part)]
    pieces += {"pings": [0.05, chunk(b": ping\n\n")] * 200, "closes": [], "stays open": [10.0]}[
        last
    ]
    with ByteServer(pieces) as server:
        begun = time.monotonic()
        (got,) = ask(server.url, stall_s=5.0)
        took = time.monotonic() - begun
    assert got.error is None
    assert got.done_s is not None
    assert got.done_s - begun < 3.0
    assert took < 5.0, "it was waited for, though it was over"
    assert got.lingered == (last != "closes")


def test_an_answer_that_names_done_is_not_over() -> None:
    text = a_choice('{"content": "data: [DONE]"}')
    pieces = [CHUNKED + chunk(text), 0.5, chunk(text), b"0\r\n\r\n"]
    with ByteServer(pieces) as server:
        (got,) = ask(server.url, stall_s=2.0)
    assert (got.error, got.done_s, body(got)) == (None, None, 2 * text)


def test_a_request_is_aborted_after_a_number_of_reads() -> None:
    pieces: list[bytes | float] = [CHUNKED]
    for _ in range(20):
        pieces += [b"1\r\na\r\n", 0.02]
    with ByteServer(pieces) as server:
        (got,) = ask(server.url, cut_after=3)
    assert (got.cut, got.error, len(got.times)) == (True, None, 3)


def test_spilled_reads_are_complete_and_in_order() -> None:
    spilled: list[bytes] = []
    most = 0

    def spill(times: list[float], datas: list[bytes]) -> None:
        nonlocal most
        assert len(times) == len(datas)
        most = max(most, len(times))
        spilled.extend(datas)

    pieces: list[bytes | float] = [CHUNKED]
    sent = [b"%06d" % i for i in range(3 * SPILL_READS)]
    for data in sent:
        pieces += [b"6\r\n%s\r\n" % data, 0.0005]
    with ByteServer([*pieces, b"0\r\n\r\n"]) as server:
        (got,) = ask(server.url, stall_s=30.0, spill=spill)
    assert got.error is None
    assert b"".join(spilled) + body(got) == b"".join(sent)
    assert spilled
    assert most <= SPILL_READS + 20


def cut(data: bytes, places: Sequence[int]) -> Iterator[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    for start, end in itertools.pairwise(ends):
        yield data[start:end]


class Fed:
    """An exchange that is fed by hand."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def __call__(self, pieces: Sequence[bytes]) -> Exchange:
        async def feeding() -> Exchange:
            exchange = Exchange()
            for i, piece in enumerate(pieces):
                exchange.now = float(i)
                exchange.feed(piece)
            return exchange

        return self.loop.run_until_complete(feeding())


@pytest.fixture(scope="module")
def fed() -> Iterator[Callable[[Sequence[bytes]], Exchange]]:
    feeding = Fed()
    yield feeding
    feeding.loop.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(min_size=1, max_size=30), max_size=6), st.lists(st.integers(0, 500)))
def test_however_a_response_is_cut_it_is_the_same(
    fed: Callable[[Sequence[bytes]], Exchange], parts: list[bytes], places: list[int]
) -> None:
    data = CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"
    got = fed(list(cut(data, places)))
    assert body(got) == b"".join(parts)
    assert (got.status, got.open, got.keep_alive) == (200, False, True)
    assert got.times == sorted(got.times)
    assert len(got.times) == len(got.datas)
