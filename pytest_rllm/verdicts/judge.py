"""Claims judged on paired run blocks: the effect of each, its interval and its verdict."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, Self

from ..metrics.base import Metric, MetricUnavailable
from ..records.run import Run, ServerId
from .claims import Claim, Verdict
from .effects import Effects, Kind
from .intervals import CONFIDENCE
from .sequential import confidences
from .server_spread import NO_SPREAD, ServerSpread
from .shares import no_difference
from .tails import lacking

DOUBLED = math.log(2)
"""For ratios: the change at least that one more pair may show."""

SERVERS_HIDE = (
    "two servers of one build may differ by this much: more blocks on these servers cannot decide, "
    "more fresh servers can"
)

ONLY_WITHOUT_VOID = "holds only without the void blocks"


@dataclass(frozen=True)
class Judged:
    """A claim with its effect and verdict; plain values, so that it travels as JSON.

    ``slug`` and ``metric_slug`` are the claim's and the metric's keys, ``comparison`` that of the
    comparison within its test case: together they key what is stored, words do not.

    ``estimate``, ``low`` and ``high`` are log ratios when ``scale`` is ``percent`` and differences
    when it is ``points``; ``confidence`` is that of ``low`` to ``high``, higher where data are
    looked at more than once; ``detectable`` is how far beyond the margin, on the same scale, a true
    effect must lie for the claim to be refuted four times out of five, were it the first of its
    family; ``levels`` are the arms' mean values in the metric's unit; ``further`` more replicates
    would decide as often, in ``further_s`` seconds; ``no_difference`` is the p value of "the arms'
    answers do not differ at all" (McNemar, or sign flips), where that is a question.
    """

    claim: str
    metric: str
    scale: str
    verdict: Verdict
    why: str | None
    arms: tuple[str, str]
    levels: tuple[float, float] | None = None
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    n: int = 0
    replicate: str = ""
    detectable: float | None = None
    further: int | None = None
    further_s: float | None = None
    no_difference: float | None = None
    slug: str = ""
    metric_slug: str = ""
    comparison: str = "1"

    @property
    def effect_key(self) -> str:
        """Key of the effect among a case's stored numbers: ``1/tbt/pct``."""
        return f"{self.comparison}/{self.metric_slug}/{'pct' if self.scale == 'percent' else 'pp'}"

    @property
    def level_keys(self) -> tuple[str, str]:
        """Keys of both arms' levels: ``1/a/tbt`` and ``1/b/tbt``."""
        return f"{self.comparison}/a/{self.metric_slug}", f"{self.comparison}/b/{self.metric_slug}"

    @property
    def key(self) -> str:
        """Key of the claim among a case's known deviations: ``1/tbt-lower-10pct``."""
        return f"{self.comparison}/{self.slug}"

    def to_json(self) -> dict[str, Any]:
        """Plain values; a bound that is not known is None, as JSON has no infinity."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The verdict that :meth:`to_json` told; an unknown bound is infinite again."""
        pairs = {key: tuple(content[key]) for key in ("arms", "levels") if content.get(key)}
        bounds = {}
        if content.get("estimate") is not None:
            bounds = {
                key: side * math.inf
                for key, side in (("low", -1), ("high", 1), ("detectable", 1))
                if content.get(key) is None
            }
        return cls(**{**content, **pairs, **bounds})

    def in_percent(self, value: float) -> float:
        """A value on the effect's scale as per cent or percentage points."""
        return 100 * (math.expm1(value) if self.scale == "percent" else value)


Blocks = Sequence[tuple[Run, Run]]


@dataclass(frozen=True)
class Look:
    """When a family of claims is judged: the sizes planned, and which of them it is.

    Attributes:
        sizes: run blocks at each look, growing; one for a comparison of a fixed size.
        at: index of the present look.
    """

    sizes: tuple[int, ...]
    at: int

    def confidence(self, alpha: float = 1 - CONFIDENCE) -> float:
        """Two-sided, of the intervals at this look, for an error of ``alpha`` over all looks."""
        return confidences(self.sizes, alpha)[self.at]


def judge(
    claim: Claim,
    blocks: Blocks,
    arms: tuple[str, str],
    invalid: Sequence[str] = (),
) -> Judged:
    """Judge one claim on paired run blocks; ``invalid`` are reasons why they cannot be judged."""
    return judge_family([claim], blocks, arms, {claim.slug: invalid})[0]


Spread = Callable[[Metric], ServerSpread]
"""What is known beforehand of the spread between servers of one build, see ``machines``."""


def no_spread(_metric: Metric) -> ServerSpread:
    """Servers of one build do not differ."""
    return NO_SPREAD


