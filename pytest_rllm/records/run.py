"""One request (Sample), one run of requests with the series beside it (Run), and their record.

A record is a JSONL file that is written while the run goes on: a header, a line per sample and per
point of a series, and a closing line. Everything that judges reads records and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..datasets.prompts import Prompt
from .deltas import Deltas
from .header import Header

_OPEN, _CLOSE = "<think>", "</think>"


ServerId = tuple[str, int | None]


class RecordError(ValueError):
    """A record cannot be read; the message says where and what to do."""


@dataclass
class Sample:
    """One request and all that came back. Times are seconds from the start of the run.

    Attributes:
        prompt: what was asked, with its key.
        intended_s: when the workload wanted it sent; latency counts from here.
        sent_s: when it was sent. The difference is the client's lateness.
        ended_s: when the response ended, or failed.
        deltas: streamed deltas in their order of arrival; a list of them is made one.
        usage: the engine's own count at the end (``completion_tokens`` ...).
        finish_reason: ``stop``, ``length``, or None.
        error: why it failed, None when it did not. What had arrived is in ``deltas``.
    """

    prompt: Prompt
    intended_s: float
    sent_s: float
    ended_s: float
    deltas: Deltas
    usage: dict[str, Any] = field(default_factory=dict)
    finish_reason: str | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.deltas, Deltas):
            self.deltas = Deltas(self.deltas)

    @cached_property
    def _answer_from(self) -> int:
        """Index in the concatenated ``content`` where inline reasoning ends; 0 without any."""
        content = self.deltas.text("content")
        close = content.find(_CLOSE)
        if close >= 0:
            return close + len(_CLOSE)
        return len(content) if content.lstrip().startswith(_OPEN) else 0

    @cached_property
    def answer(self) -> str:
        """The visible answer: ``content`` after any inline ``<think> ... </think>``."""
        return self.deltas.text("content")[self._answer_from :]

    @property
    def reasoned(self) -> bool:
        """Whether any reasoning arrived, in a field of its own or inline."""
        own = any(field.startswith("reasoning") for field in self.deltas.fields)
        return own or self._answer_from > 0

    @cached_property
    def first_token_s(self) -> float | None:
        """Arrival of the first token of any kind; an event with a role alone is none."""
        said = (self.deltas.tokens != 0) | (self.deltas.sizes > 0)
        return float(self.deltas.at_s[said.argmax()]) if said.any() else None

    @cached_property
    def first_visible_s(self) -> float | None:
        """Arrival of the first token of the visible answer that is more than white space."""
        return None if self._first_visible is None else float(self.deltas.at_s[self._first_visible])

    @property
    def output_tokens(self) -> int | None:
        """Tokens generated, by the engine's count; None when it did not say."""
        if isinstance(self.usage.get("completion_tokens"), int):
            return int(self.usage["completion_tokens"])
        return int(self.deltas.tokens.sum()) if self.deltas.counted else None

    @property
    def pace(self) -> float:
        """Deltas per second, from the first to the last; 0 when fewer than two times are known."""
        times = self.deltas.at_s
        if times.size < 2 or times[-1] == times[0]:
            return 0.0
        return float((times.size - 1) / (times[-1] - times[0]))

    @cached_property
    def reasoning_tokens(self) -> int | None:
        """Tokens before the first visible one; all of them when none is visible."""
        if not self.deltas.counted:
            return None
        return int(self.deltas.tokens[: self._first_visible].sum())

    @cached_property
    def _first_visible(self) -> int | None:
        """Index of the first delta that holds more than white space of the answer."""
        shown = self.answer.lstrip()
        if not shown:
            return None
        content = np.flatnonzero(self.deltas.within("content"))
        ends = self.deltas.sizes[content].cumsum()
        return int(content[np.searchsorted(ends, ends[-1] - len(shown), side="right")])


@dataclass
class Run:
    """A block of requests to one server, with the series that were sampled beside it.

    Attributes:
        header: what the run was: arm, serving, workload, engine, machine ...
        samples: one per request, in the order in which they ended.
        series: per name (``kv_use``, ``running`` ...) times in s and values, same length.
        closing: what was known at the end (lag of the client, telemetry errors); None when the
            record was cut short.
    """

    header: Header = field(default_factory=Header)
    samples: list[Sample] = field(default_factory=list)
    series: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    closing: dict[str, Any] | None = None
    computed: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Values of metrics that were worked out already, see ``metrics.base``."""

    def add_point(self, at_s: float, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            times, points = self.series.setdefault(name, ([], []))
            times.append(at_s)
            points.append(value)

    @property
    def server(self) -> ServerId:
        """Which server answered: the engine's label and the server's number."""
        return self.header.engine, self.header.server

    @property
    def duration_s(self) -> float:
        """From the first intended start to the end of the last response, in seconds."""
        if not self.samples:
            return 0.0
        return max(s.ended_s for s in self.samples) - min(s.intended_s for s in self.samples)
