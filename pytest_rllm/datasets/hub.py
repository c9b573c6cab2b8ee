"""Published data sets, loaded from the Hugging Face hub, its cache, or a folder of JSONL files."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .prompts import Prompt, dataset

BOXED = "\nPlease reason step by step, and put your final answer within \\boxed{}."


def _rows(name: str, folder: Path | None, *path: str, split: str) -> Iterator[dict[str, Any]]:
    """Rows of a data set: from ``folder/name.jsonl`` if it exists, else from the hub or its cache.

    Raises:
        ValueError: the rows cannot be read; the message says what to do.
    """
    import datasets

    local = folder / f"{name}.jsonl" if folder else None
    try:
        if local and local.is_file():
            loaded = datasets.load_dataset("json", data_files=str(local), split="train")
        else:
            loaded = datasets.load_dataset(*path, split=split)
    except Exception as error:
        raise ValueError(
            f"data set {name!r} ({'/'.join(path)}) could not be loaded: {error}; "
            f"download it once with access to its hub, or put {name}.jsonl, with the columns of "
            "the original, into a folder and pass that folder with --rllm-data"
        ) from error
    return iter(loaded)


def _column(name: str, row: dict[str, Any], column: str) -> str:
    if row.get(column) is None:
        raise ValueError(
            f"data set {name!r} has a row without {column!r}; its columns are {', '.join(row)}"
        )
    return str(row[column])


@dataset("gsm8k")
def gsm8k(folder: Path | None) -> Iterator[Prompt]:
    """Grade-school word problems, test split. Source: Cobbe et al., arXiv 2110.14168."""
    for i, row in enumerate(_rows("gsm8k", folder, "openai/gsm8k", "main", split="test")):
        answer = _column("gsm8k", row, "answer").rpartition("####")[2].strip().replace(",", "")
        text = _column("gsm8k", row, "question") + BOXED
        yield Prompt(f"gsm8k-{i}", text, answer, "easy", "math", f"gsm8k-{i}")


@dataset("math500")
def math500(folder: Path | None) -> Iterator[Prompt]:
    """500 competition problems. Source: Lightman et al., arXiv 2305.20050."""
    for row in _rows("math500", folder, "HuggingFaceH4/MATH-500", split="test"):
        key = _column("math500", row, "unique_id")
        text = _column("math500", row, "problem") + BOXED
        yield Prompt(key, text, _column("math500", row, "answer"), "medium", "math", key)


@dataset("aime2024")
def aime2024(folder: Path | None) -> Iterator[Prompt]:
    """The 30 problems of AIME 2024."""
    for row in _rows("aime2024", folder, "HuggingFaceH4/aime_2024", split="train"):
        key = f"aime-{_column('aime2024', row, 'id')}"
        text = _column("aime2024", row, "problem") + BOXED
        yield Prompt(key, text, _column("aime2024", row, "answer"), "hard", "math", key)


@dataset("gpqa")
def gpqa(folder: Path | None) -> Iterator[Prompt]:
    """GPQA Diamond, options in a seeded order. Source: Rein et al., arXiv 2311.12022."""
    wrong = [f"Incorrect Answer {i}" for i in (1, 2, 3)]
    for i, row in enumerate(
        _rows("gpqa", folder, "Idavidrein/gpqa", "gpqa_diamond", split="train")
    ):
        options = [_column("gpqa", row, column).strip() for column in ("Correct Answer", *wrong)]
        order = random.Random(i).sample(range(4), 4)
        listed = "\n".join(
            f"{letter}. {options[j]}" for letter, j in zip("ABCD", order, strict=True)
        )
        question = _column("gpqa", row, "Question").strip()
        text = f"{question}\n{listed}\n{BOXED[1:]} Answer with the letter."
        yield Prompt(f"gpqa-{i}", text, "ABCD"[order.index(0)], "knowledge", "word", f"gpqa-{i}")
