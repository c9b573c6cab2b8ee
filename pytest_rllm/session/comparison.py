"""Two arms in interleaved run blocks, judged at planned looks until every claim is decided."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..baselines.machines import UNMEASURED, Machine
from ..experiment.arm import Arm
from ..metrics.base import Metric
from ..records.header import PLACEMENT as P
from ..records.header import REMARKS, SITTING, Header
from ..records.run import Run
from ..verdicts.claims import Claim
from ..verdicts.judge import Look, Spread
from ..verdicts.judgement import Judgement, judge_blocks
from ..verdicts.really_on import unproven
from ..verdicts.server_spread import ServerSpread
from .run_blocks import RunBlocks, Runs, arm_names, ignore
from .seating import TOGETHER, Seating, split
from .sources import Source


class CannotMeasure(Exception):
    """An engine cannot do what a test case asks, by its declared capabilities; says what."""


def unmeasured(hardware: str, _engine: str) -> Machine:
    """A machine of which nothing is known."""
    return Machine(hardware)


def one(_claims: Sequence[Claim]) -> int:
    """A single pair of servers is enough."""
    return 1


def never(_judgement: Judgement) -> bool:
    """No judgement makes further looks needless before all claims are decided."""
    return False


@dataclass
class Comparison:
    """Two arms that are measured in blocks as far as the claims of :meth:`shows` need them.

    Attributes:
        key: of the comparison within its test case.
        pair: the two runs of a block, by its number; None where records end before it.
        sizes: numbers of blocks at which the claims are looked at, growing.
        machine: what is known of an engine on a class of hardware.
        untold: why an arm's engine does not tell what a metric takes; None when both do.
        enough: whether no further look can change anything that matters.
        cannot_hold: why a claim cannot hold whatever is measured; None when it can.
        blocks: what was measured so far.
        judgement: what :meth:`shows` found; None before.
        judged: told what was found.
        claimed: told what is claimed, before anything is measured.
        set_aside: why no claim could hold, so that nothing was measured; None otherwise.
    """

    key: str
    pair: Callable[[int], Runs | None]
    sizes: tuple[int, ...]
    machine: Callable[[str, str], Machine]
    untold: Callable[[Metric], str | None] = lambda _metric: None
    enough: Callable[[Judgement], bool] = never
    cannot_hold: Callable[[Claim], str | None] = lambda _claim: None
    blocks: list[tuple[Run, Run]] = field(default_factory=list)
    judgement: Judgement | None = None
    judged: Callable[[Judgement], None] = ignore
    claimed: Callable[[Sequence[Claim]], None] = ignore
    set_aside: str | None = field(default=None, init=False)

    def shows(self, *claims: Claim) -> Judgement:
        """Measure and judge the claims, which stand together, until each is decided or the
        comparison's maximum is reached. What they mean for the test is decided when the test
        function ends.

        A claim keeps the verdict of the look that decided it. Where none could hold, nothing is
        measured and the judgement is empty; the other comparisons of the test are made.

        Raises:
            CannotMeasure: no claim can be measured on these engines; nothing was started.
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
            if (why := self.untold(claim.metric) or self.cannot_hold(claim))
        }
        measured = [claim for claim in claims if claim not in left_out]
        if not measured:
            why = "; ".join(dict.fromkeys(left_out.values()))
            if any(self.untold(claim.metric) for claim in claims):
                raise CannotMeasure(why)
            self.set_aside = why
            return Judgement(self.key, ("", ""), ())
        not_measured = [f"{claim} is not measured: {why}" for claim, why in left_out.items()]
        self.claimed(measured)
        judgement: Judgement | None = None
        for at, size in enumerate(self.sizes):
            if not self._measured(size):
                break  # records end here: they were decided, or cut short, at an earlier look
            judgement = judge_blocks(
                measured,
                self.blocks,
                comparison=self.key,
                look=Look(self.sizes, at),
                spread=spread_between(*self.blocks[0], self.machine),
                before=judgement,
                remarks=tuple(
                    remarks_on(self.blocks, [claim.metric for claim in measured], self.machine)
                ),
                not_measured=not_measured,
            )
            if judgement.decided or self.enough(judgement):
                break
        assert judgement is not None
        self.judgement = judgement
        self.judged(judgement)
        return judgement

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        """What was found; nothing before."""
        return () if self.judgement is None else (self.judgement,)

    def _measured(self, size: int) -> bool:
        """Have at least ``size`` blocks; False where that cannot be had any more."""
        while len(self.blocks) < size:
            runs = self.pair(len(self.blocks))
            if runs is None:
                return False
            first, second = runs
            self.blocks.append((first, second))
        return True


MachineOf = Callable[[str, str], Machine]


