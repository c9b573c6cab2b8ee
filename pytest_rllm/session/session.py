"""One session of measuring: its choices, its engines and servers, its records, its results."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from ..baselines.format import BaselineError
from ..baselines.machines import Machine, machine
from ..baselines.store import Baselines
from ..engines import api_diff, api_snapshot, engine_named
from ..engines.api_diff import ApiCheck
from ..engines.base import CannotServe, Endpoint
from ..engines.pool import Pool, served_as
from ..experiment.arm import Arm
from ..experiment.serving import Serving
from ..experiment.tiers import TIERS, Tier
from ..loadgen.fidelity import ClientCapacity
from ..metrics.base import Metric
from ..models import ModelPair, pair_named
from ..reports.progress import Progress
from ..reports.row import Row
from ..reports.session_report import Decision, SessionReport
from ..telemetry import hardware
from ..telemetry.gpu import Gpu
from ..telemetry.reference import CpuReference, Reference, TorchReference
from ..verdicts.judgement import Judgement, engines_of, parts
from . import upgrade
from .costs import Costs
from .folders import link_latest
from .memo import Memo
from .sources import MOCK, Live, Replay, Source
from .upgrade import Builds

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
        planning: whether the session only tells what it would measure and what that would cost.
        rows: how the cases ended so far.
        left_out: per id of a test that was not measured, the reason.
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
        pair: the models of the test case that is measured now; None before the first one.
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
    tier: Tier = TIERS["gate"]
    planning: bool = False
    records_name: Path | None = None
    servings: Mapping[Serving, str] = field(default_factory=dict)
    models_named: bool = False
    gpu: Gpu = field(default_factory=Gpu)
    rows: list[Row] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    drifted: list[str] = field(default_factory=list)
    outdated: list[Path] = field(default_factory=list)
    broken: str | None = None
    messages: list[str] = field(default_factory=list)
    decision: Decision | None = None
    interrupted: bool = False
    kept: int = 0
    pair: ModelPair | None = None
    _engines: dict[str, Endpoint] = field(default_factory=dict)
    _sources: dict[str, Source] = field(default_factory=dict)
    _served: set[Serving] = field(default_factory=set)

    # ---- engines

    @property
    def engine(self) -> Endpoint:
        """The engine that is measured.

        Raises:
            EngineError: its environment cannot be made.
            ValueError: it is none, or its build is none.
        """
        return self.engine_of("")

    def engine_of(self, text: str) -> Endpoint:
        """The engine that an arm names; the session's own for an empty text.

        Raises:
            EngineError: its environment cannot be made.
            CannotServe: it is none, or its build is none.
        """
        text = text or self.engine_text
        if text not in self._engines:
            self._engines[text] = self._named(text)
        return self._engines[text]

    def _named(self, text: str) -> Endpoint:
        try:
            return engine_named(text, say=self.say, named=self.models_named)
        except ValueError as error:
            # A traceback would show the text among the locals, and what is secret in it.
            raise CannotServe(str(error)) from None

    def engine_for(self, arm: Arm) -> Endpoint:
        """The engine that serves an arm: where the user named a server for just this serving, that
        one.

        Raises:
            EngineError, ValueError: as :meth:`engine_of`.
        """
        serving = arm.serving if self.pair is None else served_as(arm.serving, self.pair)
        if arm.engine not in ("", self.engine_text) or serving not in self.servings:
            return self.engine_of(arm.engine)
        text = f"{self.engine.name}@{self.servings[serving]}"
        key = f"{serving.slug}={text}"
        if key not in self._engines:
            self._engines[key] = self._named(text).serving_as(serving)
        self._served.add(serving)
        return self._engines[key]

    def label(self, text: str) -> str:
        """What people call an arm's engine."""
        if self.builds is not None and text in (self._new, self._old):
            return self.builds.new if text == self._new else self.builds.old
        if self.replaying:
            return self.memo.labels.get(text, text or self.engine_text)
        return self.engine_of(text).label

    def cannot(self, arm: Arm) -> str | None:
        """Why an arm's engine cannot serve or be asked so, by its declared capabilities; None when
        it can. Records tell by themselves what was measured."""
        if self.replaying:
            return None
        serving = arm.serving if self.pair is None else served_as(arm.serving, self.pair)
        engine = self.engine_for(arm)
        why = engine.cannot(serving, arm.sampling)
        own = arm.engine in ("", self.engine_text) and self.against is None
        if why and own and engine.url and serving != engine.serves and serving.slug:
            why += (
                f"; start another server that serves so, and name it: --rllm-serving "
                f'"{serving.slug}=http://HOST:PORT"'
            )
        return why

    def untold(self, arm: Arm, metric: Metric) -> str | None:
        """Why an arm's engine does not tell what a metric takes; None when it does."""
        told: Collection[str]
        if self.replaying:
            told = self.memo.series.get(self._kept_as(arm.engine), metric.series)
        else:
            told = self.engine_for(arm).capabilities.series
        missing = [series for series in metric.series if series not in told]
        if not missing:
            return None
        return f"{self.label(arm.engine)} does not tell {', '.join(missing)}"

    # ---- what a replay has to know

    @cached_property
    def memo(self) -> Memo:
        """What is kept beside the records.

        Raises:
            ValueError: the recorded file is broken.
        """
        return Memo.read(self.records)  # a session that goes on has one, too

    def remember(self, arm: Arm) -> None:
        """Keep which engine an arm has."""
        text = self._kept_as(arm.engine)
        if self.replaying or text in self.memo.labels:
            return
        series = self.engine_of(arm.engine).capabilities.series
        self.memo.add_engine(text, self.label(arm.engine), series)
        self.memo.write(self.records)

    def _kept_as(self, text: str) -> str:
        """Key of an arm's engine in the memo. The gate's arms name engines as the options do, which
        a replay is not told: their labels are the same."""
        gate = self.builds is not None and text in (self._new, self._old)
        return self.label(text) if gate else text

    def not_measured(self, place: Path, why: str | None) -> str | None:
        """Why something is not measured; kept when it is said, read in a replay.

        Args:
            place: of its records, relative to the session's.
            why: the reason; None when it can be measured.
        """
        if self.replaying:
            return self.memo.not_measured.get(place.as_posix())
        if self.planning:
            return why
        if why is not None:
            self.memo.not_measured[place.as_posix()] = why
            self.memo.write(self.records)
        elif self.memo.not_measured.pop(place.as_posix(), None):
            self.memo.write(self.records)  # the session before, which was stopped, left it out
        return why

    def count_kept(self) -> None:
        """Count a block that an earlier session had measured; the report says how many."""
        self.kept += 1

    def is_mock(self, judgements: Sequence[Judgement]) -> bool:
        """Whether a mock engine measured any of these: such numbers are never stored."""
        versions = [
            version for judgement in judgements for _, version in engines_of(judgement.match)
        ]
        return any(version.startswith(MOCK) for version in versions)

    # ---- the upgrade gate

    @property
    def _new(self) -> str:
        return self.engine_text

    @property
    def _old(self) -> str:
        return self.against or "the other build"

    @cached_property
    def builds(self) -> Builds | None:
        """The engines that the gate compares; None when findings are measured.

        Raises:
            EngineError: a build's environment cannot be made.
            ValueError: the build is none, or both are one.
        """
        if self.replaying:
            return Builds.read(self.records)
        if self.against is None:
            return None
        both = self.engine_of(self._new), self.engine_of(self._old)
        if both[0].key == both[1].key or (both[0].url and both[0].url == both[1].url):
            raise ValueError(
                f"{self.against} is the engine that is measured: name another build, engine or URL"
            )
        new, old = (engine.label for engine in both)
        if new == old:
            old += f" ({self.against})"
        builds = Builds(new, old)
        if not self.planning:
            builds.write(self.records)
        return builds

    def engines_compared(self) -> tuple[str, str]:
        """The new and the old engine, as arms name them.

        Raises:
            ValueError: this session compares none.
        """
        if self.builds is None:
            raise ValueError("compare_builds needs a build to compare with: --rllm-against BUILD")
        return self._new, self._old

    @property
    def stops_early(self) -> bool:
        """Whether the gate stops measuring once its decision is known; records cost nothing."""
        return self.builds is not None and not self.complete and not self.replaying

    def decided_before(self) -> str | None:
        """Which case has decided already; None while the decision is open, or when all cases are
        wanted."""
        if not self.stops_early or self.builds is None:
            return None
        for row in self.rows:
            if next(upgrade.reasons_against(row, self.builds), None) is not None:
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
        if "builds" in self.__dict__ and self.builds is not None:  # else the session ended before
            self.decision = upgrade.decide(self.builds, self.rows, silent, left_out)

    # ---- measuring

    @property
    def shown_records(self) -> Path:
        """Where a person finds the records: an archive is extracted for the session only."""
        return self.records_name or self.records

    @cached_property
    def pool(self) -> Pool:
        return Pool(self.records / "servers", say=self.say)

    def machine(self, hardware_name: str, engine: str) -> Machine:
        """What is known of an engine on a class of machine, stored beside its baselines."""
        return machine(self.baselines.root, hardware_name, engine)

    def lacks(self, folder: Path, need: Mapping[str, Any]) -> str | None:
        """What a GPU case needs and this session has not, None when it has it all.

        Args:
            folder: the case's records, relative to the session's.
            need: what the mark ``gpu`` says.
        """
        if self.replaying:
            found = (self.records / folder).is_dir()
            return None if found else f"a GPU case that is not recorded in {self.shown_records}"
        missing = self.gpu.missing(**need)
        if missing is None and self.engine.on_cpu:
            return f"{self.engine.label} is a CPU build: install the GPU build"
        return missing

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
            pair = pair_named("tiny" if self.engine.on_cpu else "tiny-gpu")
            fresh = self._live(pair).snapshot("")
            api_snapshot.write(fresh, record)
        found = api_diff.decide(fresh, api_snapshot.stored(folder), self.baselines.words)
        if found.store is not None:
            path = api_snapshot.path_in(folder, fresh)
            api_snapshot.write(found.store, path)
            self.baselines.written.append(path)
        self.messages += found.lines
        return found

    @cached_property
    def costs(self) -> Costs:
        """What this session costs."""
        return Costs(lambda: self.engine, self.gpu, self.tier)

    def _live(self, pair: ModelPair) -> Live:
        return Live(
            self.engine_of,
            pair,
            self.pool,
            self.gpu,
            self.records,
            self.say,
            self.strangers,
            self.capacity,
            self.costs.machine,
            self.reference,
            elsewhere=self.engine_for,
        )

    def reference(self, engine: Endpoint) -> Reference:
        """The load that is timed beside an engine's runs: on the GPU where the engine is."""
        return self._cpu_reference if engine.on_cpu or self.gpu.why_not else self._gpu_reference

    @cached_property
    def _cpu_reference(self) -> CpuReference:
        return CpuReference()

    @cached_property
    def _gpu_reference(self) -> TorchReference:
        return TorchReference()

    @cached_property
    def capacity(self) -> ClientCapacity:
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

    # ---- the end

    def _unasked(self) -> list[str]:
        """Servers that the user named, and that nothing of this session asked for."""
        return [
            f'--rllm-serving "{serving.slug}={url}": no test of this session compares that serving'
            for serving, url in self.servings.items()
            if serving not in self._served and not self.replaying
        ]

    def close(self, existing: Mapping[str, set[str]] | None = None) -> None:
        """Stop every server; look through what is stored, and trim cases that do not exist where
        that was asked for. A plan starts and changes nothing."""
        if self.planning:
            return
        self.messages += self._unasked()
        if "pool" in self.__dict__:
            self.pool.close()
        if self._sources:
            self.costs.keep()
        if "_gpu_reference" in self.__dict__:
            self._gpu_reference.close()
        if self._sources and self.builds is not None:
            for source in self._sources.values():
                assert isinstance(source, Live)
                told = self.builds.changes
                changes = source.changes(self._old, self._new)
                told.extend(change for change in changes if change not in told)
            self.builds.write(self.records)
        try:
            if existing is not None and "trim" in self.baselines.words:
                self.baselines.trim(existing)
            if existing is not None and self.against is None:
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
        )
