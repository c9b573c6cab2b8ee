"""Runs clients against the reference server, one at a time, and keeps what comes out."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_rllm.loadgen.reference_server import running

from .arrivals import Recorded
from .carriers import Carrier
from .loads import Load
from .processes import ClientFailed, Spent, run
from .results import Item, Results

Figures = Callable[[Recorded, Load], dict[str, Any]]


@dataclass
class Bench:
    """What a run of the comparison goes by.

    Attributes:
        carriers: the clients, in the order in which they take turns.
        results: where figures go.
        folder: where the clients' own files go.
        server_cpu, client_cpu: a core for each.
        streams: numbers of streams for the ladder of rates.
        repeats: how often ladders and the engine are measured; the rest once less, and once at
            least.
        volume: 1 for the real measurement; less is shorter, to try it out.
    """

    carriers: Sequence[Carrier]
    results: Results
    folder: Path
    server_cpu: int = 0
    client_cpu: int = 1
    streams: Sequence[int] = (16, 64, 256, 1024)
    repeats: int = 2
    volume: float = 1.0

    def carry(
        self,
        part: str,
        carrier: Carrier,
        case: str,
        repeat: int,
        load: Load,
        figures: Figures,
        *,
        memory: bool = False,
    ) -> Item | None:
        """One run of one client on the reference server; None when it fails.

        The server is a fresh one on its own core, the client on its own. What was measured before
        is not run again, unless it failed; a failure is an item too, with its words.
        """
        names = {"part": part, "client": carrier.name, "case": case, "repeat": repeat}
        for item in self.results.of(**names):
            if "failed" not in item:
                return item
        with running("--cpu", str(self.server_cpu)) as server:
            _ask(f"{server.url}/timing", asdict(load.script))
            item = names | self.process(
                carrier, server.url, load, figures, cpus={self.client_cpu}, memory=memory
            )
            report = _ask(f"{server.url}/timing")
        item["server"] = {key: report[key] for key in ("deltas", "blocked", "late_mean_s", "cpu_s")}
        self.results.add(item)
        return None if "failed" in item else item

    def process(
        self,
        carrier: Carrier,
        url: str,
        load: Load,
        figures: Figures,
        *,
        cpus: set[int] | None,
        memory: bool = False,
    ) -> Item:
        """Figures and cost of one run of one client on any server, or why it failed."""
        folder = self.folder / carrier.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        timeout_s = 240.0
        try:
            spent = run(
                carrier.command(url, load, folder),
                cpus=cpus,
                env=carrier.env,
                log=folder / "log",
                timeout_s=timeout_s,
                memory=memory,
            )
            recorded = carrier.read(load, folder)
            if load.timed and not recorded.streams:
                raise ClientFailed(f"all {recorded.failed} requests failed")
        except (ClientFailed, OSError, ValueError, LookupError, TypeError) as error:
            return {"load": asdict(load), "failed": f"{type(error).__name__}: {error}"[-2000:]}
        return {
            "load": asdict(load),
            "requests_failed": recorded.failed,
            "told": recorded.told,
            "notes": recorded.notes,
            **_cost(spent),
            **figures(recorded, load),
        }


def _cost(spent: Spent) -> dict[str, Any]:
    return {f"client_{name}": value for name, value in asdict(spent).items()}


def _ask(url: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if content is None else json.dumps(content).encode()
    with urllib.request.urlopen(url, data, timeout=30) as answer:  # noqa: S310 - our own server
        told: dict[str, Any] = json.loads(answer.read())
    return told
