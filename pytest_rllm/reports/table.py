"""The findings of a session as a text file, as wide as it takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from .next_step import next_step
from .row import COLUMNS, Row
from .session_report import SessionReport


def write(report: SessionReport, path: Path) -> None:
    """Write what the terminal shows, with the confidence of each interval: the table, the outcomes,
    the gate's decision, and what was measured where."""
    path.write_text("\n".join([*lines(report), "", *measured(report), ""]), encoding="utf-8")


def lines(report: SessionReport) -> list[str]:
    """The session's messages, the table with its explanations, the number of outcomes, the gate's
    decision, and what to do next."""
    found = [*report.messages, *([""] if report.messages else [])]
    found += [table_of(report.rows), ""] if report.rows else []
    found.append(", ".join(f"{n} {word}" for word, n in report.outcomes().items()))
    if report.decision:
        found += ["", *report.decision.lines()]
    return [*found, "", f"next: {next_step(report)}"]


def measured(report: SessionReport) -> list[str]:
    """What was measured where, in a line per kind; nothing of a session without a judgement."""
    told = {name: report.environment.get(name, ()) for name in ("engines", "hardware")}
    return [f"{name}: {', '.join(values)}" for name, values in told.items() if values]


def table_of(rows: Sequence[Row]) -> str:
    """All findings, a line per claim, then what explains them."""
    body = []
    for row in rows:
        claims = row.lines() or [("",) * (len(COLUMNS) - 1) + (row.outcome,)]
        for i, line in enumerate(claims):
            body.append((row.title if i == 0 else "", *line))
    table = tabulate(body, headers=("finding", *COLUMNS), disable_numparse=True)
    explained = [f"{row.title}: {text}" for row in rows for text in row.explanations()]
    return "\n".join([table, *([""] if explained else []), *explained])
