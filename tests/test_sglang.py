"""SGLang: flags, metrics by release, refusals; and the real thing on a CPU, where it is installed.

``make sglang-cpu`` installs it, ``make test-sglang`` runs these tests on it.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pytest_rllm import EngineConformance
from pytest_rllm.datasets.prompts import choose
from pytest_rllm.engines import engine_named
from pytest_rllm.engines.api_snapshot import observe
from pytest_rllm.engines.base import EngineError
from pytest_rllm.engines.builds import Build
from pytest_rllm.engines.memory import GIB
from pytest_rllm.engines.placement import Card, Placement
from pytest_rllm.engines.pool import Pool
from pytest_rllm.engines.server import Server
from pytest_rllm.engines.sglang import KV_BYTES, NEUTRAL, SglangEngine, _Package
from pytest_rllm.engines.sglang.page import SOURCES
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling
from pytest_rllm.models import PAIRS, ModelPair
from pytest_rllm.records.sse import parse
from pytest_rllm.telemetry.gpu import Gpu

TINY = PAIRS["tiny"]
VENV = Path(os.environ.get("SGLANG_VENV") or Path(__file__).parent.parent / ".venv-sglang")
BARE = _Package("0.5.23", gpu=False, kernels=True, compiled=False)
CPU = replace(BARE, compiled=True)
GPU = replace(CPU, gpu=True)
SERIES = frozenset(SOURCES) - {"drafts"}


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what is found of SGLang: here it is on a GPU, until something else is set."""

    def found(package: _Package) -> None:
        monkeypatch.setattr(SglangEngine, "_package", package)

    found(GPU)
    return found


def flags(serving: Serving, pair: ModelPair = TINY) -> list[str]:
    return list(SglangEngine().launch(serving, pair, 1234).argv)


def test_priorities_are_lowest_first_as_everywhere(package: Any) -> None:
    """By its documents: without the second flag, high values come first."""
    package(GPU)
    both = {"--enable-priority-scheduling", "--schedule-low-priority-values-first"}
    assert both <= set(flags(Serving(scheduling="priority")))
    assert not both & set(flags(Serving()))
    assert SglangEngine().prioritised({"model": "m"}, 3) == {"model": "m", "priority": 3}


def test_batch_invariant_kernels_are_a_gpus(package: Any) -> None:
    package(GPU)
    assert SglangEngine().cannot(Serving(batch_invariant=True)) is None
    assert "--enable-deterministic-inference" in flags(Serving(batch_invariant=True))
    assert "--enable-deterministic-inference" not in flags(Serving())
    package(BARE)
    assert "batch-invariant kernels" in str(SglangEngine().cannot(Serving(batch_invariant=True)))


def after(argv: list[str], flag: str) -> str:
    return argv[argv.index(flag) + 1]


# ---- how it is started


def test_the_command_on_a_cpu_without_kernels(package: Any) -> None:
    """As it was seen to serve: another flag would be another engine to stored baselines."""
    package(BARE)
    launch = SglangEngine().launch(Serving(), TINY, 1234)
    assert " ".join(launch.argv[1:]) == (
        f"-m sglang.launch_server --model-path {TINY.reasoning} --served-model-name under-test "
        "--host 127.0.0.1 --port 1234 --context-length 1536 --tp-size 1 --page-size 32 "
        "--max-total-tokens 6400 --decode-log-interval 4 --reasoning-parser deepseek-r1 "
        "--device cpu --attention-backend torch_native "
        "--enable-metrics --enable-cache-report --sleep-on-idle --disable-radix-cache "
        "--disable-overlap-schedule"
    )
    assert launch.argv[0] == sys.executable
    assert launch.env == {
        "SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "false",
        "HF_HUB_OFFLINE": "1",
        "SGLANG_USE_CPU_ENGINE": "1",
        "OMP_NUM_THREADS": "1",
    }


@pytest.mark.parametrize("build", [GPU, CPU])
def test_with_its_kernels_it_chooses_the_attention_itself(package: Any, build: _Package) -> None:
    package(build)
    launch = SglangEngine().launch(Serving(), TINY, 1234)
    assert not {"--attention-backend", "--disable-overlap-schedule"} & set(launch.argv)
    assert ("--device" in launch.argv) is (build is CPU)
    assert ("SGLANG_USE_CPU_ENGINE" in launch.env) is (build is CPU)


