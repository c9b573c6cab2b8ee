"""How long a server may take to start, what is said meanwhile, and why it did not start."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from doubles.script_engine import HEALTHY, ScriptEngine

from pytest_rllm.checkpoints.on_disk import weights_bytes
from pytest_rllm.engines import starting
from pytest_rllm.engines.base import DidNotStart, EngineError
from pytest_rllm.engines.causes import Cause
from pytest_rllm.engines.last_words import cause, first_error, step
from pytest_rllm.engines.llamacpp import LlamaCppEngine
from pytest_rllm.engines.pool import Pool
from pytest_rllm.engines.sglang import SglangEngine
from pytest_rllm.engines.starting import start_time_s, time_for
from pytest_rllm.engines.vllm import VllmEngine
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.models import PAIRS

TINY = PAIRS["tiny"]
TEXT = (Path(__file__).parent / "start_logs.txt").read_text()
LOGS = {
    name: body.strip("\n").splitlines()
    for name, body in re.findall(r"^=== (.+)\n((?:(?!=== ).*\n?)*)", TEXT, re.MULTILINE)
}
"""Lines of a log by its name."""
FREE = "stop what else uses the GPU (nvidia-smi lists it)"
NVCC = (
    "it compiles kernels when they are first used, and finds no nvcc: install the CUDA toolkit of "
    "the version that PyTorch was built for, with nvcc on PATH, or ready-made kernels "
    "(flashinfer-jit-cache and flashinfer-cubin, of the version of flashinfer-python)"
)
NO_GPU = (
    "no NVIDIA GPU is visible to it: see what nvidia-smi lists, what CUDA_VISIBLE_DEVICES leaves "
    "of it, and in a container whether it was started with --gpus all"
)
LARGER = "or take a smaller model or a larger GPU"
NO_ROOM = f"beside the weights no memory is left for the KV cache: {FREE}, {LARGER}"
MADE_FOR = (
    "a context of 32768 tokens was asked for, and the model was made for 4096: say context_length "
    "= 4096 or less in the pair's TOML file"
)
SHORTER = (
    f"{FREE}, say a smaller context_length or a larger kv_cache_bytes in the pair's TOML file, or "
    "take a larger GPU"
)
LESS_FREE = f"31.44 of 47.38 GiB of the GPU are free, and 45.01 are asked for: {FREE}, {LARGER}"
KILLED = (
    "it was killed by SIGKILL, as the kernel does when memory of the host runs out (dmesg says "
    "so): free memory, or give the container more of it"
)
SENTENCES: dict[str, tuple[Any, str]] = {
    "no nvcc": (VllmEngine, f"{NVCC}; VLLM_USE_FLASHINFER_SAMPLER=0 may do without them"),
    "no nvcc in the shell": (SglangEngine, NVCC),
    "less free than asked for": (VllmEngine, LESS_FREE),
    "less free than asked for, before 0.12": (VllmEngine, LESS_FREE),
    "less of the host free than asked for": (
        VllmEngine,
        "5.12 of 15.60 GiB of the host's memory are free, and 14.35 are asked for: say "
        "kv_cache_bytes = ... in the pair's TOML file, or free memory",
    ),
    "no room beside the weights": (VllmEngine, NO_ROOM),
    "no room beside the weights, sglang": (SglangEngine, NO_ROOM),
    "cache shorter than one sequence": (
        VllmEngine,
        "the KV cache does not hold one sequence: 32768 tokens take 6.0 GiB, and 4.41 are left "
        f"beside the weights: {SHORTER}",
    ),
    "cache shorter than one sequence, before 0.8": (
        VllmEngine,
        "the KV cache does not hold one sequence: it has room for 17040 tokens of 32768: "
        f"{SHORTER}",
    ),
    "longer than the model was made for": (VllmEngine, MADE_FOR),
    "longer than the model was made for, sglang": (SglangEngine, MADE_FOR),
    "other vocabulary": (
        VllmEngine,
        "the draft model has 151936 tokens in its vocabulary, and the model that it drafts for "
        "152064: take a draft model of the same vocabulary, or none",
    ),
    "other vocabulary, llama.cpp": (
        LlamaCppEngine,
        "the draft model has another vocabulary than the model that it drafts for: take a draft "
        "model of the same vocabulary, or none",
    ),
    "no batch-invariant attention": (
        VllmEngine,
        "this model's attention (GDN_ATTN) has no batch-invariant kernels in this build: take a "
        "newer build or another model",
    ),
    "unknown architecture": (
        VllmEngine,
        "this build knows no model of the architecture Qwen9ForCausalLM: take a newer build",
    ),
    "engine killed": (VllmEngine, KILLED),
    "driver too old": (
        VllmEngine,
        "the NVIDIA driver is too old for this build, it knows CUDA 12.8 and no newer: install a "
        "newer driver, or a build for CUDA 12.8",
    ),
    "driver of another kind": (
        VllmEngine,
        "the NVIDIA driver does not fit the CUDA libraries of this build: install the driver that "
        "they need, or a build for the CUDA version that nvidia-smi shows",
    ),
    "no GPU": (VllmEngine, NO_GPU),
    "no GPU, llama.cpp": (LlamaCppEngine, NO_GPU),
    "no kernels": (
        VllmEngine,
        "this build has no kernels for the compute capability of this GPU: take a build that has, "
        "a newer one for a newer GPU",
    ),
    "small shared memory": (
        VllmEngine,
        "shared memory (/dev/shm) is too small: start the container with --ipc=host, or with "
        "--shm-size=16g",
    ),
    "NCCL": (
        VllmEngine,
        "the GPUs could not be joined (NCCL: unhandled cuda error): with NCCL_DEBUG=INFO its log "
        "says why; NCCL_P2P_DISABLE=1 goes around links between GPUs that do not work",
    ),
    "out of memory": (
        VllmEngine,
        "memory of GPU 0 ran out (140.75 MiB of 79.11 GiB were free when 786.00 MiB were asked "
        f"for): {FREE}, {LARGER}",
    ),
    "out of memory, sampler": (VllmEngine, f"memory of the GPU ran out: {FREE}, {LARGER}"),
    "out of memory, llama.cpp": (
        LlamaCppEngine,
        f"memory of GPU 1 ran out when 51748.72 MiB were asked for: {FREE}, {LARGER}",
    ),
    "gated": (
        VllmEngine,
        "the model meta-llama/Llama-3.3-70B-Instruct is gated: ask for access at "
        "https://huggingface.co/meta-llama/Llama-3.3-70B-Instruct, then log in (hf auth login) or "
        "set HF_TOKEN",
    ),
    "no such model": (
        VllmEngine,
        "the hub has no model deepseek-ai/DeepSeek-R1-Distil-Qwen-7B, or shows it only to those "
        "who are let in: correct its id, or log in (hf auth login)",
    ),
    "no such folder": (
        SglangEngine,
        "there is no folder qwen3-8b-mine, and no model of that id on the hub: correct it",
    ),
    "offline": (
        VllmEngine,
        "files of the model are not in the hub's cache on this machine, and the hub could not be "
        "asked: download it first (hf download MODEL), with HF_HUB_OFFLINE unset",
    ),
    "disk full": (
        VllmEngine,
        "a disk is full (df -h says which): make room where it writes, as in ~/.cache or HF_HOME",
    ),
    "port taken": (
        VllmEngine,
        "a port that it needs was taken by another process meanwhile: start again",
    ),
}
"""By the name of a log whose it is, and what is said."""


def test_every_log_has_its_sentence() -> None:
    assert LOGS.keys() == SENTENCES.keys()


@pytest.mark.parametrize("name", SENTENCES)
def test_a_cause_is_told_in_one_sentence(name: str) -> None:
    engine, sentence = SENTENCES[name]
    assert cause(LOGS[name], engine.causes) == f": {sentence}"


def test_every_cause_of_an_engine_has_a_log() -> None:
    for engine in (VllmEngine, SglangEngine, LlamaCppEngine):
        for one in engine.causes:
            assert any(one.of(lines) for lines in LOGS.values()), one.pattern


def test_a_warning_is_no_cause() -> None:
    said = [
        "WARNING 06-20 12:27:37 [topk_topp_sampler.py:63] Could not find nvcc, using PyTorch's",
        "(EngineCore pid=1) ERROR 06-20 12:27:40 [core.py:1] ValueError: something else",
        "RuntimeError: Engine core initialization failed. See root cause above.",
    ]
    assert cause(said, VllmEngine.causes) == ": ValueError: something else"


def test_an_engines_own_causes_count_before_those_of_all() -> None:
    said = ["RuntimeError: CUDA out of memory"]
    own = Cause("out of (?P<what>memory)", "its {what} is full")
    assert cause(said, [own]) == ": its memory is full"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:13<00:11,  2.87s/it]",
            "loading safetensors checkpoint shards 2/4",
        ),
        (
            "(EngineCore_DP0 pid=9) \rCapturing CUDA graphs (PIECEWISE):  45%|####5     | 23/51 [0",
            "capturing CUDA graphs (PIECEWISE) 23/51",
        ),
        (
            "(Worker_TP0 pid=34) INFO 05-06 21:00:16 [backends.py:1128] Dynamo bytecode transform",
            "dynamo bytecode transform",
        ),
        (
            "[2025-03-29 18:13:02 TP0] Load weight end. type=Qwen2ForCausalLM",
            "load weight end. type=Qwen2ForCausalLM",
        ),
        ("0.01.066.077 I srv    load_model: loading model", "srv load_model: loading model"),
        ("INFO:     Waiting for application startup.", "waiting for application startup."),
        ("CUDA graphs", "CUDA graphs"),
        ("x" * 99, "x" * 56 + " ..."),
        ("(EngineCore_DP0 pid=9) ", ""),
    ],
)
def test_what_a_server_does_now_is_its_last_line_without_what_loggers_write(
    line: str, said: str
) -> None:
    assert step(line.splitlines()) == said
    assert step([*line.splitlines(), "(EngineCore pid=9)", ""]) == said


def test_the_first_error_is_found_far_above_the_end() -> None:
    above = ["INFO fine"] * 40
    error = [
        "ERROR 09-28 [core.py:718] EngineCore failed to start.",
        "ERROR 09-28 [core.py:718] Traceback (most recent call last):",
        "ERROR 09-28 [core.py:718] ValueError: the cause",
    ]
    below = ["  File x"] * 50
    last = ["RuntimeError: Engine core initialization failed. See root cause above."]
    assert first_error([*above, *error, *below, *last]) == [40, 42]
    assert first_error(["ERROR 09-28 failed", *below]) == [0]
    assert first_error(above) == []


# ---- how long it may take


def test_a_start_may_take_as_long_as_the_size_of_what_is_loaded_asks_for() -> None:
    assert start_time_s(0.01, on_cpu=True) == 300
    assert start_time_s(0.01, on_cpu=False) == 600
    seven = start_time_s(14.2, on_cpu=False)
    assert seven == 880
    assert seven > 2 * 345  # a 7B with an FP8 KV cache was seen to take 345 s on an H100
    assert start_time_s(14.2, 14.2, on_cpu=False) > seven + 14.2 * 100


def test_the_bundled_pair_has_five_minutes_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ScriptEngine("")
    monkeypatch.setattr(ScriptEngine, "on_cpu", True)
    assert time_for(engine, Serving(), TINY) == 300
    assert time_for(engine, Serving(speculative="draft"), TINY) == 300


def test_what_is_not_here_yet_has_time_to_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    here: dict[str, int] = {}
    monkeypatch.setattr(starting, "weights_bytes", here.get)
    monkeypatch.setattr(ScriptEngine, "on_cpu", False)
    seven = PAIRS["r1-distill-qwen-7b"]
    absent = time_for(ScriptEngine(""), Serving(), seven)
    here[seven.reasoning] = 15_231_000_000
    there = time_for(ScriptEngine(""), Serving(), seven)
    assert there == 880
    assert absent > there + 1000


def test_the_size_of_a_checkpoint_is_that_of_the_files_that_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert weights_bytes(TINY.reasoning) == sum(
        file.stat().st_size for file in Path(TINY.reasoning).glob("*.safetensors")
    )
    one = tmp_path / "one"
    one.mkdir()
    assert weights_bytes(str(one)) is None
    for name, size in (("a.safetensors", 5), ("b.safetensors", 6), ("old.bin", 100)):
        (one / name).write_bytes(bytes(size))
    assert weights_bytes(str(one)) == 11
    assert weights_bytes(str(one / "old.bin")) == 100
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert weights_bytes("nobody/nothing") is None


# ---- servers that really start, and do not


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said_by(script: str, folder: Path, start_s: float | None = None) -> tuple[str, list[str]]:
    """How the start of a script failed, and what was said meanwhile."""
    told: list[str] = []
    with pytest.raises(EngineError) as caught:
        Pool(folder, start_s=start_s, say=told.append).serve(ScriptEngine(script), Serving(), TINY)
    return str(caught.value), told


def test_the_cause_is_told_beside_the_first_error_and_the_last_lines(in_tmp: Path) -> None:
    """vLLM #44411: the cause stood dozens of lines above the end."""
    lines = ["INFO fine", *LOGS["gated"], *["  File x"] * 40]
    text, _ = said_by(f"print({chr(10).join(lines)!r}); raise SystemExit(1)", in_tmp)
    shown = text.splitlines()
    assert shown[0].startswith("script 1 ended with status 1 after ")
    assert shown[0].endswith(f", before it was healthy: {SENTENCES['gated'][1]}")
    assert shown[2].endswith(".log, first error, in line 2 of 46:")
    assert shown[3:5] == [f"  | {lines[1]}", "  last lines:"]
    assert shown[5:] == [f"  | {line}" for line in lines[-30:]]


