"""Parse the bytes of a streamed chat completion into deltas; arrival times come with the bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .deltas import MOST_TOKENS, Delta, Deltas

__all__ = ["Delta", "Deltas", "Stream", "events", "parse"]

TEXT_FIELDS = ("reasoning", "reasoning_content", "content")
ABORTED = "abort"
"""The finish reason of a request that the engine gave up, whoever asked it to."""
MOST_SILENT = 4
"""Tokens at the end that may have no text: one that ends the answer, bytes of half a character."""
Row = tuple[float, str, int | None, str]


@dataclass(slots=True)
class Stream:
    """The parsed content of one response.

    Attributes:
        deltas: with text or tokens, in the order of arrival.
        finish_reason: the last one that was sent.
        usage: the engine's token counts.
        fields: names of all fields that deltas had.
        error: why the response is not complete and valid; None if it is.
        uncounted: why the tokens of its deltas are unknown though the engine told running counts:
            they cannot be right; None where they can, or none were told.
    """

    deltas: Deltas = field(default_factory=Deltas)
    finish_reason: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    fields: set[str] = field(default_factory=set)
    error: str | None = None
    uncounted: str | None = None


def events(chunks: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    """Data of server-sent events, each with the arrival time of the chunk that completed it.

    One chunk may hold many events, and one event may span many chunks. A last event without its
    closing blank line is not yielded, because it did not arrive completely. Every byte is examined
    once, whatever the number of chunks of an event.
    """
    begun = bytearray()  # the beginning of an event that is not complete
    held = b""  # its last line ends, which the next chunk may continue: \n, \r or both
    for at_s, chunk in chunks:
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
        for event in whole:
            if begun:
                event = bytes(begun) + event
                begun.clear()
            if event.startswith(b"data:") and b"\n" not in event:
                yield at_s, event[5:].lstrip()
                continue
            data = [line[5:].lstrip() for line in event.split(b"\n") if line.startswith(b"data:")]
            if data:
                yield at_s, b"\n".join(data)
        begun += rest


def parse(chunks: Iterable[tuple[float, bytes]], failure: str | None = None) -> Stream:
    """Parse a response; what arrived before an error is kept.

    Args:
        chunks: arrival times and bytes.
        failure: how the connection failed; None if it ended normally. An error that the stream
            itself reports is reported instead, because it is the cause.

    The number of tokens of a delta comes from the running usage, else from the number so far that
    an event tells among its timings, else from ``token_ids``; else it is None. Tokens that only the
    usage at the end tells are a last delta without text, where the earlier ones were counted. Where
    counts cannot be right, all are None, and ``uncounted`` says why: every text takes a token at
    least (of 27,936 answers of three releases of vLLM none came without), and all of them together
    are the final count.
    """
    stream = Stream()
    rows: list[Row] = []
    counted = 0
    doubt: str | None = None
    done = False
    for at_s, data in events(chunks):
        if data == b"[DONE]":
            done = True
            continue
        try:
            event = _read(data)
            if not isinstance(event, dict):
                raise TypeError("the event is not an object")
            if event.get("error"):
                stream.error = f"error in the stream: {_message(event['error'])}"
                break
            usage = event.get("usage") or {}
            used = usage.get("completion_tokens")
            if not isinstance(used, int):
                used = _running(event)
            if used is not None and used > MOST_TOKENS:
                raise ValueError("more tokens than any response can have")
            stream.usage.update({k: v for k, v in usage.items() if v is not None})
            choices = event.get("choices") or ()
            if not choices and used is not None and 0 < counted < used <= counted + MOST_SILENT:
                # Only the final usage tells them.
                rows.append((at_s, "", used - counted, ""))
                counted = used
            for choice in choices:
                delta = choice.get("delta") or {}
                if not isinstance(delta, dict):
                    raise TypeError("the delta is not an object")
                stream.fields.update(delta)
                tokens = _tokens(choice) if used is None else used - counted
                if tokens is not None and tokens < 0:
                    doubt = doubt or f"it fell from {counted} to {used}"
                    tokens = 0
                counted += tokens or 0
                if _add_rows(rows, at_s, delta, tokens) and tokens == 0:
                    doubt = doubt or f"it stayed at {counted} while text came"
                finish_reason = choice.get("finish_reason")
                if finish_reason:
                    if not isinstance(finish_reason, str):
                        raise TypeError("the finish reason is not a text")
                    stream.finish_reason = finish_reason
                    if finish_reason == ABORTED:
                        stream.error = "the engine aborted the request"
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            stream.error = f"malformed event {data[:200]!r}: {error}"
            break
    stream.uncounted = doubt or _unlike(rows, counted, stream)
    if stream.uncounted is not None:
        # What came without text came with counts alone: nothing is known of it.
        rows = [(at_s, name, None, text) for at_s, name, _, text in rows if text]
    stream.deltas = Deltas.of_rows(rows)
    stream.error = stream.error or failure
    if stream.error is None and stream.finish_reason is None:
        stream.error = "the stream ended without a finish reason" + (
            "" if done else " and without [DONE]: it was closed early"
        )
    return stream


def _unlike(rows: list[Row], counted: int, stream: Stream) -> str | None:
    """How running counts contradict themselves or the final one; None where they do not.

    A response that broke off has no final count.
    """
    told = [tokens is not None for _, _, tokens, _ in rows]
    if any(told) and not all(told):
        return "it was told with some of the deltas only"
    final = stream.usage.get("completion_tokens")
    if stream.error or stream.finish_reason is None or not isinstance(final, int):
        return None
    if told and told[0] and counted != final:
        return f"it ended at {counted}, and the final count is {final}"
    return None


def _read(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError):
        # json is slower, but accepts half of a surrogate pair and has better error messages.
        return json.loads(data)


def _running(event: dict[str, Any]) -> int | None:
    """Tokens so far, where a server tells them among the timings of an event."""
    timings = event.get("timings")
    told = timings.get("predicted_n") if isinstance(timings, dict) else None
    return told if isinstance(told, int) else None


def _tokens(choice: dict[str, Any]) -> int | None:
    ids = choice.get("token_ids")
    return len(ids) if isinstance(ids, list) else None


def _add_rows(rows: list[Row], at_s: float, delta: dict[str, Any], tokens: int | None) -> bool:
    """Append the deltas of one event; the same text in two fields is taken once.

    The tokens of an event with text in two fields stand with the first: how many are of which is
    not told.

    Returns:
        Whether there was text.
    """
    before = len(rows)
    for name in TEXT_FIELDS:
        text = delta.get(name)
        if not text or (name == "reasoning_content" and text == delta.get("reasoning")):
            continue
        if not isinstance(text, str):
            raise TypeError(f"{name} is not a text")
        rows.append((at_s, name, tokens, text))
        tokens = 0 if tokens is not None else None
    if len(rows) > before:
        return True
    if tokens:
        rows.append((at_s, "", tokens, ""))
    return False


def _message(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)
