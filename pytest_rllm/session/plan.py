"""What a session would cost, told before anything starts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..engines.server import served_as
from ..experiment.arm import Arm
from ..metrics.base import Metric
from ..models import ModelPair
from ..reports.layout import listing, wrapped
from ..reports.terminal import short
from ..verdicts.claims import Claim
from ..verdicts.contrasts import CurveClaim
from .comparison import CannotMeasure
from .limits import Limits
from .needs import not_measured
from .pace import Pace, Took, manner
from .run_blocks import ignore
from .seating import TOGETHER, Seating, sittings

DETECTABLE = 1.43
"""Of half an interval of 95 %: an effect that is seen four times out of five."""
LONG_MIN = 120
"""Minutes above which hours are told."""
HEADERS = ("finding and claim", "sees", "blocks", "requests", "tokens", "minutes")
Server = tuple[str, str, str]
"""Engine, pair and serving of a server, in words."""
Said = Claim | CurveClaim
Steps = Callable[[Said], Sequence[tuple[str, Claim]]]
"""The claims on two arms that a claim is made of, each with its comparison's part of the key."""


def own_steps(claim: Said) -> Sequence[tuple[str, Claim]]:
    """A claim on two arms is its own only step."""
    assert isinstance(claim, Claim)
    return [("", claim)]


