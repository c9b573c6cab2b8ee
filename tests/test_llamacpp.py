"""llama.cpp: its files, its flags and pages, bad builds, and the real server of ``xllamacpp``."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pytest_rllm import EngineConformance
from pytest_rllm.checkpoints import widened
from pytest_rllm.datasets.grading import grade
from pytest_rllm.datasets.prompts import choose
from pytest_rllm.engines import engine_named, parse_engine
from pytest_rllm.engines.base import Endpoint, EngineError, Launch
from pytest_rllm.engines.builds import Build, build_named
from pytest_rllm.engines.http import ask
from pytest_rllm.engines.llamacpp import SERVE, SLOTS, LlamaCppEngine, checkpoint
from pytest_rllm.engines.pool import Pool
from pytest_rllm.engines.server import Server
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, closed
from pytest_rllm.metrics import KV_PEAK, PREFIX_HITS, TBT, counted
from pytest_rllm.models import PAIRS, pair_named
from pytest_rllm.models.pair_file import PairFileError
from pytest_rllm.records.header import Header
from pytest_rllm.records.run import Run
from pytest_rllm.records.sse import parse
from pytest_rllm.reports.progress import Progress
from pytest_rllm.session import run_blocks
from pytest_rllm.session.live import Live
from pytest_rllm.session.sources import Place
from pytest_rllm.telemetry.gpu import Gpu
from pytest_rllm.verdicts.really_on import faults_of_quantisation, faults_of_run

gguf = pytest.importorskip("gguf", reason="pip install 'pytest-rllm[llamacpp]'")
pytest.importorskip("xllamacpp", reason="pip install 'pytest-rllm[llamacpp]'")

TINY = PAIRS["tiny"]
REASONING = Path(TINY.reasoning)


def after(argv: list[str], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def flags(serving: Serving, pair: Any = TINY) -> list[str]:
    return list(LlamaCppEngine().launch(serving, pair, 1234).argv)


# ---- files


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("RLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("kind", "error"), [("BF16", 0), ("F16", 0), ("Q8_0", 0.02), ("Q4_0", 0.2)]
)
def test_a_file_holds_the_checkpoints_weights(cache: Path, kind: str, error: float) -> None:
    """16 bits exactly: weights of the bundled models are neither too large nor too small for F16
    by more than its rounding."""
    file = checkpoint.gguf_of(REASONING, "digest", kind)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    name = "model.layers.3.mlp.down_proj.weight"
    (bits,) = (value for theirs, value in checkpoint._tensors(REASONING) if theirs == name)
    weights = widened(bits)
    tensor = tensors["blk.3.ffn_down.weight"]
    assert tensor.tensor_type.name == kind
    stored = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    assert abs(stored - weights).max() <= max(error * abs(weights).max(), 1e-6)
    assert tensors["blk.3.attn_norm.weight"].tensor_type.name == "F32"
    assert checkpoint.differences(file, REASONING) == []


def test_a_file_is_made_once_and_whole(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one of two that want it at the same time; one that fails leaves nothing."""
    made: list[Path] = []
    write = checkpoint._write

    def slowly(folder: Path, kind: str, path: Path) -> None:
        made.append(path)
        write(folder, kind, path)
        time.sleep(0.2)

    monkeypatch.setattr(checkpoint, "_write", slowly)
    threads = [
        threading.Thread(target=checkpoint.gguf_of, args=(REASONING, "d", None)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert [file.name for file in cache.rglob("*.gguf")] == [f"tiny-reasoning-BF16-d-{1}.gguf"]

    def fail(folder: Path, kind: str, path: Path) -> None:
        path.write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint, "_write", fail)
    with pytest.raises(OSError, match="no space left"):
        checkpoint.gguf_of(REASONING, "other", None)
    assert [file.name for file in (cache / "gguf").iterdir() if "other" in file.name] == [
        "tiny-reasoning-BF16-other-1.making"
    ]


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        (
            "config.json",
            {"architectures": ["MambaForCausalLM"]},
            "the architecture MambaForCausalLM",
        ),
        ("config.json", {"rope_scaling": {"type": "yarn"}}, "rope scaling 'yarn'"),
        ("config.json", {"use_sliding_window": True}, "a sliding window"),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Metaspace"}}, "how its tokenizer splits"),
    ],
)
def test_what_is_not_converted_is_refused(
    cache: Path, tmp_path: Path, file: str, change: dict[str, Any], said: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(REASONING, folder)
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | change))
    with pytest.raises(ValueError, match=f"{folder}: {said}"):
        checkpoint.gguf_of(folder, "digest", None)
    assert not list(cache.rglob("*.gguf"))


