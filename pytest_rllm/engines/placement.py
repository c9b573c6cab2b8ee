"""On which GPUs servers go, and how much memory each may take: decided before any of them starts.

Pure arithmetic over what servers need and what GPUs have free. All sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .memory import GIB, OUTSIDE, Need, gib

SPARE = 1.0 * GIB
"""What is left free on each GPU: for the load that is timed beside the runs, which holds half of
it, and because readings are not exact to the byte."""
ROOMY = 4
"""Longest sequences that the KV cache should hold where GPUs allow it: then servers have GPUs of
their own rather than share one, and are spread over more of them."""


class NoRoom(Exception):
    """No free memory for a server; the message says in a sentence what is missing where."""


@dataclass(frozen=True)
class Card:
    """A GPU that can be used.

    Attributes:
        index: what ``nvidia-smi`` calls it.
        name: what CUDA is told to choose it.
        total: all of its memory.
        free: what is free while no server of ours is up.
        holders: processes on it that are not ours, each with what it holds; None: not told.
    """

    index: int
    name: str
    total: float
    free: float
    holders: tuple[tuple[int, float | None], ...] = ()

    @property
    def usable(self) -> float:
        """What servers may take of it."""
        return self.free - SPARE

    def __str__(self) -> str:
        said = f"GPU {self.index} has {gib(self.free)} of {gib(self.total)} GiB free"
        held = [
            f"process {pid} holds " + ("some" if size is None else gib(size))
            for pid, size in self.holders
        ]
        return said + (f": {', '.join(held)}" if held else "")


@dataclass(frozen=True)
class Placement:
    """Where one server goes.

    Attributes:
        cards: the GPUs that it sees; its model is spread over all of them.
        size: what it may take of each, all in all.
        engine: what of that is neither weights nor KV cache.
        fixed: whether the size of its KV cache does not depend on what it may take.
        free: what is free on each of them when it starts; None: not looked yet.
    """

    cards: tuple[Card, ...]
    size: float
    engine: float
    fixed: bool = False
    free: float | None = None

    @property
    def gpus(self) -> int:
        """Over how many GPUs the model is spread."""
        return len(self.cards)

    @property
    def share(self) -> float:
        """Share of a GPU's whole memory that an engine may plan with: without the CUDA context and
        graphs, which it does not count."""
        return max(0.01, (self.size - OUTSIDE) / max(card.total for card in self.cards))

    @property
    def share_of_free(self) -> float:
        """Share of what is free at the start that weights and KV cache may take."""
        free = min(card.free for card in self.cards) if self.free is None else self.free
        return min(0.95, max(0.01, (self.size - self.engine) / free))

    @property
    def variables(self) -> dict[str, str | None]:
        """What the server's environment has, so that it sees these GPUs alone."""
        names = ",".join(card.name for card in self.cards)
        return {"CUDA_VISIBLE_DEVICES": names, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}

    @property
    def said(self) -> dict[str, Any]:
        """For a record: numbers of the GPUs, and the GiB that the server may take of each, where
        that decides how large its KV cache is."""
        size = {} if self.fixed else {"gib": round(self.size / GIB, 1)}
        return {"gpus": [card.index for card in self.cards], **size}

    def __str__(self) -> str:
        """As in ``up to 39.0 GiB of GPU 0; --rllm-turns gives it 78.1``."""
        most = min(card.usable for card in self.cards)
        shares = not self.fixed and self.size < most - SPARE
        more = f"; --rllm-turns gives it {gib(most)}" if shares else ""
        return f"up to {gib(self.size)} GiB of {_named(self.cards)}{more}"

    def like(self, other: Placement | None) -> bool:
        """Whether a server placed so serves as one placed in the other way."""
        if other is None or self.gpus != other.gpus or self.fixed != other.fixed:
            return False
        return self.fixed or self.size == other.size


