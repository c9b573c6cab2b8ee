"""How long the steps of a decoder take on a GPU, and what an optimisation could save at most: by
the bytes that a step must read, without measuring anything.

A decoding step makes one token of every answer in flight. It reads the weights, once for all of
them, and the KV cache of each. Its least time is these bytes over the bandwidth of the memory. A
prompt is read in one go, and takes arithmetic: two operations per weight and token.

Two kinds of numbers come out of this. *At most* takes the most favourable case for an optimisation,
so that what it forbids cannot be seen. *About* adds what engines take on top, and is for plans. The
constants are reckoned from published figures, not measured here; ``docs/gpu.md`` says from which.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..checkpoints.shape import Shape
from ..datasets.prompts import Prompt
from .arm import Arm
from .serving import Serving

EFFICIENCY = 0.8
"""Share of the memory's bandwidth that reading reaches, about."""
STEP_S = 0.85e-3
"""Seconds that a step takes beside reading, about: launches, scheduling."""
LEAST_STEP_S = 0.2e-3
"""Seconds that a step takes beside reading, at least."""
SEQUENCE_S = 0.08e-3
"""Seconds that a step takes for every answer in flight beside reading, about: sampling, sending."""
OPERATIONS_PER_BYTE = 150.0
"""Operations in 16 bits that are done in the time in which one byte is read, about: half of what
is published of an H100 (989e12 over 3.35e12)."""
FEWEST_OPERATIONS_PER_BYTE = 50.0
"""At least: two thirds of what is published of the GPU that has the fewest, an RTX 3090."""
CHARACTERS_PER_TOKEN = 3.0
"""Of mathematics in English, about; prose has 4."""
WEIGHT_BITS = {
    "gptq-int4": 4,
    "awq-int4": 4,
    "bitsandbytes": 4,
    "int8-w8a8": 8,
    "fp8-w8a8": 8,
}
"""Bits per weight by the name of a quantisation; of others nothing is foretold."""
CACHE_BITS = {"fp8": 8, "int8": 8, "fp4": 4, "nvfp4": 4, "int4": 4}
"""Bits per number by how the name of a KV cache's type begins; of others nothing is foretold."""


