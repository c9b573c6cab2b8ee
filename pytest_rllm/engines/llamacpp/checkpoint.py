"""GGUF files of a Hugging Face checkpoint: made once, kept in the cache, checked where given.

Only the format is written by the package ``gguf``; what a checkpoint's parts are called in it
follows llama.cpp's own converter. Dense Qwen2 and Qwen3 models are converted here, which those of
the bundled pair are; a file of any other architecture is made by llama.cpp's converter, and given.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import cache_folder
from ...checkpoints import Checkpoint, widened
from ..base import EngineError

ARCH = "general.architecture"
TYPES = ("BF16", "F16", "Q8_0", "Q4_0")
"""Types of weights that can be written, as llama.cpp calls them."""
OWN = {"bfloat16": "BF16", "float16": "F16", "float32": "F16"}
"""The type that a checkpoint's own becomes; llama.cpp computes in 16 bits what is stored in 32."""
ARCHITECTURES = {"Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3"}
"""As ``config.json`` and as GGUF say it."""
FORMAT = 1
"""Increased when a file of the same checkpoint would be written differently."""
BLOCK = 32
"""Weights of a row that share one scale; other rows stay in 16 bits, as llama.cpp does it."""
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen's tokenizer splits a text into words; llama.cpp knows splits by names."""
SAMPLING = {
    "temperature": ("temp", 1.0),
    "top_p": ("top_p", 1.0),
    "top_k": ("top_k", 0),
    "min_p": ("min_p", 0.0),
    "repetition_penalty": ("penalty_repeat", 1.0),
}
"""Sampling defaults of ``generation_config.json``: what GGUF calls them, and the value of one that
is not there, with which it is off."""


