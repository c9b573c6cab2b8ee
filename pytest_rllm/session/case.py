"""One test case: the comparisons that it makes, and the row of what they showed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from ..baselines.compare import Outcome
from ..datasets.prompts import Prompt, data_revisions
from ..experiment.arm import Arm
from ..experiment.serving import Serving
from ..experiment.tiers import Name as TierName
from ..experiment.turns import turns_of
from ..experiment.workloads import Sampling, Workload
from ..metrics.base import Metric
from ..models import ModelPair
from ..records.header import DATA, REMARKS, Header
from ..records.run import Run
from ..reports.row import Row
from ..verdicts.judgement import Judgement
from . import upgrade
from .amount import (
    Setting,
    cannot_answer,
    cannot_hold,
    fitting,
    limits_of,
    no_room,
    servers_for,
    stored_effects,
)
from .comparison import CannotMeasure, Comparison, compare, never
from .contrasts import Contrasts
from .ending import outcome_of
from .limits import Limits
from .pace import manner
from .plan import Planned, Steps, own_steps
from .run_blocks import header_of
from .session import DecisionKnown, Session
from .sources import Place

LOOKS = (4, 8, 12, 16)
"""Numbers of blocks at which claims are looked at when a finding does not say. Four are enough for
answers that differ much; of times, eight can show that a claim holds, and twelve that one of two is
refuted."""
UPGRADE_LOOKS = (15, 30, 60)
"""Numbers of blocks at which two builds are looked at."""


class ClaimsNothing(Exception):
    """A finding's body ended without a claim on everything that it compared."""


