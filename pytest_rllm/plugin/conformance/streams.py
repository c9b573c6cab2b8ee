"""What an engine streams."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable

import pytest

from ...engines.capabilities import Capabilities
from ...engines.http import ask
from ...engines.server import Server
from ...experiment.serving import Serving
from ...experiment.workloads import Sampling
from ...loadgen.client import PATH
from ...loadgen.http import Connections, Exchange
from ...models import ModelPair
from ...records.sse import events
from .base import (
    OPTIONAL,
    PROMPTS,
    REASONING,
    STALL_S,
    TOKENS,
    Chapter,
    idle,
    long_answer,
    page_of,
    raw_answer,
    sent,
    streamed,
)

CUT = 5
"""Tokens of a short answer."""
HANG_UP_AFTER = 8
"""Parts of an answer after which a client leaves."""


class Streams(Chapter):
    """Deltas, fields, finish reasons, counts of tokens."""

    def test_a_stream_ends_with_a_reason_and_tells_its_usage(self, server: Server) -> None:
        """Deltas with text, a finish reason, the tokens of prompt and answer."""
        stream = streamed(server, Sampling(TOKENS, temperature=0))
        assert stream.error is None
        assert stream.finish_reason in ("stop", "length")
        assert stream.deltas.text(), "no text in the stream"
        assert 0 < stream.usage["completion_tokens"] <= TOKENS
        assert stream.usage["prompt_tokens"] > 0

    def test_the_role_is_no_token(self, server: Server) -> None:
        """An event that only opens the answer counts no token."""
        raw = raw_answer(server, server.body(PROMPTS[0], Sampling(TOKENS, temperature=0)))
        first = json.loads(next(event.data for event in events([(0.0, raw)])))
        delta = first["choices"][0]["delta"] if first.get("choices") else {}
        if any(delta.get(name) for name in ("content", *REASONING)):
            pytest.skip("the first event carries text already: no event for the role alone")
        assert not (first.get("usage") or {}).get("completion_tokens")

    def test_reasoning_comes_in_a_field_of_its_own(self, server: Server, can: Capabilities) -> None:
        """Where declared: in a field that is understood, and not inside the answer."""
        if not can.reasoning:
            pytest.skip("the engine declares no field for reasoning")
        stream = streamed(server, Sampling(TOKENS, temperature=0))
        assert REASONING & set(stream.deltas.fields), f"deltas came in {stream.deltas.fields}"
        assert "<think>" not in stream.deltas.text("content")

    def test_the_plain_model_does_not_reason(self, served: Callable[[Serving], Server]) -> None:
        """All its text is the answer."""
        stream = streamed(served(OPTIONAL["plain"]), Sampling(TOKENS, temperature=0))
        assert stream.error is None
        assert stream.deltas.text("content"), f"deltas came in {stream.deltas.fields}"
        assert not REASONING & set(stream.deltas.fields)

    def test_a_fixed_length_is_kept(self, server: Server, can: Capabilities) -> None:
        """Where declared: exactly ``max_tokens``, however short the answer would be."""
        if not can.fixed_length:
            pytest.skip("the engine declares no answers of a fixed length")
        for tokens in (3, 5 * TOKENS):
            stream = streamed(server, Sampling(tokens, fixed_length=True))
            assert (stream.usage["completion_tokens"], stream.finish_reason) == (tokens, "length")

    def test_every_delta_tells_its_tokens(self, server: Server, can: Capabilities) -> None:
        """Where declared: they add up to those of the usage."""
        if not can.token_counts:
            pytest.skip("the engine declares no token counts of deltas")
        stream = streamed(server, Sampling(TOKENS, temperature=0))
        assert stream.deltas.counted, "a delta without its tokens"
        assert int(stream.deltas.tokens.sum()) == stream.usage["completion_tokens"]

    def test_log_probabilities_are_told(self, server: Server, can: Capabilities) -> None:
        """Where declared: one per token, in nats."""
        if not can.log_probabilities:
            pytest.skip("the engine declares no log probabilities")
        body = server.greedy_body(PROMPTS[0].text, TOKENS, log_probabilities=True)
        answer = json.loads(ask(f"{server.url}/v1/chat/completions", body))
        told = server.engine.log_probabilities(answer)
        assert len(told) == answer["usage"]["completion_tokens"]
        assert all(math.isfinite(value) and value <= 1e-6 for value in told)

    def test_an_answer_that_is_cut_off_ends_with_length(self, server: Server) -> None:
        """At ``max_tokens``, and exactly there."""
        stream = streamed(server, Sampling(CUT, temperature=0))
        assert (stream.finish_reason, stream.usage["completion_tokens"]) == ("length", CUT)

    def test_an_answer_that_ends_by_itself_ends_with_stop(
        self, server: Server, models: ModelPair
    ) -> None:
        """With a budget that suffices for most answers."""
        told = []
        for prompt in PROMPTS:
            stream = streamed(server, Sampling(models.enough), prompt)
            told.append((stream.finish_reason, stream.usage["completion_tokens"]))
            if told[-1][1] < models.enough:
                break
        else:
            pytest.skip(f"no answer of {models.enough} tokens or fewer: {told}")
        assert told[-1][0] == "stop", f"finish reason and tokens: {told}"

    def test_a_seed_decides_what_is_sampled(self, server: Server, can: Capabilities) -> None:
        """Where declared: the same one gives the same text, another one another text."""
        if not can.seeds:
            pytest.skip("the engine declares no seeds")
        sampling = Sampling(TOKENS, temperature=1, top_p=1)
        texts = [
            [streamed(server, sampling, prompt, seed=seed).deltas.text() for prompt in PROMPTS[:4]]
            for seed in (17, 17, 18)
        ]
        assert texts[0] == texts[1], "one seed, two texts"
        assert texts[0] != texts[2], "two seeds, one text"

    def test_the_connection_is_kept_as_declared(self, server: Server) -> None:
        """Two answers on one connection; or, where declared, a connection each."""
        closes = server.engine.closes_connections
        answers, opened = asyncio.run(_on_connections(server, closes=False))
        if closes:
            told = [answer.error for answer in answers]
            assert opened > 1 or any(told), "closes_connections is declared, and it keeps them"
            answers, opened = asyncio.run(_on_connections(server, closes=True))
        assert [(answer.status, answer.error) for answer in answers] == [(200, None)] * 2
        assert opened == 1 + closes, f"{opened} connections, closes_connections is {closes}"

    def test_a_stream_that_the_client_leaves_is_given_up(
        self, server: Server, can: Capabilities, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """Soon it runs nothing any more, and it has not made all the tokens."""
        if not {"running", "generation_tokens"} <= can.series or not can.fixed_length:
            pytest.skip(
                "the engine declares no fixed length, or no series 'running' or "
                "'generation_tokens': whether it gives up is not seen"
            )
        idle(server)
        before = page_of(server).values["generation_tokens"]
        asked = long_answer(server)
        run = sent(server, tmp_path_factory, asked, 1, PROMPTS[:1], cut_after=HANG_UP_AFTER)
        assert run.closing is not None
        assert run.closing["cut"] == 1, "the answer was over before the client left"
        idle(server)
        assert page_of(server).values["generation_tokens"] - before < asked.max_tokens

    def test_it_answers_after_a_client_left(
        self, server: Server, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """The next request is answered as any other."""
        asked = long_answer(server)
        sent(server, tmp_path_factory, asked, 1, PROMPTS[:1], cut_after=HANG_UP_AFTER)
        assert streamed(server, Sampling(TOKENS)).error is None


async def _on_connections(server: Server, *, closes: bool) -> tuple[list[Exchange], int]:
    """Two answers, one after the other, and on how many connections they came."""
    body = json.dumps(server.body(PROMPTS[0], Sampling(CUT))).encode()
    async with Connections(server.url, stall_s=STALL_S) as connections:
        request = connections.post(PATH, body, closes=closes)
        answers = [await connections.exchange(request) for _ in range(2)]
        return answers, connections.opened
