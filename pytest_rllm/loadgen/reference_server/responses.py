"""One response of the reference server: templates of its events, and the state of its stream."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .schedules import STAMP, Script

if TYPE_CHECKING:
    from .connections import Connection

MODEL = "under-test"


class Events:
    """Templates of the events of one response; only time and token counts are filled in later."""

    def __init__(self, number: int, body: Mapping[str, Any], chat: bool) -> None:
        options = body.get("stream_options") or {}
        self._chat = chat
        self._head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{number:08d}",
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": int(time.time()),
            "model": str(body.get("model") or MODEL).replace("%", ""),
        }
        asked = json.dumps(body.get("messages") or body.get("prompt"))
        self.prompt_tokens = 1 + len(asked) // 4  # an estimate: this server has no tokenizer
        self.counted = bool(options.get("continuous_usage_stats"))
        self._usage_last = bool(options.get("include_usage"))

    def opening(self) -> bytes:
        """The event before the first delta, which carries the role."""
        if not self._chat:
            return b""
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        return self._event([choice]) % self.values(0.0, 0)[1:]

    def delta(self, field: str, finish_reason: str | None) -> bytes:
        """A template of a delta, to be filled with :meth:`values`."""
        content: dict[str, Any] = {"delta": {field: STAMP}} if self._chat else {"text": STAMP}
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason}
        return self._event([choice])

    def values(self, at: float, tokens: int) -> tuple[float, ...]:
        """The values for a template: time, and token counts if they were requested."""
        return (at, tokens, self.prompt_tokens + tokens) if self.counted else (at,)

    def closing(self, tokens: int) -> bytes:
        """The events after the last delta: usage, [DONE], the end of the body."""
        end = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        if not self._usage_last:
            return end
        usage = {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + tokens,
            "completion_tokens": tokens,
        }
        return _chunk(_data({**self._head, "choices": [], "usage": usage})) + end

    def _event(self, choices: list[dict[str, Any]]) -> bytes:
        content: dict[str, Any] = {**self._head, "choices": choices}
        stamped = STAMP in json.dumps(choices)
        if self.counted:
            content["usage"] = {
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": "@",
                "total_tokens": "@",
            }
        template = _data(content).replace(b'"@"', b"%6d")
        filled = template % self.values(0.0, 0)[0 if stamped else 1 :]
        return b"%x\r\n%s\r\n" % (len(filled), template)


class Stream:
    """One response that is being streamed.

    Attributes:
        deltas, sent: number of deltas in all, and of those that were sent.
    """

    def __init__(self, connection: Connection, script: Script, events: Events, number: int) -> None:
        self.connection, self.script, self.events = connection, script, events
        self.deltas, self.sent = script.reasoning + script.answer, 0
        self._times, self._each = script.schedule(number), script.events
        inside = "reasoning" if script.reasoning else "content"
        self._templates = (
            events.delta(inside, None),
            events.delta("content", None),
            events.delta("content" if script.answer else inside, "length"),
        )
        self._start = time.monotonic()

    def due(self) -> float:
        """When the next write is due, in s of the monotonic clock."""
        due = self._start + self._times[self.sent // self._each]
        if self.script.gaps == "steps":
            due = -(-due // self.script.gap_s) * self.script.gap_s
        return due

    def write(self) -> int:
        """Send the next deltas; returns their number."""
        first, connection = self.sent, self.connection
        upto = self.sent = min(first + self._each, self.deltas)
        if not first:
            connection.write(self.events.opening())
        values, tokens = self.events.values, self.script.tokens
        templates = [self._template(i) for i in range(first, upto)]
        at = time.monotonic()
        connection.write(
            b"".join([one % values(at, i * tokens) for i, one in enumerate(templates, first + 1)])
        )
        if upto == self.deltas:
            connection.write(self.events.closing(upto * tokens))
        return upto - first

    def _template(self, i: int) -> bytes:
        if i == self.deltas - 1:
            return self._templates[2]
        return self._templates[i >= self.script.reasoning]


def _data(content: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