def judge_family(
    claims: Sequence[Claim],
    blocks: Blocks,
    arms: tuple[str, str],
    invalid: Mapping[str, Sequence[str]] = MappingProxyType({}),
    look: Look | None = None,
    spread: Spread = no_spread,
    void: Collection[int] = (),
) -> list[Judged]:
    """Judge the claims of one comparison on its paired run blocks.

    A comparison succeeds when all of its claims hold and fails when one is refuted. "Holds" needs
    no correction for their number, because each claim must be shown. "Refuted" is corrected by
    Holm's method: one of many claims is refuted by chance no more often than a single one. A claim
    about runs that holds of the typical block must pass the tests of ``tails``, too.

    Args:
        claims: the family.
        blocks: pairs of runs.
        arms: their names.
        invalid: by a claim's slug, reasons why it cannot be judged.
        look: which look at growing data this is; the only one by default.
        spread: what is known of the spread between servers of one build; what the servers of these
            blocks show of it is added.
        void: indices of blocks that say nothing of times; claims about answers keep them. A claim
            that holds without them must hold with them, too: what is left out may be the effect.
    """
    look = look or Look((max(1, len(blocks)),), 0)
    kept = [pair for i, pair in enumerate(blocks) if i not in void]
    prepared = []
    for claim in claims:
        whole = _prepare(claim, blocks, invalid.get(claim.slug, ()), spread)
        if void and claim.metric.per == "run":
            ready = _prepare(claim, kept, invalid.get(claim.slug, ()), spread)
            prepared.append(replace(ready, whole=whole))
        else:
            prepared.append(whole)
    refuted, holm = _refuted(claims, prepared, look)
    strictest = look.confidence((1 - CONFIDENCE) / len(claims))
    return [
        _judged(claim, ready, arms, look, strictest, None if i in refuted else holm)
        for i, (claim, ready) in enumerate(zip(claims, prepared, strict=True))
    ]


@dataclass(frozen=True)
class _Prepared:
    """The blocks that a claim is judged on, and its effects or why there are none; ``whole`` is
    the same of all blocks, where void ones were left out."""

    blocks: Blocks
    effects: Effects | None
    replicate: str = ""
    why: str | None = None
    whole: _Prepared | None = None


def _prepare(claim: Claim, blocks: Blocks, invalid: Sequence[str], spread: Spread) -> _Prepared:
    if invalid or not blocks:
        return _Prepared(blocks, None, why="; ".join(invalid) or "there is no block to judge")
    try:
        effects, replicate = _effects(claim.metric, claim.margin.scale, blocks)
        effects = replace(effects, spread=_between_servers(spread(claim.metric), effects, blocks))
        effects.interval()
    except (MetricUnavailable, ValueError) as error:
        return _Prepared(blocks, None, why=str(error))
    return _Prepared(blocks, effects, replicate)


def _refuted(
    claims: Sequence[Claim], prepared: Sequence[_Prepared], look: Look
) -> tuple[set[int], float]:
    """Holm's step-down: which claims are refuted, each at the level that its rank allows, and the
    confidence at which the others are not."""
    refuted: set[int] = set()
    confidence = look.confidence()
    while len(refuted) < len(claims):
        confidence = look.confidence((1 - CONFIDENCE) / (len(claims) - len(refuted)))
        more = {
            i
            for i, (claim, ready) in enumerate(zip(claims, prepared, strict=True))
            if i not in refuted
            and ready.effects is not None
            and claim.of(ready.effects.interval(confidence)) == "refuted"
        }
        if not more:
            break
        refuted |= more
    return refuted, confidence


def _judged(
    claim: Claim,
    ready: _Prepared,
    arms: tuple[str, str],
    look: Look,
    strictest: float,
    holm: float | None,
) -> Judged:
    """``strictest`` is the confidence that refutes any one of the claims; ``holm`` that at which
    this claim is not refuted, None when it is."""
    metric, blocks = claim.metric, ready.blocks
    about: dict[str, Any] = {
        "claim": str(claim),
        "metric": metric.name,
        "scale": claim.margin.scale,
        "arms": arms,
        "slug": claim.slug,
        "metric_slug": metric.slug,
    }
    if ready.effects is None:
        return Judged(verdict="invalid", why=ready.why, **about)
    effect = decisive = ready.effects.interval(look.confidence())
    verdict, why = claim.of(effect), effect.why
    if verdict == "refuted" and holm is not None:
        verdict, why = "inconclusive", "refuted alone, not as one of several claims (Holm)"
        decisive = ready.effects.interval(holm)
    if verdict == "holds" and ready.whole is not None:
        of_all = ready.whole.effects
        whole = None if of_all is None else of_all.interval(look.confidence())
        if whole is None or claim.of(whole) != "holds":
            verdict, why, decisive = "inconclusive", ONLY_WITHOUT_VOID, whole or effect
    further = None
    if verdict == "holds":
        imported = blocks[0][0].header.imported is not None
        lacks = lacking(claim, ready.effects, look.confidence(), imported=imported)
        if lacks is not None:
            verdict, why, further = "inconclusive", lacks.why, lacks.further
    elif verdict == "inconclusive":
        margin = claim.nearest(effect.estimate)
        further = decisive.further(margin)
        if decisive.unresolvable(margin):
            why = "; ".join(filter(None, (why, SERVERS_HIDE)))
    each_s = sum(run.closing["wall_s"] for pair in blocks for run in pair if run.closing) / effect.n
    answers = ready.replicate == "questions" and claim.margin.scale == "points"
    return Judged(
        verdict=verdict,
        why=why,
        levels=_levels(metric, blocks),
        estimate=effect.estimate,
        low=effect.low,
        high=effect.high,
        confidence=effect.confidence,
        n=effect.n,
        replicate=ready.replicate,
        detectable=ready.effects.interval(strictest).detectable,
        further=further,
        further_s=further and round(further * each_s, 1),
        no_difference=(
            no_difference(ready.effects.values, ready.effects.clusters or ()) if answers else None
        ),
        **about,
    )


