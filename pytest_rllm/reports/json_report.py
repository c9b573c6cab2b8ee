"""The whole session as one JSON object: for dashboards, plots and other gates."""

from __future__ import annotations

import json
from pathlib import Path

from .session_report import SessionReport


def write(report: SessionReport, path: Path) -> None:
    """Write all that is known; ``SessionReport.from_json`` reads it back."""
    text = json.dumps(report.to_json(), indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
