"""Where a session's records lie."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path


def fresh_records(root: Path) -> Path:
    """Where this session's records go: a name in ``root`` that is not taken yet."""
    stem, number = time.strftime("%Y%m%d-%H%M%S"), 1
    folder = root / stem
    while folder.exists():
        number += 1
        folder = root / f"{stem}.{number}"
    return folder


def link_latest(records: Path) -> None:
    """Make the folder of records, and ``latest`` beside it that points to it."""
    records.mkdir(parents=True, exist_ok=True)
    latest = records.parent / "latest"
    with suppress(OSError):  # no links on this file system: the folder's own name is enough
        if latest.is_symlink():
            latest.unlink()
        os.symlink(records.name, latest)
