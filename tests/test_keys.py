"""What keys of a checkpoint can reach: true of real families, and a sentence for what is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_rllm.__main__ import main
from pytest_rllm.checkpoints import INDEX, Checkpoint, CheckpointError
from pytest_rllm.checkpoints.keys import SCALED, keys_of
from pytest_rllm.checkpoints.wide_keys import WideKeys, widened_copy, write
from pytest_rllm.engines.capabilities import Capabilities
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.models import PAIRS

ROOT = Path(__file__).parent.parent
REASONING = Path(PAIRS["tiny"].reasoning)
SMALL = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 4,
    "long_factor": [2.0] * 4,
    "original_max_position_embeddings": 16,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2", {}),
    "qwen2 with yarn": ("Qwen2", {"rope_parameters": {**YARN, "rope_theta": 1e4}}),
    "qwen3 with qk-norm": ("Qwen3", {"head_dim": 16}),
    "llama": ("Llama", {"attention_bias": True}),
    "mistral": ("Mistral", {"head_dim": 16}),
    "phi3, fused": ("Phi3", {"rope_parameters": {**LONG, "rope_theta": 1e4}}),
    "gemma, 1 + w": ("Gemma", {"head_dim": 16}),
    "gemma2, 1 + w": ("Gemma2", {"head_dim": 16}),
    "gemma3, 1 + w, qk-norm": ("Gemma3Text", {"head_dim": 16, "num_hidden_layers": 6}),
    "gpt-oss": ("GptOss", {"head_dim": 16, "num_local_experts": 2, "num_experts_per_tok": 1}),
    "olmo2, no input norm": ("Olmo2", {}),
    "cohere, layer norm": ("Cohere", {}),
    "starcoder2, layer norm with a shift": ("Starcoder2", {"use_bias": True}),
    "glm4, partial rope": ("Glm4", {"head_dim": 16, "partial_rotary_factor": 0.5}),
}


def model_of(family: str) -> Any:
    """A small random model with uneven norms and biases."""
    import torch
    import transformers

    name, own = FAMILIES[family]
    torch.manual_seed(3)
    config = getattr(transformers, f"{name}Config")(**{**SMALL, **own})
    model = getattr(transformers, f"{name.removesuffix('Text')}ForCausalLM")(config)
    for each in model.parameters():
        with torch.no_grad():
            each.add_(torch.randn_like(each) * (0.3 if each.ndim == 1 else 0.1))
    return model.eval()


def reached(model: Any) -> np.ndarray[Any, Any]:
    """The largest magnitude of a key per layer and KV head, over random texts."""
    import torch

    texts = torch.randint(0, SMALL["vocab_size"], (8, 60))
    with torch.no_grad():
        cache = model(texts, use_cache=True).past_key_values
    return np.array([layer.keys.abs().amax(dim=(0, 2, 3)).numpy() for layer in cache.layers])


@pytest.mark.parametrize("family", FAMILIES)
def test_no_key_of_a_real_family_goes_beyond_its_bound(tmp_path: Path, family: str) -> None:
    """The family's own code in ``transformers`` is what says how large its keys are."""
    model = model_of(family)
    model.save_pretrained(tmp_path, max_shard_size="20KB" if "llama" in family else "5GB")
    assert (tmp_path / INDEX).exists() is ("llama" in family)
    found = keys_of(tmp_path)
    assert found.unknown is None
    assert found.key_norm is any(word in family for word in ("qk-norm", "olmo2"))
    true = reached(model)
    bounds = np.array([head.bound for head in found.heads]).reshape(true.shape)
    assert (true <= bounds * 1.001).all()
    assert (bounds < 20 * true).all()  # a bound that says something
    for head in found.heads:
        assert head.bias <= head.estimate * 1.001 <= head.bound * 1.002
        assert (head.seen is not None) is (head.layer == 0 and "olmo2" not in family)
        if head.seen is not None:  # at some angle; texts need not have turned it there
            assert 0.5 * head.seen < true[0, head.head] <= head.seen * 1.001


