"""Of models of which size a source says something, and which size a pair has."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

from .pair import ModelPair

NEAR = 1.13
"""Sizes are told in round numbers: a "7B" has 7.6 billion parameters; an 8B is another model."""
_SIZES = re.compile(r"(\d+(?:\.\d+)?)B(?:(\+)|-(\d+(?:\.\d+)?)B)?")
_IN_NAME = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)B(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Sizes:
    """A range of model sizes, in billions of parameters.

    Attributes:
        text: as it was written, ``14B+``.
        least, most: the range; ``most`` is infinite for ``14B+``.
    """

    text: str
    least: float
    most: float

    @classmethod
    def of(cls, text: str) -> Sizes:
        """The range that ``7B``, ``14B+`` or ``7B-32B`` names.

        Raises:
            ValueError: the text is none of these.
        """
        found = _SIZES.fullmatch(text)
        if found is None:
            raise ValueError(f"sizes are written '7B', '14B+' or '7B-32B', not {text!r}")
        least = float(found[1])
        most = math.inf if found[2] else float(found[3] or least)
        return cls(text, least, most)

    def __contains__(self, size: object) -> bool:
        return isinstance(size, float) and self.least / NEAR <= size <= self.most * NEAR

    def why_not(self, pair: ModelPair) -> str | None:
        """Why a claim on these sizes is not one on a pair; None when it is."""
        size = size_of(pair)
        if size is None:
            return (
                f"the source says this of {self}, and the size of the pair {pair.name!r} is not "
                "known: say size_b = ... in its TOML file, in billions of parameters"
            )
        if size in self:
            return None
        has = f"stands for a model of {size:g}B" if pair.stands_for else f"has {size:.3g}B"
        return (
            f"the source says this of {self}, and the pair {pair.name!r} {has}; where it is to be "
            "measured all the same, say stands_for = ... in a TOML file of the pair"
        )

    def __str__(self) -> str:
        if self.most == math.inf:
            return f"models of {self.least:g}B and above"
        if self.most > self.least:
            return f"models of {self.least:g}B to {self.most:g}B"
        return f"the {self.least:g}B model"


def size_of(pair: ModelPair) -> float | None:
    """The size that findings take a pair to have, in billions of parameters.

    That is ``stands_for`` of the pair, else its ``size_b``, else what the name of the reasoning
    model tells (``Qwen3-8B``), else what the headers of a local checkpoint tell.

    Returns:
        None where nothing tells.
    """
    if pair.stands_for or pair.size_b:
        return float(pair.stands_for or pair.size_b or 0)
    folder = Path(pair.reasoning).expanduser()
    if named := _IN_NAME.findall(folder.name):
        return float(named[-1])
    counted = sum(map(_parameters, sorted(folder.glob("*.safetensors"))))
    return counted / 1e9 if counted else None


def _parameters(file: Path) -> int:
    """Numbers in a safetensors file, by its header; 0 where that cannot be read."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(min(length, 100_000_000)))
        return sum(
            math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return 0
