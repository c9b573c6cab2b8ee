"""Two arms in interleaved run blocks, judged at planned looks until every claim is decided."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..baselines.machines import UNMEASURED, Machine
from ..experiment.arm import Arm
from ..metrics.base import Metric
from ..records.header import Header
from ..records.run import Run
from ..verdicts.claims import Claim
from ..verdicts.judge import Look, Spread
from ..verdicts.judgement import Judgement, judge_blocks
from .sources import Place, Source

Pair = tuple[Run, Run]


class CannotMeasure(Exception):
    """An engine cannot do what a test case asks, by its declared capabilities; says what."""


def unmeasured(hardware: str, _engine: str) -> Machine:
    """A machine of which nothing is known."""
    return Machine(hardware)


def never(_judgement: Judgement) -> bool:
    """No judgement makes further looks needless before all claims are decided."""
    return False


@dataclass
class Comparison:
    """Two arms that are measured in blocks as far as the claims of :meth:`shows` need them.

    Attributes:
        key: of the comparison within its test case.
        pair: the pair of runs of a block, by its number; None where records end before it.
        sizes: numbers of blocks at which the claims are looked at, growing.
        machine: what is known of an engine on a class of hardware.
        untold: why an arm's engine does not tell what a metric takes; None when both do.
        enough: whether no further look can change anything that matters.
        too_few: why there are too few questions for a claim to hold; None when there are enough.
        blocks: what was measured so far.
        judgement: what :meth:`shows` found; None before.
        judged: told what was found.
    """

    key: str
    pair: Callable[[int], Pair | None]
    sizes: tuple[int, ...]
    machine: Callable[[str, str], Machine]
    untold: Callable[[Metric], str | None] = lambda _metric: None
    enough: Callable[[Judgement], bool] = never
    too_few: Callable[[Claim], str | None] = lambda _claim: None
    blocks: list[Pair] = field(default_factory=list)
    judgement: Judgement | None = None
    judged: Callable[[Judgement], None] = lambda _judgement: None

    def shows(self, *claims: Claim) -> Judgement:
        """Measure and judge the claims, which stand together, until each is decided or the
        comparison's maximum is reached. What they mean for the test is decided when the test
        function ends.

        A claim keeps the verdict of the look that decided it.

        Raises:
            CannotMeasure: no claim can be measured on these engines, or with so few questions;
                nothing was started.
        """
        if not claims:
            raise ValueError("shows() needs at least one claim")
        if self.judgement is not None:
            raise ValueError(
                "shows() was called before: all claims on a comparison stand together in one call"
            )
        left_out = {
            claim: why
            for claim in claims
            if (why := self.untold(claim.metric) or self.too_few(claim))
        }
        measured = [claim for claim in claims if claim not in left_out]
        if not measured:
            raise CannotMeasure("; ".join(dict.fromkeys(left_out.values())))
        not_measured = [f"{claim} is not measured: {why}" for claim, why in left_out.items()]
        judgement: Judgement | None = None
        for at, size in enumerate(self.sizes):
            if not self._measured(size):
                break  # records end here: they were decided, or cut short, at an earlier look
            judgement = judge_blocks(
                measured,
                self.blocks,
                comparison=self.key,
                look=Look(self.sizes, at),
                spread=self._spread(),
                before=judgement,
                remarks=tuple(self._remarks(measured)),
                not_measured=not_measured,
            )
            if judgement.decided or self.enough(judgement):
                break
        assert judgement is not None
        self.judgement = judgement
        self.judged(judgement)
        return judgement

    def _measured(self, size: int) -> bool:
        """Have at least ``size`` blocks; False where that cannot be had any more."""
        while len(self.blocks) < size:
            pair = self.pair(len(self.blocks))
            if pair is None:
                return False
            self.blocks.append(pair)
        return True

    def _machines(self) -> list[Machine]:
        """What is known of each arm's engine on its hardware."""
        matches = [run.header.match for run in self.blocks[0]]
        return [self.machine(match["hardware"], match["engine"]) for match in matches]

    def _spread(self) -> Spread:
        """Standard deviation between a server of one arm and one of the other, as a log ratio.

        Each engine's is known between two of its own servers; of two engines each gives half.
        """
        first, second = self._machines()
        if first == second:
            return first.spread
        return lambda metric: math.hypot(first.spread(metric), second.spread(metric)) / math.sqrt(2)

    def _remarks(self, claims: Sequence[Claim]) -> Iterator[str]:
        timed = any(claim.metric.timed for claim in claims)
        servers = {run.server for pair in self.blocks for run in pair}
        if not timed or len(servers) < 2:
            return
        matches = [run.header.match for run in self.blocks[0]]
        names = [f"{match['engine']} on {match['hardware']}" for match in matches]
        known = zip(names, self._machines(), strict=True)
        for name in dict.fromkeys(name for name, machine in known if not machine.sittings):
            yield (
                f"how far two servers of one build differ was not measured for {name}: "
                f"{UNMEASURED:.0%} is assumed (benchmarks/calibration measures it)"
            )


