"""The NVIDIA GPUs that this process may use, what a test needs of them, and readings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .nvml import NoNvml, Nvml
from .visible import DEVICES, Listed, Visible, visible

CONTAINER = "NVIDIA_VISIBLE_DEVICES"
"""Which GPUs a container is given; its driver lists no others."""
UNNAMED = "unnamed GPU"
"""Name of a GPU whose driver does not tell it."""


@dataclass(frozen=True)
class Device:
    """One GPU. What its driver does not tell is None.

    Attributes:
        index: what NVML and ``nvidia-smi`` call it; of a MIG instance, the GPU that it is on.
        name: of the kind of GPU, e.g. ``NVIDIA H200``.
        memory_gib: all of its memory, in GiB; None where the GPU uses the machine's memory (GB10).
        capability: CUDA compute capability as ``(major, minor)``.
        uuid: the id that its driver gives it; empty where it gives none.
        bandwidth_gb_s: most bytes that its memory moves, in GB (1e9 bytes) per second, from the
            width of the bus and its highest clock; None for a MIG instance.
        instance: which MIG instance of the GPU it is; None: the whole GPU.
    """

    index: int
    name: str
    memory_gib: float | None
    capability: tuple[int, int] | None
    uuid: str = ""
    bandwidth_gb_s: float | None = None
    instance: int | None = None

    def __str__(self) -> str:
        """``GPU 3``, or ``MIG 1 of GPU 3``."""
        return (
            f"GPU {self.index}"
            if self.instance is None
            else f"MIG {self.instance} of GPU {self.index}"
        )


class Gpu:
    """The GPUs that this process may use, or the reason why there are none.

    Args:
        nvml: a module with NVML's functions, ``pynvml`` by default.
        variables: of the environment, by which CUDA leaves GPUs out; this process's by default.
    """

    def __init__(self, nvml: Any = None, variables: Mapping[str, str] | None = None) -> None:
        self._module = nvml
        self._variables = os.environ if variables is None else variables

    @cached_property
    def _opened(self) -> tuple[Nvml | None, str | None]:
        try:
            nvml = Nvml.opened(self._module)
        except NoNvml as error:
            return None, str(error)
        if nvml.count:
            return nvml, None
        given = self._variables.get(CONTAINER)
        said = "" if given is None else f" ({CONTAINER}={given} says which a container is given)"
        return nvml, f"no NVIDIA GPU: NVML lists none{said}"

    @property
    def _nvml(self) -> Nvml:
        nvml, why_not = self._opened
        assert nvml is not None, why_not
        return nvml

    @cached_property
    def _listed(self) -> tuple[Listed, ...]:
        """Every GPU of NVML's list."""
        if self._opened[1]:
            return ()
        return tuple(_listed(self._nvml, index) for index in range(self._nvml.count))

    @cached_property
    def _visible(self) -> Visible:
        return visible(self._listed, self._variables)

    @cached_property
    def _gone(self) -> dict[int, str]:
        """Why a GPU that CUDA would use cannot be used, by its index."""
        chosen = {index for index, _ in self._visible.places}
        errors = {index: self._nvml.gone(index) for index in sorted(chosen)}
        return {index: error for index, error in errors.items() if error}

    @cached_property
    def devices(self) -> tuple[Device, ...]:
        """The GPUs that this process may use, in CUDA's order; empty if there are none. CUDA leaves
        out what ``CUDA_VISIBLE_DEVICES`` does not name, and of MIG instances all but one."""
        places = [place for place in self._visible.places if place[0] not in self._gone]
        return tuple(_device(self._nvml, *place) for place in places)

    @property
    def why_not(self) -> str | None:
        """Why no GPU can be used; None if one can."""
        if self._opened[1] or self.devices:
            return self._opened[1]
        return "; ".join(("no NVIDIA GPU for this process", *self.remarks))

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """Sentences on GPUs of this machine that cannot be used, and on what their numbers mean."""
        gone = (
            f"GPU {index} does not answer ({error}): restart the machine, or leave it out with "
            f"{DEVICES}"
            for index, error in self._gone.items()
        )
        return (*self._visible.remarks, *gone)

    @property
    def uuids(self) -> tuple[str, ...]:
        """Ids of all GPUs of this machine, whether this process may use them or not."""
        return tuple(one.uuid for one in self._listed)

    def free_gib(self, device: Device) -> float | None:
        """Memory of a device that nothing holds now, in GiB; None where its driver does not
        tell."""
        return self._nvml.memory_gib(self._handle(device), "free")

    def holders(self, device: Device) -> list[tuple[int, float | None]] | None:
        """The compute processes on a device now: per process its id, as the driver tells it, and
        the GiB that it holds, None where the driver does not tell. None where processes are not
        listed at all."""
        return self._nvml.processes(self._handle(device))

    def used_gib(self, device: Device) -> float | None:
        """Memory of a device that is held now, by whomever, in GiB; None where its driver does not
        tell."""
        return self._nvml.memory_gib(self._handle(device), "used")

    def _handle(self, device: Device) -> Any | None:
        return _handle(self._nvml, device.index, device.instance)

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
        have = "; ".join((*map(_described, self.devices), *self.remarks))
        wanted = [f"{count} GPU" + "s" * (count > 1)]
        wanted += [f"{memory_gib:g} GiB each"] * (memory_gib > 0)
        wanted += [f"compute capability {capability:g}"] * (capability > 0)
        return f"needs {', '.join(wanted)}; there is {have}"

    def read(self, devices: Sequence[Device] | None = None) -> dict[str, float]:
        """One reading of devices, by NVML's index: ``gpu0_memory_gib``, ``gpu0_utilisation`` (share
        of 1), ``gpu0_power_w``, ``gpu0_sm_clock_mhz``, ``gpu0_memory_clock_mhz``,
        ``gpu0_clock_reasons`` (bits, see ``telemetry.throttling``), ``gpu0_processes`` (compute
        processes). Values that a device does not report are left out.

        Args:
            devices: of :attr:`devices`; all of them by default.
        """
        return {
            f"gpu{device.index}_{name}": value
            for device in (self.devices if devices is None else devices)
            for name, value in _readings(self._nvml, device).items()
            if value is not None
        }


