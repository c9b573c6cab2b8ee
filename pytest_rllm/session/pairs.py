"""The pairs of runs of a comparison: measured on engines, or read from records, one by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ..experiment.arm import Arm
from ..records.header import Header
from ..records.run import Run
from .sources import Place, Source, Wanted

Pair = tuple[Run, Run]
Side = Literal["A", "B"]


def ignore(*_: object) -> None:
    """Nobody is told."""


@dataclass
class Pairs:
    """The pairs of runs of a comparison, in the order ABBA ABBA ...

    Attributes:
        source: an engine or records.
        arms: both arms.
        names: of both, for people.
        sizes: numbers of pairs at which claims are looked at, growing.
        parts: into how many pairs the prompts are split.
        where: folder of the records, relative to the source's.
        header: what the records say of the test (finding, case, pair).
        turns: how many the two runs of a pair take, A B B A; 1: one run follows the other.
        servers: pairs of servers that the pairs of runs are spread over: two servers of one build
            differ a little for as long as they live.
        measured: told after every pair how many seconds it took.
        reused: told of every pair that an earlier session had measured.
    """

    source: Source
    arms: dict[Side, Arm]
    names: dict[Side, str]
    sizes: tuple[int, ...]
    parts: int
    where: Path
    header: Header
    turns: int = 1
    servers: int = 1
    measured: Callable[[float], None] = ignore
    reused: Callable[[], None] = ignore
    _copy: int | None = field(default=None, init=False)

    def __call__(self, i: int) -> Pair | None:
        """The ``i``-th pair; None where records end before it."""
        first, second = (self.source.kept(*self._run(i, side)) for side in self.arms)
        if first is not None and second is not None:
            self.reused()
            return first, second
        if i >= self.sizes[0] and not all(self.source.has(self._path(i, side)) for side in "AB"):
            return None
        self._prepare(i)
        order: tuple[Side, Side] = ("A", "B") if i % 2 == 0 else ("B", "A")
        begun = time.monotonic()
        wanted = [self._run(i, side) for side in order]
        place = Place(
            f"{self.header.finding} [{self.header.case}] block {i + 1}/{self.sizes[-1]}",
            done=i / self.sizes[-1],
            share=1 / self.sizes[-1],
        )
        if self.turns > 1:
            runs = self.source.runs_in_turns(wanted, place)
        else:
            halves = place.half(0), place.half(1)
            runs = [self.source.run(*w, of) for w, of in zip(wanted, halves, strict=True)]
        self.measured(time.monotonic() - begun)
        found = dict(zip(order, runs, strict=True))
        return found["A"], found["B"]

    def copy_for(self, i: int) -> int:
        """Which of the pairs of servers the ``i``-th pair is measured on: as many pairs as the
        first look has on the first one, as many on the next, and then back again, 0 1 1 0."""
        turn = i // self.sizes[0] % (2 * self.servers)
        return min(turn, 2 * self.servers - 1 - turn)

    def _prepare(self, i: int) -> None:
        """Have the servers up; every other copy is started in turned order."""
        copy = self.copy_for(i)
        if copy == self._copy:
            return
        self._copy = copy
        order = [self.arms["A"], self.arms["B"]]
        self.source.prepare(order if copy % 2 == 0 else order[::-1], copy=copy)

    def _path(self, i: int, side: str) -> Path:
        return self.where / f"{i:02d}-{side}.jsonl"

    def _run(self, i: int, side: Side) -> Wanted:
        arm = self.arms[side].block(i, self.parts)
        about = header_of(arm, self.header, name=self.names[side], side=side, blocks=self.parts)
        return arm, self._path(i, side), replace(about, turns=self.turns)


def header_of(
    arm: Arm, header: Header, *, name: str, side: Literal["A", "B"] | None, blocks: int
) -> Header:
    """What a record says of an arm, before a server adds what it is."""
    return Header(
        arm=name,
        side=side,
        finding=header.finding,
        case=header.case,
        pair=header.pair,
        blocks=blocks,
        fingerprint=arm.fingerprint,
        serving=arm.serving,
        workload=str(arm.workload),
        sampling=arm.sampling,
        repeats=arm.repeats,
        engine=arm.engine,
        notes=header.notes,
    )


def arm_names(first: Arm, second: Arm, label: Callable[[str], str] = str) -> tuple[str, str]:
    """What tells two arms apart: serving and tiers always, the rest where it differs.

    Engines are named where they differ; two builds of one label by how the arms name them, too.
    """
    engines = first.engine, second.engine
    if first.engine == second.engine:
        called = ["", ""]
    else:
        labels = [label(engine) for engine in engines]
        alike = labels[0] == labels[1]
        called = [
            f"{text} ({engine})" if alike and engine else text
            for text, engine in zip(labels, engines, strict=True)
        ]
    return _name(first, second, called[0]), _name(second, first, called[1])


def _name(arm: Arm, other: Arm, engine: str) -> str:
    words = [f"{arm.serving} on {'+'.join(dict.fromkeys(p.tier for p in arm.prompts))}"]
    if engine:
        words[0] = f"{engine}: {words[0]}"
    if arm.workload != other.workload:
        words.append(str(arm.workload))
    if arm.sampling != other.sampling:
        words.append(f"up to {arm.sampling.max_tokens} tokens")
    if len(arm.cut) != len(other.cut):
        words.append(f"{len(arm.cut)} more aborted")
    return ", ".join(words)
