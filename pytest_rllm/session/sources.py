"""Where runs come from: servers of an engine, servers of two builds, or records."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from ..engines import api_diff as canary
from ..engines.api_snapshot import Contract, observe
from ..engines.base import Engine, EngineError, ask
from ..engines.pool import Pool, Server
from ..experiment.arm import Arm
from ..experiment.serving import Serving
from ..loadgen import client
from ..loadgen.client import Request
from ..loadgen.fidelity import ClientCapacity
from ..loadgen.run import Scrape, drive
from ..models import ModelPair
from ..records.reader import read_run, recorded
from ..records.run import RecordError, Run
from ..records.writer import RunWriter
from ..telemetry import hardware as environment
from ..telemetry.gpu import Gpu
from ..telemetry.host import Host
from ..verdicts.validity import busiest

WARM_UP_REQUESTS = 4
WARM_UP_TOKENS = 32
SIGNATURE_PROMPT = "Work modulo 100. a=47; b=a+35; c=b-18; d=c*3; e=d+b. Find e."
SIGNATURE_TOKENS = 48
ANCHOR_TOKENS = 24
CUT_AFTER_CHUNKS = 8


class Source(Protocol):
    """Where runs come from: an engine, or records."""

    def prepare(self, arms: Sequence[Arm], *, fresh: bool = False) -> None: ...

    def has(self, path: Path) -> bool: ...

    def run(self, arm: Arm, path: Path, about: dict[str, Any]) -> Run: ...


class Say(Protocol):
    """Told what is going on, and how much of the comparison is done (0 to 1) when that is known."""

    def __call__(self, text: str, done: float | None = None) -> None: ...


class Measuring:
    """A source that measures what it is asked for."""

    def has(self, path: Path) -> bool:  # noqa: ARG002
        """Any block can be measured."""
        return True


@dataclass
class Live(Measuring):
    """Measures on running servers and records every run under ``folder``.

    ``strangers`` are processes that were on a GPU before its first server, ``certificates`` what
    the client is known to carry. ``contracts`` holds, per serving, what its last server said of
    itself.
    """

    engine: Engine
    pair: ModelPair
    pool: Pool
    gpu: Gpu
    folder: Path
    say: Say
    strangers: Mapping[str, float] = field(default_factory=dict)
    certificates: ClientCapacity = field(default_factory=ClientCapacity)
    contracts: dict[str, Contract] = field(default_factory=dict, init=False)
    _host: Host = field(default_factory=Host, init=False)
    _paces: dict[int, float] = field(default_factory=dict, init=False)
    _signatures: dict[int, list[float]] = field(default_factory=dict, init=False)
    _up: dict[Serving, Server] = field(default_factory=dict, init=False)

    def contract(self) -> Contract:
        """What the engine says of itself when it serves the pair's reasoning model as it is."""
        return observe(self.engine, self.pool.serve(Serving(), self.pair))

    def prepare(self, arms: Sequence[Arm], *, fresh: bool = False) -> None:
        """Have the arms' servers up, each warmed by a block that is thrown away.

        Args:
            arms: in the order in which their servers are started.
            fresh: start new ones, even where they are up.
        """
        first: Server | None = None
        if fresh:
            for serving in {arm.serving for arm in arms} & self._up.keys():
                self._up.pop(serving).stop()
        for arm in arms:
            server = self.pool.serve(arm.serving, self.pair, beside=first)
            first = first or server
            self._up[arm.serving] = server
            if server.number not in self._signatures:
                self._signatures[server.number] = self._signature(server)
                self.contracts[str(arm.serving)] = observe(self.engine, server)
            prompts = [replace(p, text=f"Warm-up. {p.text}") for p in arm.prompts]
            sampling = replace(arm.sampling, max_tokens=WARM_UP_TOKENS)
            warm = replace(arm, prompts=prompts[:WARM_UP_REQUESTS], sampling=sampling)
            run = self._drive(server, warm, self.pool.folder / "warm-up.jsonl", {})
            self._paces[server.number] = max((s.pace for s in run.samples), default=0.0)

    def run(self, arm: Arm, path: Path, about: dict[str, Any]) -> Run:
        """One block on the server that :meth:`prepare` made ready.

        Raises:
            EngineError: the server died meanwhile; the samples so far are in the record.
        """
        server = self._up[arm.serving]
        contract = self.contracts[str(arm.serving)]
        fidelity = self.certificates.at_least(
            arm.streams, arm.streams * self._paces[server.number], self.say
        )
        about |= {
            "template": contract.template,
            "sampling_defaults": dict(contract.sampling),
            "server": server.number,
            "server_started_in_s": round(server.started_in_s, 1),
            "signature": self._signatures[server.number],
            "gpu_strangers": dict(self.strangers),
            "client": fidelity.to_json(),
            "anchor_s": round(self._anchor(server), 6),
            "match": self.match,
            "versions": environment.versions(),
        }
        record = self.folder / path
        run = self._drive(server, arm, record, about, fidelity.processes)
        # What a warm-up lets expect may be too little: the next block expects what this one had.
        self._paces[server.number] = max(
            self._paces[server.number], busiest(run) / max(1, arm.streams)
        )
        if any(s.error for s in run.samples) and not server.answers(self.engine.health_path):
            server.stop()
            raise EngineError(
                f"{self.engine.name} died in the middle of a run, status "
                f"{server.status}; {len(run.samples)} requests so far, finished or "
                f"not, are in {record}\n{server.last_words()}"
            )
        return run

    @cached_property
    def match(self) -> dict[str, str]:
        """What must be equal for a stored baseline to speak of the same thing."""
        roles = ("reasoning", "plain") + (("draft",) if self.pair.draft else ())
        return {
            "engine": self.engine.name,
            "engine_version": self.engine.version(),
            "hardware": environment.hardware_id(self.gpu, on_cpu=self.engine.on_cpu),
            "models": " ".join(self.pair.revision(role) for role in roles),
            "client": client.VERSION,
        }

    def _drive(
        self, server: Server, arm: Arm, record: Path, about: dict[str, Any], processes: int = 1
    ) -> Run:
        requests = [Request(p, self.engine.body(p, arm.sampling)) for p in arm.prompts]
        for i, p in enumerate(arm.cut):  # spread between the others
            cut = Request(p, self.engine.body(p, arm.sampling), CUT_AFTER_CHUNKS)
            requests.insert(i * len(requests) // len(arm.cut) + i % 2, cut)
        scrape = None
        if self.engine.metrics_path:
            scrape = Scrape(
                server.url + self.engine.metrics_path,
                lambda page: self.engine.read_metrics(page, arm.serving),
            )
        what = f"{about.get('where', 'warming up')}: {arm.serving}"
        begun, share = about.get("progress", (None, 0.0))

        def progress(ended: int, planned: int) -> None:
            done = None if begun is None else begun + share * ended / planned
            self.say(f"{what}, {ended} of {planned} answers", done)

        with RunWriter(record, about) as writer:
            return drive(
                server.url,
                requests,
                arm.workload,
                writer,
                scrape=scrape,
                monitor=lambda: self._host.read() | self.gpu.read(),
                progress=progress,
                processes=processes,
            )

    def _signature(self, server: Server) -> list[float]:
        """Log probabilities of a greedy answer's first tokens: the numerics of this serving."""
        answer = json.loads(self._greedy(server, SIGNATURE_TOKENS, logprobs=True))
        return [token["logprob"] for token in answer["choices"][0]["logprobs"]["content"]]

    def _anchor(self, server: Server) -> float:
        """Seconds that one fixed greedy request takes, alone: how the machine is at this moment."""
        begun = time.monotonic()
        self._greedy(server, ANCHOR_TOKENS)
        return time.monotonic() - begun

    def _greedy(self, server: Server, tokens: int, **more: Any) -> bytes:
        """The answer to one fixed question, so many tokens long."""
        body = {
            "model": self.engine.model_name,
            "messages": [{"role": "user", "content": SIGNATURE_PROMPT}],
            "temperature": 0,
            "max_tokens": tokens,
            "ignore_eos": True,
        }
        return ask(f"{server.url}/v1/chat/completions", body | more)


@dataclass
class SideBySide(Measuring):
    """Two builds of an engine, each with servers of its own; an arm says which one serves it."""

    builds: Mapping[str, Live]

    def prepare(self, arms: Sequence[Arm], *, fresh: bool = False) -> None:
        """Have the arms' servers up, each in its own build, started together."""
        with ThreadPoolExecutor() as threads:
            starting = [
                threads.submit(self.builds[arm.build].prepare, [arm], fresh=fresh) for arm in arms
            ]
            try:
                for one in starting:
                    one.result()
            except BaseException:  # Ctrl-C, or one did not start: do not wait for the other
                for live in self.builds.values():
                    live.pool.close()
                raise

    def changes(self) -> list[str]:
        """Sentences on what the builds' servers say differently of themselves, the last named as
        the one before."""
        new, old = (live.contracts for live in self.builds.values())
        shared = [serving for serving in new if serving in old]
        found = [str(c) for serving in shared for c in canary.changes(old[serving], new[serving])]
        return list(dict.fromkeys(found))

    def run(self, arm: Arm, path: Path, about: dict[str, Any]) -> Run:
        """One block on the arm's build."""
        return self.builds[arm.build].run(arm, path, about)


@dataclass
class Replay:
    """Reads the runs of an earlier session instead of measuring."""

    folder: Path

    def prepare(self, arms: Sequence[Arm], *, fresh: bool = False) -> None:
        """Nothing to start."""

    def has(self, path: Path) -> bool:
        """Whether that run was recorded."""
        return recorded(self.folder / path)

    def run(self, arm: Arm, path: Path, about: dict[str, Any]) -> Run:  # noqa: ARG002
        """The recorded run at the same place.

        Raises:
            RecordError: none, or one of something else.
        """
        run = read_run(self.folder / path)
        for key in ("fingerprint", "pair", "blocks"):
            if run.about.get(key) != about[key]:
                raise RecordError(
                    f"{self.folder / path}: recorded with {key} {run.about.get(key)!r}, the test "
                    f"asks for {about[key]!r}; margins may change, what is measured may not: "
                    "record it anew"
                )
        return run
