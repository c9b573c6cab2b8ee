"""Several arms in interleaved run blocks, and claims on contrasts between them as one family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, cast

from ..datasets.prompts import Prompt
from ..experiment.arm import Arm
from ..experiment.serving import Role, Serving
from ..experiment.turns import turns_of
from ..experiment.workloads import Sampling, Workload
from ..metrics.base import Metric
from ..verdicts.claims import Claim, Margin
from ..verdicts.contrasts import CurveClaim, Step, on_effect, verdict_of, versus
from ..verdicts.judge import Blocks, Judged, Look, Spread
from ..verdicts.judgement import Judgement, Part, judge_parts
from .amount import Setting
from .comparison import CannotMeasure, MachineOf, remarks_on, spread_between
from .run_blocks import LETTERS, RunBlocks, Runs, ignore, names_of
from .seating import split

if TYPE_CHECKING:
    from .case import FindingCase

CURVE_LOOKS = (4, 8, 12, 16)
"""Numbers of blocks at which the claims on a curve are looked at when a finding does not say."""
EFFECT_LOOKS = (8, 16, 24)
"""The same of two effects."""
ROLES: tuple[Role, ...] = ("reasoning", "plain")
Said = Claim | CurveClaim


@dataclass(frozen=True)
class Contrast:
    """Claims on two of several arms, or on the effects that two pairs of arms show.

    Attributes:
        claims: on the first arm, or effect, against the second.
        arms: places of both arms; of two effects all four.
        part: of the comparison's key, empty for the only contrast.
        said: what tells it from others, for people.
    """

    claims: tuple[Claim, ...]
    arms: tuple[int, ...]
    part: str = ""
    said: str = ""

    def blocks(self, blocks: Sequence[Runs]) -> Blocks:
        """What is compared in each block."""
        if len(self.arms) == 2:
            first, second = self.arms
            return [(runs[first], runs[second]) for runs in blocks]
        a, b, c, d = self.arms
        return [(versus(runs[a], runs[b]), versus(runs[c], runs[d])) for runs in blocks]

    def spread(self, runs: Runs, machine: MachineOf) -> Spread:
        """What is known of the spread between servers of one build."""
        pairs = [
            spread_between(runs[first], runs[second], machine)
            for first, second in zip(self.arms[::2], self.arms[1::2], strict=True)
        ]
        if len(pairs) == 1:
            return pairs[0]
        one, other = pairs
        return lambda metric: one(metric).with_another(other(metric))


@dataclass
class Contrasts:
    """Several arms that are measured in blocks as far as the claims of :meth:`shows` need them.

    Attributes:
        key: of the comparison within its test case.
        groups: the arms of which servers are up at the same time; all, where memory allows.
        block: all runs of a block, by its number; None where records end before it.
        setting: where and how it is measured.
        contrasts: what claims compare.
        machine: what is known of an engine on a class of hardware.
        untold: why an arm's engine does not tell what a metric takes; None when all do.
        summary: what the judgements together say of the claims, as sentences.
        blocks: what was measured so far.
        judgements: what :meth:`shows` found, one per contrast; none before.
        judged: told what was found, as one judgement.
    """

    groups: Sequence[RunBlocks]
    block: Callable[[int], Runs | None]
    setting: Setting
    contrasts: Callable[[Sequence[Said]], Sequence[Contrast]]
    machine: MachineOf
    untold: Callable[[Metric], str | None]
    summary: Callable[[Sequence[Said], Sequence[Judgement]], Iterator[str]]
    judgements: tuple[Judgement, ...] = ()
    judged: Callable[[Judgement], None] = ignore
    blocks: list[Runs] = field(default_factory=list, init=False)

    @property
    def key(self) -> str:
        """Of the comparison within its test case."""
        return self.setting.key

    def shows(self, *claims: Said) -> tuple[Judgement, ...]:
        """Measure and judge the claims, which stand together, until each is decided or the
        comparison's maximum is reached; see ``Comparison.shows``.

        Raises:
            CannotMeasure: no claim can be measured on these engines; nothing was started.
        """
        if not claims:
            raise ValueError("shows() needs at least one claim")
        if self.judgements:
            raise ValueError(
                "shows() was called before: all claims on a comparison stand together in one call"
            )
        left_out = {claim: why for claim in claims if (why := self.untold(claim.metric))}
        measured = [claim for claim in claims if claim not in left_out]
        if not measured:
            raise CannotMeasure("; ".join(dict.fromkeys(left_out.values())))
        not_measured = [f"{claim} is not measured: {why}" for claim, why in left_out.items()]
        contrasts = self.contrasts(measured)
        servers = self.setting.servers([claim for each in contrasts for claim in each.claims])
        for group in self.groups:
            group.servers = servers
        found: Sequence[Judgement] = ()
        for at, size in enumerate(self.setting.sizes):
            if not self._measured(size):
                break  # records end here: they were decided, or cut short, at an earlier look
            found = self._look(contrasts, at, found, not_measured)
            if all(judgement.decided for judgement in found):
                break
        assert found
        *others, last = found
        remarks = (*last.remarks, *self.summary(measured, found))
        self.judgements = (*others, replace(last, remarks=remarks))
        self.judged(_as_one(found))
        return self.judgements

    def _look(
        self,
        contrasts: Sequence[Contrast],
        at: int,
        before: Sequence[Judgement],
        not_measured: Sequence[str],
    ) -> Sequence[Judgement]:
        blocks = self.blocks
        metrics = [claim.metric for each in contrasts for claim in each.claims]
        remarks = tuple(remarks_on(blocks, metrics, self.machine))
        parts = [
            Part(
                each.claims,
                each.blocks(blocks),
                f"{self.key}{each.part}",
                each.said,
                each.spread(blocks[0], self.machine),
                before[i] if before else None,
                () if i else remarks,
                () if i else not_measured,
            )
            for i, each in enumerate(contrasts)
        ]
        return judge_parts(parts, Look(self.setting.sizes, at))

    def _measured(self, size: int) -> bool:
        """Have at least ``size`` blocks; False where that cannot be had any more."""
        while len(self.blocks) < size:
            runs = self.block(len(self.blocks))
            if runs is None:
                return False
            self.blocks.append(runs)
        return True


def _as_one(judgements: Sequence[Judgement]) -> Judgement:
    """All verdicts in one judgement, each under its whole key."""
    verdicts = tuple(replace(j, slug=j.key) for each in judgements for j in each.verdicts)
    return replace(judgements[0], verdicts=verdicts)


def compare_curve(
    case: FindingCase,
    points: Mapping[float, Arm],
    *,
    of: str,
    blocks: int | Sequence[int] | None = None,
    key: str | None = None,
) -> Contrasts:
    """Measure arms that differ by one number, interleaved; judge the whole curve with
    ``.shows(rises(...), falls(...), flat(...), levels_off(...))``.

    Args:
        case: the test case.
        points: the arms by their numbers, growing.
        of: what the numbers count, for people: ``in flight``, ``tokens``.
        blocks: growing numbers of blocks, each a run of every arm, at which the claims are looked
            at; by default ``CURVE_LOOKS``, as far as there are questions.
        key: of the comparison among the stored numbers; by default its number in the test.

    Raises:
        CannotMeasure: an engine cannot do it, by its declared capabilities.
        ValueError: fewer than 2 points, more than 16, or they do not grow.
    """
    numbers, arms = list(points), list(points.values())
    if not 2 <= len(numbers) <= len(LETTERS) or numbers != sorted(set(numbers)):
        raise ValueError(f"a curve needs 2 to {len(LETTERS)} points, growing, not {numbers}")

    def contrasts(claims: Sequence[Said]) -> list[Contrast]:
        steps: dict[Step, dict[str, Claim]] = {}
        for claim in claims:
            if not isinstance(claim, CurveClaim):
                raise TypeError(f"{claim}: a curve shows rises, falls, flat or levels_off")
            for step, part in claim.steps(numbers):
                steps.setdefault(step, {})[part.slug] = part
        return [
            Contrast(tuple(parts.values()), step, _part(numbers, step), _said(numbers, step))
            for step, parts in steps.items()
        ]

    def summary(claims: Sequence[Said], found: Sequence[Judgement]) -> Iterator[str]:
        by_key = {judgement.comparison: judgement.verdicts for judgement in found}
        for claim in claims:
            assert isinstance(claim, CurveClaim)
            steps = dict.fromkeys(step for step, _ in claim.steps(numbers))
            judged = {step: by_key[f"{setting.key}{_part(numbers, step)}"] for step in steps}
            verdict = verdict_of(claim, numbers, judged)
            yield f"{claim}: {verdict}{_levels(claim, numbers, of, judged)}"

    def planned(claim: Said) -> list[tuple[str, Claim]]:
        return [(each.part, part) for each in contrasts([claim]) for part in each.claims]

    setting = case.setting(arms, case.looks(CURVE_LOOKS, arms, blocks), key)
    if case.session.planning:
        return cast(Contrasts, case.plan(arms, setting, planned))
    return made_of(case, setting, arms, contrasts, summary)


def _part(numbers: Sequence[float], step: Step) -> str:
    return f":{numbers[step[0]]:g}-vs-{numbers[step[1]]:g}"


def _said(numbers: Sequence[float], step: Step) -> str:
    return f"{numbers[step[0]]:g} against {numbers[step[1]]:g}"


def _levels(
    claim: CurveClaim, numbers: Sequence[float], of: str, judged: Mapping[Step, Sequence[Judged]]
) -> str:
    """The metric's values at the points that its claim speaks of; empty where there are none."""
    known: dict[int, float] = {}
    for step, verdicts in judged.items():
        for one in verdicts:
            if one.metric_slug == claim.metric.slug and one.levels:
                known |= dict(zip(step, one.levels, strict=True))
    share = claim.metric.unit == "share"
    told = [
        f"{100 * known[i]:.1f} % at {numbers[i]:g}"
        if share
        else f"{known[i]:.4g} at {numbers[i]:g}"
        for i in sorted(known)
    ]
    unit = "" if share else f" ({claim.metric.unit})"
    return f"; {', '.join(told)} {of}{unit}" if told else ""