def test_optimisations_become_flags(package: Any) -> None:
    argv = flags(
        Serving(prefix_caching=True, quantization="fp8", tensor_parallel=2, flags=("--seed", "7"))
    )
    assert "--disable-radix-cache" not in argv
    assert after(argv, "--quantization") == "fp8"
    assert after(argv, "--tp-size") == "2"
    assert argv[-2:] == ["--seed", "7"], "a user's own flag comes last, and wins"


@pytest.mark.parametrize(("kind", "theirs"), [("fp8", "fp8_e4m3"), ("fp8_e5m2", "fp8_e5m2")])
def test_a_smaller_kv_cache_of_one_size_in_bytes_holds_more_tokens(
    package: Any, kind: str, theirs: str
) -> None:
    argv = flags(Serving(kv_cache_dtype=kind))
    assert after(argv, "--kv-cache-dtype") == theirs
    assert KV_BYTES[theirs] == 1
    assert after(argv, "--max-total-tokens") == str(2 * 6400)


@pytest.mark.parametrize(("free_gib", "share"), [(78.6, "0.450"), (39.3, "0.899")])
def test_two_servers_on_a_gpu_get_the_same_memory(
    package: Any, free_gib: float, share: str
) -> None:
    """SGLang is told a share of the memory that is free when it starts."""
    h100 = Card(0, "0", 80 * GIB, 79 * GIB)
    place = Placement((h100,), 39.3 * GIB, 3.95 * GIB, free=free_gib * GIB)
    sized_by_engine = replace(TINY, kv_cache_bytes=None, kv_block_tokens=None)
    argv = list(SglangEngine().placed(place).launch(Serving(), sized_by_engine, 1234).argv)
    assert not {"--max-total-tokens", "--page-size"} & set(argv)
    assert after(argv, "--mem-fraction-static") == share
    assert after(argv, "--tp-size") == "1"
    four = replace(place, cards=(h100,) * 4)
    argv = list(SglangEngine().placed(four).launch(Serving(), sized_by_engine, 1234).argv)
    assert after(argv, "--tp-size") == "4"
    package(CPU)
    assert after(flags(Serving(), sized_by_engine), "--mem-fraction-static") == "0.400"


def test_a_size_in_bytes_takes_a_checkpoint_that_can_be_read(package: Any) -> None:
    hub = replace(TINY, name="hub", reasoning="some/model")
    with pytest.raises(ValueError, match=r"'hub' sets kv_cache_bytes.* leave kv_cache_bytes out"):
        flags(Serving(), hub)


def test_speculation_counts_the_token_before_the_proposed_ones(package: Any) -> None:
    ngram = flags(Serving(speculative="ngram", speculative_tokens=4))
    assert after(ngram, "--speculative-algorithm") == "NGRAM"
    assert after(ngram, "--speculative-num-draft-tokens") == "5"
    assert after(ngram, "--speculative-ngram-max-bfs-breadth") == "1"
    draft = flags(Serving(speculative="draft"))
    assert after(draft, "--speculative-algorithm") == "STANDALONE"
    assert after(draft, "--speculative-draft-model-path") == TINY.draft
    assert after(draft, "--speculative-num-steps") == "3"
    assert after(draft, "--speculative-num-draft-tokens") == "4"
    assert after(draft, "--speculative-eagle-topk") == "1"
    assert not [flag for flag in flags(Serving()) if "speculative" in flag]


