"""A mock of the NVML module, for machines without a GPU. Its errors and constants are those of
``pynvml``; what its devices tell is made up by a test.

Each machine of a test takes a line: ``MockNvml(h100(), h100())``, ``MockNvml(split(h100(), 3))``,
``MockNvml(gb10())``, ``MockNvml(under_wsl())``, ``MockNvml(without_rights(h100()))``,
``MockNvml(lost(h100()))``, ``MockNvml(h100(throttle=HOT))``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pynvml

HOT = pynvml.nvmlClocksThrottleReasonHwThermalSlowdown | pynvml.nvmlClocksThrottleReasonHwSlowdown
"""A GPU that is throttled by heat."""
CLOCK_CHANGE = pynvml.nvmlClocksThrottleReasonHwSlowdown
"""What NVML also tells while a clock changes."""


@dataclass(eq=False)
class MockDevice:
    """What a mock device tells.

    Attributes:
        power_mw: None where it is not supported.
        throttle: bits of NVML's clock event reasons.
        processes: ids of its compute processes with the GiB of each, None where it is not told.
        used_gib: memory that is held.
        bus_bits, memory_clock_mhz: of its memory.
        refuses: per function that answers with an error the error's number in ``pynvml``.
        uuid: empty: made up from its place.
        instances: of MIG; None without it.
    """

    name: str | bytes = "NVIDIA H200"
    memory_gib: float = 141.0
    capability: tuple[int, int] = (9, 0)
    power_mw: int | None = 350_000
    throttle: int = 0
    processes: Sequence[tuple[int, float | None]] = ((4711, 2.0),)
    used_gib: float = 2.0
    bus_bits: int = 6144
    memory_clock_mhz: int = 3201
    refuses: dict[str, int] = field(default_factory=dict)
    uuid: str = ""
    instances: tuple[MockDevice, ...] | None = None


class MockNvml:
    """The functions of ``pynvml`` that are used, over devices made up by a test.

    Args:
        devices: in NVML's order.
        broken: number in ``pynvml`` of the error that ``nvmlInit`` ends with.
    """

    NVML_CLOCK_SM = pynvml.NVML_CLOCK_SM
    NVML_CLOCK_MEM = pynvml.NVML_CLOCK_MEM
    NVML_DEVICE_MIG_ENABLE = pynvml.NVML_DEVICE_MIG_ENABLE
    NVMLError = pynvml.NVMLError

    def __init__(self, *devices: MockDevice, broken: int | None = None) -> None:
        self.devices = devices
        self.broken = broken
        for i, device in enumerate(devices):
            device.uuid = device.uuid or f"GPU-mock-{i}"

    def _may(self, device: MockDevice, function: str) -> None:
        if function in device.refuses:
            raise self.NVMLError(device.refuses[function])

    def nvmlInit(self) -> None:
        if self.broken is not None:
            raise self.NVMLError(self.broken)

    def nvmlDeviceGetCount(self) -> int:
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> MockDevice:
        self._may(self.devices[index], "nvmlDeviceGetHandleByIndex")
        return self.devices[index]

    def nvmlDeviceGetName(self, device: MockDevice) -> str | bytes:
        self._may(device, "nvmlDeviceGetName")
        return device.name

    def nvmlDeviceGetUUID(self, device: MockDevice) -> str:
        self._may(device, "nvmlDeviceGetUUID")
        return device.uuid

    def nvmlDeviceGetMigMode(self, device: MockDevice) -> list[int]:
        self._may(device, "nvmlDeviceGetMigMode")
        return [0, 0] if device.instances is None else [self.NVML_DEVICE_MIG_ENABLE] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, device: MockDevice) -> int:
        self._may(device, "nvmlDeviceGetMaxMigDeviceCount")
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: MockDevice, index: int) -> MockDevice:
        self._may(device, "nvmlDeviceGetMigDeviceHandleByIndex")
        instances = device.instances or ()
        if index >= len(instances):
            raise self.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return instances[index]

    def nvmlDeviceGetCudaComputeCapability(self, device: MockDevice) -> tuple[int, int]:
        self._may(device, "nvmlDeviceGetCudaComputeCapability")
        return device.capability

    def nvmlDeviceGetMemoryInfo(self, device: MockDevice) -> SimpleNamespace:
        self._may(device, "nvmlDeviceGetMemoryInfo")
        total, used = device.memory_gib * 2**30, device.used_gib * 2**30
        return SimpleNamespace(total=total, used=used, free=total - used)

    def nvmlDeviceGetMemoryBusWidth(self, device: MockDevice) -> int:
        self._may(device, "nvmlDeviceGetMemoryBusWidth")
        return device.bus_bits

    def nvmlDeviceGetMaxClockInfo(self, device: MockDevice, clock: int) -> int:
        self._may(device, "nvmlDeviceGetMaxClockInfo")
        return {self.NVML_CLOCK_SM: 1980, self.NVML_CLOCK_MEM: device.memory_clock_mhz}[clock]

    def nvmlDeviceGetUtilizationRates(self, device: MockDevice) -> SimpleNamespace:
        self._may(device, "nvmlDeviceGetUtilizationRates")
        return SimpleNamespace(gpu=75, memory=20)

    def nvmlDeviceGetPowerUsage(self, device: MockDevice) -> int:
        self._may(device, "nvmlDeviceGetPowerUsage")
        if device.power_mw is None:
            raise self.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return device.power_mw

    def nvmlDeviceGetClockInfo(self, device: MockDevice, clock: int) -> int:
        self._may(device, "nvmlDeviceGetClockInfo")
        return {self.NVML_CLOCK_SM: 1980, self.NVML_CLOCK_MEM: device.memory_clock_mhz}[clock]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device: MockDevice) -> int:
        self._may(device, "nvmlDeviceGetCurrentClocksThrottleReasons")
        return device.throttle

    def nvmlDeviceGetCurrentClocksEventReasons(self, device: MockDevice) -> int:
        self._may(device, "nvmlDeviceGetCurrentClocksEventReasons")
        return device.throttle

    def nvmlDeviceGetComputeRunningProcesses(self, device: MockDevice) -> list[SimpleNamespace]:
        self._may(device, "nvmlDeviceGetComputeRunningProcesses")
        return [
            SimpleNamespace(pid=pid, usedGpuMemory=None if gib is None else int(gib * 2**30))
            for pid, gib in device.processes
        ]


ASKED = tuple(name for name in vars(MockNvml) if name.startswith("nvmlDevice"))
"""The functions that ask a device."""

# ---- devices of machines that exist


def h100(**told: Any) -> MockDevice:
    """An H100 that nobody uses."""
    usual = MockDevice(
        "NVIDIA H100 80GB HBM3",
        80.0,
        (9, 0),
        processes=(),
        used_gib=0.5,
        bus_bits=5120,
        memory_clock_mhz=2619,
    )
    return replace(usual, **told)


def l4(**told: Any) -> MockDevice:
    """An L4 that nobody uses, whose name comes as bytes, as older libraries tell it."""
    usual = MockDevice(
        b"NVIDIA L4",
        22.5,
        (8, 9),
        processes=(),
        used_gib=0.5,
        bus_bits=192,
        memory_clock_mhz=6251,
    )
    return replace(usual, **told)


def split(device: MockDevice, parts: int, number: int = 0) -> MockDevice:
    """A GPU in MIG mode with so many instances; 0: none was made."""
    refused = ("PowerUsage", "UtilizationRates", "ClockInfo", "CurrentClocksThrottleReasons")
    device.instances = tuple(
        MockDevice(
            f"{device.name!s} MIG 1g.10gb",
            device.memory_gib / 8,
            device.capability,
            processes=(),
            used_gib=0.1,
            uuid=f"MIG-mock-{number}-{i}",
            refuses={f"nvmlDeviceGet{what}": pynvml.NVML_ERROR_NOT_SUPPORTED for what in refused},
        )
        for i in range(parts)
    )
    return device


def gb10(**told: Any) -> MockDevice:
    """A GPU that shares the machine's memory and tells of none of its own."""
    refused = ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryBusWidth")
    silent = dict.fromkeys(refused, pynvml.NVML_ERROR_NOT_SUPPORTED)
    return replace(MockDevice("NVIDIA GB10", 0, (12, 1), processes=(), refuses=silent), **told)


