"""Claims judged on paired run blocks: the effect of each, its interval and its verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, Self

from ..metrics.base import Metric, MetricUnavailable
from .claims import Claim, Verdict
from .effects import Blocks as Blocks
from .effects import Effects, between_servers, effects_of
from .intervals import CONFIDENCE
from .sequential import confidences
from .server_spread import NO_SPREAD, ServerSpread
from .shares import no_difference
from .tails import lacking

SERVERS_HIDE = (
    "two servers of one build may differ by this much: more blocks on these servers cannot decide, "
    "more fresh servers can"
)

ONLY_WITHOUT_VOID = "holds only without the void blocks"


REACH_S = 3600.0
"""Longer than this nobody measures for one claim that is undecided."""
MORE_QUESTIONS = 10


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
    def within_reach(self) -> bool:
        """Whether more replicates would decide that can be had: within an hour, and of questions
        no more than MORE_QUESTIONS times those that were asked, as data sets have an end."""
        if self.further is None:
            return False
        enough = self.replicate != "questions" or self.further <= MORE_QUESTIONS * max(1, self.n)
        return enough and (self.further_s or 0.0) <= REACH_S

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


@dataclass(frozen=True)
class Evidence:
    """The claims on one comparison, and the blocks that they are judged on.

    Attributes:
        claims: on the comparison.
        blocks: pairs of runs.
        arms: their names.
        invalid: by a claim's slug, reasons why it cannot be judged.
        spread: what is known of the spread between servers of one build; what the servers of these
            blocks show of it is added.
        void: indices of blocks that say nothing of times; claims about answers keep them. A claim
            that holds without them must hold with them, too: what is left out may be the effect.
    """

    claims: Sequence[Claim]
    blocks: Blocks
    arms: tuple[str, str]
    invalid: Mapping[str, Sequence[str]] = field(default_factory=dict)
    spread: Spread = no_spread
    void: Collection[int] = ()

    def prepared(self) -> list[_Prepared]:
        """Per claim the blocks and effects that it is judged on."""
        kept = [pair for i, pair in enumerate(self.blocks) if i not in self.void]
        found = []
        for claim in self.claims:
            why = self.invalid.get(claim.slug, ())
            whole = _prepare(claim, self.blocks, why, self.spread)
            if self.void and claim.metric.per == "run":
                whole = replace(_prepare(claim, kept, why, self.spread), whole=whole)
            found.append(whole)
        return found


def judge_family(
    claims: Sequence[Claim],
    blocks: Blocks,
    arms: tuple[str, str],
    invalid: Mapping[str, Sequence[str]] = MappingProxyType({}),
    look: Look | None = None,
    spread: Spread = no_spread,
    void: Collection[int] = (),
) -> list[Judged]:
    """Judge the claims of one comparison on its paired run blocks, see :func:`judge_together`.

    Args:
        claims, blocks, arms, invalid, spread, void: as of :class:`Evidence`.
        look: which look at growing data this is; the only one by default.
    """
    evidence = Evidence(claims, blocks, arms, invalid, spread, void)
    return judge_together([evidence], look)[0]


def judge_together(families: Sequence[Evidence], look: Look | None = None) -> list[list[Judged]]:
    """Judge the claims of comparisons that stand or fall together; they may share runs.

    All succeed when all of their claims hold and fail when one is refuted. "Holds" needs no
    correction for their number, because each claim must be shown. "Refuted" is corrected by Holm's
    method, whatever the effects share: one of many claims is refuted by chance no more often than a
    single one. A claim about runs that holds of the typical block must pass the tests of ``tails``,
    too.

    Args:
        families: the claims of each comparison with their blocks; as many blocks of each.
        look: which look at growing data this is; the only one by default.
    """
    look = look or Look((max(1, *(len(each.blocks) for each in families), 1),), 0)
    claims = [claim for each in families for claim in each.claims]
    prepared = [ready for each in families for ready in each.prepared()]
    refuted, holm = _refuted(claims, prepared, look)
    strictest = look.confidence((1 - CONFIDENCE) / len(claims))
    arms = [each.arms for each in families for _ in each.claims]
    judged = iter(
        _judged(claim, ready, names, look, strictest, None if i in refuted else holm)
        for i, (claim, ready, names) in enumerate(zip(claims, prepared, arms, strict=True))
    )
    return [[next(judged) for _ in each.claims] for each in families]


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
        effects, replicate = effects_of(claim.metric, claim.margin.scale, blocks)
        effects = replace(effects, spread=between_servers(spread(claim.metric), effects, blocks))
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
