"""Prompts with their answer keys, the table of data sets, and the choice of prompts from them.

A data set is a function that yields prompts: one of this package is decorated with :func:`dataset`,
one of another package is an entry point of the group ``pytest_rllm.datasets``. A file of one's own
is a :class:`~pytest_rllm.local_data.LocalData`, and needs no function.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from ..local_data import LocalData
from ..registry import Registry


class Turn(NamedTuple):
    """An earlier exchange, as it is sent before a question.

    Attributes:
        question: the complete user message.
        answer: the visible reply; reasoning is not sent back, as chat templates drop it.
    """

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question as it is sent, with the key that its answers are graded by.

    Attributes:
        id: unique within its data set, and the same in all versions of it.
        text: the complete user message.
        answer: the answer key.
        tier: one of ``pytest_rllm.models.TIERS``.
        kind: ``math`` (graded as mathematics), ``word`` (graded as text) or ``code`` (a program,
            run against the tests in its key).
        template: questions with the same one are not independent: they are one cluster.
        repeat: 0 for the first request of a question in a run, then 1, 2 ...
        before: what is sent before the question, earliest first.
        conversation: those with the same one, unless empty, are asked one after the other.
    """

    id: str
    text: str
    answer: str
    tier: str
    kind: Literal["math", "word", "code"]
    template: str
    repeat: int = 0
    before: tuple[Turn, ...] = ()
    conversation: str = ""

    @property
    def unit(self) -> str:
        """Equal for prompts that stay together: those of a conversation."""
        return self.conversation or self.id

    @property
    def messages(self) -> list[dict[str, str]]:
        """All that is sent, as OpenAI's API has it: the earlier turns, and the question."""
        said = [("user", "assistant")[i % 2] for i in range(2 * len(self.before) + 1)]
        texts = [text for turn in self.before for text in turn]
        return [
            {"role": role, "content": text}
            for role, text in zip(said, [*texts, self.text], strict=True)
        ]

    def to_row(self) -> list[Any]:
        """The fields in order, for a record; without those of earlier turns where it has none."""
        row = [getattr(self, field.name) for field in fields(self)]
        return row if self.before or self.conversation else row[:-2]

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Self:
        """The prompt that :meth:`to_row` told, once it went through JSON, or an older version's."""
        told: dict[str, Any] = {f.name: one for f, one in zip(fields(cls), row, strict=False)}
        told["before"] = tuple(Turn(*turn) for turn in told.get("before", ()))
        return cls(**told)


class Prompts(list[Prompt]):
    """Prompts that were chosen.

    Attributes:
        times: how many times as many questions as the test asked for.
    """

    times: int = 1


Loader = Callable[[Path | None], Iterable[Prompt]]
"""Takes the folder of ``--rllm-data``, or None, and yields the prompts of a data set in order."""
_LOADERS: dict[str, Loader] = {}
_REVISIONS: dict[tuple[str, Path | None], str] = {}
"""Of the data sets that were loaded, by name and folder of ``--rllm-data``."""
_OTHERS = Registry("pytest_rllm.datasets", "data set", {})
"""Data sets of other packages: an entry point is a :data:`Loader`."""


def dataset(name: str) -> Callable[[Loader], Loader]:
    """Register a loader as the data set ``name`` of this package.

    Raises:
        ValueError: a data set of that name is registered already.
    """

    def register(loader: Loader) -> Loader:
        if name in _LOADERS:
            raise ValueError(f"two data sets are called {name!r}: rename one")
        _LOADERS[name] = loader
        return loader

    return register


def load(name: str | LocalData, folder: Path | None = None) -> tuple[Prompt, ...]:
    """All prompts of a data set.

    Args:
        name: of a registered data set; or a file, and what its columns mean.
        folder: of ``--rllm-data``; says nothing about such a file.

    Raises:
        ValueError: there is no such data set (the message lists the names), its loader cannot be
            imported or yields something else than prompts, two prompts have the same id, or a file
            cannot be used.
    """
    return _load(name, folder)