def compare(
    source: Source,
    first: Arm,
    second: Arm,
    *,
    blocks: int | Sequence[int],
    parts: int | None = None,
    where: Path,
    header: Header,
    key: str = "1",
    restarts: bool = False,
    machine: Callable[[str, str], Machine] = unmeasured,
    untold: Callable[[Metric], str | None] = lambda _metric: None,
    enough: Callable[[Judgement], bool] = never,
    too_few: Callable[[Claim], str | None] = lambda _claim: None,
    label: Callable[[str], str] = str,
    measured: Callable[[float], None] = lambda _seconds: None,
    reused: Callable[[], None] = lambda: None,
) -> Comparison:
    """Two arms to be measured in pairs of runs, in the order ABBA ABBA ...

    Args:
        source: an engine or records.
        blocks: pairs of runs, the replicate of everything timed; or the growing numbers of them at
            which claims are looked at, until they are decided or the last is reached.
        parts: into how many blocks the prompts are split; the last number of blocks by default.
        where: folder of the records, relative to the source's.
        header: what the records say of the test (finding, case, pair).
        key: of the comparison within its test case.
        restarts: serve every look but the first from fresh servers, started in turned order.
        machine, untold, enough, too_few: as of a :class:`Comparison`.
        label: of an arm's engine, for people.
        measured: told after every pair of runs how many seconds it took.
        reused: told of every block that an earlier session had measured.
    """
    sizes = (blocks,) if isinstance(blocks, int) else tuple(blocks)
    if not sizes or sizes[0] < 1 or list(sizes) != sorted(set(sizes)):
        raise ValueError(f"a comparison needs growing numbers of blocks from 1 on, not {blocks}")
    most = sizes[-1] if parts is None else max(parts, sizes[-1])
    for arm in (first, second):
        questions = len({prompt.id for prompt in arm.prompts})
        if questions < most:
            raise ValueError(f"{questions} questions cannot fill {most} blocks")
    arms: dict[Literal["A", "B"], Arm] = {"A": first, "B": second}
    names = dict(zip("AB", arm_names(first, second, label), strict=True))
    starts: list[int] = []

    def of_run(i: int, side: Literal["A", "B"]) -> tuple[Arm, Path, Header]:
        arm = arms[side].block(i, most)
        about = header_of(arm, header, name=names[side], side=side, blocks=most)
        return arm, where / f"{i:02d}-{side}.jsonl", about

    def pair(i: int) -> Pair | None:
        kept = source.kept(*of_run(i, "A")), source.kept(*of_run(i, "B"))
        if kept[0] is not None and kept[1] is not None:
            reused()
            return kept[0], kept[1]
        paths = {side: where / f"{i:02d}-{side}.jsonl" for side in arms}
        if i >= sizes[0] and not all(source.has(path) for path in paths.values()):
            return None
        if not starts or (restarts and i in sizes):
            order = [first, second] if len(starts) % 2 == 0 else [second, first]
            source.prepare(order, fresh=bool(starts))
            starts.append(i)
        runs: dict[str, Run] = {}
        order_of_block: tuple[Literal["A", "B"], ...] = ("A", "B") if i % 2 == 0 else ("B", "A")
        begun = time.monotonic()
        for side in order_of_block:
            place = Place(
                f"{header.finding} [{header.case}] block {i + 1}/{sizes[-1]}",
                done=(i + len(runs) / 2) / sizes[-1],
                share=0.5 / sizes[-1],
            )
            runs[side] = source.run(*of_run(i, side), place)
        measured(time.monotonic() - begun)
        return runs["A"], runs["B"]

    return Comparison(key, pair, sizes, machine, untold, enough, too_few)


def header_of(
    arm: Arm, header: Header, *, name: str, side: Literal["A", "B"] | None, blocks: int
) -> Header:
    """What a record says of an arm, before a server adds what it is."""
    return Header(
        arm=name,
        side=side,
        finding=header.finding,
        case=header.case,
        pair=header.pair,
        blocks=blocks,
        fingerprint=arm.fingerprint,
        serving=arm.serving,
        workload=str(arm.workload),
        sampling=arm.sampling,
        repeats=arm.repeats,
        engine=arm.engine,
    )


def arm_names(first: Arm, second: Arm, label: Callable[[str], str] = str) -> tuple[str, str]:
    """What tells two arms apart: serving and tiers always, the rest where it differs.

    Engines are named where they differ; two builds of one label by how the arms name them, too.
    """
    engines = first.engine, second.engine
    if first.engine == second.engine:
        called = ["", ""]
    else:
        labels = [label(engine) for engine in engines]
        alike = labels[0] == labels[1]
        called = [
            f"{text} ({engine})" if alike and engine else text
            for text, engine in zip(labels, engines, strict=True)
        ]
    return _name(first, second, called[0]), _name(second, first, called[1])


def _name(arm: Arm, other: Arm, engine: str) -> str:
    words = [f"{arm.serving} on {'+'.join(dict.fromkeys(p.tier for p in arm.prompts))}"]
    if engine:
        words[0] = f"{engine}: {words[0]}"
    if arm.workload != other.workload:
        words.append(str(arm.workload))
    if arm.sampling != other.sampling:
        words.append(f"up to {arm.sampling.max_tokens} tokens")
    if len(arm.cut) != len(other.cut):
        words.append(f"{len(arm.cut)} more aborted")
    return ", ".join(words)
