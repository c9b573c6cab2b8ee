"""Read a server's page of metrics while a run goes on, and keep the pages unparsed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .. import access
from ..records.spool import Spool
from ..telemetry.prometheus import Page
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
        more: URLs of further pages, read right after the first; ``read`` gets the texts of all of
            them, one after the other, each from a line of its own on.
    """

    url: str
    read: Callable[[str], Page]
    every_s: float = 0.1
    more: tuple[str, ...] = ()


class Pages:
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
        urls = (scrape.url, *scrape.more) if scrape else ()
        self._connections = [Connections(url, clock=clock) for url in urls]
        self._first: bytes | None = None
        self._reads = True

    async def __aenter__(self) -> Pages:
        for connections in self._connections:
            await connections.__aenter__()
        self._first = await self._page()
        self._repeating: asyncio.Task[None] | None = None
        return self

    def begin(self, start: float, *, waiting: bool = False) -> None:
        """Start the run; the page that was read before it gets the time of the start.

        Args:
            start: on the clock.
            waiting: read no more until :meth:`reading`.
        """
        self._reads = not waiting
        self.start = start
        self._spool.note("start", at=start)
        if self._first is not None:
            self._spool.page(start, self._first)
        if self._scrape:
            self._repeating = asyncio.create_task(self._repeat(self._scrape.every_s))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read repeatedly while this lasts, and no more after it: a server that waits for its turn
        is left alone."""
        self._reads = True
        try:
            yield
        finally:
            self._reads = False

    async def get(self) -> None:
        """Stop reading repeatedly, and read one last page."""
        if self._repeating:
            self._repeating.cancel()
        if (page := await self._page()) is not None:
            self._spool.page(self._clock(), page)

    async def _repeat(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            if self._reads and (page := await self._page()) is not None:
                self._spool.page(self._clock(), page)

    async def _page(self) -> bytes | None:
        """All pages as one; None where there is none, or one of them was lost."""
        pages = [await self._one(connections) for connections in self._connections]
        whole = [page for page in pages if page is not None]
        return b"\n".join(whole) if whole and len(whole) == len(pages) else None

    async def _one(self, connections: Connections) -> bytes | None:
        kept: list[bytes] = []
        try:
            async with asyncio.timeout(SCRAPE_WITHIN_S):
                got = await connections.exchange(
                    connections.get(""), spill=lambda _times, datas: kept.extend(datas)
                )
        except TimeoutError:
            self._lost[f"TimeoutError: no page within {SCRAPE_WITHIN_S:g} s"] += 1
            return None
        except Exception as error:  # noqa: BLE001 - nobody awaits the task: counted instead
            self._lost[f"{type(error).__name__}: {error}"] += 1
            return None
        advice = got.refusal.advice(self._scrape.url) if self._scrape else None
        if got.error or got.status != 200 or advice:
            self._lost[got.error or advice or f"HTTP {got.status}: {got.text[:100]}"] += 1
            return None
        return access.current().without_secret_bytes(b"".join([*kept, *got.datas]))

    async def __aexit__(self, *failed: object) -> None:
        if self._repeating:
            self._repeating.cancel()
        for connections in self._connections:
            await connections.__aexit__(*failed)