@cache
def _load(name: str | LocalData, folder: Path | None) -> tuple[Prompt, ...]:
    if isinstance(name, LocalData):
        from .local import prompts_of

        return tuple(prompts_of(name))
    prompts = tuple(_loader(name)(folder))
    for prompt in prompts:
        if not isinstance(prompt, Prompt):
            raise ValueError(f"data set {name!r} yields {type(prompt).__name__}, not Prompt")
    if len({prompt.id for prompt in prompts}) != len(prompts):
        raise ValueError(f"data set {name!r} holds one id twice: ids of prompts must be unique")
    return prompts


def datasets_known() -> tuple[str, ...]:
    """Names of all registered data sets, other packages' included, sorted."""
    return tuple(sorted({*_LOADERS, *_OTHERS.names()}))


def _loader(name: str) -> Loader:
    if name in _LOADERS and name in _OTHERS:
        raise ValueError(
            f"the data set {name!r} is given by pytest-rllm and by another package: rename it in "
            "that package's entry points"
        )
    if name in _LOADERS:
        return _LOADERS[name]
    if name not in _OTHERS:
        raise ValueError(f"unknown data set {name!r}; there are {', '.join(datasets_known())}")
    loader: Loader = _OTHERS.load(name)
    return loader


class DataMissing(ValueError):
    """A published data set is neither here nor to be had.

    Attributes:
        data: its name.
    """

    def __init__(self, message: str, data: str) -> None:
        super().__init__(message)
        self.data = data


class TooFewQuestions(ValueError):
    """A data set has fewer questions than were asked for."""


