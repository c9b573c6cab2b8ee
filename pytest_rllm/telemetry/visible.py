"""Which of the GPUs that NVML lists a process may use, as CUDA decides it by environment variables.

NVML lists every GPU of the machine, or of the container, whatever these variables say. The rules
are those of NVIDIA's *CUDA C++ Programming Guide* (environment variables) and *MIG User Guide*.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

DEVICES = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
BY_BUS = "PCI_BUS_ID"
"""Value of ``ORDER`` with which CUDA counts GPUs as NVML does."""


@dataclass(frozen=True)
class Listed:
    """A GPU as NVML lists it.

    Attributes:
        uuid: its id, empty where it is not told.
        name: of its kind.
        instances: ids of its MIG instances; empty without MIG.
        partitioned: whether it is in MIG mode, so that CUDA uses its instances alone.
    """

    uuid: str
    name: str = ""
    instances: tuple[str, ...] = ()
    partitioned: bool = False


Place = tuple[int, int | None]
"""Index of a GPU in NVML's list, and of the MIG instance on it; None: the whole GPU."""


@dataclass(frozen=True)
class Visible:
    """What a process may use.

    Attributes:
        places: in CUDA's order.
        remarks: sentences on what was left out, and why.
    """

    places: tuple[Place, ...]
    remarks: tuple[str, ...]


def visible(listed: Sequence[Listed], variables: Mapping[str, str]) -> Visible:
    """What a process with these environment variables may use.

    Args:
        listed: all GPUs, in NVML's order.
        variables: of the environment.
    """
    named = variables.get(DEVICES)
    chosen: list[Place] = [(i, None) for i in range(len(listed))]
    ended = None
    if named is not None:
        chosen, ended = _chosen(listed, named)
    remarks = [] if ended is None else [f"{DEVICES}={named}: {ended}"]
    if named is not None and ended is None and len(chosen) < len(listed):
        remarks.append(f"{DEVICES}={named} leaves {len(chosen)} of {len(listed)} GPUs")
    counted = named is None or not named.strip().startswith(("GPU-", "MIG-"))
    kinds = {one.name for one in listed if one.name}
    if counted and chosen and len(kinds) > 1 and variables.get(ORDER) != BY_BUS:
        remarks.append(
            f"GPUs of several kinds: CUDA counts the fastest first, NVML by their place on the "
            f"bus; set {ORDER}={BY_BUS}, so that numbers mean the same"
        )
    places, more = _one_instance(listed, chosen)
    return Visible(tuple(places), (*remarks, *more))


def _chosen(listed: Sequence[Listed], named: str) -> tuple[list[Place], str | None]:
    """What a list names, up to its first entry that names nothing; and why it ends there."""
    if not named.strip():
        return [], "an empty list leaves no GPU"
    entries = [entry.strip() for entry in named.split(",")]
    find = _finder(listed, entries[0])
    chosen: list[Place] = []
    for entry in entries:
        found = find(entry)
        if len(found) != 1:
            many = f"{len(found)} GPUs begin with {entry!r}" if found else f"{entry!r} is no GPU"
            return chosen, f"{many} here, and CUDA uses nothing from there on"
        if found[0] in chosen:
            return [], f"{entry!r} is named twice, and CUDA then uses no GPU at all"
        chosen += found
    return chosen, None


def _finder(listed: Sequence[Listed], first: str) -> Callable[[str], list[Place]]:
    """What entries of a list mean: its first one decides whether they are numbers or ids."""
    boards: list[tuple[str, Place]] = [(one.uuid, (i, None)) for i, one in enumerate(listed)]
    instances: list[tuple[str, Place]] = [
        (uuid, (i, k)) for i, one in enumerate(listed) for k, uuid in enumerate(one.instances)
    ]

    def by_number(entry: str) -> list[Place]:
        number = re.match(r"\+?\d+", entry)  # CUDA takes the digits at the beginning
        place = int(number[0]) if number else -1
        return [(place, None)] if 0 <= place < len(listed) else []

    def by_id(prefix: str, known: list[tuple[str, Place]]) -> Callable[[str], list[Place]]:
        def find(entry: str) -> list[Place]:
            if not entry.startswith(prefix):
                return []
            return [place for uuid, place in known if uuid.startswith(entry)]

        return find

    if first.startswith("GPU-"):
        return by_id("GPU-", boards)
    return by_id("MIG-", instances) if first.startswith("MIG-") else by_number


def _one_instance(
    listed: Sequence[Listed], chosen: Sequence[Place]
) -> tuple[list[Place], list[str]]:
    """What CUDA makes of GPUs in MIG mode: a process gets one instance, and nothing beside it."""
    places: list[Place] = []
    remarks = []
    for index, instance in chosen:
        one = listed[index]
        if instance is not None or not one.partitioned:
            places.append((index, instance))
        elif one.instances:
            places += [(index, k) for k in range(len(one.instances))]
        else:
            remarks.append(
                f"GPU {index} is in MIG mode and has no instance that this process may use: make "
                f"one (nvidia-smi mig -i {index} -cgi PROFILE -C), or switch the mode off "
                f"(nvidia-smi -i {index} -mig 0)"
            )
    first = next((place for place in places if place[1] is not None), None)
    if first is None or len(places) == 1:
        return places, remarks
    used, uuid = f"MIG {first[1]} of GPU {first[0]}", listed[first[0]].instances[first[1] or 0]
    remarks.append(
        f"CUDA gives a process one MIG instance and nothing beside it: of {len(places)} devices "
        f"only {used} is used ({DEVICES}={uuid}); set {DEVICES} to another one's id, or to GPUs "
        "that are not in MIG mode"
    )
    return [first], remarks
