"""All that one comparison shows, in one immutable value."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from ..metrics.base import MetricUnavailable
from .claims import Claim, Verdict
from .contrasts import checked_both
from .judge import Blocks, Evidence, Judged, Look, Spread, judge_together, no_spread
from .precedence import overall
from .reasons import Reason, Side
from .validity import Checked, differ

ALPHA = 0.01
"""A difference within the margin is remarked upon when its p value is below this."""


@dataclass(frozen=True)
class Block:
    """What one pair of runs measured, for plots and tables.

    Attributes:
        number: of the block, from 1.
        levels: per metric's slug the value of either arm, in the metric's unit.
        void: why the block says nothing of times; None when it does.
    """

    number: int
    levels: Mapping[str, tuple[float, float]]
    void: str | None = None


@dataclass(frozen=True)
class Judgement:
    """What a comparison shows: plain values, from which nothing has to be worked out again.

    Attributes:
        comparison: its key within the test case, ``"1"`` unless the test names it.
        arms: the arms' names, for people.
        verdicts: one per claim, in the order in which they were claimed.
        reasons: why evidence cannot be used, each once, with the claims that it makes invalid.
        spreads: standard error over the blocks of each level, by ``Judged.level_keys``.
        blocks: what every block measured.
        remarks: what a reader should know and what is no reason to fail.
        match: what must be equal for stored numbers to speak of the same thing: ``hardware``,
            ``engine``, ``engine_version``, ``models``, ``client``, ``arms`` (fingerprints).
        machine: fingerprint of the machine that was measured on; empty where it is unknown.
        reference_s: median over the runs of the seconds that a load which is no engine took beside
            them; None where it was not timed.
        not_measured: claims that were left out because an engine does not tell what they rest on,
            as sentences.
        claims: what was claimed; known in the session that judged, and not part of the JSON.
    """

    comparison: str
    arms: tuple[str, str]
    verdicts: tuple[Judged, ...]
    reasons: tuple[Reason, ...] = ()
    spreads: Mapping[str, float] = field(default_factory=dict)
    blocks: tuple[Block, ...] = ()
    remarks: tuple[str, ...] = ()
    match: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""
    reference_s: float | None = None
    not_measured: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = field(default=(), repr=False, compare=False)

    @property
    def verdict(self) -> Verdict:
        """Of all claims together, see ``precedence``."""
        return overall([judged.verdict for judged in self.verdicts])

    @property
    def broken(self) -> tuple[Reason, ...]:
        """What the engine of the first arm broke, and that of the second did not."""
        return tuple(r for r in self.reasons if r.side == "A" and r.by_engine)

    @property
    def decided(self) -> bool:
        """Whether more blocks cannot change a verdict."""
        waiting = any(reason.by_engine is None and reason.side for reason in self.reasons)
        return not waiting and all(j.verdict != "inconclusive" for j in self.verdicts)

    def to_json(self) -> dict[str, Any]:
        """Plain values; numbers that are not finite are None."""
        told = asdict(replace(self, claims=()))
        del told["claims"]
        for block in told["blocks"]:
            block["levels"] = {
                slug: tuple(level if math.isfinite(level) else None for level in levels)
                for slug, levels in block["levels"].items()
            }
        return told | {"verdicts": [judged.to_json() for judged in self.verdicts]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The judgement that :meth:`to_json` told."""
        return cls(
            **{
                **content,
                "arms": tuple(content["arms"]),
                "verdicts": tuple(Judged.from_json(one) for one in content["verdicts"]),
                "reasons": tuple(
                    Reason(**{**one, "claims": tuple(one["claims"])}) for one in content["reasons"]
                ),
                "blocks": tuple(
                    Block(
                        one["number"],
                        {slug: (_number(a), _number(b)) for slug, (a, b) in one["levels"].items()},
                        one["void"],
                    )
                    for one in content["blocks"]
                ),
                "remarks": tuple(content["remarks"]),
                "not_measured": tuple(content["not_measured"]),
            }
        )


def _number(told: float | None) -> float:
    return math.nan if told is None else told


@dataclass(frozen=True)
class Part:
    """What is claimed of one comparison, and the blocks so far.

    Attributes:
        claims: what is claimed of it.
        blocks: pairs of runs.
        comparison: its key within the test case.
        said: what tells it from others that are judged with it, for people; follows every claim.
        spread: what is known of the spread between servers of one build.
        before: the judgement at the look before: a claim keeps the verdict of the look that
            decided it.
        remarks, not_measured: as of a :class:`Judgement`.
    """

    claims: Sequence[Claim]
    blocks: Blocks
    comparison: str = "1"
    said: str = ""
    spread: Spread = no_spread
    before: Judgement | None = None
    remarks: Sequence[str] = ()
    not_measured: Sequence[str] = ()