def gguf_of(folder: Path, digest: str, kind: str | None) -> Path:
    """The GGUF file of a checkpoint, made where the cache has none.

    Args:
        folder: of the checkpoint.
        digest: of its content.
        kind: one of ``TYPES``; None for the nearest to the checkpoint's own.

    Raises:
        ValueError: the checkpoint cannot be converted here; with what to do instead.
        EngineError: the package ``gguf`` is not installed.
    """
    kind = kind or OWN.get(_dtype(_json(folder / "config.json")), "BF16")
    made = cache_folder() / "gguf" / f"{folder.name}-{kind}-{digest}-{FORMAT}.gguf"
    if made.is_file():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    with open(made.with_suffix(".making"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another session may be making it
        if not made.is_file():
            part = made.with_name(f".{made.name}.{os.getpid()}")
            try:
                _write(folder, kind, part)
                part.replace(made)
            finally:
                part.unlink(missing_ok=True)
    return made


def differences(file: Path, folder: Path) -> list[str]:
    """In what a GGUF file is not of a checkpoint's model: architecture, size, template, weights.

    Args:
        file: the GGUF file.
        folder: of the checkpoint.

    Raises:
        ValueError: the file is no GGUF file.
        EngineError: the package ``gguf`` is not installed.
    """
    config, told = _json(folder / "config.json"), read_fields(file)
    name = (config.get("architectures") or ["none"])[0]
    pairs = [
        ("architecture", ARCHITECTURES.get(name, name), told[ARCH]),
        ("vocabulary size", config.get("vocab_size"), told["vocabulary"]),
        ("chat template", template_of(folder), told.get("tokenizer.chat_template")),
    ]
    apart = [
        f"another {what}" if what == "chat template" else f"{what} {theirs} instead of {ours}"
        for what, ours, theirs in pairs
        if ours != theirs
    ]
    if not apart and name in ARCHITECTURES and not _same_norm(file, folder):
        apart = ["other weights (seen in the last norm, which no type of file rounds)"]
    return apart


def _same_norm(file: Path, folder: Path) -> bool:
    """Whether the last norm's weights are the checkpoint's; True where one of both has none."""
    gguf = _gguf()
    theirs = next(
        (t for t in gguf.GGUFReader(file).tensors if t.name == "output_norm.weight"), None
    )
    try:
        ours = next((v for name, v in _tensors(folder) if name == "model.norm.weight"), None)
    except ValueError:  # a checkpoint in another format
        return True
    if theirs is None or ours is None or theirs.data.dtype.kind != "f":
        return True
    wide = widened(ours) if ours.dtype == np.uint16 else ours.astype(np.float32)
    return wide.shape == theirs.data.shape and np.allclose(wide, theirs.data, rtol=1e-2, atol=1e-5)


def read_fields(file: Path) -> dict[str, Any]:
    """What a GGUF file says of its model, without its tokens; their number is ``vocabulary``.

    Raises:
        ValueError: it is none.
        EngineError: the package ``gguf`` is not installed.
    """
    return _read_fields(file, file.stat().st_mtime_ns)


@cache
def _read_fields(file: Path, _changed_ns: int) -> dict[str, Any]:
    gguf = _gguf()
    try:
        fields = gguf.GGUFReader(file).fields
        told = {
            name: field.contents()
            for name, field in fields.items()
            if not name.startswith("tokenizer.ggml.")
        }
        told["vocabulary"] = len(fields["tokenizer.ggml.tokens"].data)
        told[ARCH]
    except (OSError, ValueError, LookupError) as error:
        raise ValueError(
            f"{file} is no GGUF file of a language model ({type(error).__name__}: {error})"
        ) from error
    return told


def cache_bytes_per_token(file: Path, number: float) -> float:
    """Bytes of the KV cache that a token of a GGUF file's model takes.

    Args:
        file: the GGUF file.
        number: bytes of one number of the cache.

    Raises:
        ValueError: it is no GGUF file, or does not tell its heads.
        EngineError: the package ``gguf`` is not installed.
    """
    told = read_fields(file)
    try:
        of = {k.partition(".")[2]: v for k, v in told.items() if k.split(".")[0] == told[ARCH]}
        heads = of["attention.head_count"]
        head = of["embedding_length"] / (heads if isinstance(heads, int) else max(heads))
        sizes = (of.get(f"attention.{what}_length", head) for what in ("key", "value"))
        kept = of.get("attention.head_count_kv", heads)
        layers = [kept] * of["block_count"] if isinstance(kept, int) else kept
        return float(sum(layers) * sum(sizes) * number)
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise ValueError(
            f"{file} does not tell how large its KV cache is ({type(error).__name__}: {error})"
        ) from error


def template_of(folder: Path) -> str | None:
    """The chat template of a checkpoint; None where it has none."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    config = folder / "tokenizer_config.json"
    told = _json(config).get("chat_template") if config.is_file() else None
    return told if isinstance(told, str) else None


def downloaded(model_id: str) -> Path:
    """The folder of a model id's checkpoint, from the hub or what was fetched of it before.

    Raises:
        ValueError: it cannot be had.
    """
    from huggingface_hub import snapshot_download

    try:
        wanted = ["*.json", "*.safetensors", "*.jinja"]
        return Path(snapshot_download(model_id, allow_patterns=wanted))
    except Exception as error:
        raise ValueError(
            f"the checkpoint {model_id} cannot be fetched ({type(error).__name__}: {error}): give "
            "a folder, or a .gguf file"
        ) from error


# ---- writing


def _write(folder: Path, kind: str, path: Path) -> None:
    gguf = _gguf()
    config = _json(folder / "config.json")
    name = (config.get("architectures") or ["none"])[0]
    if name not in ARCHITECTURES:
        raise ValueError(
            f"{folder}: the architecture {name} is not converted here (there are "
            f"{', '.join(ARCHITECTURES)}): make a .gguf file with llama.cpp's "
            "convert_hf_to_gguf.py, and name it in the pair's TOML file (docs/engines.md)"
        )
    writer = gguf.GGUFWriter(path, ARCHITECTURES[name])
    try:
        _add_config(writer, config, folder, kind)
        _add_tokenizer(writer, config, folder)
        arch = next(a for a, said in gguf.MODEL_ARCH_NAMES.items() if said == ARCHITECTURES[name])
        names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
        for theirs, tensor in _tensors(folder):
            ours = names.get_name(theirs, try_suffixes=(".weight", ".bias"))
            if ours is None:
                raise ValueError(f"{folder}: the tensor {theirs} has no name in GGUF")
            if ours == "output.weight" and config.get("tie_word_embeddings"):
                continue
            stored = _stored_as(ours, tensor, kind)
            data = _encoded(tensor, stored)
            writer.add_tensor(ours, data, raw_dtype=gguf.GGMLQuantizationType[stored])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _add_config(writer: Any, config: Mapping[str, Any], folder: Path, kind: str) -> None:
    gguf = _gguf()
    rope = config.get("rope_parameters") or {}
    scaling = config.get("rope_scaling") or rope
    if (scaled := scaling.get("rope_type") or scaling.get("type") or "default") != "default":
        raise ValueError(f"{folder}: rope scaling {scaled!r} is not converted here")
    if config.get("use_sliding_window"):
        raise ValueError(f"{folder}: a sliding window is not converted here")
    writer.add_name(folder.name)
    writer.add_type("model")
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta") or 10000))
    if config.get("head_dim"):
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    defaults = folder / "generation_config.json"
    told = _json(defaults) if defaults.is_file() else {}
    for theirs, (ours, off) in SAMPLING.items():
        value = told.get(theirs)
        getattr(writer, f"add_sampling_{ours}")(off if value is None else type(off)(value))


def _add_tokenizer(writer: Any, config: Mapping[str, Any], folder: Path) -> None:
    """A byte-level BPE: its tokens, which of them are special, its merges and its template."""
    gguf = _gguf()
    tokenizer = _json(folder / "tokenizer.json")
    model = tokenizer["model"]
    if model.get("type", "BPE") != "BPE":
        raise ValueError(f"{folder}: a tokenizer {model['type']!r} is not converted here")
    size = config["vocab_size"]
    texts = [f"[PAD{i}]" for i in range(size)]
    types = [gguf.TokenType.UNUSED] * size
    for text, i in model["vocab"].items():
        texts[i], types[i] = text, gguf.TokenType.NORMAL
    for token in tokenizer["added_tokens"]:
        kind = gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
        texts[token["id"]], types[token["id"]] = token["content"], kind
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_split(tokenizer, folder))
    writer.add_token_list(texts)
    writer.add_token_types(types)
    special = gguf.SpecialVocab(folder, load_merges=True, n_vocab=size)
    special.add_special_token = {"bos": False}
    special.chat_template = template_of(folder)
    special.add_to_gguf(writer, quiet=True)


def _split(tokenizer: Mapping[str, Any], folder: Path) -> str:
    """llama.cpp's name for how a tokenizer splits a text into words before it merges."""
    steps = tokenizer.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", [steps])
    patterns = [step["pattern"].get("Regex") for step in steps if step.get("type") == "Split"]
    others = [step for step in steps if step.get("type") != "Split"]
    plain = len(others) == 1 and others[0].get("type") == "ByteLevel"
    if plain and not others[0].get("add_prefix_space"):
        if patterns == [QWEN] and not others[0].get("use_regex", True):
            return "qwen2"
        if not patterns and others[0].get("use_regex", True):
            return "gpt-2"
    raise ValueError(
        f"{folder}: how its tokenizer splits words is not known here: make a .gguf file with "
        "llama.cpp's convert_hf_to_gguf.py, and name it in the pair's TOML file"
    )


def _stored_as(name: str, tensor: npt.NDArray[Any], kind: str) -> str:
    """Type of one tensor in a file of that type: norms and biases stay in 32 bits, embeddings in
    8 bits where the rest has 4."""
    if tensor.ndim < 2 or name.endswith("_norm.weight"):
        return "F32"
    if kind in ("BF16", "F16"):
        return kind
    if tensor.shape[-1] % BLOCK:
        return "F16"
    return "Q8_0" if name in ("token_embd.weight", "output.weight") else kind


def _encoded(tensor: npt.NDArray[Any], kind: str) -> npt.NDArray[Any]:
    """A tensor's bytes in that type; bfloat16 comes, and goes, as its 16 bits."""
    gguf = _gguf()
    if kind == "BF16" and tensor.dtype == np.uint16:
        return tensor.view(np.uint8)
    wide = tensor.astype(np.float32) if tensor.dtype != np.uint16 else widened(tensor)
    encoded: npt.NDArray[Any] = gguf.quants.quantize(wide, gguf.GGMLQuantizationType[kind])
    return encoded


# ---- reading a checkpoint


def _tensors(folder: Path) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Names and values of a checkpoint's tensors; bfloat16 as its 16 bits (uint16)."""
    checkpoint = Checkpoint(folder)
    return ((name, checkpoint.bits(name)) for name in checkpoint.stored)


def _dtype(config: Mapping[str, Any]) -> str:
    return str(config.get("dtype") or config.get("torch_dtype"))


def _json(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return told


def _gguf() -> Any:
    try:
        import gguf
        import gguf.quants
    except ImportError as error:
        raise EngineError(
            "the package gguf, which writes and reads model files of llama.cpp, does not import "
            f"({error}): pip install 'pytest-rllm[llamacpp]'"
        ) from error
    return gguf
