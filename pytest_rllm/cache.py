"""Where we keep what can be made again."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """Where we keep what can be made again: ``$RLLM_CACHE``, else ``pytest-rllm`` in
    ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    users = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "pytest-rllm"
    return Path(os.environ.get("RLLM_CACHE") or users).expanduser().absolute()


def made_once(target: Path, make: Callable[[Path], None]) -> Path:
    """A folder of the cache, made where it is not there; of several processes one makes it.

    Args:
        target: the folder.
        make: makes it at the path that it is given, from where it is moved.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_name(f"{target.name}.making"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            part = target.with_name(f".{target.name}.{os.getpid()}")
            try:
                make(part)
                part.rename(target)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    return target
