"""Named things that this package has and that other packages add by entry points.

Another package adds an engine, a report, a data set or a pair of models in its own
``pyproject.toml``, as pytest's plugins do::

    [project.entry-points."pytest_rllm.engines"]
    mine = "my_package.my_engine:MyEngine"
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib import metadata
from pkgutil import resolve_name
from typing import Generic, TypeVar

T = TypeVar("T")


class RegistryError(ValueError):
    """A name is unknown, taken twice, or its package cannot be imported; the message says which."""


class Registry(Generic[T]):
    """Names of one kind, ours and those of other packages; each is imported when it is asked for.

    Args:
        kind: what is registered, for messages: ``"engine"``.
        group: of the entry points: ``"pytest_rllm.engines"``.
        ours: name to ``"module:attribute"``.
    """

    def __init__(self, kind: str, group: str, ours: Mapping[str, str]) -> None:
        self.kind, self.group, self.ours = kind, group, dict(ours)

    @cached_property
    def _others(self) -> dict[str, list[metadata.EntryPoint]]:
        found: dict[str, list[metadata.EntryPoint]] = {}
        for point in metadata.entry_points(group=self.group):
            if point not in found.setdefault(point.name, []):
                found[point.name].append(point)
        return found

    def names(self) -> list[str]:
        """All names, ours first."""
        return [*self.ours, *sorted(self._others.keys() - self.ours.keys())]

    def __contains__(self, name: object) -> bool:
        return name in self.ours or name in self._others

    def load(self, name: str) -> T:
        """What is registered under a name.

        Raises:
            RegistryError: unknown, taken twice, or its package cannot be imported.
        """
        points = self._others.get(name, [])
        owners = [_owner(point) for point in points]
        if name in self.ours:
            owners = ["pytest-rllm", *owners]
        if not owners:
            known = ", ".join(self.names())
            raise RegistryError(f"unknown {self.kind} {name!r}; there are {known}")
        if len(owners) > 1:
            raise RegistryError(
                f"the {self.kind} {name!r} is provided by {' and by '.join(owners)}: "
                "uninstall one of them"
            )
        target = self.ours[name] if name in self.ours else points[0].value
        try:
            loaded: T = resolve_name(target)
        except Exception as error:
            raise RegistryError(
                f"the {self.kind} {name!r} of {owners[0]} cannot be imported from {target} "
                f"({type(error).__name__}: {error}): update or uninstall that package"
            ) from error
        return loaded


def _owner(point: metadata.EntryPoint) -> str:
    """Name and version of the package that an entry point belongs to."""
    package = point.dist
    return f"{package.name} {package.version}" if package else "an unknown package"