def toml(folder: Path, **files: Path) -> Any:
    """The bundled pair as a file describes it, with files for llama.cpp."""
    named = ", ".join(f'{role} = "{file}"' for role, file in files.items())
    (folder / "pair.toml").write_text(
        f'reasoning = "{TINY.reasoning}"\nplain = "{TINY.plain}"\ncontext_length = 1536\n'
        "kv_cache_bytes = 26214400\n[budgets]\nshort = 64\nenough = 512\ngenerous = 1024\n"
        "fixed_length = 128\n[tiers]\neasy.dataset = 'bundled-easy'\n"
        f"[engines.llamacpp]\nfiles = {{ {named} }}\n"
    )
    return pair_named(str(folder / "pair.toml"))


def test_a_file_of_ones_own_is_served_where_it_is_of_the_checkpoint(tmp_path: Path) -> None:
    """The plain model's file has another template; a file that is none is told as such."""
    own = tmp_path / "own.gguf"
    shutil.copy(checkpoint.gguf_of(REASONING, TINY.revision("reasoning"), "Q4_0"), own)
    pair = toml(tmp_path, reasoning=own)
    assert after(flags(Serving(), pair), "--model") == str(own)
    assert pair.revision("reasoning", "llamacpp") != pair.revision("reasoning")
    with pytest.raises(ValueError, match=r"own.gguf has the weights that it has: leave out"):
        flags(Serving(quantization="Q8_0"), pair)
    other = checkpoint.gguf_of(Path(TINY.plain), TINY.revision("plain"), None)
    with pytest.raises(ValueError, match=r"is a file of another model than .*: another chat temp"):
        flags(Serving(), toml(tmp_path, reasoning=other))
    (tmp_path / "none.gguf").write_bytes(b"GGUF is what it is not")
    with pytest.raises(ValueError, match=r"none.gguf is no GGUF file of a language model"):
        flags(Serving(), toml(tmp_path, reasoning=tmp_path / "none.gguf"))
    with pytest.raises(PairFileError, match=r"pair.toml:13: reasoning: the file .* does not exist"):
        toml(tmp_path, reasoning=tmp_path / "absent.gguf")


