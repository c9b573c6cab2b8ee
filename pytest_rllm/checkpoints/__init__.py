"""Checkpoints as files: their configuration, and tensors that are read one by one, without torch.

A safetensors file is a length, a header in JSON, and the values. The files are mapped into memory,
so that of a checkpoint of many gigabytes only what is asked for is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

INDEX = "model.safetensors.index.json"
KINDS: Mapping[str, type[np.generic]] = {
    "BF16": np.uint16,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
}
"""Types of numbers that are read: as safetensors and as numpy say it. numpy has no bfloat16."""
LONGEST_HEADER = 100 << 20
"""Bytes; the format allows no more."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, in a sentence that names the file and what is wrong."""


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies.

    Attributes:
        file: the safetensors file.
        kind: type of its numbers, as safetensors says it.
        shape: of the tensor.
        begin: offset of its first byte in the file.
    """

    file: Path
    kind: str
    shape: tuple[int, ...]
    begin: int


class Checkpoint:
    """A folder with a Hugging Face checkpoint.

    Raises:
        CheckpointError: the folder is none, or holds no ``config.json`` or one that is no JSON.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        file = folder / "config.json"
        if not file.is_file():
            gguf = sorted(folder.glob("*.gguf")) if folder.is_dir() else []
            if folder.suffix == ".gguf" or gguf:
                raise CheckpointError(
                    f"{gguf[0] if gguf else folder} is a GGUF file, which is not read here: give "
                    "the folder of the checkpoint that it was made from"
                )
            lacks = "holds no config.json" if folder.is_dir() else "is no folder"
            raise CheckpointError(f"{folder} {lacks}: give a folder with a Hugging Face checkpoint")
        self.config = _json(file)

    @cached_property
    def stored(self) -> Mapping[str, Stored]:
        """All tensors by name.

        Raises:
            CheckpointError: there is no safetensors file, or one is cut off or missing.
        """
        index = self.folder / INDEX
        if index.is_file():
            named = _json(index).get("weight_map")
            if not isinstance(named, dict):
                raise CheckpointError(f"{index} has no weight_map, which names the files")
            files = sorted({self.folder / str(name) for name in named.values()})
        else:
            files = sorted(self.folder.glob("*.safetensors"))
        if not files:
            others = [p.name for kind in ("*.bin", "*.gguf") for p in self.folder.glob(kind)]
            there = f" (there is {others[0]})" if others else ""
            raise CheckpointError(f"{self.folder} holds no .safetensors file{there}")
        return {name: where for file in files for name, where in _header(file).items()}

    def bits(self, name: str) -> npt.NDArray[Any]:
        """A tensor as it is stored, not yet read from the disk; bfloat16 as its 16 bits.

        Raises:
            CheckpointError: there is no such tensor, or its numbers are packed or quantised.
        """
        where = self.stored.get(name)
        if where is None:
            raise CheckpointError(f"{self.folder} has no tensor {name}")
        if where.kind not in KINDS:
            raise CheckpointError(
                f"{where.file}: {name} is quantised ({where.kind}): give the checkpoint in 16 bits "
                "that it was made from"
            )
        dtype = np.dtype(KINDS[where.kind])
        return np.memmap(where.file, dtype, "r", offset=where.begin, shape=where.shape)

    def tensor(self, name: str, rows: slice | npt.NDArray[Any] = slice(None)) -> npt.NDArray[Any]:
        """A tensor, or some of its rows, in 32 bits. Raises as :meth:`bits`."""
        bits = self.bits(name)[rows]
        return widened(bits) if bits.dtype == np.uint16 else np.asarray(bits, np.float32)


def widened(bits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Numbers in 32 bits of their bfloat16 bits, which are the upper half of them."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _header(file: Path) -> dict[str, Stored]:
    """Names of a safetensors file to where its tensors lie."""
    if not file.is_file():
        raise CheckpointError(f"{file} is missing, which the checkpoint's index names")
    size = file.stat().st_size
    with open(file, "rb") as content:
        length = int.from_bytes(content.read(8), "little")
        if size < 8 or length > min(LONGEST_HEADER, size - 8):
            raise CheckpointError(f"{file} is cut off or no safetensors file: its header is cut")
        try:
            header = json.loads(content.read(length))
            found = {
                name: Stored(
                    file, told["dtype"], tuple(told["shape"]), 8 + length + told["data_offsets"][0]
                )
                for name, told in header.items()
                if name != "__metadata__"
            }
            ends = [header[name]["data_offsets"][1] for name in found]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{file} is no safetensors file: {error}") from error
    if (end := 8 + length + max(ends, default=0)) > size:
        raise CheckpointError(
            f"{file} is cut off: it has {size} bytes, and its header tells of {end}"
        )
    for name, where in found.items():
        begin, end = header[name]["data_offsets"]
        if where.kind in KINDS:
            needed = prod(where.shape) * np.dtype(KINDS[where.kind]).itemsize
            if end - begin != needed:
                raise CheckpointError(
                    f"{file}: {name} has {end - begin} bytes, and its shape takes {needed}"
                )
    return found


def _json(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(told, dict):
        raise CheckpointError(f"{file} holds no JSON object")
    return told
