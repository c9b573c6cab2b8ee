"""Which models a finding is measured on: the table of model pairs.

A pair is a reasoning model and the plain model it is compared with, of the same size. The pair
``tiny`` is bundled (its card: ``README.md`` in this folder); the others are those of the paper.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..registry import Registry, RegistryError

BUNDLED = Path(__file__).parent

_BUNDLED_TIERS = {
    "easy": "bundled-easy",
    "medium": "bundled-medium",
    "hard": "bundled-hard",
    "knowledge": "bundled-knowledge",
}
_PAPER_TIERS = {"easy": "gsm8k", "medium": "math500", "hard": "aime2024", "knowledge": "gpqa"}


@dataclass(frozen=True)
class ModelPair:
    """A reasoning model, its plain counterpart, and what serving and asking them takes.

    Attributes:
        name: what ``--rllm-model`` and the ids of test cases call it.
        reasoning, plain, draft: a folder, or a model id that the engine can load.
        reasoning_format: how the reasoning model marks its reasoning, named after the first model
            that did so (``deepseek-r1``: ``<think>`` ... ``</think>``); engines translate it.
        tiers: data set per tier of difficulty.
        short, enough, generous: output budgets in tokens: one that cuts answers off, one that
            suffices for most, one that hardly binds.
        fixed_length: output tokens per request where speed is compared; fewer than a hard
            question takes, so that nothing is generated past an answer's natural end.
        max_model_len: context length to serve with, in tokens.
        kv_cache_bytes: size of the KV cache; None leaves it to the engine.
        kv_block_tokens: tokens per KV-cache block; None leaves it to the engine.
        gpu_memory_gib: GPU memory that a case needs, per GPU; 0 when no GPU is needed.
        gpus: number of GPUs that a case needs.
    """

    name: str
    reasoning: str
    plain: str
    draft: str | None
    reasoning_format: str
    tiers: Mapping[str, str] = field(hash=False)
    short: int
    enough: int
    generous: int
    fixed_length: int
    max_model_len: int
    kv_cache_bytes: int | None = None
    kv_block_tokens: int | None = None
    gpu_memory_gib: float = 0
    gpus: int = 1

    def path(self, role: str) -> str:
        """The folder or model id behind ``"reasoning"``, ``"plain"`` or ``"draft"``.

        Raises:
            ValueError: the pair has no draft model, or a local folder is not a checkpoint.
        """
        path = {"reasoning": self.reasoning, "plain": self.plain, "draft": self.draft}[role]
        if path is not None and path.startswith("~"):
            path = str(Path(path).expanduser())
        if path is None:
            raise ValueError(f"the model pair {self.name!r} has no {role} model")
        looks_local = path.startswith((".", "/")) or Path(path).is_dir()
        if looks_local and not (Path(path) / "config.json").is_file():
            raise ValueError(
                f"{role} model of the pair {self.name!r}: {path} holds no config.json; "
                "give a folder with a Hugging Face checkpoint, or a model id without a leading ./"
            )
        return path

    def revision(self, role: str) -> str:
        """Twelve hexadecimal digits over a local checkpoint's files, else the model id itself."""
        folder = Path(self.path(role))
        if not folder.is_dir():
            return str(folder)
        digest = hashlib.sha256()
        for file in sorted(folder.iterdir()):
            if file.is_file():
                digest.update(file.name.encode() + b"\0" + file.read_bytes())
        return digest.hexdigest()[:12]


def _deepseek(size: str, plain: str, memory_gib: float, gpus: int = 1) -> ModelPair:
    return ModelPair(
        name=f"r1-distill-{size}".lower(),
        reasoning=f"deepseek-ai/DeepSeek-R1-Distill-{size}",
        plain=plain,
        draft="deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B" if size.startswith("Qwen") else None,
        reasoning_format="deepseek-r1",
        tiers=_PAPER_TIERS,
        short=512,
        enough=8192,
        generous=20_480,
        fixed_length=1024,
        max_model_len=32_768,
        gpu_memory_gib=memory_gib,
        gpus=gpus,
    )


_TINY = ModelPair(
    name="tiny",
    reasoning=str(BUNDLED / "tiny-reasoning"),
    plain=str(BUNDLED / "tiny-plain"),
    draft=str(BUNDLED / "tiny-draft"),
    reasoning_format="deepseek-r1",
    tiers=_BUNDLED_TIERS,
    short=64,
    enough=512,
    generous=1024,
    fixed_length=128,
    max_model_len=1536,
    # 4096 bytes per token in bf16: 6400 tokens, small enough to see it fill and empty.
    kv_cache_bytes=6400 * 4096,
    # Prompts of the bundled problems are shorter than the CPU default of 128, and would never hit.
    kv_block_tokens=32,
)

PAIRS: Mapping[str, ModelPair] = {
    pair.name: pair
    for pair in (
        _TINY,
        replace(_TINY, name="tiny-gpu", gpu_memory_gib=4),
        # Weights of both models at once in bf16, and room for the KV cache.
        _deepseek("Qwen-7B", "Qwen/Qwen2.5-Math-7B-Instruct", 44),
        _deepseek("Qwen-14B", "Qwen/Qwen2.5-14B-Instruct", 76),
        _deepseek("Qwen-32B", "Qwen/Qwen2.5-32B-Instruct", 76, gpus=2),
        _deepseek("Llama-70B", "meta-llama/Llama-3.3-70B-Instruct", 76, gpus=4),
    )
}


_OTHERS = Registry("pytest_rllm.pairs", "model pair", {})
"""Pairs of other packages: an entry point is a :class:`ModelPair`, named as the pair is."""


def pairs_known() -> tuple[str, ...]:
    """Names of all pairs, other packages' included."""
    return (*PAIRS, *_OTHERS.names())


def pair_named(name: str) -> ModelPair:
    """The pair of that name, or a pair made from ``REASONING:PLAIN[:DRAFT]``, paths or model ids.

    A pair of your own is served, asked and budgeted as the paper's 7B is, on a GPU of any size.

    Raises:
        ValueError: no such pair, with the names there are; or another package's that is none.
    """
    if name in _OTHERS:
        return _of_package(name)
    if name in PAIRS:
        return PAIRS[name]
    parts = name.split(":")
    if len(parts) not in (2, 3):
        raise ValueError(
            f"unknown model pair {name!r}; there are {', '.join(pairs_known())}, "
            "or give REASONING:PLAIN or REASONING:PLAIN:DRAFT (folders or model ids)"
        )
    return replace(
        PAIRS["r1-distill-qwen-7b"],
        gpu_memory_gib=1,
        name="-".join(Path(part).name for part in parts[:2]),
        reasoning=parts[0],
        plain=parts[1],
        draft=parts[2] if len(parts) == 3 else None,
    )


def _of_package(name: str) -> ModelPair:
    """A pair that another package gives."""
    if name in PAIRS:
        raise RegistryError(
            f"the model pair {name!r} is given by pytest-rllm and by another package: rename it in "
            "that package's entry points"
        )
    pair = _OTHERS.load(name)
    if not isinstance(pair, ModelPair) or pair.name != name:
        raise RegistryError(
            f"the entry point {name!r} of the group {_OTHERS.group} must be a ModelPair of that "
            f"name, not {pair!r}"
        )
    return pair
