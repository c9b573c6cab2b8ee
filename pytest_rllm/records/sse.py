"""Parse the bytes of a streamed chat completion into deltas; arrival times come with the bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .deltas import MOST_TOKENS, Delta, Deltas
from .framing import DONE, Event, Events, events, read_event
from .texts import CALLS, KNOWN, VISIBLE, is_reasoning, texts
from .told_errors import (
    SHOWN,
    each_is_an_event,
    error_text,
    instead_of_events,
    message_of,
    quoted,
    told_error,
)

__all__ = ["DONE", "Delta", "Deltas", "Stream", "events", "parse", "read_event"]

WHOLE = ("stop", "length")
"""Finish reasons of whole answers; ``tool_calls`` is one where tools were offered."""
MOST_SILENT = 4
"""Tokens at the end that may have no text: one that ends the answer, bytes of half a character."""
Row = tuple[float, str, int | None, str]


@dataclass(slots=True)
class Stream:
    """The parsed content of one response.

    Attributes:
        deltas: with text or tokens, in the order of arrival; what came after the finish reason is
            not among them.
        finish_reason: the first one that was sent.
        usage: the engine's token counts.
        fields: names of all fields that deltas had.
        error: why the response is not complete and valid; None if it is.
        uncounted: why the tokens of its deltas are unknown though the engine told running counts:
            they cannot be right; None where they can, or none were told.
        contradiction: how its usage contradicts what was streamed; None where it does not.
        done_s: arrival of ``[DONE]``, with which a response is over; None where it did not come.
        remarks: what is odd about it and makes it no failure, in sentences.
    """

    deltas: Deltas = field(default_factory=Deltas)
    finish_reason: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    fields: set[str] = field(default_factory=set)
    error: str | None = None
    uncounted: str | None = None
    contradiction: str | None = None
    done_s: float | None = None
    remarks: list[str] = field(default_factory=list)


def parse(
    chunks: Iterable[tuple[float, bytes]],
    failure: str | None = None,
    *,
    tools: bool | None = None,
) -> Stream:
    """Parse a response; what arrived before an error is kept, what came after ``[DONE]`` is not.

    Args:
        chunks: arrival times and bytes.
        failure: how the connection failed; None if it ended normally. An error that the stream
            itself reports is reported instead, because it is the cause, and a response that is over
            did not fail.
        tools: whether the request offered tools; None where that is unknown, and then a call that
            was streamed shows it.

    A request has finished with ``stop``, ``length``, or ``tool_calls`` where tools were offered;
    with every other finish reason it has failed.

    The number of tokens of a delta comes from the running usage, else from the number so far that
    an event tells among its timings, else from ``token_ids``; else it is None. Tokens that only the
    usage at the end tells are a last delta without text, where the earlier ones were counted. Where
    counts cannot be right, all are None, and ``uncounted`` says why: every text takes a token at
    least (of 27,936 answers of three releases of vLLM none came without), and all of them together
    are the final count.
    """
    reading = _Reading()
    stream = reading.stream
    framed = Events(chunks)
    for event in framed:
        at_s, data, _ = event
        if data.startswith(DONE) and data.rstrip() == DONE:
            stream.done_s = at_s
            break
        reading.event(event)
        if stream.error:
            break
    else:
        reading.end(framed.unfinished)
    reading.close()
    if stream.error is None:
        done = stream.done_s is not None
        stream.error = (
            _not_whole(stream, reading.finish_note, tools)
            or (instead_of_events(framed.stray) if not stream.finish_reason else None)
            or (None if done and stream.finish_reason else failure)
            or _unfinished(stream, done)
        )
    return stream


class _Reading:
    """The state of one response that is being read."""

    def __init__(self) -> None:
        self.stream = Stream()
        self.finish_note = ""
        self._rows: list[Row] = []
        self._counted = 0
        self._doubt: str | None = None
        self._late: list[str] = []
        self._reasons_in = ""  # the field in which reasoning was told first

    def event(self, event: Event) -> None:
        """Take one event; what is wrong with it becomes the stream's error."""
        try:
            at_s, data, name = event
            if name == b"error":
                self.stream.error = f"error in the stream: {error_text(data)}"
            else:
                self._content(at_s, read_event(data))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            lines = event.data.count(b"\n") + 1
            if lines > 1 and each_is_an_event(event.data):
                self.stream.error = (
                    f"{lines} data lines without a blank line between them are one event, which "
                    "cannot be read: the server leaves out the blank lines that end events"
                )
            else:
                self.stream.error = f"malformed event {event.data[:SHOWN]!r}: {error}"

    def end(self, unfinished: Event) -> None:
        """Take what followed the last complete event: an error, or the usage of a whole answer."""
        if unfinished.name == b"error":
            self.event(unfinished)
        elif self.stream.finish_reason:
            try:
                content = read_event(unfinished.data)
            except (ValueError, TypeError, RecursionError):
                return
            if not content.get("choices"):
                self.event(unfinished)

    def close(self) -> None:
        """Make the deltas and their counts, when all events were taken."""
        stream, rows = self.stream, self._rows
        stream.uncounted = self._doubt or self._unlike()
        counted = stream.uncounted is None and any(t is not None for _, _, t, x in rows if x)
        if not counted and any(text for *_, text in rows):
            # What came without text came with counts alone: where those are not known of the text,
            # nothing is known of it.
            rows = [(at_s, name, None, text) for at_s, name, _, text in rows if text]
        stream.deltas = Deltas.of_rows(rows)
        if self._late:
            self._remark(f"text after the finish reason is left out: {quoted(''.join(self._late))}")
        for name in stream.deltas.fields:
            if name not in KNOWN:
                self._remark(
                    f"text in delta.{name}, a field that is not known here: whether it is "
                    "reasoning or an answer is unknown, and with it when the first token came"
                )

    def _remark(self, text: str) -> None:
        if text not in self.stream.remarks:
            self.stream.remarks.append(text)

    def _content(self, at_s: float, content: dict[str, Any]) -> None:
        stream = self.stream
        choices = content.get("choices") or ()
        if (not choices or "error" in content) and (message := told_error(content)):
            stream.error = f"error in the stream: {message}"
            return
        used = self._usage(content, choices)
        if used is None:
            used = _running(content)
        if used is not None and used > MOST_TOKENS:
            raise ValueError("more tokens than any response can have")
        silent = 0 if choices or used is None or not self._counted else used - self._counted
        if 0 < silent <= MOST_SILENT:  # only the final usage tells them
            self._rows.append((at_s, "", silent, ""))
            self._counted += silent
        for choice in choices:
            if not isinstance(choice, dict):
                raise TypeError("a choice is not an object")
            self._choice(at_s, choice, used)
            if stream.error:
                return

    def _usage(self, content: dict[str, Any], choices: Any) -> int | None:
        """Keep the usage that an event tells, for itself or in its choice; returns the tokens."""
        usage = content.get("usage")
        if type(usage) is dict and None not in usage.values():
            used = usage.get("completion_tokens")
            if type(used) is int and used >= 0:
                self.stream.usage.update(usage)
                return used
        if not usage:
            within = (one.get("usage") for one in choices if isinstance(one, dict))
            usage = next(filter(None, within), None)
        if not usage:
            return None
        if not isinstance(usage, dict):
            self._remark(f"a usage that is no object is not read: {quoted(repr(usage))}")
            return None
        said = {key: value for key, value in usage.items() if value is not None}
        if "completion_tokens" in said:
            count = _count(said.pop("completion_tokens"))
            if count is None:
                told = quoted(repr(usage["completion_tokens"]))
                self._remark(f"a usage with {told} completion tokens is not believed")
            else:
                said["completion_tokens"] = count
        self.stream.usage.update(said)
        return said.get("completion_tokens")

    def _choice(self, at_s: float, choice: dict[str, Any], used: int | None) -> None:
        stream = self.stream
        if choice.get("index"):
            stream.error = (
                f"the stream holds choice {choice['index']}, and only choice 0 is asked for: its "
                "tokens cannot be told from those of the others (ask for n = 1)"
            )
            return
        if choice.get("error"):
            stream.error = f"error in the stream: {message_of(choice['error'])}"
            return
        delta = choice.get("delta") or {}
        if not delta and (choice.get("message") or choice.get("text")):
            raise TypeError("the choice holds a whole answer and no delta: it was not streamed")
        if not isinstance(delta, dict):
            raise TypeError("the delta is not an object")
        stream.fields.update(delta)
        tokens = _ids(choice) if used is None else used - self._counted
        if tokens is not None and tokens < 0:
            self._doubt = self._doubt or f"it fell from {self._counted} to {used}"
            tokens = 0
        self._counted += tokens or 0
        self._add(at_s, texts(delta), tokens)
        if reason := choice.get("finish_reason"):
            self._finish(reason)

    def _add(self, at_s: float, found: list[tuple[str, str]], tokens: int | None) -> None:
        """Append the texts of one event; the same reasoning in several fields is taken once.

        The tokens of an event with several texts stand with the first: how many are of which is
        not told.
        """
        if self.stream.finish_reason is not None:
            self._late += [text for _, text in found]
            return
        if len(found) > 1 or (found and found[0][0] not in (VISIBLE, self._reasons_in)):
            found = self._once(found)
        if found and tokens == 0 and found[0][0] != CALLS:
            self._doubt = self._doubt or f"it stayed at {self._counted} while text came"
        for name, text in found:
            self._rows.append((at_s, name, tokens, text))
            tokens = 0 if tokens is not None else None
        if not found and tokens:
            self._rows.append((at_s, "", tokens, ""))

    def _once(self, found: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The texts without reasoning that is told in another field of the event, or that repeats
        all of the reasoning before it."""
        kept: list[tuple[str, str]] = []
        for name, text in found:
            if is_reasoning(name):
                if any(is_reasoning(other) and text == told for other, told in kept):
                    continue
                self._reasons_in = self._reasons_in or name
                if name != self._reasons_in and text == self._reasoning():
                    self._remark(f"delta.{name} repeats the reasoning and is left out")
                    continue
            kept.append((name, text))
        return kept

    def _reasoning(self) -> str:
        return "".join(text for _, name, _, text in self._rows if is_reasoning(name))

    def _finish(self, reason: Any) -> None:
        stream = self.stream
        if isinstance(reason, dict) and isinstance(reason.get("type"), str):
            reason, note = reason["type"], str(reason.get("message") or "")
        else:
            note = ""
        if not isinstance(reason, str):
            raise TypeError("the finish reason is not a text")
        if stream.finish_reason is None:
            stream.finish_reason, self.finish_note = reason, note
        elif reason != stream.finish_reason:
            self._remark(
                f"finish reason {quoted(reason)} after {quoted(stream.finish_reason)}: the first "
                "one counts"
            )

    def _unlike(self) -> str | None:
        """How running counts contradict themselves or the final one; None where they do not.

        A response that broke off has no final count.
        """
        told = [tokens is not None for _, _, tokens, text in self._rows if text]
        if any(told) and not all(told):
            return "it was told with some of the deltas only"
        final = self.stream.usage.get("completion_tokens")
        if self.stream.error or self.stream.finish_reason is None or final is None:
            return None
        if told and told[0] and self._counted != final:
            if final > self._counted + MOST_SILENT and self._doubt is None:
                self.stream.contradiction = (
                    f"{self._counted} tokens were counted while it was streamed, and {final} at "
                    "its end"
                )
            return f"it ended at {self._counted}, and the final count is {final}"
        return None


def _count(value: Any) -> int | None:
    """A number of tokens; None for what cannot be one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and value >= 0 else None


def _running(content: dict[str, Any]) -> int | None:
    """Tokens so far, where a server tells them among the timings of an event."""
    timings = content.get("timings")
    return _count(timings.get("predicted_n")) if isinstance(timings, dict) else None


def _ids(choice: dict[str, Any]) -> int | None:
    """Tokens of a choice by their ids; None where it tells none, or they are of another shape."""
    ids = choice.get("token_ids")
    return len(ids) if isinstance(ids, list) else None


def _not_whole(stream: Stream, note: str, tools: bool | None) -> str | None:
    """Why an answer that ended with this finish reason is not whole."""
    reason = stream.finish_reason
    if reason is None or reason in WHOLE:
        return None
    said = f"finish reason {quoted(reason)}" + (f": {note}" if note else "")
    if reason != CALLS:
        return f"{said}; an answer is whole with stop or length only"
    called = CALLS in stream.deltas.fields
    if called if tools is None else tools:
        return None
    return f"{said}; no tools were offered" if called else f"{said}, and no tool was called"


def _unfinished(stream: Stream, done: bool) -> str | None:
    if stream.finish_reason is not None:
        return None
    return "the stream ended without a finish reason" + (
        "" if done else " and without [DONE]: it was closed early"
    )
