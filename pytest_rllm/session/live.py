"""Runs that are measured now, on the running servers of one or more engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

from ..datasets.prompts import Prompt
from ..engines import api_diff
from ..engines.api_snapshot import ApiSnapshot
from ..engines.base import Endpoint, EngineError, Launcher
from ..engines.pool import Pool
from ..engines.served import one_server
from ..engines.server import Server, Started
from ..experiment.arm import Arm
from ..experiment.serving import Role, Serving
from ..loadgen import client
from ..loadgen.client import Request
from ..loadgen.fidelity import ClientCapacity, Fidelity
from ..loadgen.http import SILENT
from ..loadgen.pages import Scrape
from ..loadgen.run import Progress, Side, drive, drive_in_turns
from ..models import ModelPair
from ..records.header import (
    CONTEXT,
    OPENED,
    PLACEMENT,
    REMARKS,
    SAID_TO_SERVE,
    WEIGHTS_GIB,
    Header,
)
from ..records.reader import read_run, recorded
from ..records.run import RecordError, Run
from ..records.writer import RunWriter
from ..refusals import not_let_in
from ..telemetry import hardware
from ..telemetry.gpu import Gpu
from ..telemetry.reference import CpuReference, Reference
from ..verdicts.void_blocks import busiest
from .formats import formats_tried
from .probes import Probes
from .readings import Readings, on_this_machine
from .sources import EngineDied, Place, Wanted

WARM_UP_REQUESTS = 4
WARM_UP_TOKENS = 32
CUT_AFTER_CHUNKS = 8
MOCK = "mock"
"""Versions of engines that run no model start with this word in a record."""


class Say(Protocol):
    """Told what is going on, and how much of the comparison is done (0 to 1) when that is known."""

    def __call__(self, text: str, done: float | None = None) -> None: ...


Served = tuple[str, Serving]
"""What a server is asked for by: an arm's engine and serving."""
Asked = tuple[int, Role]
"""A server's number, and in which role it is asked: one server may be both."""


