"""What a model takes, from its config.json."""

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_rllm.checkpoints import CheckpointError
from pytest_rllm.checkpoints.shape import GIB, Shape, folder_of, shape_of
from pytest_rllm.models import pair_named


def qwen2(layers: int, hidden: int, inner: int, heads: int, kv: int, **more: Any) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": 152_064,
        "max_position_embeddings": 131_072,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        **more,
    }


QWEN_7B = qwen2(28, 3584, 18_944, 28, 4)
QWEN_14B = qwen2(48, 5120, 13_824, 40, 8)
QWEN_32B = qwen2(64, 5120, 27_648, 40, 8)
LLAMA_70B = qwen2(80, 8192, 28_672, 64, 8, vocab_size=128_256)


@pytest.mark.parametrize(
    ("config", "parameters_b", "weights_gib", "kv_of_32768_gib"),
    [
        pytest.param(QWEN_7B, 7.62, 14.2, 1.75, id="7b"),
        pytest.param(QWEN_14B, 14.8, 27.5, 6.0, id="14b"),
        pytest.param(QWEN_32B, 32.8, 61.0, 8.0, id="32b"),
        pytest.param(LLAMA_70B, 70.6, 131.4, 10.0, id="70b"),
    ],
)
def test_published_sizes_come_out_of_the_configuration(
    config: dict[str, Any], parameters_b: float, weights_gib: float, kv_of_32768_gib: float
) -> None:
    shape = Shape.of(config)
    assert shape.parameters / 1e9 == pytest.approx(parameters_b, rel=0.01)
    assert shape.active == pytest.approx(shape.parameters, rel=0.1)
    assert shape.weights_bytes / GIB == pytest.approx(weights_gib, rel=0.01)
    assert 32_768 * shape.kv_bytes_per_token() / GIB == pytest.approx(kv_of_32768_gib)
    assert 32_768 * shape.kv_bytes_per_token(8) / GIB == pytest.approx(kv_of_32768_gib / 2)


def test_a_quantised_checkpoint_keeps_its_embeddings() -> None:
    gptq = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    small = Shape.of(QWEN_7B | {"quantization_config": gptq})
    assert small.parameters == Shape.of(QWEN_7B).parameters
    # The published GPTQ-Int4 checkpoint of this shape has 5.2 GiB.
    assert small.weights_bytes / GIB == pytest.approx(5.2, rel=0.03)
    assert small.kv_bytes_per_token() == Shape.of(QWEN_7B).kv_bytes_per_token()


@pytest.mark.parametrize(
    "quantized",
    [
        {"quant_method": "fp8", "activation_scheme": "dynamic"},
        {
            "quant_method": "compressed-tensors",
            "config_groups": {"group_0": {"weights": {"num_bits": 8, "group_size": None}}},
        },
    ],
)
def test_eight_bits_take_half_of_the_layers(quantized: dict[str, Any]) -> None:
    whole, half = Shape.of(QWEN_7B), Shape.of(QWEN_7B | {"quantization_config": quantized})
    embeddings = 2 * 152_064 * 3584 * 2
    assert half.weights_bytes - embeddings == pytest.approx(
        (whole.weights_bytes - embeddings) / 2, rel=0.01
    )


def test_experts_are_stored_and_mostly_passed_by() -> None:
    """Qwen3-30B-A3B: 30.5 billion parameters, of which a token passes 3.3."""
    config = qwen2(48, 2048, 6144, 32, 4, head_dim=128, vocab_size=151_936)
    config |= {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768}
    shape = Shape.of(config)
    assert shape.parameters / 1e9 == pytest.approx(30.5, rel=0.02)
    assert shape.active / 1e9 == pytest.approx(3.3, rel=0.1)


def test_latent_attention_caches_one_vector() -> None:
    config = qwen2(61, 7168, 18_432, 128, 128, kv_lora_rank=512, qk_rope_head_dim=64)
    assert Shape.of(config).kv_bytes_per_token() == 61 * 576 * 2


def test_a_model_that_sees_has_its_numbers_in_a_table() -> None:
    assert Shape.of({"text_config": QWEN_7B}) == Shape.of(QWEN_7B)


def test_the_bundled_models_have_the_sizes_of_their_files() -> None:
    folder = Path(pair_named("tiny").path("reasoning"))
    shape = shape_of(str(folder))
    assert shape is not None
    assert shape.weights_bytes == sum(f.stat().st_size for f in folder.glob("*.safetensors"))
    assert shape.weights_bytes == pytest.approx(shape.parameters * shape.number_bytes, rel=0.05)
    # What the pair says of its KV cache.
    assert shape.kv_bytes_per_token(16) == 4096


def test_a_model_that_is_not_here_has_no_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert shape_of("nobody/nothing-7B") is None
    assert folder_of(str(tmp_path)) is None
    assert shape_of(str(tmp_path / "model.gguf")) is None


@pytest.mark.parametrize(
    ("config", "lacks"),
    [
        ({**QWEN_7B, "vocab_size": None}, "vocab_size"),
        ({**QWEN_7B, "num_hidden_layers": "28"}, "num_hidden_layers"),
        ({**QWEN_7B, "hidden_size": -1}, "hidden_size"),
    ],
)
def test_a_configuration_without_a_number_says_which(
    tmp_path: Path, config: dict[str, Any], lacks: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=rf"config\.json.*{lacks}"):
        shape_of(str(tmp_path))
