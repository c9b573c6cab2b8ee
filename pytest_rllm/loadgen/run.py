"""Send a workload to a server and record the responses.

During the run, reads of the sockets and pages of telemetry are only stored with their times
(``client``, ``spool``). They are parsed and written as a record after the run. All times are
seconds of the monotonic clock since the start of the run.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..experiment.workloads import Workload
from ..records import spool as spools
from ..records.reader import parse_spools
from ..records.run import Run
from ..records.spool import Spool
from ..records.writer import RunWriter
from ..telemetry.watch import Watch
from . import workers
from .client import LAG_EVERY_S, Client, Request, firsts, frozen_heap_loop, in_conversations
from .pages import Pages, Scrape

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
        requests: in the order in which they start; of a conversation only the first one, and each
            other one when the one before it has ended.
        workload: when they start.
        writer: of the record; it is closed at the end.
        scrape: telemetry to read during the run, and once before and once after it.
        monitor: one reading of other series (GPU, host); called in a thread during the run.
        stall_s: a response fails when nothing with content arrives for this many seconds.
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


@dataclass(frozen=True)
class Side:
    """One of two runs that take turns: who is asked what, and where it is recorded.

    Attributes:
        url, requests, workload, writer, scrape: as of :func:`drive`; the workload is a closed loop.
    """

    url: str
    requests: Sequence[Request]
    workload: Workload
    writer: RunWriter
    scrape: Scrape | None = None


def drive_in_turns(
    sides: Sequence[Side],
    turns: int,
    *,
    monitor: Callable[[], dict[str, float]] | None = None,
    stall_s: float = 120.0,
    progress: Progress = lambda _done, _all: None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Run]:
    """Make two runs that take turns, A B B A A B B A: a part of the requests of one, then of the
    other, each until its last response has ended.

    A machine that becomes slower for some seconds slows both. Every turn is a closed loop of its
    own; times of both runs count from one start, and the closing line tells the ``turns`` of its
    run: when each began, and when its last response ended.

    Args:
        sides: the runs, in the order of the first turn.
        turns: how many each takes.
        monitor, stall_s, clock: as of :func:`drive`; what is monitored is in both records.
        progress: called after each response with the numbers of both runs together.

    Raises:
        ValueError: a run is no closed loop, or has fewer requests than turns.
        SpoolError: the responses cannot be written.
    """
    for side in sides:
        begin = firsts(in_conversations(side.requests))
        if side.workload.starts(1) is not None or len(begin) < turns:
            raise ValueError(
                f"{turns} turns need a closed loop of as many requests, not "
                f"{len(begin)}, {side.workload}"
            )
    planned, ended = sum(len(side.requests) for side in sides), 0

    def one_ended(_ended: int, _planned: int) -> None:
        nonlocal ended
        ended += 1
        progress(ended, planned)

    paths = [spools.spool_path(side.writer.path, 0) for side in sides]
    with ExitStack() as stack:
        written = [stack.enter_context(Spool(path)) for path in paths]
        runner = stack.enter_context(frozen_heap_loop())
        sessions = [
            _Session(s.url, s.requests, s.workload, spool, (), s.scrape, one_ended, clock)
            for s, spool in zip(sides, written, strict=True)
        ]
        reading = None
        if monitor:

            def keep(at: float, values: dict[str, float]) -> None:
                for spool in written:
                    spool.reading(at, values)

            reading = Watch(monitor, keep=keep, clock=clock)
        with reading or nullcontext():
            closings = runner.run(_take_turns(sessions, turns, stall_s))
    for spool in written:
        spool.check()
    return [
        _record(side.requests, [path], side.writer, side.scrape, closing, reading)
        for side, path, closing in zip(sides, paths, closings, strict=True)
    ]


async def _take_turns(
    sessions: Sequence[_Session], turns: int, stall_s: float
) -> list[dict[str, Any]]:
    async with AsyncExitStack() as stack:
        pages = [await stack.enter_async_context(session.pages()) for session in sessions]
        start = sessions[0].clock()
        for each in pages:
            each.begin(start, waiting=True)
        taking = [
            await stack.enter_async_context(session.taking_turns(of, stall_s))
            for session, of in zip(sessions, pages, strict=True)
        ]
        for turn in range(turns):
            for side in taking if turn % 2 == 0 else reversed(taking):
                await side.take(turn, turns)
        return [await side.close() for side in taking]


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
    lost: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.requests = in_conversations(self.requests)

    def pages(self) -> Pages:
        return Pages(self.scrape, self.spool, self.lost, self.clock)

    async def run(self, stall_s: float) -> dict[str, Any]:
        """Send everything; returns the entries of the closing line that need no parsing."""
        async with self.pages() as pages:
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
                client = self._client(stall_s)
                (share,) = workers.shares(firsts(self.requests), self.workload, 1)
                pages.begin(self.clock())
                reports = [await client.send(share, pages.start)]
            await pages.get()
            wall_s = self.clock() - pages.start
        return self.closing(pages.start, wall_s, wall_s, reports)

    @asynccontextmanager
    async def taking_turns(self, pages: Pages, stall_s: float) -> AsyncIterator[_Turns]:
        client = self._client(stall_s)
        async with client.connected(pages.start) as lags:
            yield _Turns(self, pages, client, lags)

    def _client(self, stall_s: float) -> Client:
        numbers = iter(firsts(self.requests))
        return Client(
            self.url,
            self.requests,
            self.spool,
            stall_s=stall_s,
            take=lambda: next(numbers, None),
            ended=self._ended,
            clock=self.clock,
        )

    def closing(
        self, start: float, wall_s: float, watched_s: float, reports: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        """Entries of the closing line.

        Args:
            start: on the clock.
            wall_s: seconds that the run took.
            watched_s: seconds for which event loops were watched for lags.
            reports: of the clients, see ``Client.send``.
        """
        lags = sorted(lag for one in reports for lag in one["lags"]) or [0.0]
        blocked = max(sum(lag for lag in one["lags"] if lag > LAG_EVERY_S) for one in reports)
        return {
            "processes": len(reports),
            "start_clock_s": round(start, 6),
            "wall_s": round(wall_s, 6),
            "client_cpu_s": round(sum(one["cpu_s"] for one in reports), 6),
            "loop_lag_p99_s": round(lags[min(len(lags) - 1, int(0.99 * len(lags)))], 6),
            "loop_lag_max_s": round(lags[-1], 6),
            "loop_lag_share": round(blocked / watched_s, 6),
            "telemetry_errors": self.lost,
        }

    def _ended(self) -> None:
        self.ended += 1
        self.progress(self.ended, len(self.requests))


@dataclass
class _Turns:
    """One side of two runs that take turns."""

    session: _Session
    pages: Pages
    client: Client
    lags: list[float]
    taken: list[tuple[float, float]] = field(default_factory=list)
    cpu_s: float = 0.0

    async def take(self, turn: int, turns: int) -> None:
        """Send the requests of a turn."""
        begin = firsts(self.session.requests)
        n = len(begin)
        numbers = begin[turn * n // turns : (turn + 1) * n // turns]
        cpu = time.process_time()
        with self.pages.reading():
            self.taken.append(await self.client.turn(numbers, self.session.workload.in_flight or 1))
        self.cpu_s += time.process_time() - cpu

    async def close(self) -> dict[str, Any]:
        """The entries of the closing line, of the run's own turns."""
        await self.pages.get()
        watched_s = self.session.clock() - self.pages.start
        report = {"lags": self.lags, "cpu_s": self.cpu_s}
        own_s = sum(end - begin for begin, end in self.taken)
        closing = self.session.closing(self.pages.start, own_s, watched_s, [report])
        return closing | {"turns": [[round(at, 6) for at in turn] for turn in self.taken]}


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
    cut, uncounted = 0, list[str]()
    for sample, note, stream in parse_spools(found):
        fields |= stream.fields
        if stream.uncounted:
            uncounted.append(stream.uncounted)
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
        | ({"uncounted": {"answers": len(uncounted), "why": uncounted[0]}} if uncounted else {})
    )
    for path in paths:
        path.unlink()
    return run
