"""Which machine this is, beyond its class: what was stored of it is told from what was stored of
others."""

from __future__ import annotations

import hashlib
import re
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path

from ..cache import cache_folder
from .gpu import Gpu
from .hardware import cores, cpuinfo

IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")
"""Where an operating system keeps the id of its machine."""
OWN_ID = "machine-id"
"""Name of our own id in the cache folder, for a machine without one."""
PROCESSOR = ("vendor_id", "cpu family", "model", "model name", "stepping", "cache size")


def fingerprint(gpu: Gpu) -> str:
    """Twelve hexadecimal digits that are the same for one machine at any time, and differ between
    machines of one class.

    They are a salted hash of the machine's id with its processor, memory and GPUs, and name no
    person and no host. A machine without an id, as containers often are, gets one of ours in the
    cache folder; without such a folder it is another machine in every process.

    Args:
        gpu: the GPUs of this machine.
    """
    import psutil

    gib = round(psutil.virtual_memory().total / 2**30)
    told = ["pytest-rllm", _id(), *_processor(), str(cores()), str(gib), *sorted(gpu.uuids)]
    return hashlib.sha256("\0".join(told).encode()).hexdigest()[:12]


@cache
def _id() -> str:
    """The operating system's id of this machine, else our own."""
    for name in IDS:
        with suppress(OSError):
            if told := Path(name).read_text().strip():
                return told
    path = cache_folder() / OWN_ID
    with suppress(OSError):
        if told := path.read_text().strip():
            return told
    made = uuid.uuid4().hex
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made + "\n")
    return made


def _processor() -> list[str]:
    """What tells processors apart; empty where the system does not tell."""
    told = (re.search(rf"^{name}\s*:(.*)", cpuinfo(), re.MULTILINE) for name in PROCESSOR)
    return [match[1].strip() for match in told if match]
