"""Whether questions with earlier turns before them can be asked of a pair's models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from ..experiment.arm import Arm
from ..metrics.answers import ACCURACY
from ..metrics.base import Metric
from ..models import ModelPair

MARKS = 8
"""Tokens that a chat template adds to a message, about."""


def no_room(arm: Arm, pair: ModelPair) -> str | None:
    """Why an arm's prompts do not fit into the context of a pair together with their answers; None
    where they do.

    Only prompts with earlier turns are looked at, and only where the model's tokenizer is at hand:
    else the engine itself refuses what does not fit.
    """
    longest = max(
        (p for p in arm.prompts if p.before),
        key=lambda p: sum(len(each["content"]) for each in p.messages),
        default=None,
    )
    if longest is None:
        return None
    count = _counter(pair.reasoning if arm.serving.model == "reasoning" else pair.plain)
    if count is None:
        return None
    tokens = sum(count(each["content"]) + MARKS for each in longest.messages)
    room = pair.max_model_len - arm.sampling.max_tokens
    if tokens <= room:
        return None
    return (
        f"a question takes about {tokens} tokens with the {len(longest.before)} turns before it, "
        f"and the context of the pair {pair.name!r}, {pair.max_model_len} tokens, has room for "
        f"{room} beside an answer of {arm.sampling.max_tokens}: send fewer turns, or ask for "
        "shorter answers"
    )


@cache
def _counter(model: str) -> Callable[[str], int] | None:
    """Counts the tokens of a text; None where a model's tokenizer is not on this machine."""
    try:
        from huggingface_hub import try_to_load_from_cache
        from tokenizers import Tokenizer
    except ImportError:
        return None
    own = Path(model).expanduser() / "tokenizer.json"
    cached = None if own.is_file() or model.count("/") != 1 else model
    file = own if cached is None else try_to_load_from_cache(cached, own.name)
    if not isinstance(file, str | Path) or not Path(file).is_file():
        return None
    tokenizer = Tokenizer.from_file(str(file))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def cannot_answer(metric: Metric, arms: Sequence[Arm], pair: ModelPair) -> str | None:
    """Why nothing can be claimed of the accuracy of a pair's answers; None where it can."""
    if not pair.single_turn or (metric.whole or metric.name) != ACCURACY.name:
        return None
    if not any(prompt.before for arm in arms for prompt in arm.prompts):
        return None
    return (
        f"the models of the pair {pair.name!r} learned from single questions alone: after earlier "
        "turns they answer next to nothing rightly, and their accuracy could not fall"
    )
