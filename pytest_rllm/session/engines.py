"""The engines of a session, as its arms name them: what they are called, and can do and tell."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..engines import engine_named
from ..engines.base import CannotServe, Endpoint, EngineError
from ..engines.server import refusal, served_as
from ..experiment.arm import Arm
from ..experiment.serving import Serving
from ..metrics.base import Metric
from ..models import ModelPair
from .memo import Memo
from .needs import models_of
from .upgrade import Builds


@dataclass
class Engines:
    """The engines of a session, each made when it is first asked for; of a replay, what its records
    say of them.

    Attributes:
        text: which engine is measured, as ``--rllm-engine`` named it.
        records: folder of the session's records.
        against: the other engine or build of the upgrade gate, as the user named it; None when
            findings are measured.
        replaying: whether runs come from records.
        planning: whether the session only tells what it would measure.
        servings: URL of the server that serves so, by serving, as the user says.
        models_named: whether the user says what servers that run already call their models.
        say: told what is being waited for.
        made: those that were asked for, by how arms name them.
        pair: the models of the test case that is measured now; None before the first one.
    """

    text: str
    records: Path
    against: str | None = None
    replaying: bool = False
    planning: bool = False
    servings: Mapping[Serving, str] = field(default_factory=dict)
    models_named: bool = False
    say: Callable[[str], None] = lambda _text: None
    made: dict[str, Endpoint] = field(default_factory=dict)
    pair: ModelPair | None = None
    _served: set[Serving] = field(default_factory=set)

    # ---- which one

    @property
    def own(self) -> Endpoint:
        """The engine that is measured.

        Raises:
            EngineError: its environment cannot be made.
            ValueError: it is none, or its build is none.
        """
        return self.of("")

    def of(self, text: str) -> Endpoint:
        """The engine that an arm names; the session's own for an empty text.

        Raises:
            EngineError: its environment cannot be made.
            CannotServe: it is none, or its build is none.
        """
        text = text or self.text
        if text not in self.made:
            self.made[text] = self._named(text)
        return self.made[text]

    def _named(self, text: str) -> Endpoint:
        try:
            return engine_named(text, say=self.say, named=self.models_named)
        except ValueError as error:
            # A traceback would show the text among the locals, and what is secret in it.
            raise CannotServe(str(error)) from None

    def for_arm(self, arm: Arm) -> Endpoint:
        """The engine that serves an arm: where the user named a server for just this serving, that
        one.

        Raises:
            EngineError, ValueError: as :meth:`of`.
        """
        serving = arm.serving if self.pair is None else served_as(arm.serving, self.pair)
        if arm.engine not in ("", self.text) or serving not in self.servings:
            return self.of(arm.engine)
        text = f"{self.own.name}@{self.servings[serving]}"
        key = f"{serving.slug}={text}"
        if key not in self.made:
            self.made[key] = self._named(text).serving_as(serving)
        self._served.add(serving)
        return self.made[key]

    def unasked(self) -> list[str]:
        """Sentences on servers that the user named, and that nothing of this session asked for."""
        return [
            f'--rllm-serving "{serving.slug}={url}": no test of this session compares that serving'
            for serving, url in self.servings.items()
            if serving not in self._served and not self.replaying
        ]

    # ---- what it is called, and can do and tell

    def label(self, text: str) -> str:
        """What people call an arm's engine."""
        if self.builds is not None and text in (self.new, self.old):
            return self.builds.new if text == self.new else self.builds.old
        if self.replaying:
            return self.memo.labels.get(text, text or self.text)
        return self.of(text).label

    def cannot(self, arm: Arm) -> str | None:
        """Why an arm's engine cannot serve or be asked so, by its declared capabilities; None when
        it can. Records tell by themselves what was measured."""
        if self.replaying:
            return None
        serving = arm.serving if self.pair is None else served_as(arm.serving, self.pair)
        engine = self.for_arm(arm)
        if self.pair is None:
            why = engine.cannot(serving, arm.sampling)
        else:
            why = refusal(engine, serving, self.pair, arm.sampling)
        own = arm.engine in ("", self.text) and self.against is None
        if why and own and engine.url and serving != engine.serves and serving.slug:
            why += (
                f"; start another server that serves so, and name it: --rllm-serving "
                f'"{serving.slug}=http://HOST:PORT"'
            )
        return why

    def models_of(self, arm: Arm, pair: ModelPair) -> list[str]:
        """Ids of the models that an arm's server loads and that are no folders here."""
        return [] if self.replaying else models_of(self.for_arm(arm), pair, arm.serving)

    def untold(self, arm: Arm, metric: Metric) -> str | None:
        """Why an arm's engine does not tell what a metric takes; None when it does."""
        told: Collection[str]
        if self.replaying:
            told = self.memo.series.get(self._kept_as(arm.engine), metric.series)
        else:
            told = self.for_arm(arm).capabilities.series
        missing = [series for series in metric.series if series not in told]
        if not missing:
            return None
        return f"{self.label(arm.engine)} does not tell {', '.join(missing)}"

    def kv_types(self) -> tuple[str, ...]:
        """Names of the types that the session's engine offers for the KV cache beside the model's
        own; none where it does not tell, or is not there."""
        if self.replaying:
            return tuple(self.memo.kv_types.get(self._kept_as(self.text), ()))
        try:
            return self.own.capabilities.kv_cache_dtypes
        except EngineError:
            return ()

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
        told = self.of(arm.engine).capabilities
        kv_types = told.kv_cache_dtypes
        self.memo.add_engine(text, self.label(arm.engine), told.series, kv_types)
        self.memo.write(self.records)

    def _kept_as(self, text: str) -> str:
        """Key of an arm's engine in the memo. The gate's arms name engines as the options do, which
        a replay is not told: their labels are the same."""
        gate = self.builds is not None and text in (self.new, self.old)
        return self.label(text) if gate else text

    # ---- the two that the upgrade gate compares

    @property
    def new(self) -> str:
        """How arms name the engine that the gate judges."""
        return self.text

    @property
    def old(self) -> str:
        """How arms name the engine that the gate judges by."""
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
        both = self.of(self.new), self.of(self.old)
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

    @property
    def of_two_kinds(self) -> bool:
        """Whether the gate compares two engines, not two builds of one."""
        return self.builds is not None and self.of(self.new).name != self.of(self.old).name

    def compared(self) -> tuple[str, str]:
        """The new and the old engine, as arms name them.

        Raises:
            ValueError: this session compares none.
        """
        if self.builds is None:
            raise ValueError("compare_builds needs a build to compare with: --rllm-against BUILD")
        return self.new, self.old
