"""Who else uses the GPUs that our servers use: told by processes, and where a driver lists none, as
under WSL and in containers, by the memory that is held."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from .gpu import Device, Gpu

UNSEEN_GIB = 2.0
"""Memory that may be held, or come and go, without being somebody else's where processes are not
listed: a driver and a desktop hold 0.5 to 1.5 GiB, and an engine takes some more when it first
serves long prompts. Another engine with the smallest of models takes as much."""
SERVED_GIB = 0.3
"""A GPU of which at least this much more is held than before serves: a CUDA context takes as
much."""


def own_processes() -> set[int]:
    """Ids of this process and of all that it started."""
    import psutil

    own = {os.getpid()}
    with suppress(psutil.Error):
        own |= {child.pid for child in psutil.Process().children(recursive=True)}
    return own


@dataclass(frozen=True)
class _Seen:
    """What a GPU told at one moment: its compute processes with the GiB of each, and all that is
    held of it, None where it is not told."""

    processes: Mapping[int, float | None]
    used_gib: float | None


class Neighbours:
    """Who else is on the GPUs: looks before the first server starts, and again before each run.

    Args:
        gpu: the GPUs of this machine.
        ours: ids of our processes now.
    """

    def __init__(self, gpu: Gpu, ours: Callable[[], Collection[int]] = own_processes) -> None:
        self._gpu, self._ours = gpu, ours
        self._before: dict[Device, _Seen] | None = None
        self._ready: dict[Device, _Seen] = {}

    def look_before(self) -> None:
        """Look before the first server starts; later looks change nothing."""
        if self._before is None:
            self._before = self._look()

    def servers_are_up(self) -> None:
        """Look when servers have become ready, which now hold what they take."""
        self.look_before()
        self._ready = self._look()

    @property
    def devices(self) -> tuple[Device, ...]:
        """The GPUs that our servers use, as their processes or their memory tell; all that can be
        used where neither does."""
        ours = set(self._ours())
        by_process = [d for d, seen in self._ready.items() if ours & seen.processes.keys()]
        by_memory = [d for d in self._ready if self._grown(d) > SERVED_GIB]
        return tuple(by_process or by_memory or self._gpu.devices)

    def strangers(self, *, started: bool, attached: bool) -> dict[str, str]:
        """Who else is on the GPUs of our servers now, in words, by NVML's name of the GPU
        (``gpu0``).

        Args:
            started: whether servers of this session are up.
            attached: whether servers are used that somebody else started on this machine: they
                were here before and are no strangers, as long as nothing joins them.
        """
        found = {d.index: self._who(d, started, attached) for d in self.devices}
        return {f"gpu{index}": who for index, who in found.items() if who is not None}

    def _look(self) -> dict[Device, _Seen]:
        return {device: self._see(device) for device in self._gpu.devices}

    def _see(self, device: Device) -> _Seen:
        return _Seen(dict(self._gpu.holders(device) or ()), self._gpu.used_gib(device))

    def _grown(self, device: Device) -> float:
        """GiB that our servers take."""
        before, ready = (self._before or {}).get(device), self._ready.get(device)
        return _more(before, ready)

    def _who(self, device: Device, started: bool, attached: bool) -> str | None:
        before, now, ours = (self._before or {}).get(device), self._see(device), set(self._ours())
        here_before = before.processes.keys() if before else set[int]()
        # In a container a driver may list processes by ids that they have outside of it: what was
        # not here before may then be ours.
        known = bool(ours & now.processes.keys()) or not started
        others = now.processes.keys() - ours if known else now.processes.keys() & here_before
        if attached:
            others = others - here_before
        if others:
            return _named({pid: now.processes[pid] for pid in others})
        if known and now.processes:
            return None
        held = before.used_gib if before else None
        if held is not None and held > UNSEEN_GIB and not attached:
            return f"{held:.1f} GiB were held before the first server, its driver says not by whom"
        grown = _more(self._ready.get(device), now)
        if grown > UNSEEN_GIB:
            return (
                f"{grown:.1f} GiB more are held than when the servers were ready, its driver says "
                "not by whom"
            )
        return None


def _more(first: _Seen | None, second: _Seen | None) -> float:
    """GiB that are held more in a second look; 0 where it is not told."""
    if first is None or second is None or first.used_gib is None or second.used_gib is None:
        return 0.0
    return second.used_gib - first.used_gib


def _named(processes: Mapping[int, float | None]) -> str:
    held = [
        f"{pid}" if gib is None else f"{pid} with {gib:.1f} GiB"
        for pid, gib in sorted(processes.items())
    ]
    return f"process{'es' * (len(processes) > 1)} {', '.join(held)} of others"
