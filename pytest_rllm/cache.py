"""Where we keep what can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where we keep what can be made again: ``$RLLM_CACHE``, else ``pytest-rllm`` in
    ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    users = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "pytest-rllm"
    return Path(os.environ.get("RLLM_CACHE") or users).expanduser().absolute()
