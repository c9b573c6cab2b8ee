"""Names the hardware and software of a measurement: only equal hardware is compared."""

from __future__ import annotations

import os
import platform
import re
from collections import Counter
from functools import cache
from importlib import metadata
from pathlib import Path

from .gpu import Gpu

ISA = (
    ("amx", "amx_tile"),
    ("avx512bf16", "avx512_bf16"),
    ("avx512", "avx512f"),
    ("avx2", "avx2"),
    ("neon", "asimd"),
)
"""Instruction sets that decide which kernels an engine uses on a CPU, the best first."""


def hardware_id(gpu: Gpu, *, on_cpu: bool) -> str:
    """The name of a class of machine, e.g. ``cpu-amd-avx512bf16-2c`` or ``gpu-nvidia-h200-1x``, of
    several kinds of GPUs ``gpu-nvidia-h200-1x+nvidia-l4-2x``.

    Args:
        gpu: the GPUs that this process may use: no others are named.
        on_cpu: whether the engine serves on the CPU, even if there are GPUs.
    """
    if on_cpu or gpu.why_not:
        return f"cpu-{_cpu_vendor()}-{instruction_set()}-{cores()}c"
    kinds = Counter(re.sub(r"[^a-z0-9]+", "-", d.name.lower()).strip("-") for d in gpu.devices)
    return "gpu-" + "+".join(f"{kind}-{count}x" for kind, count in kinds.items())


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect a measurement, for the record."""
    found = {"python": platform.python_version()}
    for distribution in ("pytest-rllm", "torch", "transformers", "httptools", "uvloop", "numpy"):
        try:
            found[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return found


def cores() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def cpuinfo() -> str:
    """What Linux tells of the processors; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.is_file() else ""


def _cpu_vendor() -> str:
    vendor = re.search(r"^vendor_id\s*:\s*(\S+)", cpuinfo(), re.MULTILINE)
    known = {"AuthenticAMD": "amd", "GenuineIntel": "intel"}
    return known.get(vendor[1] if vendor else "", platform.machine().lower())


def instruction_set() -> str:
    """The best of ``ISA`` that the CPU has, ``base`` for none of them."""
    flags = re.search(r"^(?:flags|Features)\s*:(.*)", cpuinfo(), re.MULTILINE)
    have = set(flags[1].split()) if flags else set()
    return next((name for name, flag in ISA if flag in have), "base")