def spread_between(first: Run, second: Run, machine: MachineOf) -> Spread:
    """What is known of the spread between the server of one run's arm and of another's.

    Each engine's is known between two of its own servers.
    """
    one, other = _machines((first, second), machine)

    def known(metric: Metric) -> ServerSpread:
        if one == other:
            return one.spread(metric)
        return one.spread(metric).between_engines(other.spread(metric))

    if SITTING not in first.header.notes:
        return known
    # What was measured between servers that were up at the same time knows of no drift.
    return lambda metric: known(metric).no_surer_than(UNMEASURED) if metric.timed else known(metric)


def remarks_on(
    blocks: Sequence[Runs], metrics: Iterable[Metric], machine: MachineOf
) -> Iterator[str]:
    """What a reader should know of runs and their servers.

    Args:
        blocks: that were measured, one at least.
        metrics: that are judged.
        machine: what is known of an engine on a class of hardware.
    """
    yield from dict.fromkeys(
        remark
        for run in blocks[0]
        for remark in (*run.header.notes.get(REMARKS, ()), *unproven(run))
    )
    places = [run.header.notes[P] for runs in blocks for run in runs if P in run.header.notes]
    sizes = sorted({place["gib"] for place in places if "gib" in place})
    if len(sizes) > 1:
        yield (
            f"the servers had different amounts of GPU memory, {sizes[0]:g} to {sizes[-1]:g} GiB: "
            "what was free had changed, so their KV caches may differ in size"
        )
    spreads = sorted({len(place["gpus"]) for place in places})
    if len(spreads) > 1 or spreads > [1]:
        yield f"each model was spread over {' or '.join(map(str, spreads))} GPUs"
    if sittings := {run.header.notes.get(SITTING) for runs in blocks for run in runs} - {None}:
        yield (
            f"the arms took turns in {len(sittings)} sittings, as their servers were not up at the "
            "same time: what the machine drifted between them widens the intervals"
        )
    servers = {run.server for runs in blocks for run in runs}
    if len(servers) < 2:
        return
    matches = [run.header.match for run in blocks[0]]
    names = [f"{match['engine']} on {match['hardware']}" for match in matches]
    known = zip(names, _machines(blocks[0], machine), strict=True)
    for name, found in dict(known).items():
        unknown = [metric.name for metric in metrics if not found.measured(metric)]
        if unknown:
            yield (
                "how far two servers of one build differ was not measured for "
                f"{', '.join(dict.fromkeys(unknown))} of {name}: {UNMEASURED.sd:.0%} is "
                "assumed until the servers of a session show more (benchmarks/calibration "
                "measures it)"
            )


def _machines(runs: Runs, machine: MachineOf) -> list[Machine]:
    """What is known of each arm's engine on its hardware."""
    matches = [run.header.match for run in runs]
    return [machine(match["hardware"], match["engine"]) for match in matches]


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
    turns: int = 1,
    servers: Callable[[Sequence[Claim]], int] = one,
    seating: Seating = TOGETHER,
    machine: Callable[[str, str], Machine] = unmeasured,
    untold: Callable[[Metric], str | None] = lambda _metric: None,
    enough: Callable[[Judgement], bool] = never,
    cannot_hold: Callable[[Claim], str | None] = lambda _claim: None,
    label: Callable[[str], str] = str,
    measured: Callable[[float], None] = ignore,
    reused: Callable[[], None] = ignore,
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
        turns: how many the two runs of a pair take, A B B A; 1: one run follows the other.
        servers: how many pairs of servers claims need; the blocks are spread over them.
        seating: whether the arms take turns.
        machine, untold, enough, cannot_hold: as of a :class:`Comparison`.
        label: of an arm's engine, for people.
        measured: told after every pair of runs how many seconds it took.
        reused: told of every block that an earlier session had measured.
    """
    sizes = (blocks,) if isinstance(blocks, int) else tuple(blocks)
    if not sizes or sizes[0] < 1 or list(sizes) != sorted(set(sizes)):
        raise ValueError(f"a comparison needs growing numbers of blocks from 1 on, not {blocks}")
    most = sizes[-1] if parts is None else max(parts, sizes[-1])
    for arm in (first, second):
        if (questions := arm.units) < most:
            raise ValueError(f"{questions} questions cannot fill {most} blocks")
    name, other = arm_names(first, second, label)
    both = RunBlocks(
        source,
        {"A": first, "B": second},
        {"A": name, "B": other},
        sizes,
        most,
        where,
        header,
        turns=turns,
        measured=measured,
        reused=reused,
    )

    groups, pairs = split(both, seating)

    def claimed(claims: Sequence[Claim]) -> None:
        for group in groups:
            group.servers = servers(claims)

    return Comparison(key, pairs, sizes, machine, untold, enough, cannot_hold, claimed=claimed)
