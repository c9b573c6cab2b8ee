"""Grade answers: each is right, wrong, unparsed, truncated or empty."""

from __future__ import annotations

import re
import threading
from functools import lru_cache
from typing import Literal

from . import sandbox

Grade = Literal["right", "wrong", "unparsed", "truncated", "empty"]

_ANSWER_IS = re.compile(r"answer is:?\s*\**([^\s*]*[^\s*.,;!])", re.IGNORECASE)
_BLOCK = re.compile(r"^ *```[^\n`]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_AS_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\{([^{}]*)\}")
TIMEOUT_S = 5
"""Time limit of a comparison, in s: 9^9^9^9 would be computed for ever; it counts as wrong."""


def grade(answer: str, key: str, kind: str, finish_reason: str | None) -> Grade:
    """Grade the visible answer of one request.

    Args:
        answer: the visible text, without the reasoning.
        key: the answer key.
        kind: ``math``: compare as mathematics (math-verify); ``word``: compare as text; ``code``:
            run the program against its tests, see :mod:`.sandbox`.
        finish_reason: of the engine; with ``length`` an answer without a result is ``truncated``.

    Raises:
        NoSandbox: the answer is a program, and no sandbox is switched on.
    """
    code = kind == "code"
    found = final_program(answer, finish_reason) if code else final_answer(answer)
    if found is None:
        if finish_reason == "length":
            return "truncated"
        return "unparsed" if answer.strip() else "empty"
    if code:
        same = sandbox.passes(found, key)
    elif kind == "word":
        same = _AS_TEXT.sub(r"\1", found).strip().casefold() == key.strip().casefold()
    else:
        same = found == key.strip() or _same_mathematics(found, key)
    return "right" if same else "wrong"


def final_answer(text: str) -> str | None:
    """The content of the last ``\\boxed{...}``, else what follows ``answer is``, else None."""
    start = text.rfind("\\boxed{")
    if start < 0:
        stated = _ANSWER_IS.findall(text)
        return stated[-1].strip() if stated else None
    depth = 0
    for i in range(start + len("\\boxed"), len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[start + len("\\boxed{") : i].strip() or None
    return None


def final_program(text: str, finish_reason: str | None) -> str | None:
    """The last fenced block that is closed; of a finished answer without a block all of it."""
    if blocks := _BLOCK.findall(text):
        return str(blocks[-1])
    whole = "```" not in text and finish_reason != "length" and text.strip()
    return text if whole else None


@lru_cache(maxsize=10_000)
def _same_mathematics(found: str, key: str) -> bool:
    from math_verify import parse, verify

    # math-verify limits the time by an alarm, which only the main thread can set.
    limit = TIMEOUT_S if threading.current_thread() is threading.main_thread() else None
    gold, answer = (parse(f"\\boxed{{{text}}}", parsing_timeout=limit) for text in (key, found))
    return bool(verify(gold, answer, timeout_seconds=limit))
