"""What the chapters of the conformance suite share: the engine, its servers, and requests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from ...datasets.hub import BOXED
from ...datasets.prompts import Prompt
from ...engines import engine_named
from ...engines.base import Endpoint
from ...engines.capabilities import Capabilities
from ...engines.http import ask
from ...engines.pool import Pool
from ...engines.server import Server, served_as
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
from ..options import let_in, value
from .record import PROPERTY, subject_of

REASONING = frozenset({"reasoning", "reasoning_content"})
"""Fields of a delta in which reasoning is understood."""
POOL = pytest.StashKey[Pool]()
ADAPTER = pytest.StashKey[Endpoint]()
LOADED = pytest.StashKey["Load"]()
TOKENS = 24
IN_FLIGHT = 4
IDLE_WITHIN_S = 60.0
STALL_S = 60.0
"""A stream in which nothing arrives for so long has failed."""
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
    called: ClassVar[tuple[str, str] | None] = None
    faults: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture(autouse=True)
    def _told(self, request: pytest.FixtureRequest, adapter: Endpoint) -> None:
        """Expects the known faults of the engine, and says in the report which engine it is."""
        name = request.node.name
        if reason := self.faults.get(name) or self.faults.get(name.partition("[")[0]):
            request.node.add_marker(pytest.mark.xfail(reason=reason, strict=True))
        if value(request.config, "conformance"):
            told = json.dumps(subject_of(adapter, self.called))
            request.node.user_properties.append((PROPERTY, told))

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
        tests = request.node.getparent(pytest.Class)
        if ADAPTER not in tests.stash:
            let_in(request.config, self.engine)
            tests.stash[ADAPTER] = self._engine()
        adapter: Endpoint = tests.stash[ADAPTER]
        return adapter

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

    @pytest.fixture
    def load(
        self,
        request: pytest.FixtureRequest,
        server: Server,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Load:
        """A load, measured once: what several tests look at."""
        if not server.engine.capabilities.series_of(server.serving):
            pytest.skip("the engine declares no series of a metrics page")
        tests = request.node.getparent(pytest.Class)
        if LOADED not in tests.stash:
            tests.stash[LOADED] = loaded(server, tmp_path_factory)
        load: Load = tests.stash[LOADED]
        return load


@dataclass
class Load:
    """A server under load, as a finding measures it: all prompts, four at a time.

    Attributes:
        before, after: its own series while it was idle.
        run: the record.
    """

    before: Page
    run: Run
    after: Page


def loaded(server: Server, folders: pytest.TempPathFactory) -> Load:
    """Put the load on a server, and wait until it is idle again."""
    idle(server)
    before = page_of(server)
    run = measured(server, folders)
    idle(server)
    return Load(before, run, page_of(server))


def raw_answer(server: Server, body: dict[str, Any]) -> bytes:
    """What the server answers, in one piece."""
    return ask(f"{server.url}/v1/chat/completions", body, timeout_s=STALL_S)


def streamed(
    server: Server, sampling: Sampling, prompt: Prompt = PROMPTS[0], **more: Any
) -> Stream:
    """One answer; ``more`` are further fields of its request."""
    return parse([(0.0, raw_answer(server, server.body(prompt, sampling) | more))])


def long_answer(server: Server) -> Sampling:
    """As long as fits twice into the context, so that it is not over at once."""
    fixed = server.engine.capabilities.fixed_length
    return Sampling(server.pair.max_model_len // 2, fixed_length=fixed)


def page_of(server: Server) -> Page:
    """Its own series, read now; none where it declares none."""
    return server.engine.read_metrics(server.engine.page(server.url), server.serving)


def idle(server: Server) -> None:
    """Wait until its gauges show no request."""
    gauges = {"running", "waiting"} & server.engine.capabilities.series
    given_up = time.monotonic() + IDLE_WITHIN_S
    while gauges and any(page_of(server).values.get(name) for name in gauges):
        assert time.monotonic() < given_up, f"not idle: {page_of(server).values}"
        time.sleep(0.1)


def measured(server: Server, folders: pytest.TempPathFactory) -> Run:
    """All prompts, four at a time, measured as a finding measures them."""
    fixed = server.engine.capabilities.fixed_length
    return sent(server, folders, Sampling(4 * TOKENS, fixed_length=fixed), IN_FLIGHT, PROMPTS)


def sent(
    server: Server,
    folders: pytest.TempPathFactory,
    sampling: Sampling,
    in_flight: int,
    prompts: Sequence[Prompt],
    cut_after: int | None = None,
) -> Run:
    """The record of requests that the client of a measurement sends.

    Args:
        server: that is asked.
        folders: where the record goes.
        sampling: of all requests.
        in_flight: how many are under way at a time.
        prompts: one request each.
        cut_after: parts of an answer after which the client hangs up; None: it reads them all.
    """
    engine = server.engine
    scrape = Scrape(
        server.url + (engine.metrics_path or ""),
        lambda text: engine.read_metrics(text, server.serving),
        every_s=0.02,
        more=tuple(server.url + path for path in engine.more_pages),
    )
    with RunWriter(folders.mktemp("run") / "run.jsonl", Header()) as writer:
        return drive(
            server.url,
            [
                Request(p, server.body(p, sampling), cut_after, engine.closes_connections)
                for p in prompts
            ],
            closed(in_flight),
            writer,
            scrape=scrape if engine.metrics_path else None,
            stall_s=STALL_S,
        )
