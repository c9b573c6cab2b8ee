"""Several client processes for one run, for loads that are too high for one process.

Each worker runs this module in the same interpreter. It reads its job from standard input and
answers ``ready``; then all start at the same time of the monotonic clock, which the processes of a
machine share. The numbers of a closed loop's requests are in one pipe, from which every lane of
every worker takes the next one: the loop is the same as in one process.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import access
from ..experiment.workloads import Workload
from ..records.spool import ClientError, Spool, SpoolError
from .client import Client, Request, Share, firsts, frozen_heap_loop

LEAD_S = 0.05
"""Seconds between the last worker's ``ready`` and the start of the run."""
_NUMBER = struct.Struct("<I")


class WorkerError(ClientError):
    """A client process died; the message holds its standard error."""


@dataclass(frozen=True)
class _Job:
    """What a worker needs to know; ``queue`` is the pipe of a closed loop's request numbers, and
    ``access`` comes over the pipe, not by the environment, which others could read."""

    url: str
    requests: Sequence[Request]
    share: Share
    spool: Path
    stall_s: float
    queue: int | None
    access: access.Access


def shares(numbers: Sequence[int], workload: Workload, processes: int) -> list[Share]:
    """Divide a workload between processes, request by request or lane by lane.

    Args:
        numbers: of the requests that wait for no other one to end.
        workload: when they start.
        processes: how many there are.
    """
    starts = workload.starts(len(numbers))
    if starts is not None:
        numbered = list(zip(numbers, starts, strict=True))
        return [Share(starts=numbered[i::processes]) for i in range(processes)]
    lanes = workload.in_flight or 1
    return [Share(lanes=lanes // processes + (i < lanes % processes)) for i in range(processes)]


async def send(
    url: str,
    requests: Sequence[Request],
    workload: Workload,
    spools: Sequence[Path],
    *,
    stall_s: float,
    begin: Callable[[float], None],
    ended: Callable[[], None],
) -> list[dict[str, Any]]:
    """Send requests from one process per spool; returns the report of each, see ``Client.send``.

    Args:
        begin: called once with the start of the run on the monotonic clock.
        ended: called after each response.

    Raises:
        WorkerError: a process died; the others are killed.
        SpoolError: a process could not write its spool.
    """
    begin_with = firsts(requests)
    divided = shares(begin_with, workload, len(spools))
    reading, writing = os.pipe()
    started: list[asyncio.subprocess.Process] = []
    try:
        for share, path in zip(divided, spools, strict=True):
            queue = reading if share.lanes else None
            job = _Job(url, requests, share, path, stall_s, queue, access.current())
            started.append(await _start(job))
        os.close(reading)
        numbers = b"".join(map(_NUMBER.pack, begin_with))
        threading.Thread(target=_feed, args=(writing, numbers), daemon=True).start()
        for worker in started:
            await _read_line(worker)
        start = time.monotonic() + LEAD_S
        begin(start)
        for worker in started:
            await _write(worker, f"{start!r}\n".encode())
        return await asyncio.gather(*(_report(worker, ended) for worker in started))
    finally:
        for worker in started:
            if worker.returncode is None:
                worker.kill()
            await worker.wait()


async def _start(job: _Job) -> asyncio.subprocess.Process:
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest_rllm.loadgen.workers"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=() if job.queue is None else (job.queue,),
        env=access.child_environment(
            {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        ),
    )
    content = access.HiddenBytes(pickle.dumps(job))
    await _write(worker, access.HiddenBytes(struct.pack("<Q", len(content)) + content))
    return worker


async def _write(worker: asyncio.subprocess.Process, data: bytes) -> None:
    """Write to a worker; if it has died, :func:`_read_line` raises the reason."""
    assert worker.stdin
    with suppress(OSError, RuntimeError):  # uvloop raises RuntimeError for a closed pipe
        worker.stdin.write(data)
        await worker.stdin.drain()


def _feed(pipe: int, numbers: bytes) -> None:
    """Write the numbers of all requests to the pipe, until no worker reads it any more."""
    with suppress(BrokenPipeError), os.fdopen(pipe, "wb", buffering=0) as queue:
        left = memoryview(numbers)
        while left:
            left = left[queue.write(left) or 0 :]


async def _read_line(worker: asyncio.subprocess.Process) -> bytes:
    """The next line of a worker's output; WorkerError if the worker has ended."""
    assert worker.stdout
    line = await worker.stdout.readline()
    if line.endswith(b"\n"):
        return line
    assert worker.stderr
    error = (await worker.stderr.read()).decode(errors="replace").strip()
    raise WorkerError(
        f"a client process ended with status {await worker.wait()}; its standard error:\n{error}"
    )


async def _report(worker: asyncio.subprocess.Process, ended: Callable[[], None]) -> dict[str, Any]:
    """Wait for a worker's last line, its report; an empty line before it is an ended response."""
    while (line := await _read_line(worker)) == b"\n":
        ended()
    report = json.loads(line)
    if "error" in report:
        raise SpoolError(report["error"])
    return dict(report)


def main() -> None:
    """Run a worker: read the job, write ``ready``, read the start, send, write the report.

    An empty line is written after each response.
    """
    source, output = sys.stdin.buffer, sys.stdout.buffer

    def write_line(line: bytes) -> None:
        output.write(line + b"\n")
        output.flush()

    (size,) = struct.unpack("<Q", source.read(8))
    job: _Job = pickle.loads(source.read(size))  # noqa: S301 - written by our own parent process

    def take() -> int | None:
        assert job.queue is not None
        taken = os.read(job.queue, _NUMBER.size)
        return _NUMBER.unpack(taken)[0] if taken else None

    access.use(job.access)
    with Spool(job.spool) as spool, frozen_heap_loop() as runner:
        client = Client(
            job.url,
            job.requests,
            spool,
            stall_s=job.stall_s,
            take=take,
            ended=lambda: write_line(b""),
        )
        write_line(b"ready")
        start = float(source.readline())
        spool.note("start", at=start)
        try:
            report = runner.run(client.send(job.share, start))
        except SpoolError as error:
            report = {"error": str(error)}
    write_line(json.dumps(report).encode())


if __name__ == "__main__":
    main()
