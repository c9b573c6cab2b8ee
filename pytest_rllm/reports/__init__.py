"""Reports of a session: one file per format, and one line in the table below."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..registry import Registry
from .session_report import SessionReport

Write = Callable[[SessionReport, Path], None]

FORMATS = Registry(
    "pytest_rllm.reports",
    "report",
    {
        "findings": "pytest_rllm.reports.findings_table:write",
        "json": "pytest_rllm.reports.json_report:write",
        "markdown": "pytest_rllm.reports.markdown:write",
        "table": "pytest_rllm.reports.table:write",
    },
)
"""Name for ``--rllm-report NAME:PATH`` to a function :data:`Write`; other packages add theirs as
entry points."""
