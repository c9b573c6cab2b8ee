"""The mock engine's server: OpenAI's chat completions over HTTP/1.1, with asyncio alone.

It keeps an absolute schedule per answer, so that a late event does not delay those behind it.
Faults are shares of the streamed requests, spread evenly: the third of every three for 0.34.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .answers import STEPS, Author, Key, Said, answers_of

MODEL = "under-test"
METRICS = {
    "kv_use": "mock:kv_cache_used_ratio",
    "running": "mock:requests_running",
    "waiting": "mock:requests_waiting",
    "kv_capacity_tokens": "mock:kv_cache_capacity_tokens",
    "preemptions": "mock:preemptions_total",
    "generation_tokens": "mock:generated_tokens_total",
    "prompt_tokens": "mock:prompt_tokens_total",
    "prefix_queries": "mock:prefix_cache_queried_tokens_total",
    "prefix_hits": "mock:prefix_cache_hit_tokens_total",
    "prefill_s": "mock:prefill_seconds_total",
    "decode_s": "mock:decode_seconds_total",
    "drafts": "mock:drafts_total",
    "draft_tokens": "mock:draft_tokens_total",
    "accepted_tokens": "mock:accepted_draft_tokens_total",
}
"""Our names of series to the mock's own."""
ACCEPTANCE = 0.7
"""Probability that a drafted token is accepted, as long as those before it were."""


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The flags of a server; those that ``Serving(flags=...)`` may give have their help."""
    parser = argparse.ArgumentParser(
        prog="python -m pytest_rllm.engines.mock",
        description="A mock of a serving engine: seeded answers over real HTTP, no model.",
    )
    add = parser.add_argument
    add("--port", type=int, required=True)
    add("--host", default="127.0.0.1")
    add("--plain", action="store_true", help="answer without reasoning, and less often right")
    add("--context", type=int, default=1536, help="context in tokens")
    add("--kv-tokens", type=int, default=6400, help="capacity of the KV cache in tokens")
    add("--numerics", default="", help="another text gives other log probabilities")
    add("--prefix-caching", action="store_true")
    add("--speculative-tokens", type=int, default=0, help="tokens drafted per step; 0: off")
    add("--accuracy", type=_share, default=0.9, help="probability of a right answer")
    add("--answers", type=Path, help="JSON object: the right answer by the text of a prompt")
    add("--seed", type=int, default=0)
    add("--seconds-per-token", type=float, default=0.002)
    add("--first-token-s", type=float, default=0.01, help="seconds before the first token")
    add("--max-running", type=int, default=64, help="requests that run at a time; others wait")
    faults = parser.add_argument_group("faults").add_argument
    faults("--fail-share", type=_share, default=0.0, help="streams answered with HTTP status 500")
    faults("--empty-share", type=_share, default=0.0, help="streams that end without any token")
    faults("--reasoning-field", default="reasoning_content", help="name of a delta's reasoning")
    faults("--finish-reason", help="how every stream ends, whatever ended it")
    faults("--lenient", action="store_true", help="answer requests that cannot be served")
    faults("--ignore-seeds", action="store_true", help="sample anew though a request has a seed")
    faults("--without-metric", action="append", default=[], help="leave a name out of /metrics")
    return parser.parse_args(argv)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


@dataclass
class Server:
    """What goes on in a mock engine.

    Attributes:
        chosen: the flags.
        counters: by our names of series.
        active: per running request the tokens that it holds in the KV cache.
        waiting: requests that wait for a place.
    """

    chosen: argparse.Namespace
    counters: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    active: dict[int, int] = field(default_factory=dict)
    waiting: int = 0
    _seen: set[str] = field(default_factory=set)
    _asked: Counter[str] = field(default_factory=Counter)
    _requests: int = 0
    _streams: int = 0

    def __post_init__(self) -> None:
        chosen = self.chosen
        answers = answers_of(chosen.answers) if chosen.answers else {}
        self.author = Author(chosen.accuracy, not chosen.plain, chosen.seed, answers)
        self._places = asyncio.Semaphore(chosen.max_running)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until the client hangs up."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                method, path, _ = head.split(" ", 2)
                length = next(
                    (
                        int(line.partition(":")[2])
                        for line in head.split("\r\n")
                        if line.lower().startswith("content-length:")
                    ),
                    0,
                )
                content = await reader.readexactly(length)
                await self._answer(writer, method, path, content)
                await writer.drain()
        writer.close()

    async def _answer(
        self, writer: asyncio.StreamWriter, method: str, path: str, content: bytes
    ) -> None:
        if (method, path) == ("POST", "/v1/chat/completions"):
            try:
                body = json.loads(content)
                *before, last = (str(message["content"]) for message in body["messages"])
                prompt = NEXT.join((*before, last))
                self._check(body, prompt)
            except (ValueError, LookupError, TypeError) as error:
                _say(writer, {"error": {"message": f"{type(error).__name__}: {error}"}}, 400)
                return
            await self._complete(writer, body, prompt)
        elif path == "/metrics":
            _say(writer, self.page(), kind="text/plain; version=0.0.4; charset=utf-8")
        elif path == "/health":
            _say(writer, "", kind="text/plain")
        elif path == "/version":
            _say(writer, {"version": "mock"})
        elif path == "/v1/models":
            model = {"id": MODEL, "object": "model", "owned_by": "mock"}
            length = self.chosen.context
            _say(writer, {"object": "list", "data": [model | {"max_model_len": length}]})
        else:
            _say(writer, {"error": {"message": f"there is no {method} {path} here"}}, 404)

    async def _complete(
        self, writer: asyncio.StreamWriter, body: dict[str, Any], prompt: str
    ) -> None:
        said = self._said(body, prompt)
        streamed = bool(body.get("stream"))
        if streamed:
            self._streams += 1
            if self._due(self.chosen.fail_share):
                _say(writer, {"error": {"message": "a fault that --fail-share asks for"}}, 500)
                return
            if self._due(self.chosen.empty_share):
                said = Said((), ())
        self._requests += 1
        number = self._requests
        self.waiting += 1
        async with self._places:
            self.waiting -= 1
            answer = Answer(self, writer, body, prompt, said, number)
            try:
                await (answer.stream() if streamed else answer.whole())
            finally:
                self.active.pop(number, None)

    def _check(self, body: dict[str, Any], prompt: str) -> None:
        if self.chosen.lenient:
            return
        if tokens_of(prompt) > self.chosen.context:
            raise ValueError(
                f"a prompt of {tokens_of(prompt)} tokens, context {self.chosen.context}"
            )
        if int(body.get("max_tokens") or 0) < 0:
            raise ValueError(f"max_tokens of {body['max_tokens']}")

    def _due(self, share: float) -> bool:
        """Whether the present stream is one of that share."""
        return int(self._streams * share) > int((self._streams - 1) * share)

    def _said(self, body: dict[str, Any], prompt: str) -> Said:
        """Greedy answers are always the same, sampled ones are drawn by the request's seed, or anew
        each time."""
        repeat = 0
        seeded = body.get("seed") is not None and not self.chosen.ignore_seeds
        if body.get("temperature", 1) and seeded:
            repeat = -1 - abs(int(body["seed"]))
        elif body.get("temperature", 1):
            self._asked[prompt] += 1
            repeat = self._asked[prompt]
        told = body.get("mock") or {}  # our own client tells the mock what is right
        tier = told.get("tier")
        key = Key(str(told["answer"]), tier if tier in STEPS else "medium") if told else None
        author = self.author if body.get("reasons", True) else replace(self.author, reasons=False)
        said = author.write(prompt, key, repeat)
        room = max(0, self.chosen.context - tokens_of(prompt))
        limit = min(room, int(body.get("max_tokens") or room))
        return self.author.filled(said, limit) if body.get("fixed_length") else said.cut(limit)

    def prompted(self, prompt: str) -> int:
        """Count a prompt; returns how many of its tokens were found in the prefix cache."""
        tokens = tokens_of(prompt)
        self.counters["prompt_tokens"] += tokens
        if not self.chosen.prefix_caching:
            return 0
        parts = prompt.split(NEXT)
        starts = [NEXT.join(parts[: n + 1]) for n in range(len(parts))]
        known = max((tokens_of(start) for start in starts if start in self._seen), default=0)
        hit = min(known, tokens - 1)
        self._seen.update(starts)
        self.counters["prefix_queries"] += tokens
        self.counters["prefix_hits"] += hit
        return hit

    def page(self) -> str:
        """The metrics page. Counters of speculation are there while it is on."""
        gauges = {
            "kv_use": min(1.0, sum(self.active.values()) / self.chosen.kv_tokens),
            "running": len(self.active),
            "waiting": self.waiting,
            "kv_capacity_tokens": self.chosen.kv_tokens,
        }
        lines = []
        for ours, name in METRICS.items():
            drafted = ours in ("drafts", "draft_tokens", "accepted_tokens")
            if name in self.chosen.without_metric or (
                drafted and not self.chosen.speculative_tokens
            ):
                continue
            kind = "gauge" if ours in gauges else "counter"
            value = float(gauges.get(ours, self.counters[ours]))
            lines += [f"# TYPE {name} {kind}", f'{name}{{model="{MODEL}"}} {value}']
        lines += ["# TYPE mock:prefix_caching gauge"]
        lines += [f"mock:prefix_caching {float(self.chosen.prefix_caching)}"]
        return "\n".join([*lines, ""])


@dataclass
class Answer:
    """One answer on its way."""

    server: Server
    writer: asyncio.StreamWriter
    body: dict[str, Any]
    prompt: str
    said: Said
    number: int

    async def stream(self) -> None:
        """Role, deltas with running usage, finish reason, [DONE]."""
        chosen, writer = self.server.chosen, self.writer
        cached = self.server.prompted(self.prompt)
        self._hold(0)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        self._event([{"delta": {"role": "assistant", "content": ""}}], self._usage(0, cached))
        first_s = chosen.first_token_s * (0.2 if cached else 1.0)
        due = time.monotonic() + first_s
        self.server.counters["prefill_s"] += first_s
        done = 0
        for size in self._steps():
            await asyncio.sleep(due - time.monotonic())
            due += chosen.seconds_per_token
            self.server.counters["decode_s"] += chosen.seconds_per_token
            parts = {
                chosen.reasoning_field: self.said.reasoning[done : done + size],
                "content": self._answered(done, size),
            }
            delta = {name: "".join(tokens) for name, tokens in parts.items() if tokens}
            done += size
            self._hold(done)
            self.server.counters["generation_tokens"] += size
            self._event([{"delta": delta}], self._usage(done, cached))
            await writer.drain()
        self._event([{"delta": {}, "finish_reason": self._reason()}], self._usage(done, cached))
        self._event([], self._usage(done, cached))
        writer.write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async def whole(self) -> None:
        """The answer in one piece, with log probabilities where they are asked for."""
        chosen, tokens = self.server.chosen, self.said.reasoning + self.said.answer
        cached = self.server.prompted(self.prompt)
        self._hold(len(tokens))
        await asyncio.sleep(chosen.first_token_s + chosen.seconds_per_token * len(tokens))
        self.server.counters["generation_tokens"] += len(tokens)
        message = {"role": "assistant", "content": "".join(self.said.answer)}
        message |= {chosen.reasoning_field: "".join(self.said.reasoning)}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": self._reason()}
        if self.body.get("logprobs"):
            rng = random.Random(f"{chosen.seed} {chosen.numerics} {self.prompt}")  # noqa: S311
            told = [{"token": t, "logprob": -rng.uniform(0.001, 0.5)} for t in tokens]
            choice["logprobs"] = {"content": told}
        content: dict[str, Any] = {"id": f"mock-{self.number}", "object": "chat.completion"}
        content |= {"choices": [choice]}
        _say(self.writer, content | {"usage": self._usage(len(tokens), cached)})

    def _steps(self) -> list[int]:
        """Tokens per step: one, or more where drafted ones are accepted."""
        drafted, left, steps = self.server.chosen.speculative_tokens, len(self.said), []
        rng = random.Random(f"{self.server.chosen.seed} {self.prompt}")  # noqa: S311
        while left:
            accepted = 0
            while accepted < min(drafted, left - 1) and rng.random() < ACCEPTANCE:
                accepted += 1
            if drafted:
                self.server.counters["drafts"] += 1
                self.server.counters["draft_tokens"] += drafted
                self.server.counters["accepted_tokens"] += accepted
            steps.append(1 + accepted)
            left -= 1 + accepted
        return steps

    def _answered(self, done: int, size: int) -> tuple[str, ...]:
        """Tokens of the visible answer among the next ones."""
        first = done - len(self.said.reasoning)
        return self.said.answer[max(0, first) : max(0, first + size)]

    def _hold(self, tokens: int) -> None:
        self.server.active[self.number] = tokens_of(self.prompt) + tokens

    def _reason(self) -> str:
        limit = self.body.get("max_tokens")
        if self.server.chosen.finish_reason:
            return str(self.server.chosen.finish_reason)
        return "length" if limit and len(self.said) >= limit else "stop"

    def _usage(self, tokens: int, cached: int) -> dict[str, Any]:
        asked = tokens_of(self.prompt)
        return {
            "prompt_tokens": asked,
            "completion_tokens": tokens,
            "total_tokens": asked + tokens,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {
                "reasoning_tokens": min(tokens, len(self.said.reasoning))
            },
        }

    def _event(self, choices: list[dict[str, Any]], usage: dict[str, Any]) -> None:
        said = [{"index": 0, "finish_reason": None} | choice for choice in choices]
        content: dict[str, Any] = {"id": f"mock-{self.number}", "object": "chat.completion.chunk"}
        content |= {"model": MODEL, "choices": said, "usage": usage}
        self.writer.write(_chunk(b"data: " + json.dumps(content).encode() + b"\n\n"))


NEXT = "\x1e"
"""Between two messages of a prompt."""


def tokens_of(prompt: str) -> int:
    """Its length in the mock's tokens: words."""
    return max(1, len(prompt.split()))


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _say(
    writer: asyncio.StreamWriter, content: Any, status: int = 200, kind: str = "application/json"
) -> None:
    """One whole response."""
    data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
    reason = {200: "OK", 400: "Bad Request", 404: "Not Found", 500: "Internal Server Error"}
    head = f"HTTP/1.1 {status} {reason[status]}\r\nContent-Type: {kind}\r\n"
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)


async def serve(chosen: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = await asyncio.start_server(Server(chosen).connected, chosen.host, chosen.port)
    print(f"a mock engine, no model: listens on {chosen.host}:{chosen.port}", flush=True)
    await ended.wait()
    server.close()


def main(argv: Sequence[str]) -> int:
    """Run a mock engine as a process of its own."""
    asyncio.run(serve(options(argv)))
    return 0
