"""How a model is served, in words that every engine translates into its own flags."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

Role = Literal["reasoning", "plain"]


@dataclass(frozen=True)
class Serving:
    """A frozen description of one way to serve one of the two models of a pair.

    The default is the base of every comparison: the reasoning model in its own precision, no
    optimisation on. Engines refuse what they cannot do; a flag is never dropped in silence.

    Attributes:
        model: which model of the pair, ``"reasoning"`` or ``"plain"``.
        quantization: weight quantisation named as the engine names it, None for none.
        kv_cache_dtype: data type of the KV cache (``"fp8"``), None for the model's own.
        prefix_caching: whether prompts may share cached prefixes.
        speculative: ``"ngram"`` or ``"draft"`` (the pair's draft model), None for off.
        speculative_tokens: tokens proposed per step when speculation is on.
        tensor_parallel: number of GPUs that one copy of the model is spread over.
        flags: further flags of the engine, passed on as they are, last.
    """

    model: Role = "reasoning"
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    prefix_caching: bool = False
    speculative: Literal["ngram", "draft"] | None = None
    speculative_tokens: int = 3
    tensor_parallel: int = 1
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.model not in ("reasoning", "plain"):
            raise ValueError(f"Serving.model is 'reasoning' or 'plain', not {self.model!r}")
        if self.speculative not in (None, "ngram", "draft"):
            raise ValueError(
                f"Serving.speculative is 'ngram', 'draft' or None, not {self.speculative!r}"
            )
        if self.speculative_tokens < 1 or self.tensor_parallel < 1:
            raise ValueError("Serving.speculative_tokens and tensor_parallel are at least 1")

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that are equal for equal servings, in any process."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

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
        words.extend(self.flags)
        return ", ".join(words)
