"""How large a checkpoint is, where it is on this machine."""

from __future__ import annotations

from pathlib import Path

KINDS = (".safetensors", ".gguf", ".bin", ".pt", ".pth")
"""Endings of files with weights. Of a checkpoint that has several of them, the first is loaded."""


def weights_bytes(model: str) -> int | None:
    """Bytes of the files with a checkpoint's weights.

    Args:
        model: a folder, a file, or the id of a model that may be in the hub's local cache.

    Returns:
        None where it is not on this machine, or has no such file.
    """
    path = Path(model).expanduser()
    if path.is_file():
        return path.stat().st_size
    folder = path if path.is_dir() else _cached(model)
    if folder is None:
        return None
    for kind in KINDS:
        if sizes := [file.stat().st_size for file in folder.glob(f"*{kind}") if file.is_file()]:
            return sum(sizes)
    return None


def _cached(model: str) -> Path | None:
    """The folder of a model id in the hub's local cache; None where it is not there."""
    if model.startswith((".", "/")) or model.count("/") != 1:
        return None
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(model, local_files_only=True))
    except (ImportError, OSError, ValueError):  # not there, or no id of a model
        return None
