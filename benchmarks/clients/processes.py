"""A client as a process: on which cores, and what it and all that it started cost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
WATCH_S = 0.1


class ClientFailed(RuntimeError):
    """A client did not run; the message shows its command and its last words."""


@dataclass(frozen=True)
class Spent:
    """What a run of a client cost.

    Attributes:
        wall_s: from start to end of the process.
        cpu_s: user and system time of it and of all processes that it started and waited for.
        peak_bytes: most memory at once (proportional set sizes, summed, ten times a second); None
            when nobody watched, or it was over before. The kernel's own maximum is no help: it
            begins with what the process held that started the client.
        others: cores that anything but the client kept busy meanwhile, the server included.
        stolen: share of the machine's time that its host gave to others.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int | None
    others: float
    stolen: float


def run(
    command: Sequence[str],
    *,
    cpus: set[int] | None,
    env: Mapping[str, str],
    log: Path,
    timeout_s: float = 300.0,
    memory: bool = False,
) -> Spent:
    """Run a client to its end.

    Args:
        command: what to run; ``log`` gets all that it says.
        cpus: cores for it and its children; None: any.
        env: the whole environment.
        memory: whether to watch its memory, which costs a little CPU beside it.

    Raises:
        ClientFailed: it ended with another status than 0, or not in time.
    """
    before, began = psutil.cpu_times(), time.monotonic()
    with open(log, "wb") as out:
        process = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, sorted(cpus))), *command] if cpus else [*command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=dict(env),
            start_new_session=True,
        )
        watching = _Memory(process.pid) if memory else None
        killer = threading.Timer(timeout_s, _end, (process.pid,))
        killer.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            _end(process.pid)
            raise
        finally:
            killer.cancel()
            process.returncode = 0  # waited for here, so that Popen does not try
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # whom it left behind
    wall_s, after = time.monotonic() - began, psutil.cpu_times()
    cpu_s = used.ru_utime + used.ru_stime
    if status:
        words = log.read_text(errors="replace").strip().splitlines()[-25:]
        why = f"did not end within {timeout_s:g} s" if wall_s >= timeout_s else f"status {status}"
        raise ClientFailed("\n".join([f"{' '.join(command)}: {why}", *words]))
    spans = {name: getattr(after, name) - getattr(before, name) for name in after._fields}
    total = sum(spans[name] for name in spans if not name.startswith("guest"))
    busy = total - spans["idle"] - spans["iowait"] - spans["steal"]
    return Spent(
        wall_s=wall_s,
        cpu_s=cpu_s,
        peak_bytes=(watching.end() or None) if watching else None,
        others=max(0.0, (busy - cpu_s) / wall_s),
        stolen=spans["steal"] / total,
    )


def tree(pid: int) -> list[psutil.Process]:
    """A process and all below it; empty when it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_s(processes: Sequence[psutil.Process]) -> float:
    """User and system time of processes that run, s."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


class _Memory(threading.Thread):
    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._stop_it, self._peak = pid, threading.Event(), 0
        self.start()

    def run(self) -> None:
        while not self._stop_it.wait(WATCH_S):
            held = 0
            for process in tree(self._pid):
                with contextlib.suppress(psutil.Error, OSError):
                    held += process.memory_full_info().pss
            self._peak = max(self._peak, held)

    def end(self) -> int:
        self._stop_it.set()
        self.join()
        return self._peak


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