def test_a_file_of_another_size_and_architecture_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "llama.gguf", "llama")
    writer.add_token_list(["a", "b", "c"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match="is a file of another model") as caught:
        flags(Serving(), toml(tmp_path, reasoning=tmp_path / "llama.gguf"))
    said = "architecture llama instead of qwen2, vocabulary size 3 instead of 512, another chat"
    assert said in str(caught.value)


def test_a_model_may_be_nothing_but_a_file(tmp_path: Path) -> None:
    file = checkpoint.gguf_of(REASONING, TINY.revision("reasoning"), None)
    pair = replace(TINY, reasoning=str(file))
    assert after(flags(Serving(), pair), "--model") == str(file)
    with pytest.raises(ValueError, match=r"there is no file .*gone.gguf"):
        replace(TINY, reasoning=str(tmp_path / "gone.gguf")).path("reasoning")


# ---- flags and bodies


def test_the_base_is_bare() -> None:
    argv = flags(Serving())
    assert argv[:2] == [sys.executable, SERVE]
    assert after(argv, "--ctx-size") == "6400"
    assert after(argv, "--parallel") == str(SLOTS)
    assert after(argv, "--threads") == "1"
    assert after(argv, "--cache-ram") == "0"
    assert {"--no-cache-prompt", "--metrics", "--slots"} <= set(argv)
    assert not {"--spec-type", "--cache-type-k", "--cache-prompt"} & set(argv)


def test_a_smaller_cache_gets_more_tokens_of_the_same_bytes() -> None:
    argv = flags(Serving(kv_cache_dtype="q8_0"))
    assert (after(argv, "--cache-type-k"), after(argv, "--cache-type-v")) == ("q8_0", "q8_0")
    assert after(argv, "--flash-attn") == "on"
    assert int(after(argv, "--ctx-size")) == 6400 * 32 // 17 // 256 * 256


def test_speculation_names_its_kind() -> None:
    draft = flags(Serving(speculative="draft", speculative_tokens=5))
    assert after(draft, "--spec-type") == "draft-simple"
    assert after(draft, "--spec-draft-n-max") == "5"
    assert "tiny-draft-BF16" in after(draft, "--spec-draft-model")
    assert after(flags(Serving(speculative="ngram")), "--spec-type") == "ngram-simple"
    with pytest.raises(ValueError, match="without --spec-type is loaded and never asked"):
        flags(Serving(flags=("-md", "draft.gguf")))


@pytest.mark.parametrize(
    ("serving", "said"),
    [
        (Serving(kv_cache_dtype="fp8"), "has no KV cache of 'fp8': there are q8_0, q5_1"),
        (Serving(quantization="fp8"), "has no weights of 'fp8': there are BF16, F16, Q8_0, Q4_0"),
        (Serving(tensor_parallel=2), "cannot serve 2 GPUs per copy"),
    ],
)
def test_what_it_does_not_have_is_refused_with_what_there_is(serving: Serving, said: str) -> None:
    assert said in str(LlamaCppEngine().cannot(serving))


def test_settings_of_the_shell_do_not_reach_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_ARG_CACHE_TYPE_K", "q4_0")
    assert LlamaCppEngine().launch(Serving(), TINY, 1).env["LLAMA_ARG_CACHE_TYPE_K"] is None


# ---- builds


def stand_in_program(folder: Path, told_flags: str = "", name: str = "llama-server") -> Path:
    """A program that says it is ``llama-server``, and serves with the real one of ``xllamacpp``."""
    tell = subprocess.run([sys.executable, SERVE, "--tell"], capture_output=True, text=True)
    told = told_flags or " ".join([*json.loads(tell.stdout)["flags"], "--spec-type draft-simple"])
    path = folder / name
    path.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        '--version) echo "version: 4321 (abc1234)" >&2; exit;;\n'
        f'--help) echo "{told}"; exit;;\n'
        '--list-devices) echo "Available devices:"; exit;;\n'
        "esac\n"
        f'exec {sys.executable} {SERVE} "$@"\n'
    )
    path.chmod(0o755)
    return path


