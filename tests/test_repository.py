"""The repository stays small enough to be read."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_FILES = 600


def test_the_repository_has_few_files() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip(f"{ROOT} is no git checkout: nothing says which files are tracked")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    tracked = listed.stdout.split("\0")[:-1]
    assert "pyproject.toml" in tracked
    assert len(tracked) < MOST_FILES
