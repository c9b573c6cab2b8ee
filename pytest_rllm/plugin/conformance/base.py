"""What the chapters of the conformance suite share: the engine, its servers, and requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import pytest

from ...datasets.hub import BOXED
from ...datasets.prompts import Prompt
from ...engines import engine_named
from ...engines.base import Capabilities, Endpoint
from ...engines.http import ask
from ...engines.pool import Pool, Server, served_as
from ...experiment.serving import Serving
from ...experiment.workloads import Sampling, closed
from ...loadgen.client import Request
from ...loadgen.pages import Scrape
from ...loadgen.run import drive
from ...models import ModelPair, pair_named
from ...records.header import Header
from ...records.run import Run
from ...records.sse import Stream, parse
from ...records.writer import RunWriter
from ...telemetry.prometheus import Page
from ..options import let_in

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


class Chapter:
    """Tests of one subject; all chapters together are the suite.

    Attributes are described in :class:`.EngineConformance`.
    """

    engine: ClassVar[str]
    pair: ClassVar[str] = "tiny"
    start_s: ClassVar[float] = 300.0
    small_kv_cache: ClassVar[str] = "fp8"
    model_name: ClassVar[str | None] = None

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


def raw_answer(server: Server, sampling: Sampling) -> bytes:
    return ask(f"{server.url}/v1/chat/completions", server.body(PROMPTS[0], sampling))


def streamed(server: Server, sampling: Sampling) -> Stream:
    return parse([(0.0, raw_answer(server, sampling))])


def page_of(server: Server) -> Page:
    assert server.engine.metrics_path, "series are declared, and metrics_path is None"
    return server.engine.read_metrics(server.engine.page(server.url), server.serving)


def measured(server: Server, folders: pytest.TempPathFactory) -> Run:
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