@pytest.mark.parametrize(
    ("architecture", "algorithm"),
    [("LlamaForCausalLMEagle", "EAGLE"), ("LlamaForCausalLMEagle3", "EAGLE3")],
)
def test_a_draft_of_heads_is_told_by_its_architecture(
    package: Any, tmp_path: Path, architecture: str, algorithm: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    argv = flags(Serving(speculative="draft"), replace(TINY, draft=str(tmp_path)))
    assert after(argv, "--speculative-algorithm") == algorithm


def test_a_head_is_told_by_its_name_where_it_is_no_folder(package: Any) -> None:
    for head, algorithm in (("org/Model-Eagle3", "EAGLE3"), ("org/a-head", "EAGLE")):
        argv = flags(Serving(speculative="eagle"), replace(TINY, eagle=head))
        assert after(argv, "--speculative-algorithm") == algorithm
        assert after(argv, "--speculative-draft-model-path") == head
        assert after(argv, "--speculative-num-steps") == "3"


def test_a_pair_without_a_draft_model_cannot_speculate_with_one(package: Any) -> None:
    with pytest.raises(ValueError, match="'tiny' has no draft model"):
        flags(Serving(speculative="draft"), replace(TINY, draft=None))


def test_reasoning_that_is_marked_in_a_way_that_is_not_known_is_refused(package: Any) -> None:
    odd = replace(TINY, reasoning_format="runes")
    with pytest.raises(ValueError, match=r"'runes', for which no parser of SGLang .* deepseek-r1"):
        flags(Serving(), odd)
    assert "--reasoning-parser" not in flags(Serving(model="plain"), odd)
    modes = replace(TINY, plain=TINY.reasoning, requests={"plain": {"think": False}})
    with pytest.raises(ValueError, match="SGLang's parser of 'deepseek-r1' takes every answer"):
        flags(Serving(), modes)


@pytest.mark.parametrize("version", ["0.5.7", "0.1.dev3+gabc", "dev", "99!1"])
def test_a_version_that_is_no_release_is_served_as_any_other(package: Any, version: str) -> None:
    usual = flags(Serving(prefix_caching=True))
    package(replace(GPU, version=version))
    assert flags(Serving(prefix_caching=True)) == usual
    assert SglangEngine().label == f"sglang {version}"


def test_another_interpreter_serves_with_nothing_of_this_one(
    package: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/of/this/one")
    launch = SglangEngine(Build("said", python="/venv/bin/python")).launch(Serving(), TINY, 1)
    assert launch.argv[0] == "/venv/bin/python"
    assert launch.env["PYTHONPATH"] is None
    assert str(launch.env["PATH"]).split(os.pathsep)[0] == "/venv/bin"
    assert "PYTHONPATH" not in SglangEngine().launch(Serving(), TINY, 1).env


# ---- what is installed


def installation(folder: Path, torch: str, *files: str) -> SglangEngine:
    """SGLang of an interpreter whose packages are these empty ones, with a torch built so."""
    site = folder / "site"
    for file in ("torch/__init__.py", *files):
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).touch()
    (site / "torch" / "version.py").write_text(torch)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    return SglangEngine(Build("other", python=str(python)))


def with_version(folder: Path, name: str, version: str, top_level: str) -> None:
    info = folder / "site" / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    (info / "top_level.txt").write_text(top_level)


def test_what_an_interpreter_has_is_found_without_importing_it(tmp_path: Path) -> None:
    cpu = installation(tmp_path, "cuda = None\nhip = None", "sglang/__init__.py", "sgl_kernel.py")
    with_version(tmp_path, "sglang", "0.5.23", "sglang")
    assert (cpu.label, cpu.on_cpu, cpu._package) == ("sglang 0.5.23", True, BARE)
    with_version(tmp_path, "sglang_kernel_cpu", "0.1", "sgl_kernel")
    assert SglangEngine(cpu.build)._package == CPU
    (tmp_path / "site" / "torch" / "version.py").write_text("cuda = '13.0'")
    assert SglangEngine(cpu.build)._package == GPU
    assert not SglangEngine(cpu.build).on_cpu


def test_a_checkout_without_a_version_is_called_dev(tmp_path: Path) -> None:
    checkout = installation(tmp_path, "cuda = '13.0'", "sglang/__init__.py", "sgl_kernel.py")
    assert checkout.label == "sglang dev"


def test_what_is_not_installed_is_said_with_what_to_do(tmp_path: Path) -> None:
    bare = installation(tmp_path, "cuda = None")
    with pytest.raises(EngineError, match=r"SGLang is not installed for .*python: install sglang"):
        bare.version()
    without = installation(tmp_path, "cuda = None", "sglang/__init__.py")
    with pytest.raises(EngineError, match="does not start without the module sgl_kernel"):
        without.launch(Serving(), TINY, 1)


def test_no_version_for_gpus_is_downloaded_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Gpu, "devices", ())
    with pytest.raises(ValueError, match=r"'sglang@sglang==0.5.22': PyPI's packages .* on NVIDIA"):
        engine_named("sglang@sglang==0.5.22")
    monkeypatch.setattr(Gpu, "devices", (object(),))
    assert SglangEngine.cannot_install() is None


