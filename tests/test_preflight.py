"""What the findings need of the paper's pairs, found before anything starts: on a mock GPU, with
data sets of the published sizes and a mock hub."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import datasets as library  # noqa: F401 - in-process runs of pytest cannot load it twice
import pytest
from doubles.mock_hub import MockHub
from doubles.mock_nvml import MockDevice, MockNvml
from doubles.planned import arguments, size_up, stand_in
from hours_table import MARKS, rows

from pytest_rllm.session import limits

SEVEN = "DeepSeek-R1-Distill-Qwen-7B"
MODELS = {
    f"deepseek-ai/{SEVEN}": 14.2,
    "Qwen/Qwen2.5-7B-Instruct": 14.2,
    f"thoughtworks/{SEVEN}-Eagle3": 1.6,
    f"RedHatAI/{SEVEN}-quantized.w4a16": 5.2,
    f"RedHatAI/{SEVEN}-quantized.w8a8": 8.1,
    f"RedHatAI/{SEVEN}-FP8-dynamic": 8.1,
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MockHub:
    gpu = MockDevice("NVIDIA H100 80GB HBM3", 79.6, processes=(), used_gib=0.5)
    return stand_in(monkeypatch, tmp_path, [gpu], MODELS)


def test_what_all_findings_need_of_the_papers_7b_is_known_before_anything_starts(
    pytester: pytest.Pytester, hub: MockHub
) -> None:
    (pytester.path / "data").mkdir()  # so that these questions are cached for this session alone
    result = pytester.runpytest_inprocess(*arguments("r1-distill-qwen-7b", "data"))
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
    size_up(monkeypatch)
    result = pytester.runpytest_inprocess(*arguments("r1-distill-qwen-7b", "data"))
    limits._shape.cache_clear()
    found = re.search(r"^hours: about ([\d.]+), at most ([\d.]+); ", result.stdout.str(), re.M)
    assert found is not None
    # Simulated before: 10 to 14 hours of 19 cases, and half or twice as much is likely.
    assert 4 < float(found[1]) < 28
    assert float(found[1]) < float(found[2]) < 60


def test_the_row_of_the_7b_in_the_docs_is_what_plans_say() -> None:
    page = (Path(__file__).parent.parent / "docs/gpu.md").read_text(encoding="utf-8")
    shown = page.partition(MARKS[0])[2].partition(MARKS[1])[0].splitlines()
    (row,) = rows(["r1-distill-qwen-7b"])
    assert row in shown, "python tests/hours_table.py docs/gpu.md"