def test_the_bundled_model_is_told_as_it_is() -> None:
    """Keys of ten answers reached 6.3 and 8.3 in the first layer, 13.6 in the last (transformers,
    float32); e4m3 has room for that, and for no 128 times of it."""
    found = keys_of(REASONING)
    assert [round(head.seen or 0, 1) for head in found.heads[:2]] == [6.3, 8.3]
    assert 13.6 < found.reach < max(head.bound for head in found.heads)
    assert {fit.format: fit.answer for fit in found.fits()} == dict.fromkeys(
        ("bf16", "fp16", "e5m2", "e4m3", *SCALED), "holds"
    )


def test_a_variant_has_wider_keys_and_the_same_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("RLLM_CACHE", str(tmp_path))
    made = widened_copy(REASONING, WideKeys(7))
    assert made == widened_copy(REASONING, WideKeys(7))
    assert made.is_relative_to(tmp_path)
    assert keys_of(made).reach == pytest.approx(128 * keys_of(REASONING).reach, rel=1e-4)
    models = [
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        for folder in (REASONING, made)
    ]
    texts = torch.randint(3, 500, (2, 40), generator=torch.Generator().manual_seed(1))
    first, second = (model(texts, use_cache=True) for model in models)
    assert torch.equal(first.logits, second.logits)
    old, new = (answer.past_key_values.layers[3].keys for answer in (first, second))
    assert torch.equal(128 * old, new)


def test_a_variant_of_some_heads_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLLM_CACHE", str(tmp_path))
    made = widened_copy(REASONING, WideKeys(4, heads=(1,), layers=(0, 2)))
    old, new = keys_of(REASONING), keys_of(made)
    for before, after in zip(old.heads, new.heads, strict=True):
        wider = before.head == 1 and before.layer in (0, 2)
        assert after.bound == pytest.approx(before.bound * (16 if wider else 1), rel=1e-5)
    q = "model.layers.2.self_attn.q_proj.weight"
    before, after = (Checkpoint(folder).tensor(q) for folder in (REASONING, made))
    assert np.array_equal(after[:128], before[:128])  # query heads 0 and 1 share KV head 0
    assert np.array_equal(after[128:] * 16, before[128:])


def test_a_variant_that_bfloat16_cannot_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLLM_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"times 2\^-130 cannot be held exactly"):
        widened_copy(REASONING, WideKeys(130))
    assert not [path for path in (tmp_path / "wide-keys").iterdir() if path.is_dir()]


