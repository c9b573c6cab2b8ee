"""Servers at URLs, which somebody else runs: what they really serve, and servers that are odd."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.gateway import CHAT, Gateway, running
from doubles.synthetic import run, sample

from pytest_rllm.engines import ENGINES, engine_named, parse_engine
from pytest_rllm.engines.base import EngineError
from pytest_rllm.engines.builds import Build, build_named
from pytest_rllm.engines.capabilities import Capabilities
from pytest_rllm.engines.dialects import MARK, DialectEndpoint
from pytest_rllm.engines.http import Refused, ask
from pytest_rllm.engines.mock.engine import MockEngine
from pytest_rllm.engines.openai import OpenAIEndpoint
from pytest_rllm.engines.pool import Pool
from pytest_rllm.engines.served import model_named, one_server
from pytest_rllm.engines.server import Attached
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, closed
from pytest_rllm.loadgen.client import Request
from pytest_rllm.loadgen.run import drive
from pytest_rllm.models import PAIRS
from pytest_rllm.plugin.conformance import PROMPTS
from pytest_rllm.records.header import SAID_TO_SERVE, Header
from pytest_rllm.records.run import Run
from pytest_rllm.records.writer import RunWriter
from pytest_rllm.verdicts.really_on import faults_of_quantisation, faults_of_run, unproven

TINY, BASE = PAIRS["tiny"], Serving()
ARGS = ("-p", "no:cacheprovider", "-p", "no:randomly", "--rllm-model", "tiny")
Start = Callable[..., str]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start mock engines of somebody else, by how they serve; gives their URLs."""
    with Pool(tmp_path_factory.mktemp("servers")) as pool:
        yield lambda serving=BASE, **more: pool.serve(MockEngine(), serving, TINY, **more).url


def listing(*models: dict[str, Any], status: int = 200) -> AbstractContextManager[Gateway]:
    """A server that lists these models, and does no more."""
    page = json.dumps({"object": "list", "data": list(models)}).encode()
    return running(Gateway(pages={"/v1/models": (status, page)}))


def endpoint(url: str, adapter: type[OpenAIEndpoint] = OpenAIEndpoint) -> OpenAIEndpoint:
    return adapter(Build(url, url=url))


def attached(url: str, adapter: type[OpenAIEndpoint] = MockEngine) -> Attached:
    return Attached(endpoint(url, adapter), Serving(), TINY, url, 1)


# ---- which model


@pytest.mark.parametrize(
    ("models", "called"),
    [
        ([{"id": "tiny-reasoning"}], "tiny-reasoning"),
        ([{"id": "Org/Tiny-Reasoning@main"}], "Org/Tiny-Reasoning@main"),
        ([{"id": "other"}, {"id": "mine", "root": "/models/tiny-reasoning"}], "mine"),
        ([{"id": "under-test"}], "under-test"),
        ([{"id": "under-test", "root": "/x/tiny-reasoning"}], "under-test"),
    ],
)
def test_the_pairs_model_is_found_among_those_of_a_server(
    models: list[dict[str, Any]], called: str
) -> None:
    with listing(*models) as server:
        named = model_named(endpoint(server.url), Serving(), TINY)
    assert (named.model_name, named.named) == (called, False)


@pytest.mark.parametrize(
    ("models", "pair", "said"),
    [
        (
            [{"id": "llama-3"}],
            TINY,
            r"serves 'llama-3', and the reasoning model of the pair 'tiny' is .*tiny-reasoning: "
            r"serve that one there, .* say so: --rllm-model-name llama-3",
        ),
        ([{"id": "under-test", "root": "/x/tiny-plain"}], TINY, "serves 'under-test', and the"),
        ([], TINY, "--rllm-model-name NAME"),
        (
            [{"id": "a"}, {"id": "b"}],
            replace(TINY, served_name="mine"),
            "serves 'a', 'b', and no 'mine', as --rllm-model-name or served_name says",
        ),
    ],
)
def test_a_server_of_another_model_is_refused(
    models: list[dict[str, Any]], pair: Any, said: str, tmp_path: Path
) -> None:
    with (
        listing(*models) as server,
        Pool(tmp_path) as pool,
        pytest.raises(EngineError, match=said),
    ):
        pool.serve(endpoint(server.url), Serving(), pair)


