"""How large the keys of a checkpoint can get, and which formats of a KV cache hold them.

A key is ``R(W n(x) + b)``: the input's norm ``n``, a projection, a bias, and RoPE, which turns
pairs of numbers by an angle that depends on the position. An RMSNorm leaves a vector of at most
``sqrt(hidden)`` before its weights ``g``, and turning keeps the length of a pair. So for every
input at every position a number of a pair is at most

    largest singular value of (W_pair diag(g)) * sqrt(hidden) + |W_pair beta + b_pair|

(``beta``: the shift of a LayerNorm). A norm of keys (QK-norm) bounds them by its weights alone.
An input need not point in the one direction that reaches this bound. So three smaller numbers stand
beside it. *Seen*: in the first layer, whose input is a token's embedding, what tokens of the
vocabulary reach, for certain. *Bias*: the constant part alone. *Estimate*, of the other layers: as
far from the bias to the bound as tokens go in the first layer; it is a guess, because inputs of
later layers have directions of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import Checkpoint, CheckpointError
from .families import (
    LAYER_NORM,
    ONE_PLUS,
    LayerNames,
    head_size,
    pairs_of_rope,
    rope_gain,
    text_config,
    why_not,
)

Answer = Literal["holds", "probably holds", "probably overflows", "overflows"]
LARGEST = {"bf16": 3.3895e38, "fp16": 65504.0, "e5m2": 57344.0, "e4m3": 448.0}
"""Largest number of each format, with a scale of 1."""
SCALED = {"int8 per token": 127, "int4 per token": 7}
"""Formats with a scale of their own per token and head, and the steps they have up to the largest
number: no range is too wide for them."""
SIGMAS = 4.0
"""The least that an estimate goes out, in standard deviations of inputs in random directions: of a
pair of normal numbers one in 3,000 is further out."""
HARMFUL = 2.0
"""How many times the range must be exceeded, by tokens in the first layer, for a collapse to be
foretold. Read from variants of the bundled reasoning model, whose answers stayed right up to 1.8
times and were wrong from 2.3 times on; a model with short answers loses less
(docs/why-fp8-kv-caches-collapse.md)."""
TOKENS = 4096
"""Most tokens of the vocabulary whose keys are worked out in the first layer."""


@dataclass(frozen=True)
class Head:
    """What the keys of one KV head can reach: the largest magnitude of a number after RoPE.

    Attributes:
        layer, head: which one.
        bound: never exceeded, whatever the input.
        estimate: a guess at what is reached, never beyond the bound.
        bias: of the constant part alone.
        seen: reached by tokens of the vocabulary; of the first layer only, else None.
    """

    layer: int
    head: int
    bound: float
    estimate: float
    bias: float
    seen: float | None = None

    @property
    def expected(self) -> float:
        """What is seen where that is known, else the estimate."""
        return self.estimate if self.seen is None else self.seen


@dataclass(frozen=True)
class Fit:
    """Whether a format holds the keys.

    Attributes:
        format: its name.
        answer: ``holds``: the bound is within its range; ``overflows``: tokens of the vocabulary go
            beyond it in the first layer; ``probably ...``: what the estimate says.
        room: largest number of the format over the expected reach; below 1 it is too small. None
            where a scale per token leaves no range too wide.
        heads: how many KV heads of all layers are expected to go beyond it.
        excess: how many times its largest number tokens reach in the first layer, for certain.
    """

    format: str
    answer: Answer
    room: float | None
    heads: int
    excess: float = 0.0

    @property
    def accuracy(self) -> Literal["kept", "collapses"] | None:
        """What is foretold of a reasoning model's accuracy with such a KV cache; None: it may
        suffer."""
        if self.answer in ("holds", "probably holds"):
            return "kept"
        return "collapses" if self.excess > HARMFUL else None


@dataclass(frozen=True)
class Keys:
    """What the keys of a checkpoint can reach.

    Attributes:
        folder: of the checkpoint.
        model_type: as its configuration says it.
        heads: per layer and KV head; empty where it cannot be told.
        unknown: why it cannot be told, of the whole or of some layers; None where all is told.
        key_norm: whether a norm of keys (QK-norm) bounds them.
    """

    folder: Path
    model_type: str
    heads: tuple[Head, ...]
    unknown: str | None
    key_norm: bool

    def fit(self, name: str) -> Fit | None:
        """Whether a format holds them; None where that cannot be told.

        Args:
            name: of the format, one of ``LARGEST`` or ``SCALED``.
        """
        if name in SCALED:
            return Fit(name, "holds", None, 0)
        if not self.heads:
            return None
        largest = LARGEST[name]
        beyond = sum(head.expected > largest for head in self.heads)
        excess = max(head.seen or 0.0 for head in self.heads) / largest
        if excess > 1:
            answer: Answer = "overflows"
        elif beyond:
            answer = "probably overflows"
        elif self.unknown:
            return None
        else:
            bound = max(head.bound for head in self.heads)
            answer = "holds" if bound <= largest else "probably holds"
        return Fit(name, answer, largest / self.reach, beyond, excess)

    @property
    def reach(self) -> float:
        """The largest expected magnitude of all heads."""
        return max(head.expected for head in self.heads)

    def fits(self) -> list[Fit]:
        """Of every format of which it can be told."""
        return [fit for name in (*LARGEST, *SCALED) if (fit := self.fit(name)) is not None]


def keys_of(folder: Path) -> Keys:
    """What the keys of a checkpoint can reach, from its files alone.

    Raises:
        CheckpointError: the checkpoint cannot be read, or its weights are packed.
    """
    checkpoint = Checkpoint(folder)
    kind = str(text_config(checkpoint.config).get("model_type", "unknown"))
    if (why := why_not(checkpoint.config)) is not None:
        return Keys(folder, kind, (), why, False)
    layers = LayerNames.of(checkpoint)
    size, (_, kv_heads) = head_size(checkpoint.config)
    spans: dict[int, _Spans] = {}
    refused: dict[int, str] = {}
    for layer, names in sorted(layers.items()):
        found = _Layer(checkpoint, kind, names, size, kv_heads).spans(first=layer == 0)
        if isinstance(found, str):
            refused[layer] = found
        else:
            spans[layer] = found
    share = spans[0].share() if 0 in spans else None
    heads = tuple(head for layer, each in spans.items() for head in each.heads(layer, share))
    unknown = None
    if refused:
        layer, why = next(iter(refused.items()))
        unknown = f"{len(refused)} of {len(layers)} layers cannot be told: layer {layer} {why}"
    normed = bool(layers) and all(names.key_norm for names in layers.values())
    return Keys(folder, kind, heads, unknown, normed)


@dataclass(frozen=True)
class _Spans:
    """What a layer's keys can reach. Arrays have the shape (KV heads, pairs of RoPE).

    Attributes:
        width: how far the input can move a pair, at most.
        bias: length of a pair's constant part.
        radius: largest length of the vector that the width is of.
        seen: lengths that tokens reach; None where they are not known.
    """

    width: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    radius: float
    seen: npt.NDArray[np.float64] | None

    def share(self) -> float | None:
        """The largest part of its width that a token moves a pair by, at most 1."""
        if self.seen is None:
            return None
        moves = (self.seen - self.bias) / np.maximum(self.width, 1e-30)
        return float(np.clip(moves.max(), 0, 1))

    def heads(self, layer: int, share: float | None) -> list[Head]:
        """Every KV head, with estimates by that share of the width."""
        goes = min(1.0, max(share or 0.0, SIGMAS / self.radius))
        return [
            Head(
                layer,
                head,
                bound=float((width + bias).max()),
                estimate=float((goes * width + bias).max()),
                bias=float(bias.max()),
                seen=None if self.seen is None else float(self.seen[head].max()),
            )
            for head, (width, bias) in enumerate(zip(self.width, self.bias, strict=True))
        ]


@dataclass(frozen=True)
class _Layer:
    checkpoint: Checkpoint
    kind: str
    names: LayerNames
    size: int
    kv_heads: int

    def spans(self, *, first: bool) -> _Spans | str:
        """What its keys can reach, or why that cannot be told, as the end of a sentence.

        Args:
            first: whether its input is a token's embedding.
        """
        names, stored = self.names, self.checkpoint.stored
        count = self.kv_heads * self.size
        rows = stored[f"{names.projection}.weight"].shape[0]
        if (rows < count) if names.fused else (rows != count):
            return f"has {rows} rows in {names.projection}, where config.json tells of {count} keys"
        has_norm = f"{names.input_norm}.weight" in stored
        if not has_norm and not names.key_norm:
            return "has neither input_layernorm nor a norm of keys, and nothing bounds its keys"
        gain = rope_gain(self.checkpoint.config)
        tokens = self._tokens() if first and has_norm else None
        weight = constant = np.zeros((0, 0), np.float32)
        if not names.key_norm or tokens is not None:
            weight, constant = self._projection()
        keys = None
        if tokens is not None:
            keys = (tokens @ weight.T + constant).reshape(len(tokens), self.kv_heads, self.size)
        if names.key_norm:
            scale, shift, radius = self._key_norm()
            width = self._of_pairs(scale, "widest") * radius
            bias = self._of_pairs(shift, "length")
            if keys is not None:
                keys = self._normed(keys, radius) * scale + shift
        else:
            radius = float(np.sqrt(weight.shape[1]))
            width = self._of_pairs(weight.reshape(self.kv_heads, self.size, -1), "singular")
            width = width * radius
            bias = self._of_pairs(constant.reshape(self.kv_heads, self.size), "length")
        seen = None
        if keys is not None:
            seen = gain * self._of_pairs(keys.transpose(1, 2, 0), "longest")
        return _Spans(gain * width, gain * bias, radius, seen)

    def _of_pairs(
        self, values: npt.NDArray[Any], what: Literal["widest", "length", "singular", "longest"]
    ) -> npt.NDArray[np.float64]:
        """One number per KV head and pair, of values whose first two axes are heads and numbers."""
        takes: Mapping[str, Callable[[npt.NDArray[Any]], Any]] = {
            "widest": lambda rows: np.abs(rows).max(),
            "length": np.linalg.norm,
            "singular": _largest_singular,
            "longest": lambda rows: np.linalg.norm(rows, axis=0).max(),
        }
        take = takes[what]
        pairs = pairs_of_rope(self.checkpoint.config, self.size)
        return np.array([[float(take(head[list(pair)])) for pair in pairs] for head in values])

    def _weights(self, norm: str) -> npt.NDArray[np.float32]:
        """What a norm multiplies by."""
        weight = self.checkpoint.tensor(f"{norm}.weight")
        return weight + 1 if self.kind in ONE_PLUS else weight

    def _key_norm(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], float]:
        """Weights and shift per KV head and number, and the length of what they multiply: the norm
        is over each head, or over all heads at once."""
        assert self.names.key_norm is not None
        name = self.names.key_norm
        weight = self._weights(name)
        shift = np.zeros_like(weight)
        if f"{name}.bias" in self.checkpoint.stored:
            shift = self.checkpoint.tensor(f"{name}.bias")
        shape = self.kv_heads, self.size
        at_once = weight.ndim == 1 and weight.size == self.kv_heads * self.size != self.size
        if weight.size not in (self.size, self.kv_heads * self.size):
            raise CheckpointError(
                f"{self.checkpoint.folder}: {name}.weight has {weight.size} numbers, which is "
                f"neither a head's {self.size} nor those of {self.kv_heads} KV heads"
            )
        normed = self.kv_heads * self.size if at_once else self.size
        weight, shift = np.resize(weight, shape), np.resize(shift, shape)
        return weight, shift, float(np.sqrt(normed))

    def _normed(self, keys: npt.NDArray[Any], radius: float) -> npt.NDArray[Any]:
        """Keys of tokens (tokens, KV heads, numbers) after their norm, before its weights."""
        axes = 2 if round(radius**2) == self.size else (1, 2)
        if self.kind in LAYER_NORM:
            keys = keys - keys.mean(axis=axes, keepdims=True)
        length = np.sqrt((keys**2).sum(axis=axes, keepdims=True))
        normed: npt.NDArray[Any] = radius * keys / np.maximum(length, 1e-12)
        return normed

    def _projection(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The keys' weights times those of the input's norm, and the constant part of keys."""
        names, stored = self.names, self.checkpoint.stored
        count, name = self.kv_heads * self.size, f"{names.projection}.weight"
        begin = stored[name].shape[0] - 2 * count if names.fused else 0
        rows = slice(begin, begin + count)
        weight = self.checkpoint.tensor(name, rows)
        constant = np.zeros(count, np.float32)
        if f"{names.input_norm}.bias" in stored:
            constant = constant + weight @ self.checkpoint.tensor(f"{names.input_norm}.bias")
        if f"{names.projection}.bias" in stored:
            constant = constant + self.checkpoint.tensor(f"{names.projection}.bias", rows)
        return weight * self._weights(names.input_norm), constant

    def _tokens(self) -> npt.NDArray[np.float32] | None:
        """Embeddings of tokens, normed, before the norm's weights; None where there are none."""
        table = f"{self.names.layer.rpartition('layers.')[0]}embed_tokens.weight"
        stored = self.checkpoint.stored.get(table)
        if stored is None:
            return None
        chosen = np.unique(np.linspace(0, stored.shape[0] - 1, TOKENS).astype(int))
        rows: npt.NDArray[np.float32] = self.checkpoint.tensor(table, chosen)
        if self.kind in LAYER_NORM or f"{self.names.input_norm}.bias" in self.checkpoint.stored:
            rows = rows - rows.mean(axis=1, keepdims=True)
        scale = np.sqrt((rows**2).mean(axis=1, keepdims=True))
        normed: npt.NDArray[np.float32] = rows / np.maximum(scale, np.float32(1e-12))
        return normed


def _largest_singular(rows: npt.NDArray[np.float32]) -> float:
    """Of one row or of two: from the eigenvalues of their products."""
    wide = rows.astype(np.float64)
    if len(wide) == 1:
        return float(np.linalg.norm(wide))
    (a, b), (_, d) = wide @ wide.T
    return float(np.sqrt((a + d) / 2 + np.hypot((a - d) / 2, b)))


def as_json(keys: Keys) -> Mapping[str, Any]:
    """All that is told, for other programs."""
    return {
        "folder": str(keys.folder),
        "model_type": keys.model_type,
        "key_norm": keys.key_norm,
        "unknown": keys.unknown,
        "formats": {
            fit.format: {"answer": fit.answer, "room": fit.room, "heads_beyond": fit.heads}
            for fit in keys.fits()
        },
        "heads": [
            {
                "layer": head.layer,
                "head": head.head,
                "bound": head.bound,
                "estimate": head.estimate,
                "bias": head.bias,
                "seen": head.seen,
            }
            for head in keys.heads
        ],
    }
