"""Answers of servers that fail, each after ``KEPT`` good deltas where it streams at all."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from doubles.scripted_server import AnswerScript, Reply

GOOD = AnswerScript(seed=11)
KEPT = 3
COUNTED = sum(delta.tokens for delta in GOOD.deltas()[:KEPT])
"""Tokens of the good deltas."""
BIG = 10 * 2**20


@dataclass(frozen=True)
class Hostile:
    """A way to fail.

    Attributes:
        answer: what the server does.
        cause: pattern of the error that the client should name; None when it should cope.
        kept: deltas that arrive whole.
    """

    answer: Callable[[Reply], Awaitable[None]]
    cause: str | None
    kept: int = KEPT


HOSTILE: dict[str, Hostile] = {}


def hostile(
    cause: str | None, kept: int = KEPT
) -> Callable[[Callable[[Reply], Awaitable[None]]], None]:
    def register(answer: Callable[[Reply], Awaitable[None]]) -> None:
        HOSTILE[answer.__name__] = Hostile(answer, cause, kept)

    return register


async def _begin(reply: Reply) -> None:
    reply.head()
    await reply.play(GOOD, upto=KEPT)
    await reply.writer.drain()


@hostile("stalled: nothing arrived for 2 s", kept=0)
async def stall_before_the_first_byte(reply: Reply) -> None:
    await asyncio.Event().wait()


@hostile("stalled: nothing arrived for 2 s")
async def stall(reply: Reply) -> None:
    await _begin(reply)
    await asyncio.Event().wait()


@hostile("not completed|closed early")
async def close_early(reply: Reply) -> None:
    await _begin(reply)
    reply.open = False


@hostile("closed early")
async def close_early_without_framing(reply: Reply) -> None:
    reply.chunked = False
    await _begin(reply)
    reply.open = False


@hostile("without a finish reason")
async def end_without_finish_reason(reply: Reply) -> None:
    await _begin(reply)
    reply.finish(reason=None)


@hostile("(?i)reset")
async def reset(reply: Reply) -> None:
    await _begin(reply)
    await asyncio.sleep(0.3)  # a reset may overtake bytes that the client has not read
    connection = reply.writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reply.writer.transport.abort()
    reply.open = False


@hostile("malformed event .*utf-8")
async def half_a_character(reply: Reply) -> None:
    await _begin(reply)
    reply.write(b'data: {"choices": [{"delta": {"content": "\xf0\x9f"}}]}\n\n')
    reply.finish()


@hostile('malformed event b\'{"choices": \\[')
async def malformed_json(reply: Reply) -> None:
    await _begin(reply)
    reply.write(b'data: {"choices": [\n\n')
    reply.finish()


@hostile("malformed event .*recursion")
async def bottomless_json(reply: Reply) -> None:
    await _begin(reply)
    reply.write(b"data: " + b"[" * 200_000 + b"\n\n")
    reply.finish()


@hostile("malformed event")
async def json_of_another_shape(reply: Reply) -> None:
    await _begin(reply)
    reply.event({"choices": [{"delta": ["content"]}]})
    reply.finish()


@hostile(None, kept=KEPT + 1)
async def ten_megabytes_in_one_delta(reply: Reply) -> None:
    await _begin(reply)
    usage = {"completion_tokens": COUNTED + 1}
    reply.event({"choices": [{"delta": {"content": "x" * BIG}}], "usage": usage})
    reply.finish()


@hostile(None, kept=KEPT + 1)
async def half_a_surrogate_pair(reply: Reply) -> None:
    await _begin(reply)
    event = '{"choices": [{"delta": {"content": "\\ud83d"}}], "usage": {"completion_tokens": %d}}'
    reply.write(f"data: {event % (COUNTED + 1)}\n\n".encode())
    reply.finish()


@hostile(None)
async def done_and_left_open(reply: Reply) -> None:
    await _begin(reply)
    reply.event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    reply.write(b"data: [DONE]\n\n")
    await asyncio.Event().wait()


@hostile(None)
async def done_and_pings(reply: Reply) -> None:
    await _begin(reply)
    reply.event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    reply.write(b"data: [DONE]\n\n")
    while not reply.gone:
        await asyncio.sleep(0.05)
        reply.write(b": ping\n\n")


@hostile("stalled: nothing with content arrived for 2 s, though the connection was kept alive")
async def pings_alone(reply: Reply) -> None:
    await _begin(reply)
    while not reply.gone:
        await asyncio.sleep(0.05)
        reply.write(b": ping\n\ndata:\n\n")


@hostile("finish reason 'repetition'; an answer is whole with stop or length only")
async def finish_reason_of_its_own(reply: Reply) -> None:
    await _begin(reply)
    reply.finish("repetition")


@hostile("not a stream: content type 'application/json'; .*: model is loading", kept=0)
async def json_at_200(reply: Reply) -> None:
    reply.head(kind="application/json")
    reply.write(b'{"error": {"message": "model is loading"}}')
    reply.finish(reason=None)


@hostile("the server answered in JSON, not by a stream of events: model is loading", kept=0)
async def json_as_events(reply: Reply) -> None:
    reply.head()
    reply.write(b'{"error": {"message": "model is loading"}}')
    reply.finish(reason=None)


@hostile(r"the server compresses its answers \(gzip\)", kept=0)
async def compressed_as_events(reply: Reply) -> None:
    reply.head()
    reply.write(gzip.compress(b"data: [DONE]\n\n"))
    reply.finish(reason=None)


@hostile("error in the stream: out of memory")
async def error_in_mid_stream(reply: Reply) -> None:
    await _begin(reply)
    reply.event({"error": {"message": "out of memory", "code": 500}})
    reply.finish(reason=None)


@hostile("error in the stream: out of memory")
async def error_in_mid_stream_then_close(reply: Reply) -> None:
    await _begin(reply)
    reply.event({"error": {"message": "out of memory", "code": 500}})
    await reply.writer.drain()
    reply.open = False


@hostile("error in the stream: out of memory")
async def error_in_mid_stream_then_stall(reply: Reply) -> None:
    await _begin(reply)
    reply.event({"error": {"message": "out of memory", "code": 500}})
    await asyncio.Event().wait()


@hostile("not a stream: content type 'text/html'", kept=0)
async def wrong_content_type(reply: Reply) -> None:
    reply.head(kind="text/html; charset=utf-8")
    reply.write(b"<h1>It works!</h1>")
    reply.finish(reason=None)


@hostile(r"HTTP 429 \(Retry-After: 7\): slow down", kept=0)
async def too_many_requests(reply: Reply) -> None:
    reply.head("429 Too Many Requests", "text/plain", "Retry-After: 7")
    reply.write(b"slow down")
    reply.finish(reason=None)


@hostile("HTTP 500: .*engine is dead", kept=0)
async def server_error(reply: Reply) -> None:
    reply.head("500 Internal Server Error", "application/json")
    reply.write(json.dumps({"error": {"message": "engine is dead"}}).encode())
    reply.finish(reason=None)


@hostile("without a finish reason", kept=0)
async def empty_body(reply: Reply) -> None:
    reply.head()
    reply.finish(reason=None)
