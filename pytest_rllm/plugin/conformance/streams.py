"""What an engine streams."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest

from ...engines.base import Capabilities
from ...engines.http import ask
from ...engines.pool import Server
from ...experiment.serving import Serving
from ...experiment.workloads import Sampling
from ...records.sse import events
from .base import OPTIONAL, PROMPTS, REASONING, TOKENS, Chapter, raw_answer, streamed


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
        raw = raw_answer(server, Sampling(TOKENS, temperature=0))
        first = json.loads(next(data for _, data in events([(0.0, raw)])))
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
