"""Model pairs as test cases: what a pair needs of GPUs becomes its mark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ..models import pair_named


def cases(names: Sequence[str]) -> list[Any]:
    """``pytest.param`` per pair, marked ``gpu`` where it needs one."""
    made = []
    for name in names:
        pair = pair_named(name)
        marks = []
        if pair.gpu_memory_gib:
            marks.append(pytest.mark.gpu(memory_gib=pair.gpu_memory_gib, count=pair.gpus))
        made.append(pytest.param(name, id=pair.name, marks=marks))
    return made
