"""``python -m pytest_rllm keys``: which KV caches hold the keys of a checkpoint."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

from tabulate import tabulate

from . import CheckpointError
from .keys import HARMFUL, LARGEST, Keys, as_json, keys_of

HELP = "say how large the keys of a checkpoint can get, and which formats of a KV cache hold them"
SHOWN = 5
"""Heads that are shown, those with the largest keys first; JSON has all."""
EXPLAINED = (
    "bound: never exceeded, whatever the input. bias: its constant part. seen: what tokens of the "
    "vocabulary reach in the first layer. estimate: a guess for later layers."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "model", metavar="MODEL", help="a folder of a checkpoint, or an id in the hub's local cache"
    )
    parser.add_argument("--json", action="store_true", help="all heads and formats, as JSON")


def run(given: argparse.Namespace) -> int:
    """Read a checkpoint and print what is found; returns the exit status, 2 where it cannot be
    read."""
    try:
        keys = keys_of(folder_of(given.model))
    except CheckpointError as error:
        print(f"keys: {error}", file=sys.stderr)
        return 2
    print(json.dumps(as_json(keys), indent=2) if given.json else text_of(keys))
    return 0


def folder_of(model: str) -> Path:
    """The folder of a checkpoint, or of a model id that was downloaded before.

    Raises:
        CheckpointError: there is neither.
    """
    path = Path(model).expanduser()
    if path.exists() or model.startswith((".", "/", "~")) or model.count("/") != 1:
        return path
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, local_files_only=True))
    except Exception as error:
        raise CheckpointError(
            f"{model} is no folder, and the hub's local cache has no such model: download it with "
            f"`hf download {model}`, or give a folder"
        ) from error


def text_of(keys: Keys) -> str:
    """What is found, for a person."""
    layers = len({head.layer for head in keys.heads})
    norm = "a norm of keys (QK-norm) bounds them" if keys.key_norm else "no norm of keys (QK-norm)"
    lines = [f"{keys.folder} ({keys.model_type})"]
    if not keys.heads:
        return "\n".join([*lines, f"cannot tell: {keys.unknown}"])
    lines.append(f"{layers} layers, {len(keys.heads)} KV heads in all; {norm}")
    if keys.unknown:
        lines.append(f"in part only: {keys.unknown}")
    rows = [
        (
            fit.format,
            fit.answer,
            "a scale per token" if fit.room is None else f"{fit.room:.2g} x",
            f"{fit.heads} of {len(keys.heads)}",
        )
        for fit in keys.fits()
    ]
    headers = ("KV cache", "its range", "room", "heads beyond it")
    lines += ["", tabulate(rows, headers, disable_numparse=True), ""]
    widest = sorted(keys.heads, key=lambda head: -head.expected)[:SHOWN]
    numbers = [
        (
            head.layer,
            head.head,
            *(f"{value:.3g}" for value in (head.bound, head.estimate, head.bias)),
            "" if head.seen is None else f"{head.seen:.3g}",
        )
        for head in widest
    ]
    headers_of_heads = ("layer", "KV head", "bound", "estimate", "bias", "seen")
    lines.append("Largest magnitude of a key's numbers after RoPE, of the widest heads:")
    lines += [tabulate(numbers, headers_of_heads, disable_numparse=True), EXPLAINED]
    return "\n".join([*lines, *_advice(keys)])


def _advice(keys: Keys) -> list[str]:
    """What an FP8 KV cache would do, in sentences."""
    lines = []
    for name in ("e4m3", "e5m2"):
        fit = keys.fit(name)
        if fit is None or fit.accuracy == "kept":
            continue
        scale = 2 ** math.ceil(math.log2(keys.reach / LARGEST[name]))
        if fit.accuracy == "collapses":
            text = (
                f"tokens reach {fit.excess:.1f} times its range in the first layer, and more than "
                f"{HARMFUL:g} times made nearly all answers of a small reasoning model wrong"
            )
        else:
            text = "keys are expected beyond its range: accuracy may suffer, so measure it"
        lines.append(f"{name} with a scale of 1: {text}. A k_scale of {scale} would hold them.")
    return ["", *lines] if lines else []