@dataclass(frozen=True)
class Layout:
    """Where the servers of a comparison may go, all with equally much memory.

    Attributes:
        sets: GPUs that servers go on together; each GPU is in one set.
        spreads: over how many GPUs of a set each of the servers is spread.
        each: how many servers are up at once on a set.
        size: what each server may take of each GPU.
        engine: what of that is neither weights nor KV cache.
        fixed: whether the sizes of their KV caches do not depend on what they may take.
    """

    sets: tuple[tuple[Card, ...], ...]
    spreads: tuple[int, ...]
    each: int
    size: float
    engine: float
    fixed: bool = False

    @property
    def at_once(self) -> int:
        """How many of its servers can be up at the same time; 1: they take turns."""
        return len(self.sets) * self.each

    @property
    def wanted(self) -> int:
        """How many servers the comparison has."""
        return len(self.spreads)

    def on(self, cards: tuple[Card, ...], which: int = 0) -> Placement:
        """One of the servers, by its place among them, on one of the sets."""
        return Placement(cards[: self.spreads[which]], self.size, self.engine, self.fixed)

    def __str__(self) -> str:
        """As in ``both arms side by side on GPU 0 at 0.47 each``."""
        share = f"{self.on(self.sets[0]).share:.2f}"
        first = _named(self.sets[0])
        over = " and ".join(map(str, sorted(set(self.spreads))))
        spread = f", each model spread over {over}" if over != "1" else ""
        arms = {1: "one server", 2: "both arms"}.get(self.wanted, f"{self.wanted} servers")
        if self.wanted == 1:
            return f"{arms} on {first} at {share}{spread}"
        if self.at_once == 1:
            return f"taking turns on {first} at {share}{spread}"
        if self.each >= self.wanted:
            return f"{arms} side by side on {first} at {share} each{spread}"
        used = self.sets[: -(-min(self.wanted, self.at_once) // self.each)]
        where = ", ".join(_named(cards) for cards in used)
        if self.at_once < self.wanted:
            arms = f"{arms}, {self.at_once} at a time,"
        if len(used) == 1:
            return f"{arms} on {first} at {share} each{spread}"
        own = "GPUs of their own" if self.each == 1 else "several GPUs"
        return f"{arms} on {own} ({where}) at {share} each{spread}"


def lay_out(needs: Sequence[Need], cards: Sequence[Card], *, alone: bool = False) -> Layout:
    """Where servers go that are compared, all of them with equally much memory.

    Two of them share the GPUs that they are on; where these leave no room for ``ROOMY`` longest
    sequences, each has GPUs of its own; then sharing with a smaller KV cache will do; and where
    nothing of that fits, they take turns. A single server gets what it would have beside another.

    Args:
        needs: of the servers, one at least.
        cards: the GPUs that can be used.
        alone: whether they take turns in any case.

    Raises:
        NoRoom: not even one of them fits.
    """
    fitting = [spreads for spreads in _spreads(needs) if max(spreads) <= len(cards)]
    if not alone:
        for sequences in (ROOMY, 1):
            for spreads in fitting:
                for each in (2, 1):
                    layout = _layout(needs, cards, spreads, each, sequences)
                    if layout is not None and layout.at_once > 1:
                        return layout
    for spreads in fitting:
        if layout := _layout(needs, cards, spreads, 1, 1):
            return replace(layout, sets=layout.sets[:1])
    spreads = max(fitting, key=max, default=min(_spreads(needs), key=max))
    raise NoRoom(_missing(_size(needs, spreads, cards), max(spreads), cards))


def _spreads(needs: Sequence[Need]) -> list[tuple[int, ...]]:
    """Over how many GPUs each server may be spread: all over equally many, unless one says its own
    number; then each over the number that it prefers."""
    said = {need.counts for need in needs if len(need.counts) == 1}
    if (said and any(need.counts not in said for need in needs)) or len(said) > 1:
        return [tuple(need.counts[0] for need in needs)]
    common = [n for n in needs[0].counts if all(n in need.counts for need in needs)]
    return [(n,) * len(needs) for n in common]


def _layout(
    needs: Sequence[Need],
    cards: Sequence[Card],
    spreads: tuple[int, ...],
    each: int,
    sequences: int,
) -> Layout | None:
    """``each`` servers on every set of cards that have the room; None where none have."""
    size = _size(needs, spreads, cards, sequences)
    sets = tuple(_sets([card for card in cards if each * size <= card.usable], max(spreads)))
    if not sets:
        return None
    used = [card for group in sets for card in group]
    least = min(card.usable for card in used)
    fixed = all(need.fixed_kv is not None for need in needs)
    if fixed and each > 1:
        each = int(least // size)
    elif not fixed:
        size = least / each
    engine = max(need.of_engine(max(card.total for card in used)) for need in needs)
    return Layout(sets, spreads, each, size, engine, fixed)


def _size(
    needs: Sequence[Need], spreads: Sequence[int], cards: Sequence[Card], sequences: int = 1
) -> float:
    """What the server takes of each GPU that takes the most."""
    total = max((card.total for card in cards), default=0.0)
    each = zip(needs, spreads, strict=True)
    return max(need.per_gpu(gpus, total, sequences) for need, gpus in each)


def _sets(cards: Sequence[Card], gpus: int) -> Iterator[tuple[Card, ...]]:
    """Neighbours together, each card once."""
    for first in range(0, len(cards) - gpus + 1, gpus):
        yield tuple(cards[first : first + gpus])


def _missing(size: float, gpus: int, cards: Sequence[Card]) -> str:
    wanted = "one GPU" if gpus == 1 else f"each of {gpus} GPUs"
    there = "; ".join(map(str, cards)) or "no GPU can be used"
    fewer = (
        f"there {'is' if len(cards) == 1 else 'are'} {len(cards)}: " if len(cards) < gpus else ""
    )
    return f"needs {gib(size + SPARE)} GiB free on {wanted}; {fewer}{there}"


def _named(cards: Sequence[Card]) -> str:
    numbers = [str(card.index) for card in cards]
    if len(numbers) == 1:
        return f"GPU {numbers[0]}"
    return f"GPUs {', '.join(numbers[:-1])} and {numbers[-1]}"
