"""The memory of a session's GPUs: one budget over all engines, pairs of models and builds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psutil

from ..experiment.serving import Serving
from ..models import ModelPair
from ..records.files import write_whole
from ..telemetry.gpu import Device, Gpu
from .base import Endpoint, Launcher
from .memory import GIB, Need, need_of
from .placement import Card, Layout, NoRoom, Placement, lay_out
from .server import Key, Server, Started, key_of, served_as

Wanted = tuple[Endpoint, Serving, ModelPair]
"""A server that is wanted: of which engine, serving how, which models."""
LEAST = 0.25 * GIB
"""An engine takes more than this, whatever its log and the GPU's readings make of it."""


@dataclass
class Budget:
    """What servers may take of the GPUs that are visible here.

    Attributes:
        gpu: the GPUs of this machine.
        folder: where is kept what servers were seen to take; None keeps nothing.
    """

    gpu: Gpu
    folder: Path | None = None
    _learnt: dict[str, dict[str, float]] = field(default_factory=dict, init=False)

    @cached_property
    def cards(self) -> tuple[Card, ...]:
        """The GPUs as they are before the session starts its first server."""
        return () if self.gpu.why_not else tuple(map(self._card, self.gpu.devices))

    def _card(self, device: Device) -> Card:
        total = device.memory_gib and device.memory_gib * GIB
        own = {p.pid for p in psutil.Process().children(recursive=True)}
        holders = [
            (pid, None if size is None else size * GIB)
            for pid, size in self.gpu.holders(device) or ()
            if pid not in own
        ]
        # A MIG instance has no number that CUDA knows it by.
        name = device.uuid if device.uuid.startswith("MIG-") else str(device.index)
        total = total or float(psutil.virtual_memory().total)
        return Card(device.index, name, total, self._free(device), tuple(holders))

    def _free(self, device: Device) -> float:
        """What is free of a GPU's memory; of the machine's, where the GPU uses that."""
        free = self.gpu.free_gib(device)
        return float(psutil.virtual_memory().available) if free is None else free * GIB

    # ---- where servers go

    def layout(self, wanted: Sequence[Wanted], *, alone: bool = False) -> Layout | None:
        """Where the servers of a comparison go; None where no GPU is needed or can be asked: then
        nothing is planned.

        Args:
            wanted: all of them.
            alone: whether they take turns in any case.

        Raises:
            NoRoom: not even one of them fits.
        """
        placed = {key_of(*one): one for one in wanted if on_gpu(one[0])}
        if not placed or not self.cards:
            return None
        return lay_out([self._need(*one) for one in placed.values()], self.cards, alone=alone)

    def _need(self, engine: Endpoint, serving: Serving, pair: ModelPair) -> Need:
        parallel = engine.capabilities.tensor_parallel
        serving = served_as(serving, pair)
        overhead = self._known(engine).get(_served(serving, pair))
        return need_of(serving, pair, parallel=parallel, overhead=overhead)

    def choose(
        self, layout: Layout, wanted: Iterable[Key], up: Mapping[Key, Server]
    ) -> dict[Key, Placement]:
        """A place for each server; those that are up and placed alike stay where they are.

        Args:
            layout: of these servers.
            wanted: their keys, in the order of the layout.
            up: the servers that are up now.
        """
        keys = list(dict.fromkeys(wanted))
        chosen: dict[Key, Placement] = {}
        where: list[tuple[Card, ...]] = []
        for i, key in enumerate(keys):
            placed = up[key].placement if key in up and up[key].alive else None
            for cards in layout.sets:
                there = layout.on(cards, i)
                if placed is not None and there.cards == placed.cards and there.like(placed):
                    chosen[key] = placed
                    where.append(cards)
        for i, key in enumerate(keys):
            if key in chosen:
                continue
            room = [cards for cards in layout.sets if where.count(cards) < layout.each]
            if not room:
                raise NoRoom(f"{len(keys)} servers do not fit at once: {layout}")
            others = [server for k, server in up.items() if k not in chosen]
            # With servers of the same comparison where they share, else where the least is up.
            best = min(room, key=lambda cards: (-where.count(cards), _held(others, cards)))
            where.append(best)
            chosen[key] = layout.on(best, i)
        return chosen

    def in_the_way(
        self, placement: Placement, up: Mapping[Key, Server], kept: Iterable[Key]
    ) -> Iterable[Key]:
        """Servers that have to stop before one can be placed so, as few as possible, the one first
        that was used longest ago.

        Args:
            placement: of the server.
            up: the servers that are up now, the last used last.
            kept: keys of those that stay.
        """
        kept = set(kept)
        left = dict(up)
        for key in up:
            if all(
                card.usable - _held(left.values(), (card,)) >= placement.size
                for card in placement.cards
            ):
                return
            if key not in kept and _held([up[key]], placement.cards):
                del left[key]
                yield key

    # ---- what is free now

    def free(self, placement: Placement) -> float:
        """What is free on each of a server's GPUs now."""
        devices = {device.index: device for device in self.gpu.devices}
        return min(self._free(devices[card.index]) for card in placement.cards)

    def now(self, placement: Placement) -> str:
        """What is free on a server's GPUs now, and who holds the rest, in words."""
        devices = {device.index: device for device in self.gpu.devices}
        return "; ".join(str(self._card(devices[card.index])) for card in placement.cards)

    # ---- what servers were seen to take

    def learn(self, server: Started, free_before: float) -> None:
        """Keep what a server's engine takes on each GPU, for the plans of later sessions; where its
        log does not tell the sizes of weights and KV cache, nothing is learnt.

        Args:
            server: that was started, and is healthy.
            free_before: what was free on each of its GPUs before.
        """
        engine, placement = server.engine, server.placement
        if self.folder is None or placement is None or not isinstance(engine, Launcher):
            return
        log = server.log.read_text(errors="replace")
        weights, cache = engine.weights_gib(log), engine.kv_gib(log)
        if placement.fixed and server.pair.kv_cache_bytes is not None:
            cache = server.pair.kv_cache_bytes / GIB
        if weights is None or cache is None:
            return
        took = free_before - self.free(placement)
        if not placement.fixed:
            took = max(took, placement.size)  # it may not have filled its share yet
        engine_took = max(LEAST, took - (weights + cache) * GIB)
        found = {_served(server.serving, server.pair): round(engine_took / GIB, 2)}
        file = self._file(engine.label)
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps(self._told(engine.label) | found, indent=1) + "\n")

    def _known(self, engine: Endpoint) -> Mapping[str, float]:
        """As it was when the session began: its plans stay the same."""
        label = engine.label
        if label not in self._learnt and self.folder is None:
            self._learnt[label] = {}
        if label not in self._learnt:
            self._learnt[label] = {key: gib * GIB for key, gib in self._told(label).items()}
        return self._learnt[label]

    def _told(self, label: str) -> dict[str, float]:
        """What the file holds, in GiB; nothing when there is none or it is broken."""
        with suppress(OSError, ValueError, AttributeError, TypeError):
            told = json.loads(self._file(label).read_text(encoding="utf-8"))
            return {str(key): float(gib) for key, gib in told.items()}
        return {}

    def _file(self, label: str) -> Path:
        name = re.sub(r"[^\w.+-]+", "-", label)
        return (self.folder or Path()) / f"{name}.json"


def on_gpu(engine: Endpoint) -> bool:
    """Whether an engine's servers are started here, and take memory of GPUs."""
    return isinstance(engine, Launcher) and engine.url is None and not engine.on_cpu


def _served(serving: Serving, pair: ModelPair) -> str:
    return f"{pair.name}: {serving}"


def _held(servers: Iterable[Server], cards: Sequence[Card]) -> float:
    """What servers hold of these GPUs, of the one with the most."""
    numbers = {card.index for card in cards}
    held = dict.fromkeys(numbers, 0.0)
    for server in servers:
        if server.placement is not None and server.alive:
            for card in server.placement.cards:
                if card.index in numbers:
                    held[card.index] += server.placement.size
    return max(held.values(), default=0.0)
