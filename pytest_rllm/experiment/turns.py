"""Into how many turns the runs of a block are cut, so that a machine's moods cancel."""

from __future__ import annotations

from .arm import Arm

TURN_TOKENS = 32
"""Output tokens of answers whose speed is compared: at 10 to 20 ms a token, which is usual on a GPU
and of small models on a CPU, a turn of them lasts about half a second."""
FILLED = 0.9
"""Share of the lanes of a closed loop that a turn has to fill at least."""


def turns_of(first: Arm, second: Arm, blocks: int) -> int:
    """How many turns the two runs of a block take, A B B A A B B A; 1: one run follows the other.

    The speed of a shared machine wanders over seconds. Two runs of some seconds, one after the
    other, meet different moods of it; turns of half a second meet the same
    (``benchmarks/turns/README.md``). Each turn is one wave of a closed loop: as many requests, or
    conversations, as are in flight. That is the same load only where all answers are equally long.
    An open loop, a batch that ends with its longest answer, and the swing of a KV cache need a
    steady state, and keep whole runs.

    Args:
        first, second: the arms.
        blocks: into which their prompts are split.
    """
    if not all(_can_be_cut(arm) for arm in (first, second)):
        return 1
    waves = min(
        int(arm.lanes / blocks / (FILLED * (arm.workload.in_flight or 1)))
        for arm in (first, second)
    )
    return max(1, waves - waves % 2)  # as many begin as end with either arm


def _can_be_cut(arm: Arm) -> bool:
    return arm.workload.kind == "closed" and arm.sampling.fixed_length and not arm.cut
