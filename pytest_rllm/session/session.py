"""One session of measuring: its choices, its servers, its records, its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from ..baselines.format import BaselineError
from ..baselines.machines import Machine, machine
from ..baselines.store import Baselines
from ..cache import cache_folder
from ..engines import api_diff, api_snapshot
from ..engines.api_diff import ApiCheck
from ..engines.budget import Budget
from ..engines.pool import Pool
from ..experiment.arm import Arm
from ..experiment.serving import Serving
from ..experiment.tiers import TIERS, Tier
from ..loadgen.fidelity import ClientCapacity
from ..models import ModelPair, pair_named
from ..reports.progress import Progress
from ..reports.row import Row
from ..reports.session_report import Decision, SessionReport
from ..telemetry import hardware
from ..telemetry.gpu import Gpu
from ..verdicts.judgement import engines_of, parts
from . import upgrade
from .costs import Costs
from .engines import Engines
from .folders import link_latest
from .live import Live
from .needs import Needs
from .readings import Readings, serves_on_gpu_here
from .replay import Replay
from .seating import TOGETHER, Seating, lacking, lacking_gpus, seated
from .sources import Source

API_SNAPSHOT = "contract.json"
"""Where a session's records hold what its engine said of its API."""


class DecisionKnown(Exception):
    """The gate's decision is known, and no further case is measured; says why."""