def choose(
    tiers: Mapping[str, str | LocalData],
    *wanted: str,
    n: int,
    repeats: int = 1,
    folder: Path | None = None,
    at_most: bool = False,
    fill: bool = False,
    times: int = 1,
    shots: int = 0,
    turns: int = 1,
) -> Prompts:
    """Choose the first ``n`` questions of several tiers, interleaved, each ``repeats`` times.

    The questions of every tier are spread evenly over all of them, however many it has, so that
    any run of neighbours holds its part of each. All questions come once before the next repeat
    begins.

    Args:
        tiers: data sets by tier, registered names or files.
        wanted: the tiers to choose from, in equal shares.
        n: number of different questions, over all tiers.
        repeats: number of prompts per question.
        folder: of ``--rllm-data``.
        at_most: take all questions of a data set that has too few, instead of an error.
        fill: the same, and ask these questions as often more as makes up for it, so that as many
            requests are sent as were asked for, or fewer by a part of the data set.
        times: choose so many times ``n`` questions, or as many times as every tier has them.
        shots: number of other questions of these tiers, in equal shares, that are sent with their
            answers before each question: the same ones before all of them.
        turns: number of questions of a conversation: before each stand the earlier ones of its
            conversation with their right answers. The last conversation may be shorter.

    Raises:
        TooFewQuestions: a data set has too few.
        ValueError: an unknown tier, or a choice of nothing.
    """
    if not wanted or n < len(wanted) or min(repeats, turns) < 1 or shots < 0:
        raise ValueError(
            "ask for at least one question of each tier, at least once, "
            f"not n={n} of {wanted} with repeats={repeats}, shots={shots} and turns={turns}"
        )
    if fill and turns > 1:
        raise ValueError("conversations cannot be filled up: leave out fill or turns")
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"a tier is named twice in {wanted}: its questions would be asked twice")
    shares, more = [], []
    at_most = at_most or fill
    for i, tier in enumerate(wanted):
        if tier not in tiers:
            raise ValueError(f"unknown tier {tier!r}; there are {', '.join(tiers)}")
        share, kept = (k // len(wanted) + (i < k % len(wanted)) for k in (n, shots))
        prompts = load(tiers[tier], folder)
        if len(prompts) < (kept + 1 if at_most else share + kept):
            beside = f", and {kept} others as examples," if kept else ""
            raise TooFewQuestions(
                f"{share} questions of {str(tiers[tier])!r}{beside} were asked for, it has "
                f"{len(prompts)}: ask for fewer, or pass at_most=True"
            )
        shares.append((prompts, share, kept))
        more.append((len(prompts) - kept) // share)
    times = max(1, min(times, *more))
    asked, examples = [], []
    for prompts, share, kept in shares:
        asked.append(prompts[: min(times * share, len(prompts) - kept)])
        examples.append(_examples(prompts, asked[-1], kept))
    before = tuple(Turn(each.text, worked_answer(each)) for each in interleaved(examples))
    mixed = [replace(prompt, before=before) for prompt in interleaved(asked)]
    if turns > 1:
        mixed = [
            p for i in range(0, len(mixed), turns) for p in _conversation(mixed[i : i + turns])
        ]
    rounds = {prompt.id: repeats for prompt in mixed}
    if fill:
        for (_, share, _), part in zip(shares, asked, strict=True):
            again = repeats * max(1, times * share // len(part))
            rounds |= {prompt.id: again for prompt in part}
    found = Prompts(
        replace(prompt, repeat=k)
        for k in range(max(rounds.values()))
        for prompt in mixed
        if k < rounds[prompt.id]
    )
    found.times = times
    return found


def worked_answer(prompt: Prompt) -> str:
    """The right answer as a visible reply that would be graded as right."""
    return f"The answer is \\boxed{{{prompt.answer}}}."


def _examples(prompts: Sequence[Prompt], asked: Sequence[Prompt], n: int) -> list[Prompt]:
    """The first ``n`` of a shuffled data set that are not asked: the same at every call."""
    ids = {prompt.id for prompt in asked}
    shuffled = random.Random("examples").sample(prompts, len(prompts))  # noqa: S311 - an order
    return [prompt for prompt in shuffled if prompt.id not in ids][:n]


def _conversation(prompts: Sequence[Prompt]) -> Iterator[Prompt]:
    """The prompts, each after the earlier ones and their right answers. They are one cluster."""
    first, history = prompts[0], prompts[0].before
    for prompt in prompts:
        yield replace(
            prompt, before=history, conversation=first.id, template=f"conversation {first.id}"
        )
        history = (*history, Turn(prompt.text, worked_answer(prompt)))


def interleaved(tiers: Sequence[Sequence[Prompt]]) -> list[Prompt]:
    """The prompts of several tiers in one list, each tier spread evenly over it.

    The k-th of a tier's n prompts stands where (k + 1/2) / n of the list are behind it. Tiers of
    equal size take turns.
    """
    placed = [
        ((2 * k + 1) / (2 * len(tier)), i, prompt)
        for i, tier in enumerate(tiers)
        for k, prompt in enumerate(tier)
    ]
    return [prompt for _, _, prompt in sorted(placed, key=lambda one: one[:2])]


def note_revision(name: str, folder: Path | None, revision: str | None) -> None:
    """For a loader: which revision of its data set it read; None where that is not known."""
    if revision is not None:
        _REVISIONS[name, folder] = revision


def data_revisions(names: Iterable[str | LocalData], folder: Path | None) -> dict[str, str]:
    """Per data set its revision: the hub's commit, or ``sha256:`` and the hash of a local file.

    Those that were not loaded, and those that have none because they are generated, are left out.
    """
    found = {
        str(name): file_revision(name.path)
        if isinstance(name, LocalData)
        else _REVISIONS.get((name, folder))
        for name in names
    }
    return {name: revision for name, revision in found.items() if revision}


@cache
def file_revision(path: Path) -> str:
    """``sha256:`` and the hash of a file, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def revision(prompts: Sequence[Prompt]) -> str:
    """A hash of the prompts as sent and their keys (12 hexadecimal digits) that pins a data set."""
    digest = hashlib.sha256()
    for p in prompts:
        before = (text for turn in p.before for text in turn)
        said = (p.id, p.text, p.answer, p.kind, str(p.repeat), *before)
        said += (p.conversation,) if p.conversation else ()
        digest.update("\0".join(said).encode() + b"\1")
    return digest.hexdigest()[:12]
