"""Names that options take, and what stands behind them: our own table and other packages'.

Another package adds an engine, a report, a data set or a model pair by an entry point, as it would
add a pytest plugin::

    [project.entry-points."pytest_rllm.engines"]
    sglang = "rllm_sglang.engine:SglangEngine"

Entry points are looked up when a name is asked for, once per group; what stands behind a name is
imported when that name is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any


class RegistryError(ValueError):
    """A name stands for nothing, for two things, or for what cannot be imported."""


@dataclass(frozen=True)
class Registry:
    """The names of one kind of thing.

    Attributes:
        group: of the entry points, ``"pytest_rllm.engines"``.
        what: the kind in messages, ``"engine"``.
        own: our own names, each with ``"module:attribute"``.
    """

    group: str
    what: str
    own: Mapping[str, str]

    def names(self) -> tuple[str, ...]:
        """All names: our own in the table's order, then other packages', sorted."""
        others = sorted({entry.name for entry in _entries(self.group)} - self.own.keys())
        return (*self.own, *others)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def load(self, name: str) -> Any:
        """Import what the name stands for.

        Raises:
            RegistryError: nothing has that name (with the names there are), two packages have it,
                or its package cannot be imported.
        """
        found = [entry for entry in _entries(self.group) if entry.name == name]
        givers = ["pytest-rllm"] * (name in self.own) + sorted(map(_package, found))
        if not givers:
            raise RegistryError(
                f"unknown {self.what} {name!r}; there are {', '.join(self.names())}"
            )
        if len(givers) > 1:
            raise RegistryError(
                f"the {self.what} {name!r} is given by {' and by '.join(givers)}: "
                "uninstall one of them, or rename it in the entry points of one"
            )
        entry = found[0] if found else EntryPoint(name, self.own[name], self.group)
        try:
            return entry.load()
        except Exception as error:
            if not found:
                raise  # ours: a fault of this package, or of a library it stands on
            raise RegistryError(
                f"the {self.what} {name!r} of the package {givers[0]} cannot be imported "
                f"({type(error).__name__}: {error}): repair or uninstall that package"
            ) from error


@cache
def _entries(group: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


def _package(entry: EntryPoint) -> str:
    """The distribution that an entry point is of."""
    return entry.dist.name if entry.dist else entry.module
