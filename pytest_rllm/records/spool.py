"""The file that a client process writes while it measures: bytes with times, parsed after the run.

A spool lies beside the record that is made from it (``run.jsonl.spool-0``), one per process, and is
removed when the record is complete. If the process dies, its spool is left, and
``reader.read_run`` reads it.
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
"""Kinds of frames: reads of a response, a page of telemetry, a note in JSON."""


class ClientError(RuntimeError):
    """The client cannot measure; the message says why, and what to do."""


class SpoolError(ClientError):
    """A spool cannot be written, most often because the disk is full."""


class Spool:
    """Writes one spool, one frame per call; a context manager.

    After a failed write nothing more is written; :meth:`check` raises the reason.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._error: OSError | None = None
        # Unbuffered: when a call returns, the kernel has the frame.
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - closed in __exit__

    def reads(self, number: int, times: Sequence[float], datas: Sequence[bytes]) -> None:
        """Write reads of the response to request ``number``, in the order of arrival."""
        self._write(
            READS,
            _READS.pack(number, len(times)),
            array("d", times).tobytes(),
            array("I", map(len, datas)).tobytes(),
            *datas,
        )

    def page(self, at: float, page: bytes) -> None:
        """Write a page of telemetry, unparsed."""
        self._write(PAGE, _TIME.pack(at), page)

    def reading(self, at: float, values: Mapping[str, float]) -> None:
        """Write one reading of other series."""
        self.note("reading", at=at, values=values)

    def note(self, kind: str, **content: Any) -> None:
        """Write a note: the start of the run, the end of a request, or a reading."""
        self._write(NOTE, json.dumps({"kind": kind, **content}, separators=(",", ":")).encode())

    def check(self) -> None:
        """Raise SpoolError if a write has failed."""
        if self._error:
            raise SpoolError(
                f"{self.path}: cannot be written ({self._error.strerror}); the run was "
                "stopped; free space there, or record elsewhere (--rllm-record=DIR)"
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
    """The index of a spool on disk, from which one response at a time is read.

    Attributes:
        path: of the spool.
        start: start of the run, on the clock of all times here; None if the run had not started.
        ends: notes of ended requests, in the order in which they ended.
        readings: notes of readings of other series.
    """

    path: Path
    start: float | None = None
    ends: list[dict[str, Any]] = field(default_factory=list)
    readings: list[dict[str, Any]] = field(default_factory=list)
    _reads: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    _pages: list[tuple[int, int]] = field(default_factory=list)

    def chunks(self, number: int) -> list[Chunk]:
        """The reads of the response to request ``number``: arrival times and bytes."""
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
        """The pages of telemetry with their times."""
        for payload in self._payloads(self._pages):
            yield _TIME.unpack_from(payload)[0], payload[_TIME.size :]

    def _payloads(self, places: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        with open(self.path, "rb") as file:
            for offset, size in places:
                file.seek(offset)
                yield file.read(size)


def read(path: Path) -> Spooled:
    """Index a spool; an incomplete last frame is left out."""
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


def spool_path(record: Path, number: int) -> Path:
    """The path of the spool of client process ``number`` of a record."""
    return record.with_name(f"{record.name}.spool-{number}")


def leftover_spools(record: Path) -> list[Spooled]:
    """The spools that a process left beside its record when it died."""
    return [read(path) for path in sorted(record.parent.glob(f"{record.name}.spool-*"))]
