"""Reports of a session's findings: one file per format, and one line in the table below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pkgutil import resolve_name

from .row import Row

Render = Callable[[Sequence[Row]], str]

FORMATS = {
    "json": "pytest_rllm.reports.jsonlines:render",
    "markdown": "pytest_rllm.reports.markdown:render",
    "table": "pytest_rllm.reports.table:render",
}
"""Name for ``--rllm-report NAME:PATH`` to the function, imported when it is asked for."""


def render_named(name: str) -> Render:
    """The format of that name.

    Raises:
        ValueError: no such format, with the names there are.
    """
    if name not in FORMATS:
        raise ValueError(f"unknown report {name!r}; there are {', '.join(sorted(FORMATS))}")
    render: Render = resolve_name(FORMATS[name])
    return render
