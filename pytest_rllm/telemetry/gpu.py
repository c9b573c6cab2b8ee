"""The NVIDIA GPUs of this machine: their list, what a test needs of them, and readings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

THROTTLE_REASONS = {
    "SwThermalSlowdown": 0x20,
    "HwSlowdown": 0x08,
    "HwThermalSlowdown": 0x40,
    "HwPowerBrakeSlowdown": 0x80,
}
"""Bits of NVML's clock event reasons that make a measurement invalid. A power cap is normal."""


@dataclass(frozen=True)
class Device:
    """One GPU: name, memory in GiB, CUDA compute capability as ``(major, minor)``, and the id that
    its driver gives it, empty where it gives none."""

    index: int
    name: str
    memory_gib: float
    capability: tuple[int, int]
    uuid: str = ""


class Gpu:
    """The GPUs of this machine, or the reason why there are none.

    Args:
        nvml: a module with NVML's functions, ``pynvml`` by default.
    """

    def __init__(self, nvml: Any = None) -> None:
        self._nvml = nvml

    @cached_property
    def _opened(self) -> tuple[Any, str | None]:
        nvml = self._nvml
        try:
            nvml = nvml or import_module("pynvml")
            nvml.nvmlInit()
            count = nvml.nvmlDeviceGetCount()
        except ImportError:
            return None, "no GPU monitoring: install nvidia-ml-py"
        except nvml.NVMLError as error:
            return None, f"no NVIDIA GPU: {error}"
        return nvml, None if count else "no NVIDIA GPU: NVML lists none"

    @property
    def why_not(self) -> str | None:
        """Why no GPU can be used; None if one can."""
        return self._opened[1]

    @cached_property
    def devices(self) -> tuple[Device, ...]:
        """All GPUs; empty if there are none."""
        nvml, why_not = self._opened
        if why_not:
            return ()
        return tuple(_device(nvml, i) for i in range(nvml.nvmlDeviceGetCount()))

    def missing(
        self, *, memory_gib: float = 0, count: int = 1, capability: float = 0
    ) -> str | None:
        """Why this machine does not meet a need; None if it does.

        Args:
            memory_gib: least memory per GPU.
            count: least number of such GPUs.
            capability: least CUDA compute capability, e.g. 8.9.
        """
        if self.why_not:
            return self.why_not
        fit = [
            d
            for d in self.devices
            if d.memory_gib >= memory_gib and d.capability >= _version(capability)
        ]
        if len(fit) >= count:
            return None
        have = "; ".join(
            f"{d.name}, {d.memory_gib:.0f} GiB, capability {d.capability[0]}.{d.capability[1]}"
            for d in self.devices
        )
        wanted = [f"{count} GPU" + "s" * (count > 1)]
        wanted += [f"{memory_gib:g} GiB each"] * (memory_gib > 0)
        wanted += [f"compute capability {capability:g}"] * (capability > 0)
        return f"needs {', '.join(wanted)}; there is {have}"

    def read(self) -> dict[str, float]:
        """One reading of all devices: ``gpu0_memory_gib``, ``gpu0_utilisation`` (share of 1),
        ``gpu0_power_w``, ``gpu0_sm_clock_mhz``, ``gpu0_memory_clock_mhz``, ``gpu0_throttled``
        (0 or 1), ``gpu0_processes`` (compute processes). Values that a device does not report are
        left out.
        """
        nvml, why_not = self._opened
        values: dict[str, float] = {}
        if why_not:
            return values
        throttled = sum(THROTTLE_REASONS.values())
        for device in self.devices:
            handle = nvml.nvmlDeviceGetHandleByIndex(device.index)
            readings: Mapping[str, Callable[[Any], float]] = {
                "memory_gib": lambda h: nvml.nvmlDeviceGetMemoryInfo(h).used / 2**30,
                "utilisation": lambda h: nvml.nvmlDeviceGetUtilizationRates(h).gpu / 100,
                "power_w": lambda h: nvml.nvmlDeviceGetPowerUsage(h) / 1000,
                "sm_clock_mhz": lambda h: nvml.nvmlDeviceGetClockInfo(h, nvml.NVML_CLOCK_SM),
                "memory_clock_mhz": lambda h: nvml.nvmlDeviceGetClockInfo(h, nvml.NVML_CLOCK_MEM),
                "throttled": lambda h: float(
                    bool(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(h) & throttled)
                ),
                "processes": lambda h: len(nvml.nvmlDeviceGetComputeRunningProcesses(h)),
            }
            for name, read in readings.items():
                try:
                    values[f"gpu{device.index}_{name}"] = float(read(handle))
                except nvml.NVMLError:
                    continue  # not reported by this device: its series is absent
        return values


def _device(nvml: Any, index: int) -> Device:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    name = nvml.nvmlDeviceGetName(handle)
    return Device(
        index,
        name.decode() if isinstance(name, bytes) else name,
        nvml.nvmlDeviceGetMemoryInfo(handle).total / 2**30,
        tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle)),
        _uuid(nvml, handle),
    )


def _uuid(nvml: Any, handle: Any) -> str:
    try:
        uuid = nvml.nvmlDeviceGetUUID(handle)
    except nvml.NVMLError:
        return ""
    return str(uuid.decode() if isinstance(uuid, bytes) else uuid)


def _version(number: float) -> tuple[int, int]:
    major, _, minor = f"{number:.1f}".partition(".")
    return int(major), int(minor)
