"""What a client writes while it measures: bytes with their times, to be understood afterwards.

A spool lies beside the record that it becomes (``run.jsonl.spool-0``), one per process, and is
removed when that record is whole. A process that dies leaves it, and ``samples.read_run`` reads it.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

Chunk = tuple[float, bytes]

_FRAME = struct.Struct("<cI")
_READS = struct.Struct("<II")
_TIME = struct.Struct("<d")
READS, PAGE, NOTE = b"R", b"P", b"N"
"""Frames: reads of a response, a page of telemetry, anything else as JSON."""


class ClientError(RuntimeError):
    """The client cannot do its part; the message says why, and what to do."""


class SpoolError(ClientError):
    """A spool cannot be written, most often because the disk is full."""


class Spool:
    """Writes one spool, each call in one piece; a context manager.

    Once a write has failed every further one is refused, too: :meth:`check` raises the reason.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._error: OSError | None = None
        # Unbuffered: what was said is on the disk's side when the call returns.
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - closed in __exit__

    def reads(self, number: int, times: Sequence[float], datas: Sequence[bytes]) -> None:
        """Reads of the response to request ``number``, in the order of arrival."""
        self._write(
            READS,
            _READS.pack(number, len(times)),
            array("d", times).tobytes(),
            array("I", map(len, datas)).tobytes(),
            *datas,
        )

    def page(self, at: float, page: bytes) -> None:
        """A page of telemetry, as it was got."""
        self._write(PAGE, _TIME.pack(at), page)

    def reading(self, at: float, values: Mapping[str, float]) -> None:
        """One reading of other series."""
        self.note("reading", at=at, values=values)

    def note(self, kind: str, **content: Any) -> None:
        """A start, the end of a request, a reading."""
        self._write(NOTE, json.dumps({"kind": kind, **content}, separators=(",", ":")).encode())

    def check(self) -> None:
        """Raises SpoolError when something could not be written."""
        if self._error:
            raise SpoolError(
                f"{self.path}: cannot be written ({self._error.strerror}); the run is given up: "
                "free space there, or record elsewhere (--rllm-record=DIR)"
            ) from self._error

    def _write(self, kind: bytes, *parts: bytes) -> None:
        if self._error:
            return
        payload = b"".join(parts)
        left = memoryview(_FRAME.pack(kind, len(payload)) + payload)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._error = error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@dataclass
class Spooled:
    """A spool as it lies on disk: an index, from which one response at a time is read.

    Attributes:
        path: of the spool.
        start: of the run, on the clock of every time in here; None before there was one.
        ends: notes of ended requests, in the order in which they ended.
        readings: notes of other series.
    """

    path: Path
    start: float | None = None
    ends: list[dict[str, Any]] = field(default_factory=list)
    readings: list[dict[str, Any]] = field(default_factory=list)
    _reads: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    _pages: list[tuple[int, int]] = field(default_factory=list)

    def chunks(self, number: int) -> list[Chunk]:
        """All reads of the response to request ``number``."""
        found: list[Chunk] = []
        for payload in self._payloads(self._reads.get(number, ())):
            _, n = _READS.unpack_from(payload)
            times, sizes = array("d"), array("I")
            middle = _READS.size + n * times.itemsize
            at = middle + n * sizes.itemsize
            times.frombytes(payload[_READS.size : middle])
            sizes.frombytes(payload[middle:at])
            for time, size in zip(times, sizes, strict=True):
                found.append((time, payload[at : at + size]))
                at += size
        return found

    def pages(self) -> Iterator[tuple[float, bytes]]:
        """Pages of telemetry with their times."""
        for payload in self._payloads(self._pages):
            yield _TIME.unpack_from(payload)[0], payload[_TIME.size :]

    def _payloads(self, places: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        with open(self.path, "rb") as file:
            for offset, size in places:
                file.seek(offset)
                yield file.read(size)


def read(path: Path) -> Spooled:
    """Index a spool; a last frame that is not whole is left out."""
    found = Spooled(path)
    end = path.stat().st_size
    with open(path, "rb") as file:
        while len(head := file.read(_FRAME.size)) == _FRAME.size:
            kind, size = _FRAME.unpack(head)
            offset = file.tell()
            if offset + size > end:
                break
            if kind == READS:
                number, _ = _READS.unpack(file.read(_READS.size))
                found._reads.setdefault(number, []).append((offset, size))
            elif kind == PAGE:
                found._pages.append((offset, size))
            else:
                _note(found, json.loads(file.read(size)))
            file.seek(offset + size)
    return found


def _note(found: Spooled, note: dict[str, Any]) -> None:
    match note.pop("kind"):
        case "start":
            found.start = note["at"]
        case "end":
            found.ends.append(note)
        case "reading":
            found.readings.append(note)


def beside(record: Path, number: int) -> Path:
    """Where the spool of a record's client process ``number`` lies."""
    return record.with_name(f"{record.name}.spool-{number}")


def left(record: Path) -> list[Spooled]:
    """The spools that lie beside a record."""
    return [read(path) for path in sorted(record.parent.glob(f"{record.name}.spool-*"))]
