"""The GPUs that a process may use, on machines of a mock NVML: what they tell, what they do not,
and the reasons why a machine cannot run a test."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pynvml
import pytest
from doubles.mock_nvml import (
    ASKED,
    CLOCK_CHANGE,
    HOT,
    MockDevice,
    MockNvml,
    gb10,
    h100,
    l4,
    lost,
    split,
    under_wsl,
    without_rights,
)

from pytest_rllm.telemetry import nvml as nvml_module
from pytest_rllm.telemetry.gpu import UNNAMED, Device, Gpu
from pytest_rllm.telemetry.hardware import hardware_id
from pytest_rllm.telemetry.machine import fingerprint
from pytest_rllm.telemetry.nvml import CLOCK_REASONS
from pytest_rllm.telemetry.throttling import THROTTLING, throttled_by
from pytest_rllm.telemetry.visible import Listed, Visible, visible

H200 = MockDevice()
L4 = MockDevice(b"NVIDIA L4", 22.5, (8, 9), bus_bits=192, memory_clock_mhz=6251)
ERRORS = {
    name.removeprefix("NVMLError_"): kind().value
    for name, kind in vars(pynvml).items()
    if name.startswith("NVMLError_") and "." not in name
}
"""Every error that NVML knows, by its name."""
BY_BUS = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
KNOWN = ("nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID")


def test_devices_are_described() -> None:
    gpu = Gpu(MockNvml(H200, L4))
    assert gpu.why_not is None
    assert gpu.devices == (
        Device(0, "NVIDIA H200", 141.0, (9, 0), "GPU-mock-0", pytest.approx(4916.7, abs=0.1)),
        Device(1, "NVIDIA L4", 22.5, (8, 9), "GPU-mock-1", pytest.approx(300.1, abs=0.1)),
    )


def test_memory_that_is_free_and_who_holds_the_rest_are_read_anew() -> None:
    card = MockDevice(processes=[(4711, 55.0), (815, None)], used_gib=60)
    gpu = Gpu(MockNvml(card))
    (device,) = gpu.devices
    assert (gpu.free_gib(device), gpu.holders(device)) == (81.0, [(4711, 55.0), (815, None)])
    card.processes, card.used_gib = [], 1
    assert (gpu.free_gib(device), gpu.holders(device)) == (140.0, [])


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_whatever_a_device_does_not_tell_is_none_and_no_error(error: int) -> None:
    told = [name for name in ASKED if name not in KNOWN]
    silent = MockDevice(refuses=dict.fromkeys(told, error))
    gpu = Gpu(MockNvml(silent))
    assert gpu.devices == (Device(0, UNNAMED, None, None, "GPU-mock-0"),)
    assert (gpu.free_gib(gpu.devices[0]), gpu.holders(gpu.devices[0])) == (None, None)
    assert (gpu.read(), gpu.missing(memory_gib=80, capability=9.0)) == ({}, None)
    assert gpu.missing(count=2) == (
        "needs 2 GPUs; there is unnamed GPU, does not tell its memory, capability not told"
    )


@pytest.mark.parametrize(
    "need",
    [
        {},
        {"memory_gib": 141},
        {"count": 2},
        {"count": 2, "memory_gib": 22, "capability": 8.9},
        {"capability": 9.0},
    ],
    ids=str,
)
def test_a_need_that_is_met(need: dict[str, float]) -> None:
    assert Gpu(MockNvml(H200, L4)).missing(**need) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("need", "wanted"),
    [
        ({"memory_gib": 200}, "1 GPU, 200 GiB each"),
        ({"count": 3}, "3 GPUs"),
        ({"count": 2, "memory_gib": 44}, "2 GPUs, 44 GiB each"),
        ({"capability": 10.0}, "1 GPU, compute capability 10"),
        ({"count": 2, "capability": 9.0}, "2 GPUs, compute capability 9"),
    ],
)
def test_a_need_that_is_not_met_is_reported_with_the_existing_gpus(
    need: dict[str, float], wanted: str
) -> None:
    assert Gpu(MockNvml(H200, L4), BY_BUS).missing(**need) == (  # type: ignore[arg-type]
        f"needs {wanted}; there is NVIDIA H200, 141 GiB, capability 9.0; "
        "NVIDIA L4, 22 GiB, capability 8.9"
    )


@pytest.mark.parametrize(
    ("nvml", "why_not"),
    [
        (MockNvml(), "no NVIDIA GPU: NVML lists none"),
        (
            MockNvml(H200, broken=ERRORS["DriverNotLoaded"]),
            "no NVIDIA GPU: the driver is not loaded: load it (modprobe nvidia), or give a "
            "container its GPUs (docker run --gpus all)",
        ),
        (
            MockNvml(H200, broken=ERRORS["LibraryNotFound"]),
            "no NVIDIA GPU: the driver's library (libnvidia-ml.so.1) is not found: install "
            "NVIDIA's driver, or give a container its GPUs (docker run --gpus all)",
        ),
        (
            MockNvml(H200, broken=ERRORS["LibRmVersionMismatch"]),
            "no NVIDIA GPU: the driver's library and its kernel module are of different versions, "
            "as after an update: restart the machine",
        ),
        (
            MockNvml(H200, broken=ERRORS["NoPermission"]),
            "no NVIDIA GPU: this user may not open the driver's device files (/dev/nvidia*)",
        ),
        (
            MockNvml(H200, broken=ERRORS["Unknown"]),
            "no NVIDIA GPU: NVML does not start (Unknown Error)",
        ),
    ],
    ids=["none", "no driver", "no library", "updated", "no rights", "unknown"],
)
def test_without_a_gpu_the_reason_is_given(nvml: MockNvml, why_not: str) -> None:
    gpu = Gpu(nvml)
    assert gpu.why_not == gpu.missing() == why_not
    assert (gpu.devices, gpu.read()) == ((), {})


def test_without_the_library_the_reason_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Gpu().why_not == "no GPU monitoring: install nvidia-ml-py"


def test_the_real_library_agrees_with_this_machine() -> None:
    gpu = Gpu()
    if gpu.why_not is None:
        pytest.skip("this machine has a GPU")
    assert gpu.why_not.startswith("no NVIDIA GPU: ")
    assert (gpu.devices, gpu.read()) == ((), {})


def test_the_mock_has_no_function_that_the_library_lacks() -> None:
    names = [name for name in vars(MockNvml) if name.startswith(("nvml", "NVML"))]
    assert len(names) > 10
    assert [name for name in names if not hasattr(pynvml, name)] == []


def test_a_reading_names_its_device_and_unit() -> None:
    assert Gpu(MockNvml(H200)).read() == {
        "gpu0_memory_gib": 2.0,
        "gpu0_utilisation": 0.75,
        "gpu0_power_w": 350.0,
        "gpu0_sm_clock_mhz": 1980.0,
        "gpu0_memory_clock_mhz": 3201.0,
        "gpu0_clock_reasons": 0.0,
        "gpu0_processes": 1.0,
    }


def test_values_that_a_device_does_not_report_are_left_out() -> None:
    whole, partial = MockDevice(), MockDevice(power_mw=None)
    values = Gpu(MockNvml(whole, partial)).read()
    assert "gpu0_power_w" in values
    assert "gpu1_power_w" not in values
    assert len(values) == 13


def test_every_function_that_is_asked_is_in_the_mock_and_in_the_library() -> None:
    folder = Path(nvml_module.__file__).parent
    text = "".join((folder / name).read_text() for name in ("nvml.py", "gpu.py"))
    asked = set(re.findall(r"nvml(?:Device|Init)\w+", text))
    assert asked >= set(ASKED)
    assert [name for name in asked if not hasattr(MockNvml, name)] == []
    assert [name for name in asked if not hasattr(pynvml, name)] == []


# ---- which GPUs a process may use

A, B, C = (Listed(f"GPU-{start}", "NVIDIA H100") for start in ("8f2a11", "8f2b22", "c0ffee"))


def places(value: str | None) -> list[int]:
    chosen = visible((A, B, C), {} if value is None else {"CUDA_VISIBLE_DEVICES": value})
    return [index for index, _ in chosen.places]


@pytest.mark.parametrize(
    ("value", "chosen"),
    [
        (None, [0, 1, 2]),
        ("2", [2]),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("+1", [1]),
        ("2gpu", [2]),
        ("", []),
        (" ", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("all", []),
        ("3", []),
        ("0,3,1", [0]),
        ("0,-1,1", [0]),
        ("1,,2", [1]),
        ("1,1", []),
        ("GPU-c0ffee", [2]),
        ("GPU-c0", [2]),
        ("GPU-c0,GPU-8f2a", [2, 0]),
        ("GPU-8f2", []),
        ("GPU-c0,GPU-8f2,GPU-8f2a", [2]),
        ("GPU-c0,1", [2]),
        ("1,GPU-c0", [1]),
        ("GPU-c0,GPU-c0ffee", []),
        ("GPU-dead", []),
        ("MIG-8f2a", []),
    ],
)
def test_a_list_of_gpus_ends_where_cuda_ends_it(value: str | None, chosen: list[int]) -> None:
    assert places(value) == chosen


@pytest.mark.parametrize(
    ("value", "remark"),
    [
        ("1", "CUDA_VISIBLE_DEVICES=1 leaves 1 of 3 GPUs"),
        ("", "CUDA_VISIBLE_DEVICES=: an empty list leaves no GPU"),
        (
            "1,7",
            "CUDA_VISIBLE_DEVICES=1,7: '7' is no GPU here, and CUDA uses nothing from there on",
        ),
        (
            "GPU-8f2",
            "CUDA_VISIBLE_DEVICES=GPU-8f2: 2 GPUs begin with 'GPU-8f2' here, and CUDA uses nothing "
            "from there on",
        ),
        (
            "1,1",
            "CUDA_VISIBLE_DEVICES=1,1: '1' is named twice, and CUDA then uses no GPU at all",
        ),
    ],
)
def test_what_a_list_leaves_out_is_said(value: str, remark: str) -> None:
    assert visible((A, B, C), {"CUDA_VISIBLE_DEVICES": value}).remarks == (remark,)


def test_gpus_of_several_kinds_need_an_order() -> None:
    other = Listed("GPU-d", "NVIDIA L4")
    remark = (
        "GPUs of several kinds: CUDA counts the fastest first, NVML by their place on the bus; set "
        "CUDA_DEVICE_ORDER=PCI_BUS_ID, so that numbers mean the same"
    )
    both = {"CUDA_VISIBLE_DEVICES": "0,1"}
    assert visible((A, other), both).remarks == visible((A, other), {}).remarks == (remark,)
    by_bus = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert visible((A, other), both | by_bus) == Visible(((0, None), (1, None)), ())
    assert visible((A, other), {"CUDA_VISIBLE_DEVICES": "GPU-d,GPU-8f2a11"}).remarks == ()
    assert visible((A, B, C), {}).remarks == ()


# ---- machines: what is used of them, what they are called, and what a GPU finding is told

MIG = "CUDA gives a process one MIG instance and nothing beside it: of "
OTHER = "; set CUDA_VISIBLE_DEVICES to another one's id, or to GPUs that are not in MIG mode"
GONE = "does not answer (GPU is lost): restart the machine, or leave it out with "


def eight() -> MockNvml:
    return MockNvml(*(h100(processes=[(1000 + i, 70.0)] if i else []) for i in range(8)))


@pytest.mark.parametrize(
    ("nvml", "variables", "name", "skip"),
    [
        pytest.param(
            MockNvml(h100()),
            {},
            "gpu-nvidia-h100-80gb-hbm3-1x",
            "needs 9 GPUs; there is NVIDIA H100 80GB HBM3, 80 GiB, capability 9.0",
            id="one H100",
        ),
        pytest.param(
            eight(),
            {"CUDA_VISIBLE_DEVICES": "5"},
            "gpu-nvidia-h100-80gb-hbm3-1x",
            "needs 9 GPUs; there is NVIDIA H100 80GB HBM3, 80 GiB, capability 9.0; "
            "CUDA_VISIBLE_DEVICES=5 leaves 1 of 8 GPUs",
            id="one of eight",
        ),
        pytest.param(
            MockNvml(l4(), h100(), l4()),
            {"CUDA_VISIBLE_DEVICES": "1,2", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
            "gpu-nvidia-h100-80gb-hbm3-1x+nvidia-l4-1x",
            "needs 9 GPUs; there is NVIDIA H100 80GB HBM3, 80 GiB, capability 9.0; NVIDIA L4, "
            "22 GiB, capability 8.9; CUDA_VISIBLE_DEVICES=1,2 leaves 2 of 3 GPUs",
            id="two kinds",
        ),
        pytest.param(
            MockNvml(split(h100(), 3)),
            {"CUDA_VISIBLE_DEVICES": "MIG-mock-0-1"},
            "gpu-nvidia-h100-80gb-hbm3-mig-1g-10gb-1x",
            "needs 9 GPUs; there is NVIDIA H100 80GB HBM3 MIG 1g.10gb, 10 GiB, capability 9.0",
            id="MIG by its id",
        ),
        pytest.param(
            MockNvml(split(h100(), 3)),
            {},
            "gpu-nvidia-h100-80gb-hbm3-mig-1g-10gb-1x",
            "needs 9 GPUs; there is NVIDIA H100 80GB HBM3 MIG 1g.10gb, 10 GiB, capability 9.0; "
            f"{MIG}3 devices only MIG 0 of GPU 0 is used "
            f"(CUDA_VISIBLE_DEVICES=MIG-mock-0-0){OTHER}",
            id="MIG, none named",
        ),
        pytest.param(
            MockNvml(h100(), split(h100(), 2, number=1)),
            {},
            "gpu-nvidia-h100-80gb-hbm3-mig-1g-10gb-1x",
            "needs 9 GPUs; there is NVIDIA H100 80GB HBM3 MIG 1g.10gb, 10 GiB, capability 9.0; "
            f"{MIG}3 devices only MIG 0 of GPU 1 is used "
            f"(CUDA_VISIBLE_DEVICES=MIG-mock-1-0){OTHER}",
            id="MIG beside a whole GPU",
        ),
        pytest.param(
            MockNvml(h100(), split(h100(), 0)),
            {},
            "gpu-nvidia-h100-80gb-hbm3-1x",
            "needs 9 GPUs; there is NVIDIA H100 80GB HBM3, 80 GiB, capability 9.0; GPU 1 is in MIG "
            "mode and has no instance that this process may use: make one (nvidia-smi mig -i 1 "
            "-cgi PROFILE -C), or switch the mode off (nvidia-smi -i 1 -mig 0)",
            id="MIG without an instance",
        ),
        pytest.param(
            MockNvml(gb10()),
            {},
            "gpu-nvidia-gb10-1x",
            "needs 9 GPUs; there is NVIDIA GB10, does not tell its memory, capability 12.1",
            id="GB10",
        ),
        pytest.param(
            MockNvml(under_wsl()),
            {},
            "gpu-nvidia-geforce-rtx-4090-1x",
            "needs 9 GPUs; there is NVIDIA GeForce RTX 4090, 24 GiB, capability 8.9",
            id="WSL",
        ),
        pytest.param(
            MockNvml(without_rights(h100())),
            {},
            "gpu-nvidia-h100-80gb-hbm3-1x",
            "needs 9 GPUs; there is NVIDIA H100 80GB HBM3, 80 GiB, capability not told",
            id="no rights",
        ),
        pytest.param(
            MockNvml(h100(), lost(h100())),
            {},
            "gpu-nvidia-h100-80gb-hbm3-1x",
            "needs 9 GPUs; there is NVIDIA H100 80GB HBM3, 80 GiB, capability 9.0; GPU 1 "
            f"{GONE}CUDA_VISIBLE_DEVICES",
            id="a GPU is lost",
        ),
    ],
)
def test_a_machine_is_named_by_what_a_process_may_use_of_it(
    nvml: MockNvml, variables: dict[str, str], name: str, skip: str
) -> None:
    gpu = Gpu(nvml, variables)
    assert gpu.why_not is None
    assert hardware_id(gpu, on_cpu=False) == name
    assert gpu.missing(count=9) == skip
    assert gpu.missing(memory_gib=8) is None
    assert {key.partition("_")[0] for key in gpu.read()} == {f"gpu{d.index}" for d in gpu.devices}


@pytest.mark.parametrize(
    ("nvml", "variables", "why_not"),
    [
        pytest.param(
            eight(),
            {"CUDA_VISIBLE_DEVICES": ""},
            "no NVIDIA GPU for this process; CUDA_VISIBLE_DEVICES=: an empty list leaves no GPU",
            id="none of eight",
        ),
        pytest.param(
            MockNvml(),
            {"NVIDIA_VISIBLE_DEVICES": "void"},
            "no NVIDIA GPU: NVML lists none (NVIDIA_VISIBLE_DEVICES=void says which a container is "
            "given)",
            id="a container without one",
        ),
        pytest.param(
            MockNvml(lost(h100(), handle=True)),
            {},
            f"no NVIDIA GPU for this process; GPU 0 {GONE}CUDA_VISIBLE_DEVICES",
            id="the only GPU is lost",
        ),
        pytest.param(
            MockNvml(split(h100(), 0)),
            {},
            "no NVIDIA GPU for this process; GPU 0 is in MIG mode and has no instance that this "
            "process may use: make one (nvidia-smi mig -i 0 -cgi PROFILE -C), or switch the mode "
            "off (nvidia-smi -i 0 -mig 0)",
            id="MIG without an instance",
        ),
    ],
)
def test_a_machine_of_which_nothing_can_be_used_says_why(
    nvml: MockNvml, variables: dict[str, str], why_not: str
) -> None:
    gpu = Gpu(nvml, variables)
    assert gpu.why_not == gpu.missing() == why_not
    assert (gpu.devices, gpu.read()) == ((), {})
    assert hardware_id(gpu, on_cpu=False).startswith("cpu-")


def test_memory_and_processes_of_a_mig_instance_are_its_own() -> None:
    card = split(h100(used_gib=60, processes=[(1, 60.0)], throttle=HOT), 2)
    assert card.instances is not None
    card.instances[1].used_gib, card.instances[1].processes = 4, [(4711, 3.5)]
    gpu = Gpu(MockNvml(card), {"CUDA_VISIBLE_DEVICES": "MIG-mock-0-1"})
    (device,) = gpu.devices
    assert (str(device), device.uuid, device.memory_gib) == ("MIG 1 of GPU 0", "MIG-mock-0-1", 10)
    assert (gpu.free_gib(device), gpu.holders(device)) == (6.0, [(4711, 3.5)])
    assert device.bandwidth_gb_s is None
    read = gpu.read()
    assert (read["gpu0_memory_gib"], read["gpu0_processes"]) == (4, 1)
    assert read["gpu0_clock_reasons"] == HOT, "the whole GPU has one clock"


def test_devices_come_in_the_order_in_which_cuda_counts_them() -> None:
    gpu = Gpu(eight(), {"CUDA_VISIBLE_DEVICES": "6,GPU-mock-1,2"})
    assert [str(d) for d in gpu.devices] == ["GPU 6"]
    gpu = Gpu(eight(), {"CUDA_VISIBLE_DEVICES": "6,2"})
    assert [(d.index, d.uuid) for d in gpu.devices] == [(6, "GPU-mock-6"), (2, "GPU-mock-2")]
    assert gpu.holders(gpu.devices[0]) == [(1006, 70.0)]
    assert "gpu0_memory_gib" not in gpu.read()
    assert {key.partition("_")[0] for key in gpu.read(gpu.devices[1:])} == {"gpu2"}


def test_a_machine_is_the_same_whichever_of_its_gpus_are_used() -> None:
    one, two = {"CUDA_VISIBLE_DEVICES": "1"}, {"CUDA_VISIBLE_DEVICES": "2"}
    assert fingerprint(Gpu(eight(), one)) == fingerprint(Gpu(eight(), two))
    assert fingerprint(Gpu(eight(), one)) != fingerprint(Gpu(MockNvml(h100()), one))


# ---- throttling


@pytest.mark.parametrize(
    ("reasons", "names"),
    [
        (0, ()),
        (HOT, ("HwThermalSlowdown",)),
        (0x20, ("SwThermalSlowdown",)),
        (0x80 | CLOCK_CHANGE, ("HwPowerBrakeSlowdown",)),
        (CLOCK_CHANGE, ()),
        *((1 << bit, ()) for bit in (0, 1, 2, 4, 8)),
    ],
    ids=str,
)
def test_heat_and_a_power_brake_throttle_and_nothing_else_does(
    reasons: int, names: tuple[str, ...]
) -> None:
    read = Gpu(MockNvml(h100(throttle=reasons)), {}).read()
    assert throttled_by(read["gpu0_clock_reasons"]) == names


@pytest.mark.parametrize("name", CLOCK_REASONS)
def test_older_and_newer_drivers_tell_why_a_clock_is_low(name: str) -> None:
    refused = {name: ERRORS["FunctionNotFound"]}
    assert (
        Gpu(MockNvml(h100(throttle=HOT, refuses=refused)), {}).read()["gpu0_clock_reasons"] == HOT
    )
    both = dict.fromkeys(CLOCK_REASONS, ERRORS["NotSupported"])
    assert "gpu0_clock_reasons" not in Gpu(MockNvml(h100(refuses=both)), {}).read()


def test_what_throttles_is_what_the_library_calls_so() -> None:
    for name, bit in THROTTLING.items():
        assert getattr(pynvml, f"nvmlClocksEventReason{name}") == bit
