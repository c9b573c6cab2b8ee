"""Errors that a server tells within a response, and what it says instead of a stream."""

from __future__ import annotations

import json
from typing import Any

from ..refusals import compressed
from .framing import DONE, read_event

SHOWN = 200
"""Characters of what a server sent that an error quotes."""
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"x\x9c": "deflate", b"x\xda": "deflate"}
"""First bytes of compressed data."""


def told_error(content: dict[str, Any]) -> str | None:
    """The error that an event or a body tells, in any of the shapes that servers give it."""
    if content.get("error"):
        return message_of(content["error"])
    if content.get("choices") is not None or content.get("usage"):
        return None
    if "error" in (content.get("object"), content.get("type"), content.get("status")):
        return message_of(content)
    keys = ("detail", "errors", "message")
    told = next((content[key] for key in keys if content.get(key)), None)
    return None if told is None else message_of(told)


def message_of(error: Any) -> str:
    """The sentence in an error, however deep it stands."""
    if isinstance(error, list) and error:
        return message_of(error[0])
    if isinstance(error, dict):
        for key in ("message", "detail", "msg", "error", "errors"):
            if error.get(key):
                return message_of(error[key])
    return str(error)


def error_text(data: bytes) -> str:
    """The sentence of an error that is told by the kind of its event, in JSON or as text."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return data.decode("utf-8", "replace").strip()
    return message_of(content)


def instead_of_events(stray: bytes) -> str | None:
    """What a server said that did not send events, or not only; None where it sent nothing else."""
    stray = stray.strip()
    if not stray:
        return None
    for magic, encoding in MAGIC.items():
        if stray.startswith(magic):
            return compressed(encoding)
    try:
        content = read_event(stray)
    except (ValueError, TypeError, RecursionError):
        text = quoted(stray.decode("utf-8", "replace"))
        return f"the response holds what is no event: {text}"
    if message := told_error(content):
        return f"the server answered in JSON, not by a stream of events: {message}"
    return f"the server answered in JSON, not by a stream of events: {quoted(stray.decode())}"


def each_is_an_event(data: bytes) -> bool:
    try:
        return all(line.strip() == DONE or read_event(line) for line in data.split(b"\n"))
    except (ValueError, TypeError, RecursionError):
        return False


def quoted(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + " ...")