def judge_blocks(
    claims: Sequence[Claim],
    blocks: Blocks,
    *,
    comparison: str = "1",
    look: Look | None = None,
    spread: Spread = no_spread,
    before: Judgement | None = None,
    remarks: Sequence[str] = (),
    not_measured: Sequence[str] = (),
) -> Judgement:
    """Judge the claims of one comparison on the blocks that were measured so far.

    Args:
        claims, blocks, comparison, spread, before, remarks, not_measured: as of a :class:`Part`.
        look: which look at growing data this is.
    """
    part = Part(claims, blocks, comparison, "", spread, before, remarks, not_measured)
    return judge_parts([part], look)[0]


def judge_parts(parts: Sequence[Part], look: Look | None = None) -> list[Judgement]:
    """Judge comparisons that stand or fall together, see :func:`~.judge.judge_together`; a
    judgement of each."""
    checked = [checked_both(part.blocks, part.claims) for part in parts]
    evidence = [
        Evidence(part.claims, part.blocks, _arms(part), _invalid(part, of), part.spread, of.void)
        for part, of in zip(parts, checked, strict=True)
    ]
    families = judge_together(evidence, look)
    found = zip(parts, checked, evidence, families, strict=True)
    return [_judgement(*each) for each in found]


def _arms(part: Part) -> tuple[str, str]:
    first, second = part.blocks[0]
    return first.header.arm, second.header.arm


def _invalid(part: Part, checked: Checked) -> dict[str, list[str]]:
    return {
        claim.slug: [r.text for r in checked.reasons if claim.slug in r.claims]
        for claim in part.claims
    }


def _judgement(
    part: Part, checked: Checked, evidence: Evidence, fresh: Sequence[Judged]
) -> Judgement:
    claims, blocks = part.claims, part.blocks
    said = f", {part.said}" if part.said else ""
    fresh = [replace(j, comparison=part.comparison, claim=f"{j.claim}{said}") for j in fresh]
    verdicts = tuple(fresh if part.before is None else settled(part.before.verdicts, fresh))
    measured = tuple(_blocks(claims, blocks, checked.void))
    return Judgement(
        comparison=part.comparison,
        arms=evidence.arms,
        verdicts=verdicts,
        reasons=_for(
            verdicts, *checked.reasons, *_unavailable(claims, fresh, blocks, evidence.invalid)
        ),
        spreads=_spreads(claims, verdicts, measured),
        blocks=measured,
        remarks=(
            *(f"block {i + 1} is void: {why}" for i, why in checked.void.items()),
            *part.remarks,
            *_small_differences(claims, verdicts),
        ),
        match=_match(blocks),
        machine=_machine(blocks),
        reference_s=_reference_s(blocks),
        not_measured=tuple(part.not_measured),
        claims=tuple(claims),
    )


def settled(before: Sequence[Judged], now: Sequence[Judged]) -> list[Judged]:
    """Verdicts at a look: a claim keeps that of the look that decided it, whatever disturbs the
    blocks that come after."""
    return [
        old if old.verdict in ("holds", "refuted") else new
        for old, new in zip(before, now, strict=True)
    ]


def _for(verdicts: Sequence[Judged], *reasons: Reason) -> tuple[Reason, ...]:
    """The reasons, each with the claims that are invalid for it: none that was decided before."""
    spoilt = {judged.slug for judged in verdicts if judged.verdict == "invalid"}
    return tuple(
        replace(reason, claims=tuple(slug for slug in reason.claims if slug in spoilt))
        for reason in reasons
    )


def _unavailable(
    claims: Sequence[Claim],
    verdicts: Sequence[Judged],
    blocks: Blocks,
    invalid: Mapping[str, Sequence[str]],
) -> Iterator[Reason]:
    """Claims whose metric a run does not hold: each cause once, with all the claims it costs."""
    costs: dict[tuple[str, Side | None, bool | None], list[str]] = {}
    for claim, judged in zip(claims, verdicts, strict=True):
        if judged.verdict == "invalid" and judged.why and not invalid[claim.slug]:
            side, by_engine = _side_without(claim, blocks)
            costs.setdefault((judged.why, side, by_engine), []).append(claim.slug)
    for (why, side, by_engine), slugs in costs.items():
        yield Reason(why, tuple(slugs), side, by_engine)


