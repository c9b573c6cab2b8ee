"""What a claim about speed could show at most on the GPUs of this machine, and how long measuring
it takes about: the roofline of a pair's arms. Nothing is said of CPUs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache

from ..checkpoints import CheckpointError
from ..checkpoints.shape import Shape, shape_of
from ..experiment.arm import Arm
from ..experiment.roofline import Load, Roofline, optimised
from ..models import ModelPair
from ..telemetry.gpu import Gpu
from ..verdicts.claims import Claim

START_S = 60.0
"""Seconds that a server takes to start beside loading weights, about."""
LOADED_PER_S = 1e9
"""Bytes of weights that are loaded per second, about."""


@dataclass(frozen=True)
class Limits:
    """The rooflines of the arms of a comparison on the GPUs of this machine.

    Attributes:
        arms: all of them.
        pair: the models.
        gpu: the GPUs of this machine.
        blocks: into which the prompts are split.
    """

    arms: Sequence[Arm]
    pair: ModelPair
    gpu: Gpu
    blocks: int

    def too_small(self, claim: Claim) -> str | None:
        """Why a claim cannot hold whatever the engine does: its optimisation saves too little in
        this workload, and by how much it could. None where it could hold, or where nothing is
        known.
        """
        most = self.most_saved(claim.metric.name)
        if most is None or claim.margin.scale != "percent":
            return None
        match claim.verb, claim.metric.better:
            case "lower", "lower":
                seen = 100 * most
            case "higher", "higher":
                seen = 100 * most / (1 - most)
            case _:
                return None
        if seen >= claim.margin.size:
            return None
        first, _ = self.arms
        return (
            f"{claim} cannot be seen here: {first.serving} changes {claim.metric} by at most "
            f"{_percent(seen)} ({self._workload()})"
        )

    def told(self) -> str | None:
        """The most that an optimisation could save where speed is compared, as a sentence; None of
        arms that differ in something else, of speculation, whose limit is the same everywhere, and
        where nothing is known."""
        if any(arm.serving.speculative or not arm.sampling.fixed_length for arm in self.arms):
            return None
        first = "TTFT" if self.arms[0].serving.prefix_caching else "TBT"
        most = {name: self.most_saved(name) for name in (first, "E2E")}
        parts = [f"{_percent(100 * part)} of {name}" for name, part in most.items() if part]
        if not parts:
            return None
        saved = " and ".join(parts)
        return f"{self.arms[0].serving} could save at most {saved} here ({self._workload()})"

    def most_saved(self, metric: str) -> float | None:
        """The most that the first arm could save of a time of the second, as a share of it."""
        if not optimised(self.arms):
            return None
        own, base = (self._roofline(arm) for arm in self.arms)
        if own is None or base is None:
            return None
        return own.most_saved(base, metric, Load.of(self.arms[1], self.blocks))

    def block_s(self) -> float | None:
        """Seconds of one block of all arms, about; None where nothing is known."""
        total = 0.0
        for arm in self.arms:
            roofline = self._roofline(arm)
            if roofline is None or roofline.bandwidth is None:
                return None
            load = Load.of(arm, self.blocks, _expected(arm, self.pair))
            requests = (len(arm.prompts) + len(arm.cut)) / self.blocks
            if arm.workload.rate:
                total += requests / arm.workload.rate
            else:
                total += roofline.run_s(load, requests)
            if not arm.sampling.fixed_length:  # a run ends with its longest answer, all alone
                longest = min(arm.sampling.max_tokens, self.pair.enough) - load.output_tokens
                total += max(0.0, longest) * roofline.step_s(replace(load, in_flight=1))
        return total

    def start_s(self) -> float | None:
        """Seconds that a server of an arm takes to start, about."""
        shape = _shape(self.pair.reasoning)
        return None if shape is None else START_S + shape.weights_bytes / LOADED_PER_S

    def _roofline(self, arm: Arm) -> Roofline | None:
        plain = arm.serving.model == "plain"
        shape = _shape(self.pair.plain if plain else self.pair.reasoning)
        if shape is None:
            return None
        told = [device.bandwidth_gb_s for device in self.gpu.devices]
        spread = max(arm.serving.tensor_parallel, self.pair.gpus)
        return Roofline.of(
            shape,
            arm.serving,
            gpus=min(spread, len(told) or spread),
            bandwidth_gb_s=min((each for each in told if each), default=None),
        )

    def _workload(self) -> str:
        """What the limit is reckoned from."""
        base = self._roofline(self.arms[1])
        assert base is not None
        load = Load.of(self.arms[1], self.blocks)
        prompt, output = f"{load.prompt_tokens:.0f}", f"{load.output_tokens:.0f}"
        share = _percent(100 * base.cache_share(load))
        return (
            f"roofline of {load.in_flight} in flight, with prompts of about {prompt} tokens and "
            f"answers of {output}: {share} of the bytes that a step reads are KV cache"
        )


def _expected(arm: Arm, pair: ModelPair) -> float:
    """Output tokens of an answer, about. One of its own length takes half of what suffices for
    most, or what is short for a model that reasons where the model does not."""
    most = arm.sampling.max_tokens
    if arm.sampling.fixed_length:
        return most
    return min(most, pair.enough / 2 if arm.serving.reasons else pair.short)


@cache
def _shape(model: str) -> Shape | None:
    with suppress(CheckpointError):
        return shape_of(model)
    return None


def _percent(size: float) -> str:
    return f"{size:.0f} %" if size >= 1 else f"{size:.1f} %"
