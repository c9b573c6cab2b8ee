"""Send requests on the schedule of a workload, and spool the responses without parsing them.

One process sends all requests of a run, or a share of them, see ``workers``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import uvloop

from .. import access
from ..datasets.prompts import Prompt
from ..records.spool import Spool, SpoolError
from ..records.told_errors import instead_of_events
from .http import EVENTS, Connections, Exchange

VERSION = "2"
"""Increased when a change of the client may change a measured time; baselines are then stale."""
PATH = "/v1/chat/completions"
LAG_EVERY_S = 0.02
"""Seconds between two checks of how late the event loop wakes a sleeping task."""
REFUSAL_CHARACTERS = 300
"""Length to which the text of a refused request is cut in its error."""


@dataclass(frozen=True)
class Request:
    """One prompt and the JSON body of its request.

    Attributes:
        cut_after: number of chunks of the response after which the client aborts the request; None:
            never. An aborted request loads the server and is counted, but is no sample.
        closes: ask the server to end the connection after the response, and use it for no other.
        then: number of the request that is sent when this one has ended, in its place; None: none.
    """

    prompt: Prompt
    body: dict[str, Any]
    cut_after: int | None = None
    closes: bool = False
    then: int | None = None


def in_conversations(requests: Sequence[Request]) -> list[Request]:
    """The requests, each with the one that comes next in its conversation."""
    found, last = list(requests), dict[tuple[str, int], int]()
    for number, request in enumerate(requests):
        of, prompt = request.prompt.conversation, request.prompt
        if not of or request.cut_after is not None:
            continue
        before = last.get((of, prompt.repeat))
        if before is not None:
            found[before] = replace(found[before], then=number)
        last[of, prompt.repeat] = number
    return found


def firsts(requests: Sequence[Request]) -> list[int]:
    """Numbers of the requests that wait for no other one to end."""
    later = {request.then for request in requests}
    return [number for number in range(len(requests)) if number not in later]


@dataclass(frozen=True)
class Share:
    """The part of a workload that one client process sends.

    Attributes:
        starts: of an open loop: numbers of requests with their intended starts (s, ascending),
            without those that begin when another one ends.
        lanes: of a closed loop: number of requests in flight; each lane takes the next request.
    """

    starts: Sequence[tuple[int, float]] = ()
    lanes: int = 0


class Client:
    """Sends the requests of one process.

    Args:
        url: base of an OpenAI-compatible API, without ``/v1``.
        requests: all requests of the run, by number.
        spool: takes the reads and the end of each response.
        stall_s: a response fails when nothing with content arrives for this many seconds.
        take: returns the number of the next request of a closed loop that waits for no other one to
            end; None when all are taken.
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
        self.connections = Connections(url, stall_s=stall_s, clock=clock)
        self._url = url
        self._requests, self._spool = requests, spool
        self._take, self._ended, self._clock = take, ended, clock
        self._bodies = [
            self.connections.post(PATH, json.dumps(request.body).encode(), closes=request.closes)
            for request in requests
        ]
        self._start = 0.0

    async def send(self, share: Share, start: float) -> dict[str, Any]:
        """Send a share of the requests; times count from ``start`` on the clock.

        Returns:
            ``cpu_s``: CPU time of this process meanwhile. ``lags``: how late the event loop woke a
            sleeping task, in s, checked every LAG_EVERY_S; an arrival may be recorded as late.

        Raises:
            SpoolError: the responses cannot be written.
        """
        cpu = time.process_time()
        async with self.connected(start) as lags:
            await self._together(
                *(self._converse(intended_s, number) for number, intended_s in share.starts),
                *(self._lane(0.0, self._take) for _ in range(share.lanes)),
            )
        return {"cpu_s": time.process_time() - cpu, "lags": lags}

    @asynccontextmanager
    async def connected(self, start: float) -> AsyncIterator[list[float]]:
        """Keep connections open and watch the event loop; gives the list of its lags."""
        self._start = start
        lags: list[float] = []
        async with self.connections:
            watching = asyncio.create_task(self._watch_lag(lags))
            try:
                yield lags
            finally:
                watching.cancel()

    async def turn(self, numbers: Iterable[int], lanes: int) -> tuple[float, float]:
        """Send some of the requests in a closed loop of so many lanes, until the last has ended.

        Returns:
            When the turn began and when its last response ended, in s from the start of the run.

        Raises:
            SpoolError: the responses cannot be written.
        """
        begun_s = self._clock() - self._start
        left = iter(numbers)
        ends = await self._together(
            *(self._lane(begun_s, lambda: next(left, None)) for _ in range(lanes))
        )
        return begun_s, max(ends)

    async def _together(self, *sending: Coroutine[Any, Any, float]) -> list[float]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one) for one in sending]
        except* SpoolError as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _lane(self, free_s: float, take: Callable[[], int | None]) -> float:
        """Send one request after the other; returns when the last response ended, in s."""
        while (number := take()) is not None:
            free_s = await self._converse(free_s, number)
        return free_s

    async def _converse(self, intended_s: float, number: int | None) -> float:
        """Send a request, and those that follow it one after the other; returns when the last
        response ended, in s."""
        while number is not None:
            intended_s = await self._send_at(intended_s, number)
            number = self._requests[number].then
        return intended_s

    async def _send_at(self, intended_s: float, number: int) -> float:
        """Send one request; returns the time at which its response ended, in s."""
        delay = self._start + intended_s - self._clock()
        if delay > 0:
            await asyncio.sleep(delay)
        request, spool = self._requests[number], self._spool
        last = 0.0

        def spill(times: list[float], datas: list[bytes]) -> None:
            nonlocal last
            last = times[-1]
            if access.current().headers:  # a server may repeat what it was sent
                datas = access.current().without_secret_parts(datas)
            spool.reads(number, times, datas)

        sent = self._clock()
        exchange = await self.connections.exchange(
            self._bodies[number],
            cut_after=request.cut_after,
            spill=spill,
            closes=request.closes,
        )
        error = exchange.error or _refusal(exchange, self._url)
        if exchange.times:
            spill(exchange.times, exchange.datas)
        now = self._clock()
        ended_s = ((exchange.done_s or last or now) if error is None else now) - self._start
        spool.note(
            "end",
            number=number,
            prompt=request.prompt.to_row(),
            intended_s=intended_s,
            sent_s=sent - self._start,
            ended_s=ended_s,
            error=error,
            refused=exchange.error is None and error is not None,
            cut=None if request.cut_after is None else exchange.cut,
            **({"tools": True} if request.body.get("tools") else {}),
        )
        spool.check()
        self._ended()
        # Where we waited for the end of a body that is over, the next request is due only now.
        return now - self._start if exchange.lingered else ended_s

    async def _watch_lag(self, lags: list[float]) -> None:
        while True:
            due = self._clock() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            lags.append(max(0.0, self._clock() - due))


@contextmanager
def frozen_heap_loop() -> Iterator[asyncio.Runner]:
    """An event loop during which the garbage collector ignores all objects that exist already.

    A collection of all of them would stop the loop, and delay arrivals, for a long time.
    """
    gc.collect()
    gc.freeze()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            yield runner
    finally:
        gc.unfreeze()


def _refusal(exchange: Exchange, url: str) -> str | None:
    """Why a complete response is not a stream of events; None if it is one."""
    if not exchange.status or exchange.error:
        return None
    advice = exchange.refusal.advice(url)
    if exchange.status != 200:
        after = exchange.headers.get(b"retry-after", b"").decode("latin-1")
        hint = f" (Retry-After: {after})" if after else ""
        said = f"HTTP {exchange.status}{hint}: {exchange.text[:REFUSAL_CHARACTERS]}"
        return f"{said}; {advice}" if advice else said
    if advice:
        return advice
    if exchange.content_type != EVENTS:
        kind = f"not a stream: content type {exchange.content_type!r}"
        instead = instead_of_events(exchange.text.encode())
        return f"{kind}; {instead}" if instead else kind
    return None
