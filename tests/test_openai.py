"""A plain OpenAI-compatible URL as an engine: asked and measured, never started or reconfigured."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_rllm.datasets.prompts import Prompt, Turn
from pytest_rllm.engines import engine_named, openai
from pytest_rllm.engines.base import EngineError
from pytest_rllm.engines.builds import Build
from pytest_rllm.engines.capabilities import Capabilities
from pytest_rllm.engines.mock.engine import MockEngine
from pytest_rllm.engines.openai import OpenAIEndpoint
from pytest_rllm.engines.pool import Pool
from pytest_rllm.engines.server import Attached, Server
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling
from pytest_rllm.models import PAIRS
from pytest_rllm.plugin.conformance import PROMPTS, EngineConformance

TINY = PAIRS["tiny"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Pool(tmp_path_factory.mktemp("servers")) as pool:
        yield pool.serve(MockEngine(), Serving(), TINY)


def test_it_is_one_small_file() -> None:
    assert len(inspect.getsource(openai).splitlines()) <= 120


def test_it_is_named_by_its_url_and_says_that_its_version_is_not_told(running: Server) -> None:
    engine = engine_named(f"openai@{running.url}/v1")
    assert isinstance(engine, OpenAIEndpoint)
    assert engine.url == running.url
    assert engine.model_name == "under-test"
    assert engine.version() == "version not told, model owned by mock"
    assert engine.label == f"openai version not told, model owned by mock at {running.url}"


def test_it_cannot_be_started() -> None:
    with pytest.raises(ValueError, match=r"'openai' cannot be started here: .* openai@http://HOST"):
        engine_named("openai")


def test_a_running_server_is_measured_as_it_is(running: Server, tmp_path: Path) -> None:
    engine = OpenAIEndpoint(Build(running.url, url=running.url))
    with Pool(tmp_path) as pool:
        server = pool.serve(engine, Serving(), TINY)
        assert isinstance(server, Attached)
        reason = (
            f"cannot reconfigure the running server at {running.url}: it is measured as "
            "'reasoning', not 'reasoning, prefix caching'"
        )
        assert engine.cannot(Serving(prefix_caching=True)) == reason
        with pytest.raises(ValueError, match="cannot reconfigure the running server at http"):
            pool.serve(engine, Serving(prefix_caching=True), TINY)
    assert running.alive


def test_a_running_server_that_we_could_start_keeps_what_it_tells_and_loses_the_rest(
    running: Server,
) -> None:
    declared = MockEngine().capabilities
    left = MockEngine(Build(running.url, url=running.url)).capabilities
    assert left.series == declared.series
    assert left.fixed_length
    assert left.is_mock
    assert left.models == {"reasoning"}
    assert not left.flags
    assert not left.speculative
    assert not left.prefix_caching


def test_it_asks_for_no_more_than_the_api_has() -> None:
    engine = OpenAIEndpoint()
    assert engine.body(PROMPTS[0], Sampling(9, fixed_length=True)).keys() == {
        "model",
        "messages",
        "temperature",
        "top_p",
        "max_tokens",
        "stream",
        "stream_options",
    }
    assert "logprobs" not in engine.greedy_body("?", 9)
    assert engine.greedy_body("?", 9, log_probabilities=True)["logprobs"] is True
    assert engine.capabilities == Capabilities()
    assert engine.metrics_path is None


def test_earlier_turns_are_sent_before_the_question() -> None:
    asked = Prompt("q", "3?", "3", "easy", "math", "q", before=(Turn("1?", "1."), Turn("2?", "2.")))
    messages = OpenAIEndpoint().body(asked, Sampling(8))["messages"]
    assert [(message["role"], message["content"]) for message in messages] == [
        ("user", "1?"),
        ("assistant", "1."),
        ("user", "2?"),
        ("assistant", "2."),
        ("user", "3?"),
    ]


def test_log_probabilities_are_read_or_there_are_none() -> None:
    told = {"choices": [{"logprobs": {"content": [{"token": "a", "logprob": -0.5}]}}]}
    assert OpenAIEndpoint().log_probabilities(told) == [-0.5]
    for nothing in ({}, {"logprobs": None}, {"logprobs": {"content": None}}):
        assert OpenAIEndpoint().log_probabilities({"choices": [nothing]}) == []


@pytest.mark.parametrize("said", ["{}", '{"data": []}', "no JSON"])
def test_a_server_that_is_none_is_an_error(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_rllm.engines.base.ask", lambda _url: said.encode())
    engine = OpenAIEndpoint(Build("x", url="http://x"))
    with pytest.raises(EngineError, match="GET http://x/v1/models did not answer as openai does"):
        engine.version()


def test_an_owner_that_is_not_told_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said = json.dumps({"data": [{"id": "m"}]}).encode()
    monkeypatch.setattr("pytest_rllm.engines.base.ask", lambda _url: said)
    engine = OpenAIEndpoint(Build("x", url="http://x"))
    assert engine.version() == "version not told, model owned by not told"


def test_it_conforms(running: Server, pytester: pytest.Pytester) -> None:
    """The whole suite in one file of an adapter's author, as the documentation shows it."""
    pytester.makepyfile(
        "from pytest_rllm import EngineConformance\n"
        "class TestPlain(EngineConformance):\n"
        f"    engine = 'openai@{running.url}'\n"
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-rs")
    tests = [name for name in dir(EngineConformance) if name.startswith("test_")]
    outcomes = result.parseoutcomes()
    assert outcomes.keys() == {"passed", "skipped"}
    assert sum(outcomes.values()) == len(tests) + 3  # two kinds of speculation, three of requests
    assert outcomes["passed"] >= 7
    result.stdout.fnmatch_lines(["*the engine declares no log probabilities*"])
