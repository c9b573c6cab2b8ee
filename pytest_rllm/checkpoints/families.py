"""Where families of models keep what makes their keys, and what each does to them.

Names and formulas follow the families' modules in the package ``transformers``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import Checkpoint, CheckpointError

_LAYER = re.compile(r"(?P<prefix>.*\blayers\.)(?P<layer>\d+)\.self_attn\.(?P<what>.+)")
_MADE_BY = ("k_proj", "qkv_proj")
_KEY_NORMS = ("k_norm", "k_layernorm", "key_layernorm")
_ELSEWHERE = re.compile(r"vision|visual|audio|\bmtp\b|talker|code2wav|encoder")
"""Parts of a checkpoint that are not the language model's decoder."""
ONE_PLUS = frozenset({"gemma", "gemma2", "gemma3", "gemma3_text", "qwen3_next"})
"""Types of models whose RMSNorm multiplies by one plus its weight."""
INTERLEAVED = frozenset({"cohere", "cohere2", "glm", "glm4", "gptj", "llama4_text", "ernie4_5"})
"""Types of models whose RoPE turns neighbours, (0, 1), (2, 3) ...; others turn the first half with
the second."""
LAYER_NORM = frozenset({"cohere", "cohere2", "phi", "stablelm", "starcoder2", "persimmon"})
"""Types of models whose norms take the mean away first."""


@dataclass(frozen=True)
class LayerNames:
    """Names of a layer's tensors.

    Attributes:
        layer: all before ``self_attn``.
        fused: the keys' rows lie in ``qkv_proj``, behind those of the queries.
        key_norm: the norm of keys, None for none.
    """

    layer: str
    fused: bool
    key_norm: str | None

    @property
    def attention(self) -> str:
        return f"{self.layer}self_attn"

    @property
    def projection(self) -> str:
        return f"{self.attention}.{'qkv_proj' if self.fused else 'k_proj'}"

    @property
    def input_norm(self) -> str:
        return f"{self.layer}input_layernorm"

    @staticmethod
    def of(checkpoint: Checkpoint) -> dict[int, LayerNames]:
        """Number of a layer to its names, of the layers that have keys.

        Raises:
            CheckpointError: there are none, with what there is instead.
        """
        parts: dict[tuple[str, int], set[str]] = {}
        for name in checkpoint.stored:
            if (m := _LAYER.fullmatch(name)) and not _ELSEWHERE.search(m["prefix"]):
                parts.setdefault((m["prefix"], int(m["layer"])), set()).add(m["what"])
        found: dict[int, LayerNames] = {}
        for (prefix, layer), names in sorted(parts.items()):
            made_by = next((what for what in _MADE_BY if f"{what}.weight" in names), None)
            packed = sorted(n for n in names if n.startswith(tuple(f"{w}." for w in _MADE_BY)))
            if made_by is None and packed:
                raise CheckpointError(
                    f"{checkpoint.folder}: the weights are packed ({packed[0]} in layer {layer}): "
                    "give the checkpoint in 16 bits that it was made from"
                )
            if made_by is not None:
                norm = next((n for n in _KEY_NORMS if f"{n}.weight" in names), None)
                start = f"{prefix}{layer}."
                key_norm = None if norm is None else f"{start}self_attn.{norm}"
                found[layer] = LayerNames(start, made_by == "qkv_proj", key_norm)
        if not found:
            there = sorted({n for names in parts.values() for n in names}) or sorted(
                checkpoint.stored
            )
            raise CheckpointError(
                f"{checkpoint.folder}: no layer has k_proj.weight or qkv_proj.weight; there is "
                f"{', '.join(there[:6]) or 'nothing'}"
            )
        return found


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model's part of a configuration, which models that see have in a table."""
    own = config.get("text_config")
    return own if isinstance(own, dict) else config


def head_size(config: Mapping[str, Any]) -> tuple[int, tuple[int, int]]:
    """Numbers per head, and how many query and KV heads there are.

    Raises:
        CheckpointError: the configuration does not say it.
    """
    text = text_config(config)
    heads, hidden = text.get("num_attention_heads"), text.get("hidden_size")
    kv_heads = text.get("num_key_value_heads") or heads
    if not (
        isinstance(heads, int)
        and isinstance(hidden, int)
        and isinstance(kv_heads, int)
        and min(heads, hidden, kv_heads) > 0
    ):
        raise CheckpointError(
            "config.json does not say num_attention_heads, num_key_value_heads and hidden_size "
            "as one number each"
        )
    size = text.get("head_dim") or hidden // heads
    if heads % kv_heads or not isinstance(size, int):
        raise CheckpointError(f"config.json: {heads} heads cannot share {kv_heads} KV heads")
    return size, (heads, kv_heads)


def why_not(config: Mapping[str, Any]) -> str | None:
    """Why a model's keys cannot be bounded here, None where they can."""
    text = text_config(config)
    if text.get("kv_lora_rank"):
        return (
            "its attention is multi-head latent attention (kv_lora_rank), whose cache holds a "
            "latent vector in place of keys"
        )
    if text.get("use_qk_norm") and text.get("model_type") == "llama4_text":
        return "the norm of its keys has no weights and is used in some layers only"
    return None


def pairs_of_rope(config: Mapping[str, Any], size: int) -> list[tuple[int, ...]]:
    """Positions in a head that RoPE turns together; those that it leaves alone stand alone."""
    text = text_config(config)
    rope = _rope(text)
    share = rope.get("partial_rotary_factor") or text.get("partial_rotary_factor") or 1.0
    turned = int(size * float(share)) // 2 * 2
    half = turned // 2
    if text.get("model_type") in INTERLEAVED:
        pairs = [(2 * i, 2 * i + 1) for i in range(half)]
    else:
        pairs = [(i, i + half) for i in range(half)]
    return [*pairs, *((i,) for i in range(turned, size))]


def rope_gain(config: Mapping[str, Any]) -> float:
    """What RoPE multiplies keys by beside turning them: more than 1 with YaRN and LongRoPE."""
    text = text_config(config)
    rope = _rope(text)
    kind = rope.get("rope_type") or rope.get("type")
    if (told := rope.get("attention_factor")) is not None:
        return float(told)
    factor = rope.get("factor")
    original = rope.get("original_max_position_embeddings") or text.get(
        "original_max_position_embeddings"
    )
    longest = text.get("max_position_embeddings")
    if kind in ("longrope", "su") and original and longest:
        scale = float(factor or longest / original)
        return math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
    if kind == "yarn":
        scale = float(factor or (longest / original if longest and original else 1))
        return 0.1 * math.log(scale) + 1 if scale > 1 else 1.0
    return 1.0


def _rope(text: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of RoPE: one table, or one per kind of layer, of which full attention's."""
    told = text.get("rope_parameters") or text.get("rope_scaling") or {}
    if isinstance(told, dict) and isinstance(told.get("full_attention"), dict):
        told = told["full_attention"]
    return told if isinstance(told, dict) else {}
