"""A model whose keys are wider and whose answers are the same: what an 8-bit KV cache does to it.

An attention score is a query times a key. Keys times ``2**n`` and queries divided by ``2**n`` leave
every score as it is, and powers of two are exact in bfloat16: only the range of the keys grows,
while what the model computes in its own precision stays the same.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cache import cache_folder, made_once
from . import Checkpoint, CheckpointError, widened
from .families import LayerNames, head_size

FORMAT = 1
"""Increased when the same variant would be written differently."""


@dataclass(frozen=True)
class WideKeys:
    """Which keys of a model are widened.

    Attributes:
        exponent: keys are multiplied by two to this power.
        heads: numbers of the KV heads, with the query heads of their groups; None for all.
        layers: numbers of the layers; None for all.
    """

    exponent: int
    heads: tuple[int, ...] | None = None
    layers: tuple[int, ...] | None = None

    def __str__(self) -> str:
        parts = [f"2^{self.exponent}"]
        for name, chosen in (("head", self.heads), ("layer", self.layers)):
            if chosen is not None:
                parts.append(f"{name} {', '.join(map(str, chosen))}")
        return " ".join(parts)


def widened_copy(folder: Path, keys: WideKeys) -> Path:
    """The folder of a checkpoint's variant: made once, kept in the cache.

    Args:
        folder: of a checkpoint with separate ``q_proj`` and ``k_proj`` in bfloat16.
        keys: which of them are widened.

    Raises:
        CheckpointError: it is no such checkpoint, or a number leaves the range of bfloat16.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    digest = _digest(tuple((file, file.stat().st_mtime_ns) for file in files), str(keys))
    target = cache_folder() / "wide-keys" / f"{folder.name}-{digest}"
    return made_once(target, lambda part: write(folder, keys, part))


def write(folder: Path, keys: WideKeys, to: Path) -> None:
    """Make the folder of a variant; its files are those of the checkpoint, but for the tensors.
    Raises as :func:`widened_copy`."""
    checkpoint = Checkpoint(folder)
    layers = LayerNames.of(checkpoint)
    size, (heads, kv_heads) = head_size(checkpoint.config)
    changed: dict[str, npt.NDArray[np.uint16]] = {}
    for layer, names in sorted(layers.items()):
        if keys.layers is not None and layer not in keys.layers:
            continue
        for of, count, exponent in (("q", heads, -keys.exponent), ("k", kv_heads, keys.exponent)):
            group = count // kv_heads
            chosen = [h for h in range(count) if keys.heads is None or h // group in keys.heads]
            rows = np.concatenate([np.arange(h * size, (h + 1) * size) for h in chosen])
            for name in (
                f"{names.attention}.{of}_proj.weight",
                f"{names.attention}.{of}_proj.bias",
            ):
                if name in checkpoint.stored:
                    changed[name] = _scaled(checkpoint, name, rows, exponent)
    to.mkdir()
    for file in folder.iterdir():
        if file.is_file():
            shutil.copyfile(file, to / file.name)
    for name, values in changed.items():
        where = checkpoint.stored[name]
        with open(to / where.file.name, "r+b") as content:
            content.seek(where.begin)
            content.write(values.tobytes())


def _scaled(
    checkpoint: Checkpoint, name: str, rows: npt.NDArray[Any], exponent: int
) -> npt.NDArray[np.uint16]:
    """A tensor's bfloat16 bits, some rows times a power of two: exactly, or an error."""
    if (kind := checkpoint.stored[name].kind) != "BF16":
        raise CheckpointError(f"{name} is {kind}, and keys are widened in BF16 alone")
    bits = np.array(checkpoint.bits(name))
    wide = widened(bits)
    wide[rows] = np.ldexp(wide[rows], exponent)
    scaled = wide.view(np.uint32)
    lost = (scaled & 0xFFFF) != 0
    if lost.any() or not np.isfinite(wide).all():
        raise CheckpointError(f"{name} times 2^{exponent} cannot be held exactly in bfloat16")
    return (scaled >> 16).astype(np.uint16)


@cache
def _digest(files: tuple[tuple[Path, int], ...], keys: str) -> str:
    """Of names and contents; read anew when a time of change differs."""
    digest = hashlib.sha256(f"{FORMAT} {keys}".encode())
    for file, _ in files:
        digest.update(f"\0{file.name}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
