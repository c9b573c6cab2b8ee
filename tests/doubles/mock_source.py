"""Sources of runs that start no server: they answer with synthetic runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from doubles.synthetic import record, run, sample
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.records.deltas import Deltas
from pytest_rllm.records.header import Header
from pytest_rllm.records.run import Run
from pytest_rllm.session.sources import Place, Wanted

Values = Callable[[int, str], Any]


@dataclass
class MockSource:
    """Starts no server: notes which runs were asked for, and returns synthetic ones.

    Attributes:
        value: the value of ``VALUE``, ``TIME`` and ``SHARE``, from the block and the arm's letter.
        recorded: number of blocks that this source has.
        about: further fields of the headers, from the block and the arm's letter.
        order: file names of the runs, in the order in which they were asked for.
        prepared: the arms of each preparation, and which copy of their servers was asked for.
        alone: of each preparation, whether no other server was to stay up.
        turns: how many turns the runs of each pair took; nothing of pairs that took none.
        places: what the progress line was told of each run.
    """

    value: Values = lambda block, letter: 1.0
    recorded: float = math.inf
    about: Callable[[int, str], dict[str, Any]] = lambda block, letter: {}
    order: list[str] = field(default_factory=list)
    prepared: list[tuple[list[Arm], int]] = field(default_factory=list)
    alone: list[bool] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)

    def prepare(self, arms: Sequence[Arm], *, copy: int = 0, alone: bool = False) -> None:
        self.prepared.append((list(arms), copy))
        self.alone.append(alone)

    def kept(self, arm: Arm, path: Path, header: Header) -> Run | None:
        return None

    def has(self, path: Path) -> bool:
        return int(path.name[:2]) < self.recorded

    def run(self, arm: Arm, path: Path, header: Header, place: Place) -> Run:
        self.order.append(path.name)
        self.places.append(place)
        made = run(*(sample(p.id) for p in arm.prompts))
        if arm.serving.model == "plain":
            for each in made.samples:
                each.deltas = Deltas([d for d in each.deltas if d.field == "content"])
        block, letter = int(path.name[:2]), path.name[3]
        told = {
            "server": 2 * len(self.prepared) + (letter == "B"),
            "match": made.header.match,
            "signature": made.header.signature,
            "notes": {**header.notes, "value": self.value(block, letter)},
        }
        made.header = replace(header, **(told | self.about(block, letter)))
        return made

    def runs_in_turns(self, runs: Sequence[Wanted], place: Place) -> list[Run]:
        self.turns.append(runs[0][2].turns)
        return [self.run(arm, path, header, place) for arm, path, header in runs]


@dataclass
class RecordingMockSource(MockSource):
    """A mock source that also writes its runs to ``folder``, as a measured session would.

    Its ``value`` returns how long a request takes (s), and how many of a run's answers are right.
    """

    folder: Path = field(default_factory=Path)

    def run(self, arm: Arm, path: Path, header: Header, place: Place) -> Run:
        made = super().run(arm, path, header, place)
        notes = dict(made.header.notes)
        seconds, right = notes.pop("value")
        made.header = replace(made.header, notes=notes)
        for i, each in enumerate(made.samples):
            each.ended_s = seconds
            text = r"\boxed{7}" if i < right else r"\boxed{8}"
            *begun, last = each.deltas
            each.deltas = Deltas([*begun, replace(last, at_s=seconds, text=text)])
        self.changed(made, path.name[3])
        record(self.folder / path, made)
        return made

    def changed(self, run: Run, letter: str) -> None:
        """Change a run of that arm before it is recorded; here it stays as it is."""


def twice(block: int, letter: str) -> float:
    """Values with which the first arm takes about half of the second arm's time."""
    return 0.5 + block / 1000 if letter == "A" else 1.0
