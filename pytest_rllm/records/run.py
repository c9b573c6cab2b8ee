"""One request (Sample), one run of requests with the series beside it (Run), and their record.

A record is a JSONL file that is written while the run goes on: a header, a line per sample and per
point of a series, and a closing line. Everything that judges reads records and nothing else.
"""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from ..datasets.prompts import Prompt
from . import spool
from .deltas import Deltas
from .sse import Stream, parse

SCHEMA = 1
_OPEN, _CLOSE = "<think>", "</think>"


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
        about: the header of the record: finding, arm, serving, workload, environment ...
        samples: one per request, in the order in which they ended.
        series: per name (``kv_use``, ``running`` ...) times in s and values, same length.
        closing: what was known at the end (lag of the client, telemetry errors); None when the
            record was cut short.
    """

    about: dict[str, Any]
    samples: list[Sample] = field(default_factory=list)
    series: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    closing: dict[str, Any] | None = None

    def add_point(self, at_s: float, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            times, points = self.series.setdefault(name, ([], []))
            times.append(at_s)
            points.append(value)

    @property
    def server(self) -> tuple[Any, ...]:
        """Which server answered: its build and its number there."""
        return self.about.get("build"), self.about.get("server")

    @property
    def duration_s(self) -> float:
        """From the first intended start to the end of the last response, in seconds."""
        if not self.samples:
            return 0.0
        return max(s.ended_s for s in self.samples) - min(s.intended_s for s in self.samples)


class RunWriter:
    """Writes the record of a Run; a context manager.

    Nothing is kept in memory. The closing line is written by :meth:`close` only.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._samples = 0
        # surrogatepass: an engine may split a character over two deltas, half a pair in each.
        self._file = open(  # noqa: SIM115 - closed in __exit__
            path, "w", encoding="utf-8", errors="surrogatepass"
        )
        self._line({"kind": "run", "schema": SCHEMA, **about})

    def sample(self, sample: Sample) -> None:
        """Keep one finished (or failed) request."""
        self._samples += 1
        self._line({"kind": "sample", **_to_json(sample)})

    def point(self, at_s: float, values: Mapping[str, float]) -> None:
        """Keep one reading of series, ``at_s`` seconds from the start of the run."""
        self._line({"kind": "point", "at_s": round(at_s, 6), "values": dict(values)})

    def close(self, closing: Mapping[str, Any]) -> Run:
        """Write the closing line; returns the run as it reads in the record, so that a replay
        judges the very same numbers."""
        self._line({"kind": "end", "samples": self._samples, **closing})
        return read_run(self.path)

    def _line(self, content: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")
            self._file.flush()
        except OSError as error:
            raise RecordError(
                f"{self.path}: cannot be written ({error.strerror}); what was measured is in the "
                "spool beside it: free space, or record elsewhere (--rllm-record=DIR)"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


def read_run(path: Path) -> Run:
    """Read a record, or what ``xz`` made of it (``.jsonl.xz``); a record that was cut short is read
    as far as it goes and has no ``closing``. Where a process died while it measured, the samples
    are those of the spools that it left.

    Raises:
        RecordError: no record, a newer schema, or a broken line that is not the last.
    """
    try:
        with _opened(path) as lines:
            return _read(path, lines)
    except (lzma.LZMAError, EOFError) as error:
        raise RecordError(f"{packed(path)}: broken ({error}); record it anew") from error
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); was it recorded?") from error


def _read(path: Path, lines: Iterable[bytes]) -> Run:
    run: Run | None = None
    for number, line in enumerate(lines, 1):
        try:
            content = json.loads(line)
            kind = content.pop("kind")
            if run is None:
                if kind != "run":
                    raise RecordError(f"{path}: the first line is no header of a run")
                schema = content.pop("schema")
                if schema > SCHEMA:
                    raise RecordError(
                        f"{path}: recorded with schema {schema}, this version reads up to "
                        f"{SCHEMA}; update pytest-rllm"
                    )
                run = Run(content)
            elif kind == "sample":
                run.samples.append(_from_json(content))
            elif kind == "point":
                run.add_point(content["at_s"], content["values"])
            elif kind == "end":
                content.pop("samples")
                run.closing = content
            else:
                raise KeyError(f"unknown kind {kind!r}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, RecordError):
                raise
            if not line.endswith(b"\n") and run is not None:
                break  # The process died while it wrote this line, which is the last.
            raise RecordError(f"{path}:{number}: broken line ({error}); record it anew") from error
    if run is None:
        raise RecordError(f"{path}: empty; record it anew")
    if run.closing is None and (left := spool.left(path)):
        run.samples = [s for s, note, _ in understood(left) if note["cut"] is None]
    return run


def understood(spools: Sequence[spool.Spooled]) -> Iterator[tuple[Sample, dict[str, Any], Stream]]:
    """What the client processes of one run spooled: each ended request as a sample, with the note
    of its end and all that its response said, in the order in which they ended."""
    ends = [(note["ended_s"], i, n) for i, s in enumerate(spools) for n, note in enumerate(s.ends)]
    for _, i, n in sorted(ends):
        note, start = spools[i].ends[n], spools[i].start or 0.0
        # The body of a refusal is told by its error.
        chunks = [] if note["refused"] else spools[i].chunks(note["number"])
        stream = parse([(at - start, data) for at, data in chunks], note["error"])
        yield _sample(note, stream), note, stream


def _sample(note: Mapping[str, Any], stream: Stream) -> Sample:
    return Sample(
        prompt=Prompt(*note["prompt"]),
        intended_s=note["intended_s"],
        sent_s=note["sent_s"],
        ended_s=note["ended_s"],
        deltas=stream.deltas,
        usage=stream.usage,
        finish_reason=stream.finish_reason,
        error=stream.error,
    )


def packed(path: Path) -> Path:
    """Where ``xz`` puts a record: a fifth of its size, to be kept in a repository."""
    return path.with_name(path.name + ".xz")


def recorded(path: Path) -> bool:
    """Whether there is a record, packed or not."""
    return path.is_file() or packed(path).is_file()


def _opened(path: Path) -> IO[bytes]:
    """Bytes: text has more ends of line than \\n, and may be cut short inside a character."""
    if not path.is_file() and packed(path).is_file():
        return lzma.open(packed(path))
    return path.open("rb")


def _to_json(sample: Sample) -> dict[str, Any]:
    return {
        "prompt": astuple(sample.prompt),
        "intended_s": round(sample.intended_s, 6),
        "sent_s": round(sample.sent_s, 6),
        "ended_s": round(sample.ended_s, 6),
        "finish_reason": sample.finish_reason,
        "error": sample.error,
        "usage": sample.usage,
        "deltas": [(round(at_s, 6), *said) for at_s, *said in sample.deltas.rows()],
    }


def _from_json(content: dict[str, Any]) -> Sample:
    prompt = Prompt(*content.pop("prompt"))
    deltas = Deltas.of_rows(content.pop("deltas"))
    return Sample(prompt=prompt, deltas=deltas, **content)