def _side_without(claim: Claim, blocks: Blocks) -> tuple[Side | None, bool | None]:
    """The only arm of which a metric cannot be had, and whether the engine caused that; None when
    the blocks are too few to tell that from chance."""
    if claim.metric.per == "pair":
        return None, False
    lacking: dict[Side, list[bool]] = {"A": [], "B": []}
    for pair in blocks:
        for side, run in zip(lacking, pair, strict=True):
            try:
                claim.metric.of_run(run)
            except MetricUnavailable as error:
                lacking[side].append(error.by_engine)
    sides = [side for side in lacking if lacking[side]]
    if len(sides) != 1:
        return None, False
    (side,) = sides
    if not all(lacking[side]):
        return side, False
    return side, True if differ(len(lacking[side]), len(blocks), 0, len(blocks)) else None


def _blocks(claims: Sequence[Claim], blocks: Blocks, void: Mapping[int, str]) -> Iterator[Block]:
    metrics = {claim.metric.slug: claim.metric for claim in claims}
    for i, pair in enumerate(blocks):
        levels = {}
        for slug, metric in metrics.items():
            try:
                first, second = metric.of_pair(*pair)
            except MetricUnavailable:
                continue  # the claim's reason says so
            if not (math.isfinite(first) and math.isfinite(second)):
                continue  # so does that of a claim about a value that is no number
            levels[slug] = (first, second)
        yield Block(i + 1, levels, void.get(i))


def _spreads(
    claims: Sequence[Claim], verdicts: Sequence[Judged], blocks: Sequence[Block]
) -> dict[str, float]:
    """Standard error over the blocks of every judged level that has one."""
    found = {}
    for claim, judged in zip(claims, verdicts, strict=True):
        kept = [b for b in blocks if not (b.void and claim.metric.evidence == "times")]
        values = [b.levels[judged.metric_slug] for b in kept if judged.metric_slug in b.levels]
        if judged.levels is None or len(values) < 2:
            continue
        for key, numbers in zip(judged.level_keys, zip(*values, strict=True), strict=True):
            spread = statistics.stdev(numbers) / math.sqrt(len(numbers))
            if math.isfinite(spread):
                found[key] = spread
    return found


def _small_differences(claims: Sequence[Claim], verdicts: Sequence[Judged]) -> Iterator[str]:
    for claim, judged in zip(claims, verdicts, strict=True):
        p = judged.no_difference
        if judged.verdict != "holds" or p is None or p >= ALPHA:
            continue
        if claim.verb not in ("not_lower", "not_higher", "unchanged"):
            continue
        assert judged.estimate is not None
        worse = judged.estimate > 0 if claim.verb == "not_higher" else judged.estimate < 0
        harmless = claim.verb != "unchanged" and not worse
        how = "and not to the worse" if harmless else "by less than the margin"
        yield f"{judged.claim}: the arms do differ (p = {p:.2g}), {how}"


def _machine(blocks: Blocks) -> str:
    """Where all runs were measured; empty where that were several machines, or one is unknown."""
    machines = {run.header.machine for pair in blocks for run in pair}
    return machines.pop() if len(machines) == 1 else ""


def _reference_s(blocks: Blocks) -> float | None:
    told = [run.header.reference_s for pair in blocks for run in pair]
    known = [seconds for seconds in told if seconds is not None]
    return statistics.median(known) if known else None


VERSUS = "-vs-"
"""Between what the arms of a comparison do not have in common."""


def parts(value: str) -> tuple[str, ...]:
    """What both arms have in common, or what either has; nothing of an empty value."""
    return tuple(value.split(VERSUS)) if value else ()


def engines_of(match: Mapping[str, str]) -> list[tuple[str, str]]:
    """Name and version of each engine that a judgement's ``match`` speaks of, each once."""
    names, versions = parts(match.get("engine", "")), parts(match.get("engine_version", ""))
    most = max(len(names), len(versions)) if names and versions else 0
    pairs = (
        (names[min(i, len(names) - 1)], versions[min(i, len(versions) - 1)]) for i in range(most)
    )
    return list(dict.fromkeys(pairs))


def _match(blocks: Blocks) -> dict[str, str]:
    """What both arms agree on; of two engines both, ``"vllm-vs-mock"``."""
    first, second = (run.header for run in blocks[0])
    found = {}
    for key in dict.fromkeys((*first.match, *second.match)):
        one, other = first.match.get(key, "unknown"), second.match.get(key, "unknown")
        found[key] = one if one == other else f"{one}{VERSUS}{other}"
    return found | {"arms": f"{first.fingerprint} {second.fingerprint}"}
