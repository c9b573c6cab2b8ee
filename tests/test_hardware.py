"""Machines have the same name if their measurements can be compared."""

from __future__ import annotations

import platform
from importlib import metadata

import pytest
from doubles.mock_nvml import MockDevice, MockNvml

import pytest_rllm
from pytest_rllm.telemetry import hardware as environment
from pytest_rllm.telemetry.gpu import Gpu
from pytest_rllm.telemetry.hardware import hardware_id, versions

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
