"""A mock of the NVML module, for machines without a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace


@dataclass
class MockDevice:
    """What a mock device tells; a reading that is None is not supported by it."""

    name: str | bytes = "NVIDIA H200"
    memory_gib: float = 141.0
    capability: tuple[int, int] = (9, 0)
    power_mw: int | None = 350_000
    throttle: int = 0
    processes: int = 1


class MockNvml:
    """The functions of ``pynvml`` that are used, over devices made up by a test."""

    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2

    class NVMLError(Exception):
        """As in pynvml."""

    def __init__(self, *devices: MockDevice, broken: str | None = None) -> None:
        self.devices = devices
        self.broken = broken

    def nvmlInit(self) -> None:
        if self.broken:
            raise self.NVMLError(self.broken)

    def nvmlDeviceGetCount(self) -> int:
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> MockDevice:
        return self.devices[index]

    def nvmlDeviceGetName(self, device: MockDevice) -> str | bytes:
        return device.name

    def nvmlDeviceGetUUID(self, device: MockDevice) -> str:
        return f"GPU-mock-{self.devices.index(device)}"

    def nvmlDeviceGetCudaComputeCapability(self, device: MockDevice) -> list[int]:
        return list(device.capability)

    def nvmlDeviceGetMemoryInfo(self, device: MockDevice) -> SimpleNamespace:
        return SimpleNamespace(total=device.memory_gib * 2**30, used=2 * 2**30)

    def nvmlDeviceGetUtilizationRates(self, _: MockDevice) -> SimpleNamespace:
        return SimpleNamespace(gpu=75, memory=20)

    def nvmlDeviceGetPowerUsage(self, device: MockDevice) -> int:
        if device.power_mw is None:
            raise self.NVMLError("Not Supported")
        return device.power_mw

    def nvmlDeviceGetClockInfo(self, _: MockDevice, clock: int) -> int:
        return {self.NVML_CLOCK_SM: 1980, self.NVML_CLOCK_MEM: 3201}[clock]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device: MockDevice) -> int:
        return device.throttle

    def nvmlDeviceGetComputeRunningProcesses(self, device: MockDevice) -> list[int]:
        return list(range(device.processes))
