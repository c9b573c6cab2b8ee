"""A load that is no engine, timed beside every block: how fast this machine is right now.

An engine that became slower is told from a machine that became slower by it: the same arithmetic
takes longer on the second one only. It runs while the servers are idle, on every processor that
they may use, because one busy processor of several slows an engine, too.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from typing import Any, Protocol

from .. import access
from .hardware import cores

MOST_THREADS = 64
"""Enough of a large machine to see that it is busy."""
SIZE = 1 << 17
ROUNDS = 160
"""Passes over SIZE single-precision numbers: about 10 to 40 ms, longer than a slice of the
scheduler's time, so that a busy neighbour shows."""


class Reference(Protocol):
    """A fixed load."""

    def seconds(self) -> float | None:
        """How long it takes now, in s; None where it cannot be run."""


class CpuReference:
    """Seeded arithmetic of numpy, the same on every processor at the same time."""

    def __init__(self) -> None:
        self._threads = min(cores(), MOST_THREADS)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, "rllm-reference")

    @cached_property
    def _numbers(self) -> list[tuple[Any, Any]]:
        """Per thread the numbers that it reads, and room for those that it writes."""
        import numpy as np

        made = [np.random.default_rng(i).random(SIZE, np.float32) for i in range(self._threads)]
        return [(numbers, np.empty_like(numbers)) for numbers in made]

    def seconds(self) -> float:
        """Mean over the threads of the time that each took."""
        return statistics.fmean(self._pool.map(_arithmetic, self._numbers))


def _arithmetic(numbers_and_room: tuple[Any, Any]) -> float:
    import numpy as np

    numbers, room = numbers_and_room
    begun = time.perf_counter()
    for _ in range(ROUNDS):  # numpy works without the interpreter's lock
        np.multiply(numbers, numbers, out=room)
        np.add(room, numbers, out=room)
        np.sqrt(room, out=room)
    return time.perf_counter() - begun


class TorchReference:
    """Seeded matrix products of torch in a process of its own, for GPUs.

    The process is started at the first call and ended by :meth:`close`. On a GPU it holds about
    300 MB of its memory.

    Args:
        device: of torch, ``"cuda"``; tests use ``"cpu"``.
        python: an interpreter that has torch; the running one by default.
        variables: of its environment, beside this process's: which GPU it sees.
    """

    def __init__(
        self,
        device: str = "cuda",
        python: str = sys.executable,
        variables: Mapping[str, str | None] | None = None,
    ) -> None:
        self._variables = variables
        self._command = [python, "-c", _PRODUCTS, device]
        self._process: subprocess.Popen[str] | None = None
        self._failed = False

    def seconds(self) -> float | None:
        """Time of the products; None where torch or the device is not there."""
        if self._failed:
            return None
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=access.child_environment(self._variables),
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write("again\n")
            self._process.stdin.flush()
            return float(self._process.stdout.readline())
        except (OSError, ValueError):
            self._failed = True
            self.close()
            return None

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            with suppress(OSError):
                assert self._process.stdin is not None
                self._process.stdin.close()
            with suppress(OSError):
                self._process.kill()
            self._process.wait()
            self._process = None


_PRODUCTS = """
import sys, time
import torch
device = sys.argv[1]
torch.manual_seed(0)
wide = device == "cuda"
size, rounds = (4096, 20) if wide else (256, 20)
numbers = torch.rand(size, size, device=device, dtype=torch.float16 if wide else torch.float32)
numbers @ numbers
for _ in sys.stdin:
    if wide:
        torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(rounds):
        numbers @ numbers
    if wide:
        torch.cuda.synchronize()
    print(time.perf_counter() - begun, flush=True)
"""
