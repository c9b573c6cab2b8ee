"""Sends a workload to an engine and records what comes back.

While the run goes on, reads of the socket and pages of telemetry are only noted with their times
(``client``, ``spool``); they are understood, counted and written as a record when it is over. All
times are seconds of the monotonic clock from the start of the run.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..experiment.workloads import Workload
from ..records import spool as spools
from ..records.reader import understood
from ..records.run import Run
from ..records.spool import Spool
from ..records.writer import RunWriter
from ..telemetry.prometheus import Page
from ..telemetry.watch import Watch
from . import workers
from .client import LAG_EVERY_S, Client, Request, undisturbed
from .http import Wire

SCRAPE_WITHIN_S = 10.0
"""A page that takes longer has failed; the next reading is tried."""


@dataclass(frozen=True)
class Scrape:
    """A page of the server that is read beside the run, into the series of the run.

    Attributes:
        url: what to get.
        read: the page's text to our series, called after the run; its errors, and the series that
            are missing, are kept in the closing line.
        every_s: seconds between two readings.
    """

    url: str
    read: Callable[[str], Page]
    every_s: float = 0.1


Progress = Callable[[int, int], None]
"""Called with (requests ended, requests in all) each time one ends."""


def drive(
    url: str,
    requests: Sequence[Request],
    workload: Workload,
    writer: RunWriter,
    *,
    scrape: Scrape | None = None,
    monitor: Callable[[], dict[str, float]] | None = None,
    stall_s: float = 120.0,
    progress: Progress = lambda _done, _all: None,
    clock: Callable[[], float] = time.monotonic,
    processes: int = 1,
) -> Run:
    """Send every request as the workload says and record each response.

    Args:
        url: base of an OpenAI-compatible API, without ``/v1``.
        requests: in the order in which they start.
        workload: when they start.
        writer: where the record goes; closed at the end.
        scrape: telemetry to read beside the run; read once before and once after it, too.
        monitor: one reading of other series (GPU), taken in a thread beside the run.
        stall_s: a response that says nothing for so long has failed.
        progress: told after each response.
        clock: monotonic seconds; where several processes send it is ``time.monotonic``.
        processes: how many send; 1 is this one, more are started beside it.

    Returns:
        The finished run. A failed request is a sample with an error; the run goes on.

    Raises:
        SpoolError: the disk is full. WorkerError: a client process died.
    """
    paths = [spools.beside(writer.path, i) for i in range(processes + (processes > 1))]
    with Spool(paths[0]) as spool, undisturbed() as runner:
        reading = Watch(monitor, keep=spool.reading, clock=clock) if monitor else None
        with reading or nullcontext():
            session = _Session(url, requests, workload, spool, paths[1:], scrape, progress, clock)
            closing = runner.run(session.run(stall_s))
    spool.check()
    return _record(requests, paths, writer, scrape, closing, reading)


@dataclass
class _Session:
    """What goes on while a run is measured."""

    url: str
    requests: Sequence[Request]
    workload: Workload
    spool: Spool
    beside: Sequence[Path]
    scrape: Scrape | None
    progress: Progress
    clock: Callable[[], float]
    ended: int = 0

    async def run(self, stall_s: float) -> dict[str, Any]:
        """The closing line, as far as it is known without understanding anything."""
        lost: Counter[str] = Counter()
        async with _Pages(self.scrape, self.spool, lost, self.clock) as pages:
            if self.beside:
                told = await workers.send(
                    self.url,
                    self.requests,
                    self.workload,
                    self.beside,
                    stall_s=stall_s,
                    begin=pages.begin,
                    ended=self._ended,
                )
            else:
                told = [await self._send(pages, stall_s)]
            await pages.get()
            wall_s = self.clock() - pages.start
        lags = sorted(lag for one in told for lag in one["lags"]) or [0.0]
        blocked = max(sum(lag for lag in one["lags"] if lag > LAG_EVERY_S) for one in told)
        return {
            "processes": len(told),
            "start_clock_s": round(pages.start, 6),
            "wall_s": round(wall_s, 6),
            "client_cpu_s": round(sum(one["cpu_s"] for one in told), 6),
            "loop_lag_p99_s": round(lags[min(len(lags) - 1, int(0.99 * len(lags)))], 6),
            "loop_lag_max_s": round(lags[-1], 6),
            "loop_lag_share": round(blocked / wall_s, 6),
            "telemetry_errors": lost,
        }

    async def _send(self, pages: _Pages, stall_s: float) -> dict[str, Any]:
        numbers = iter(range(len(self.requests)))
        client = Client(
            self.url,
            self.requests,
            self.spool,
            stall_s=stall_s,
            take=lambda: next(numbers, None),
            ended=self._ended,
            clock=self.clock,
        )
        (share,) = workers.shares(len(self.requests), self.workload, 1)
        pages.begin(self.clock())
        return await client.send(share, pages.start)

    def _ended(self) -> None:
        self.ended += 1
        self.progress(self.ended, len(self.requests))


class _Pages:
    """Pages of telemetry, got beside the run and kept as they came; an async context manager."""

    def __init__(
        self,
        scrape: Scrape | None,
        spool: Spool,
        lost: Counter[str],
        clock: Callable[[], float],
    ) -> None:
        self.start = 0.0
        self._scrape, self._spool, self._lost, self._clock = scrape, spool, lost, clock
        self._wire = Wire(scrape.url, clock=clock) if scrape else None
        self._first: bytes | None = None

    async def __aenter__(self) -> _Pages:
        if self._wire:
            await self._wire.__aenter__()
            self._first = await self._page()
        self._repeating: asyncio.Task[None] | None = None
        return self

    def begin(self, start: float) -> None:
        """The run starts; the page that was got before it stands at its start."""
        self.start = start
        self._spool.note("start", at=start)
        if self._first is not None:
            self._spool.page(start, self._first)
        if self._scrape:
            self._repeating = asyncio.create_task(self._repeat(self._scrape.every_s))

    async def get(self) -> None:
        """One page now."""
        if self._repeating:
            self._repeating.cancel()
        if (page := await self._page()) is not None:
            self._spool.page(self._clock(), page)

    async def _repeat(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            if (page := await self._page()) is not None:
                self._spool.page(self._clock(), page)

    async def _page(self) -> bytes | None:
        if self._wire is None:
            return None
        kept: list[bytes] = []
        try:
            async with asyncio.timeout(SCRAPE_WITHIN_S):
                got = await self._wire.exchange(
                    self._wire.get(""), spill=lambda _times, datas: kept.extend(datas)
                )
        except TimeoutError:
            self._lost[f"TimeoutError: no page within {SCRAPE_WITHIN_S:g} s"] += 1
            return None
        except Exception as error:  # noqa: BLE001 - a task's error is seen by nobody
            self._lost[f"{type(error).__name__}: {error}"] += 1
            return None
        if got.error or got.status != 200:
            self._lost[got.error or f"HTTP {got.status}: {got.text[:100]}"] += 1
            return None
        return b"".join([*kept, *got.datas])

    async def __aexit__(self, *failed: object) -> None:
        if self._repeating:
            self._repeating.cancel()
        if self._wire:
            await self._wire.__aexit__(*failed)


def _record(
    requests: Sequence[Request],
    paths: Sequence[Path],
    writer: RunWriter,
    scrape: Scrape | None,
    closing: dict[str, Any],
    watch: Watch | None,
) -> Run:
    """Understand what was spooled, write it as a record, and remove the spools."""
    found = [spools.read(path) for path in paths]
    start = found[0].start
    assert start is not None
    fields: set[str] = set()
    cut = 0
    for sample, note, stream in understood(found):
        fields |= stream.fields
        if note["cut"] is None:
            writer.sample(sample)
        else:
            cut += note["cut"]
    cuts = sum(request.cut_after is not None for request in requests)
    lost = closing["telemetry_errors"]
    missing: dict[str, str] = {}
    for at, page in found[0].pages():
        assert scrape
        try:
            told = scrape.read(page.decode("utf-8", "replace"))
            writer.point(at - start, told.values)
            missing |= {name: why for name, why in told.missing.items() if name not in missing}
        except Exception as error:  # noqa: BLE001 - counted by cause, and judged by its reader
            lost[f"{type(error).__name__}: {error}"] += 1
    for note in found[0].readings:
        writer.point(note["at"] - start, note["values"])
    run = writer.close(
        {"planned": len(requests) - cuts, "cuts_planned": cuts, "cut": cut}
        | closing
        | {
            "delta_fields": sorted(fields),
            "series_missing": missing,
            "monitor_error": watch.error if watch else None,
        }
    )
    for path in paths:
        path.unlink()
    return run