@dataclass
class Live:
    """Measures on running servers and records every run under ``folder``.

    Attributes:
        engine_of: the engine that an arm names.
        pair: the models.
        pool: the session's servers.
        gpu: the GPUs of this machine.
        folder: of the records.
        say: told about progress.
        readings: what reads this machine beside the runs.
        capacity: what the client is known to carry.
        machine: fingerprint of this machine.
        reference: the load that is timed beside every run of a server.
        elsewhere: the engine that serves an arm; by default ``engine_of`` what it names.
        snapshots: per engine and serving, what its last server said of its API.
    """

    engine_of: Callable[[str], Endpoint]
    pair: ModelPair
    pool: Pool
    gpu: Gpu
    folder: Path
    say: Say
    readings: Readings = field(default_factory=lambda: Readings(Gpu()))
    capacity: ClientCapacity = field(default_factory=ClientCapacity)
    machine: str = ""
    reference: Callable[[Server], Reference] = lambda _server: CpuReference()
    elsewhere: Callable[[Arm], Endpoint] | None = field(default=None, kw_only=True)
    snapshots: dict[Served, ApiSnapshot] = field(default_factory=dict, init=False)
    _paces: dict[Asked, float] = field(default_factory=dict, init=False)
    _signatures: dict[Asked, tuple[float, ...]] = field(default_factory=dict, init=False)
    _probes: Probes = field(default_factory=Probes, init=False)
    _up: dict[Served, Server] = field(default_factory=dict, init=False)
    _one_server: dict[frozenset[str], str | None] = field(default_factory=dict, init=False)

    def _engine(self, arm: Arm) -> Endpoint:
        return self.engine_of(arm.engine) if self.elsewhere is None else self.elsewhere(arm)

    def has(self, path: Path) -> bool:  # noqa: ARG002
        """Any block can be measured."""
        return True

    def snapshot(self, engine: str) -> ApiSnapshot:
        """What an engine says of its API when it serves the pair's reasoning model as it is."""
        served = self.engine_of(engine)
        self.readings.before_servers([served])
        return self._probes.snapshot(self.pool.serve(served, Serving(), self.pair))

    def changes(self, old: str, new: str) -> list[str]:
        """Sentences on what two engines' servers say differently of their APIs."""
        shared = [s for e, s in self.snapshots if e == new and (old, s) in self.snapshots]
        found = [
            str(change)
            for serving in shared
            for change in api_diff.changes(
                self.snapshots[old, serving], self.snapshots[new, serving]
            )
        ]
        return list(dict.fromkeys(found))

    def prepare(self, arms: Sequence[Arm], *, copy: int = 0, alone: bool = False) -> None:
        """Have the arms' servers up, each warmed by a block that is thrown away.

        Args:
            arms: in the order in which their servers are started.
            copy: which of several servers of one kind; one that is up is asked again.
            alone: whether they take turns with others: no other server stays up.

        Raises:
            EngineError: a server does not come up.
            RefusesFormat: it comes up without the number formats that an arm asks for.
        """
        wanted = [(self._engine(arm), arm) for arm in arms]
        engines = [engine for engine, _ in wanted]
        self.readings.before_servers(engines)
        with formats_tried(self.pool, self._probes, self.pair, wanted):
            servers = self._served(arms, copy, alone=alone)
            self._tell_apart(servers)
            for arm, server in zip(arms, servers, strict=True):
                self._make_ready(arm, server)
        self.readings.servers_are_up(engines)

    def _served(self, arms: Sequence[Arm], copy: int, *, alone: bool) -> list[Server]:
        wanted = [(self._engine(arm), arm.serving, self.pair) for arm in arms]
        return self.pool.serve_all(wanted, copy=copy, alone=alone)

    def _tell_apart(self, servers: Sequence[Server]) -> None:
        """Raises EngineError where two URLs are one server."""
        running = {server.engine.key: server for server in servers if server.engine.url}
        for first, second in combinations(running.values(), 2):
            both = frozenset((first.engine.key, second.engine.key))
            if both not in self._one_server:
                self._one_server[both] = one_server(first, second)

    def _make_ready(self, arm: Arm, server: Server) -> None:
        """Learn what a server says of itself, and warm it up."""
        self._up[arm.engine, arm.serving] = server
        asked = server.number, arm.serving.model
        if asked not in self._signatures:
            self._signatures[asked] = self._probes.signature(server, arm.engine)
            self.snapshots[arm.engine, arm.serving] = self._probes.snapshot(server)
        prompts = [
            replace(p, text=f"Warm-up. {p.text}", before=(), conversation="") for p in arm.prompts
        ]
        sampling = replace(arm.sampling, max_tokens=WARM_UP_TOKENS)
        warm = replace(arm, prompts=prompts[:WARM_UP_REQUESTS], cut=(), sampling=sampling)
        load = self._load(warm, self.pool.folder / f"warm-up-{server.number}.jsonl", Header())
        with load.writer:
            run = drive(load.url, load.requests, load.workload, load.writer, scrape=load.scrape)
        # Counted from the sending: what stalled comes in one burst, which is no rate.
        paces = [len(s.deltas) / max(s.ended_s - s.sent_s, 1e-3) for s in run.samples]
        self._paces[asked] = max([self._paces.get(asked, 0.0), *paces])
        errors = [s.error for s in run.samples if s.error]
        if errors and all(not_let_in(e) or e.startswith(SILENT) for e in errors):
            raise EngineError(
                f"{server.engine.label} answered none of {len(errors)} requests: {errors[0]}\n"
                f"{server.last_words()}"
            )

    def kept(self, arm: Arm, path: Path, header: Header) -> Run | None:
        """The finished run that an earlier session, which was stopped, recorded at this place; None
        where there is none.

        Raises:
            RecordError: it is of something else, and would be overwritten.
        """
        if not recorded(self.folder / path):
            return None
        run = read_run(self.folder / path)
        if run.closing is None:
            return None
        engine = self._engine(arm)
        asked = {
            "fingerprint": header.fingerprint,
            "pair": header.pair,
            "blocks": header.blocks,
            "engine": engine.label,
            "match": self.match(engine, arm.serving),
            "machine": self.machine if on_this_machine(engine.url) else "",
        }
        for key, value in asked.items():
            was = getattr(run.header, key)
            if was != value:
                raise RecordError(
                    f"{self.folder / path}: recorded with {key} {was!r}, this session measures "
                    f"{value!r}; record into another folder (--rllm-record=DIR), or remove that "
                    "file"
                )
        run.header = replace(run.header, arm=header.arm, side=header.side)
        return run

    def run(self, arm: Arm, path: Path, header: Header, place: Place) -> Run:
        """One block on the server that :meth:`prepare` made ready.

        Raises:
            EngineError: the server died meanwhile; the samples so far are in the record.
        """
        fidelity = self._fidelity(arm)
        load = self._load(arm, self.folder / path, self._header(arm, header, fidelity))
        with load.writer:
            run = drive(
                load.url,
                load.requests,
                load.workload,
                load.writer,
                scrape=load.scrape,
                monitor=self.readings.monitor([self._engine(arm)]),
                progress=self._progress(arm, place),
                processes=fidelity.processes,
            )
        self._check(arm, run)
        return run

    def runs_in_turns(self, runs: Sequence[Wanted], place: Place) -> list[Run]:
        """Two runs on their servers, in as many turns as their headers say; see
        :func:`~pytest_rllm.loadgen.run.drive_in_turns`.

        Where the client needs several processes, which cannot take turns, one run follows the other
        instead, and the records say so.

        Raises:
            EngineError: a server died meanwhile; the samples so far are in the records.
        """
        fidelities = [self._fidelity(arm) for arm, _, _ in runs]
        if any(fidelity.processes > 1 for fidelity in fidelities):
            return [self.run(arm, path, replace(h, turns=1), place) for arm, path, h in runs]
        sides = [
            self._load(arm, self.folder / path, self._header(arm, header, fidelity))
            for (arm, path, header), fidelity in zip(runs, fidelities, strict=True)
        ]
        with ExitStack() as stack:
            for side in sides:
                stack.enter_context(side.writer)
            found = drive_in_turns(
                sides,
                runs[0][2].turns,
                monitor=self.readings.monitor([self._engine(arm) for arm, _, _ in runs]),
                progress=self._progress(runs[0][0], place),
            )
        for (arm, _, _), run in zip(runs, found, strict=True):
            self._check(arm, run)
        return found

    def _fidelity(self, arm: Arm) -> Fidelity:
        """What the client is known to carry of an arm's load."""
        asked = self._up[arm.engine, arm.serving].number, arm.serving.model
        return self.capacity.at_least(arm.streams, arm.streams * self._paces[asked], self.say)

    def _header(self, arm: Arm, header: Header, fidelity: Fidelity) -> Header:
        """What is known before a run: of the server, of the client, and of the machine now."""
        server = self._up[arm.engine, arm.serving]
        engine = server.engine
        snapshot = self.snapshots[arm.engine, arm.serving]
        return replace(
            header,
            engine=engine.label,
            template=snapshot.template,
            sampling_defaults=server.sampled_by(snapshot.sampling),
            server=server.number,
            server_started_in_s=round(server.started_in_s, 1),
            signature=self._signatures[server.number, arm.serving.model],
            gpu_strangers=self.readings.strangers(engine, (s.engine for s in self._up.values())),
            client=fidelity.to_json(),
            reference_s=(reference_s := self._reference_s(server)),
            anchor_s=(
                round(self._probes.anchor_s(server, arm.engine), 6) if reference_s is None else None
            ),
            machine=self.machine if on_this_machine(engine.url) else "",
            match=self.match(engine, arm.serving),
            versions=hardware.versions(),
            notes={**header.notes, **self._notes(server, arm)},
        )

    def _notes(self, server: Server, arm: Arm) -> dict[str, Any]:
        """What a record says on top, where there is something to say."""
        notes: dict[str, Any] = {}
        remarks = [r for both, r in self._one_server.items() if r and server.engine.key in both]
        if self.pair.reasoning_opened and arm.serving.reasons:
            notes[OPENED] = True
        if not server.engine.url:  # of another one's server only its users know
            notes[CONTEXT] = self.pair.max_model_len
        if failed := self._probes.refused(server):
            notes["failed_probes"] = failed
        if server.engine.url and server.engine.serves != Serving():
            notes[SAID_TO_SERVE] = server.engine.url
        if isinstance(server, Started) and isinstance(server.engine, Launcher):
            log = server.log.read_text(errors="replace")
            took = server.engine.weights_gib(log)
            notes |= {} if took is None else {WEIGHTS_GIB: took}
            remarks += server.engine.remarks(log)
        if server.placement is not None:
            notes[PLACEMENT] = server.placement.said
        if remarks:
            notes[REMARKS] = remarks
        return notes

    def _check(self, arm: Arm, run: Run) -> None:
        """Learn how fast deltas came; raises EngineDied where the server ended meanwhile."""
        server = self._up[arm.engine, arm.serving]
        engine, asked = server.engine, (server.number, arm.serving.model)
        # A warm-up may show too low a rate: the next block expects what this one had.
        self._paces[asked] = max(self._paces[asked], busiest(run) / max(1, arm.streams))
        if refused := next((s.error for s in run.samples if not_let_in(s.error)), None):
            # This tells nothing of the engine, least of all that a new build is worse.
            raise EngineError(f"{engine.label}: {refused}")
        if any(s.error for s in run.samples) and not server.answers(engine.health_path):
            server.stop()
            raise EngineDied(
                arm.engine,
                f"{engine.label} died in the middle of a run, status "
                f"{server.status}; {len(run.samples)} requests so far, finished or "
                f"not, are in its record\n{server.last_words()}",
            )

    def _reference_s(self, server: Server) -> float | None:
        """Seconds that the load which is no engine takes now, where it runs on the same machine."""
        if not on_this_machine(server.engine.url):
            return None
        took = self.reference(server).seconds()
        return None if took is None else round(took, 6)

    def match(self, engine: Endpoint, serving: Serving | None = None) -> dict[str, str]:
        """What must be equal for a stored baseline to speak of the same thing."""
        roles = ("reasoning", "plain", *self.pair.drafters)
        served = "" if engine.url else engine.name
        flags = self.pair.flags.get(served, ())
        kind = serving.quantization if serving else None
        if serving and not engine.url and kind in self.pair.quantized:
            flags = (*flags, f"{kind}:{self.pair.revision(serving.model, quantization=kind)}")
        version = engine.version()
        if engine.capabilities.is_mock and not version.startswith(MOCK):
            version = f"{MOCK} {version}"  # a replay, too, must know what may not be stored
        return {
            "engine": engine.name,
            "engine_version": version,
            "hardware": hardware.hardware_id(self.gpu, on_cpu=engine.on_cpu),
            "models": " ".join((*(self.pair.revision(role, served) for role in roles), *flags)),
            "client": client.VERSION,
        }

    def _load(self, arm: Arm, record: Path, header: Header) -> Side:
        """What a run asks of the server that is up for it, and where it is recorded."""
        server = self._up[arm.engine, arm.serving]
        engine = server.engine
        closes = engine.closes_connections

        def asking(p: Prompt, cut_after: int | None) -> Request:
            body = server.body(p, arm.sampling, arm.priorities.get(p.id))
            return Request(p, body, cut_after, closes)

        requests = [asking(p, None) for p in arm.prompts]
        for i, p in enumerate(arm.cut):  # spread between the others
            cut = asking(p, CUT_AFTER_CHUNKS)
            requests.insert(i * len(requests) // len(arm.cut) + i % 2, cut)
        scrape = None
        if engine.metrics_path:
            scrape = Scrape(
                server.url + engine.metrics_path,
                lambda page: engine.read_metrics(page, arm.serving),
                more=tuple(server.url + path for path in engine.more_pages),
            )
        return Side(server.url, requests, arm.workload, RunWriter(record, header), scrape)

    def _progress(self, arm: Arm, place: Place) -> Progress:
        def progress(ended: int, planned: int) -> None:
            done = None if place.done is None else place.done + place.share * ended / planned
            self.say(f"{place.text}: {arm.serving}, {ended} of {planned} answers", done)

        return progress
