"""The findings of a session as GitHub Markdown, for a pull request or a page."""

from __future__ import annotations

from pathlib import Path

from tabulate import tabulate

from .next_step import next_step
from .row import COLUMNS
from .session_report import SessionReport
from .table import measured


def write(report: SessionReport, path: Path) -> None:
    """Write the gate's decision, one table with a line per claim, and what explains it."""
    parts = []
    if report.decision:
        first, *reasons = report.decision.lines()
        parts.append("\n".join([f"**{first}**", "", *(f"- {text.strip()}" for text in reasons)]))
    body = [
        (row.title, *line)
        for row in report.rows
        for line in row.lines() or [("",) * (len(COLUMNS) - 1) + (row.outcome,)]
    ]
    headers = ("finding", *COLUMNS)
    parts.append(tabulate(body, headers=headers, tablefmt="github", disable_numparse=True))
    explained = [f"- {row.title}: {text}" for row in report.rows for text in row.explanations()]
    if explained:
        parts.append("\n".join(explained))
    closing = [*report.messages, *measured(report), f"next: {next_step(report)}"]
    parts.append("\n".join(f"- {line}" for line in closing))
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
