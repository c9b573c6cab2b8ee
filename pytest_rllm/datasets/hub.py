"""Published data sets, loaded from the Hugging Face hub, its cache, or a folder of local files."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from . import sandbox
from .prompts import DataMissing, Prompt, dataset, file_revision, note_revision

BOXED = "\nPlease reason step by step, and put your final answer within \\boxed{}."
LETTER = f"{BOXED} Answer with the letter."
COMPLETE = (
    "Complete this Python function. Answer with the whole program, and nothing else, in one block "
    "of Python code."
)
SUFFIXES = {".jsonl": "json", ".parquet": "parquet"}
"""How names of local files end, and what the library calls their format."""


@contextmanager
def cache_only(only: bool) -> Iterator[None]:
    """Leave the network alone, where that is asked for: published data sets that are loaded within
    come from the hub's cache, or not at all."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or only
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _rows(name: str, folder: Path | None, *path: str, split: str) -> Iterator[dict[str, Any]]:
    """Rows of a data set: from ``folder/name.jsonl`` or ``folder/name.parquet`` where there is one,
    else from the hub or its cache. Its revision is noted.

    Without a network the cache is used; ``HF_HUB_OFFLINE`` and ``HF_DATASETS_OFFLINE`` forbid to
    try the network.

    Raises:
        DataMissing: it is neither there nor to be had; the message says what to do.
        ValueError: the local file cannot be read.
    """
    import datasets

    files = [folder / f"{name}{suffix}" for suffix in SUFFIXES] if folder else []
    local = next((file for file in files if file.is_file()), None)
    if local:
        try:
            loaded = datasets.load_dataset(
                SUFFIXES[local.suffix], data_files=str(local), split="train"
            )
        except Exception as error:
            raise ValueError(
                f"data set {name!r}: {local} could not be loaded: {error}; it must have the "
                f"columns of the original, {path[0]} on the Hugging Face hub"
            ) from error
        note_revision(name, folder, file_revision(local))
        return iter(loaded)
    try:
        loaded = datasets.load_dataset(*path, split=split)
    except Exception as error:
        raise DataMissing(_missing(name, path, error), name) from error
    note_revision(name, folder, _commit(loaded))
    return iter(loaded)


def _missing(name: str, path: Sequence[str], error: Exception) -> str:
    """What to do where a data set of the hub cannot be had."""
    or_local = (
        f"put {name}.jsonl or {name}.parquet, with the columns of the original, into a folder and "
        "pass that folder with --rllm-data"
    )
    where = f"data set {name!r} ({'/'.join(path)} on the Hugging Face hub)"
    if "gated" in str(error).casefold():
        return (
            f"{where} is gated: accept its terms at https://huggingface.co/datasets/{path[0]} and "
            f"log in with 'hf auth login', or {or_local}"
        )
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return (
        f"{where} could not be loaded: {reason[0].rstrip('.')}; download it once with access to "
        f"the hub, which keeps it in its cache, or {or_local}"
    )


def _commit(loaded: Any) -> str | None:
    """The hub's commit of a loaded data set, which names the folder of its cache; None where the
    library does not tell it."""
    for file in loaded.cache_files:
        for part in Path(file["filename"]).parts:
            if re.fullmatch(r"[0-9a-f]{40}", part):
                return part
    return None


def _column(name: str, row: dict[str, Any], column: str) -> str:
    return str(_value(name, row, column))


def _value(name: str, row: dict[str, Any], column: str) -> Any:
    if row.get(column) is None:
        raise ValueError(
            f"data set {name!r} has a row without {column!r}; its columns are {', '.join(row)}"
        )
    return row[column]


def _listed(options: Sequence[str]) -> str:
    """One option a line, after its letter."""
    return "\n".join(
        f"{letter}. {str(option).strip()}"
        for letter, option in zip(ascii_uppercase, options, strict=False)
    )


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
        question = _column("gpqa", row, "Question").strip()
        text = f"{question}\n{_listed([options[j] for j in order])}{LETTER}"
        yield Prompt(f"gpqa-{i}", text, "ABCD"[order.index(0)], "knowledge", "word", f"gpqa-{i}")


