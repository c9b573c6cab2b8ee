"""Which machine this is, and how fast it is right now."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from statistics import median

import psutil
import pytest
from doubles.mock_nvml import MockDevice, MockNvml

import pytest_rllm
from pytest_rllm.session.readings import on_this_machine
from pytest_rllm.telemetry import hardware as environment
from pytest_rllm.telemetry import machine
from pytest_rllm.telemetry.gpu import Gpu
from pytest_rllm.telemetry.hardware import hardware_id, versions
from pytest_rllm.telemetry.machine import fingerprint
from pytest_rllm.telemetry.reference import CpuReference, TorchReference


@pytest.fixture(autouse=True)
def _ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose id lies in a file of the test."""
    (tmp_path / "id").write_text("4c4c4544\n")
    monkeypatch.setattr(machine, "IDS", (str(tmp_path / "missing"), str(tmp_path / "id")))
    monkeypatch.setenv("RLLM_CACHE", str(tmp_path / "cache"))
    machine._id.cache_clear()
    yield
    machine._id.cache_clear()


def test_a_fingerprint_stays_and_names_nothing() -> None:
    told = fingerprint(Gpu(MockNvml()))
    assert told == fingerprint(Gpu(MockNvml()))
    assert len(told) == 12
    assert int(told, 16)
    assert "4c4c4544"[:6] not in told


def test_another_id_memory_or_gpu_is_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [fingerprint(Gpu(MockNvml())), fingerprint(Gpu(MockNvml(MockDevice())))]
    monkeypatch.setattr(machine, "cores", lambda: 1000)
    told.append(fingerprint(Gpu(MockNvml())))
    (tmp_path / "id").write_text("another\n")
    machine._id.cache_clear()
    told.append(fingerprint(Gpu(MockNvml())))
    assert len(set(told)) == len(told)


def test_a_machine_without_an_id_gets_one_that_stays(tmp_path: Path) -> None:
    (tmp_path / "id").unlink()
    told = fingerprint(Gpu(MockNvml()))
    machine._id.cache_clear()
    assert fingerprint(Gpu(MockNvml())) == told
    (tmp_path / "cache" / machine.OWN_ID).unlink()
    machine._id.cache_clear()
    assert fingerprint(Gpu(MockNvml())) != told


@pytest.mark.parametrize(
    ("url", "here"),
    [
        (None, True),
        ("http://127.0.0.1:8000", True),
        ("http://localhost:8000", True),
        ("http://[::1]:8000", True),
        ("http://serving.example:8000", False),
        ("http://10.0.0.7:8000", False),
    ],
)
def test_a_server_runs_here_when_it_was_started_here_or_has_our_address(
    url: str | None, here: bool
) -> None:
    assert on_this_machine(url) is here


def test_a_busy_machine_takes_longer_for_the_reference_load() -> None:
    """Side by side in one run, with a busy process for every processor: half of the time is left.

    The median of several, because this machine may be busy by itself, too.
    """
    reference = CpuReference()
    reference.seconds()
    spin = [sys.executable, "-c", "while True: pass"]
    quiet, beside = [], []
    for _ in range(3):
        quiet += [reference.seconds() for _ in range(4)]
        busy = [subprocess.Popen(spin) for _ in range(len(os.sched_getaffinity(0)))]
        try:
            for process in busy:  # until it has begun to take time
                while psutil.Process(process.pid).cpu_times().user < 0.05:
                    time.sleep(0.01)
            beside += [reference.seconds() for _ in range(4)]
        finally:
            for process in busy:
                process.kill()
                process.wait()
    assert median(beside) > 1.2 * median(quiet)


def test_torchs_reference_load_takes_its_time_in_a_process_of_its_own() -> None:
    pytest.importorskip("torch")
    reference = TorchReference("cpu")
    try:
        times = [reference.seconds() for _ in range(3)]
    finally:
        reference.close()
    assert all(took is not None and took > 0 for took in times)


def test_a_reference_load_that_cannot_run_is_none_and_is_not_tried_again() -> None:
    reference = TorchReference("cpu", python="/bin/false")
    assert reference.seconds() is None
    assert reference.seconds() is None
    reference.close()


# ---- machines have the same name if their measurements can be compared

NONE = Gpu(MockNvml())
TWO = Gpu(MockNvml(MockDevice("NVIDIA H100 80GB HBM3"), MockDevice("NVIDIA H100 80GB HBM3")))


def cpuinfo(vendor: str, flags: str) -> str:
    return f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\n"


@pytest.fixture
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "cores", lambda: 2)


@pytest.mark.usefixtures("_two_cores")
@pytest.mark.parametrize(
    ("text", "name"),
    [
        (cpuinfo("AuthenticAMD", "avx2 avx512f avx512_bf16"), "cpu-amd-avx512bf16-2c"),
        (cpuinfo("GenuineIntel", "avx2 avx512f avx512_bf16 amx_tile"), "cpu-intel-amx-2c"),
        (cpuinfo("GenuineIntel", "avx2 avx512f"), "cpu-intel-avx512-2c"),
        (cpuinfo("AuthenticAMD", "avx avx2"), "cpu-amd-avx2-2c"),
        (cpuinfo("AuthenticAMD", "avx512_bf16x"), "cpu-amd-base-2c"),
        ("processor: 0\nFeatures\t: fp asimd\n", f"cpu-{platform.machine().lower()}-neon-2c"),
        ("", f"cpu-{platform.machine().lower()}-base-2c"),
    ],
)
def test_a_cpu_is_named_by_its_kernels(
    monkeypatch: pytest.MonkeyPatch, text: str, name: str
) -> None:
    monkeypatch.setattr(environment, "cpuinfo", lambda: text)
    assert hardware_id(NONE, on_cpu=False) == name


def test_gpus_are_named_and_counted() -> None:
    assert hardware_id(TWO, on_cpu=False) == "gpu-nvidia-h100-80gb-hbm3-2x"


def test_an_engine_on_the_cpu_is_measured_on_the_cpu_whatever_gpus_there_are() -> None:
    assert hardware_id(TWO, on_cpu=True) == hardware_id(NONE, on_cpu=True)
    assert hardware_id(TWO, on_cpu=True).startswith("cpu-")


def test_cores_are_those_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    assert hardware_id(NONE, on_cpu=True).endswith("-3c")


def test_versions_are_of_what_is_installed() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["pytest-rllm"] == pytest_rllm.__version__
    assert {"numpy", "httptools", "uvloop"} <= found.keys()


def test_a_distribution_that_is_not_installed_has_no_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    assert list(versions.__wrapped__()) == ["python"]