def under_wsl(**told: Any) -> MockDevice:
    """A GPU that a desktop uses, too, whose driver lists no processes."""
    hidden = {"nvmlDeviceGetComputeRunningProcesses": pynvml.NVML_ERROR_NOT_SUPPORTED}
    usual = MockDevice(
        "NVIDIA GeForce RTX 4090",
        24.0,
        (8, 9),
        used_gib=1.4,
        bus_bits=384,
        memory_clock_mhz=10501,
        refuses=hidden,
    )
    return replace(usual, **told)


def without_rights(device: MockDevice) -> MockDevice:
    """A GPU of which this user may know no more than its name, its memory and its id."""
    known = ("HandleByIndex", "Name", "MemoryInfo", "UUID", "MigMode")
    hidden = set(ASKED) - {f"nvmlDeviceGet{what}" for what in known}
    device.refuses = dict.fromkeys(hidden, pynvml.NVML_ERROR_NO_PERMISSION)
    return device


def lost(device: MockDevice, *, handle: bool = False) -> MockDevice:
    """A GPU that fell off the bus, noticed when its handle is asked for, or later (``handle``)."""
    asked = [name for name in ASKED if not (handle and name == "nvmlDeviceGetHandleByIndex")]
    device.refuses = dict.fromkeys(asked, pynvml.NVML_ERROR_GPU_IS_LOST)
    return device