def _levels(metric: Metric, blocks: Blocks) -> tuple[float, float]:
    firsts, seconds = zip(*(metric.of_pair(a, b) for a, b in blocks), strict=True)
    return sum(firsts) / len(blocks), sum(seconds) / len(blocks)


def _effects(metric: Metric, scale: str, blocks: Blocks) -> tuple[Effects, str]:
    """Paired by question where the arms were asked the same ones, else by block."""
    size = None if metric.timed else 1.0 if scale == "points" else DOUBLED
    if metric.per == "pair" or (metric.per == "question" and _same_questions(blocks)):
        values = [metric.of_question_pairs(a, b) for a, b in blocks]
        firsts = _averaged([a for a, _ in values])
        seconds = _averaged([b for _, b in values])
        shared = [question for question in firsts if question in seconds]
        if not shared:
            raise MetricUnavailable(f"{metric}: no question was answered in both arms")
        templates = {s.prompt.id: s.prompt.template for a, _ in blocks for s in a.samples}
        effects = [_one_effect(metric, scale, firsts[q], seconds[q]) for q in shared]
        kind: Kind = "mean" if metric.timed else "share"
        if size and scale == "percent":
            size = max(size, _longest(metric, blocks, seconds), *map(abs, effects))
        return Effects(effects, kind, [templates[q] for q in shared], size), "questions"
    effects = [_one_effect(metric, scale, metric.of_run(a), metric.of_run(b)) for a, b in blocks]
    if size and not metric.bursty:  # one request that is altogether different
        size /= max(1.0, sum(len(run.samples) for pair in blocks for run in pair) / 2 / len(blocks))
    return Effects(effects, "location", identical=size), "blocks"


def _longest(metric: Metric, blocks: Blocks, usual: Mapping[str, float]) -> float:
    """How much longer the shortest answer could have been (log ratio): its whole budget."""
    samplings = [run.header.sampling for run in blocks[0]]
    if metric.unit != "token" or None in samplings:
        return 0.0
    budget = max(sampling.max_tokens for sampling in samplings if sampling)
    return math.log(max(1.0, budget / max(1.0, min(usual.values()))))


def _between_servers(known: ServerSpread, effects: Effects, blocks: Blocks) -> ServerSpread:
    """The spread of the typical effect that comes from the servers: what is known beforehand, with
    what the pairs of servers behind the blocks show."""
    by_pair: defaultdict[tuple[ServerId, ...], list[int]] = defaultdict(list)
    for i, pair in enumerate(blocks):
        by_pair[tuple(run.server for run in pair)].append(i)
    if all(first == second for first, second in by_pair):
        return NO_SPREAD
    servers = min(len({pair[i] for pair in by_pair}) for i in (0, 1))
    if 1 < servers == len(blocks):
        return NO_SPREAD  # every block has servers of its own: the scatter of the blocks shows it
    if effects.kind == "location" and servers == len(by_pair):
        known = known.pooled([[effects.values[i] for i in each] for each in by_pair.values()])
    shares = [len(each) / len(blocks) for each in by_pair.values()]
    return known.of_mean(min(servers, 1 / sum(share**2 for share in shares)))


def _same_questions(blocks: Blocks) -> bool:
    return all(
        {s.prompt.id for s in a.samples} == {s.prompt.id for s in b.samples} for a, b in blocks
    )


def _averaged(blocks: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean per question over the blocks in which it was asked."""
    questions = dict.fromkeys(question for block in blocks for question in block)
    return {
        q: sum(block[q] for block in blocks if q in block) / sum(q in block for block in blocks)
        for q in questions
    }


def _one_effect(metric: Metric, scale: str, first: float, second: float) -> float:
    if scale == "points":
        return first - second
    if first <= 0 or second <= 0:
        raise ValueError(f"{metric} was {first:g} against {second:g}: a ratio needs both above 0")
    return math.log(first / second)
