"""The measuring bench of one pytest session: its choices, its servers, its records."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from .baselines import Baselines
from .engines import engine_named
from .engines.base import Engine
from .engines.pool import Pool
from .experiments import Live, Replay, Source
from .models import ModelPair
from .monitors import Gpu
from .reports.progress import Progress


@dataclass
class Bench:
    """Made once per session from the options; starts nothing until something is measured.

    Attributes:
        engine_name: what serves.
        records: where runs are recorded (or, in a replay, read).
        replaying: whether runs come from records.
        baselines: the stored verdicts' numbers.
        inconclusive: how an undecided finding ends.
        data: folder of local data sets.
        say: told about progress.
    """

    engine_name: str
    records: Path
    replaying: bool
    baselines: Baselines
    inconclusive: Literal["fail", "skip"]
    data: Path | None
    say: Progress
    gpu: Gpu = field(default_factory=Gpu)
    _live: dict[str, Live] = field(default_factory=dict)

    @cached_property
    def engine(self) -> Engine:
        return engine_named(self.engine_name)

    @cached_property
    def pool(self) -> Pool:
        return Pool(self.engine, self.records / "servers", say=self.say)

    def lacks(self, folder: Path, need: Mapping[str, Any]) -> str | None:
        """What a GPU case needs and this session has not, None when it has it all.

        Args:
            folder: the case's records, relative to the session's.
            need: what the mark ``gpu`` says.
        """
        if self.replaying:
            found = (self.records / folder).is_dir()
            return None if found else f"a GPU case that is not recorded in {self.records}"
        missing = self.gpu.missing(**need)
        if missing is None and self.engine.on_cpu:
            return (
                f"{self.engine.name} {self.engine.version()} is a CPU build: install the GPU build"
            )
        return missing

    def source(self, pair: ModelPair) -> Source:
        """Where the runs of a model pair come from in this session."""
        if self.replaying:
            return Replay(self.records)
        if pair.name not in self._live:
            link_latest(self.records)
            self._live[pair.name] = Live(
                self.engine, pair, self.pool, self.gpu, self.records, self.say
            )
        return self._live[pair.name]

    def close(self, existing: Mapping[str, set[str]] | None = None) -> None:
        """Stop every server; trim stored cases that do not exist, where that was asked for."""
        if "pool" in self.__dict__:
            self.pool.close()
        if existing is not None and "trim" in self.baselines.words:
            self.baselines.trim(existing)


def fresh_records(root: Path) -> Path:
    """Where this session's records go: a name in ``root`` that is not taken yet."""
    stem, number = time.strftime("%Y%m%d-%H%M%S"), 1
    folder = root / stem
    while folder.exists():
        number += 1
        folder = root / f"{stem}.{number}"
    return folder


def link_latest(records: Path) -> None:
    """Make the folder of records, and ``latest`` beside it that points to it."""
    records.mkdir(parents=True, exist_ok=True)
    latest = records.parent / "latest"
    with suppress(OSError):  # no links on this file system: the folder's own name is enough
        if latest.is_symlink():
            latest.unlink()
        os.symlink(records.name, latest)
