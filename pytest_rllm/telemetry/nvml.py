"""NVML, the library of NVIDIA's driver that tells about GPUs, asked so that an answer which it does
not give is None and never an error."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal, Self

WHY_NOT = {
    "LibraryNotFound": "the driver's library (libnvidia-ml.so.1) is not found: install NVIDIA's "
    "driver, or give a container its GPUs (docker run --gpus all)",
    "DriverNotLoaded": "the driver is not loaded: load it (modprobe nvidia), or give a container "
    "its GPUs (docker run --gpus all)",
    "LibRmVersionMismatch": "the driver's library and its kernel module are of different "
    "versions, as after an update: restart the machine",
    "NoPermission": "this user may not open the driver's device files (/dev/nvidia*)",
    "FunctionNotFound": "the driver is too old for nvidia-ml-py: update the driver",
    "GpuIsLost": "a GPU fell off the bus (GPU is lost): restart the machine",
}
"""What to do about the errors with which NVML does not start, by their names in ``pynvml``."""
CLOCK_REASONS = (
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
)
GONE = ("GpuIsLost", "ResetRequired")
"""Errors of a GPU that computes nothing until the machine is restarted."""


class NoNvml(Exception):
    """No NVIDIA GPU can be asked; says why in a sentence."""


class Nvml:
    """NVML's functions after ``nvmlInit``.

    Every kind of GPU, driver, container and right leaves out some of the values: what NVML answers
    with an error, and what an older ``pynvml`` has no function for, is None.

    Attributes:
        count: of the GPUs that NVML lists: in a container, those that it was given.
    """

    def __init__(self, module: Any, count: int) -> None:
        self._module, self.count = module, count

    @classmethod
    def opened(cls, module: Any = None) -> Self:
        """NVML, ready to be asked.

        Args:
            module: with NVML's functions, ``pynvml`` by default.

        Raises:
            NoNvml: the library, the driver or a GPU is missing.
        """
        try:
            module = module or import_module("pynvml")
        except ImportError:
            raise NoNvml("no GPU monitoring: install nvidia-ml-py") from None
        try:
            module.nvmlInit()
            count = module.nvmlDeviceGetCount()
        except module.NVMLError as error:
            raise NoNvml(f"no NVIDIA GPU: {_why_not(error)}") from error
        return cls(module, count)

    def ask(self, function: str, *arguments: Any) -> Any | None:
        """What a function answers; None where it answers with an error, does not exist, or would
        be asked of a device without a handle (None)."""
        asked = getattr(self._module, function, None)
        if asked is None or any(argument is None for argument in arguments):
            return None
        try:
            return asked(*arguments)
        except self._module.NVMLError:
            return None

    def handle(self, index: int) -> Any | None:
        """By which other functions know a GPU; None where NVML does not give it out."""
        return self.ask("nvmlDeviceGetHandleByIndex", index)

    def gone(self, index: int) -> str | None:
        """The error of a GPU that cannot be used: NVML gives no handle out, or has lost it."""
        try:
            handle = self._module.nvmlDeviceGetHandleByIndex(index)
        except self._module.NVMLError as error:
            return str(error)
        try:
            self._module.nvmlDeviceGetUUID(handle)
        except self._module.NVMLError as error:
            return str(error) if _name(error) in GONE else None
        return None

    def instances(self, index: int) -> list[Any] | None:
        """Handles of a GPU's MIG instances; None where it is not in MIG mode."""
        handle = self.handle(index)
        mode = self.ask("nvmlDeviceGetMigMode", handle)  # now, and after the next restart
        if mode is None or mode[0] != getattr(self._module, "NVML_DEVICE_MIG_ENABLE", 1):
            return None
        most = self.ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0
        found = [self.ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, i) for i in range(most)]
        return [instance for instance in found if instance is not None]

    def text(self, function: str, handle: Any) -> str:
        """A text; empty where it is not told."""
        told: str | bytes = self.ask(function, handle) or ""
        return told.decode() if isinstance(told, bytes) else told

    def memory_gib(self, handle: Any, which: Literal["total", "used", "free"]) -> float | None:
        """Memory of a GPU in GiB."""
        told = self.ask("nvmlDeviceGetMemoryInfo", handle)
        return None if told is None else float(getattr(told, which)) / 2**30

    def clock_mhz(self, function: str, handle: Any, clock: str) -> float | None:
        """A clock in MHz; ``clock`` is the name of NVML's constant."""
        told = self.ask(function, handle, getattr(self._module, clock, None))
        return None if told is None else float(told)

    def clock_reasons(self, handle: Any) -> float | None:
        """Bits that say why a GPU does not run at its highest clock. Drivers before 535 know them
        by an older name, which newer ones are to forget."""
        for function in CLOCK_REASONS:
            if (told := self.ask(function, handle)) is not None:
                return float(told)
        return None

    def processes(self, handle: Any) -> list[tuple[int, float | None]] | None:
        """Ids of the compute processes and the GiB that each holds."""
        told = self.ask("nvmlDeviceGetComputeRunningProcesses", handle)
        if told is None:
            return None
        return [
            (one.pid, None if one.usedGpuMemory is None else one.usedGpuMemory / 2**30)
            for one in told
        ]


def _name(error: Exception) -> str:
    """What ``pynvml`` calls an error, as in ``NVMLError_NotSupported``."""
    return type(error).__name__.removeprefix("NVMLError_")


def _why_not(error: Exception) -> str:
    return WHY_NOT.get(_name(error), f"NVML does not start ({error})")