def test_a_server_that_does_not_list_models_needs_the_name(tmp_path: Path) -> None:
    with listing(status=500) as server, Pool(tmp_path) as pool:
        with pytest.raises(ValueError, match="say what it calls it: --rllm-model-name NAME"):
            build_named(server.url)
        assert build_named(server.url, named=True).url == server.url
        with pytest.raises(EngineError, match=r"does not tell which model .*--rllm-model-name"):
            pool.serve(endpoint(server.url), Serving(), TINY)
        engine = engine_named(f"openai@{server.url}", named=True)
        assert engine.label == f"openai version not told at {server.url}"
        found = pool.serve(engine, Serving(), replace(TINY, served_name="mine"))
        assert found.engine.model_name == "mine"
        assert found.alive
    assert not found.alive


# ---- two URLs


def test_two_servers_are_two(start: Start) -> None:
    first, second = start(copy=0), start(copy=1)
    assert first != second
    assert one_server(attached(first), attached(second)) is None, "by their counters"
    plain = [attached(url, OpenAIEndpoint) for url in (first, second)]
    assert one_server(*plain) is None, "by the numbers of their answers"


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        (MockEngine, "a request to one is counted by the other"),
        (OpenAIEndpoint, "their answers are numbered in one row"),
    ],
)
def test_two_urls_of_one_server_are_refused(
    start: Start, adapter: type[OpenAIEndpoint], said: str
) -> None:
    url = start()
    with running(Gateway(url)) as gateway, pytest.raises(EngineError, match=f"one server .{said}"):
        one_server(attached(url, adapter), attached(gateway.url, adapter))


def test_one_address_by_two_names_is_refused(start: Start) -> None:
    url = start()
    other = url.replace("127.0.0.1", "localhost")
    with pytest.raises(EngineError, match=r"they are one address.*start a second one"):
        one_server(attached(url), attached(other))


def test_what_cannot_be_told_is_said() -> None:
    answer = json.dumps({"id": "chatcmpl-abc", "choices": []}).encode()
    page = {CHAT: (200, answer)}
    with running(Gateway(pages=page)) as one, running(Gateway(pages=page)) as other:
        servers = [attached(g.url, OpenAIEndpoint) for g in (one, other)]
        for server in servers:
            server.engine = server.engine.calling("m")
        remark = one_server(*servers)
    assert remark is not None
    assert "could not be checked (neither counters nor the numbers of answers tell)" in remark


# ---- servings


@pytest.mark.parametrize(
    ("slug", "serving"),
    [
        ("reasoning", Serving()),
        ("plain", Serving(model="plain")),
        ("kv-fp8", Serving(kv_cache_dtype="fp8")),
        ("plain+kv-fp8_e5m2", Serving(model="plain", kv_cache_dtype="fp8_e5m2")),
        ("prefix-caching", Serving(prefix_caching=True)),
        ("ngram", Serving(speculative="ngram")),
        ("eagle-5", Serving(speculative="eagle", speculative_tokens=5)),
        ("draft-5+tp-2", Serving(speculative="draft", speculative_tokens=5, tensor_parallel=2)),
        ("weights-compressed-tensors", Serving(quantization="compressed-tensors")),
    ],
)
def test_a_slug_names_a_serving(slug: str, serving: Serving) -> None:
    assert serving.slug == slug
    assert Serving.of_slug(slug) == serving


def test_a_serving_with_flags_has_no_slug() -> None:
    assert Serving(flags=("--x",)).slug is None
    with pytest.raises(ValueError, match="'kvfp8' is none of plain, original, kv-DTYPE"):
        Serving.of_slug("plain+kvfp8")


FINDING = """
from pytest_rllm import ACCURACY, FAILED, Sampling, Serving, finding, not_higher, not_lower, pp

@finding("Caching leaves answers as they are.", cite="this test")
def test_cached(compare, dataset, workload):
    compare(
        Serving(prefix_caching=True), against=Serving(), prompts=dataset("easy", n=32, repeats=2),
        workload=workload.closed(8), sampling=Sampling(512), blocks=2,
    ).shows(not_higher(FAILED, by_more_than=pp(30)))
"""


