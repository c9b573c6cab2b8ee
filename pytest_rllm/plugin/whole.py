"""Whether a session collected all findings that there are: only then is a stored case unused."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from .findings import case_id, finding_id
from .options import value

NARROWED = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "stepwise")
"""Options of pytest that leave tests out."""
VENVS = ("pyvenv.cfg", "conda-meta")
"""What a folder holds that is a virtual environment."""


def existing(
    session: pytest.Session,
    files: Iterable[Path],
    findings: Iterable[pytest.Item],
    left_out: Iterable[pytest.Item],
) -> dict[str, set[str]] | None:
    """All cases per finding, when every test file was collected, and nobody left out a finding;
    else None.

    The files are those under ``testpaths``, or under the root folder where that is not set, and
    under what was asked for.

    Args:
        session: whose collection is over.
        files: that were collected.
        findings: that were collected, before anybody took any out.
        left_out: those of them that the plugin itself took out.
    """
    config = session.config
    asked = [config.invocation_params.dir / arg for arg in config.args]
    if (
        any(getattr(config.option, name, None) for name in NARROWED)
        or value(config, "model")
        or session.testsfailed  # a file could not be collected
        or not all(path.is_dir() for path in asked)
    ):
        return None
    found = list(findings)
    kept = {*session.items, *left_out}
    if not kept.issuperset(found) or not set(files).issuperset(_test_files(config, asked)):
        return None
    cases: dict[str, set[str]] = {}
    for item in found:
        if item not in set(left_out):
            cases.setdefault(finding_id(item), set()).add(case_id(item))
    return cases


def _test_files(config: pytest.Config, asked: Iterable[Path]) -> Iterator[Path]:
    """Files that pytest takes for tests, under the configured folders and those asked for."""
    tests = config.getini("python_files")
    skipped = config.getini("norecursedirs")
    configured = [config.rootpath / path for path in config.getini("testpaths")]
    roots = [*(configured or [config.rootpath]), *asked]
    for root in dict.fromkeys(path.resolve() for path in roots):
        for folder, below, names in os.walk(root):
            below[:] = [
                name
                for name in below
                if not any(fnmatch(name, pattern) for pattern in skipped)
                and not any(Path(folder, name, sign).exists() for sign in VENVS)
            ]
            for name in names:
                if any(fnmatch(name, pattern) for pattern in tests):
                    yield Path(folder, name)
