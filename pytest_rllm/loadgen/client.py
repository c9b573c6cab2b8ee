"""Sends requests when a workload wants them sent, and spools what comes back; nothing is parsed.

One process may hold all of a run's requests or a share of them, see ``workers``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any

import uvloop

from ..datasets.prompts import Prompt
from ..records.spool import Spool, SpoolError
from .http import Exchange, Wire

VERSION = "2"
"""Counted up when a change of the client may move a time: stored baselines are then stale."""
PATH = "/v1/chat/completions"
LAG_EVERY_S = 0.02
REFUSAL_CHARACTERS = 300


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
class Share:
    """What one client sends.

    Attributes:
        starts: for an open loop, numbers of requests with their intended starts (s, ascending).
        lanes: for a closed loop, how many requests are in flight; each lane takes the next one.
    """

    starts: Sequence[tuple[int, float]] = ()
    lanes: int = 0


class Client:
    """One process's side of a run.

    Args:
        url: base of an OpenAI-compatible API, without ``/v1``.
        requests: all requests of the run, by number.
        spool: where reads and ends go.
        stall_s: a response that says nothing for so long has failed.
        take: the number of the next request of a closed loop, None when there is none.
        ended: called after each response.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        url: str,
        requests: Sequence[Request],
        spool: Spool,
        *,
        stall_s: float,
        take: Callable[[], int | None],
        ended: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.wire = Wire(url, stall_s=stall_s, clock=clock)
        self._requests, self._spool = requests, spool
        self._take, self._ended, self._clock = take, ended, clock
        self._bodies = [
            self.wire.post(PATH, json.dumps(request.body).encode()) for request in requests
        ]
        self._start = 0.0

    async def send(self, share: Share, start: float) -> dict[str, Any]:
        """Send a share of the requests, times counting from ``start`` on the clock.

        Returns:
            ``cpu_s`` of this process meanwhile, and ``lags``: how late (s) the event loop woke a
            sleeper, every LAG_EVERY_S: what the client may add to an arrival.

        Raises:
            SpoolError: what came back cannot be written.
        """
        self._start = start
        lags: list[float] = []
        cpu = time.process_time()
        async with self.wire:
            watching = asyncio.create_task(self._watch_lag(lags))
            try:
                await self._send_all(share)
            except* SpoolError as failures:
                raise failures.exceptions[0] from None
            finally:
                watching.cancel()
        return {"cpu_s": time.process_time() - cpu, "lags": lags}

    async def _send_all(self, share: Share) -> None:
        async with asyncio.TaskGroup() as group:
            for number, intended_s in share.starts:
                group.create_task(self._send_at(intended_s, number))
            for _ in range(share.lanes):
                group.create_task(self._lane())

    async def _lane(self) -> None:
        free_s = 0.0
        while (number := self._take()) is not None:
            free_s = await self._send_at(free_s, number)

    async def _send_at(self, intended_s: float, number: int) -> float:
        """Send one request; returns when its response ended."""
        delay = self._start + intended_s - self._clock()
        if delay > 0:
            await asyncio.sleep(delay)
        request, spool = self._requests[number], self._spool
        last = 0.0

        def spill(times: list[float], datas: list[bytes]) -> None:
            nonlocal last
            last = times[-1]
            spool.reads(number, times, datas)

        sent = self._clock()
        exchange = await self.wire.exchange(
            self._bodies[number], cut_after=request.cut_after, spill=spill
        )
        error = exchange.error or _refusal(exchange)
        if exchange.times:
            spill(exchange.times, exchange.datas)
        ended_s = (last if last and error is None else self._clock()) - self._start
        spool.note(
            "end",
            number=number,
            prompt=astuple(request.prompt),
            intended_s=intended_s,
            sent_s=sent - self._start,
            ended_s=ended_s,
            error=error,
            refused=exchange.error is None and error is not None,
            cut=None if request.cut_after is None else exchange.cut,
        )
        spool.check()
        self._ended()
        return ended_s

    async def _watch_lag(self, lags: list[float]) -> None:
        while True:
            due = self._clock() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            lags.append(max(0.0, self._clock() - due))


@contextmanager
def undisturbed() -> Iterator[asyncio.Runner]:
    """An event loop that a collection of everything this process holds does not stop."""
    gc.collect()
    gc.freeze()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            yield runner
    finally:
        gc.unfreeze()


def _refusal(exchange: Exchange) -> str | None:
    """Why a whole response is no stream of events; None when it is one."""
    if not exchange.status or exchange.error:
        return None
    if exchange.status != 200:
        after = exchange.headers.get(b"retry-after", b"").decode("latin-1")
        hint = f" (Retry-After: {after})" if after else ""
        return f"HTTP {exchange.status}{hint}: {exchange.text[:REFUSAL_CHARACTERS]}"
    if exchange.content_type != "text/event-stream":
        return f"not a stream: content type {exchange.content_type!r}"
    return None
