"""What a source of runs is: something that a comparison asks for the runs of its arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..engines.base import EngineError
from ..experiment.arm import Arm
from ..records.header import Header
from ..records.run import Run


@dataclass(frozen=True)
class Place:
    """Where a run stands in its comparison, for the progress line only.

    Attributes:
        text: which block of which case.
        done: share of the comparison that is done when the run starts; None where unknown.
        share: of the comparison that the run is.
    """

    text: str = "warming up"
    done: float | None = None
    share: float = 0.0

    def part(self, i: int, of: int) -> Place:
        """The place of the ``i``-th of so many runs that share it, from 0."""
        done = None if self.done is None else self.done + i * self.share / of
        return Place(self.text, done, self.share / of)


Wanted = tuple[Arm, Path, Header]
"""A run that is wanted: what is measured, where it is recorded, and what the record says of it."""


class Source(Protocol):
    """Where runs come from: engines, or records."""

    def prepare(self, arms: Sequence[Arm], *, copy: int = 0, alone: bool = False) -> None: ...

    def has(self, path: Path) -> bool: ...

    def kept(self, arm: Arm, path: Path, header: Header) -> Run | None: ...

    def run(self, arm: Arm, path: Path, header: Header, place: Place) -> Run: ...

    def runs_in_turns(self, runs: Sequence[Wanted], place: Place) -> list[Run]: ...


class EngineDied(EngineError):
    """An engine's server ended while it was measured; ``engine`` is how its arm names it."""

    def __init__(self, engine: str, message: str) -> None:
        super().__init__(message)
        self.engine = engine