def compare_effects(
    case: FindingCase,
    serving: Serving,
    *,
    against: Serving,
    prompts: Sequence[Prompt],
    workload: Workload,
    sampling: Sampling | None = None,
    blocks: int | Sequence[int] | None = None,
    key: str | None = None,
) -> Contrasts:
    """Measure what a change of the serving does to the reasoning model and to the plain one of the
    pair, in blocks of four runs; judge how far the two effects differ with ``.shows(...)``.

    ``unchanged(TBT, within=pct(10))`` then says that the effect on TBT is the same on both within
    10 %: the ratio of the two ratios. Where four servers do not fit into the GPUs' memory, the two
    pairs of arms take turns.

    Args:
        case: the test case.
        serving, against: the change, and what it is against; the reasoning model's.
        prompts, workload, sampling: what all four are asked, when and how.
        blocks: growing numbers of blocks at which the claims are looked at; by default
            ``EFFECT_LOOKS``, as far as there are questions.
        key: of the comparison among the stored numbers; by default its number in the test.

    Raises:
        CannotMeasure: an engine cannot do it, by its declared capabilities.
    """
    servings = [replace(each, model=of) for of in ROLES for each in (serving, against)]
    arms = [case.arm(each, prompts, workload, sampling) for each in servings]
    places = tuple(range(len(arms)))

    def contrasts(claims: Sequence[Said]) -> list[Contrast]:
        plain = [claim for claim in claims if isinstance(claim, Claim)]
        if len(plain) < len(claims):
            raise TypeError("two effects are compared with lower, higher, unchanged and so on")
        return [Contrast(tuple(on_effect(claim) for claim in plain), places)]

    def summary(claims: Sequence[Said], found: Sequence[Judgement]) -> Iterator[str]:
        for claim, judged in zip(claims, found[0].verdicts, strict=True):
            if judged.levels:
                one, other = (_effect(judged, level) for level in _usual(found[0], judged))
                yield f"{claim.metric}: {one} on the reasoning model, {other} on the plain model"

    def planned(claim: Said) -> list[tuple[str, Claim]]:
        return [("", part) for part in contrasts([claim])[0].claims]

    setting = case.setting(arms, case.looks(EFFECT_LOOKS, arms, blocks), key)
    setting = replace(setting, servers=partial(_servers_for_effects, setting))
    if case.session.planning:
        return cast(
            Contrasts,
            case.plan(arms, setting, lambda claim: [("", contrasts([claim])[0].claims[0])]),
        )
    return made_of(case, setting, arms, contrasts, summary)


