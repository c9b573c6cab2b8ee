"""A part of a Markdown page that a command writes, between two marks."""

from __future__ import annotations


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
