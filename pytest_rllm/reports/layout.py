"""Lay out lists for a terminal: no line is longer than the terminal is wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

GAP = "  "
NARROWEST = 24
"""Columns that the first column has at least, however narrow the terminal is."""

Group = tuple[str, Sequence[Sequence[str]]]
"""A title, and the lines of cells below it."""


def listing(
    groups: Sequence[Group],
    headers: Sequence[str],
    width: int,
    spare: Sequence[str] = (),
) -> list[str]:
    """Groups of lines under one heading; the cells of the first column are wrapped.

    Args:
        groups: each with its title on a line of its own, where it has one.
        headers: of the columns.
        width: columns of the terminal.
        spare: headers of columns that are left out, one after the other, where it is too narrow.
    """
    lines = [line for _, of_group in groups for line in of_group]
    widths = [max(map(len, column)) for column in zip(headers, *lines, strict=True)]
    rest = sum(widths[1:]) + len(GAP) * len(widths[1:])
    if spare and NARROWEST + rest > width:
        kept = [i for i, header in enumerate(headers) if header != spare[0]]
        fewer = [
            (title, [[line[i] for i in kept] for line in of_group]) for title, of_group in groups
        ]
        return listing(fewer, [headers[i] for i in kept], width, spare[1:])
    widths[0] = max(NARROWEST, min(widths[0] + len(GAP), width - rest))
    found = [*_row(headers, widths), GAP.join("-" * each for each in widths)]
    for title, of_group in groups:
        found += textwrap.wrap(title, width)
        for line in of_group:
            found += _row(line, widths, indent=GAP)
    return [line.rstrip() for line in found]


def _row(cells: Sequence[str], widths: Sequence[int], indent: str = "") -> Iterator[str]:
    first, *others = textwrap.wrap(
        cells[0], widths[0], initial_indent=indent, subsequent_indent=indent * 2
    ) or [indent]
    rest = [cell.ljust(each) for cell, each in zip(cells[1:], widths[1:], strict=True)]
    yield GAP.join([first.ljust(widths[0]), *rest])
    yield from others


def wrapped(text: str, width: int, indent: str = "  ") -> list[str]:
    """A text in lines; those after the first one are indented. A path is never broken."""
    return textwrap.wrap(
        text,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
