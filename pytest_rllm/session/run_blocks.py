"""The run blocks of a comparison: measured on engines, or read from records, one by one."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..experiment.arm import Arm
from ..records.header import SITTING, Header
from ..records.run import Run
from .sources import Place, Source, Wanted

LETTERS = "ABCDEFGHIJKLMNOP"
"""Of the arms of a comparison, in their order."""
Runs = tuple[Run, ...]
"""Of one block: a run of every arm."""


def ignore(*_: object) -> None:
    """Nobody is told."""


@dataclass
class RunBlocks:
    """The blocks of a comparison: in each, every arm is run once, in the order ABBA ABBA, or of
    more arms ABCD DCBA, so that what drifts evenly slows all of them alike.

    Attributes:
        source: an engine or records.
        arms: the arms by their letters.
        names: of all, for people.
        sizes: numbers of blocks at which claims are looked at, growing.
        parts: into how many blocks the prompts are split.
        where: folder of the records, relative to the source's.
        header: what the records say of the test (finding, case, pair).
        turns: how many the runs of a block take, A B B A; 1: one run follows the other.
        servers: of each arm, that the blocks are spread over: two servers of one build differ a
            little for as long as they live.
        begins: the first block of each sitting, where these arms take turns with others: then each
            sitting has servers of its own. Empty where all arms' servers are up.
        alone: whether no other server may be up meanwhile.
        measured: told after every block how many seconds it took.
        reused: told of every block that an earlier session had measured.
    """

    source: Source
    arms: Mapping[str, Arm]
    names: Mapping[str, str]
    sizes: tuple[int, ...]
    parts: int
    where: Path
    header: Header
    turns: int = 1
    servers: int = 1
    begins: tuple[int, ...] = ()
    alone: bool = False
    measured: Callable[[float], None] = ignore
    reused: Callable[[], None] = ignore
    _copy: int | None = field(default=None, init=False)

    def __call__(self, i: int) -> Runs | None:
        """The ``i``-th block; None where records end before it."""
        kept = [self.source.kept(*self._run(i, side)) for side in self.arms]
        runs = tuple(run for run in kept if run is not None)
        if len(runs) == len(self.arms):
            self.reused()
            return runs
        if i >= self.sizes[0] and not all(self.source.has(self._path(i, s)) for s in self.arms):
            return None
        self._prepare(i)
        order = list(self.arms) if i % 2 == 0 else list(self.arms)[::-1]
        begun = time.monotonic()
        wanted = [self._run(i, side) for side in order]
        place = Place(
            f"{self.header.finding} [{self.header.case}] block {i + 1}/{self.sizes[-1]}",
            done=i / self.sizes[-1],
            share=1 / self.sizes[-1],
        )
        if self.turns > 1:
            found = self.source.runs_in_turns(wanted, place)
        else:
            found = [
                self.source.run(*one, place.part(k, len(order))) for k, one in enumerate(wanted)
            ]
        self.measured(time.monotonic() - begun)
        by_side = dict(zip(order, found, strict=True))
        return tuple(by_side[side] for side in self.arms)

    def copy_for(self, i: int) -> int:
        """Which of the servers of each arm the ``i``-th block is measured on: as many blocks as the
        first look has on the first one, as many on the next, and then back again, 0 1 1 0; in
        sittings a fresh one in each."""
        if self.begins:
            return sitting_of(self.begins, i)
        turn = i // self.sizes[0] % (2 * self.servers)
        return min(turn, 2 * self.servers - 1 - turn)

    def _prepare(self, i: int) -> None:
        """Have the servers up; every other copy is started in turned order."""
        copy = self.copy_for(i)
        if copy == self._copy:
            return
        self._copy = copy
        order = list(self.arms.values())
        order = order if copy % 2 == 0 else order[::-1]
        self.source.prepare(order, copy=copy, alone=self.alone)

    def _path(self, i: int, side: str) -> Path:
        return self.where / f"{i:02d}-{side}.jsonl"

    def _run(self, i: int, side: str) -> Wanted:
        arm = self.arms[side].block(i, self.parts)
        about = header_of(arm, self.header, name=self.names[side], side=side, blocks=self.parts)
        if self.begins:
            sitting = {SITTING: sitting_of(self.begins, i) + 1}
            about = replace(about, notes={**about.notes, **sitting})
        return arm, self._path(i, side), replace(about, turns=self.turns)


def sitting_of(begins: Sequence[int], block: int) -> int:
    """In which sitting, from 0, a block is measured.

    Args:
        begins: the first block of each sitting, growing.
        block: from 0.
    """
    return bisect_right(begins, block) - 1


def header_of(arm: Arm, header: Header, *, name: str, side: str | None, blocks: int) -> Header:
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
    """Names of two arms, see :func:`names_of`."""
    one, other = names_of([first, second], label)
    return one, other


def names_of(arms: Sequence[Arm], label: Callable[[str], str] = str) -> list[str]:
    """What tells arms apart: serving and tiers always, the rest where it differs.

    Engines are named where they differ; builds of one label by how the arms name them, too.
    """
    engines = [arm.engine for arm in arms]
    if len(set(engines)) == 1:
        called = [""] * len(arms)
    else:
        labels = [label(engine) for engine in engines]
        alike = len({*labels}) < len({*engines})
        called = [
            f"{text} ({engine})" if alike and engine else text
            for text, engine in zip(labels, engines, strict=True)
        ]
    return [_name(arm, arms, engine) for arm, engine in zip(arms, called, strict=True)]


def _name(arm: Arm, arms: Sequence[Arm], engine: str) -> str:
    words = [f"{arm.serving} on {'+'.join(dict.fromkeys(p.tier for p in arm.prompts))}"]
    if engine:
        words[0] = f"{engine}: {words[0]}"
    if any(arm.workload != other.workload for other in arms):
        words.append(str(arm.workload))
    if any(arm.sampling != other.sampling for other in arms):
        words.append(f"up to {arm.sampling.max_tokens} tokens")
    if any(len(arm.cut) != len(other.cut) for other in arms):
        words.append(f"{len(arm.cut)} more aborted")
    return ", ".join(words)
