"""What findings have a case each of: model pairs, with what each needs of GPUs as its mark, and the
types that an engine offers for its KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ..models import pair_named
from ..models.sizes import Sizes
from .findings import in_tier

SMOKE_OF_LARGE = "test_metamorphic_prefix_cache"
"""What the tier smoke measures of a large pair: two servers, and short answers, so that it takes
minutes where the findings on whole answers take hours."""
SMOKE_PAIR = "r1-distill-qwen-7b"
"""The large pair of which it measures that, where none is named."""


def cases(
    names: Sequence[str],
    *,
    finding: str,
    function: str = "",
    tier: str = "short",
    sizes: str | None = None,
    named: bool = False,
) -> list[Any]:
    """``pytest.param`` per pair that the finding is about, marked ``gpu`` where it needs one.

    A pair of another size, or one that is made for other findings, has no case. Where that leaves
    none, each pair is a case that is skipped with the reason.

    Args:
        names: of pairs.
        finding: id of the finding.
        function: name of the test function.
        tier: the smallest tier that the finding is part of.
        sizes: of models that the finding is claimed of, None for all.
        named: whether the user named the pairs: then it does not matter what they are made for.

    Raises:
        ValueError: the sizes cannot be read.
    """
    wanted = None if sizes is None else Sizes.of(sizes)
    made: list[Any] = []
    left_out: list[Any] = []
    for name in names:
        pair = pair_named(name)
        marks = []
        if pair.gpu_memory_gib:
            marks.append(pytest.mark.gpu(memory_gib=pair.gpu_memory_gib, count=pair.gpus))
        if pair.large and function == SMOKE_OF_LARGE and (named or name == SMOKE_PAIR):
            marks.append(in_tier("smoke"))
        elif pair.large and tier == "smoke":
            marks.append(in_tier("short"))
        if pair.made_for and finding not in pair.made_for and not named:
            why: str | None = f"the pair {name!r} is made for {', '.join(sorted(pair.made_for))}"
        else:
            why = None if wanted is None else wanted.why_not(pair)
        if why is None:
            made.append(pytest.param(name, id=pair.name, marks=marks))
        else:
            left_out.append(pytest.param(name, id=pair.name, marks=pytest.mark.skip(reason=why)))
    return made or left_out


def kv_dtypes(offered: Sequence[str]) -> list[Any]:
    """``pytest.param`` per type that an engine offers for its KV cache.

    Args:
        offered: their names; of none there is one case, which is skipped.
    """
    if offered:
        return [pytest.param(name, id=name) for name in offered]
    why = "the engine does not tell which types it offers for its KV cache"
    return [pytest.param("unknown", id="unknown", marks=pytest.mark.skip(reason=why))]
