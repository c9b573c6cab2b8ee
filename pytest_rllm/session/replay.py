"""Runs that an earlier session measured, read from its records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..experiment.arm import Arm
from ..records.header import Header
from ..records.reader import read_run, recorded
from ..records.run import RecordError, Run
from .sources import Place, Wanted


@dataclass
class Replay:
    """Reads the runs of an earlier session instead of measuring."""

    folder: Path

    def prepare(self, arms: Sequence[Arm], *, copy: int = 0, alone: bool = False) -> None:
        """Nothing to start."""

    def has(self, path: Path) -> bool:
        """Whether that run was recorded."""
        return recorded(self.folder / path)

    def kept(self, arm: Arm, path: Path, header: Header) -> Run | None:  # noqa: ARG002
        """Nothing: :meth:`run` reads."""
        return None

    def run(self, arm: Arm, path: Path, header: Header, place: Place) -> Run:  # noqa: ARG002
        """The recorded run at the same place, under the arm's present name.

        Raises:
            RecordError: none, or one of something else.
        """
        run = read_run(self.folder / path)
        for key in ("fingerprint", "pair", "blocks"):
            was, asked = getattr(run.header, key), getattr(header, key)
            if was != asked:
                raise RecordError(
                    f"{self.folder / path}: recorded with {key} {was!r}, the test asks for "
                    f"{asked!r}; margins may change, what is measured may not: record it anew"
                )
        run.header = replace(run.header, arm=header.arm, side=header.side)
        return run

    def runs_in_turns(self, runs: Sequence[Wanted], place: Place) -> list[Run]:
        """The recorded runs, however they took turns."""
        return [self.run(arm, path, header, place) for arm, path, header in runs]
