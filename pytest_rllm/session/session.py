"""The measuring bench of one pytest session: its choices, its servers, its records."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ..baselines.machines import Machine, machine
from ..baselines.store import BaselineError, Baselines
from ..engines import api_diff as canary
from ..engines import api_snapshot as contract
from ..engines import engine_named
from ..engines.api_diff import Decision
from ..engines.base import Engine
from ..engines.builds import build_named
from ..engines.pool import Pool
from ..loadgen.fidelity import ClientCapacity
from ..models import PAIRS, ModelPair
from ..reports.progress import Progress
from ..reports.row import Row
from ..telemetry.gpu import Gpu
from .sources import Live, Replay, SideBySide, Source
from .upgrade import Answer, Builds

CONTRACT = "contract.json"
"""Where a session's records hold what its engine said of itself."""


@dataclass
class Bench:
    """Made once per session from the options; starts nothing until something is measured.

    Attributes:
        engine_name: what serves.
        build: which build of it, as the user named it; None for the installed one.
        records: where runs are recorded (or, in a replay, read).
        replaying: whether runs come from records.
        baselines: the stored verdicts' numbers.
        inconclusive: how an undecided finding ends.
        data: folder of local data sets.
        say: told about progress.
        against: the other build, as the user named it; None when findings are measured.
        rows: how the cases ended so far.
        left_out: ids of the tests that this machine cannot run.
        unused: stored cases that no test stands for, known at the end.
        drifted: what accepted changes add up to, known at the end.
        broken: why that cannot be told: a stored file that cannot be used.
        said: sentences about the engine for the end of the session.
        answer: on the upgrade, known at the end; None when no builds are compared.
    """

    engine_name: str
    records: Path
    replaying: bool
    baselines: Baselines
    inconclusive: Literal["fail", "skip"]
    data: Path | None
    say: Progress
    build: str | None = None
    against: str | None = None
    gpu: Gpu = field(default_factory=Gpu)
    rows: list[Row] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)
    unused: list[str] = field(default_factory=list)
    drifted: list[str] = field(default_factory=list)
    broken: str | None = None
    said: list[str] = field(default_factory=list)
    answer: Answer | None = None
    _sources: dict[str, Source] = field(default_factory=dict)

    @cached_property
    def engine(self) -> Engine:
        """The engine that is measured.

        Raises:
            EngineError: its environment cannot be made.
            ValueError: its build is none.
        """
        build = build_named(self.build, say=self.say) if self.build else None
        return engine_named(self.engine_name, build)

    @cached_property
    def other_engine(self) -> Engine:
        """The engine of the build that this session compares with."""
        assert self.against is not None
        return engine_named(self.engine_name, build_named(self.against, say=self.say))

    @cached_property
    def pool(self) -> Pool:
        return Pool(self.engine, self.records / "servers", say=self.say)

    @cached_property
    def other_pool(self) -> Pool:
        """Servers of the other build."""
        return Pool(self.other_engine, self.records / "other-servers", say=self.say)

    @cached_property
    def builds(self) -> Builds | None:
        """The builds that are compared; None when findings are measured.

        Raises:
            EngineError: a build's environment cannot be made.
            ValueError: the build is none, or both are one.
        """
        if self.replaying:
            return Builds.read(self.records)
        if self.against is None:
            return None
        new, old = (f"{e.distribution} {e.version()}" for e in (self.engine, self.other_engine))
        if new == old:
            old += f" ({self.against})"
        builds = Builds(new, old)
        builds.write(self.records)
        return builds

    def builds_compared(self) -> tuple[str, str]:
        """Names of the new and the old build.

        Raises:
            ValueError: this session compares none.
        """
        if self.builds is None:
            raise ValueError("compare_builds needs a build to compare with: --rllm-against BUILD")
        return self.builds.new, self.builds.old

    def machine(self, hardware: str) -> Machine:
        """What is known of a class of machine, stored beside its baselines."""
        return machine(self.baselines.root, hardware)

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
        if pair.name not in self._sources:
            link_latest(self.records)
            here = self._live(pair)
            if self.builds is None:
                self._sources[pair.name] = here
            else:
                there = replace(here, engine=self.other_engine, pool=self.other_pool)
                both = {self.builds.new: here, self.builds.old: there}
                self._sources[pair.name] = SideBySide(both)
        return self._sources[pair.name]

    def kept_contract(self) -> Decision:
        """Whether the engine, serving the bundled pair as it is, keeps the contract that is stored;
        changes what is stored as the words allow."""
        record, folder = self.records / CONTRACT, self.baselines.root / "contracts"
        if self.replaying:
            fresh = contract.read(record)
        else:
            pair = PAIRS["tiny" if self.engine.on_cpu else "tiny-gpu"]
            fresh = self._live(pair).contract()
            contract.write(fresh, record)
        decision = canary.decide(fresh, contract.stored(folder), self.baselines.words)
        if decision.store is not None:
            path = contract.path_in(folder, fresh)
            contract.write(decision.store, path)
            self.baselines.written.append(path)
        self.said += decision.lines
        return decision

    def _live(self, pair: ModelPair) -> Live:
        return Live(
            self.engine,
            pair,
            self.pool,
            self.gpu,
            self.records,
            self.say,
            self.strangers,
            self.certificates,
        )

    @cached_property
    def certificates(self) -> ClientCapacity:
        """What this session's client is known to carry."""
        return ClientCapacity()

    @cached_property
    def strangers(self) -> dict[str, float]:
        """Processes per GPU before this session starts a server; only those that have some."""
        read = {} if self.gpu.why_not else self.gpu.read()
        return {
            name.removesuffix("_processes"): count
            for name, count in read.items()
            if name.endswith("_processes") and count
        }

    def close(self, existing: Mapping[str, set[str]] | None = None) -> None:
        """Stop every server; look through what is stored, and trim cases that do not exist where
        that was asked for."""
        for name in {"pool", "other_pool"} & self.__dict__.keys():
            getattr(self, name).close()
        if self._sources and self.builds is not None:
            for source in self._sources.values():
                assert isinstance(source, SideBySide)
                told = self.builds.changes
                told.extend(change for change in source.changes() if change not in told)
            self.builds.write(self.records)
        try:
            if existing is not None and "trim" in self.baselines.words:
                self.baselines.trim(existing)
            if existing is not None and self.against is None:
                self.unused = self.baselines.unused(existing)
            self.drifted = self.baselines.drifted()
        except BaselineError as error:
            self.broken = str(error)


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
