"""Serving engines: one file each, and one line in the table below."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Engine

ENGINES = {
    "vllm": "pytest_rllm.engines.vllm:VllmEngine",
}
"""Name for ``--rllm-engine`` to the class, imported when it is asked for."""


def engine_named(name: str) -> Engine:
    """Make the engine of that name.

    Raises:
        ValueError: no such engine, with the names there are.
    """
    if name not in ENGINES:
        raise ValueError(f"unknown engine {name!r}; there are {', '.join(sorted(ENGINES))}")
    module, _, attribute = ENGINES[name].partition(":")
    engine: Engine = getattr(import_module(module), attribute)()
    return engine
