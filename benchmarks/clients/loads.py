"""What the clients are asked to carry: so many streams, so many deltas per second, for so long."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from pytest_rllm.timing_server import Script

MODEL = "under-test"
FIRST_S = 0.5
"""Until the first delta: by then all requests of a run have arrived."""


@dataclass(frozen=True)
class Load:
    """Requests that all start at once, each answered by the same script.

    Attributes:
        streams: how many.
        script: what the timing server answers.
    """

    streams: int
    script: Script

    @property
    def deltas(self) -> int:
        return self.streams * (self.script.reasoning + self.script.answer)

    @property
    def tokens(self) -> int:
        return self.deltas * self.script.tokens

    @property
    def rate(self) -> float:
        """Deltas per second that are due, over all streams."""
        return self.streams * self.script.events / self.script.gap_s

    @property
    def lasts_s(self) -> float:
        """Seconds from the requests to the last delta, when nobody is late."""
        script = self.script
        writes = -(-(script.reasoning + script.answer) // script.events)
        return script.first_s + script.spread_s + script.think_s + writes * script.gap_s

    @property
    def body(self) -> dict[str, Any]:
        """JSON body of a request, for clients that take one."""
        return {
            "model": MODEL,
            "messages": [{"role": "user", "content": "How far?"}],
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "max_tokens": self.tokens // self.streams,
            "ignore_eos": True,
        }

    def as_json(self) -> dict[str, Any]:
        return {"streams": self.streams, "script": asdict(self.script)}

    @classmethod
    def of_json(cls, content: dict[str, Any]) -> Load:
        return cls(content["streams"], Script(**content["script"]))


def steady(streams: int, rate: float, seconds: float, **more: Any) -> Load:
    """``rate`` deltas per second over all streams, out of step, at random (exponential) gaps."""
    gap_s = streams / rate
    script = Script(
        answer=max(2, round(seconds / gap_s)),
        gap_s=gap_s,
        first_s=FIRST_S,
        spread_s=gap_s,
        gaps="exponential",
    )
    return Load(streams, replace(script, **more))


def request(body: dict[str, Any]) -> bytes:
    """A request of HTTP/1.1 for a body."""
    data = json.dumps(body).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json"
    return f"{head}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
