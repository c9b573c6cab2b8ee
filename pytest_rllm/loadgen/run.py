"""Send a workload to a server and record the responses.

During the run, reads of the sockets and pages of telemetry are only stored with their times
(``client``, ``spool``). They are parsed and written as a record after the run. All times are
seconds of the monotonic clock since the start of the run.
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
from ..records.reader import parse_spools
from ..records.run import Run
from ..records.spool import Spool
from ..records.writer import RunWriter
from ..telemetry.prometheus import Page
from ..telemetry.watch import Watch
from . import workers
from .client import LAG_EVERY_S, Client, Request, frozen_heap_loop
from .http import Connections

SCRAPE_WITHIN_S = 10.0
"""A page that takes longer has failed, and counts as a telemetry error; in s."""


@dataclass(frozen=True)
class Scrape:
    """A page of metrics that is read during the run, into the series of the run.

    Attributes:
        url: of the page.
        read: turns the text of a page into our series; called after the run. Its errors, and the
            series that are missing on the page, are kept in the closing line.
        every_s: seconds between two readings.
    """

    url: str
    read: Callable[[str], Page]
    every_s: float = 0.1


Progress = Callable[[int, int], None]
"""Called after each response with the number of ended requests and of all requests."""


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
    """Send every request at the time that the workload gives, and record each response.

    Args:
        url: base of an OpenAI-compatible API, without ``/v1``.
        requests: in the order in which they start.
        workload: when they start.
        writer: of the record; it is closed at the end.
        scrape: telemetry to read during the run, and once before and once after it.
        monitor: one reading of other series (GPU, host); called in a thread during the run.
        stall_s: a response fails when nothing arrives for this many seconds.
        progress: called after each response.
        clock: monotonic seconds; must be ``time.monotonic`` with several processes.
        processes: number of client processes; 1 is this one, more are started beside it.

    Returns:
        The finished run. A failed request is a sample with an error; the run goes on.

    Raises:
        SpoolError: the responses cannot be written, most often because the disk is full.
        WorkerError: a client process died.
    """
    paths = [spools.spool_path(writer.path, i) for i in range(processes + (processes > 1))]
    with Spool(paths[0]) as spool, frozen_heap_loop() as runner:
        reading = Watch(monitor, keep=spool.reading, clock=clock) if monitor else None
        with reading or nullcontext():
            session = _Session(url, requests, workload, spool, paths[1:], scrape, progress, clock)
            closing = runner.run(session.run(stall_s))
    spool.check()
    return _record(requests, paths, writer, scrape, closing, reading)


@dataclass
class _Session:
    """The measuring part of a run, before anything is parsed."""

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
        """Send everything; returns the entries of the closing line that need no parsing."""
        lost: Counter[str] = Counter()
        async with _Pages(self.scrape, self.spool, lost, self.clock) as pages:
            if self.beside:
                reports = await workers.send(
                    self.url,
                    self.requests,
                    self.workload,
                    self.beside,
                    stall_s=stall_s,
                    begin=pages.begin,
                    ended=self._ended,
                )
            else:
                reports = [await self._send(pages, stall_s)]
            await pages.get()
            wall_s = self.clock() - pages.start
        lags = sorted(lag for one in reports for lag in one["lags"]) or [0.0]
        blocked = max(sum(lag for lag in one["lags"] if lag > LAG_EVERY_S) for one in reports)
        return {
            "processes": len(reports),
            "start_clock_s": round(pages.start, 6),
            "wall_s": round(wall_s, 6),
            "client_cpu_s": round(sum(one["cpu_s"] for one in reports), 6),
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
    """Reads pages of telemetry and spools them unparsed; an async context manager."""

    def __init__(
        self,
        scrape: Scrape | None,
        spool: Spool,
        lost: Counter[str],
        clock: Callable[[], float],
    ) -> None:
        self.start = 0.0
        self._scrape, self._spool, self._lost, self._clock = scrape, spool, lost, clock
        self._connections = Connections(scrape.url, clock=clock) if scrape else None
        self._first: bytes | None = None

    async def __aenter__(self) -> _Pages:
        if self._connections:
            await self._connections.__aenter__()
            self._first = await self._page()
        self._repeating: asyncio.Task[None] | None = None
        return self

    def begin(self, start: float) -> None:
        """Start the run; the page that was read before it gets the time of the start."""
        self.start = start
        self._spool.note("start", at=start)
        if self._first is not None:
            self._spool.page(start, self._first)
        if self._scrape:
            self._repeating = asyncio.create_task(self._repeat(self._scrape.every_s))

    async def get(self) -> None:
        """Stop reading repeatedly, and read one last page."""
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
        if self._connections is None:
            return None
        kept: list[bytes] = []
        try:
            async with asyncio.timeout(SCRAPE_WITHIN_S):
                got = await self._connections.exchange(
                    self._connections.get(""), spill=lambda _times, datas: kept.extend(datas)
                )
        except TimeoutError:
            self._lost[f"TimeoutError: no page within {SCRAPE_WITHIN_S:g} s"] += 1
            return None
        except Exception as error:  # noqa: BLE001 - nobody awaits the task: counted instead
            self._lost[f"{type(error).__name__}: {error}"] += 1
            return None
        if got.error or got.status != 200:
            self._lost[got.error or f"HTTP {got.status}: {got.text[:100]}"] += 1
            return None
        return b"".join([*kept, *got.datas])

    async def __aexit__(self, *failed: object) -> None:
        if self._repeating:
            self._repeating.cancel()
        if self._connections:
            await self._connections.__aexit__(*failed)


def _record(
    requests: Sequence[Request],
    paths: Sequence[Path],
    writer: RunWriter,
    scrape: Scrape | None,
    closing: dict[str, Any],
    watch: Watch | None,
) -> Run:
    """Parse the spools, write them as a record, and remove them."""
    found = [spools.read(path) for path in paths]
    start = found[0].start
    assert start is not None
    fields: set[str] = set()
    cut = 0
    for sample, note, stream in parse_spools(found):
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
        except Exception as error:  # noqa: BLE001 - an engine's reader may raise anything
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
