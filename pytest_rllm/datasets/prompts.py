"""What is asked: prompts with their answer key. A data set is one decorated function."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from . import bundled as problems

BOXED = "\nPlease reason step by step, and put your final answer within \\boxed{}."


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question as it is sent, with what is needed to grade the answer.

    Attributes:
        id: unique within its data set, stable across versions of it.
        text: the user message, whole.
        answer: the key.
        tier: ``easy``, ``medium``, ``hard`` or ``knowledge``.
        kind: ``math`` (graded as mathematics) or ``word`` (graded as text).
        template: questions that share it are not independent (a cluster).
        repeat: 0 for the first time a question is asked in a run, then 1, 2 ...
    """

    id: str
    text: str
    answer: str
    tier: str
    kind: Literal["math", "word"]
    template: str
    repeat: int = 0


Loader = Callable[[Path | None], Iterable[Prompt]]
_LOADERS: dict[str, Loader] = {}


def dataset(name: str) -> Callable[[Loader], Loader]:
    """Register a function as the data set ``name``.

    The function takes the folder of ``--rllm-data`` (or None) and yields prompts in their order.
    """

    def register(loader: Loader) -> Loader:
        if name in _LOADERS:
            raise ValueError(f"two data sets are called {name!r}")
        _LOADERS[name] = loader
        return loader

    return register


def load(name: str, folder: Path | None = None) -> tuple[Prompt, ...]:
    """All prompts of a data set.

    Raises:
        ValueError: no such data set (with the names there are), or it holds a question twice.
    """
    return _load(name, folder)


@cache
def _load(name: str, folder: Path | None) -> tuple[Prompt, ...]:
    if name not in _LOADERS:
        raise ValueError(f"unknown data set {name!r}; there are {', '.join(sorted(_LOADERS))}")
    prompts = tuple(_LOADERS[name](folder))
    if len({prompt.id for prompt in prompts}) != len(prompts):
        raise ValueError(f"data set {name!r} holds one id twice")
    return prompts


def choose(
    tiers: Mapping[str, str],
    *wanted: str,
    n: int,
    repeats: int = 1,
    folder: Path | None = None,
    at_most: bool = False,
) -> list[Prompt]:
    """The first ``n`` questions of the wanted tiers together, interleaved, each ``repeats`` times.

    Repeats follow one another at a distance of ``n`` prompts, so that a slice holds each once. With
    ``at_most`` a data set that holds fewer gives all it has.

    Raises:
        ValueError: an unknown tier, or a data set that holds too few questions.
    """
    if not wanted or n < len(wanted) or repeats < 1:
        raise ValueError(
            "ask for at least one question of each tier, at least once, "
            f"not n={n} of {wanted} with repeats={repeats}"
        )
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"a tier is named twice in {wanted}: its questions would be the same ones")
    shares = []
    for i, tier in enumerate(wanted):
        if tier not in tiers:
            raise ValueError(f"unknown tier {tier!r}; there are {', '.join(tiers)}")
        share = n // len(wanted) + (i < n % len(wanted))
        prompts = load(tiers[tier], folder)
        if len(prompts) < share and not at_most:
            raise ValueError(
                f"{share} questions of {tiers[tier]!r} were asked for, it has {len(prompts)}"
            )
        shares.append(prompts[:share])
    mixed = [prompt for row in zip_longest(*shares) for prompt in row if prompt is not None]
    return [replace(prompt, repeat=k) for k in range(repeats) for prompt in mixed]


def revision(prompts: Sequence[Prompt]) -> str:
    """Twelve hexadecimal digits over the prompts as sent and their key: what pins a data set."""
    digest = hashlib.sha256()
    for p in prompts:
        digest.update("\0".join((p.id, p.text, p.answer, p.kind, str(p.repeat))).encode() + b"\1")
    return digest.hexdigest()[:12]


def _bundled(tier: str, _folder: Path | None) -> Iterator[Prompt]:
    for problem in problems.heldout(tier, problems.HELDOUT_SIZE):
        # Sums are drawn independently, whatever their wording; questions on one fact are not.
        template = problem.template if tier == "knowledge" else problem.id
        yield Prompt(
            id=problem.id,
            text=problem.question,
            answer=problem.answer,
            tier=tier,
            kind="word" if tier == "knowledge" else "math",
            template=template,
        )


for _tier in ("easy", "medium", "hard", "knowledge"):
    dataset(f"bundled-{_tier}")(partial(_bundled, _tier))


def _rows(name: str, folder: Path | None, *path: str, split: str) -> Iterator[dict[str, Any]]:
    """Rows of a data set: ``folder/name.jsonl`` when there is one, else from the hub or its cache.

    Raises:
        ValueError: neither can be read, with what to do.
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
            "the original, in a folder and give that with --rllm-data"
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
