"""How large a model is, from its ``config.json`` alone: weights, KV cache, longest sequence.

Nothing is downloaded and no weights are read. Where the safetensors files of a local folder are at
hand, their sizes are the weights' sizes; else they are worked out from the configuration, which
comes within some per cent of the published numbers of dense decoders and of usual mixtures of
experts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import Checkpoint, CheckpointError
from .families import head_size, text_config

GIB = 2**30
BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "float8_e4m3fn": 1.0}
"""Bytes of a number by the ``torch_dtype`` of a configuration; 2 where it says none."""
GROUP = 128
"""Weights that share a scale of 16 bits where a quantisation does not say its ``group_size``."""


@dataclass(frozen=True)
class Shape:
    """The numbers of a decoder that decide what serving it takes.

    Attributes:
        layers: with a KV cache of their own.
        hidden: width of the model.
        heads, kv_heads: of attention, per layer.
        head_size: numbers per head.
        vocabulary: tokens.
        context: longest sequence in tokens that it was made for; None where it is not told.
        parameters: of all weights.
        active: of the weights that one token passes; fewer than ``parameters`` with experts.
        weights_bytes: of all weights as they are stored.
        cached_numbers: numbers in the KV cache per token and layer: keys and values of every KV
            head, or the one latent vector of multi-head latent attention.
        number_bytes: of a number that is not quantised, such as one in the KV cache.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int | None
    parameters: float
    active: float
    weights_bytes: float
    cached_numbers: int
    number_bytes: float

    def kv_bytes_per_token(self, bits: float | None = None) -> float:
        """Bytes of the KV cache per token, on all GPUs together.

        Args:
            bits: per number of the cache; None for the model's own type.
        """
        each = self.number_bytes if bits is None else bits / 8
        return self.layers * self.cached_numbers * each

    @classmethod
    def of(cls, config: Mapping[str, Any], stored_bytes: float | None = None) -> Shape:
        """The shape that a configuration describes.

        Args:
            config: the content of ``config.json``.
            stored_bytes: of the files of its weights, where they are at hand.

        Raises:
            CheckpointError: the configuration does not say a number that is needed.
        """
        text = text_config(config)
        size, (heads, kv_heads) = head_size(config)
        layers, vocabulary = (_count(text, key) for key in ("num_hidden_layers", "vocab_size"))
        hidden = _count(text, "hidden_size")
        shared = config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))
        embeddings = vocabulary * hidden * (1 if shared else 2)
        every, active = _of_layers(text, layers, hidden, heads, kv_heads, size)
        number = BYTES.get(_type(config), 2.0)
        parameters = embeddings + every
        quantized = config.get("quantization_config")
        each = number if not isinstance(quantized, dict) else _quantized_bytes(quantized, number)
        latent = text.get("kv_lora_rank")
        cached = 2 * kv_heads * size
        if latent:
            cached = int(latent) + int(text.get("qk_rope_head_dim") or 0)
        return cls(
            layers=layers,
            hidden=hidden,
            heads=heads,
            kv_heads=kv_heads,
            head_size=size,
            vocabulary=vocabulary,
            context=_context(text),
            parameters=parameters,
            active=embeddings / (1 if shared else 2) + active,
            weights_bytes=stored_bytes or embeddings * number + every * each,
            cached_numbers=cached,
            number_bytes=number,
        )


def _context(text: Mapping[str, Any]) -> int | None:
    """The longest sequence in tokens; None where it is not told. YaRN stretches what a model was
    trained for, and published configurations name it where ``max_position_embeddings`` stays."""
    told = text.get("max_position_embeddings")
    rope = text.get("rope_parameters") or text.get("rope_scaling")
    if not isinstance(told, int):
        return None
    if not isinstance(rope, dict) or "yarn" not in (rope.get("rope_type"), rope.get("type")):
        return told
    trained, factor = rope.get("original_max_position_embeddings"), rope.get("factor")
    if not isinstance(trained, int) or not isinstance(factor, int | float):
        return told
    return max(told, int(trained * factor))


