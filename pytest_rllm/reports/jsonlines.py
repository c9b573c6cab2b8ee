"""One JSON object per test case and line, whole: for dashboards and other gates."""

from __future__ import annotations

from collections.abc import Sequence

from .row import Row


def render(rows: Sequence[Row]) -> str:
    """All that is known of every case."""
    return "".join(row.to_json() + "\n" for row in rows)
