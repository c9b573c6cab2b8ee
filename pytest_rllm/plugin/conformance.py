"""The conformance suite: does an engine do what its adapter declares?

The author of an adapter subclasses :class:`EngineConformance` in a test file, and runs it against
the real engine::

    from pytest_rllm import EngineConformance

    class TestMyEngine(EngineConformance):
        engine = "my-engine"  # or "my-engine@http://host:8000", of a server that runs

Every capability that is declared is tried, and everything that is not declared must be refused
before a server is started. What cannot be tried is skipped with the reason.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import pytest

from ..datasets.hub import BOXED
from ..datasets.prompts import Prompt
from ..engines import engine_named
from ..engines.base import Endpoint
from ..engines.capabilities import COUNTERS, SPECULATION, Capabilities
from ..engines.http import ask
from ..engines.pool import Pool
from ..engines.server import Attached, Server, served_as
from ..experiment.serving import Serving
from ..experiment.workloads import Sampling, closed
from ..loadgen.client import Request
from ..loadgen.pages import Scrape
from ..loadgen.run import drive
from ..models import ModelPair, pair_named
from ..records.header import Header
from ..records.run import Run
from ..records.sse import Stream, events, parse
from ..records.writer import RunWriter
from ..telemetry.prometheus import Page
from .options import let_in

REASONING = frozenset({"reasoning", "reasoning_content"})
"""Fields of a delta in which reasoning is understood."""
POOL = pytest.StashKey[Pool]()
TOKENS = 24
IDLE_WITHIN_S = 60.0
PROMPTS = tuple(
    Prompt(
        id=f"conformance-{n}",
        text=f"Work modulo 100. a={n}; b=a+{n + 13}; c=b*3; d=c-{n}; e=d+b. Find e.{BOXED}",
        answer=str((4 * (2 * n + 13) - n) % 100),
        tier="medium",
        kind="math",
        template="conformance",
    )
    for n in range(21, 29)
)
OPTIONAL = {
    "plain": Serving(model="plain"),
    "prefix caching": Serving(prefix_caching=True),
    "ngram": Serving(speculative="ngram"),
    "draft": Serving(speculative="draft"),
    "fp8 KV": Serving(kv_cache_dtype="fp8"),
    "quantized": Serving(quantization="fp8"),
    "two GPUs": Serving(tensor_parallel=2),
    "flags": Serving(flags=("--a-flag-of-nobody",)),
}


class EngineConformance:
    """Tests of one engine's adapter; subclass it and say which engine.

    Attributes:
        engine: as ``--rllm-engine`` takes it.
        pair: the models, as ``--rllm-model`` takes them; the bundled pair by default.
        start_s: seconds in which a server must be healthy.
        small_kv_cache: what the engine calls a type of the KV cache that is smaller than its own.
        model_name: what a server that runs already calls the model; None: it is asked.

    Options of the command line that name keys, headers and a CA file hold for it, too.
    """

    engine: ClassVar[str]
    pair: ClassVar[str] = "tiny"
    start_s: ClassVar[float] = 300.0
    small_kv_cache: ClassVar[str] = "fp8"
    model_name: ClassVar[str | None] = None

    # ---- what the tests share

    @pytest.fixture
    def pool(
        self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Pool:
        """The servers of this class's tests, stopped when the last one has ended."""
        tests = request.node.getparent(pytest.Class)
        if POOL not in tests.stash:
            tests.stash[POOL] = Pool(tmp_path_factory.mktemp("servers"), start_s=self.start_s)
            tests.addfinalizer(tests.stash[POOL].close)
        pool: Pool = tests.stash[POOL]
        return pool

    @pytest.fixture
    def adapter(self, request: pytest.FixtureRequest) -> Endpoint:
        """The engine under test."""
        let_in(request.config, self.engine)
        return self._engine()

    def _engine(self) -> Endpoint:
        return engine_named(self.engine, named=self.model_name is not None)

    @pytest.fixture
    def can(self, adapter: Endpoint) -> Capabilities:
        """What it declares."""
        return adapter.capabilities

    @pytest.fixture
    def models(self) -> ModelPair:
        """The pair that is served."""
        pair = pair_named(self.pair)
        return pair if self.model_name is None else replace(pair, served_name=self.model_name)

    @pytest.fixture
    def server(self, pool: Pool, adapter: Endpoint, models: ModelPair) -> Server:
        """A server of the reasoning model with nothing else on."""
        return pool.serve(adapter, Serving(), models)

    @pytest.fixture
    def served(
        self, pool: Pool, adapter: Endpoint, models: ModelPair
    ) -> Callable[[Serving], Server]:
        """Starts a server, or skips where that serving is not declared."""

        def start(serving: Serving) -> Server:
            if reason := adapter.cannot(served_as(serving, models)):
                pytest.skip(reason)
            if serving.speculative == "draft" and models.draft is None:
                pytest.skip(f"the model pair {models.name!r} has no draft model")
            return pool.serve(adapter, serving, models)

        return start

    # ---- who it is

    def test_it_tells_its_version_and_a_label(self, adapter: Endpoint) -> None:
        """Both stand in every record; neither may be empty or change from call to call."""
        version = adapter.version()
        assert version.strip(), "version() is empty"
        assert adapter.version() == version
        assert adapter.distribution.strip(), "distribution is empty"
        assert adapter.label.strip(), "label is empty"
        assert adapter.key == self._engine().key

    def test_its_server_is_healthy(self, adapter: Endpoint, server: Server) -> None:
        """It answers at ``health_path``."""
        assert server.alive
        assert server.answers(adapter.health_path)

    # ---- what it streams

    def test_a_stream_ends_with_a_reason_and_tells_its_usage(self, server: Server) -> None:
        """Deltas with text, a finish reason, the tokens of prompt and answer."""
        stream = _stream(server, Sampling(TOKENS, temperature=0))
        assert stream.error is None
        assert stream.finish_reason in ("stop", "length")
        assert stream.deltas.text(), "no text in the stream"
        assert 0 < stream.usage["completion_tokens"] <= TOKENS
        assert stream.usage["prompt_tokens"] > 0

    def test_the_role_is_no_token(self, server: Server) -> None:
        """An event that only opens the answer counts no token."""
        raw = _raw(server, Sampling(TOKENS, temperature=0))
        first = json.loads(next(data for _, data in events([(0.0, raw)])))
        delta = first["choices"][0]["delta"] if first.get("choices") else {}
        if any(delta.get(name) for name in ("content", *REASONING)):
            pytest.skip("the first event carries text already: no event for the role alone")
        assert not (first.get("usage") or {}).get("completion_tokens")

    def test_reasoning_comes_in_a_field_of_its_own(self, server: Server, can: Capabilities) -> None:
        """Where declared: in a field that is understood, and not inside the answer."""
        if not can.reasoning:
            pytest.skip("the engine declares no field for reasoning")
        stream = _stream(server, Sampling(TOKENS, temperature=0))
        assert REASONING & set(stream.deltas.fields), f"deltas came in {stream.deltas.fields}"
        assert "<think>" not in stream.deltas.text("content")

    def test_the_plain_model_does_not_reason(self, served: Callable[[Serving], Server]) -> None:
        """All its text is the answer."""
        stream = _stream(served(OPTIONAL["plain"]), Sampling(TOKENS, temperature=0))
        assert stream.error is None
        assert stream.deltas.text("content"), f"deltas came in {stream.deltas.fields}"
        assert not REASONING & set(stream.deltas.fields)

    def test_a_fixed_length_is_kept(self, server: Server, can: Capabilities) -> None:
        """Where declared: exactly ``max_tokens``, however short the answer would be."""
        if not can.fixed_length:
            pytest.skip("the engine declares no answers of a fixed length")
        for tokens in (3, 5 * TOKENS):
            stream = _stream(server, Sampling(tokens, fixed_length=True))
            assert (stream.usage["completion_tokens"], stream.finish_reason) == (tokens, "length")

    def test_every_delta_tells_its_tokens(self, server: Server, can: Capabilities) -> None:
        """Where declared: they add up to those of the usage."""
        if not can.token_counts:
            pytest.skip("the engine declares no token counts of deltas")
        stream = _stream(server, Sampling(TOKENS, temperature=0))
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

    # ---- what it measures of itself

    def test_declared_series_are_on_the_page_and_counters_grow(
        self, server: Server, can: Capabilities, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """Read beside a run, as when a finding is measured."""
        wanted = can.series_of(server.serving)
        if not wanted:
            pytest.skip("the engine declares no series of a metrics page")
        run = _run(server, tmp_path_factory)
        assert run.closing is not None
        assert run.closing["telemetry_errors"] == {}
        missing = _page(server).missing
        assert not wanted & missing.keys(), "\n".join(missing.values())
        assert wanted <= run.series.keys()
        grown = {n: run.series[n][1][-1] - run.series[n][1][0] for n in wanted & set(COUNTERS)}
        assert all(value >= 0 for value in grown.values()), f"a counter shrank: {grown}"
        used = [sample.usage for sample in run.samples]
        for name, field in (
            ("generation_tokens", "completion_tokens"),
            ("prompt_tokens", "prompt_tokens"),
        ):
            if name in grown:
                assert grown[name] == sum(usage[field] for usage in used)
        if "kv_use" in wanted:
            assert 0 <= min(run.series["kv_use"][1]) <= max(run.series["kv_use"][1]) <= 1
        if "running" in wanted:
            assert max(run.series["running"][1]) >= 1, "no request was seen running"

    def test_an_idle_server_runs_nothing(self, server: Server, can: Capabilities) -> None:
        """Requests in flight are gone from the gauges when their answers have ended."""
        gauges = {"running", "waiting"} & can.series
        if not gauges:
            pytest.skip("the engine declares no gauges of requests")
        _stream(server, Sampling(TOKENS))
        given_up = time.monotonic() + IDLE_WITHIN_S
        while any(_page(server).values[name] for name in gauges):
            assert time.monotonic() < given_up, f"not idle: {_page(server).values}"
            time.sleep(0.1)

    # ---- optimisations

    def test_prefix_caching_is_really_on(
        self, served: Callable[[Serving], Server], can: Capabilities
    ) -> None:
        """Where declared: a prompt that is asked again is found in the cache."""
        server = served(OPTIONAL["prefix caching"])
        if "prefix_hits" not in can.series:
            pytest.skip("the engine declares prefix caching, and no series 'prefix_hits' of it")
        for _ in range(2):
            assert _stream(server, Sampling(TOKENS)).error is None
        assert _page(server).values["prefix_hits"] > 0

    def test_the_prefix_cache_can_be_emptied(
        self, served: Callable[[Serving], Server], can: Capabilities
    ) -> None:
        """Where the engine has a way to: a prompt that was asked before is not found any more."""
        server = served(OPTIONAL["prefix caching"])
        if "prefix_hits" not in can.series:
            pytest.skip("the engine declares prefix caching, and no series 'prefix_hits' of it")
        if not server.engine.empty_cache(server.url):
            pytest.skip("the engine has no way to empty its prefix cache")
        hits = []
        for empty in (False, False, True):
            if empty:
                server.engine.empty_cache(server.url)
            before = _page(server).values["prefix_hits"]
            assert _stream(server, Sampling(TOKENS)).error is None
            hits.append(_page(server).values["prefix_hits"] - before)
        assert hits[1] > 0 == hits[2]

    def test_prefix_caching_is_off_where_it_is_not_asked_for(
        self, server: Server, can: Capabilities
    ) -> None:
        """The default serving is the base of every comparison."""
        if "prefix_hits" not in can.series:
            pytest.skip("the engine declares no series 'prefix_hits'")
        for _ in range(2):
            assert _stream(server, Sampling(TOKENS)).error is None
        assert _page(server).values["prefix_hits"] == 0

    @pytest.mark.parametrize("kind", ["ngram", "draft"])
    def test_speculation_is_really_on(
        self,
        served: Callable[[Serving], Server],
        can: Capabilities,
        kind: str,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        """Where declared: tokens are drafted, and no more are accepted."""
        server = served(OPTIONAL[kind])
        told = can.series & set(SPECULATION)
        if not told:
            pytest.skip("the engine declares speculation, and no series of it")
        run = _run(server, tmp_path_factory)
        assert all(sample.error is None for sample in run.samples)
        page = _page(server)
        assert not told & page.missing.keys(), "\n".join(page.missing.values())
        assert all(page.values[name] > 0 for name in told - {"accepted_tokens"})
        assert page.values.get("accepted_tokens", 0) <= page.values.get("draft_tokens", math.inf)

    def test_a_kv_cache_of_another_type_holds_more(
        self, server: Server, served: Callable[[Serving], Server], can: Capabilities
    ) -> None:
        """Where declared: a smaller one has room for more tokens than the model's own type."""
        smaller = served(Serving(kv_cache_dtype=self.small_kv_cache))
        if "kv_capacity_tokens" not in can.series:
            pytest.skip("the engine declares no series 'kv_capacity_tokens'")
        rooms = [_page(one).values["kv_capacity_tokens"] for one in (smaller, server)]
        assert rooms[0] > rooms[1]

    # ---- what it cannot do, and its end

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

    def test_a_server_is_gone_when_it_is_stopped(
        self, pool: Pool, adapter: Endpoint, models: ModelPair
    ) -> None:
        """One that we started; one that ran already stays up."""
        server = pool.serve(adapter, Serving(), models)
        server.stop()
        ours = not isinstance(server, Attached)
        assert server.alive is not ours
        assert server.answers(adapter.health_path) is not ours


def _raw(server: Server, sampling: Sampling) -> bytes:
    return ask(f"{server.url}/v1/chat/completions", server.body(PROMPTS[0], sampling))


def _stream(server: Server, sampling: Sampling) -> Stream:
    return parse([(0.0, _raw(server, sampling))])


def _page(server: Server) -> Page:
    assert server.engine.metrics_path, "series are declared, and metrics_path is None"
    return server.engine.read_metrics(server.engine.page(server.url), server.serving)


def _run(server: Server, folders: pytest.TempPathFactory) -> Run:
    """All prompts, four at a time, measured as a finding measures them."""
    engine = server.engine
    fixed = engine.capabilities.fixed_length
    sampling = Sampling(4 * TOKENS, fixed_length=fixed)
    with RunWriter(folders.mktemp("run") / "run.jsonl", Header()) as writer:
        return drive(
            server.url,
            [
                Request(prompt, server.body(prompt, sampling), None, engine.closes_connections)
                for prompt in PROMPTS
            ],
            closed(4),
            writer,
            scrape=Scrape(
                server.url + (engine.metrics_path or ""),
                lambda text: engine.read_metrics(text, server.serving),
                every_s=0.02,
                more=tuple(server.url + path for path in engine.more_pages),
            ),
        )
