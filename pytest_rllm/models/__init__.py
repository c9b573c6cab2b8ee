"""Which models a finding is measured on: the table of model pairs.

A pair is a reasoning model and the plain model it is compared with, of the same size. The pair
``tiny`` is bundled (its card: ``README.md`` in this folder); the others are those of the paper.
A pair of one's own is a TOML file, see :mod:`.pair_file`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..checkpoints.wide_keys import WideKeys
from ..registry import Registry, RegistryError
from .pair import CHECKPOINTS as CHECKPOINTS
from .pair import TIERS as TIERS
from .pair import ModelPair as ModelPair
from .pair_file import PairFileError as PairFileError
from .pair_file import read_pair
from .toml_lines import place_of as place_of

BUNDLED = Path(__file__).parent

_BUNDLED_TIERS = {
    "easy": "bundled-easy",
    "medium": "bundled-medium",
    "hard": "bundled-hard",
    "knowledge": "bundled-knowledge",
}
_PAPER_TIERS = {
    "easy": "gsm8k",
    "medium": "math500",
    "hard": "aime2024",
    "knowledge": "gpqa",
    # What the paper's reviewers asked for.
    "disciplines": "supergpqa",
    "commonsense": "commonsenseqa",
    "strategy": "strategyqa",
    "code": "humaneval",
    "logic": "babi",
}


_QUANTIZED = {
    "gptq-int4": "RedHatAI/DeepSeek-R1-Distill-{}-quantized.w4a16",
    "int8-w8a8": "RedHatAI/DeepSeek-R1-Distill-{}-quantized.w8a8",
    "fp8-w8a8": "RedHatAI/DeepSeek-R1-Distill-{}-FP8-dynamic",
    "awq-int4": "casperhansen/deepseek-r1-distill-{}-awq",
}
"""Published checkpoints of the reasoning models."""
_EAGLE = {
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": "thoughtworks/DeepSeek-R1-Distill-Qwen-7B-Eagle3",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": "thoughtworks/DeepSeek-R1-Distill-Qwen-14B-Eagle3",
    "Qwen/Qwen3-8B": "RedHatAI/Qwen3-8B-speculator.eagle3",
    "Qwen/Qwen3-14B": "RedHatAI/Qwen3-14B-speculator.eagle3",
}
"""Published EAGLE heads of reasoning models."""
_ARCHIVE = BUNDLED / "tiny-quantized.tar.xz"


def _deepseek(
    size: str, plain: str, memory_gib: float, gpus: int = 1, examples: int = 32
) -> ModelPair:
    called = {"awq-int4": size.lower()}
    quantized = {
        kind: {"reasoning": name.format(called.get(kind, size))}
        for kind, name in _QUANTIZED.items()
    }
    return ModelPair(
        name=f"r1-distill-{size}".lower(),
        reasoning=f"deepseek-ai/DeepSeek-R1-Distill-{size}",
        plain=plain,
        draft=None,  # the 1.5B has 151,936 tokens, the larger ones 152,064: engines refuse it
        reasoning_format="deepseek-r1",
        tiers=_PAPER_TIERS,
        short=512,
        enough=8192,
        generous=20_480,
        budgets=(256, 512, 1024, 2048, 4096, 8192, 16_384, 20_480),
        level_from=4096,
        fixed_length=1024,
        examples=examples,
        max_model_len=32_768,
        gpu_memory_gib=memory_gib,
        gpus=gpus,
        quantized=quantized,
        eagle=_EAGLE.get(f"deepseek-ai/DeepSeek-R1-Distill-{size}"),
        size_b=float(size.partition("-")[2].removesuffix("B")),
    )


def _qwen3(size: str, memory_gib: float) -> ModelPair:
    """One checkpoint with two modes: thinking is on or off by each request."""
    checkpoint = f"Qwen/Qwen3-{size}"
    return replace(
        _deepseek(f"Qwen-{size}", checkpoint, memory_gib),
        name=f"qwen3-{size}".lower(),
        reasoning=checkpoint,
        eagle=_EAGLE.get(checkpoint),
        reasoning_format="qwen3",
        quantized={},
        requests={
            "reasoning": {"chat_template_kwargs": {"enable_thinking": True}},
            "plain": {"chat_template_kwargs": {"enable_thinking": False}},
        },
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
    quantized={
        kind: {role: f"{_ARCHIVE}#tiny-{role}-{kind}" for role in roles}
        for kind, roles in {
            "gptq-int4": ("reasoning", "plain"),
            "awq-int4": ("reasoning",),
            "int8-w8a8": ("reasoning",),
            "fp8-w8a8": ("reasoning",),
        }.items()
    },
    single_turn=True,
    stands_for=14,  # of nothing that hurts small models only
)

_LOGIC = BUNDLED / "tiny-logic.tar.xz"
_TINY_LOGIC = replace(
    _TINY,
    name="tiny-logic",
    reasoning=f"{_LOGIC}#tiny-logic-reasoning",
    plain=f"{_LOGIC}#tiny-logic-plain",
    draft=None,
    tiers={"logic": "bundled-logic"},
    short=32,
    enough=192,
    generous=384,
    fixed_length=64,
    max_model_len=768,
    quantized={},
    size_b=0.00066,
    stands_for=None,
    made_for=frozenset({"domains"}),
)

_WIDE = {
    "": WideKeys(7),
    "-4": WideKeys(4),
    "-11": WideKeys(11),
    "-14": WideKeys(14),
    "-head": WideKeys(7, heads=(1,)),
    "-layer": WideKeys(7, layers=(0,)),
}
"""What is added to ``tiny-wide-keys`` to name a variant of the bundled reasoning model."""


def _wide() -> list[ModelPair]:
    """The bundled pair with variants of its reasoning model whose keys are wider, see
    ``docs/why-fp8-kv-caches-collapse.md``; the first one stands for the paper's 7B."""
    return [
        replace(
            _TINY,
            name=f"tiny-wide-keys{more}",
            wide_keys=keys,
            quantized={},
            stands_for=_TINY.stands_for if more else 7,
            made_for=frozenset({"kv-collapse"}),
        )
        for more, keys in _WIDE.items()
    ]