# ---- what it refuses


@pytest.mark.parametrize(
    ("serving", "what"),
    [
        (Serving(kv_cache_dtype="fp8"), "a KV cache of fp8"),
        (Serving(quantization="w8a8_int8"), "w8a8_int8 weights"),
        (Serving(speculative="ngram"), "ngram speculation"),
        (Serving(speculative="draft"), "draft speculation"),
    ],
)
def test_what_takes_kernels_is_refused_on_a_cpu_without_them(
    package: Any, serving: Serving, what: str
) -> None:
    assert SglangEngine().cannot(serving) is None
    package(CPU)
    assert SglangEngine().cannot(serving) is None
    package(BARE)
    engine = SglangEngine()
    reason = str(engine.cannot(serving))
    assert reason.startswith(f"sglang 0.5.23 cannot serve {what} on this CPU: that takes SGLang's")
    assert engine.capabilities.lacking(serving) == [what]
    assert engine.cannot(Serving(prefix_caching=True)) is None
    assert "drafts" not in engine.capabilities.series


# ---- how it is asked


def test_requests_ask_for_running_usage_and_a_fixed_length(package: Any) -> None:
    (prompt,) = choose(TINY.tiers, "hard", n=1)
    body = SglangEngine().body(prompt, Sampling(9, fixed_length=True))
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert body["ignore_eos"] is True
    assert SglangEngine().body(prompt, Sampling(9))["ignore_eos"] is False
    assert SglangEngine().greedy_body("?", 9)["ignore_eos"] is True
    assert SglangEngine().ids_of_prompt({"sglext": {"input_ids": [1, 2]}}) == [1, 2]
    assert SglangEngine().ids_of_prompt({"choices": []}) is None


# ---- what a server says of itself


