"""Running servers: one per engine, pair and serving, started when asked for, ended at the end."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Lock, RLock
from typing import Self
from zlib import crc32

import psutil

from .. import access
from ..experiment.serving import Serving
from ..models import ModelPair
from ..telemetry.gpu import Gpu
from .base import CannotServe, DidNotStart, Endpoint, EngineError, Launcher, RefusesFormat
from .budget import Budget, Wanted, on_gpu
from .http import NO_ANSWER
from .memory import OUTSIDE, gib
from .placement import NoRoom, Placement
from .served import model_named
from .server import Attached, Key, Server, Started, key_of, refusal, served_as
from .starting import time_for, wait_until_healthy

NEEDED_BYTES = 3 * 2**30
"""Free host memory that another server may need."""
FREED_WITHIN_S = 30.0
"""Seconds after a server's end in which a GPU's memory must be free again."""
_LOG = re.compile(r"-(\d+)-[0-9a-f]{12}\.log$")
"""Name of a server's log, with its number."""
_SUPERVISOR = Path(__file__).with_name("supervisor.py")


@dataclass
class Pool:
    """Servers by engine, pair and serving; a context manager that stops them all.

    A server stays up for the whole session where memory allows; else the one that was used longest
    ago goes. Servers that answer nobody cost nothing, so both arms of a comparison are up at once,
    be they of one engine or of two, unless they have to take turns. Several threads may ask for
    servers at the same time: those of different keys start side by side.

    Attributes:
        folder: where logs go.
        start_s: seconds after which a server that is not healthy has failed; None for a time that
            fits what it loads, see ``starting.time_for``.
        say: told what is being waited for.
        servers: those that are up, by key; the last used comes last.
        started: number of servers so far; of a session that goes on, those before it included.
        budget: the memory of this machine's GPUs.
    """

    folder: Path
    start_s: float | None = None
    say: Callable[[str], None] = lambda _text: None
    servers: dict[Key, Server] = field(default_factory=dict)
    started: int = 0
    budget: Budget = field(default_factory=lambda: Budget(Gpu()))
    _starting: dict[int, Started] = field(default_factory=dict, init=False, repr=False)
    _ports: set[int] = field(default_factory=set, init=False, repr=False)
    _turns: dict[Key, Lock] = field(default_factory=dict, init=False, repr=False)
    _books: RLock = field(default_factory=RLock, init=False, repr=False)

    def __post_init__(self) -> None:
        numbers = [int(m[1]) for log in self.folder.glob("*.log") if (m := _LOG.search(log.name))]
        self.started = max([self.started, *numbers])

    def serve(
        self,
        engine: Endpoint,
        serving: Serving,
        pair: ModelPair,
        *,
        beside: Server | Collection[Server] | None = None,
        copy: int = 0,
    ) -> Server:
        """The running server of an engine for a serving, started when there is none, or when it
        has died.

        Args:
            engine: whose server.
            serving: how to serve.
            pair: the models.
            beside: servers that must stay up.
            copy: which of several servers of one kind; of a server at a URL there is one only.

        Raises:
            EngineError: it did not come up; with its command and last words.
            CannotServe: the engine cannot serve so, or a server that runs already does not, or
                there is no memory for it.
        """
        others = () if beside is None else (beside,) if isinstance(beside, Server) else beside
        kept = {server.key for server in others}
        key = key_of(engine, serving, pair, copy)
        known = self.servers.get(key)
        places = {} if known and known.alive else self._places([(engine, serving, pair)], copy)
        return self._serve(engine, serving, pair, copy, kept, Event(), places.get(key))

    def serve_all(
        self, wanted: Sequence[Wanted], *, copy: int = 0, alone: bool = False
    ) -> list[Server]:
        """The servers of several arms, all up at the same time. Those that are missing start side
        by side; but one after the other where they share a GPU, or may do so, because each takes
        its memory by what is free when it starts. When one does not come up, those that are being
        started are stopped.

        Args:
            wanted: engine, serving and pair of each, as :meth:`serve` takes them; of equal ones
                there is one server.
            copy: which of several servers of one kind.
            alone: whether they take turns with others: all other servers are stopped before.

        Raises:
            EngineError: as :meth:`serve` does, of the first that fails.
            CannotServe: as :meth:`serve`.
        """
        kept, given_up = {key_of(*one, copy) for one in wanted}, Event()
        places = self._places(wanted, copy, alone=alone)
        with self._books:
            for key in [key for key in self.servers if alone and key not in kept]:
                self.servers.pop(key).stop()
            for key, place in places.items():  # one that has another share of memory serves else
                if (server := self.servers.get(key)) and not place.like(server.placement):
                    self.servers.pop(key).stop()
        unplanned = sum(on_gpu(one[0]) for one in wanted) > len(places)
        one_by_one = unplanned or _share_a_gpu(places.values())
        with ThreadPoolExecutor(max_workers=1 if one_by_one else max(1, len(wanted))) as threads:
            coming = [
                threads.submit(
                    self._serve, *one, copy, kept, given_up, places.get(key_of(*one, copy))
                )
                for one in wanted
            ]
            try:
                for one in as_completed(coming):
                    one.result()  # the first that fails is told, whatever its place
            except BaseException:  # Ctrl-C, or one did not start: do not wait for the others
                given_up.set()
                self._give_up(kept)
                raise
        return [one.result() for one in coming]

    def try_without_formats(
        self, engine: Endpoint, serving: Serving, pair: ModelPair, error: DidNotStart
    ) -> None:
        """Find out whether number formats are why a server did not start.

        Args:
            engine, serving, pair: of the server; nothing is tried where it has no formats of its
                own for weights or the KV cache.
            error: how a start ended.

        Raises:
            RefusesFormat: without these formats it starts, and with them it fails again.
            EngineError: it does not start without them either.
        """
        own = replace(serving, quantization=None, kv_cache_dtype=None)
        if own == serving:
            return
        self.serve(engine, own, pair)
        try:
            self.serve(engine, serving, pair)
        except DidNotStart as again:
            raise RefusesFormat(
                f"{engine.label} does not start '{serving}', and starts '{own}'{again.why}"
            ) from error

    def _places(
        self, wanted: Sequence[Wanted], copy: int, *, alone: bool = False
    ) -> dict[Key, Placement]:
        """Where servers go that are to be up together; of those that need no plan there is none."""
        placed = [one for one in wanted if on_gpu(one[0]) and not _refused(*one)]
        if not placed:
            return {}
        try:
            layout = self.budget.layout(placed, alone=alone)
            keys = [key_of(*one, copy) for one in placed]
            with self._books:
                return {} if layout is None else self.budget.choose(layout, keys, self.servers)
        except NoRoom as error:
            raise CannotServe(f"{placed[0][2].name}: {error}") from error

    def _serve(
        self,
        engine: Endpoint,
        serving: Serving,
        pair: ModelPair,
        copy: int,
        kept: Collection[Key],
        given_up: Event,
        placement: Placement | None,
    ) -> Server:
        copy = copy if engine.url is None else 0
        key = key_of(engine, serving, pair, copy)
        asked, serving = serving, served_as(serving, pair)
        with self._books:
            turn = self._turns.setdefault(key, Lock())
        with turn:
            server = self.servers.get(key)
            if server is None or not server.alive:
                if reason := refusal(engine, serving, pair):
                    raise CannotServe(reason)
                if engine.url is not None:
                    server = self._attach(engine, engine.url, serving, pair)
                else:
                    server = self._start(engine, serving, pair, copy, kept, given_up, placement)
            with self._books:
                self.servers.pop(key, None)
                self.servers[key] = server
        return server if asked == serving else replace(server, serving=asked)

    def _attach(self, engine: Endpoint, url: str, serving: Serving, pair: ModelPair) -> Attached:
        engine = model_named(engine, serving, pair)
        # The same number in every session: it is one server, not another one each time.
        server = Attached(engine, serving, pair, url, crc32(url.encode()))
        if not server.answers(engine.health_path):
            raise EngineError(
                f"{engine.name} at {url} does not answer, or {engine.health_path} says "
                f"that it is not well\n{server.last_words()}"
            )
        if engine.metrics_path:
            try:
                on = engine.switched_on(engine.page(server.url))
            except NO_ANSWER as error:
                page = ", ".join(server.url + p for p in (engine.metrics_path, *engine.more_pages))
                raise EngineError(f"GET {page}, which measures are read from: {error}") from error
            if unsaid := [what for what in on if not _said(what, serving)]:
                aim = "builds" if serving == Serving() else f"'{serving}' and the rest"
                raise CannotServe(
                    f"{url} serves with {' and '.join(unsaid)}: start it without, so that {aim} "
                    "are compared and nothing else"
                )
        return server

    def _start(
        self,
        engine: Endpoint,
        serving: Serving,
        pair: ModelPair,
        copy: int,
        kept: Collection[Key],
        given_up: Event,
        placement: Placement | None,
    ) -> Started:
        if not isinstance(engine, Launcher):
            raise CannotServe(
                f"the engine {engine.name!r} cannot be started here: give the URL of its server, "
                f"{engine.name}@http://HOST:PORT"
            )
        with self._books:
            if not given_up.is_set():
                self._make_room(kept, placement)
        if placement is not None:
            placement = self._when_free(placement, given_up)
        with self._books:
            if given_up.is_set():
                raise EngineError(f"{engine.name} was not started: another server failed")
            port = self._free_port()
            try:
                launch = engine.placed(placement).launch(serving, pair, port)
            except ValueError as error:
                self._ports.discard(port)
                raise CannotServe(str(error)) from error
            number = self._next_number()
            name = re.sub(r"[^\w.+-]+", "-", engine.label)
            log = self.folder / f"{name}-{number}-{serving.key}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            env = launch.env if placement is None else {**launch.env, **placement.variables}
            begun = time.monotonic()
            with open(log, "wb") as out:
                process = subprocess.Popen(
                    [sys.executable, "-P", str(_SUPERVISOR), *launch.argv],
                    stdin=subprocess.PIPE,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=access.child_environment({"PYTHONUNBUFFERED": "1", **env}),
                )
            url = f"http://127.0.0.1:{port}"
            argv, engine = list(launch.argv), engine.started(serving, pair)
            server = Started(
                *(engine, serving, pair, url, number, argv, log, process),
                copy=copy,
                placement=placement,
            )
            self._starting[number] = server
        try:
            limit_s = self.start_s or time_for(engine, serving, pair)
            wait_until_healthy(server, limit_s, begun, self.say)
            server.started_in_s = time.monotonic() - begun
            if placement and placement.free is not None:
                self.budget.learn(server, placement.free)
            with self._books:
                self.servers[server.key] = server  # from now on, or from before, `close` finds it
        except BaseException:
            server.stop()
            raise
        finally:
            with self._books:
                del self._starting[number]
                self._ports.discard(port)
        return server

    def _next_number(self) -> int:
        with self._books:
            self.started += 1
            return self.started

    def _free_port(self) -> int:
        """A free port that no server which is being started was told to take."""
        while (port := free_port()) in self._ports:
            pass
        self._ports.add(port)
        return port

    def _make_room(self, kept: Collection[Key], placement: Placement | None) -> None:
        """Stop the servers that were used longest ago while memory is short, the machine's or that
        of the GPUs where a server is to go."""
        for key in list(self.servers):
            if psutil.virtual_memory().available < NEEDED_BYTES and key not in kept:
                self.servers.pop(key).stop()
        if placement is not None:
            for key in list(self.budget.in_the_way(placement, self.servers, kept)):
                self.servers.pop(key).stop()

    def _when_free(self, placement: Placement, given_up: Event) -> Placement:
        """The placement with what is free on its GPUs, once that is enough: the memory of a server
        that was stopped takes a while to come back.

        Raises:
            CannotServe: somebody else holds the memory.
        """
        until = time.monotonic() + FREED_WITHIN_S
        while (free := self.budget.free(placement)) < placement.size - OUTSIDE:
            if given_up.is_set() or time.monotonic() > until:
                raise CannotServe(
                    f"needs {gib(placement.size)} GiB free, as there were when the session began; "
                    f"now {self.budget.now(placement)}"
                )
            time.sleep(0.2)
        return replace(placement, free=free)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _give_up(self, keys: Collection[Key]) -> None:
        """Stop servers of these keys that are not healthy yet."""
        with self._books:
            leaving = [server for server in self._starting.values() if server.key in keys]
        for server in leaving:
            server.stop()

    def close(self) -> None:
        """Stop every server, also those that another thread is starting."""
        with self._books:
            leaving = [*self._starting.values(), *self.servers.values()]
            self.servers.clear()
        for server in reversed(leaving):
            server.stop()


def _refused(engine: Endpoint, serving: Serving, pair: ModelPair) -> bool:
    return refusal(engine, served_as(serving, pair), pair) is not None


def _share_a_gpu(places: Iterable[Placement]) -> bool:
    """Whether two of several servers are on one GPU."""
    used = [card.index for place in places for card in place.cards]
    return len(used) > len(set(used))


def _said(what: str, serving: Serving) -> bool:
    """Whether something that a server has on, as ``switched_on`` tells it, is of the serving."""
    kind, asked = what.removeprefix("a KV cache of "), serving.kv_cache_dtype
    if kind != what:
        return asked is not None and (kind.startswith(asked) or asked.startswith(kind))
    said = {"prefix caching": serving.prefix_caching, "speculation": bool(serving.speculative)}
    return said.get(what, False)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
