"""Several client processes for one run, where one would be too slow: a common clock, one schedule.

Each worker is this interpreter again, running this module. It takes its job from its standard input
and says ``ready``; all start at one instant of the monotonic clock, which processes of a machine
share. Requests of a closed loop are numbers in one pipe from which every lane of every worker takes
the next, so the loop is as closed as in one process.
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

from ..experiment.workloads import Workload
from ..records.spool import ClientError, Spool, SpoolError
from .client import Client, Request, Share, undisturbed

LEAD_S = 0.05
"""Between the last worker's ``ready`` and the start."""
_NUMBER = struct.Struct("<I")


class WorkerError(ClientError):
    """A client process died; the message holds its last words."""


@dataclass(frozen=True)
class _Job:
    url: str
    requests: Sequence[Request]
    share: Share
    spool: Path
    stall_s: float
    queue: int | None


def shares(requests: int, workload: Workload, processes: int) -> list[Share]:
    """A workload dealt out to so many processes, in turn."""
    starts = workload.starts(requests)
    if starts is not None:
        numbered = list(enumerate(starts))
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
    """Send requests from one process per spool; returns what each of them told of itself.

    Args:
        begin: called once with the start of the run on the monotonic clock.
        ended: called after each response.

    Raises:
        WorkerError: one died; the others are ended.
    """
    dealt = shares(len(requests), workload, len(spools))
    reading, writing = os.pipe()
    started: list[asyncio.subprocess.Process] = []
    try:
        for share, path in zip(dealt, spools, strict=True):
            queue = reading if share.lanes else None
            job = _Job(url, requests, share, path, stall_s, queue)
            started.append(await _start(job))
        os.close(reading)
        numbers = b"".join(_NUMBER.pack(i) for i in range(len(requests)))
        threading.Thread(target=_feed, args=(writing, numbers), daemon=True).start()
        for worker in started:
            await _line(worker)
        start = time.monotonic() + LEAD_S
        begin(start)
        for worker in started:
            await _tell(worker, f"{start!r}\n".encode())
        return await asyncio.gather(*(_told(worker, ended) for worker in started))
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
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    content = pickle.dumps(job)
    await _tell(worker, struct.pack("<Q", len(content)) + content)
    return worker


async def _tell(worker: asyncio.subprocess.Process, words: bytes) -> None:
    """Write to a worker; if it has died, that is told when it is read from."""
    assert worker.stdin
    with suppress(OSError, RuntimeError):  # RuntimeError: uvloop's, of a pipe that is closed
        worker.stdin.write(words)
        await worker.stdin.drain()


def _feed(pipe: int, numbers: bytes) -> None:
    """Writes the numbers of all requests; when every worker has gone there is nobody to read."""
    with suppress(BrokenPipeError), os.fdopen(pipe, "wb", buffering=0) as queue:
        left = memoryview(numbers)
        while left:
            left = left[queue.write(left) or 0 :]


async def _line(worker: asyncio.subprocess.Process) -> bytes:
    assert worker.stdout
    line = await worker.stdout.readline()
    if line.endswith(b"\n"):
        return line
    assert worker.stderr
    words = (await worker.stderr.read()).decode(errors="replace").strip()
    raise WorkerError(
        f"a client process ended with status {await worker.wait()}; its last words:\n{words}"
    )


async def _told(worker: asyncio.subprocess.Process, ended: Callable[[], None]) -> dict[str, Any]:
    while (line := await _line(worker)) == b"\n":
        ended()
    told = json.loads(line)
    if "error" in told:
        raise SpoolError(told["error"])
    return dict(told)


def main() -> None:
    """A worker: job in, ``ready`` out, start in, an empty line per response and a last one out."""
    source, said = sys.stdin.buffer, sys.stdout.buffer

    def say(line: bytes) -> None:
        said.write(line + b"\n")
        said.flush()

    (size,) = struct.unpack("<Q", source.read(8))
    job: _Job = pickle.loads(source.read(size))  # noqa: S301 - of our own parent

    def take() -> int | None:
        assert job.queue is not None
        taken = os.read(job.queue, _NUMBER.size)
        return _NUMBER.unpack(taken)[0] if taken else None

    with Spool(job.spool) as spool, undisturbed() as runner:
        client = Client(
            job.url,
            job.requests,
            spool,
            stall_s=job.stall_s,
            take=take,
            ended=lambda: say(b""),
        )
        say(b"ready")
        start = float(source.readline())
        spool.note("start", at=start)
        try:
            told = runner.run(client.send(job.share, start))
        except SpoolError as error:
            told = {"error": str(error)}
    say(json.dumps(told).encode())


if __name__ == "__main__":
    main()
