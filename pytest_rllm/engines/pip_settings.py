"""What pip is configured with, as the settings of uv, which reads none of pip's."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field

SECTIONS = ("global", "install", ":env:")
"""Sections of pip's configuration that hold for ``pip install``; a later one overrides."""
TRUE = ("1", "true", "yes", "on", "y", "t")
"""How pip's configuration writes a switch that is on."""
INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")


@dataclass(frozen=True)
class _Counterpart:
    """Variables of uv for one option of pip.

    Attributes:
        names: the variable to set, then others that set the same.
        separator: what uv expects between several values.
    """

    names: tuple[str, ...]
    separator: str = " "


COUNTERPARTS = {
    "index-url": _Counterpart(("UV_DEFAULT_INDEX", "UV_INDEX_URL")),
    "extra-index-url": _Counterpart(("UV_INDEX", "UV_EXTRA_INDEX_URL")),
    "find-links": _Counterpart(("UV_FIND_LINKS",), separator=","),
    "constraint": _Counterpart(("UV_CONSTRAINT",)),
    "trusted-host": _Counterpart(("UV_INSECURE_HOST",)),
    "cert": _Counterpart(("SSL_CERT_FILE",)),
    "timeout": _Counterpart(("UV_HTTP_TIMEOUT",)),
    "default-timeout": _Counterpart(("UV_HTTP_TIMEOUT",)),
}
"""By pip's name of the option."""


@dataclass(frozen=True)
class UvSettings:
    """Settings for uv that equal pip's.

    Attributes:
        variables: environment variables to add. Addresses of indexes may hold passwords, so they
            are given to uv here and not in the command line, which is logged.
        options: command-line options to add.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()


def uv_settings(listing: str, environment: Mapping[str, str]) -> UvSettings:
    """Settings for uv from pip's, except where uv's own variables are set.

    Args:
        listing: what ``pip config list`` printed.
        environment: the variables that uv will see. Those that are set there stay as they are.
    """
    configured: dict[str, str] = {}
    by_section = [line.partition(".") for line in listing.splitlines()]
    for wanted in SECTIONS:
        for section, _, setting in by_section:
            name, equals, value = setting.partition("=")
            if section == wanted and equals:
                configured[name] = str(ast.literal_eval(value))
    variables = {}
    for option, counterpart in COUNTERPARTS.items():
        values = configured.get(option, "").split()
        if values and not any(environment.get(name) for name in counterpart.names):
            variables[counterpart.names[0]] = counterpart.separator.join(values)
    if "UV_INDEX" in variables and not environment.get("UV_INDEX_STRATEGY"):
        # pip takes the best version of all indexes, uv those of the first that has the package
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    no_index = configured.get("no-index", "").lower() in TRUE
    if no_index and not any(environment.get(name) for name in INDEXES):
        return UvSettings(variables, ("--no-index",))
    return UvSettings(variables)