def session(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    pytester.makepyfile(test_cached=FINDING)
    return pytester.runpytest_inprocess(*ARGS, "-rs", "--rllm-record=records", *options)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")


@pytest.mark.parametrize("adapter", ["mock", "openai"])
def test_a_finding_takes_two_urls(
    adapter: str, start: Start, pytester: pytest.Pytester, wide: None
) -> None:
    base, cached = start(), start(Serving(prefix_caching=True))
    options = (f"--rllm-engine={adapter}@{base}", f"--rllm-serving=prefix-caching={cached}")
    result = session(pytester, *options)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*failed requests may rise by 30 pp*holds*"])
    remark = f"that {cached} serves 'reasoning, prefix caching' is what --rllm-serving says"
    assert (remark in result.stdout.str()) == (adapter == "openai"), "the mock's page shows it"
    again = pytester.runpytest_inprocess(*ARGS, "--rllm-replay=records", "test_cached.py")
    again.assert_outcomes(passed=1)
    assert (remark in again.stdout.str()) == (adapter == "openai")


def test_a_serving_that_is_not_what_the_user_says_is_seen_where_the_engine_tells(
    start: Start, pytester: pytest.Pytester, wide: None
) -> None:
    base, other = start(copy=0), start(copy=1)
    result = session(
        pytester, f"--rllm-engine=mock@{base}", f"--rllm-serving=prefix-caching={other}"
    )
    result.assert_outcomes(failed=0, errors=1)
    result.stdout.fnmatch_lines(["*prefix caching was not really on: prefix_hits stayed at 0*"])


def test_what_nobody_serves_is_a_skip_that_says_what_to_serve(
    start: Start, pytester: pytest.Pytester, wide: None
) -> None:
    result = session(pytester, f"--rllm-engine=mock@{start()}")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        [
            "*it is measured as 'reasoning', not 'reasoning, prefix caching'; start another server "
            'that serves so, and name it: --rllm-serving "prefix-caching=http://HOST:PORT"*'
        ]
    )


def test_a_serving_that_nothing_asks_for_is_named(
    start: Start, pytester: pytest.Pytester, wide: None
) -> None:
    base, cached, other = start(), start(Serving(prefix_caching=True)), start(copy=1)
    result = session(
        pytester,
        f"--rllm-engine=mock@{base}",
        f"--rllm-serving=prefix-caching={cached}",
        f"--rllm-serving=kv-fp8={other}",
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f'*"kv-fp8={other}": no test of this session compares that*'])


@pytest.mark.parametrize(
    ("servings", "engine", "said"),
    [
        (["kv-fp8=http://b"], "vllm", "name the one without it, too, --rllm-engine vllm@http://HO"),
        (["kvfp8=http://b"], "vllm@http://a", "'kvfp8' is none of plain, original, kv-DTYPE"),
        (["kv-fp8"], "vllm@http://a", "not the URL of a server"),
        (["reasoning=http://b"], "vllm@http://a", "that is what --rllm-engine names"),
        (["kv-fp8=http://a/"], "vllm@http://a", "named before: two servings take two servers"),
        (["ngram=http://b", "ngram=http://c"], "vllm@http://a", "ngram: given twice"),
        (["kv-fp8=http://me:PLANTED@b"], "vllm@http://a", "a URL with a user or password"),
        ([], "openai@http://me:PLANTED@b", "a URL with a user or password"),
    ],
)
def test_servings_that_cannot_be_used(
    servings: list[str], engine: str, said: str, pytester: pytest.Pytester, wide: None
) -> None:
    named = [f"--rllm-serving={text}" for text in servings]
    result = session(pytester, f"--rllm-engine={engine}", *named)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{said}*"])
    assert "PLANTED" not in result.stderr.str() + result.stdout.str()


