"""Sends a workload to an engine and records what comes back: the only module that reads the clock.

Between the socket and a recorded (time, bytes) pair nothing else happens; a response is parsed when
it has ended. All times are seconds of the monotonic clock from the start of the run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .datasets import Prompt
from .monitors import Watch
from .samples import Run, RunWriter, Sample
from .streams import parse
from .workloads import Workload

if TYPE_CHECKING:
    import aiohttp

LAG_EVERY_S = 0.02
SCRAPE_WITHIN_S = 10.0
"""A page that takes longer has failed; the next reading is tried."""


@dataclass(frozen=True)
class Request:
    """One prompt and the JSON body that asks it.

    ``cut_after`` chunks of its response the client hangs up: such a request disturbs the others and
    is counted, but is no sample.
    """

    prompt: Prompt
    body: dict[str, Any]
    cut_after: int | None = None


@dataclass(frozen=True)
class Scrape:
    """A page of the server that is read beside the run, into the series of the run.

    Attributes:
        url: what to get.
        read: page text to values by name; its errors are kept in the closing line.
        every_s: seconds between two readings.
    """

    url: str
    read: Callable[[str], dict[str, float]]
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
) -> Run:
    """Send every request as the workload says and record each response.

    Args:
        url: base of an OpenAI-compatible API, without ``/v1``.
        requests: in the order in which they start.
        workload: when they start.
        writer: where samples and points go; closed at the end.
        scrape: telemetry to read beside the run; read once before and once after it, too.
        monitor: one reading of other series (GPU), taken in a thread beside the run.
        stall_s: a response that says nothing for so long has failed.
        progress: told after each response.
        clock: monotonic seconds.

    Returns:
        The finished run. A failed request is a sample with an error; the run goes on.
    """
    client = _Client(url, workload, writer, scrape, stall_s, progress, clock)
    with Watch(monitor, clock=clock) if monitor else nullcontext() as watch:
        closing = asyncio.run(client.drive(requests))
    for at_s, values in watch.points if watch else ():
        writer.point(at_s - client.start, values)
    return writer.close(closing | {"monitor_error": watch.error if watch else None})


@dataclass
class _Client:
    url: str
    workload: Workload
    writer: RunWriter
    scrape: Scrape | None
    stall_s: float
    progress: Progress
    clock: Callable[[], float]
    start: float = 0.0

    async def drive(self, requests: Sequence[Request]) -> dict[str, Any]:
        import aiohttp

        self._scrape_errors: dict[str, int] = {}
        self._lags: list[float] = []
        self._fields: set[str] = set()
        self._total, self._done, self._cut = len(requests), 0, 0
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=self.stall_s)
        # Servers close idle connections (uvicorn: after 5 s); one that is about to be is not used.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2.0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            self._session = session
            cpu = time.process_time()
            await self._read_telemetry(at_s=0.0)
            self.start = self.clock()
            beside = [asyncio.create_task(self._watch_lag())]
            if self.scrape:
                beside.append(asyncio.create_task(self._repeat_telemetry(self.scrape.every_s)))
            try:
                await self._send_all(requests)
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
            await self._read_telemetry()
        lags = sorted(self._lags) or [0.0]
        wall_s = self._now()
        return {
            "planned": sum(request.cut_after is None for request in requests),
            "cuts_planned": sum(request.cut_after is not None for request in requests),
            "cut": self._cut,
            "wall_s": round(wall_s, 6),
            "client_cpu_s": round(time.process_time() - cpu, 6),
            "loop_lag_p99_s": round(lags[min(len(lags) - 1, int(0.99 * len(lags)))], 6),
            "loop_lag_max_s": round(lags[-1], 6),
            "loop_lag_share": round(sum(lag for lag in lags if lag > LAG_EVERY_S) / wall_s, 6),
            "delta_fields": sorted(self._fields),
            "telemetry_errors": self._scrape_errors,
        }

    async def _send_all(self, requests: Sequence[Request]) -> None:
        starts = self.workload.starts(len(requests))
        if starts is not None:
            async with asyncio.TaskGroup() as group:
                for request, start in zip(requests, starts, strict=True):
                    group.create_task(self._send_at(start, request))
            return
        waiting = iter(requests)
        freed = [0.0] * (self.workload.in_flight or 1)

        async def lane(free_s: float) -> None:
            for request in waiting:
                sample = await self._send_at(free_s, request)
                free_s = sample.ended_s

        async with asyncio.TaskGroup() as group:
            for free_s in freed:
                group.create_task(lane(free_s))

    async def _send_at(self, intended_s: float, request: Request) -> Sample:
        import aiohttp

        delay = intended_s - self._now()
        if delay > 0:
            await asyncio.sleep(delay)
        chunks: list[tuple[float, bytes]] = []
        sent_s, error = self._now(), None
        try:
            error = await self._stream(request, chunks)
        except aiohttp.SocketTimeoutError:
            error = f"stalled: nothing arrived for {self.stall_s:g} s"
        except Exception as failure:  # noqa: BLE001 - any failure is this request's outcome
            error = f"{type(failure).__name__}: {failure}"
        ended_s = chunks[-1][0] if chunks and error is None else self._now()
        stream = parse(chunks, error)
        self._fields |= stream.fields
        sample = Sample(
            prompt=request.prompt,
            intended_s=intended_s,
            sent_s=sent_s,
            ended_s=ended_s,
            deltas=stream.deltas,
            usage=stream.usage,
            finish_reason=stream.finish_reason,
            error=stream.error,
        )
        if request.cut_after is None:
            self.writer.sample(sample)
        else:
            self._cut += error is None and len(chunks) == request.cut_after
        self._done += 1
        self.progress(self._done, self._total)
        return sample

    async def _stream(self, request: Request, chunks: list[tuple[float, bytes]]) -> str | None:
        """Read one response to its end into ``chunks``; returns why it is none, or None."""
        url = f"{self.url}/v1/chat/completions"
        async with self._session.post(url, json=request.body) as response:
            if response.status != 200:
                return await _refusal(response)
            if response.content_type != "text/event-stream":
                return f"not a stream: content type {response.content_type!r}"
            clock, start, append = self.clock, self.start, chunks.append
            async for data in response.content.iter_any():
                append((clock() - start, data))
                if len(chunks) == request.cut_after:
                    response.close()
                    break
        return None

    async def _read_telemetry(self, at_s: float | None = None) -> None:
        if self.scrape is None:
            return
        try:
            async with asyncio.timeout(SCRAPE_WITHIN_S), self._session.get(self.scrape.url) as got:
                got.raise_for_status()
                page = await got.text()
            values = self.scrape.read(page)
            self.writer.point(self._now() if at_s is None else at_s, values)
        except Exception as error:  # noqa: BLE001 - counted by cause, and judged by its reader
            said = str(error) or f"no page within {SCRAPE_WITHIN_S:g} s"
            cause = f"{type(error).__name__}: {said}"
            self._scrape_errors[cause] = self._scrape_errors.get(cause, 0) + 1

    async def _repeat_telemetry(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            await self._read_telemetry()

    async def _watch_lag(self) -> None:
        """How late the event loop wakes a sleeper: what the client adds to every arrival."""
        while True:
            due = self.clock() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self._lags.append(max(0.0, self.clock() - due))

    def _now(self) -> float:
        return self.clock() - self.start


async def _refusal(response: aiohttp.ClientResponse) -> str:
    text = (await response.text(errors="replace"))[:300]
    after = response.headers.get("Retry-After")
    hint = f" (Retry-After: {after})" if after else ""
    return f"HTTP {response.status}{hint}: {text}"
