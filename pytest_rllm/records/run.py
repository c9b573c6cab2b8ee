"""One request and its response (Sample), and one run of requests with its series (Run).

The record of a run is a JSONL file: a header, a line per sample and per point of a series, and a
closing line. Metrics and verdicts are computed from records alone, so a replay gives the same ones.
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
from .texts import CALLS, KNOWN, is_reasoning

_OPEN, _CLOSE = "<think>", "</think>"
MOST_PER_CHARACTER = 4
"""Tokens that one character can take: one per byte. A delta with more holds what is not shown."""


ServerId = tuple[str, int | None]


class RecordError(ValueError):
    """A record cannot be read or written; the message says where, and what to do."""


@dataclass
class Sample:
    """One request and its response. Times are seconds from the start of the run.

    Attributes:
        prompt: the question, with its answer key.
        intended_s: when the workload schedules the request; latencies count from here.
        sent_s: when the request was sent; ``sent_s - intended_s`` is the client's lateness.
        ended_s: when the response ended or failed.
        deltas: streamed deltas in the order of arrival; a list of Delta is converted.
        usage: the engine's token counts at the end (``completion_tokens`` ...).
        finish_reason: ``stop``, ``length``, ``tool_calls`` where tools were offered, or None; with
            any other one the request has failed.
        error: why the request failed; None if it did not. ``deltas`` holds what had arrived.
        contradiction: how the response contradicts itself, see :mod:`.contradictions`; None where
            nothing was seen when it was parsed.
        remarks: what else is odd about it and makes it no failure, in sentences.
        opened: whether the chat template ends a prompt with the opening tag of reasoning, so that
            an answer without a field for reasoning begins inside of it.
    """

    prompt: Prompt
    intended_s: float
    sent_s: float
    ended_s: float
    deltas: Deltas
    usage: dict[str, Any] = field(default_factory=dict)
    finish_reason: str | None = None
    error: str | None = None
    contradiction: str | None = None
    remarks: list[str] = field(default_factory=list)
    opened: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.deltas, Deltas):
            self.deltas = Deltas(self.deltas)

    @cached_property
    def _answer_from(self) -> int:
        """Index in the joined ``content`` at which inline reasoning ends; 0 if there is none.

        Where reasoning has its own field, none is inline: an answer may speak of the tags.
        """
        if self._has_field:
            return 0
        content = self.deltas.text("content")
        close = content.find(_CLOSE)
        if close >= 0:
            return close + len(_CLOSE)
        return len(content) if self.opened or content.lstrip().startswith(_OPEN) else 0

    @property
    def _has_field(self) -> bool:
        return any(is_reasoning(field) for field in self.deltas.fields)

    @cached_property
    def answer(self) -> str:
        """The visible answer: ``content`` without inline ``<think> ... </think>``."""
        return self.deltas.text("content")[self._answer_from :]

    @property
    def reasoned(self) -> bool:
        """Whether reasoning arrived, in a field of its own or inline."""
        return self._has_field or self._answer_from > 0

    @property
    def unknown_fields(self) -> tuple[str, ...]:
        """Fields with text that is neither known to be reasoning nor to be the answer."""
        return tuple(field for field in self.deltas.fields if field not in KNOWN)

    @cached_property
    def first_token_s(self) -> float | None:
        """Arrival of the first token of any kind; an event with only a role has no token."""
        carrying = (self.deltas.tokens != 0) | (self.deltas.sizes > 0)
        return float(self.deltas.at_s[carrying.argmax()]) if carrying.any() else None

    @cached_property
    def first_visible_s(self) -> float | None:
        """Arrival of the first visible token, not counting white space; None if there is none."""
        return None if self._first_visible is None else float(self.deltas.at_s[self._first_visible])

    @property
    def output_tokens(self) -> int | None:
        """Number of generated tokens as counted by the engine; None if it reports none."""
        if isinstance(self.usage.get("completion_tokens"), int):
            return int(self.usage["completion_tokens"])
        return int(self.deltas.tokens.sum()) if self.deltas.counted else None

    @cached_property
    def reasoning_tokens(self) -> int | None:
        """Number of tokens before the first visible one or the first call of a tool; all of a
        reasoning without any.

        Where the deltas do not tell it exactly, it is the engine's own number, and None where that
        is not told or cannot be right: nothing is divided by guess.
        """
        counted = self._reasoning_counted
        return self.reasoning_told if counted is None else counted

    @property
    def visible_tokens(self) -> int | None:
        """Number of tokens that are neither reasoning nor calls of tools; None where unknown."""
        total, reasoning = self.output_tokens, self.reasoning_tokens
        calls = self.deltas.tokens[self.deltas.within(CALLS)]
        if total is None or reasoning is None or (calls < 0).any():
            return None
        return max(0, total - reasoning - int(calls.sum()))

    @property
    def _reasoning_counted(self) -> int | None:
        """By the deltas; None where a delta has tokens of both kinds, or reasoning is hidden."""
        deltas, calls = self.deltas, self.deltas.within(CALLS)
        if not deltas.counted or self.unknown_fields:
            return None
        starts = [self._first_visible, int(calls.argmax()) if calls.any() else None]
        first = min((start for start in starts if start is not None), default=None)
        before = int(deltas.tokens[:first].sum())
        if not self.reasoned:
            without_text = deltas.within("")[:first] & (deltas.tokens[:first] > 0)
            if self.reasoning_told or without_text.any() or (first is None and before):
                return None  # what did not show may have been reasoning
        if first is None:
            return before
        at = int(deltas.tokens[first])
        if at == 0 and first and deltas.at_s[first - 1] == deltas.at_s[first]:
            return None  # one event with tokens of both
        if calls[first]:
            return before
        begun = int(deltas.sizes[:first][deltas.within("content")[:first]].sum())
        shown = len(deltas.text("content")) - len(self.answer.lstrip())
        if at > 1 and deltas.text("content")[begun:shown].strip():
            return None  # the end of the reasoning and the begin of the answer
        if at > MOST_PER_CHARACTER * int(deltas.sizes[first]) + 2 and not self.reasoned:
            return None  # more than its text can hold
        return before

    @property
    def reasoning_told(self) -> int | None:
        """As the engine tells it; None where that cannot be right, such as 0 beside reasoning."""
        details = self.usage.get("completion_tokens_details")
        within = details if isinstance(details, dict) else {}
        told = within.get("reasoning_tokens", self.usage.get("reasoning_tokens"))
        total = self.output_tokens
        if not isinstance(told, int) or isinstance(told, bool) or told < 0:
            return None
        if (told == 0 and self.reasoned) or (total is not None and told > total):
            return None
        return None if told and told == total and self._first_visible is not None else told

    @cached_property
    def _first_visible(self) -> int | None:
        """Index of the first delta with visible text of the answer, not counting white space."""
        shown = self.answer.lstrip()
        if not shown:
            return None
        content = np.flatnonzero(self.deltas.within("content"))
        ends = self.deltas.sizes[content].cumsum()
        return int(content[np.searchsorted(ends, ends[-1] - len(shown), side="right")])


@dataclass
class Run:
    """A block of requests to one server, with the series that were sampled meanwhile.

    Attributes:
        header: what the run was: arm, serving, workload, engine, machine ...
        samples: one per request, in the order in which they ended.
        series: times in s and values (equal lengths) by name (``kv_use``, ``running`` ...).
        closing: the closing line (lag of the client, telemetry errors ...); None if the record was
            cut short.
    """

    header: Header = field(default_factory=Header)
    samples: list[Sample] = field(default_factory=list)
    series: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    closing: dict[str, Any] | None = None
    computed: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Values of metrics that were worked out already, see ``metrics.base``."""

    def add_point(self, at_s: float, values: Mapping[str, float]) -> None:
        """Append one reading to the series."""
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
        """From the first intended start to the end of the last response, in seconds; of a run that
        took turns with another one, of its own turns together."""
        if not self.samples:
            return 0.0
        if self.closing and "turns" in self.closing:
            return float(sum(end - begin for begin, end in self.closing["turns"]))
        return max(s.ended_s for s in self.samples) - min(s.intended_s for s in self.samples)
