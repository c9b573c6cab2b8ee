"""How much memory of GPUs a server takes, worked out before it is started.

Weights and KV cache follow from the checkpoint's ``config.json``. What an engine takes on top is an
estimate until servers on this machine have shown it, see :mod:`.learnt`. All sizes are in bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from ..checkpoints import CheckpointError
from ..checkpoints.rounded import bits_of
from ..checkpoints.shape import Shape, shape_of
from ..experiment.serving import Serving
from ..models import ModelPair

GIB = 2**30
INSIDE = 2.2 * GIB
INSIDE_LARGE = 3.9 * GIB
"""What an engine takes beside weights and KV cache within the share of memory that it is told:
activations, logits, workspaces of libraries. Estimates from vLLM's defaults, which read prompts in
larger pieces on a GPU of 70 GiB and more."""
LARGE = 70 * GIB
OUTSIDE = 1.0 * GIB
"""What it takes beyond that share: the CUDA context, about half, and CUDA graphs; an estimate."""

UNKNOWN_DRAFTER = 0.1
"""What a draft model or an EAGLE head takes of its model's size where its own is not known."""


@dataclass(frozen=True)
class Need:
    """What a server needs of GPUs, before it is known of which.

    Attributes:
        weights: of all weights, on all its GPUs together.
        sequence: of the KV cache that one longest sequence takes, on all GPUs together.
        fixed_kv: of the KV cache on each GPU, where the pair of models says its size; None: it is
            as large as memory allows.
        spread: over at most how many GPUs the KV cache is split; more of them hold copies.
        counts: over how many GPUs the model may be spread, the preferred number first.
        overhead: of the engine on each GPU, as servers on this machine showed it; None: estimated.
        known: whether ``config.json`` was at hand; else the pair's own rough need was taken.
    """

    weights: float
    sequence: float = 0.0
    fixed_kv: float | None = None
    spread: int = 1
    counts: tuple[int, ...] = (1,)
    overhead: float | None = None
    known: bool = True

    def of_engine(self, total: float) -> float:
        """What the engine itself takes of a GPU with so much memory."""
        if self.overhead is not None:
            return self.overhead
        return OUTSIDE + (INSIDE_LARGE if total >= LARGE else INSIDE)

    def of_kv(self, gpus: int, sequences: int = 1) -> float:
        """What the KV cache takes of each of so many GPUs, for so many longest sequences."""
        if self.fixed_kv is not None:
            return self.fixed_kv
        return sequences * self.sequence / min(gpus, self.spread)

    def per_gpu(self, gpus: int, total: float, sequences: int = 1) -> float:
        """What it takes of each of so many GPUs, each with so much memory."""
        return self.weights / gpus + self.of_kv(gpus, sequences) + self.of_engine(total)


def need_of(
    serving: Serving,
    pair: ModelPair,
    *,
    parallel: bool = True,
    overhead: float | None = None,
    shape: Callable[[str], Shape | None] = shape_of,
) -> Need:
    """What serving a pair so needs of GPUs.

    A quantised checkpoint counts as its own files do, and one that the engine quantises when it
    loads it as it is before: that is what has to fit at first. A checkpoint of which nothing is on
    this machine yet counts as the role's own one, and that as the reasoning model: the models of a
    pair are of one size.

    Args:
        serving, pair: how what is served.
        parallel: whether the engine can spread a model over several GPUs.
        overhead: what the engine was seen to take on each GPU.
        shape: of a model, as its ``config.json`` tells it.
    """
    own, base = replace(serving, quantization=None), Serving()
    known = (_shape(_checkpoint(each, pair), shape) for each in (serving, own, base))
    model = next((one for one in known if one is not None), None)
    fixed = None if pair.kv_cache_bytes is None else float(pair.kv_cache_bytes)
    counts = _counts(serving, pair, parallel, 1 if model is None else model.heads)
    if model is None:
        # Half of what a case needs, whose two servers share each GPU.
        rough = pair.gpu_memory_gib * GIB / 2 * counts[0]
        return Need(rough, 0.0, fixed, 1, counts, overhead or 0.0, known=False)
    drafter = {"draft": pair.draft, "eagle": pair.eagle}.get(serving.speculative or "")
    draft = _shape(drafter, shape)
    more = UNKNOWN_DRAFTER if drafter and draft is None else 0.0
    shapes = [one for one in (model, draft) if one is not None]
    bits = _bits(serving.kv_cache_dtype)
    return Need(
        weights=(1 + more) * sum(one.weights_bytes for one in shapes),
        sequence=(1 + more)
        * pair.context_of(serving.model)
        * sum(one.kv_bytes_per_token(bits) for one in shapes),
        fixed_kv=fixed,
        spread=min(one.kv_heads for one in shapes),
        counts=counts,
        overhead=overhead,
    )


def _counts(serving: Serving, pair: ModelPair, parallel: bool, heads: int) -> tuple[int, ...]:
    """That of the serving; else the pair's, and then twice and half as many and so on, as far as
    the attention heads can be split."""
    if serving.tensor_parallel > 1:
        return (serving.tensor_parallel,)
    if not parallel:
        return (1,)
    more = [pair.gpus * 2**k for k in range(1, 5)]
    fewer = [pair.gpus // 2**k for k in range(1, 5) if pair.gpus % 2**k == 0]
    return (pair.gpus, *(n for n in (*more, *fewer) if heads % n == 0))


def _checkpoint(serving: Serving, pair: ModelPair) -> str | None:
    """The folder or model id whose ``config.json`` tells the size; nothing is made or downloaded
    for that."""
    role, kind = serving.model, serving.quantization
    if role == "reasoning" and pair.wide_keys is not None:
        role = "original"  # of the same size
    with suppress(ValueError, OSError):
        whole = kind is None or bits_of(kind) is not None  # rounded weights have 16 bits as before
        return pair.path(role) if whole else pair.weights(role, kind)[0]
    return None


def _shape(model: str | None, shape: Callable[[str], Shape | None]) -> Shape | None:
    with suppress(CheckpointError):
        return None if model is None else shape(model)
    return None


def _bits(kv_cache_dtype: str | None) -> float | None:
    """Bits per number of a KV cache, by the first number in its type's name."""
    found = re.search(r"\d+", kv_cache_dtype or "")
    return float(found[0]) if found else None


def gib(size: float) -> str:
    """A size in GiB, for people."""
    return f"{size / GIB:.1f}"
