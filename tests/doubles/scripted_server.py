"""A server in a thread of the test that answers each prompt by a script, or by any coroutine.

Client and server read the same clock, the monotonic one, so tests can compare a record with what
was sent and when.

The plugin ships another server, ``pytest_rllm.loadgen.reference_server``. That one measures how
faithful the client is: it runs in a process of its own, is fast enough for thousands of streams,
and always sends valid responses whose texts are timestamps. This one tests that the client is
correct: it sends any text in any packing, responses that break off or break the protocol (see
``hostile_server``), and tells the test what it sent and which clients hung up. It is too slow to
measure a client by.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Self

# Characters of one to four bytes, and one that str.splitlines takes for the end of a line.
WORDS = ("so", " 42", " naïve", " 答案", " 🙂", " line\u2028break", ' "q"\n', " \\boxed{7}")


@dataclass(frozen=True)
class SentDelta:
    """One delta as it was sent; ``at`` is when its last byte was handed to the socket, in s."""

    at: float
    field: str
    tokens: int
    text: str
    visible: bool


@dataclass(frozen=True)
class AnswerScript:
    """The deltas that answer one request, and their schedule; equal scripts send the same.

    Attributes:
        style: how reasoning is marked: the field of its deltas, or ``<think>`` tags.
        counts: how the number of tokens is reported: running usage, token ids, or not at all.
        reasoning, answer: number of deltas of each.
        first_s, gap_s, think_s: seconds before the first delta, between deltas (mean), and
            between reasoning and answer.
        events_per_write, writes_per_event: how events are packed; one of them is 1.
        seed: draws texts, token counts and gaps.
    """

    style: Literal["reasoning", "reasoning_content", "think"] = "reasoning"
    counts: Literal["usage", "token_ids"] | None = "usage"
    reasoning: int = 7
    answer: int = 4
    first_s: float = 0.02
    gap_s: float = 0.005
    think_s: float = 0.0
    events_per_write: int = 1
    writes_per_event: int = 1
    seed: int = 0

    def deltas(self) -> list[SentDelta]:
        """The deltas that will be sent; their ``at`` is 0."""
        rng = random.Random(self.seed)
        inside = "content" if self.style == "think" else self.style

        def some(n: int, name: str, visible: bool) -> list[SentDelta]:
            return [
                SentDelta(0, name, rng.randint(1, 4), rng.choice(WORDS), visible) for _ in range(n)
            ]

        sent = some(self.reasoning, inside, False)
        if self.style == "think" and self.reasoning:
            opened, closed = ("<think>\n", "\n</think>\n\n")
            sent = [
                SentDelta(0, inside, 1, opened, False),
                *sent,
                SentDelta(0, inside, 1, closed, False),
            ]
        return sent + some(self.answer, "content", True)


@dataclass
class Reply:
    """One response that is being sent; hostile answers are written with its methods."""

    server: ScriptedServer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    prompt: str
    open: bool = True
    chunked: bool = True
    sent: list[SentDelta] = field(default_factory=list)

    @property
    def gone(self) -> bool:
        """Whether the client hung up."""
        return self.reader.at_eof() or self.reader.exception() is not None

    def head(self, status: str = "200 OK", kind: str = "text/event-stream", *more: str) -> None:
        """Status line and headers."""
        framing = "Transfer-Encoding: chunked" if self.chunked else "Connection: close"
        lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", framing, *more]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())

    def write(self, data: bytes) -> None:
        """Hand bytes of the body to the socket."""
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data)

    def event(self, content: object) -> None:
        self.write(_event(content))

    async def play(self, script: AnswerScript, upto: int | None = None) -> None:
        """Send the script's deltas, or only the first ones, on its schedule."""
        rng = random.Random(script.seed + 1)
        self.event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        pause, counted = script.first_s, 0
        events: list[tuple[SentDelta, bytes]] = []
        for sent in script.deltas()[:upto]:
            counted += sent.tokens
            events.append((sent, _event(_chunk(sent, script.counts, counted))))
        for i in range(0, len(events), script.events_per_write):
            group = events[i : i + script.events_per_write]
            if group[0][0].visible and i and not events[i - 1][0].visible:
                pause += script.think_s
            data = b"".join(piece for _, piece in group)
            cuts = sorted(rng.sample(range(1, len(data)), script.writes_per_event - 1))
            for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                await asyncio.sleep(pause)
                if self.gone:
                    return
                now = time.monotonic()
                if end == len(data):
                    self.sent += [replace(sent, at=now) for sent, _ in group]
                    self.server.tokens += sum(sent.tokens for sent, _ in group)
                self.write(data[start:end])
                pause = 0.002
            pause = rng.uniform(0, 2 * script.gap_s)

    def finish(self, reason: str | None = "stop") -> None:
        """End the response as an engine does; without a reason, end only the HTTP body."""
        self.server.ended(self)
        if reason:
            self.event({"choices": [{"delta": {}, "finish_reason": reason}]})
            self.write(b"data: [DONE]\n\n")
        if self.chunked:
            self.writer.write(b"0\r\n\r\n")
        else:
            self.open = False


