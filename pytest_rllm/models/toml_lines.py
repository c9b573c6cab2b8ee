"""On which line of a TOML file a key stands: tomllib does not say that of keys."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any


def line_of(text: str, path: Sequence[str]) -> int:
    """Number of the line, from 1, on which a key or the header of a table begins.

    Args:
        text: of a file that is TOML.
        path: names from the outermost table inwards, ``("tiers", "easy", "file")``. Of a key that
            is not there, the line is that of the table which lacks it; 1 for the outermost table.
    """
    known = _lines(text)
    return next(known[key] for n in range(len(path), -1, -1) if (key := tuple(path[:n])) in known)


@lru_cache(maxsize=8)
def _lines(text: str) -> dict[tuple[str, ...], int]:
    """The line of every key.

    The lines are read one more at a time, as far as they are TOML: a key begins right behind the
    last whole part of the file that does not have it. So every way of writing it is understood, and
    a comment or a text that looks like it is not.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    found: dict[tuple[str, ...], int] = {(): 1}
    begins = 1
    for end in range(1, len(lines) + 1):
        try:
            read = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue  # a value that goes on in the next line
        for path in _paths(read):
            found.setdefault(path, begins)
        begins = end + 1
    return found


def place_of(file: Path, *path: str) -> str:
    """Where a key stands, for messages: ``pair.toml:12``; see :func:`line_of`."""
    return f"{file}:{line_of(file.read_text(encoding='utf-8'), path)}"


def line_of_error(text: str, error: tomllib.TOMLDecodeError) -> tuple[int, str]:
    """Number of the line, from 1, on which TOML is broken, and what is wrong there."""
    said = str(error)
    if at := re.search(r" \(at line (\d+), column \d+\)$", said):
        return int(at[1]), said[: at.start()]
    return max(1, len(text.splitlines())), re.sub(r" \(at end of document\)$", "", said)


def _paths(table: Mapping[str, Any], within: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in table.items():
        yield (*within, name)
        if isinstance(value, dict):
            yield from _paths(value, (*within, name))
