"""Configurations of published models, as in their ``config.json``; no weights, no download."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_rllm.checkpoints.shape import Shape


def _decoder(
    layers: int, hidden: int, inner: int, heads: int, kv_heads: int, words: int, **more: Any
) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": words,
        "max_position_embeddings": 131_072,
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": False,
        **more,
    }


GPTQ = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}
CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": _decoder(28, 1536, 8960, 12, 2, 151_936),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": _decoder(28, 3584, 18_944, 28, 4, 152_064),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": _decoder(48, 5120, 13_824, 40, 8, 152_064),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": _decoder(64, 5120, 27_648, 40, 8, 152_064),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": _decoder(80, 8192, 28_672, 64, 8, 128_256),
    "Qwen/Qwen3-8B": _decoder(36, 4096, 12_288, 32, 8, 151_936, head_dim=128),
    "Qwen/Qwen3-14B": _decoder(40, 5120, 17_408, 40, 8, 151_936, head_dim=128),
    "Qwen/Qwen2.5-7B-Instruct": _decoder(28, 3584, 18_944, 28, 4, 152_064),
    "RedHatAI/DeepSeek-R1-Distill-Qwen-7B-quantized.w4a16": _decoder(
        28, 3584, 18_944, 28, 4, 152_064, **GPTQ
    ),
}


def shape(model: str) -> Shape | None:
    """The shape of one of these models; None of others, as of what is not on this machine."""
    return Shape.of(CONFIGS[model]) if model in CONFIGS else None