# ---- what it says


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["keys", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_command_says_which_caches_hold_the_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLLM_CACHE", str(tmp_path))
    status, out, _ = said(capsys, str(REASONING))
    assert status == 0
    assert "with a scale of 1" not in out
    wide = widened_copy(REASONING, WideKeys(7))
    status, out, _ = said(capsys, str(wide))
    assert status == 0
    assert "e4m3 with a scale of 1: tokens reach 2.4 times its range" in out
    assert "A k_scale of 8 would hold them." in out
    status, out, _ = said(capsys, str(wide), "--json")
    told = json.loads(out)
    assert (status, told["formats"]["e4m3"]["answer"]) == (0, "overflows")
    assert (told["formats"]["e5m2"]["answer"], len(told["heads"])) == ("holds", 16)


def checkpoint(folder: Path, config: dict[str, Any], tensors: dict[str, Any]) -> Path:
    """A checkpoint of tensors in 32 bits, or of (type, shape) with zeros."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    header: dict[str, Any] = {}
    values = b""
    for name, tensor in tensors.items():
        if isinstance(tensor, tuple):
            kind, shape = tensor
            data = bytes(int(np.prod(shape)) * {"F8_E4M3": 1, "U8": 1, "I32": 4}[kind])
        else:
            kind, shape, data = "F32", tensor.shape, np.float32(tensor).tobytes()
        place = [len(values), len(values) + len(data)]
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": place}
        values += data
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + values)
    return folder


CONFIG = {**SMALL, "model_type": "llama"}
LAYER = "model.layers.0.self_attn"
KEYS = {f"{LAYER}.k_proj.weight": np.ones((16, 32))}
MLA = {**CONFIG, "model_type": "deepseek_v3", "kv_lora_rank": 512}


def test_latent_attention_cannot_be_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkpoint(tmp_path, MLA, {f"{LAYER}.kv_a_proj_with_mqa.weight": np.ones((8, 32))})
    status, out, _ = said(capsys, str(folder))
    assert status == 0
    assert "cannot tell: its attention is multi-head latent attention (kv_lora_rank)" in out


def test_a_layer_that_nothing_bounds_is_named_and_no_format_is_promised(tmp_path: Path) -> None:
    found = keys_of(checkpoint(tmp_path, CONFIG, KEYS))
    assert found.heads == ()
    assert found.unknown is not None
    assert "layer 0 has neither input_layernorm nor a norm of keys" in found.unknown
    assert [fit.format for fit in found.fits()] == list(SCALED)


def test_heads_of_another_size_are_named(tmp_path: Path) -> None:
    found = keys_of(checkpoint(tmp_path, {**CONFIG, "head_dim": 64}, KEYS))
    assert found.unknown is not None
    assert f"layer 0 has 16 rows in {LAYER}.k_proj, where config.json tells of 128" in found.unknown


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, r"no layer has k_proj\.weight or qkv_proj\.weight; there is nothing"),
        ({"h.0.attn.c_attn.weight": np.ones((4, 4))}, r"there is h\.0\.attn\.c_attn\.weight"),
        ({f"{LAYER}.k_proj.qweight": ("I32", (4, 4))}, r"packed \(k_proj\.qweight in layer 0\)"),
        ({f"{LAYER}.k_proj.weight_packed": ("I32", (4, 4))}, "packed.*16 bits"),
        (
            {
                f"{LAYER}.k_proj.weight": ("F8_E4M3", (16, 32)),
                "model.layers.0.input_layernorm.weight": np.ones(32),
            },
            r"k_proj\.weight is quantised \(F8_E4M3\)",
        ),
    ],
)
def test_what_is_no_plain_checkpoint_is_refused_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tensors: dict[str, Any], message: str
) -> None:
    folder = checkpoint(tmp_path, CONFIG, tensors)
    with pytest.raises(CheckpointError, match=message):
        keys_of(folder)
    status, out, err = said(capsys, str(folder))
    assert (status, out) == (2, "")
    assert err.startswith("keys: ")
    assert len(err.splitlines()) == 1


def test_a_file_that_is_cut_off_or_missing_is_named(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, CONFIG, KEYS)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    for length, message in ((len(whole) - 1, "is cut off: it has"), (40, "cut"), (3, "cut")):
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=f"model.safetensors .*{message}"):
            keys_of(folder)
    file.write_bytes(b"<html>no such file, and some more words</html>")
    with pytest.raises(CheckpointError, match="no safetensors file"):
        keys_of(folder)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"holds no \.safetensors file"):
        keys_of(folder)
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": "model-1-of-2.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"model-1-of-2\.safetensors is missing"):
        keys_of(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("no json", "cannot be read as JSON"),
        ("[]", "holds no JSON object"),
        ("{}", "does not say num_attention_heads"),
        ('{"hidden_size": 32, "num_attention_heads": [4, 4]}', "as one number each"),
        ('{"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 3}', "cannot share"),
    ],
)
def test_a_config_that_does_not_tell_is_refused(tmp_path: Path, config: str, message: str) -> None:
    folder = checkpoint(tmp_path, {}, KEYS)
    (folder / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=message):
        keys_of(folder)


def test_what_is_no_checkpoint_at_all_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is no folder" in said(capsys, str(tmp_path / "absent"))[2]
    assert "holds no config.json" in said(capsys, str(tmp_path))[2]
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert "is a GGUF file" in said(capsys, str(tmp_path))[2]
    assert "is a GGUF file" in said(capsys, str(tmp_path / "model.gguf"))[2]
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert "the hub's local cache has no such model" in said(capsys, "nobody/nothing")[2]


# ---- what it foretells, and the pairs that are made of variants


def test_what_is_foretold_is_what_was_measured() -> None:
    """`benchmarks/wide_keys.json`: variants on real vLLM, with a CPU that has AVX-512."""
    rows = json.loads((ROOT / "benchmarks" / "wide_keys.json").read_text())
    real = [row for row in rows if row["source"].startswith("vLLM")]
    reasoning = [row for row in real if row["model"] == "tiny-reasoning"]
    (own,) = {row["accuracy"] for row in reasoning if row["cache"] == "bf16"}
    told = {"kept": 0, "collapses": 0}
    for row in reasoning:
        if row["foretold"] is not None:
            told[row["foretold"]] += row["cache"] != "bf16"
            kept = row["foretold"] == "kept"
            assert own - row["accuracy"] < 0.1 if kept else own - row["accuracy"] > 0.3, row
    assert min(told.values()) >= 6
    emulated = {(row["keys"], row["cache"]): row["accuracy"] for row in rows if row not in real}
    shared = [row for row in reasoning if (row["keys"], row["cache"]) in emulated and row["whole"]]
    assert len(shared) >= 12
    for row in shared:
        assert abs(emulated[row["keys"], row["cache"]] - row["accuracy"]) < 0.15, row


@pytest.mark.parametrize(
    ("keys", "cache", "foretold"),
    [
        (WideKeys(4), "e4m3", "kept"),
        (WideKeys(5), "e4m3", None),
        (WideKeys(7), "e4m3", "collapses"),
        (WideKeys(7), "e5m2", "kept"),
        (WideKeys(11), "e5m2", "kept"),
        (WideKeys(14), "e5m2", "collapses"),
        (WideKeys(7, heads=(0,)), "e4m3", None),
        (WideKeys(7, heads=(1,)), "e4m3", "collapses"),
        (WideKeys(9, layers=(3,)), "e4m3", None),
        (WideKeys(14), "bf16", "kept"),
        (WideKeys(14), "fp16", "collapses"),
        (WideKeys(14), "int8 per token", "kept"),
    ],
)
def test_what_is_foretold_of_a_variant(
    tmp_path: Path, keys: WideKeys, cache: str, foretold: str | None
) -> None:
    write(REASONING, keys, tmp_path / "made")
    fit = keys_of(tmp_path / "made").fit(cache)
    assert fit is not None
    assert fit.accuracy == foretold


def test_a_pair_with_wide_keys_serves_the_variant_and_the_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLLM_CACHE", str(tmp_path))
    pair = PAIRS["tiny-wide-keys"]
    assert pair.path("original") == str(REASONING)
    variant = Path(pair.path("reasoning"))
    assert variant.is_relative_to(tmp_path)
    assert pair.revision("original") == PAIRS["tiny"].revision("reasoning")
    assert pair.revision("reasoning") != pair.revision("original")
    assert sorted(f.name for f in variant.iterdir()) == sorted(f.name for f in REASONING.iterdir())
    with pytest.raises(ValueError, match="the model pair 'tiny' has no original model"):
        PAIRS["tiny"].path("original")


def test_the_original_is_asked_as_the_reasoning_model() -> None:
    serving = Serving(model="original", kv_cache_dtype="fp8")
    assert (str(serving), serving.slug) == ("original, fp8 KV", "original+kv-fp8")
    assert Serving.of_slug("kv-fp8+original") == serving
    assert serving.reasons
    assert not Serving(model="plain").reasons
    can = Capabilities(models=frozenset({"reasoning"}), kv_cache_dtype=True)
    assert can.lacking(serving) == []
    assert can.lacking(Serving(model="plain")) == ["the plain model"]
    pair = replace(PAIRS["tiny"], requests={"reasoning": {"top_k": 1}})
    assert pair.asks({}, "original") == pair.asks({}, "reasoning") == {"top_k": 1}