Answer = AnswerScript | Callable[[Reply], Awaitable[None]]


class ScriptedServer:
    """A scripted server on a loopback port, in a thread of its own; a context manager.

    Args:
        default: the answer to prompts that have none in ``answers``.
        slots: number of requests that are answered at the same time; others wait.

    Attributes:
        answers: answers by prompt.
        sent: the deltas that were sent, by prompt.
        hung_up: prompts whose client closed the connection before the response was complete.
        in_flight, most_in_flight: number of requests that have arrived and not ended.
        tokens: number of tokens sent so far, over all requests; the counter on ``/metrics``.
        pages: number of times that ``/metrics`` was read.
        page_status: HTTP status of the n-th reading of ``/metrics``; None: it is never answered.
    """

    def __init__(self, default: Answer | None = None, slots: int = 1000) -> None:
        self.default = default or AnswerScript()
        self.answers: dict[str, Answer] = {}
        self.sent: dict[str, list[SentDelta]] = {}
        self.hung_up: list[str] = []
        self.most_in_flight = self.tokens = self.pages = 0
        self.page_status: Callable[[int], str | None] = lambda _number: "200 OK"
        self._active: set[int] = set()
        self._slots = slots
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    @property
    def in_flight(self) -> int:
        return len(self._active)

    def ended(self, reply: Reply) -> None:
        self._active.discard(id(reply))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._free = asyncio.Semaphore(self._slots)
        tasks: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            with contextlib.suppress(asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
                await self._serve(reader, writer)
            writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET /metrics "):
                self.pages += 1
                page, status = f"tokens_total {self.tokens}\n", self.page_status(self.pages)
                if status is None:
                    await asyncio.Event().wait()
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Length: {len(page)}\r\n\r\n{page}".encode()
                )
                continue
            assert head.startswith(b"POST /v1/chat/completions "), head
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            assert length is not None
            body = json.loads(await reader.readexactly(int(length[1])))
            reply = Reply(self, reader, writer, body["messages"][-1]["content"])
            self.sent[reply.prompt] = reply.sent
            self._active.add(id(reply))
            self.most_in_flight = max(self.most_in_flight, len(self._active))
            try:
                async with self._free:
                    await self._reply(reply)
                await writer.drain()
            finally:
                self.ended(reply)
                if reply.gone:
                    self.hung_up.append(reply.prompt)
            if not reply.open:
                return

    async def _reply(self, reply: Reply) -> None:
        answer = self.answers.get(reply.prompt, self.default)
        if isinstance(answer, AnswerScript):
            reply.head()
            await reply.play(answer)
            reply.finish()
        else:
            await answer(reply)


def _event(content: object) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"


def _chunk(sent: SentDelta, counts: str | None, counted: int) -> dict[str, object]:
    choice: dict[str, object] = {"index": 0, "delta": {sent.field: sent.text}}
    if counts == "token_ids":
        choice["token_ids"] = list(range(sent.tokens))
    usage = {"usage": {"completion_tokens": counted}} if counts == "usage" else {}
    return {"object": "chat.completion.chunk", "choices": [choice], **usage}
