"""Cut the bytes of a response into server-sent events, as the standard of WHATWG says.

A byte order mark at the start is skipped; lines end in ``\\n``, ``\\r`` or ``\\r\\n``; a blank line
ends an event; ``id``, ``retry`` and comments carry nothing; an event whose data is blank is none.
What belongs to no field is kept, because it is what a server says that does not stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
DONE = b"[DONE]"
"""Data of the event that ends a stream."""
KEPT = 4096
"""Bytes that are kept at most of what belongs to no event."""


class Event(NamedTuple):
    """One event.

    Attributes:
        at_s: arrival of the chunk that completed it.
        data: its data; the lines of several ``data`` fields are joined by ``\\n``.
        name: of its kind, empty for a message. ``error`` where the server tells an error by the
            kind of the event, or in a field ``error``, which is then the data.
    """

    at_s: float
    data: bytes
    name: bytes = b""


class Events:
    """The events of a response, each once, in the order of arrival.

    One chunk may hold many events, and one event may span many chunks. A last event without its
    closing blank line is not among them, because it did not arrive completely. Every byte is
    examined once, whatever the number of chunks of an event.

    Args:
        chunks: arrival times and bytes.

    Attributes:
        unfinished: what followed the last event that is complete, once all were taken.
        stray: lines that are no field of an event, as many as KEPT bytes hold.
    """

    def __init__(self, chunks: Iterable[tuple[float, bytes]]) -> None:
        self._chunks = chunks
        self.unfinished = Event(0.0, b"")
        self.stray = b""

    def __iter__(self) -> Iterator[Event]:
        begun = bytearray()  # the beginning of an event that is not complete
        held = b""  # its last line ends, which the next chunk may continue: \n, \r or both
        at_s = 0.0
        for at_s, chunk in self._from_the_start():
            chunk = held + chunk
            held = b""
            if b"\r" in chunk:
                # A \r at the end of a chunk may be half of a \r\n: kept until the rest arrives.
                if chunk.endswith(b"\r"):
                    chunk, held = chunk[:-1], b"\r"
                chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            *whole, rest = chunk.split(b"\n\n")
            if rest.endswith(b"\n"):
                rest, held = rest[:-1], b"\n" + held
            for block in whole:
                if begun:
                    block = bytes(begun) + block
                    begun.clear()
                if block.startswith(b"data: ") and b"\n" not in block:
                    data, name = block[6:], b""
                else:
                    data, name = self._fields(block)
                if data and not data.isspace():
                    yield Event(at_s, data, name)
            begun += rest
        self.unfinished = Event(at_s, *self._fields(bytes(begun)))

    def _from_the_start(self) -> Iterator[tuple[float, bytes]]:
        """The chunks without a byte order mark, which may be spread over several."""
        chunks, first = iter(self._chunks), b""
        for at_s, chunk in chunks:
            first += chunk
            if len(first) >= len(BYTE_ORDER_MARK) or not BYTE_ORDER_MARK.startswith(first):
                yield at_s, first.removeprefix(BYTE_ORDER_MARK)
                break
        yield from chunks

    def _fields(self, block: bytes) -> tuple[bytes, bytes]:
        """Data and name of an event of several lines; both are empty where it has no data."""
        data, name, stray = list[bytes](), b"", list[bytes]()
        for line in block.split(b"\n"):
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.strip()
            elif field == b"error":
                data, name = [value], b"error"
                break
            elif field and field not in (b"id", b"retry"):
                stray.append(line)
        if stray and len(self.stray) < KEPT:
            self.stray = b"\n".join([self.stray, *stray]).lstrip(b"\n")[:KEPT]
        return b"\n".join(data), name


def events(chunks: Iterable[tuple[float, bytes]]) -> Iterator[Event]:
    """The events of a response, see :class:`Events`."""
    return iter(Events(chunks))


def read_event(data: bytes) -> dict[str, Any]:
    """The object that an event's data holds.

    Raises:
        ValueError, TypeError, RecursionError: it holds none; the message says why.
    """
    try:
        content = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        # json is slower, but accepts NaN and half of a surrogate pair, and says better what is
        # wrong.
        content = json.loads(data)
    if not isinstance(content, dict):
        raise TypeError("the event is not an object")
    return content