@dataclass(frozen=True)
class Load:
    """What decides how long answers take, of all that an arm asks.

    Attributes:
        in_flight: answers at the same time.
        prompt_tokens, output_tokens: of a request, on average.
        sent_before: share of the prompt tokens that an earlier request began with, at most: what a
            prefix cache may find.
    """

    in_flight: int
    prompt_tokens: float
    output_tokens: float
    sent_before: float = 0.0

    @property
    def length(self) -> float:
        """Tokens of a sequence in the middle of its answer."""
        return self.prompt_tokens + self.output_tokens / 2

    @classmethod
    def of(cls, arm: Arm, blocks: int = 1, output_tokens: float | None = None) -> Load:
        """The load of an arm.

        Args:
            arm: that is measured.
            blocks: into which its prompts are split; a run cannot have more in flight than it asks.
            output_tokens: of an answer; by default as many as it may have.
        """
        whole = [sum(len(m["content"]) for m in prompt.messages) for prompt in arm.prompts]
        total = sum(whole) or 1
        again = sum(map(_sent_before, arm.prompts, whole))
        return cls(
            in_flight=max(1, min(arm.streams, arm.lanes // blocks)),
            prompt_tokens=total / CHARACTERS_PER_TOKEN / max(1, len(whole)),
            output_tokens=output_tokens or arm.sampling.max_tokens,
            sent_before=again / total,
        )


def _sent_before(prompt: Prompt, characters: int) -> int:
    """Characters of a prompt that another one may have begun with: all of it where it is asked
    again, else the turns before the question."""
    return characters if prompt.repeat else characters - len(prompt.text)


@dataclass(frozen=True)
class Roofline:
    """What a served model reads and computes on each of its GPUs.

    Attributes:
        weights: bytes of the weights.
        token: bytes that a token takes in the KV cache.
        operations: of one token of a prompt.
        active: share of the weights that one token passes; less than 1 with experts.
        bandwidth: bytes per second that the memory moves; None where the GPU does not tell.
        cached: whether what was sent before is found in a prefix cache.
        tokens_per_step: of an answer, at most; more than 1 with speculation.
    """

    weights: float
    token: float
    operations: float
    active: float
    bandwidth: float | None = None
    cached: bool = False
    tokens_per_step: int = 1

    @classmethod
    def of(
        cls, shape: Shape, serving: Serving, *, gpus: int = 1, bandwidth_gb_s: float | None = None
    ) -> Roofline | None:
        """The roofline of a model that is served so.

        Args:
            shape: of the model in its own precision.
            serving: how it is served.
            gpus: that it is spread over.
            bandwidth_gb_s: of the memory of one of them, in GB (1e9 bytes) per second.

        Returns:
            None where a number format is of an unknown size.
        """
        weights, bits = shape.weights_bytes, None
        if serving.quantization is not None:
            if serving.quantization not in WEIGHT_BITS:
                return None
            weights *= WEIGHT_BITS[serving.quantization] / (8 * shape.number_bytes)
        if serving.kv_cache_dtype is not None:
            kind = serving.kv_cache_dtype.partition("_")[0]
            if kind not in CACHE_BITS:
                return None
            bits = CACHE_BITS[kind]
        return cls(
            weights=weights / gpus,
            token=shape.kv_bytes_per_token(bits) / gpus,
            operations=2 * shape.active / gpus,
            active=min(1.0, shape.active / shape.parameters),
            bandwidth=None if bandwidth_gb_s is None else bandwidth_gb_s * 1e9,
            cached=serving.prefix_caching,
            tokens_per_step=serving.speculative_tokens + 1 if serving.speculative else 1,
        )

    def weights_read(self, load: Load) -> float:
        """Bytes of the weights that a step reads: of experts those that any answer passes."""
        return self.weights * (1 - (1 - self.active) ** load.in_flight)

    def cache_read(self, load: Load) -> float:
        """Bytes of the KV cache that a step reads."""
        return load.in_flight * load.length * self.token

    def cache_share(self, load: Load) -> float:
        """Share of the KV cache in all bytes that a step reads."""
        return self.cache_read(load) / (self.cache_read(load) + self.weights_read(load))

    def _read_of(self, load: Load) -> float:
        """Tokens of a prompt that have to be read."""
        return load.prompt_tokens * (1 - load.sent_before * self.cached)

    # ---- about

    def step_s(self, load: Load) -> float:
        """Seconds of a decoding step, about; needs the bandwidth."""
        assert self.bandwidth is not None
        reading = (self.weights_read(load) + self.cache_read(load)) / self.bandwidth / EFFICIENCY
        return reading + STEP_S + SEQUENCE_S * load.in_flight

    def prompt_s(self, load: Load) -> float:
        """Seconds in which a prompt is read, about; needs the bandwidth."""
        assert self.bandwidth is not None
        return self.operations * self._read_of(load) / OPERATIONS_PER_BYTE / self.bandwidth

    def run_s(self, load: Load, requests: float) -> float:
        """Seconds of a run of so many requests, about; needs the bandwidth."""
        waves = max(1.0, requests / load.in_flight)
        return waves * load.output_tokens * self.step_s(load) + requests * self.prompt_s(load)

    # ---- at most

    def most_saved(self, base: Roofline, metric: str, load: Load) -> float | None:
        """The most that this serving could save of a time of the base, as a share of it; None of
        what is no time of requests.

        What prompts cost lies between nothing and the slowest arithmetic; the better of the two for
        this serving is taken.

        Args:
            base: how it is served without the optimisation.
            metric: name of a metric.
            load: that both have.
        """
        speeds = (FEWEST_OPERATIONS_PER_BYTE, math.inf)
        times = [
            (self._least(metric, load, speed), base._least(metric, load, speed)) for speed in speeds
        ]
        return max((1 - own / other for own, other in times if own and other), default=None)

    def _least(self, metric: str, load: Load, operations_per_byte: float) -> float | None:
        """What a time takes, in bytes that could be read meanwhile."""
        beside = LEAST_STEP_S * (self.bandwidth or 0.0)
        step = self.weights_read(load) + self.cache_read(load) + beside
        prompts = load.in_flight * self.operations * self._read_of(load) / operations_per_byte
        each = step / self.tokens_per_step
        match metric:
            case "TBT":
                return each
            case "TTFT" | "TTFT p90":
                return prompts + step
            case "TTFVT" | "E2E" | "E2E p90" | "run time" | "TPS":
                return prompts + load.output_tokens * each
        return None


def optimised(arms: Sequence[Arm]) -> bool:
    """Whether two arms ask the same of one model, and differ in optimisations that have a roofline:
    formats of numbers, a prefix cache, speculation."""
    if len(arms) != 2 or any(arm.cut or arm.workload.kind == "gamma" for arm in arms):
        return False
    first, base = arms
    return (
        first.serving != base.serving
        and _bare(first.serving) == _bare(base.serving)
        and replace(first, serving=base.serving) == base
    )


def _bare(serving: Serving) -> Serving:
    """The serving without these optimisations."""
    plain = Serving()
    return replace(
        serving,
        quantization=plain.quantization,
        kv_cache_dtype=plain.kv_cache_dtype,
        prefix_caching=plain.prefix_caching,
        speculative=plain.speculative,
        speculative_tokens=plain.speculative_tokens,
    )
