"""The conformance suite: passed by the engines that are shipped, failed by one that is not true."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from _pytest.outcomes import Failed, Skipped

from pytest_rllm import EngineConformance
from pytest_rllm.datasets.prompts import Prompt
from pytest_rllm.engines.base import Endpoint, Launch
from pytest_rllm.engines.builds import Build
from pytest_rllm.engines.capabilities import Capabilities
from pytest_rllm.engines.mock.engine import MockEngine
from pytest_rllm.engines.openai import OpenAIEndpoint
from pytest_rllm.engines.pool import Pool
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling
from pytest_rllm.models import PAIRS, ModelPair
from pytest_rllm.plugin.conformance.base import loaded
from pytest_rllm.telemetry.prometheus import Page

TINY = PAIRS["tiny"]


class TestMockEngine(EngineConformance):
    """The mock engine does what it declares."""

    engine = "mock"


@pytest.mark.engine
class TestVllm(EngineConformance):
    """The real engine, with the bundled pair of models."""

    engine = "vllm"


# ---- the suite fails where it must


class Untrue(MockEngine):
    """A mock engine that does not do all that it declares.

    ``more`` are flags that it adds when it is started, ``less`` are flags, and fields of a request,
    that it leaves out, ``times`` is what it multiplies series by.
    """

    def __init__(
        self,
        more: tuple[str, ...] = (),
        less: str = "nothing",
        times: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        self._more, self._less, self._times = more, less, times or {}

    @property
    def key(self) -> str:
        return f"untrue {self._more} {self._less} {self._times}"

    def read_metrics(self, page: str, serving: Serving) -> Page:
        read = super().read_metrics(page, serving)
        return Page({n: v * self._times.get(n, 1) for n, v in read.values.items()}, read.missing)

    def launch(self, serving: Serving, pair: ModelPair, port: int) -> Launch:
        launch = super().launch(serving, pair, port)
        argv = [argument for argument in launch.argv if argument != self._less]
        return Launch([*argv, *self._more], launch.env)

    def body(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        body = super().body(prompt, sampling)
        body.pop(self._less, None)
        return body


@dataclass
class Suite:
    """Runs tests of the suite on an engine of ours, one by one."""

    pool: Pool
    factory: pytest.TempPathFactory
    folder: Path

    def run(self, engine: Endpoint, test: str, **more: Any) -> None:
        suite = EngineConformance()

        def served(serving: Serving) -> Any:
            if reason := engine.cannot(serving):
                pytest.skip(reason)
            return self.pool.serve(engine, serving, TINY)

        given = {
            "adapter": lambda: engine,
            "can": lambda: engine.capabilities,
            "load": lambda: loaded(served(Serving()), self.factory),
            "models": lambda: TINY,
            "pool": lambda: self.pool,
            "served": lambda: served,
            "server": lambda: served(Serving()),
            "tmp_path": lambda: self.folder,
            "tmp_path_factory": lambda: self.factory,
        }
        method = getattr(suite, test)
        names = [name for name in inspect.signature(method).parameters if name not in more]
        method(**{name: given[name]() for name in names}, **more)


@pytest.fixture
def suite(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with Pool(tmp_path) as pool:
        yield Suite(pool, tmp_path_factory, tmp_path)


@pytest.mark.parametrize(
    ("engine", "test", "more", "said"),
    [
        (
            Untrue(("--reasoning-field", "thoughts")),
            "test_reasoning_comes_in_a_field_of_its_own",
            {},
            r"deltas came in \('thoughts',\)",
        ),
        (
            Untrue(("--without-metric", "mock:preemptions_total")),
            "test_declared_series_are_on_the_page",
            {},
            "preemptions: mock:preemptions_total is not in /metrics of the mock engine; there are ",
        ),
        (
            Untrue(("--empty-share", "1")),
            "test_a_stream_ends_with_a_reason_and_tells_its_usage",
            {},
            "no text in the stream",
        ),
        (Untrue(less="fixed_length"), "test_a_fixed_length_is_kept", {}, "length"),
        (
            Untrue(less="max_tokens"),
            "test_an_answer_that_is_cut_off_ends_with_length",
            {},
            r"\('stop', \d+\) == \('length', 5\)",
        ),
        (
            Untrue(("--finish-reason", "eos")),
            "test_an_answer_that_ends_by_itself_ends_with_stop",
            {},
            r"finish reason and tokens: \[\('eos', ",
        ),
        (
            Untrue(("--ignore-seeds",)),
            "test_a_seed_decides_what_is_sampled",
            {},
            "one seed, two texts",
        ),
        (
            Untrue(times={"generation_tokens": 1000}),
            "test_a_stream_that_the_client_leaves_is_given_up",
            {},
            "768",
        ),
        (
            Untrue(times={"generation_tokens": 2}),
            "test_counters_grow_as_clients_count",
            {},
            "generation_tokens grew by 1536",
        ),
        (Untrue(times={"prompt_tokens": -1}), "test_counters_grow_as_clients_count", {}, "shrank"),
        (Untrue(times={"kv_use": 100}), "test_shares_stay_within_0_and_1", {}, "1"),
        (Untrue(times={"kv_use": 0}), "test_gauges_move_under_load_and_go_back", {}, "0"),
        (
            Untrue(times={"running": 2}),
            "test_gauges_move_under_load_and_go_back",
            {},
            "requests that run, of 4",
        ),
        (
            Untrue(("--lenient",)),
            "test_a_request_that_cannot_be_served_is_refused",
            {"fault": "negative max_tokens"},
            "a request with negative max_tokens was answered",
        ),
        (Untrue(less="--prefix-caching"), "test_prefix_caching_is_really_on", {}, "0"),
        (
            Untrue(("--prefix-caching",)),
            "test_prefix_caching_is_off_where_it_is_not_asked_for",
            {},
            "0",
        ),
        (
            Untrue(("--speculative-tokens", "0")),
            "test_speculation_is_really_on",
            {"kind": "ngram"},
            "drafts: mock:drafts_total is not in /metrics",
        ),
        (
            Untrue(("--kv-tokens", "640")),
            "test_a_kv_cache_of_another_type_holds_more",
            {},
            "640",
        ),
    ],
    ids=lambda value: (
        value.key
        if isinstance(value, Untrue)
        else value
        if isinstance(value, str) and value.startswith("test_")
        else ""
    ),
)
def test_what_is_declared_and_not_done_fails(
    suite: Suite, engine: Untrue, test: str, more: dict[str, Any], said: str
) -> None:
    suite.run(MockEngine(), test, **more)
    with pytest.raises(AssertionError, match=said):
        suite.run(engine, test, **more)


def test_a_server_that_fails_every_request_fails(suite: Suite) -> None:
    engine = Untrue(("--fail-share", "1"))
    with pytest.raises(HTTPError, match="500"):
        suite.run(engine, "test_a_stream_ends_with_a_reason_and_tells_its_usage")


def test_connections_that_are_declared_to_end_and_are_kept_fail(suite: Suite) -> None:
    class Keeping(MockEngine):
        """Says that it ends connections."""

        closes_connections = True

        @property
        def key(self) -> str:
            return "keeping"

    suite.run(MockEngine(), "test_the_connection_is_kept_as_declared")
    with pytest.raises(AssertionError, match="closes_connections is declared, and it keeps them"):
        suite.run(Keeping(), "test_the_connection_is_kept_as_declared")


def test_a_server_that_starts_with_a_wrong_flag_fails(suite: Suite) -> None:
    with pytest.raises(Failed, match="DID NOT RAISE"):
        suite.run(Untrue(less="--a-flag-of-nobody"), "test_a_server_that_does_not_start_says_why")


def test_what_is_not_declared_is_skipped_with_the_reason(suite: Suite) -> None:
    class Less(MockEngine):
        """Declares nothing at all."""

        @property
        def declared(self) -> Capabilities:
            return Capabilities()

    for test, reason in (
        ("test_reasoning_comes_in_a_field_of_its_own", "declares no field for reasoning"),
        ("test_a_fixed_length_is_kept", "declares no answers of a fixed length"),
        ("test_log_probabilities_are_told", "declares no log probabilities"),
        ("test_a_seed_decides_what_is_sampled", "declares no seeds"),
        ("test_a_stream_that_the_client_leaves_is_given_up", "whether it gives up is not seen"),
        ("test_prefix_caching_is_really_on", "'mock' cannot serve prefix caching"),
        ("test_the_plain_model_does_not_reason", "'mock' cannot serve the plain model"),
    ):
        with pytest.raises(Skipped, match=reason):
            suite.run(Less(), test)
    suite.run(Less(), "test_what_is_not_declared_is_refused_with_a_reason")
    suite.run(Less(), "test_a_fixed_length_that_is_not_declared_is_refused")


def test_a_server_that_runs_already_is_tried_by_its_url(suite: Suite) -> None:
    """A plain endpoint: everything but the stream is refused or skipped, and it stays up."""
    running = suite.pool.serve(MockEngine(), Serving(), TINY)
    plain = OpenAIEndpoint(Build(running.url, url=running.url))
    for test in (
        "test_its_server_is_healthy",
        "test_a_stream_ends_with_a_reason_and_tells_its_usage",
        "test_what_is_not_declared_is_refused_with_a_reason",
        "test_a_fixed_length_that_is_not_declared_is_refused",
        "test_it_answers_after_a_client_left",
        "test_a_server_is_gone_when_it_is_stopped",
    ):
        suite.run(plain, test)
    assert running.alive