def test_a_name_of_the_model_is_of_one_pair(pytester: pytest.Pytester, wide: None) -> None:
    pytester.makepyfile(test_cached=FINDING)
    result = pytester.runpytest_inprocess(
        "-p", "no:cacheprovider", "--rllm-model-name=mine", "--rllm-model=tiny,tiny-gpu"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*name its pair, --rllm-model NAME*"])


def said_to_serve(serving: Serving, **more: Any) -> Run:
    made = run(sample(), **more)
    made.header = replace(made.header, serving=serving, notes={SAID_TO_SERVE: "http://b"})
    return made


def test_the_users_word_is_enough_where_an_engine_tells_nothing() -> None:
    small = said_to_serve(Serving(kv_cache_dtype="fp8"), signature=())
    base = run(sample(), signature=())
    base.header = replace(base.header, serving=Serving())
    assert list(faults_of_quantisation([(small, base)])) == []
    assert "nothing that shows the KV cache's type" in next(unproven(small))
    small.header = replace(small.header, signature=(-0.5,), notes=small.header.notes)
    base.header = replace(base.header, signature=(-0.5,))
    texts = [fault.text for fault in faults_of_quantisation([(small, base)])]
    assert "bit for bit the same" in texts[0], "what it tells counts"
    assert list(unproven(small)) == []


def test_a_sign_that_is_gone_is_no_word_of_the_users() -> None:
    gone = said_to_serve(Serving(speculative="ngram"))
    assert gone.closing is not None
    assert list(faults_of_run(gone, "A", "A"))[:0] == []
    gone.closing["series_missing"] = {"drafts": "drafts: x is not on the page"}
    assert "whether speculation was on is unknown" in next(faults_of_run(gone, "A", "A")).text


# ---- odd servers


def stream(url: str, folder: Path) -> Run:
    engine = OpenAIEndpoint(Build(url, url=url)).calling("under-test")
    with RunWriter(folder / "run.jsonl", Header()) as writer:
        requests = [Request(p, engine.body(p, Sampling(64))) for p in PROMPTS]
        return drive(url, requests, closed(4), writer, stall_s=10)


def test_a_server_of_http_1_0_is_measured(start: Start, tmp_path: Path) -> None:
    with running(Gateway(start(), protocol="HTTP/1.0")) as gateway:
        assert ask(f"{gateway.url}/v1/models")
        run = stream(gateway.url, tmp_path)
    assert [sample.error for sample in run.samples] == [None] * len(PROMPTS)
    assert all(sample.usage["completion_tokens"] for sample in run.samples)


@pytest.mark.parametrize(
    ("gateway", "said"),
    [
        (Gateway(compresses=True), "the server compresses its answers (gzip) though none is asked"),
        (
            Gateway(redirect="https://me:PLANTED@elsewhere/?key=PLANTED"),
            "the server redirects to https://***@elsewhere/?***, which is not followed",
        ),
        (Gateway(headers={"authorization": "x"}), "the server wants a key, and none is meant"),
    ],
    ids=["gzip", "redirect", "key"],
)
def test_an_odd_server_is_said_in_a_sentence(
    gateway: Gateway, said: str, start: Start, tmp_path: Path
) -> None:
    gateway.upstream = start()
    with running(gateway):
        with pytest.raises(Refused) as caught:
            ask(f"{gateway.url}/v1/models")
        with pytest.raises(ValueError, match=r"/v1/models: HTTP \d+") as built:
            build_named(gateway.url)
        run = stream(gateway.url, tmp_path)
    for text in (str(caught.value), str(built.value), *(s.error or "" for s in run.samples)):
        assert said in text
        assert "PLANTED" not in text


def test_an_endless_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_rllm.engines.http.MOST_BYTES", 1000)
    with (
        running(Gateway(pages={"/x": (200, b"x" * 2000)})) as gateway,
        pytest.raises(OSError, match="is longer than"),
    ):
        ask(f"{gateway.url}/x")


# ---- dialects

DIALECTS = sorted(name for name in ENGINES.names() if name.startswith("openai+"))


def test_there_is_a_dialect_for_each_that_is_asked_for() -> None:
    assert [f"openai+{n}" for n in ("dynamo", "lmdeploy", "ollama", "tgi", "trtllm")] == DIALECTS


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_says_where_it_is_from_and_that_it_was_not_seen(name: str) -> None:
    made: Any = ENGINES.load(name)
    assert issubclass(made, DialectEndpoint)
    assert made.name == name
    assert all(page.startswith("https://") for page in made.dialect.pages)
    assert parse_engine(f"{name}@http://host") == (name, "http://host")
    told = json.dumps({"version": "1.2", "data": [{"id": "m"}]}).encode()
    page = "".join(f'{theirs}{{a="b"}} 1\n' for theirs in made.dialect.metrics.values()).encode()
    pages = {path: (200, told) for path in (made.dialect.version, "/v1/models") if path}
    with running(Gateway(pages={**pages, made.metrics_path or "/none": (200, page)})) as server:
        engine = made(Build(server.url, url=server.url))
        assert MARK in engine.label
        assert engine.version().startswith("1.2" if made.dialect.version else "version not told")
        assert engine.capabilities == Capabilities(
            series=frozenset(made.dialect.metrics), reasoning=made.dialect.reasoning
        )
        if made.dialect.metrics:
            read = engine.read_metrics(ask(server.url + made.metrics_path).decode(), Serving())
            assert read.values == dict.fromkeys(made.dialect.metrics, 1.0)
            assert read.missing == {}
            missing = engine.read_metrics("other 1\n", Serving()).missing
            assert missing.keys() == made.dialect.metrics.keys()
            assert all(MARK in text and "there are other" in text for text in missing.values())
        else:
            assert engine.metrics_path is None
