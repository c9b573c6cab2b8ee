"""A part of a Markdown page that a command writes, between two marks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


class PageError(ValueError):
    """A file or a page cannot be used; the message says which, and what to do."""


def in_page(page: str, shown: str, marks: tuple[str, str], name: str = "the page") -> str:
    """A page with a text between its marks.

    Raises:
        PageError: it has not one pair of marks.
    """
    first, last = marks
    before, begin, rest = page.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end or first in rest or last in after:
        raise PageError(f"{name} has not one line {first!r} and, after it, one {last!r}")
    return f"{before}{first}\n\n{shown}\n\n{last}{after}"


def escaped(text: str) -> str:
    """A text that shows as itself in a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def write_or_print(shown: Callable[[], str], page: Path | None, marks: tuple[str, str]) -> int:
    """Print a text, or write it into a page between its marks.

    Args:
        shown: makes the text; may raise PageError or OSError.
        page: a Markdown file; None prints.
        marks: see :func:`in_page`.

    Returns:
        The exit status of a command: 2 where that cannot be, and the reason is printed.
    """
    try:
        text = shown()
        if page is None:
            print(text)
        else:
            whole = in_page(page.read_text(encoding="utf-8"), text, marks, str(page))
            page.write_text(whole, encoding="utf-8")
    except (PageError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0