@dataclass
class Session:
    """Made once per pytest session from the options; starts nothing until something is measured.

    Attributes:
        engine_text: which engine is measured, as ``--rllm-engine`` named it.
        records: where runs are recorded (or, in a replay, read).
        records_name: the folder or archive as the user named it for a replay; None for ``records``.
        replaying: whether runs come from records.
        baselines: the stored numbers.
        inconclusive: how an undecided finding ends.
        data: folder of local data sets.
        say: told about progress.
        against: the other engine or build of the upgrade gate, as the user named it; None when
            findings are measured.
        complete: whether the gate measures every case to its end, even when its decision is known.
        tier: how much is measured of a comparison.
        start_timeout_s: seconds within which a server must be healthy; None for a time that fits
            what it loads.
        planning: whether the session only tells what it would measure and what that would cost.
        rows: how the cases ended so far.
        left_out: per id of a test that was not measured, the reason.
        without_gpu: rows of those that need a GPU which this machine has not.
        unused: stored cases that no test stands for, known at the end.
        drifted: what accepted changes add up to, known at the end.
        outdated: stored files of an older schema, known at the end.
        broken: why that is not known: a stored file that cannot be used.
        messages: sentences about the engine for the end of the session.
        decision: of the gate, known at the end; None when no builds are compared.
        interrupted: whether the session was stopped before its end.
        servings: URL of the server that serves so, by serving, as the user says.
        models_named: whether the user says what servers that run already call their models.
        kept: number of blocks that an earlier session in the same folder had measured.
        turns: whether arms take turns in any case, one server at a time.
        needs: the models that cases need and that are no folders here.
    """

    engine_text: str
    records: Path
    replaying: bool
    baselines: Baselines
    inconclusive: Literal["fail", "skip"]
    data: Path | None
    say: Progress
    against: str | None = None
    complete: bool = False
    tier: Tier = TIERS["short"]
    start_timeout_s: float | None = None
    planning: bool = False
    records_name: Path | None = None
    servings: Mapping[Serving, str] = field(default_factory=dict)
    models_named: bool = False
    gpu: Gpu = field(default_factory=Gpu)
    rows: list[Row] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    without_gpu: list[Row] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    drifted: list[str] = field(default_factory=list)
    outdated: list[Path] = field(default_factory=list)
    broken: str | None = None
    messages: list[str] = field(default_factory=list)
    decision: Decision | None = None
    interrupted: bool = False
    kept: int = 0
    turns: bool = False
    needs: Needs = field(default_factory=Needs)
    _sources: dict[str, Source] = field(default_factory=dict)

    @cached_property
    def engines(self) -> Engines:
        """The engines that arms name, and what is remembered of them."""
        return Engines(
            self.engine_text,
            self.records,
            self.against,
            self.replaying,
            self.planning,
            self.servings,
            self.models_named,
            self.say,
        )

    # ---- what a replay has to know

    def not_measured(self, place: Path, why: str | None) -> str | None:
        """Why something is not measured; kept when it is said, read in a replay.

        Args:
            place: of its records, relative to the session's.
            why: the reason; None when it can be measured.
        """
        if self.planning:
            return why
        memo, name = self.engines.memo, place.as_posix()
        if self.replaying:
            return memo.not_measured.get(name)
        if why is not None:
            memo.not_measured[name] = why
            memo.write(self.records)
        elif memo.not_measured.pop(name, None):
            memo.write(self.records)  # the session before, which was stopped, left it out
        return why

    def count_kept(self) -> None:
        """Count a block that an earlier session had measured; the report says how many."""
        self.kept += 1

    # ---- the upgrade gate

    @property
    def stops_early(self) -> bool:
        """Whether the gate stops measuring once its decision is known; records cost nothing."""
        return self.engines.builds is not None and not self.complete and not self.replaying

    def decided_before(self) -> str | None:
        """Which case has decided already; None while the decision is open, or when all cases are
        wanted. Two engines are compared in everything: each is better at something."""
        builds = self.engines.builds
        if not self.stops_early or builds is None or self.engines.of_two_kinds:
            return None
        for row in self.rows:
            if next(upgrade.reasons_against(row, builds), None) is not None:
                return (
                    f"the decision is known from {row.title}: not safe; "
                    "--rllm-complete measures the other cases, too"
                )
        return None

    def decide(
        self, silent: Sequence[str], left_out: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Take the gate's decision.

        Args:
            silent: titles of cases that ended without a row.
            left_out: per title of a case that was not measured, the reason.
        """
        known = self.engines.__dict__.get("builds")  # none: the session ended before
        if known is not None:
            self.decision = upgrade.decide(known, self.rows, silent, left_out)

    # ---- measuring

    @property
    def shown_records(self) -> Path:
        """Where a person finds the records: an archive is extracted for the session only."""
        return self.records_name or self.records

    @cached_property
    def pool(self) -> Pool:
        return Pool(
            self.records / "servers",
            start_s=self.start_timeout_s,
            say=self.say,
            budget=self.budget,
        )

    @cached_property
    def budget(self) -> Budget:
        """The memory of this machine's GPUs, over all engines and pairs."""
        return Budget(self.gpu, cache_folder() / "memory" / self.costs.machine)

    def seating(self, pair: ModelPair, arms: Sequence[Arm]) -> Seating:
        """How the servers of arms share the machine.

        Raises:
            NoRoom: there is no memory for one of them.
        """
        if self.replaying:
            return TOGETHER
        wanted = [(self.engines.for_arm(arm), arm.serving, pair) for arm in arms]
        return seated(wanted, self.budget, turns=self.turns)

    def no_memory(self, pair: ModelPair, arms: Sequence[Arm]) -> str | None:
        """Why no GPU has the memory for an arm's server; None where there is."""
        if self.replaying:
            return None
        return lacking([(self.engines.for_arm(a), a.serving, pair) for a in arms], self.budget)

    def machine(self, hardware_name: str, engine: str) -> Machine:
        """What is known of an engine on a class of machine, stored beside its baselines."""
        return machine(self.baselines.root, hardware_name, engine)

    def lacks(
        self, folder: Path, need: Mapping[str, Any], pair: ModelPair | None = None
    ) -> str | None:
        """What a GPU case needs and this session has not, None when it has it all.

        Args:
            folder: the case's records, relative to the session's.
            need: what the mark ``gpu`` says.
            pair: the models of the case; None where it says none.
        """
        if self.replaying:
            found = (self.records / folder).is_dir()
            return None if found else f"a GPU case that is not recorded in {self.shown_records}"
        return lacking_gpus(need, pair, lambda: self.engines.own, self.budget)

    def source(self, pair: ModelPair) -> Source:
        """Where the runs of a model pair come from in this session."""
        if self.replaying:
            return Replay(self.records)
        if pair.name not in self._sources:
            link_latest(self.records)
            self._sources[pair.name] = self._live(pair)
        return self._sources[pair.name]

    def kept_api(self) -> ApiCheck:
        """Whether the engine, serving the bundled pair as it is, keeps its stored API; changes what
        is stored as the baseline words allow."""
        record, folder = self.records / API_SNAPSHOT, self.baselines.root / "contracts"
        if self.replaying:
            fresh = api_snapshot.read(record)
        else:
            pair = pair_named("tiny" if self.engines.own.on_cpu else "tiny-gpu")
            fresh = self._live(pair).snapshot("")
            api_snapshot.write(fresh, record)
        found = api_diff.decide(fresh, api_snapshot.stored(folder), self.baselines.words)
        if found.store is not None:
            path = api_snapshot.path_in(folder, fresh)
            self.baselines.proposed.append(partial(api_snapshot.write, found.store, path))
            self.baselines.proposed.append(partial(self.baselines.written.append, path))
        self.messages += found.lines
        return found

    @cached_property
    def costs(self) -> Costs:
        """What this session costs."""
        return Costs(lambda: self.engines.own, self.gpu, self.tier)

    def _live(self, pair: ModelPair) -> Live:
        return Live(
            self.engines.of,
            pair,
            self.pool,
            self.gpu,
            self.records,
            self.say,
            self.readings,
            self.capacity,
            self.costs.machine,
            self.readings.reference,
            elsewhere=self.engines.for_arm,
        )

    @cached_property
    def capacity(self) -> ClientCapacity:
        """What this session's client is known to carry."""
        return ClientCapacity()

    @cached_property
    def readings(self) -> Readings:
        """What reads this machine beside the runs."""
        return Readings(self.gpu)

    # ---- the end

    def end_test(self, *, passed: bool) -> None:
        """Store what a test proposed for the baselines, where it passed as a whole: with its last
        lines, its parts and what comes after it. Otherwise it is forgotten."""
        if not passed:
            self.baselines.proposed.clear()
        try:
            self.baselines.store()
        except BaselineError as error:
            self.broken = str(error)

    def close(self, existing: Mapping[str, set[str]] | None = None) -> None:
        """Stop every server; look through what is stored, and trim cases that do not exist where
        that was asked for. A plan starts and changes nothing."""
        if self.planning:
            return
        self.messages += self.engines.unasked()
        if "pool" in self.__dict__:
            self.pool.close()
        if self._sources:
            self.costs.keep()
            if serves_on_gpu_here(self.engines.own):
                self.messages += self.gpu.remarks
        if "readings" in self.__dict__:
            self.readings.close()
        if self._sources and (builds := self.engines.builds) is not None:
            for source in self._sources.values():
                assert isinstance(source, Live)
                changes = source.changes(*reversed(self.engines.compared()))
                builds.changes.extend(c for c in changes if c not in builds.changes)
            builds.write(self.records)
        try:
            if existing is not None and "trim" in self.baselines.words:
                self.baselines.trim(existing)
            if existing is not None and self.engines.against is None:
                self.unused = self.baselines.unused(existing)
            self.drifted = self.baselines.drifted()
            self.outdated = self.baselines.outdated()
        except BaselineError as error:
            self.broken = str(error)

    def _of_kept(self) -> list[str]:
        if not self.kept:
            return []
        return [
            f"{self.kept} blocks were measured before, by a session that was stopped, and kept: "
            f"remove {self.shown_records} to measure them anew"
        ]

    def report(self, rows: Sequence[Row] | None = None) -> SessionReport:
        """The session as reports show it.

        Args:
            rows: of all workers; this session's own by default.
        """
        chosen = sorted(
            self.rows if rows is None else rows, key=lambda row: (row.finding, row.case)
        )
        matches = [judgement.match for row in chosen for judgement in row.judgements]
        engines = {" ".join(one) for match in matches for one in engines_of(match)}
        machines = {name for match in matches for name in parts(match.get("hardware", ""))}
        return SessionReport(
            rows=tuple(chosen),
            decision=self.decision,
            environment={
                "engines": sorted(engines),
                "hardware": sorted(machines),
                "versions": hardware.versions(),
            },
            records=str(self.shown_records),
            replayed=self.replaying,
            messages=(*self.messages, *self._of_kept()),
            tier=self.tier.name,
            interrupted=self.interrupted,
            without_gpu=tuple(self.without_gpu),
        )
