"""Is an answer right? Every answer gets exactly one of five grades."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

Grade = Literal["right", "wrong", "unparsed", "truncated", "empty"]

_ANSWER_IS = re.compile(r"answer is:?\s*\**([^\s*.]+)", re.IGNORECASE)


def grade(answer: str, key: str, kind: str, finish_reason: str | None) -> Grade:
    """Grade the visible answer of one request.

    Args:
        answer: the visible text, without the reasoning.
        key: the right answer.
        kind: ``math`` compares as mathematics (math-verify), ``word`` as text.
        finish_reason: the engine's; ``length`` makes an answer without a result ``truncated``.
    """
    found = final_answer(answer)
    if found is None:
        if finish_reason == "length":
            return "truncated"
        return "unparsed" if answer.strip() else "empty"
    if kind == "word":
        same = found.casefold() == key.strip().casefold()
    else:
        same = found == key.strip() or _same_mathematics(found, key)
    return "right" if same else "wrong"


def final_answer(text: str) -> str | None:
    """What the last ``\\boxed{...}`` holds, else what follows ``answer is``, else None."""
    start = text.rfind("\\boxed{")
    if start < 0:
        stated = _ANSWER_IS.findall(text)
        return stated[-1].strip() if stated else None
    depth = 0
    for i in range(start + len("\\boxed"), len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[start + len("\\boxed{") : i].strip()
    return None


@lru_cache(maxsize=10_000)
def _same_mathematics(found: str, key: str) -> bool:
    from math_verify import parse, verify

    gold, answer = (parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (key, found))
    return bool(verify(gold, answer, timeout_seconds=None))