class ScriptedSglang(BaseHTTPRequestHandler):
    """A server that is no SGLang: it answers these paths, and every other one with 404."""

    answers: ClassVar[dict[str, Any]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        said = self.answers.get(self.path)
        self.send_response(404 if said is None else 200)
        self.end_headers()
        if said is not None:
            self.wfile.write(json.dumps(said).encode())

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def scripted() -> Iterator[str]:
    """Base of a :class:`ScriptedSglang`."""
    ScriptedSglang.answers, ScriptedSglang.asked = {}, []
    with ThreadingHTTPServer(("127.0.0.1", 0), ScriptedSglang) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


INFO = {"version": "0.1.dev3+gabc", "device": "cpu", "disable_radix_cache": True}


@pytest.mark.parametrize("path", ["/server_info", "/get_server_info"])
def test_a_running_server_says_its_version_whatever_it_is(scripted: str, path: str) -> None:
    ScriptedSglang.answers = {path: INFO}
    engine = SglangEngine(Build(scripted, url=scripted))
    assert (engine.version(), engine.on_cpu) == ("0.1.dev3+gabc", True)
    assert engine.label == f"sglang 0.1.dev3+gabc at {scripted}"


def test_a_running_server_says_what_it_has_on(scripted: str) -> None:
    def on(**more: Any) -> list[str]:
        ScriptedSglang.answers = {"/server_info": INFO | more}
        return SglangEngine(Build(scripted, url=scripted)).switched_on("")

    assert on() == []
    assert on(kv_cache_dtype="auto", speculative_algorithm=None) == []
    assert on(disable_radix_cache=False) == ["prefix caching"]
    assert on(kv_cache_dtype="fp8_e5m2", speculative_algorithm="NGRAM") == [
        "a KV cache of fp8_e5m2",
        "speculation",
    ]


def test_a_url_that_is_no_sglang_has_no_version(scripted: str) -> None:
    with pytest.raises(EngineError, match="9/server_info did not answer as sglang"):
        SglangEngine(Build("nobody", url="http://127.0.0.1:9")).version()
    with pytest.raises(EngineError, match=r"get_server_info did not answer as sglang .*404"):
        SglangEngine(Build("another", url=scripted)).version()
    ScriptedSglang.answers = {"/server_info": {"device": "cpu"}}
    with pytest.raises(EngineError, match="it tells no version; is the server SGLang's"):
        SglangEngine(Build("another", url=scripted)).version()


def test_sampling_defaults_are_the_models_where_the_server_follows_it(
    scripted: str, tmp_path: Path
) -> None:
    def resolved(**more: Any) -> dict[str, Any] | None:
        ScriptedSglang.answers = {"/server_info": INFO | {"model_path": str(tmp_path)} | more}
        return SglangEngine().sampling_defaults(scripted, 1536)

    said = {"temperature": 0.6, "top_k": 20, "max_length": 9}
    (tmp_path / "generation_config.json").write_text(json.dumps(said))
    assert resolved(sampling_defaults="openai") == NEUTRAL
    assert resolved(sampling_defaults="model") == NEUTRAL | {"temperature": 0.6, "top_k": 20}
    assert NEUTRAL["top_k"] == 0, "off, as other engines say it"
    assert resolved(sampling_defaults="model", model_path="some/model") is None
    assert resolved() is None  # a release that does not tell


def test_the_prefix_cache_is_emptied_by_a_request(scripted: str) -> None:
    ScriptedSglang.answers = {"/flush_cache": "Cache flushed."}
    assert SglangEngine().empty_cache(scripted)
    assert ScriptedSglang.asked == ["POST /flush_cache"]


# ---- what its metrics page means

RECORDED = Path(__file__).parent / "recorded" / "sglang-0.5.23"
"""A page and a stream of SGLang 0.5.23 on a CPU; of the page all but its histograms' lines."""


def recorded_page() -> str:
    return (RECORDED / "metrics.txt").read_text(encoding="utf-8")


def without(text: str, *names: str) -> str:
    """A page without the samples of these names."""
    return "".join(
        line for line in text.splitlines(keepends=True) if not line.startswith(tuple(names))
    )


def read(text: str, serving: Serving | None = None) -> tuple[dict[str, float], dict[str, str]]:
    said = SglangEngine().read_metrics(text, serving or Serving())
    return said.values, said.missing


def test_a_recorded_page_is_read() -> None:
    """Taken while 12 requests for six questions ran, which SGLang was told to preempt at times."""
    values, missing = read(recorded_page())
    assert values.keys() == SERIES
    assert missing == {}
    assert 0 < values["kv_use"] < 1
    assert values["kv_capacity_tokens"] == 6400
    assert values["running"] > 0
    assert values["preemptions"] > 0
    assert 0 < values["prefix_hits"] < values["prefix_queries"]


def test_a_release_until_0_5_21_counts_lookups_elsewhere() -> None:
    """By their source: one family is not there yet, the other one has the label ``mode``, too."""
    page = recorded_page()
    old, missing = read(without(page, "sglang:prefill_effective_tokens_total"))
    assert missing == {}
    assert old["prefix_hits"] >= read(page)[0]["prefix_hits"]
    assert old["prefix_queries"] > old["prefix_hits"] > 0


def test_what_was_never_counted_is_zero_where_the_release_counts_it() -> None:
    page = without(recorded_page(), "sglang:num_retracted_requests_total")
    assert read(page)[0]["preemptions"] == 0.0
    older = without(page, "sglang:realtime_tokens_total")
    assert "preemptions" not in read(older)[0]
    assert "sglang:num_retracted_reqs" in read(older)[1]["preemptions"]


def test_what_is_counted_at_the_end_of_a_request_is_zero_before_the_first_end() -> None:
    names = ("sglang:prompt_tokens_total", "sglang:generation_tokens_total")
    lost = read(without(recorded_page(), *names))[1]
    assert lost.keys() == {"prompt_tokens", "generation_tokens"}, "requests have ended: renamed?"
    fresh = without(recorded_page(), *names, "sglang:num_requests_total")
    values, missing = read(fresh, Serving(speculative="ngram"))
    assert [values[name] for name in ("prompt_tokens", "generation_tokens", "drafts")] == [0.0] * 3
    assert missing == {}


def test_speculation_must_have_its_counter() -> None:
    _, missing = read(recorded_page(), Serving(speculative="ngram"))
    assert missing.keys() == {"drafts"}
    counted = recorded_page() + 'sglang:spec_verify_calls_total{model_name="under-test"} 7.0\n'
    assert read(counted, Serving(speculative="ngram"))[0]["drafts"] == 7.0
    assert "drafts" not in read(counted)[0]


def test_replicas_are_added_up_and_parts_by_priority_are_not() -> None:
    line = 'sglang:%s{dp_rank="1",priority="%s"} %s\n'
    page = recorded_page()
    alone = read(page)[0]
    page += line % ("num_running_reqs", "", "2.0") + line % ("num_running_reqs", "3", "2.0")
    both = read(page + line % ("token_usage", "", "0.5"))[0]
    assert both["running"] == alone["running"] + 2
    assert both["kv_use"] == pytest.approx((alone["kv_use"] + 0.5) / 2), "a share: their mean"


def test_a_missing_metric_says_what_was_there_and_costs_no_other() -> None:
    text = recorded_page().replace("sglang:token_usage", "sglang:token_share")
    values, missing = read(text)
    assert values.keys() == SERIES - {"kv_use"}
    assert "kv_use: sglang:token_usage is not in /metrics of sglang" in missing["kv_use"]
    assert "sglang:token_share" in missing["kv_use"]
    values, missing = read("")
    assert (values, missing.keys()) == ({}, SERIES)


def test_the_last_token_of_a_recorded_stream_has_no_text_and_is_counted() -> None:
    """Its running usage ends before the token that ends the answer."""
    raw = (RECORDED / "stream.txt").read_bytes()
    stream = parse([(0.0, raw)])
    assert (stream.error, stream.finish_reason) == (None, "stop")
    assert stream.deltas.fields == ("reasoning_content", "content", "")
    assert stream.deltas.counted
    assert int(stream.deltas.tokens.sum()) == stream.usage["completion_tokens"]
    assert max(stream.deltas.tokens) > 1, "one delta may carry several tokens"
    assert [(d.tokens, d.text) for d in stream.deltas][-1] == (1, "")


# ---- the real engine


on_cpu = pytest.mark.skipif(
    not (VENV / "ready").exists(),
    reason=f"no SGLang for this CPU in {VENV}: make sglang-cpu makes it",
)


@pytest.mark.engine
@on_cpu
class TestSglangOnCpu(EngineConformance):
    """The real engine, with the bundled pair of models, on PyTorch's operators."""

    engine = f"sglang@{VENV}"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with Pool(tmp_path_factory.mktemp("servers")) as pool:
        yield pool


@pytest.fixture(scope="module")
def server(pool: Pool) -> Server:
    """A real server of the plain model, which may share prefixes."""
    return pool.serve(engine_named(f"sglang@{VENV}"), Serving("plain", prefix_caching=True), TINY)


@pytest.mark.engine
@on_cpu
def test_the_contract_of_the_real_server(server: Server) -> None:
    """It tells the ids of a prompt, its sampling defaults, and its cache."""
    snapshot = observe(server)
    assert re.fullmatch(r"[0-9a-f]{12} of \d+ tokens", snapshot.template)
    assert snapshot.version == server.engine.version()
    assert snapshot.sampling.keys() == NEUTRAL.keys()
    assert "completion_tokens_details.reasoning_tokens" in snapshot.usage_fields or (
        "reasoning_tokens" in snapshot.usage_fields
    )
    assert "prompt_tokens_details.cached_tokens" in snapshot.usage_fields
    assert any(name.startswith("sglang:token_usage{") for name in snapshot.metrics)


@pytest.mark.engine
@on_cpu
def test_a_real_server_that_runs_already_says_what_it_is(server: Server, tmp_path: Path) -> None:
    engine = engine_named(f"sglang@{server.url}")
    assert engine.version() == server.engine.version()
    assert engine.on_cpu
    assert engine.model_name == "under-test"
    with Pool(tmp_path) as other, pytest.raises(ValueError, match="serves with prefix caching"):
        other.serve(engine, Serving(), TINY)


@pytest.mark.engine
@on_cpu
def test_a_model_that_is_no_model_shows_what_sglang_said(pool: Pool, tmp_path: Path) -> None:
    config = json.loads((Path(TINY.reasoning) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "no_such_model"}))
    broken = replace(TINY, name="broken", reasoning=str(tmp_path))
    with pytest.raises(EngineError, match="before it was healthy") as caught:
        pool.serve(engine_named(f"sglang@{VENV}"), Serving(), broken)
    assert "no_such_model" in str(caught.value)
