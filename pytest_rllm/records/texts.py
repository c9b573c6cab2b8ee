"""Where a delta of a streamed chat completion keeps its texts: in which field, and of which kind.

Servers tell reasoning in a field of its own or among the parts of the content. A field that is not
known here keeps its name, so that its text is neither taken for the answer nor for reasoning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

VISIBLE = "content"
REASONING = ("reasoning", "reasoning_content", "reasoning_details", "thinking")
"""Fields of reasoning, as the documentation of servers and routers names them; where one text
stands in several of them, the first of this order is read."""
CALLS = "tool_calls"
KNOWN = frozenset((*REASONING, VISIBLE, CALLS, ""))
"""Fields of deltas whose meaning is known; ``""`` is of tokens without text."""
_TEXTUAL = frozenset((*REASONING, VISIBLE))
NO_TEXT = frozenset(
    (
        "role",
        "name",
        "type",
        "id",
        "index",
        "object",
        "model",
        "status",
        "signature",
        "refusal_type",
    )
)
"""Fields that hold words, and never text that was generated."""
_INSIDE = ("text", "thinking", "summary", "content", "reasoning")
"""Keys under which a part of a list holds its text."""


def texts(delta: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The texts of a delta: pairs of a field and its text, none of them empty, reasoning first.

    Raises:
        TypeError: a field that is known holds no text.
    """
    found: list[tuple[str, str]] = []
    for name, value in delta.items():
        if type(value) is str and value and name in _TEXTUAL:  # nearly all of them
            found.append((name, value))
            continue
        if not value or name in NO_TEXT:
            continue
        if isinstance(value, str):
            continue
        if name == VISIBLE and isinstance(value, list):
            found += _parts(value)
        elif name in REASONING and isinstance(value, list | dict):
            found += [(name, text) for text in ["".join(_inside(value))] if text]
        elif name == VISIBLE or name in REASONING:
            raise TypeError(f"{name} is not a text")
        elif name in (CALLS, "function_call"):
            found += [(CALLS, text) for text in ["".join(_call(value))] if text]
    if not found:
        return list(_unknown(delta))
    return found if len(found) == 1 else sorted(found, key=_order)


def is_reasoning(field: str) -> bool:
    """Whether the texts of a delta's field are reasoning."""
    return field in REASONING


def _order(pair: tuple[str, str]) -> int:
    return REASONING.index(pair[0]) if pair[0] in REASONING else len(REASONING)


def _parts(parts: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Of a content that is a list: each part says of which type it is."""
    for part in parts:
        if not isinstance(part, dict):
            raise TypeError(f"{VISIBLE} is not a text")
        kind = part.get("type", "text")
        text = "".join(_inside(part))
        if not text:
            continue
        if kind in ("text", "output_text"):
            yield VISIBLE, text
        elif kind in ("thinking", "reasoning"):
            yield "thinking", text
        else:
            yield f"{VISIBLE}.{kind}", text


def _inside(value: Any) -> Iterator[str]:
    """The texts within a list or an object."""
    if isinstance(value, list):
        for one in value:
            yield from _inside(one)
    elif isinstance(value, dict):
        for key in _INSIDE:
            inner = value.get(key)
            if isinstance(inner, str):
                yield inner
            elif isinstance(inner, list | dict):
                yield from _inside(inner)


def _call(value: Any) -> Iterator[str]:
    """Name and arguments of the calls of a delta, as far as they are texts."""
    for call in value if isinstance(value, list) else [value]:
        called = call.get("function", call) if isinstance(call, dict) else None
        if isinstance(called, dict):
            told = (called.get("name"), called.get("arguments"))
            yield from (text for text in told if isinstance(text, str))


def _unknown(delta: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Texts in fields that are not known here, of a delta without any other text."""
    for name, value in delta.items():
        if name in KNOWN or name in NO_TEXT or name.endswith(("_reason", "_id")):
            continue
        text = value if isinstance(value, str) else "".join(_inside(value))
        if text:
            yield name, text