def _readings(nvml: Nvml, device: Device) -> dict[str, float | None]:
    own, board = _handle(nvml, device.index, device.instance), nvml.handle(device.index)
    utilisation = nvml.ask("nvmlDeviceGetUtilizationRates", own)
    power = nvml.ask("nvmlDeviceGetPowerUsage", board)
    processes = nvml.processes(own)
    return {
        "memory_gib": nvml.memory_gib(own, "used"),
        "utilisation": None if utilisation is None else utilisation.gpu / 100,
        "power_w": None if power is None else power / 1000,
        "sm_clock_mhz": nvml.clock_mhz("nvmlDeviceGetClockInfo", board, "NVML_CLOCK_SM"),
        "memory_clock_mhz": nvml.clock_mhz("nvmlDeviceGetClockInfo", board, "NVML_CLOCK_MEM"),
        "clock_reasons": nvml.clock_reasons(board),
        "processes": None if processes is None else float(len(processes)),
    }


def _listed(nvml: Nvml, index: int) -> Listed:
    handle, instances = nvml.handle(index), nvml.instances(index)
    uuids = [nvml.text("nvmlDeviceGetUUID", instance) for instance in instances or ()]
    return Listed(
        nvml.text("nvmlDeviceGetUUID", handle),
        nvml.text("nvmlDeviceGetName", handle),
        tuple(uuids),
        instances is not None,
    )


def _handle(nvml: Nvml, index: int, instance: int | None) -> Any | None:
    """By which NVML knows a GPU, or a MIG instance on it."""
    if instance is None:
        return nvml.handle(index)
    instances = nvml.instances(index) or []
    return instances[instance] if instance < len(instances) else None


def _device(nvml: Nvml, index: int, instance: int | None) -> Device:
    own, board = _handle(nvml, index, instance), nvml.handle(index)
    capability = nvml.ask("nvmlDeviceGetCudaComputeCapability", board)
    whole = nvml.text("nvmlDeviceGetName", board) or UNNAMED
    name = whole if instance is None else nvml.text("nvmlDeviceGetName", own)
    return Device(
        index,
        name or f"{whole} MIG",
        nvml.memory_gib(own, "total"),
        None if capability is None else (int(capability[0]), int(capability[1])),
        nvml.text("nvmlDeviceGetUUID", own),
        _bandwidth_gb_s(nvml, own) if instance is None else None,
        instance,
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
