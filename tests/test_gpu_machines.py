"""Machines of a mock NVML from end to end: what a GPU finding is told that cannot run there, and
why a block of one that can is void."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from doubles.mock_nvml import (
    CLOCK_CHANGE,
    HOT,
    MockDevice,
    MockNvml,
    gb10,
    h100,
    lost,
    split,
    under_wsl,
    without_rights,
)
from doubles.synthetic import run, sample

from pytest_rllm.datasets.prompts import load
from pytest_rllm.engines.mock.engine import MockEngine
from pytest_rllm.engines.pool import Pool
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, closed
from pytest_rllm.loadgen.fidelity import ClientCapacity, Fidelity
from pytest_rllm.models import PAIRS
from pytest_rllm.records.header import Header
from pytest_rllm.records.reader import read_run
from pytest_rllm.reports.progress import Progress
from pytest_rllm.session.live import Live
from pytest_rllm.session.readings import Readings
from pytest_rllm.session.sources import Place
from pytest_rllm.telemetry.gpu import Gpu
from pytest_rllm.verdicts.void_blocks import void_blocks

ARGS = ("-p", "no:cacheprovider", "-o", "addopts=")
FINDING = """
import pytest
from pytest_rllm import finding

@pytest.mark.gpu(count=2)
@finding("A sentence.", cite="a source")
def test_it(compare):
    raise AssertionError("must not run")
