"""What the findings need of the paper's pairs, found before anything starts: on a mock GPU, with
data sets of the published sizes and a mock hub."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import datasets as library  # noqa: F401 - in-process runs of pytest cannot load it twice
import pytest
from doubles.families import shape
from doubles.mock_hub import MockHub
from doubles.mock_nvml import MockDevice, MockNvml

from pytest_rllm.datasets import prompts as module
from pytest_rllm.datasets.prompts import DataMissing, Loader, Prompt
from pytest_rllm.engines.pool import Pool
from pytest_rllm.engines.vllm import VllmEngine, _Package
from pytest_rllm.session import limits, needs

FINDINGS = Path(__file__).parent.parent / "tests_findings"
SIZES = {
    "gsm8k": ("easy", 1319),
    "math500": ("medium", 500),
    "aime2024": ("hard", 30),
    "supergpqa": ("knowledge", 26_529),
    "commonsenseqa": ("commonsense", 1221),
    "strategyqa": ("commonsense", 687),
    "babi": ("logic", 20_000),
    "humaneval": ("code", 164),
}
"""Tier and number of questions of published data sets."""
SEVEN = "DeepSeek-R1-Distill-Qwen-7B"
MODELS = {
    f"deepseek-ai/{SEVEN}": 14.2,
    "Qwen/Qwen2.5-7B-Instruct": 14.2,
    f"thoughtworks/{SEVEN}-Eagle3": 1.6,
    f"RedHatAI/{SEVEN}-quantized.w4a16": 5.2,
    f"RedHatAI/{SEVEN}-quantized.w8a8": 8.1,
    f"RedHatAI/{SEVEN}-FP8-dynamic": 8.1,
}


def questions(name: str) -> Loader:
    tier, count = SIZES[name]

    def loader(folder: Path | None) -> Iterator[Prompt]:
        for i in range(min(count, 2000)):
            kind = "code" if tier == "code" else "math"
            yield Prompt(f"{name}-{i}", f"What is {i}?", str(i), tier, kind, f"{name}-{i}")  # type: ignore[arg-type]

    return loader


def gated(folder: Path | None) -> Iterator[Prompt]:
    raise DataMissing("data set 'gpqa' is gated: accept its terms", "gpqa")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MockHub:
    gpu = MockDevice("NVIDIA H100 80GB HBM3", 79.6, processes=(), used_gib=0.5)
    monkeypatch.setitem(sys.modules, "pynvml", MockNvml(gpu))
    package = _Package("vllm", "0.32.0", True, True, ("fp8",), ("fp8",))
    monkeypatch.setattr(VllmEngine, "_package", package)
    monkeypatch.setattr(Pool, "__init__", lambda *_, **__: pytest.fail("a server is asked for"))
    for name in SIZES:
        monkeypatch.setitem(module._LOADERS, name, questions(name))
    monkeypatch.setitem(module._LOADERS, "gpqa", gated)
    hub = MockHub(sizes=MODELS)
    monkeypatch.setattr(needs, "Hub", lambda: hub)
    monkeypatch.setenv("RLLM_CACHE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")
    return hub


def test_what_all_findings_need_of_the_papers_7b_is_known_before_anything_starts(
    pytester: pytest.Pytester, hub: MockHub
) -> None:
    (pytester.path / "data").mkdir()  # so that these questions are cached for this session alone
    args = ("--rllm-plan", "--rllm-tier=gate", "--rllm-model=r1-distill-qwen-7b")
    quiet = ("-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--import-mode=importlib")
    result = pytester.runpytest_inprocess(FINDINGS, *args, "--rllm-data=data", *quiet)
    assert result.ret == pytest.ExitCode.OK
    assert result.parseoutcomes().keys() <= {"planned", "skipped", "deselected", "warnings"}
    for model, size in MODELS.items():
        result.stdout.fnmatch_lines([f"to be downloaded: {model}, {size} GiB, * case*"])
    assert sorted(hub.asked) == sorted([*MODELS, f"casperhansen/{SEVEN.lower()}-awq"])
    assert hub.fetched == []
    result.stdout.fnmatch_lines_random(
        [
            "not measured: weight-quant-slow *awq-int4*: there is no model casperhansen/*",
            "not measured: *: data set 'gpqa' is gated: accept its terms",
            "not measured: *: answers are programs, which run only in a sandbox: *",
        ]
    )


def test_a_plan_of_all_findings_of_the_papers_7b_is_in_hours(
    pytester: pytest.Pytester, hub: MockHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pytester.path / "data").mkdir()
    gpu = MockDevice("NVIDIA H100 80GB HBM3", 79.6, bus_bits=5120, memory_clock_mhz=2619)
    monkeypatch.setitem(sys.modules, "pynvml", MockNvml(gpu))
    monkeypatch.setattr(limits, "shape_of", shape)
    limits._shape.cache_clear()
    args = ("--rllm-plan", "--rllm-tier=gate", "--rllm-model=r1-distill-qwen-7b")
    quiet = ("-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--import-mode=importlib")
    result = pytester.runpytest_inprocess(FINDINGS, *args, "--rllm-data=data", *quiet)
    limits._shape.cache_clear()
    found = re.search(r"^hours: about ([\d.]+), at most ([\d.]+); ", result.stdout.str(), re.M)
    assert found is not None
    # Simulated before: 10 to 14 hours of 19 cases, and half or twice as much is likely.
    assert 4 < float(found[1]) < 28
    assert float(found[1]) < float(found[2]) < 60
