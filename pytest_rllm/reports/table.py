"""The table at the end of a pytest run."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from .row import COLUMNS, Row


def render(rows: Sequence[Row]) -> str:
    """All findings, a line per claim, then what needs saying about them."""
    body = []
    for row in rows:
        lines = row.lines() or [("",) * (len(COLUMNS) - 1) + (row.ending,)]
        for i, line in enumerate(lines):
            body.append((row.title if i == 0 else "", *line))
    table = tabulate(body, headers=("finding", *COLUMNS), disable_numparse=True)
    reasons = [f"{row.title}: {reason}" for row in rows for reason in row.reasons()]
    return "\n".join([table, *([""] if reasons else []), *reasons])


def of_one(row: Row) -> str:
    """One case, with its sentence and arms: what a failure shows."""
    arms = dict.fromkeys(tuple(claim["arms"]) for claim in row.claims)
    return "\n".join(
        [
            f"{row.title}: {row.sentence}",
            f"({row.cite})",
            *(f"A: {first}   against   B: {second}" for first, second in arms),
            "",
            tabulate(row.lines(), headers=COLUMNS, disable_numparse=True),
            *(f"* {reason}" for reason in row.reasons()),
            f"records: {row.records}",
        ]
    )
