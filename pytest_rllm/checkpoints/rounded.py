"""Checkpoints whose weights have fewer bits: taken from an archive, or rounded here."""

from __future__ import annotations

import hashlib
import lzma
import re
import shutil
import tarfile
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..cache import cache_folder, made_once
from . import Checkpoint, CheckpointError

ROUNDED = re.compile(r"rounded-([2-8])")
"""Names of weights that are rounded here, to so many bits."""
GROUP = 128
"""Weights of a row that share a least value and a step, where that divides the row."""
MATRICES = "_proj.weight"
"""How names of the matrices of attention and of the feed-forward layers end."""
FORMAT = 1
"""Increased when the same checkpoint would be rounded differently."""
IN_ARCHIVE = ".tar.xz#"
"""``FILE.tar.xz#FOLDER`` is a checkpoint in an archive."""


def bits_of(quantization: str) -> int | None:
    """To how many bits ``rounded-4`` rounds; None of any other name."""
    found = ROUNDED.fullmatch(quantization)
    return int(found[1]) if found else None


def unpacked(place: str) -> str:
    """The folder of a checkpoint in an archive, unpacked into the cache where it is not yet.

    Args:
        place: ``FILE.tar.xz#FOLDER``; anything else is returned as it is.

    Raises:
        CheckpointError: there is no such archive, it is damaged, or it has no such folder.
    """
    if IN_ARCHIVE not in place:
        return place
    name, _, folder = place.partition("#")
    archive = Path(name).expanduser()
    if not archive.is_file():
        raise CheckpointError(f"there is no archive {archive}")

    def unpack(part: Path) -> None:
        try:
            with tarfile.open(archive, "r:xz") as content:
                content.extractall(part, filter="data")
        except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
            raise CheckpointError(f"{archive} is damaged ({error}): fetch it anew") from error

    digest = _digest(archive, archive.stat().st_mtime_ns)
    folders = made_once(cache_folder() / "unpacked" / digest, unpack)
    if not (folders / folder / "config.json").is_file():
        there = ", ".join(sorted(one.name for one in folders.iterdir()))
        raise CheckpointError(f"{archive} holds no checkpoint {folder!r}; there are {there}")
    return str(folders / folder)


@cache
def _digest(file: Path, _changed_ns: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def rounded(folder: Path, bits: int, digest: str) -> Path:
    """A checkpoint with its weights rounded to so many bits, made where the cache has none.

    The matrices of the layers are rounded, see :func:`round_to`; embeddings, the output layer,
    norms and biases stay as they are. The checkpoint keeps its own type, so any engine serves it:
    that shows what lost bits do to answers, and saves neither memory nor time.

    Args:
        folder: of the checkpoint.
        bits: from 2 to 8.
        digest: of its content.

    Raises:
        CheckpointError: it is none, or has no matrices in 16 or 32 bits.
    """

    def make(part: Path) -> None:
        checkpoint = Checkpoint(folder)
        names = [name for name in checkpoint.stored if name.endswith(MATRICES)]
        if not names:
            raise CheckpointError(f"{folder} has no weights that could be rounded")
        part.mkdir()
        for file in folder.iterdir():
            if file.is_file():
                shutil.copyfile(file, part / file.name)
        for name in names:
            where, own = checkpoint.stored[name], checkpoint.bits(name).dtype
            near = round_to(checkpoint.tensor(name), bits)
            values = _narrowed(near) if own == np.uint16 else near.astype(own)
            with open(part / where.file.name, "r+b") as content:
                content.seek(where.begin)
                content.write(values.tobytes())

    name = f"{folder.name}-{bits}-{digest}-{FORMAT}"
    return made_once(cache_folder() / "rounded" / name, make)


def round_to(weights: npt.NDArray[np.float32], bits: int) -> npt.NDArray[np.float32]:
    """Each weight's nearest of ``2 ** bits`` values, which lie evenly from the least to the largest
    weight of its group.

    Args:
        weights: shape (outputs, inputs); groups are of ``GROUP`` inputs, or of all of them where
            that does not divide them.
        bits: at least 1.
    """
    outputs, inputs = weights.shape
    size = GROUP if inputs % GROUP == 0 else inputs
    groups = weights.reshape(outputs, inputs // size, size)
    least = groups.min(axis=2, keepdims=True)
    step = (groups.max(axis=2, keepdims=True) - least) / (2**bits - 1)
    step[step == 0] = 1  # all weights of the group are equal
    near: npt.NDArray[np.float32] = least + np.rint((groups - least) / step) * step
    return near.reshape(outputs, inputs)


def _narrowed(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The nearest bfloat16 of each number, ties to even, as its bits."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
