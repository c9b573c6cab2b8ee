"""Relative paths in ini settings: they count from the folder of the ini file, all alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


def _whole_path(folder: Path, text: str) -> str:
    return str(folder / text)


def _models_in(folder: Path, text: str) -> str:
    """Names of pairs and TOML files, and folders that are said to be some: ``./a:./b``."""
    return ",".join(
        ":".join(
            str(folder / part) if part.endswith(".toml") or part.startswith(("./", "../")) else part
            for part in name.strip().split(":")
        )
        for name in text.split(",")
    )


def _report_in(folder: Path, text: str) -> str:
    form, colon, path = text.partition(":")
    return f"{form}{colon}{folder / path}" if path else text


def _build_in(folder: Path, text: str) -> str:
    """``NAME@./path/to/python``, and a path alone; no name, version or URL."""
    name, at, build = text.rpartition("@")
    return f"{name}{at}{folder / build}" if build.startswith(("./", "../")) else text


PATHS: dict[str, Callable[[Path, str], str]] = {
    "data": _whole_path,
    "baselines": _whole_path,
    "record": _whole_path,
    "replay": _whole_path,
    "ca-file": _whole_path,
    "conformance": _whole_path,
    "model": _models_in,
    "report": _report_in,
    "engine": _build_in,
    "against": _build_in,
}
"""Options that hold paths, and how their ini settings count them from a folder."""


def counted(config: pytest.Config, name: str, text: str) -> str:
    """An ini setting with its relative paths counted from the folder of the ini file.

    What ``-o`` says on the command line counts from where that was given, as an option does.

    Args:
        config: of pytest.
        name: of the option, without ``--rllm-``.
        text: what the setting says.
    """
    stored = f"rllm_{name}".replace("-", "_")
    on_line = any(one.startswith(f"{stored}=") for one in config.getoption("override_ini") or ())
    if config.inipath is None or on_line or name not in PATHS:
        return text
    return PATHS[name](config.inipath.parent, text)
