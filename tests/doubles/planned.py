"""What a plan of the findings needs, made up: GPUs, an engine's package, a hub, and data sets of
the published sizes. Nothing is asked of a network, and no server is started."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from pytest_rllm.checkpoints.shape import Shape, shape_of
from pytest_rllm.datasets import prompts
from pytest_rllm.datasets.prompts import DataMissing, Loader, Prompt
from pytest_rllm.engines.memory import need_of
from pytest_rllm.engines.pool import Pool
from pytest_rllm.engines.vllm import VllmEngine, _Package
from pytest_rllm.models import BUNDLED, PAIRS
from pytest_rllm.session import limits, needs

from .families import shape
from .mock_hub import MockHub
from .mock_nvml import MockDevice, MockNvml

FINDINGS = Path(__file__).parent.parent.parent / "tests_findings"
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


def questions(name: str) -> Loader:
    tier, count = SIZES[name]

    def loader(folder: Path | None) -> Iterator[Prompt]:
        for i in range(min(count, 2000)):
            kind = "code" if tier == "code" else "math"
            yield Prompt(f"{name}-{i}", f"What is {i}?", str(i), tier, kind, f"{name}-{i}")  # type: ignore[arg-type]

    return loader


def gated(folder: Path | None) -> Iterator[Prompt]:
    raise DataMissing("data set 'gpqa' is gated: accept its terms", "gpqa")


def stand_in(
    patch: pytest.MonkeyPatch, cache: Path, gpus: Sequence[MockDevice], models: Mapping[str, float]
) -> MockHub:
    """Put mocks where a plan looks for GPUs, an engine, models and questions.

    Args:
        patch: puts them back.
        cache: an empty folder in place of the user's cache.
        gpus: of the machine.
        models: GiB of those that the hub has.
    """
    patch.setitem(sys.modules, "pynvml", MockNvml(*gpus))
    package = _Package("vllm", "0.32.0", True, True, ("fp8",), ("fp8",))
    patch.setattr(VllmEngine, "_package", package)
    patch.setattr(Pool, "__init__", lambda *_, **__: pytest.fail("a server is asked for"))
    for name in SIZES:
        patch.setitem(prompts._LOADERS, name, questions(name))
    patch.setitem(prompts._LOADERS, "gpqa", gated)
    hub = MockHub(sizes=models)
    patch.setattr(needs, "Hub", lambda: hub)
    patch.setenv("RLLM_CACHE", str(cache))
    patch.setenv("COLUMNS", "300")
    return hub


def arguments(pair: str, data: str) -> list[str]:
    """Of pytest, for a plan of all findings of a pair.

    Args:
        pair: its name.
        data: an empty folder, so that questions are cached for this session alone.
    """
    quiet = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--import-mode=importlib"]
    said = ["--rllm-plan", "--rllm-tier=gate", f"--rllm-model={pair}", f"--rllm-data={data}"]
    return [str(FINDINGS), *said, *quiet]


def size_up(patch: pytest.MonkeyPatch) -> None:
    """Let sizes of published models be known, as after their ``config.json`` was fetched; a plain
    model counts as the reasoning model of its pair does."""
    alike = {pair.plain: pair.reasoning for pair in PAIRS.values()}

    def known(model: str) -> Shape | None:
        if model.startswith(str(BUNDLED)):
            return shape_of(model)
        return shape(alike.get(model, model))

    patch.setattr(limits, "shape_of", known)
    patch.setitem(need_of.__kwdefaults__, "shape", known)
    limits._shape.cache_clear()
