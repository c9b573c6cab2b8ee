"""The NVIDIA GPUs of this machine: their list, what a test needs of them, and readings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .nvml import NoNvml, Nvml

THROTTLE_REASONS = {
    "SwThermalSlowdown": 0x20,
    "HwSlowdown": 0x08,
    "HwThermalSlowdown": 0x40,
    "HwPowerBrakeSlowdown": 0x80,
}
"""Bits of NVML's clock event reasons that make a measurement invalid. A power cap is normal."""
_THROTTLED = sum(THROTTLE_REASONS.values())
UNNAMED = "unnamed GPU"
"""Name of a GPU whose driver does not tell it."""


@dataclass(frozen=True)
class Device:
    """One GPU. What its driver does not tell is None.

    Attributes:
        index: what NVML and ``nvidia-smi`` call it.
        name: of the kind of GPU, e.g. ``NVIDIA H200``.
        memory_gib: all of its memory, in GiB; None where the GPU uses the machine's memory (GB10).
        capability: CUDA compute capability as ``(major, minor)``.
        uuid: the id that its driver gives it; empty where it gives none.
        bandwidth_gb_s: most bytes that its memory moves, in GB (1e9 bytes) per second, from the
            width of the bus and its highest clock.
    """

    index: int
    name: str
    memory_gib: float | None
    capability: tuple[int, int] | None
    uuid: str = ""
    bandwidth_gb_s: float | None = None


class Gpu:
    """The GPUs of this machine, or the reason why there are none.

    Args:
        nvml: a module with NVML's functions, ``pynvml`` by default.
    """

    def __init__(self, nvml: Any = None) -> None:
        self._module = nvml

    @cached_property
    def _opened(self) -> tuple[Nvml | None, str | None]:
        try:
            return Nvml.opened(self._module), None
        except NoNvml as error:
            return None, str(error)

    @property
    def _nvml(self) -> Nvml:
        nvml, why_not = self._opened
        assert nvml is not None, why_not
        return nvml

    @property
    def why_not(self) -> str | None:
        """Why no GPU can be used; None if one can."""
        return self._opened[1]

    @cached_property
    def devices(self) -> tuple[Device, ...]:
        """All GPUs; empty if there are none."""
        if self.why_not:
            return ()
        return tuple(_device(self._nvml, i) for i in range(self._nvml.count))

    def free_gib(self, device: Device) -> float | None:
        """Memory of a device that nothing holds now, in GiB; None where its driver does not
        tell."""
        return self._nvml.memory_gib(self._nvml.handle(device.index), "free")

    def holders(self, device: Device) -> list[tuple[int, float | None]] | None:
        """The compute processes on a device now: per process its id, as the driver tells it, and
        the GiB that it holds, None where the driver does not tell. None where processes are not
        listed at all."""
        return self._nvml.processes(self._nvml.handle(device.index))

    def missing(
        self, *, memory_gib: float = 0, count: int = 1, capability: float = 0
    ) -> str | None:
        """Why this machine does not meet a need; None if it does.

        A GPU that does not tell its memory, or its capability, is taken to have enough of it.

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
            if (d.memory_gib is None or d.memory_gib >= memory_gib)
            and (d.capability is None or d.capability >= _version(capability))
        ]
        if len(fit) >= count:
            return None
        have = "; ".join(map(_described, self.devices))
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
        values: dict[str, float] = {}
        for device in self.devices:
            handle = self._nvml.handle(device.index)
            for name, value in _readings(self._nvml, handle).items():
                if value is not None:
                    values[f"gpu{device.index}_{name}"] = value
        return values


def _readings(nvml: Nvml, handle: Any) -> dict[str, float | None]:
    utilisation = nvml.ask("nvmlDeviceGetUtilizationRates", handle)
    power = nvml.ask("nvmlDeviceGetPowerUsage", handle)
    reasons = nvml.ask("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    processes = nvml.processes(handle)
    return {
        "memory_gib": nvml.memory_gib(handle, "used"),
        "utilisation": None if utilisation is None else utilisation.gpu / 100,
        "power_w": None if power is None else power / 1000,
        "sm_clock_mhz": nvml.clock_mhz("nvmlDeviceGetClockInfo", handle, "NVML_CLOCK_SM"),
        "memory_clock_mhz": nvml.clock_mhz("nvmlDeviceGetClockInfo", handle, "NVML_CLOCK_MEM"),
        "throttled": None if reasons is None else float(bool(reasons & _THROTTLED)),
        "processes": None if processes is None else float(len(processes)),
    }


def _device(nvml: Nvml, index: int) -> Device:
    handle = nvml.handle(index)
    capability = nvml.ask("nvmlDeviceGetCudaComputeCapability", handle)
    return Device(
        index,
        nvml.text("nvmlDeviceGetName", handle) or UNNAMED,
        nvml.memory_gib(handle, "total"),
        None if capability is None else (int(capability[0]), int(capability[1])),
        nvml.text("nvmlDeviceGetUUID", handle),
        _bandwidth_gb_s(nvml, handle),
    )


def _bandwidth_gb_s(nvml: Nvml, handle: Any) -> float | None:
    """Memory moves two words of the bus per period of the clock that NVML tells."""
    bits = nvml.ask("nvmlDeviceGetMemoryBusWidth", handle)
    mhz = nvml.clock_mhz("nvmlDeviceGetMaxClockInfo", handle, "NVML_CLOCK_MEM")
    return bits / 8 * 2 * mhz * 1e6 / 1e9 if bits and mhz else None


def _described(device: Device) -> str:
    memory, capability = device.memory_gib, device.capability
    told = "does not tell its memory" if memory is None else f"{memory:.0f} GiB"
    version = "not told" if capability is None else f"{capability[0]}.{capability[1]}"
    return f"{device.name}, {told}, capability {version}"


def _version(number: float) -> tuple[int, int]:
    major, _, minor = f"{number:.1f}".partition(".")
    return int(major), int(minor)