"""


@pytest.mark.parametrize(
    ("nvml", "visible", "reason"),
    [
        (MockNvml(h100()), None, "there is NVIDIA H100 80GB HBM3, 80 GiB, capability 9.0"),
        (MockNvml(*(h100() for _ in range(8))), "5", "CUDA_VISIBLE_DEVICES=5 leaves 1 of 8 GPUs"),
        (MockNvml(*(h100() for _ in range(8))), "", "an empty list leaves no GPU"),
        (MockNvml(split(h100(), 3)), "MIG-mock-0-2", "NVIDIA H100 80GB HBM3 MIG 1g.10gb, 10 GiB"),
        (MockNvml(split(h100(), 0)), None, "in MIG mode and has no instance"),
        (MockNvml(gb10()), None, "NVIDIA GB10, does not tell its memory"),
        (MockNvml(under_wsl()), None, "NVIDIA GeForce RTX 4090, 24 GiB"),
        (MockNvml(without_rights(h100())), None, "80 GiB, capability not told"),
        (MockNvml(lost(h100())), None, "GPU 0 does not answer (GPU is lost): restart the machine"),
        (MockNvml(broken=9), None, "the driver is not loaded: load it"),
    ],
    ids=["H100", "one", "none", "MIG", "no instance", "GB10", "WSL", "no rights", "lost", "driver"],
)
def test_a_gpu_finding_is_told_what_the_machine_has(
    nvml: MockNvml,
    visible: str | None,
    reason: str,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    pytester.makepyfile(FINDING)
    result = pytester.runpytest_inprocess(*ARGS, "-rs", "--rllm-model=tiny")
    result.assert_outcomes(skipped=1)
    assert reason in result.stdout.str()
    assert "Traceback" not in result.stdout.str()


# ---- what voids a block


def block(card: MockDevice, during: Callable[[int], None] = lambda _: None) -> dict[int, str]:
    """Void blocks, and why, of one whose server was on this GPU for 40 readings."""
    engine: Any = SimpleNamespace(on_cpu=False, url=None)
    readings = Readings(Gpu(MockNvml(card), {}))
    readings.before_servers([engine])
    card.used_gib += 30
    if "nvmlDeviceGetComputeRunningProcesses" not in card.refuses:
        card.processes = [*card.processes, (os.getpid(), 30.0)]
    readings.servers_are_up([engine])
    strangers = readings.strangers(engine, [engine])
    read, series = readings.monitor([engine]), dict[str, list[float]]()
    for i in range(40):
        during(i)
        for name, value in read().items():
            series.setdefault(name, []).append(value)
    gpus = {name: values for name, values in series.items() if name.startswith("gpu")}
    measured = run(sample("q"), series=gpus, gpu_strangers=strangers)
    return void_blocks([(measured, run(sample("q")))])


@pytest.mark.parametrize(
    "make",
    [h100, gb10, under_wsl, lambda: without_rights(h100()), lambda: h100(throttle=CLOCK_CHANGE)],
    ids=["H100", "GB10", "WSL", "no rights", "changes of clock"],
)
def test_an_engine_with_a_gpu_for_itself_is_measured(make: Callable[[], MockDevice]) -> None:
    assert block(make()) == {}


@pytest.mark.parametrize(("hot", "void"), [(2, False), (3, True)])
def test_a_gpu_may_be_hot_for_a_twentieth_of_a_run(hot: int, void: bool) -> None:
    card = h100()

    def heat(i: int) -> None:
        card.throttle = HOT if i < hot else CLOCK_CHANGE

    said = "gpu0 was throttled in 8% of 40 readings (HwThermalSlowdown), 5% are allowed"
    assert block(card, heat) == ({0: said} if void else {})


def test_somebody_else_on_the_gpu_voids_a_block() -> None:
    busy = h100(processes=[(4711, 20.0)], used_gib=20.5)
    assert block(busy) == {0: "gpu0 was shared: process 4711 with 20.0 GiB of others"}


def test_somebody_who_comes_voids_a_block_under_wsl_too() -> None:
    card = under_wsl(memory_gib=48)

    def come(i: int) -> None:
        card.used_gib += 5 * (i == 20)

    assert block(card, come) == {
        0: "gpu0 was shared: what is held of its memory went from 31.4 to 36.4 GiB while it was "
        "measured, and its driver lists no processes"
    }


def test_a_gpu_that_is_lost_meanwhile_ends_no_readings() -> None:
    card = h100()

    def lose(i: int) -> None:
        if i == 20:
            lost(card)

    assert block(card, lose) == {}


# ---- a run, from the driver to its record


class OnGpu(MockEngine):
    """The mock engine, which says that it serves on a GPU."""

    on_cpu = False


class Known(ClientCapacity):
    """A client that need not be measured."""

    def at_least(self, streams: int, *_: Any) -> Fidelity:
        return Fidelity(streams, 1, 1e6, 0.0, 0.0)


@pytest.mark.parametrize("kind", [OnGpu, MockEngine], ids=["on a GPU", "on a CPU"])
def test_a_record_holds_the_gpus_of_its_server_and_who_was_on_them(
    kind: type[MockEngine], tmp_path: Path
) -> None:
    busy = h100(processes=[(4711, 20.0)], used_gib=20.5, throttle=CLOCK_CHANGE)
    gpu = Gpu(MockNvml(busy, h100()), {"CUDA_VISIBLE_DEVICES": "0"})
    one = Arm(Serving(), load("bundled-easy")[:2], closed(2), Sampling(64), engine="mock")
    with Pool(tmp_path / "servers") as pool:
        live = Live(
            lambda _: kind(),
            PAIRS["tiny"],
            pool,
            gpu,
            tmp_path,
            Progress(None),
            Readings(gpu),
            Known(),
        )
        live.prepare([one])
        live.run(one, Path("run.jsonl"), Header(), Place())
    measured = read_run(tmp_path / "run.jsonl")
    read = {name for name in measured.series if name.startswith("gpu")}
    if kind is OnGpu:
        strangers = {"gpu0": "process 4711 with 20.0 GiB of others"}
        assert set(measured.series["gpu0_clock_reasons"][1]) == {float(CLOCK_CHANGE)}
        assert {name.partition("_")[0] for name in read} == {"gpu0"}
        assert measured.header.match["hardware"] == "gpu-nvidia-h100-80gb-hbm3-1x"
    else:
        strangers = {}
        assert read == set()
        assert measured.header.match["hardware"].startswith("cpu-")
    assert measured.header.gpu_strangers == strangers
    said = [f"{device} was shared: {who}" for device, who in strangers.items()]
    assert list(void_blocks([(measured, measured)]).values()) == said
