"""Which arms' servers are up at the same time, and which take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..engines.base import Endpoint, EngineError
from ..engines.budget import Budget, Wanted
from ..engines.memory import need_of
from ..engines.placement import NoRoom
from ..engines.server import key_of
from ..experiment.serving import Serving
from ..models import ModelPair
from ..records.run import Run
from .run_blocks import RunBlocks, Runs, ignore, sitting_of

TURNS = "taking turns, one server at a time"


@dataclass(frozen=True)
class Seating:
    """How the servers of a comparison's arms share the machine.

    Attributes:
        groups: places of the arms whose servers are up at the same time; empty: all of them are.
        alone: whether no other server may be up meanwhile.
        said: where the servers go, in words; empty where no GPU is needed.
    """

    groups: tuple[tuple[int, ...], ...] = ()
    alone: bool = False
    said: str = ""

    @property
    def in_turns(self) -> bool:
        """Whether arms take turns: their servers are never all up at the same time."""
        return len(self.groups) > 1


TOGETHER = Seating()


def seated(wanted: Sequence[Wanted], budget: Budget, *, turns: bool = False) -> Seating:
    """How the servers of a comparison's arms share the machine; arms with one server stay together.

    Args:
        wanted: the server of each arm.
        budget: the memory of GPUs.
        turns: whether arms take turns wherever their servers are started here.

    Raises:
        NoRoom: not even one of the servers fits.
    """
    layout = budget.layout(wanted, alone=turns)
    said = "" if layout is None else str(layout)
    keys = [key_of(*one) for one in wanted]
    servers = list(dict.fromkeys(keys))
    if turns and all(engine.url is None for engine, _, _ in wanted):
        at_once, said = 1, said or TURNS
    else:
        at_once = len(servers) if layout is None else layout.at_once
    if len(servers) <= at_once:
        return Seating(said=said)
    parts = [servers[i : i + at_once] for i in range(0, len(servers), at_once)]
    groups = tuple(tuple(i for i, key in enumerate(keys) if key in part) for part in parts)
    return Seating(groups, alone=at_once == 1, said=said)


def lacking(wanted: Sequence[Wanted], budget: Budget) -> str | None:
    """Why there is no memory for one of these servers, even alone; None where there is."""
    try:
        budget.layout(wanted)
    except NoRoom as error:
        return f"{wanted[0][2].name}: {error}"
    return None


def lacking_gpus(
    need: Mapping[str, Any],
    pair: ModelPair | None,
    engine: Callable[[], Endpoint],
    budget: Budget,
) -> str | None:
    """What a GPU case needs and this machine has not, None when it has it all.

    Args:
        need: what the mark ``gpu`` says, as ``Gpu.missing`` takes it. What it says for a pair is
            left to the free memory where the sizes of the models are known.
        pair: the models of the case; None where it says none.
        engine: tells the engine that is measured.
        budget: the memory of the GPUs.
    """
    rough = pair and {"memory_gib": pair.gpu_memory_gib, "count": pair.gpus}
    sized = pair is not None and need == rough and need_of(Serving(), pair).known
    if missing := budget.gpu.missing(**({} if sized else need)):
        return missing
    try:
        own = engine()
        if own.on_cpu:
            return f"{own.label} is a CPU build: install the GPU build"
    except EngineError as error:  # it is not installed
        return str(error).splitlines()[0]
    if pair is None:
        return None
    return lacking([(own, each, pair) for each in (Serving(), Serving(model="plain"))], budget)


def sittings(sizes: Sequence[int]) -> tuple[int, ...]:
    """The first block of each sitting of arms that take turns: two sittings up to each look, so
    that what drifts evenly slows all arms alike, A B B A.

    Args:
        sizes: numbers of blocks at which claims are looked at, growing.
    """
    looks = zip((0, *sizes), sizes, strict=False)
    halves = [(begin, begin + (end - begin + 1) // 2) for begin, end in looks]
    return tuple(sorted({first for half in halves for first in half} - {sizes[-1]}))


@dataclass
class Sittings:
    """The blocks of arms that take turns. In a sitting, some blocks of the first arm are measured,
    then the same blocks of the next one, each on a server that is started for them; in the sitting
    after it the order is turned. So a sitting's servers are like any other fresh ones, and their
    spread, with what a machine drifts meanwhile, is in the interval.

    Attributes:
        groups: the blocks of each group of arms.
        begins: the first block of each sitting, see :func:`sittings`.
        end: number of all blocks.
    """

    groups: Sequence[RunBlocks]
    begins: tuple[int, ...]
    end: int
    _blocks: list[Runs] = field(default_factory=list, init=False)

    def __call__(self, i: int) -> Runs | None:
        """The ``i``-th block; None where records end before it."""
        while len(self._blocks) <= i:
            if not (more := self._sit(len(self._blocks))):
                return None
            self._blocks += more
        return self._blocks[i]

    def _sit(self, begin: int) -> list[Runs]:
        """The blocks of one sitting, or of what is left of it."""
        number = sitting_of(self.begins, begin)
        end = (*self.begins, self.end)[number + 1]
        found: list[dict[str, Run]] = [{} for _ in range(begin, end)]
        for group in self.groups if number % 2 == 0 else self.groups[::-1]:
            for i, block in enumerate(found):
                block |= zip(group.arms, group(begin + i) or (), strict=False)
        arms = sorted(side for group in self.groups for side in group.arms)
        return [tuple(b[side] for side in arms) for b in found if len(b) == len(arms)]


def split(
    all_blocks: RunBlocks, seating: Seating
) -> tuple[list[RunBlocks], Callable[[int], Runs | None]]:
    """The blocks of each group of arms, and what gives the blocks of all arms.

    Args:
        all_blocks: of all arms, as if their servers were up at the same time.
        seating: of the arms.
    """
    if not seating.in_turns:
        return [all_blocks], all_blocks
    letters = list(all_blocks.arms)
    begins = sittings(all_blocks.sizes)
    many = len(seating.groups)
    groups = list[RunBlocks]()
    for group in seating.groups:
        arms = {letters[i]: all_blocks.arms[letters[i]] for i in group}
        last = len(groups) == many - 1
        groups.append(
            replace(
                all_blocks,
                arms=arms,
                turns=all_blocks.turns if len(arms) > 1 else 1,
                begins=begins,
                alone=seating.alone,
                # Of a block's seconds each group tells its own: a mean of all is that of one group.
                measured=lambda seconds: all_blocks.measured(many * seconds),
                reused=all_blocks.reused if last else ignore,
            )
        )
    return groups, Sittings(groups, begins, all_blocks.sizes[-1])