def test_a_program_is_a_build_by_its_path_or_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stand_in_program(tmp_path)
    engine = engine_named(f"llamacpp@{path}")
    assert engine.label == "llama-server b4321-abc1234"
    assert engine.on_cpu
    assert engine.capabilities.speculative == {"draft"}
    assert isinstance(engine, LlamaCppEngine)
    assert engine.launch(Serving(), TINY, 1).argv[0] == str(path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert engine_named("llamacpp@llama-server").label == engine.label
    monkeypatch.setattr("pytest_rllm.engines.llamacpp.has_package", lambda: False)
    assert LlamaCppEngine().label == engine.label


def test_an_interpreter_is_no_program() -> None:
    build = build_named(sys.executable, is_program=LlamaCppEngine.is_program)
    assert (build.python, build.program) == (sys.executable, None)


def test_a_build_without_what_is_needed_is_refused_before_it_is_started(tmp_path: Path) -> None:
    old = stand_in_program(tmp_path, "--metrics --slots --port N --spec-draft-model FILE")
    engine = engine_named(f"llamacpp@{old}")
    reason = str(engine.cannot(Serving(speculative="draft")))
    assert reason.startswith("llama-server b4321-abc1234 lacks --cache-ram, ")
    assert "--spec-type, " in reason
    assert reason.endswith("which 'reasoning, draft speculation (3)' needs: take a newer build")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing in it."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder


def test_one_that_is_not_installed_or_does_not_import_says_so_in_a_sentence(bare: Path) -> None:
    with pytest.raises(EngineError, match=r"llama.cpp is not installed for .*: pip") as told:
        engine_named(f"llamacpp@{bare}").version()
    assert "\n" not in str(told.value)
    (site,) = bare.glob("lib/python*/site-packages")
    (site / "xllamacpp.py").write_text("raise OSError('libgomp.so.1: cannot open')\n")
    with pytest.raises(EngineError, match=r"but cannot be used: .*OSError: libgomp") as told:
        engine_named(f"llamacpp@{bare}").version()
    assert str(told.value).endswith("reinstall it, or take another version")
    assert "\n" not in str(told.value)


def test_a_version_alone_is_a_build_of_the_engine_under_test() -> None:
    assert parse_engine("xllamacpp==2026.9.11063", "llamacpp")[0] == "llamacpp"
    with pytest.raises(ValueError, match=r"write NAME==VERSION, such as xllamacpp==2026"):
        engine_named("llamacpp@xllamacpp>=2026")


def test_a_flag_that_is_not_known_is_refused(tmp_path: Path) -> None:
    for argv, said in (
        (["--no-such"], "the flag --no-such is not known to what starts xllamacpp"),
        (["-ctk", "fp8"], "the flag -ctk fp8: 'fp8' is none of"),
        (["--port"], "the flag --port needs a value"),
    ):
        done = subprocess.run([sys.executable, SERVE, *argv], capture_output=True, text=True)
        assert (done.returncode, done.stderr.startswith(said)) == (2, True), done.stderr


# ---- pages

PAGE = """# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 70
llamacpp:prompt_tokens_cached_total 30
llamacpp:tokens_predicted_total 11
llamacpp:requests_processing 1
llamacpp:requests_deferred 2
llamacpp:prompt_seconds_total 0.5
llamacpp:tokens_predicted_seconds_total 4
"""
SLOT = {"id": 0, "n_ctx": 2048, "is_processing": True, "n_prompt_tokens": 512}


def test_metrics_and_slots_are_one_page() -> None:
    idle = SLOT | {"id": 1, "is_processing": False}
    text = PAGE + "\n" + json.dumps([SLOT, idle])
    engine = LlamaCppEngine().started(Serving(), TINY)
    said = engine.read_metrics(text, Serving())
    assert said.missing == {}
    assert said.values == {
        "running": 1,
        "waiting": 2,
        "generation_tokens": 11,
        "prompt_tokens": 100,
        "prefix_queries": 0,
        "prefix_hits": 30,
        "prefill_s": 0.5,
        "decode_s": 4,
        "kv_capacity_tokens": 6400,
        "kv_use": 512 / 6400,
    }
    on = engine.read_metrics(text, Serving(prefix_caching=True))
    assert (on.values["prefix_queries"], on.values["prefix_hits"]) == (100, 30)


def test_what_is_not_on_the_page_is_named() -> None:
    said = LlamaCppEngine().read_metrics("llamacpp:renamed_total 3\n", Serving(speculative="draft"))
    assert said.values == {}
    assert said.missing["drafts"] == (
        "drafts: llamacpp:spec_decode_num_drafts_total is not in /metrics of llamacpp; there are "
        "llamacpp:renamed_total"
    )
    assert "told no slots" in said.missing["kv_use"]


def test_tokens_come_from_the_timings_and_the_last_from_the_usage() -> None:
    """The token that ends an answer has no text, and no event but that of the usage."""

    def event(n: int | None = None, usage: int | None = None, **delta: str) -> bytes:
        said: dict[str, Any] = {"choices": [{"delta": delta, "finish_reason": None}]}
        if n is not None:
            said["timings"] = {"predicted_n": n}
        if usage is not None:
            said |= {"choices": [], "usage": {"completion_tokens": usage}}
        return b"data: " + json.dumps(said).encode() + b"\n\n"

    sent = [
        event(role="assistant"),
        event(1, reasoning_content="a"),
        event(4, content="b"),
        event(usage=5),
    ]
    stream = parse((float(i), data) for i, data in enumerate(sent))
    assert [(d.field, d.tokens) for d in stream.deltas] == [
        ("reasoning_content", 1),
        ("content", 3),
        ("", 1),
    ]
    uncounted = parse([(0.0, event(content="a")), (1.0, event(usage=5))])
    assert [d.tokens for d in uncounted.deltas] == [None]


# ---- the real server


@pytest.mark.engine
class TestLlamaCpp(EngineConformance):
    """The real server of the package, with the bundled pair of models."""

    engine = "llamacpp"
    small_kv_cache = "q8_0"
    faults: ClassVar = {
        "test_a_request_that_cannot_be_served_is_refused[negative max_tokens]": (
            "to llama.cpp max_tokens of -1 means no limit"
        )
    }


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("records")
    with Pool(folder / "servers") as pool:
        yield measuring(LlamaCppEngine(), pool, folder)


def measuring(engine: Endpoint, pool: Pool, folder: Path, like: Live | None = None) -> Live:
    """Measures on one engine, whatever an arm names; what the client carries is measured once."""
    known = {"capacity": like.capacity} if like else {}
    return Live(lambda _text: engine, TINY, pool, Gpu(), folder, Progress(None), **known)


@pytest.fixture
def server(live: Live) -> Server:
    return live.pool.serve(LlamaCppEngine(), Serving(), TINY)


def measured(live: Live, serving: Serving, name: str, tokens: int = 24, **more: Any) -> Run:
    prompts = choose(TINY.tiers, "hard", n=8, **more)
    arm = Arm(serving, prompts, closed(4), Sampling(tokens, fixed_length=True))
    live.prepare([arm])
    header = run_blocks.header_of(arm, Header(), name=name, side=None, blocks=1)
    return live.run(arm, Path(f"{name}.jsonl"), header, Place(name))


@pytest.mark.engine
def test_texts_are_the_tokens_that_the_checkpoints_tokenizer_makes(server: Server) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    own = tokenizers.Tokenizer.from_file(str(REASONING / "tokenizer.json"))
    texts = [prompt.text for prompt in choose(TINY.tiers, *TINY.tiers, n=80)]
    texts += ["  a\r\nb\t\n\n c ", "y's we'll 3.14e-10", "Ünï—“x” 漢字 🙂", "</think>a<think>\n"]
    for text in texts:
        body = {"content": text, "parse_special": True}
        told = json.loads(ask(f"{server.url}/tokenize", body))["tokens"]
        assert told == own.encode(text, add_special_tokens=False).ids, text


@pytest.mark.engine
def test_the_template_and_the_greedy_answers_are_the_models(server: Server) -> None:
    """Easy questions, of which the model answers 99.5 % on vLLM."""
    questions = choose(TINY.tiers, "easy", n=60)
    right = 0
    for prompt in questions:
        body = server.body(prompt, Sampling(256, temperature=0))
        stream = parse([(0.0, ask(f"{server.url}/v1/chat/completions", body))])
        assert stream.error is None
        answer = stream.deltas.text("content")
        right += grade(answer, prompt.answer, prompt.kind, stream.finish_reason) == "right"
        # Counts per delta add up, the token that ends an answer included.
        assert int(stream.deltas.tokens.sum()) == stream.usage["completion_tokens"]
    assert right >= 56
    message = [{"role": "user", "content": "hello"}]
    said = json.loads(ask(f"{server.url}/apply-template", {"messages": message}))["prompt"]
    assert said == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n<think>\n"


@pytest.mark.engine
def test_a_run_tells_tokens_times_and_the_kv_cache(live: Live) -> None:
    run = measured(live, Serving(), "base", tokens=120)
    assert [s.error for s in run.samples] == [None] * 8
    for sample in run.samples:
        assert sum(d.tokens for d in sample.deltas) == sample.output_tokens == 120
        assert sample.reasoned
    assert run.closing["telemetry_errors"] == {}
    assert counted(run, "generation_tokens") == 8 * 120
    assert run.series["kv_capacity_tokens"][1][0] == 6400
    # Four at a time, of a hard question and 120 tokens each.
    longest = max(s.usage["prompt_tokens"] for s in run.samples) + 120
    assert 120 / 6400 < KV_PEAK.of_run(run) <= 4 * longest / 6400
    assert TBT.of_run(run) > 0
    assert run.header.template == "64 tokens, ids not told"  # as many as vLLM makes of it
    assert run.header.sampling_defaults == {
        "frequency_penalty": 0.0,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "repetition_penalty": 1.0,
        "temperature": 0.6,
        "top_k": 0,
        "top_p": 0.95,
    }


@pytest.mark.engine
def test_a_prefix_cache_is_on_where_it_is_asked_for_and_nowhere_else(live: Live) -> None:
    on = measured(live, Serving(prefix_caching=True), "cached", repeats=3)
    off = measured(live, Serving(), "uncached", repeats=3)
    assert PREFIX_HITS.of_run(on) > 0.3
    assert counted(off, "prefix_hits") == 0
    cached = [s.usage["prompt_tokens_details"]["cached_tokens"] for s in off.samples]
    assert set(cached) == {0}


class WithoutItsKind(LlamaCppEngine):
    """Asks for speculation as one easily does: a draft model, and no kind of speculation."""

    @property
    def key(self) -> str:
        return "without its kind"

    def launch(self, serving: Serving, pair: Any, port: int) -> Launch:
        launch = super().launch(serving, pair, port)
        argv = list(launch.argv)
        if "--spec-type" in argv:
            i = argv.index("--spec-type")
            del argv[i : i + 2]
        return Launch(argv, launch.env)


@pytest.mark.engine
def test_a_draft_model_that_is_never_asked_is_found_out(live: Live, tmp_path: Path) -> None:
    """The server takes ``--spec-draft-model`` without ``--spec-type``, and drafts nothing."""
    on = measured(live, Serving(speculative="draft"), "B")
    assert counted(on, "drafts") > 0
    assert list(faults_of_run(on, "B", "B")) == []
    with Pool(tmp_path / "servers") as pool:
        trap = measuring(WithoutItsKind(), pool, tmp_path, like=live)
        off = measured(trap, Serving(speculative="draft"), "B")
    said = [fault.text for fault in faults_of_run(off, "B", "B")]
    assert said == ["B: speculation was not really on: drafts stayed at 0"]


@pytest.mark.engine
def test_a_smaller_kv_cache_and_smaller_weights_are_really_on(live: Live) -> None:
    base = measured(live, Serving(), "A")
    for serving in (
        Serving(kv_cache_dtype="q8_0"),
        Serving(kv_cache_dtype="q4_0"),
        Serving(quantization="Q8_0"),
        Serving(quantization="Q4_0"),
    ):
        run = measured(live, serving, serving.key)
        assert list(faults_of_quantisation([(run, base)])) == [], serving
    same = replace(base.header, serving=Serving(kv_cache_dtype="q8_0"), arm="B")
    pretended = replace(base, header=same)
    said = [fault.text for fault in faults_of_quantisation([(pretended, base)])]
    assert "B: kv_cache_dtype was not really on: log probabilities are bit for bit the same" in said


@pytest.mark.engine
def test_a_program_of_ones_own_is_served_and_gone_when_it_is_stopped(
    live: Live, tmp_path: Path
) -> None:
    engine = engine_named(f"llamacpp@{stand_in_program(tmp_path)}")
    server = live.pool.serve(engine, Serving(), TINY)
    assert server.answers("/health")
    server.stop()
    assert not server.answers("/health")


@pytest.mark.engine
def test_a_server_that_runs_is_measured_by_its_url(
    live: Live, server: Server, tmp_path: Path
) -> None:
    """Less of it: how large its KV cache is, it does not tell."""
    engine = LlamaCppEngine(build_named(server.url))
    assert engine.version() == json.loads(ask(f"{server.url}/props"))["build_info"]
    assert not {"kv_use", "kv_capacity_tokens"} & engine.capabilities.series
    with Pool(tmp_path / "servers") as pool:
        theirs = measuring(engine, pool, tmp_path, like=live)
        run = measured(theirs, Serving(), "url", repeats=2)
    assert run.closing["telemetry_errors"] == {}
    assert counted(run, "generation_tokens") == 16 * 24
    assert counted(run, "prefix_hits") == 0
    assert server.alive


@pytest.mark.engine
def test_speculation_of_a_server_that_runs_is_seen(live: Live, tmp_path: Path) -> None:
    running = live.pool.serve(LlamaCppEngine(), Serving(speculative="draft"), TINY)
    engine: Endpoint = LlamaCppEngine(Build(running.url, url=running.url))
    with (
        Pool(tmp_path) as pool,
        pytest.raises(ValueError, match="serves with speculation: start it without"),
    ):
        pool.serve(engine, Serving(), TINY)


@pytest.mark.engine
def test_a_port_that_is_taken_ends_the_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        launch = LlamaCppEngine().launch(Serving(), TINY, taken.getsockname()[1])
        done = subprocess.run(list(launch.argv), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "llama.cpp did not start" in done.stderr