@dataclass
class Planned:
    """A comparison that would be measured.

    Attributes:
        case: title of the test case.
        key: ``finding/case/comparison``, by which the pace of this machine is known.
        arms: all of them.
        pair: the models.
        sizes: numbers of blocks at which the claims are looked at.
        parts: into how many blocks the prompts are split.
        copies: how many servers of each arm claims need.
        stored: effects of the baseline, of this class of machine or another, by their keys.
        claims: what is claimed of it.
        steps: the claims on two arms that a claim is made of.
        seating: where servers go, and whether arms take turns.
        untold: why nothing can be said of a metric; None where it can.
        limits: what the GPUs of this machine allow; None where nothing is known of that.
        claimed: told, with the comparison, that there are claims which can be measured.
        set_aside: told why no claim could hold, so that nothing would be measured.
    """

    case: str
    key: str
    arms: tuple[Arm, ...]
    pair: ModelPair
    sizes: tuple[int, ...]
    parts: int
    copies: Callable[[Sequence[Claim]], int]
    stored: Mapping[str, Sequence[float]] = field(default_factory=dict)
    claims: tuple[Said, ...] = ()
    steps: Steps = field(default=own_steps, kw_only=True)
    seating: Seating = field(default=TOGETHER, kw_only=True)
    untold: Callable[[Metric], str | None] = field(default=lambda _: None, kw_only=True)
    limits: Limits | None = field(default=None, kw_only=True)
    claimed: Callable[[Planned], None] = field(default=ignore, kw_only=True)
    set_aside: Callable[[str], object] = field(default=ignore, kw_only=True)

    def shows(self, *claims: Said) -> None:
        """Note the claims; nothing is measured.

        Raises:
            CannotMeasure: no claim can be measured on these engines.
        """
        untold = {claim: why for claim in claims if (why := self.untold(claim.metric))}
        small = {claim: why for claim in claims if (why := self._too_small(claim))}
        self.claims = tuple(claim for claim in claims if claim not in untold | small)
        if small:
            self.set_aside("; ".join(small.values()))
        if self.claims:
            self.claimed(self)
        elif untold:
            raise CannotMeasure("; ".join(dict.fromkeys(untold.values())))

    def _too_small(self, claim: Said) -> str | None:
        if self.limits is None or not isinstance(claim, Claim):
            return None
        return self.limits.too_small(claim)

    @property
    def servers(self) -> list[Server]:
        """Those that it needs."""
        servings = ((arm.engine, served_as(arm.serving, self.pair)) for arm in self.arms)
        return list(dict.fromkeys((engine, self.pair.name, str(each)) for engine, each in servings))

    @property
    def requests(self) -> float:
        """Of one block, all arms."""
        return sum(len(arm.prompts) + len(arm.cut) for arm in self.arms) / self.parts

    @property
    def most_tokens(self) -> float:
        """Output tokens of one block at most."""
        return sum(len(arm.prompts) * arm.sampling.max_tokens for arm in self.arms) / self.parts

    def copies_after(self, blocks: int) -> int:
        """Pairs of servers that so many blocks are measured on, see ``RunBlocks.copy_for``."""
        if self.seating.in_turns:
            return sum(begin < blocks for begin in sittings(self.sizes))
        claims = [step for claim in self.claims for _, step in self.steps(claim)]
        return min(self.copies(claims), -(-blocks // self.sizes[0]))

    def replicates(self, claim: Claim, blocks: int) -> float:
        """How many a claim has in so many blocks: questions for answers where both arms are asked
        the same ones, else the blocks."""
        first, *others = ({prompt.id for prompt in arm.prompts} for arm in self.arms)
        by_question = claim.metric.per == "pair" or (
            claim.metric.per == "question" and all(first == other for other in others)
        )
        return len(first) * blocks / self.parts if by_question else blocks

    @property
    def fixed(self) -> bool:
        """Whether all answers have a fixed length."""
        return all(arm.sampling.fixed_length for arm in self.arms)


@dataclass
class Plan:
    """All that a session would measure, and what it would cost.

    Attributes:
        pace: of this machine.
        comparisons: in the order in which they would be measured.
        checks: what else would be asked of servers, as sentences.
        not_measured: titles of cases that would be left out, with the reason.
    """

    pace: Pace
    comparisons: list[Planned] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    not_measured: dict[str, str] = field(default_factory=dict)

    def took(self, one: Planned) -> Took | None:
        """What the comparison took the last time."""
        return self.pace.of(one.key, [manner(arm) for arm in one.arms])

    def seconds(self, one: Planned, blocks: int) -> float | None:
        """Estimated time of so many blocks, without starts: at the pace of this machine, else by
        the roofline of its GPUs; None where neither is known."""
        if (took := self.took(one)) is not None:
            return took.each_s(one.requests) * blocks
        each = None if one.limits is None else one.limits.block_s()
        return None if each is None else each * blocks

    def start_s(self, server: Server) -> float | None:
        """Seconds that a server takes to start, likewise."""
        _, pair, serving = server
        if (known := self.pace.start_s(serving)) is not None:
            return known
        limits = (one.limits for one in self.comparisons if one.pair.name == pair)
        return next((each.start_s() for each in limits if each is not None), None)

    def likely(self, one: Planned) -> int:
        """Blocks at the look that decided the last time, else at the first one."""
        took = self.took(one)
        return next((n for n in one.sizes if took and n >= took.blocks), one.sizes[0])

    def starts(self) -> tuple[list[Server], int]:
        """The servers that are started first, and how many fresh ones may come on top."""
        most = self._copies(lambda one: one.sizes[-1])
        first, more = list(most), sum(most.values()) - len(most)
        return first, more

    def _copies(self, blocks: Callable[[Planned], int]) -> dict[Server, int]:
        """How many servers of each kind there are, after so many blocks of each comparison."""
        most: dict[Server, int] = {}
        for one in self.comparisons:
            copies = one.copies_after(blocks(one))
            for server in one.servers:
                most[server] = max(most.get(server, 1), copies)
        return most

    def lines(self, width: int, about: Sequence[str] = ()) -> list[str]:
        """The plan for a terminal of so many columns.

        Args:
            width: columns.
            about: lines on the session: what is measured where, at which tier.
        """
        groups: dict[str, list[tuple[str, ...]]] = {}
        for one in self.comparisons:
            for i, claim in enumerate(one.claims):
                cost = ("", "", "", "") if i else self._cost(one)
                line = (short(str(claim)), self._sees(one, claim), *cost)
                groups.setdefault(one.case, []).append(line)
        table = listing(list(groups.items()), HEADERS, width) if groups else []
        texts = [line for text in (*about, *self._totals()) for line in wrapped(text, width)]
        return [*table, *([""] if table else []), *texts]

    def _cost(self, one: Planned) -> tuple[str, ...]:
        return _range(one.sizes), self._requests(one), self._tokens(one), self._minutes(one)

    def _sees(self, one: Planned, claim: Said) -> str:
        """The effect beyond the margin that the claim could tell at the first look, as the scatter
        of the last session lets one expect, else that of the baseline; of several steps the largest
        of each unit."""
        found: dict[str, float] = {}
        for part, step in one.steps(claim):
            size = self._step_sees(one, part, step)
            if size is None:
                return "unknown"
            unit = "%" if step.margin.scale == "percent" else "pp"
            found[unit] = max(size, found.get(unit, 0.0))
        return ", ".join(f"{size:.1f} {unit}" for unit, size in found.items())

    def _step_sees(self, one: Planned, part: str, claim: Claim) -> float | None:
        """Of one step, in per cent or points; None where nothing is known."""
        comparison = one.key.rpartition("/")[2] + part
        took = self.took(one)
        known = (
            took.sees.get(f"{comparison}/{claim.slug}" if part else claim.slug) if took else None
        )
        if known is None:
            scale = "pct" if claim.margin.scale == "percent" else "pp"
            key = f"{comparison}/{claim.metric.slug}/{scale}"
            if key not in one.stored:
                return None
            _, low, high, n = one.stored[key]
            known = DETECTABLE * (high - low) / 2, int(n)
        detectable, replicates = known
        return detectable * math.sqrt(replicates / one.replicates(claim, one.sizes[0]))

    def _requests(self, one: Planned) -> str:
        return _range([round(one.requests * size) for size in one.sizes])

    def _tokens(self, one: Planned) -> str:
        """Output tokens: known where the length is fixed or was seen, else at most so many."""
        took = self.took(one)
        if one.fixed or took is None:
            each, prefix = one.most_tokens, "" if one.fixed else "< "
        else:
            each, prefix = took.output_tokens * one.requests / took.requests, ""
        return prefix + _range([_thousands(each * size) for size in one.sizes])

    def _minutes(self, one: Planned) -> str:
        seconds = [self.seconds(one, size) for size in (one.sizes[0], one.sizes[-1])]
        about = "" if self.took(one) else "~"
        return _range([f"{about}{s / 60:.1f}" if s is not None else "unknown" for s in seconds])

    def _totals(self) -> Iterator[str]:
        first, more = self.starts()
        yield (
            f"{len(dict.fromkeys(one.case for one in self.comparisons))} cases, "
            f"{len(self.comparisons)} comparisons; {len(first)} servers are started, and up to "
            f"{more} fresh ones where more blocks are needed"
        )
        yield from self.checks
        yield self._total_minutes(first)
        needs = {one.pair.name: one.pair for one in self.comparisons}.values()
        for pair in needs:
            yield from self._seats(pair)
        if not any(pair.gpu_memory_gib for pair in needs):
            yield "GPU memory: none is needed"
        yield from not_measured(self.not_measured)

    def _seats(self, pair: ModelPair) -> Iterator[str]:
        """Where the servers of a pair go, in the words of each kind of comparison."""
        said = Counter(one.seating.said for one in self.comparisons if one.pair == pair)
        known = {text: n for text, n in said.items() if text}
        if not known and pair.gpu_memory_gib:
            gpus = f"{pair.gpu_memory_gib:g} GiB on each of {pair.gpus} GPU(s)"
            yield f"GPU memory for {pair.name}: {gpus}"
        for text, n in known.items():
            count = f" ({n} of {said.total()} comparisons)" if len(said) > 1 else ""
            yield f"{pair.name}: {text}{count}"

    def _total_minutes(self, first: Sequence[Server]) -> str:
        new = [one for one in self.comparisons if self.took(one) is None]
        starts = [self.start_s(server) for server in first]
        of_all = f"{len(new)} of the {len(self.comparisons)} comparisons were never measured"
        if None in starts or any(self.seconds(one, 1) is None for one in new):
            return f"minutes: unknown; {of_all} on this machine: the first session tells"
        begin = sum(s for s in starts if s is not None)
        each = begin / len(starts) if starts else 0.0

        def total(blocks: Callable[[Planned], int]) -> float:
            started = sum(self._copies(blocks).values())
            measured = sum(self.seconds(one, blocks(one)) or 0.0 for one in self.comparisons)
            return (begin + (started - len(first)) * each + measured) / 60

        about, most = total(self.likely), total(lambda one: one.sizes[-1])
        if about > LONG_MIN:
            spent = f"hours: about {about / 60:.1f}, at most {most / 60:.1f}"
        else:
            spent = f"minutes: about {about:.0f}, at most {most:.0f}"
        if not new:
            return f"{spent}, at the pace of this machine's last sessions"
        return (
            f"{spent}; {of_all} here, and are reckoned from the bandwidth of the GPU's memory: "
            "half as long or twice as long is likely (docs/gpu.md)"
        )


def _range(values: Sequence[object]) -> str:
    first, last = str(values[0]), str(values[-1])
    return first if first == last else f"{first}..{last}"


def _thousands(count: float) -> str:
    return f"{count / 1000:.0f}k" if count >= 1000 else f"{count:.0f}"
