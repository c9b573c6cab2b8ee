"""The models that a session's cases need and that are no folders here: looked up for all cases
before anything starts, and downloaded before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..checkpoints.hub import Hub, NoAnswer, NotToBeHad, is_id
from ..checkpoints.shape import GIB
from ..engines.base import Endpoint
from ..engines.server import served_as
from ..experiment.serving import Serving
from ..models import ModelPair
from .live import Say


class Models(Protocol):
    """Where models come from; see :class:`~pytest_rllm.checkpoints.hub.Hub`."""

    @property
    def cache(self) -> Path: ...
    def free_bytes(self) -> int: ...
    def holds(self, model: str) -> bool: ...
    def missing_bytes(self, model: str) -> int: ...
    def fetch(self, model: str, fetched: FetchedBytes) -> None: ...


class FetchedBytes(Protocol):
    def __call__(self, count: float, /) -> None: ...


def models_of(engine: Endpoint, pair: ModelPair, serving: Serving) -> list[str]:
    """Ids of the models that an engine's server of a pair loads and that are no folders here; none
    of a server that runs already."""
    if engine.url is not None or engine.capabilities.is_mock:
        return []
    role = "plain" if served_as(serving, pair).model == "plain" else "reasoning"
    checkpoint = pair.quantized.get(serving.quantization or "", {}).get(role)
    named = [checkpoint or getattr(pair, role)]
    if serving.speculative in ("draft", "eagle"):
        named.append(getattr(pair, serving.speculative))
    return [model for model in named if model and is_id(model)]


@dataclass
class Needs:
    """What cases need, and what was found of it.

    Attributes:
        hub: where models come from.
        wanted: per model id, titles of the cases that need it.
        missing: per model id that is to be downloaded, its size in bytes.
        why_not: per model id that cannot be had, why.
        no_data: per data set that cannot be had, why.
        left_out: per title of a case that will not be measured in whole, why.
    """

    hub: Models = field(default_factory=lambda: Hub())
    wanted: dict[str, dict[str, None]] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    why_not: dict[str, str] = field(default_factory=dict)
    no_data: dict[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    _here: set[str] = field(default_factory=set)

    def lacking(self, models: Iterable[str]) -> str | None:
        """Why one of these models cannot be had; None where none is known not to be."""
        return next((self.why_not[model] for model in models if model in self.why_not), None)

    def note(self, case: str, models: Iterable[str]) -> None:
        """Note that a case needs these models."""
        for model in models:
            self.wanted.setdefault(model, {})[case] = None

    def look_up(self) -> bool:
        """Find out which of the wanted models are here, and which can be downloaded.

        Returns:
            Whether the hub had to be asked: what it told may leave cases out, or let them in.
        """
        known = self._here | self.missing.keys() | self.why_not.keys()
        unknown = [model for model in self.wanted if model not in known]
        self._here |= {model for model in unknown if self.hub.holds(model)}
        to_ask = [model for model in unknown if model not in self._here]
        silent: NoAnswer | None = None
        for model in to_ask:
            try:
                if silent is not None:  # it would take its time to be silent again
                    raise NoAnswer(model, silent.why)
                self.missing[model] = self.hub.missing_bytes(model)
            except NotToBeHad as error:
                self.why_not[model] = str(error)
                silent = error if isinstance(error, NoAnswer) else None
        return bool(to_ask)

    def fit(self) -> bool:
        """Leave out what the disk has no room for, in the order in which cases want it.

        Returns:
            Whether something was left out.
        """
        free, before = self.hub.free_bytes(), len(self.why_not)
        for model, size in self._to_fetch():
            if size <= free:
                free -= size
            else:
                self.why_not[model] = (
                    f"{model} takes {_gib(size)} GiB of disk, and {_gib(free)} are left in "
                    f"{self.hub.cache}: make room, or set HF_HOME to a folder on a larger disk"
                )
        return len(self.why_not) > before

    def fetch(self, say: Say) -> None:
        """Download what is missing and can be had.

        Args:
            say: told how far it is.
        """
        to_fetch = list(self._to_fetch())
        for number, (model, size) in enumerate(to_fetch, 1):
            text = f"download {number} of {len(to_fetch)}: {model}"

            def fetched(count: float, text: str = text, size: int = size) -> None:
                done = min(1.0, count / size) if size else None
                say(f"{text}, {_gib(min(count, size))} of {_gib(size)} GiB", done)

            fetched(0)
            try:
                self.hub.fetch(model, fetched)
                del self.missing[model]
                self._here.add(model)
            except NotToBeHad as error:
                self.why_not[model] = str(error)

    def _to_fetch(self) -> Iterator[tuple[str, int]]:
        for model in self.wanted:
            if model in self.missing and model not in self.why_not:
                yield model, self.missing[model]

    def lines(self) -> list[str]:
        """What has to be downloaded, as sentences; none where nothing has to be."""
        to_fetch = list(self._to_fetch())
        if not to_fetch:
            return []
        size = sum(size for _, size in to_fetch)
        free = f"{_gib(self.hub.free_bytes())} GiB are free in {self.hub.cache}"
        models = "1 model" if len(to_fetch) == 1 else f"{len(to_fetch)} models"
        return [
            f"downloads before anything is measured: {models}, {_gib(size)} GiB; {free}",
            *(
                f"to be downloaded: {model}, {_gib(size)} GiB, {_cases(len(self.wanted[model]))}"
                for model, size in to_fetch
            ),
        ]

    def whole_lines(self) -> list[str]:
        """The same, with the cases that will not be measured and why."""
        return [*self.lines(), *not_measured(self.left_out)]


def not_measured(reasons: Mapping[str, str]) -> Iterator[str]:
    """Sentences on cases that are left out, one per reason.

    Args:
        reasons: by title of a case.
    """
    for why in dict.fromkeys(reasons.values()):
        titles = [title for title, reason in reasons.items() if reason == why]
        yield f"not measured: {titles[0] if len(titles) == 1 else _cases(len(titles))}: {why}"


def _cases(count: int) -> str:
    return "1 case" if count == 1 else f"{count} cases"


def _gib(size: float) -> str:
    return f"{size / GIB:.1f}"