def shape_of(model: str) -> Shape | None:
    """The shape of a model in a folder here, or in the hub's cache on this machine.

    Args:
        model: a folder, or a model id.

    Returns:
        None where its configuration is not on this machine, or where the model is one file that
        has none (GGUF).

    Raises:
        CheckpointError: its configuration is there and cannot be used; with the file.
    """
    folder = folder_of(model)
    if folder is None:
        return None
    checkpoint = Checkpoint(folder)
    files = [*folder.glob("model*.safetensors")] or [*folder.glob("*.safetensors")]
    whole = all(file.is_file() for file in files)  # a link of the hub's cache may lead nowhere
    try:
        config = checkpoint.config
        return Shape.of(config, sum(f.stat().st_size for f in files) if whole else None)
    except CheckpointError as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from error


def folder_of(model: str) -> Path | None:
    """The folder on this machine that holds a model's ``config.json``, None where there is none.

    Args:
        model: a folder, or a model id, which is looked up in the hub's cache.
    """
    own = Path(model).expanduser()
    if (own / "config.json").is_file():
        return own
    if own.exists() or model.count("/") != 1 or model.startswith((".", "/", "~")):
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(model, "config.json")
    return Path(found).parent if isinstance(found, str | Path) and Path(found).is_file() else None


def _of_layers(
    text: Mapping[str, Any], layers: int, hidden: int, heads: int, kv_heads: int, size: int
) -> tuple[float, float]:
    """Parameters of all layers: of all weights, and of those that one token passes."""
    attention = hidden * size * (2 * heads + 2 * kv_heads)
    dense = 3.0 * hidden * int(text.get("intermediate_size") or 4 * hidden)
    experts = next(
        (int(n) for key in ("num_experts", "num_local_experts", "n_routed_experts")
         if (n := text.get(key))),
        0,
    )  # fmt: skip
    if not experts:
        return layers * (attention + dense), layers * (attention + dense)
    width = int(text.get("moe_intermediate_size") or text.get("intermediate_size") or 4 * hidden)
    each = 3.0 * hidden * width
    per_token = int(text.get("num_experts_per_tok") or 1)
    shared = int(text.get("n_shared_experts") or 0) * each
    first_dense = min(layers, int(text.get("first_k_dense_replace") or 0))
    mixed = layers - first_dense
    common = layers * attention + first_dense * dense + mixed * shared
    return common + mixed * experts * each, common + mixed * per_token * each


def _quantized_bytes(quantized: Mapping[str, Any], number: float) -> float:
    """Bytes per weight of a layer in a quantised checkpoint, with the scales of its groups."""
    bits, group = quantized.get("bits"), quantized.get("group_size")
    groups = quantized.get("config_groups")
    if isinstance(groups, dict):  # compressed-tensors
        for told in groups.values():
            weights = told.get("weights") if isinstance(told, dict) else None
            if isinstance(weights, dict):
                bits, group = weights.get("num_bits"), weights.get("group_size")
    if quantized.get("load_in_4bit"):
        bits, group = 4, 64
    if bits is None and "8" in str(quantized.get("quant_method")):
        return 1.0
    if not isinstance(bits, int):
        return number
    scale = 0.0 if bits >= 8 else 2 / (group if isinstance(group, int) and group > 0 else GROUP)
    return bits / 8 + scale


def _type(config: Mapping[str, Any]) -> str:
    text = text_config(config)
    told = [c.get(key) for c in (config, text) for key in ("dtype", "torch_dtype")]
    return next((str(kind) for kind in told if kind), "bfloat16")


def _count(text: Mapping[str, Any], key: str) -> int:
    found = text.get(key)
    if not isinstance(found, int) or found <= 0:
        raise CheckpointError(f"config.json does not say {key} as a positive number")
    return found