def _servers_for_effects(setting: Setting, claims: Sequence[Claim]) -> int:
    """Each effect has its own spread between servers, so theirs is larger by the root of two."""
    narrower = [
        replace(claim, margin=Margin(claim.margin.size / 2**0.5, claim.margin.scale))
        for claim in claims
    ]
    return setting.servers(narrower)


def _usual(judgement: Judgement, judged: Judged) -> Sequence[float]:
    """Both effects: medians of the blocks, as few of them may be far off, or of answers the means
    over all."""
    slug = judged.metric_slug
    blocks = [block for block in judgement.blocks if slug in block.levels and not block.void]
    kept = [block.levels[slug] for block in blocks]
    if judged.replicate == "blocks" and kept:
        return [median(levels) for levels in zip(*kept, strict=True)]
    return judged.levels or ()


def _effect(judged: Judged, level: float) -> str:
    percent = judged.scale == "percent"
    return f"{100 * (level - 1 if percent else level):+.1f} {'%' if percent else 'pp'}"


def made_of(
    case: FindingCase,
    setting: Setting,
    arms: Sequence[Arm],
    contrasts: Callable[[Sequence[Said]], Sequence[Contrast]],
    summary: Callable[[Sequence[Said], Sequence[Judgement]], Iterator[str]],
) -> Contrasts:
    """The comparison of a case, ready to be measured."""
    session = case.session
    names = dict(zip(LETTERS, names_of(arms, session.engines.label), strict=False))
    every = RunBlocks(
        session.source(case.pair),
        dict(zip(LETTERS, arms, strict=False)),
        names,
        setting.sizes,
        max(setting.parts, setting.sizes[-1]),
        setting.where,
        case.header(),
        turns=min(turns_of(arms[0], arm, setting.parts) for arm in arms),
        measured=case.took,
        reused=session.count_kept,
    )
    groups, block = split(every, session.seating(case.pair, arms))
    untold = partial(case.untold, arms)
    made = Contrasts(groups, block, setting, contrasts, session.machine, untold, summary)
    made.judged = partial(case.remember, made, arms)
    case.comparisons.append(made)
    return made