PAIRS: Mapping[str, ModelPair] = {
    pair.name: pair
    for pair in (
        _TINY,
        _TINY_LOGIC,
        replace(_TINY, name="tiny-gpu", gpu_memory_gib=4),
        # A thirteenth of the parameters, trained to think as the larger one does.
        replace(
            _TINY,
            name="tiny-small",
            reasoning=str(BUNDLED / "tiny-draft"),
            draft=None,
            quantized={},
            stands_for=None,
            made_for=frozenset({"quant-threshold"}),
        ),
        # Weights of both models at once in bf16, and room for the KV cache.
        # The paper's plain 7B is Qwen2.5-Math, whose context of 4096 tokens holds no budget of it.
        _deepseek("Qwen-1.5B", "Qwen/Qwen2.5-1.5B-Instruct", 20),
        _deepseek("Qwen-7B", "Qwen/Qwen2.5-7B-Instruct", 44),
        _deepseek("Qwen-14B", "Qwen/Qwen2.5-14B-Instruct", 76),
        _deepseek("Qwen-32B", "Qwen/Qwen2.5-32B-Instruct", 76, gpus=2, examples=64),
        _deepseek("Llama-70B", "meta-llama/Llama-3.3-70B-Instruct", 76, gpus=4, examples=64),
        _qwen3("8B", 44),
        _qwen3("14B", 76),
        *_wide(),
    )
}


_OTHERS = Registry("pytest_rllm.pairs", "model pair", {})
"""Pairs of other packages: an entry point is a :class:`ModelPair`, named as the pair is, or the
``pathlib.Path`` of a TOML file that describes it."""


def pairs_known() -> tuple[str, ...]:
    """Names of all pairs, other packages' included."""
    return (*PAIRS, *_OTHERS.names())


def pair_named(name: str) -> ModelPair:
    """The pair of that name, the one that a TOML file describes, or one made from
    ``REASONING:PLAIN[:DRAFT]``, paths or model ids.

    A pair that is made from paths is asked and budgeted as the paper's 7B is, with the paper's data
    sets, on a GPU of any size; a TOML file says all of that for itself.

    Args:
        name: of a pair; or the path of a file that ends in ``.toml``; or paths or model ids.

    Raises:
        ValueError: no such pair, with the names there are; another package's that is none; or a
            TOML file that cannot be used, with the line and with what was expected there.
    """
    if name in _OTHERS:
        return _of_package(name)
    if name in PAIRS:
        return PAIRS[name]
    if name.endswith(".toml"):
        return _of_file(Path(name).expanduser())
    parts = name.split(":")
    if len(parts) not in (2, 3):
        raise ValueError(
            f"unknown model pair {name!r}; there are {', '.join(pairs_known())}, "
            "or give a TOML file that describes your pair (FILE.toml), "
            "or REASONING:PLAIN or REASONING:PLAIN:DRAFT (folders or model ids)"
        )
    return replace(
        PAIRS["r1-distill-qwen-7b"],
        gpu_memory_gib=1,
        quantized={},
        size_b=None,
        name="-".join(Path(part).name for part in parts[:2]),
        reasoning=parts[0],
        plain=parts[1],
        draft=parts[2] if len(parts) == 3 else None,
        eagle=None,
    )


def _of_file(file: Path) -> ModelPair:
    """A pair that a file describes, under a name that no other pair has."""
    pair = read_pair(file)
    if pair.name in pairs_known():
        raise PairFileError(
            f"{place_of(file, 'name')}: there is a pair {pair.name!r} already; "
            "give this one another name: name = ..."
        )
    return pair


def _of_package(name: str) -> ModelPair:
    """A pair that another package gives."""
    if name in PAIRS:
        raise RegistryError(
            f"the model pair {name!r} is given by pytest-rllm and by another package: rename it in "
            "that package's entry points"
        )
    pair = _OTHERS.load(name)
    if isinstance(pair, Path):
        pair = read_pair(pair)
    if not isinstance(pair, ModelPair) or pair.name != name:
        raise RegistryError(
            f"the entry point {name!r} of the group {_OTHERS.group} must be a ModelPair of that "
            f"name, or the Path of a TOML file that describes one, not {pair!r}"
        )
    return pair
