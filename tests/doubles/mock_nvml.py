"""A mock of the NVML module, for machines without a GPU. Its errors and constants are those of
``pynvml``; what its devices tell is made up by a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import pynvml


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


class MockNvml:
    """The functions of ``pynvml`` that are used, over devices made up by a test.

    Args:
        devices: in NVML's order.
        broken: number in ``pynvml`` of the error that ``nvmlInit`` ends with.
    """

    NVML_CLOCK_SM = pynvml.NVML_CLOCK_SM
    NVML_CLOCK_MEM = pynvml.NVML_CLOCK_MEM
    NVMLError = pynvml.NVMLError

    def __init__(self, *devices: MockDevice, broken: int | None = None) -> None:
        self.devices = devices
        self.broken = broken

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
        return f"GPU-mock-{self.devices.index(device)}"

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

    def nvmlDeviceGetComputeRunningProcesses(self, device: MockDevice) -> list[SimpleNamespace]:
        self._may(device, "nvmlDeviceGetComputeRunningProcesses")
        return [
            SimpleNamespace(pid=pid, usedGpuMemory=None if gib is None else int(gib * 2**30))
            for pid, gib in device.processes
        ]
