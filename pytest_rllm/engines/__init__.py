"""Serving engines: one file each, and one line in the table below."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Engine
    from .builds import Build

ENGINES = {
    "vllm": "pytest_rllm.engines.vllm:VllmEngine",
}
"""Name for ``--rllm-engine`` to the class, imported when it is asked for."""


def engine_named(name: str, build: Build | None = None) -> Engine:
    """Make the engine of that name.

    Args:
        name: a key of ``ENGINES``.
        build: which build of it; None is the one of the running interpreter.

    Raises:
        ValueError: no such engine, with the names there are.
    """
    if name not in ENGINES:
        raise ValueError(f"unknown engine {name!r}; there are {', '.join(sorted(ENGINES))}")
    engine: Engine = resolve_name(ENGINES[name])(build)
    return engine