@dataset("supergpqa")
def supergpqa(folder: Path | None) -> Iterator[Prompt]:
    """Graduate questions of 285 disciplines with up to ten options, in the order of a seeded
    shuffle, since the published one goes by discipline. Source: arXiv 2502.14739."""
    rows = list(_rows("supergpqa", folder, "m-a-p/SuperGPQA", split="train"))
    random.Random(0).shuffle(rows)
    for row in rows:
        key = f"supergpqa-{_column('supergpqa', row, 'uuid')}"
        question = _column("supergpqa", row, "question").strip()
        text = f"{question}\n{_listed(_value('supergpqa', row, 'options'))}{LETTER}"
        letter = _column("supergpqa", row, "answer_letter").strip()
        yield Prompt(key, text, letter, "knowledge", "word", key)


@dataset("commonsenseqa")
def commonsenseqa(folder: Path | None) -> Iterator[Prompt]:
    """Everyday questions with five options, validation split, since the test split has no answers.
    Source: Talmor et al., arXiv 1811.00937."""
    for row in _rows("commonsenseqa", folder, "tau/commonsense_qa", split="validation"):
        key = f"commonsenseqa-{_column('commonsenseqa', row, 'id')}"
        options = _value("commonsenseqa", _value("commonsenseqa", row, "choices"), "text")
        text = f"{_column('commonsenseqa', row, 'question')}\n{_listed(options)}{LETTER}"
        letter = _column("commonsenseqa", row, "answerKey").strip()
        yield Prompt(key, text, letter, "commonsense", "word", key)


@dataset("strategyqa")
def strategyqa(folder: Path | None) -> Iterator[Prompt]:
    """Questions for yes or no whose steps are implied, test split. Source: Geva et al., arXiv
    2101.02235; the hub's copy with answers is ChilleD/StrategyQA."""
    for row in _rows("strategyqa", folder, "ChilleD/StrategyQA", split="test"):
        key = f"strategyqa-{_column('strategyqa', row, 'qid')}"
        text = f"{_column('strategyqa', row, 'question')}{BOXED} Answer with yes or no."
        yes = _column("strategyqa", row, "answer").casefold() in ("true", "yes", "1")
        yield Prompt(key, text, "yes" if yes else "no", "commonsense", "word", key)


@dataset("babi")
def babi(folder: Path | None) -> Iterator[Prompt]:
    """The 20 bAbI tasks, test split, in the order of a seeded shuffle that mixes the tasks. Source:
    Weston et al., arXiv 1502.05698; the hub's copy without a loading script is Muennighoff/babi.

    Questions of one story are not independent; stories that begin alike count as one, too."""
    rows = list(enumerate(_rows("babi", folder, "Muennighoff/babi", split="test")))
    random.Random(0).shuffle(rows)
    for i, row in rows:
        key = f"babi-{_column('babi', row, 'task')}-{i}"
        passage = _column("babi", row, "passage").strip()
        text = f"{passage}\n{_column('babi', row, 'question').strip()}{BOXED} Answer in one word."
        answer = _column("babi", row, "answer").strip()
        story = f"babi-{row['task']}-{passage.splitlines()[0]}"
        yield Prompt(key, text, answer, "logic", "word", story)


@dataset("humaneval")
def humaneval(folder: Path | None) -> Iterator[Prompt]:
    """164 functions to write, graded by their tests. Source: Chen et al., arXiv 2107.03374."""
    for row in _rows("humaneval", folder, "openai/openai_humaneval", split="test"):
        key = _column("humaneval", row, "task_id")
        start = _column("humaneval", row, "prompt")
        tests, function = (_column("humaneval", row, name) for name in ("test", "entry_point"))
        text = f"{COMPLETE}\n\n```python\n{start}```"
        answer = sandbox.key_of(start, tests, function)
        yield Prompt(key, text, answer, "code", "code", key)