def test_an_error_among_the_last_lines_is_shown_once(in_tmp: Path) -> None:
    lines = LOGS["less free than asked for"]
    text, _ = said_by(f"print({chr(10).join(lines)!r}); raise SystemExit(1)", in_tmp)
    assert "first error" not in text
    assert text.splitlines()[3:] == [f"  | {line}" for line in lines]


def test_one_that_was_killed_says_so(in_tmp: Path) -> None:
    text, _ = said_by("import os; os.kill(os.getpid(), 9)", in_tmp)
    assert text.splitlines()[0].endswith(f"before it was healthy: {KILLED}")
    assert "ended with status 137" in text


def test_what_is_waited_for_is_said_and_that_it_takes_too_long(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:13<00:11]"
    monkeypatch.setattr(starting, "QUIET_S", 1.0)
    text, told = said_by(f"print({line!r}, flush=True); import time; time.sleep(600)", in_tmp, 3)
    shards = r"loading safetensors checkpoint shards 2/4"
    assert any(
        re.fullmatch(rf"starting script 1: reasoning \(\d of 3 s\): {shards}", t) for t in told
    )
    assert any(re.search(r"of 3 s, and said nothing for \d s\): loading", t) for t in told)
    assert re.match(
        r"script 1 was not healthy after 3 s, and said nothing for \d s; if it only needs longer, "
        r"--rllm-start-timeout=SECONDS says how long it may take\n",
        text,
    )


def test_a_server_that_still_prints_is_not_called_silent(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "QUIET_S", 1.5)
    script = "import time\nfor i in range(600): print(i, flush=True); time.sleep(0.2)"
    text, _ = said_by(script, in_tmp, 3)
    assert "was not healthy after 3 s; if" in text


def test_why_a_server_did_not_start_is_kept_beside_the_message(in_tmp: Path) -> None:
    with pytest.raises(DidNotStart) as caught:
        Pool(in_tmp).serve(ScriptEngine("raise ValueError('no such model')"), Serving(), TINY)
    assert caught.value.why == ": ValueError: no such model"


def test_a_healthy_server_is_not_asked_for_causes(in_tmp: Path) -> None:
    script = f"print('CUDA out of memory', flush=True)\n{HEALTHY}"
    with Pool(in_tmp, start_s=30) as pool:
        assert pool.serve(ScriptEngine(script), Serving(), TINY).alive
