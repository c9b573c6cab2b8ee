"""A run of another tool: what it kept of each request, what it did not, and our record of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from .. import metrics
from ..datasets.prompts import Prompt
from ..records.deltas import Delta, Deltas
from ..records.header import Header, Imported
from ..records.run import Run, Sample
from ..records.writer import RunWriter

CARRIED = (
    metrics.TTFT,
    metrics.TTFVT,
    metrics.TBT,
    metrics.E2E,
    metrics.TPS,
    metrics.RUN_TIME,
    metrics.DELTAS_PER_S,
    metrics.OUTPUT_TOKENS,
    metrics.REASONING_TOKENS,
    metrics.ACCEPTANCE_RATE,
    metrics.ACCEPTANCE_LENGTH,
    metrics.FAILED,
)
"""Metrics that a tool's file may carry: an importer says for each that is not there why. All
others take an answer key or the engine's telemetry, which none of the tools keeps."""

KNOWN_TO = 0.01
"""What a file bounds to within one per cent is known; what it leaves further open is not kept."""
CLOCKS_S = 1e-3
"""By how much times of one request may contradict each other: some tools read several clocks."""


NO_FINISH = "the tool keeps no finish reasons: an answer that the engine aborted counts as finished"
"""Doubt of every run whose file does not tell how its answers ended."""


class ImportRefused(ValueError):
    """A file cannot become a record; the message says why and what to pass instead."""


@dataclass(frozen=True)
class Foreign:
    """One run of another tool.

    Attributes:
        tool: its name and, where the file tells it, its version.
        name: which run of the file it is, in the tool's words.
        load: who asked when, as the tool was told; runs of another load are not comparable.
        began: when it ran: seconds since 1970, or any other clock that all files of the tool share.
        planned: requests that the tool says it made.
        samples: those that are in the file.
        input_tokens: of all prompts together, None when unknown.
        not_kept: why a metric is not carried, by its name: a clause after "the tool ...".
        doubts: what is carried, but is not as certain as in a run of our own.
        counters: how far the engine's counters went up, where the tool read them.
    """

    tool: str
    name: str
    load: Mapping[str, Any]
    began: float
    planned: int
    samples: Sequence[Sample]
    input_tokens: int | None
    not_kept: Mapping[str, str]
    doubts: Sequence[str] = ()
    counters: Mapping[str, float] = field(default_factory=dict)

    def carries(self) -> list[str]:
        """Names of the metrics that can be had of this run."""
        return [metric.name for metric in CARRIED if metric.name not in self.not_kept]

    def record(self, path: Path, *, arm: str, file: str) -> Run:
        """Write the record and read it back; ``file`` is where it came from."""
        header = Header(
            arm=arm,
            imported=Imported(
                tool=self.tool,
                file=file,
                name=self.name,
                load=dict(self.load),
                began=self.began,
                input_tokens=self.input_tokens,
                carries=tuple(self.carries()),
                not_kept={
                    metric.name: f"{self.tool} {self.not_kept[metric.name]}"
                    for metric in CARRIED
                    if metric.name in self.not_kept
                },
                doubts=tuple(self.doubts),
            ),
        )
        end_s = max((sample.ended_s for sample in self.samples), default=0.0)
        with RunWriter(path, header) as writer:
            if self.counters:
                writer.point(0.0, dict.fromkeys(self.counters, 0.0))
            for sample in sorted(self.samples, key=lambda sample: sample.ended_s):
                writer.sample(sample)
            if self.counters:
                writer.point(end_s, self.counters)
            return writer.close({"planned": self.planned, "wall_s": end_s})


@dataclass(frozen=True)
class Importer:
    """How the files of one tool are read.

    Attributes:
        name: of the tool.
        known: versions whose files were seen.
        wanted: the file to pass, and how the tool is told to write it.
        recognises: whether the JSON objects of a file are this tool's.
        read: the runs in them; ImportRefused for what cannot become a record.
    """

    name: str
    known: str
    wanted: str
    recognises: Callable[[Sequence[dict[str, Any]]], bool]
    read: Callable[[Sequence[dict[str, Any]], Path], list[Foreign]]


def request(
    key: str,
    *,
    intended_s: float,
    sent_s: float,
    ended_s: float,
    deltas: Iterable[Delta] = (),
    output_tokens: int | None = None,
    finish_reason: str | None = None,
    error: str | None = None,
) -> Sample:
    """A request of another tool; its text is not told, so ``key`` is all that names it.

    Raises:
        ImportRefused: times that cannot be, with the request and what is wrong.
    """
    deltas = list(deltas)
    finished = error is None
    times = {"due": intended_s, "start": sent_s, "end": ended_s}
    times |= {f"event {i}": delta.at_s for i, delta in enumerate(deltas, 1)}
    _check_times(key, times, finished=finished)
    if output_tokens is not None and output_tokens < 0:
        raise ImportRefused(f"request {key}: {output_tokens} output tokens")
    return Sample(
        prompt=Prompt(key, "", "", "", "word", key),
        intended_s=intended_s,
        sent_s=sent_s,
        ended_s=ended_s,
        deltas=Deltas(deltas),
        usage={} if output_tokens is None else {"completion_tokens": output_tokens},
        finish_reason=finish_reason,
        error=error,
    )


def _check_times(key: str, times: Mapping[str, float], *, finished: bool) -> None:
    """Raises ImportRefused where a request's times, in the order in which they can be, are none.

    An answer that finished takes time, and so does its first event.
    """
    for name, at in times.items():
        if not math.isfinite(at):
            raise ImportRefused(f"request {key}: the time of its {name} is {at}")
    due, start, end, *events = times.items()
    in_order = [due, start, *events, end]
    for (before, was), (after, now) in pairwise(in_order):
        if now < was - CLOCKS_S:
            raise ImportRefused(
                f"request {key}: its {after} ({now:g} s) lies before its {before} ({was:g} s); "
                "times are from the start of the run"
            )
    for name, at in (end, *events[:1]):
        if finished and at <= start[1]:
            raise ImportRefused(f"request {key}: its {name} came 0 s after its start")


def elapsed(key: object, field: str, value: Any) -> float:
    """A time or a count that a tool kept of a request: not negative, and a number.

    Raises:
        ImportRefused: it is none, by the request and the tool's name of the field.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ImportRefused(f"request {key}: {field} is {value!r}, which cannot be")
    if math.isinf(value):
        raise ImportRefused(f"request {key}: {field} is {value!r}, which cannot be")
    return float(value)


def one_token_each(counts: Sequence[tuple[int, int | None]]) -> bool:
    """Whether events carried one token each, told by (events, tokens) of all finished requests.

    An event carries a token at least, so equal numbers leave no other way. A few tokens may show
    no text (the end of the reasoning, special ones): then it is true to within KNOWN_TO.
    """
    events = sum(events for events, _ in counts)
    tokens = sum(tokens or 0 for _, tokens in counts)
    return all(n is not None for _, n in counts) and abs(events - tokens) <= KNOWN_TO * tokens


def uneven(counts: Sequence[tuple[int, int | None]]) -> str:
    """Why TBT is not known: ``one_token_each`` is not true."""
    events = sum(events for events, _ in counts)
    tokens = sum(tokens or 0 for _, tokens in counts)
    return f"kept {events} events for {tokens} tokens, not how many each carried"


def unnamed(at_s: Iterable[float], *, one_each: bool) -> list[Delta]:
    """Events whose text is not known, and whose tokens are only when they carried one each."""
    return [Delta(at, "", 1 if one_each else None, "") for at in at_s]
