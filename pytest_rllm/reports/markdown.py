"""The table of findings as GitHub Markdown, for a pull request or a page."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from .row import COLUMNS, Row


def render(rows: Sequence[Row]) -> str:
    """One table, a line per claim."""
    body = [
        (row.title, *line)
        for row in rows
        for line in row.lines() or [("",) * (len(COLUMNS) - 1) + (row.ending,)]
    ]
    table = tabulate(body, headers=("finding", *COLUMNS), tablefmt="github", disable_numparse=True)
    reasons = [f"- {row.title}: {reason}" for row in rows for reason in row.reasons()]
    return "\n".join([table, "", *reasons, ""]) if reasons else table + "\n"