@dataclass
class FindingCase:
    """What the fixtures ``compare`` and ``measure`` do for one test case.

    Attributes:
        finding, case: names; they key what is stored.
        sentence, cite: what is claimed in words, and where.
        session: whose engines measure.
        pair: the models.
        folder: where the case's records lie, relative to the session's.
        tier: the smallest tier that the finding is part of.
        comparisons: made so far.
        attempt: at the case, from 1.
    """

    finding: str
    case: str
    sentence: str
    cite: str
    session: Session
    pair: ModelPair
    folder: Path
    tier: TierName = "short"
    comparisons: list[Comparison | Contrasts] = field(default_factory=list)
    attempt: int = field(default=1, kw_only=True)
    _seconds: list[float] = field(default_factory=list, init=False)
    _planned: int = field(default=0, init=False)

    def compare(
        self,
        first: Serving | Arm,
        *,
        against: Serving | Arm,
        prompts: Sequence[Prompt] | None = None,
        workload: Workload | None = None,
        sampling: Sampling | None = None,
        blocks: int | Sequence[int] | None = None,
        key: str | None = None,
    ) -> Comparison:
        """Measure two arms, interleaved; judge them with ``.shows(...)``.

        Args:
            first, against: the arms: whole ones, or servings that share all else. An arm may name
                the engine that serves it, so two engines can be compared.
            prompts: what is asked, split over the blocks; needed with servings.
            workload: when it is asked; needed with servings.
            sampling: the paper's, with the pair's generous budget, by default.
            blocks: growing numbers of pairs of runs at which the claims are looked at: no more is
                measured than they need. A single number is for a test that gives its reason. By
                default ``LOOKS``, as far as there are questions.
            key: of the comparison among the stored numbers; by default its number in the test.

        Raises:
            CannotMeasure: an engine cannot do it, by its declared capabilities.
        """
        one, other = (
            arm if isinstance(arm, Arm) else self.arm(arm, prompts, workload, sampling)
            for arm in (first, against)
        )
        looks = self.looks(LOOKS, (one, other), blocks)
        return self._compared(one, other, looks, key=key)

    def compare_builds(
        self,
        serving: Serving,
        *,
        prompts: Sequence[Prompt],
        workload: Workload,
        sampling: Sampling | None = None,
        blocks: Sequence[int] | None = None,
        key: str | None = None,
    ) -> Comparison:
        """The session's engine against the other build, both serving and asked alike.

        Args:
            serving: how both serve.
            prompts, workload, sampling: what both are asked, when and how.
            blocks: growing numbers of pairs of runs at which the claims are looked at; by default
                ``UPGRADE_LOOKS``, as far as there are questions.
            key: of the comparison, see :meth:`compare`.

        Raises:
            CannotMeasure: an engine cannot do it, by its declared capabilities.
            DecisionKnown: another case has decided already.
        """
        known = self.session.not_measured(self.folder, self.session.decided_before())
        if known:
            raise DecisionKnown(known)
        arm = self.arm(serving, prompts, workload, sampling)
        new, old = (replace(arm, engine=engine) for engine in self.session.engines.compared())
        looks = self.looks(UPGRADE_LOOKS, (new, old), blocks)
        return self._compared(new, old, looks, key=key)

    def _compared(
        self, first: Arm, second: Arm, blocks: int | Sequence[int], *, key: str | None
    ) -> Comparison:
        arms = first, second
        setting = self.setting(arms, blocks, key)
        if self.session.planning:
            # All that a test may do with it is `shows`, which notes the claims.
            return cast(Comparison, self.plan(arms, setting))

        limits = limits_of(self.session, self.pair, arms, setting.parts)
        comparison = compare(
            self.session.source(self.pair),
            first,
            second,
            blocks=setting.sizes,
            parts=setting.parts,
            where=setting.where,
            header=self.header(limits),
            key=setting.key,
            turns=turns_of(first, second, setting.parts),
            servers=setting.servers,
            seating=self.session.seating(self.pair, arms),
            machine=self.session.machine,
            untold=partial(self.untold, arms),
            enough=upgrade.refutes if self.session.stops_early else never,
            cannot_hold=cannot_hold(self.session, arms, setting, limits),
            label=self.session.engines.label,
            measured=self.took,
            reused=self.session.count_kept,
        )
        comparison.judged = partial(self.remember, comparison, arms)
        self.comparisons.append(comparison)
        return comparison

    @staticmethod
    def looks(
        usual: tuple[int, ...], arms: Sequence[Arm], blocks: int | Sequence[int] | None
    ) -> int | Sequence[int]:
        """Those that a test gives, else the usual ones, as far as there are questions."""
        return fitting(usual, *arms) if blocks is None else blocks

    def setting(self, arms: Sequence[Arm], blocks: int | Sequence[int], key: str | None) -> Setting:
        """Where and how a comparison of these arms is measured.

        Args:
            arms: all of them.
            blocks: growing numbers of blocks at which claims are looked at.
            key: of the comparison; by default its number in the test.

        Raises:
            CannotMeasure: an engine cannot do it, by its declared capabilities.
            ValueError: another comparison has that key.
        """
        where = self.folder / str(len(self.comparisons))
        self._check(where, *arms)
        key = key or str(len(self.comparisons) + self._planned + 1)
        if key in (comparison.key for comparison in self.comparisons):
            raise ValueError(f"two comparisons of this test have the key {key!r}: rename one")
        planned = (blocks,) if isinstance(blocks, int) else tuple(blocks)
        times = min(getattr(arm.prompts, "times", 1) for arm in arms)
        sizes = self.session.tier.looks(planned, times)
        questions = min(arm.units for arm in arms)
        parts = self.session.tier.parts(planned, times, questions, large=self.pair.large)
        self.session.say.later_s = None if self.session.planning else self._later_s(key)
        servers = servers_for(self.session, self.pair, arms, sizes)
        return Setting(where, key, sizes, parts, servers)

    def untold(self, arms: Sequence[Arm], metric: Metric) -> str | None:
        """Why nothing can be said of a metric: an arm's engine does not tell what it takes, or the
        models know no such questions. None when all is well."""
        whys = (self.session.engines.untold(arm, metric) for arm in arms)
        return cannot_answer(metric, arms, self.pair) or next((why for why in whys if why), None)

    def took(self, seconds: float) -> None:
        """Note how long a block took."""
        self._seconds.append(seconds)

    def _later_s(self, key: str) -> float | None:
        """Estimated seconds of all that this session measures after a comparison."""
        if self.session.replaying:
            return None
        return self.session.costs.later_s(f"{self.finding}/{self.case}", key)

    def remember(
        self, comparison: Comparison | Contrasts, arms: Sequence[Arm], judgement: Judgement
    ) -> None:
        """Keep what the comparison took on this machine; of kept blocks nothing is known."""
        if self._seconds and not self.session.replaying:
            where = f"{self.finding}/{self.case}/{comparison.key}"
            seconds = fmean(self._seconds)
            manners = [manner(arm) for arm in arms]
            self.session.costs.pace.note(where, manners, comparison.blocks, seconds, judgement)
        self._seconds.clear()

    def plan(self, arms: Sequence[Arm], setting: Setting, steps: Steps = own_steps) -> Planned:
        """Note a comparison instead of measuring it.

        Args:
            arms: all of them.
            setting: where and how it would be measured.
            steps: the claims on two arms that a claim is made of.
        """
        limits = limits_of(self.session, self.pair, arms, setting.parts)
        case, plan = f"{self.finding} [{self.case}]", self.session.costs.plan
        if limits is not None and (told := limits.told()):
            self.note(f"{case}: {told}")
        planned = Planned(
            case,
            f"{self.finding}/{self.case}/{setting.key}",
            tuple(arms),
            self.pair,
            setting.sizes,
            setting.parts,
            setting.servers,
            stored_effects(self.session, self.finding, self.case, arms[0]),
            steps=steps,
            seating=self.session.seating(self.pair, arms),
            untold=partial(self.untold, arms),
            limits=limits,
            claimed=plan.comparisons.append,
            set_aside=partial(plan.not_measured.setdefault, case),
        )
        self._planned += 1
        return planned

    def measure(self, arm: Arm, name: str = "run", *, where: Path | None = None) -> Run:
        """One run of an arm, recorded under ``name``; what no claim is judged on. One that an
        earlier session, which was stopped, has recorded is kept.

        Args:
            arm: what is measured.
            name: of its record.
            where: folder of the record, relative to the session's, for a run that several cases
                share; the case's own by default.
        """
        path = (where or self.folder) / f"{name}.jsonl"
        self._check(path.with_suffix(""), arm)
        if self.session.planning:
            raise CannotMeasure(f"the plan ends before the run {name!r}, which has to be measured")
        source = self.session.source(self.pair)
        of = self.header()
        if where is not None:  # what cases share is of none of them
            of = Header(finding=where.parts[0], pair=self.pair.name)
        header = header_of(arm, of, name=name, side=None, blocks=1)
        if kept := source.kept(arm, path, header):
            return kept
        source.prepare([arm])
        return source.run(arm, path, header, Place(header.finding))

    def note(self, text: str) -> None:
        """Keep a sentence for the end of the session, or for its plan; once."""
        session = self.session
        notes = session.costs.plan.checks if session.planning else session.messages
        if text not in notes:
            notes.append(text)

    def _check(self, where: Path, *arms: Arm) -> None:
        """Raises CannotMeasure where an arm's engine cannot do what it asks."""
        left_out = self.session.tier.leaves_out(self.tier)
        cannot = (self.session.engines.cannot(arm) or no_room(arm, self.pair) for arm in arms)
        models = [model for arm in arms for model in self.session.engines.models_of(arm, self.pair)]
        reasons = (left_out, *cannot, self.session.needs.lacking(models))
        why = next((why for why in reasons if why), None)
        why = self.session.not_measured(where, why or self.session.no_memory(self.pair, arms))
        if why:
            raise CannotMeasure(why)
        if self.session.planning:
            self.session.needs.note(f"{self.finding} [{self.case}]", models)
            return
        for arm in arms:
            self.session.engines.remember(arm)

    def refused(self, why: str) -> str | None:
        """Why the comparison that was begun last is left out, because an engine does not start with
        a number format; None where it is told as an error: of two builds one served it before."""
        if self.session.engines.builds is not None:
            return None
        return self.session.not_measured(self.folder / str(len(self.comparisons) - 1), why)

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        """Of the comparisons that were judged."""
        return tuple(judgement for c in self.comparisons for judgement in c.judgements)

    def conclude(self, not_measured: str | None = None) -> Row:
        """Decide how the case ends; proposes to store what the baseline words allow.

        Args:
            not_measured: why a part of the case cannot be measured on these engines.

        Raises:
            ClaimsNothing: no comparison was made, or nothing was claimed of one.
        """
        judgements = self.judgements
        aside = [c.set_aside for c in self.comparisons if isinstance(c, Comparison)]
        not_measured = "; ".join(filter(None, (*aside, not_measured))) or None
        if not_measured is not None and not judgements:
            return self._row(Outcome("skip", [], [not_measured]))
        if not self.comparisons:
            raise ClaimsNothing("the finding compared nothing: call compare(...).shows(...)")
        if not all(c.judgements for c in self.comparisons) and not_measured is None:
            raise ClaimsNothing("compare(...) without .shows(...): nothing was claimed of it")
        return self._row(
            outcome_of(self.session, self.finding, self.case, judgements, not_measured)
        )

    def arm(
        self,
        serving: Serving,
        prompts: Sequence[Prompt] | None,
        workload: Workload | None,
        sampling: Sampling | None,
    ) -> Arm:
        if prompts is None or workload is None:
            raise TypeError("compare(Serving, ...) needs prompts= and workload=")
        return Arm(serving, prompts, workload, sampling or Sampling(self.pair.generous))

    def header(self, limits: Limits | None = None) -> Header:
        """What every record of the case says of it, and what the GPUs allow, where it is known."""
        data = data_revisions(self.pair.tiers.values(), self.session.data)
        notes: dict[str, Any] = {DATA: data} if data else {}
        if limits is not None and (told := limits.told()):
            notes[REMARKS] = [told]
        return Header(finding=self.finding, case=self.case, pair=self.pair.name, notes=notes)

    def _row(self, outcome: Outcome) -> Row:
        return Row(
            finding=self.finding,
            case=self.case,
            sentence=self.sentence,
            cite=self.cite,
            outcome=outcome.ending,
            judgements=self.judgements,
            statuses=tuple(outcome.statuses),
            notes=tuple(outcome.notes),
            levels=tuple(outcome.levels),
            stored_on=outcome.stored_on,
            pace=outcome.pace,
            pair=self.pair.name,
            attempt=self.attempt,
            records=str(self.session.shown_records / self.folder),
        )
