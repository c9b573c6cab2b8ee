"""How a model is served, in words that every engine translates into its own flags."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Role = Literal["reasoning", "plain", "original"]
Drafter = Literal["ngram", "draft", "eagle"]
BASE = "reasoning"
"""Slug of the base of every comparison."""
_PARTS = {
    "role": "plain|original",
    "kv": r"kv-([\w.-]+)",
    "weights": r"weights-([\w.-]+)",
    "prefix": "prefix-caching",
    "drafter": r"(ngram|draft|eagle)(?:-([1-9]\d*))?",
    "tp": r"tp-([1-9]\d*)",
    "scheduling": "priority",
    "invariant": "batch-invariant",
}
LATER: tuple[str, ...] = ("scheduling", "batch_invariant")
"""Fields that older records do not have: ``said`` leaves one out that has its default."""


@dataclass(frozen=True)
class Serving:
    """A frozen description of one way to serve one of the two models of a pair.

    The default is the base of every comparison: the reasoning model in its own precision, no
    optimisation on. Engines refuse what they cannot do; a flag is never dropped in silence.

    Attributes:
        model: which model of the pair, ``"reasoning"`` or ``"plain"``; or ``"original"``, what the
            reasoning model of a pair with ``wide_keys`` was made from.
        quantization: weight quantisation, None for none: named as a checkpoint of the pair's
            (``ModelPair.quantized``), ``rounded-2`` to ``rounded-8``, or as the engine names what
            it does when it loads the model.
        kv_cache_dtype: data type of the KV cache (``"fp8"``), None for the model's own.
        prefix_caching: whether prompts may share cached prefixes.
        speculative: ``"ngram"``, ``"draft"`` (the pair's draft model) or ``"eagle"`` (the pair's
            EAGLE head), None for off.
        speculative_tokens: tokens proposed per step when speculation is on.
        tensor_parallel: number of GPUs that one copy of the model is spread over.
        flags: further flags of the engine, passed on as they are, last.
        scheduling: ``"priority"``: of the requests that wait, the one of the lowest
            ``Arm.priorities`` is served first; None for the engine's own order.
        batch_invariant: whether kernels are used whose results do not depend on what else is in a
            batch, which are slower. Only of a GPU's.
    """

    model: Role = "reasoning"
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    prefix_caching: bool = False
    speculative: Drafter | None = None
    speculative_tokens: int = 3
    tensor_parallel: int = 1
    flags: tuple[str, ...] = ()
    scheduling: Literal["priority"] | None = None
    batch_invariant: bool = False

    def __post_init__(self) -> None:
        if self.model not in get_args(Role):
            raise ValueError(
                f"Serving.model is 'reasoning', 'plain' or 'original', not {self.model!r}"
            )
        if self.speculative not in (None, *get_args(Drafter)):
            raise ValueError(
                "Serving.speculative is 'ngram', 'draft', 'eagle' or None, not "
                f"{self.speculative!r}"
            )
        if self.scheduling not in (None, "priority"):
            raise ValueError(f"Serving.scheduling is 'priority' or None, not {self.scheduling!r}")
        if self.speculative_tokens < 1 or self.tensor_parallel < 1:
            raise ValueError("Serving.speculative_tokens and tensor_parallel are at least 1")

    @property
    def reasons(self) -> bool:
        """Whether the model is one that reasons."""
        return self.model != "plain"

    @property
    def said(self) -> dict[str, Any]:
        """Its fields, without those of ``LATER`` that have their default: what keys are made of."""
        said = asdict(self)
        for new in fields(self):
            if new.name in LATER and said[new.name] == new.default:
                del said[new.name]
        return said

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that are equal for equal servings, in any process."""
        text = json.dumps(self.said, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def slug(self) -> str | None:
        """What an option calls it: ``reasoning`` for the base, else what differs from it, as in
        ``plain+kv-fp8``, ``prefix-caching``, ``ngram``, ``draft-5``, ``weights-awq``, ``tp-2``.

        None with further flags, which no word stands for.
        """
        if self.flags:
            return None
        drafted = "" if self.speculative_tokens == 3 else f"-{self.speculative_tokens}"
        parts = [
            self.model if self.model != "reasoning" else "",
            f"weights-{self.quantization}" if self.quantization else "",
            f"kv-{self.kv_cache_dtype}" if self.kv_cache_dtype else "",
            "prefix-caching" if self.prefix_caching else "",
            f"{self.speculative}{drafted}" if self.speculative else "",
            f"tp-{self.tensor_parallel}" if self.tensor_parallel > 1 else "",
            self.scheduling or "",
            "batch-invariant" if self.batch_invariant else "",
        ]
        return "+".join(filter(None, parts)) or BASE

    @classmethod
    def of_slug(cls, slug: str) -> Serving:
        """The serving that a slug names, its parts in any order.

        Raises:
            ValueError: a part is none, with those there are.
        """
        said: dict[str, Any] = {}
        for part in slug.split("+") if slug != BASE else ():
            kind, found = next(
                ((k, m) for k, p in _PARTS.items() if (m := re.fullmatch(p, part))), ("", None)
            )
            if found is None:
                raise ValueError(
                    f"{slug!r} names no serving: {part!r} is none of plain, original, kv-DTYPE, "
                    "weights-NAME, prefix-caching, ngram, draft, eagle (and each with -TOKENS), "
                    "tp-GPUS, priority, batch-invariant, joined by +"
                )
            match kind:
                case "role":
                    said["model"] = part
                case "kv":
                    said["kv_cache_dtype"] = found[1]
                case "weights":
                    said["quantization"] = found[1]
                case "prefix":
                    said["prefix_caching"] = True
                case "drafter":
                    said["speculative"] = found[1]
                    said |= {"speculative_tokens": int(found[2])} if found[2] else {}
                case "tp":
                    said["tensor_parallel"] = int(found[1])
                case "scheduling":
                    said["scheduling"] = "priority"
                case "invariant":
                    said["batch_invariant"] = True
        return cls(**said)

    def __str__(self) -> str:
        """What differs from the default, as a person would say it: ``reasoning, fp8 KV``."""
        words: list[str] = [self.model]
        if self.quantization:
            words.append(f"{self.quantization} weights")
        if self.kv_cache_dtype:
            words.append(f"{self.kv_cache_dtype} KV")
        if self.prefix_caching:
            words.append("prefix caching")
        if self.speculative:
            words.append(f"{self.speculative} speculation ({self.speculative_tokens})")
        if self.tensor_parallel > 1:
            words.append(f"TP {self.tensor_parallel}")
        if self.scheduling:
            words.append(f"{self.scheduling} scheduling")
        if self.batch_invariant:
            words.append("batch-invariant kernels")
        words.extend(self.flags)
        return ", ".join(words)
