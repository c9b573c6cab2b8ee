"""A page of metrics: which engine's it is, what is read of it, and what is refused and why."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..engines import ENGINES
from ..engines.base import Endpoint
from ..engines.builds import Build
from ..engines.capabilities import COUNTERS
from ..experiment.serving import Serving
from ..telemetry.prometheus import Page, sample_names
from .explained import Explained, NotUnderstood

NOWHERE = "http://localhost"
"""A page is read as one of a server that runs already."""


def explain(path: Path, given: argparse.Namespace) -> Explained:  # noqa: ARG001
    """Explain a page, as the engine reads it that understands most of it.

    Raises:
        NotUnderstood: it is no page of metrics.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise NotUnderstood(str(error.strerror)) from error
    names = sample_names(text)
    if not names:
        raise NotUnderstood("it holds no line of a metrics page, NAME{LABELS} VALUE")
    try:
        engine, page = max(_read(text), key=lambda read: _fits(read[0], read[1], names))
    except ValueError as error:
        raise NotUnderstood(f"{type(error).__name__}: {error}") from error
    refused = sorted(page.refused)
    return Explained(
        title=f"a metrics page with {len(names)} names, read as {engine.name}'s",
        lines=list(_lines(page)),
        content={
            "kind": "metrics",
            "engine": engine.name,
            "series": {
                name: {"value": value, "kind": _kind(name)} for name, value in page.values.items()
            },
            "refused": {name: page.missing[name] for name in refused},
            "missing": {n: why for n, why in page.missing.items() if n not in page.refused},
            "names": names,
        },
        counts=bool(page.values) and not refused,
    )


def _read(text: str) -> Iterator[tuple[Endpoint, Page]]:
    """The page as each engine reads it that has one."""
    for name in ENGINES.names():
        engine: Any = ENGINES.load(name)(Build(NOWHERE, url=NOWHERE))
        if engine.metrics_path:
            yield engine, engine.read_metrics(text, Serving())


def _fits(engine: Endpoint, page: Page, names: list[str]) -> tuple[int, int]:
    """How much of a page an engine understands: series, then names that begin with its own."""
    called = sum(name.startswith(engine.name) for name in names)
    return len(page.values) + len(page.refused), called


def _lines(page: Page) -> Iterator[str]:
    for name, value in page.values.items():
        yield f"  {name} ({_kind(name)}): {value:g}"
    for why in dict.fromkeys(page.missing[name] for name in sorted(page.refused)):
        yield f"  refused: {why}"
    for why in dict.fromkeys(why for n, why in page.missing.items() if n not in page.refused):
        yield f"  not there: {why}"


def _kind(name: str) -> str:
    return "counter" if name in COUNTERS else "gauge"
