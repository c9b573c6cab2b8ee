"""What the clients are asked to carry."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from pytest_rllm.loadgen.reference_server import Script

MODEL = "under-test"
PROMPT = "How far is it from here to there, and how long does it take to walk that way and back?"
"""As long in tokens as the peers' synthetic prompts, more or less."""


@dataclass(frozen=True)
class Load:
    """Requests of which so many are in flight at any time.

    Attributes:
        streams: requests in flight; the first ones start at once.
        script: what the reference server answers; a real engine answers as many tokens.
        requests: how many in all.
        timed: whether a reference server answers, so that texts hold the truth.
    """

    streams: int
    script: Script
    requests: int
    timed: bool = True

    @property
    def deltas_each(self) -> int:
        return self.script.reasoning + self.script.answer

    @property
    def tokens_each(self) -> int:
        return self.deltas_each * self.script.tokens

    @property
    def tokens(self) -> int:
        """Output tokens over all requests."""
        return self.requests * self.tokens_each

    @property
    def rate(self) -> float:
        """Deltas per second that are due over all streams (in the first stage)."""
        return self.streams * self.script.events / self.script.gap_s

    @property
    def body(self) -> dict[str, Any]:
        """JSON body of a request, for clients that take one."""
        return {
            "model": MODEL,
            "messages": [{"role": "user", "content": PROMPT}],
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "max_tokens": self.tokens_each,
            "ignore_eos": True,
            "temperature": 0.0,
        }

    def as_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def of_json(cls, text: str) -> Load:
        content = json.loads(text)
        return cls(**content | {"script": Script(**content["script"])})


def request(body: dict[str, Any]) -> bytes:
    """A request of HTTP/1.1 for a body."""
    data = json.dumps(body).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json"
    return f"{head}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def begin_s(streams: int) -> float:
    """Seconds from the requests to the first delta: by then all have arrived, of any client."""
    return 1.0 + streams / 400


def steady(streams: int, rate: float, seconds: float, rounds: int = 1) -> Load:
    """``rate`` deltas per second over all streams, out of step, at random (exponential) gaps."""
    gap_s = streams / rate
    script = Script(
        answer=max(2, round(seconds / gap_s)),
        gap_s=gap_s,
        first_s=begin_s(streams),
        spread_s=gap_s,
        gaps="exponential",
    )
    return Load(streams, script, streams * rounds)


def ladder(streams: int, lowest: float, stages: int, stage_s: float, growth: float) -> Load:
    """The same, with ``stages`` rates one after the other, each ``growth`` times the last; and
    another quarter of a stage, so that the streams do not end within the last one."""
    gap_s = streams / lowest
    lasts = sum(stage_s * growth**i for i in range(stages)) + 0.25 * stage_s * growth**stages
    script = Script(
        answer=max(2, round(lasts / gap_s)),
        gap_s=gap_s,
        first_s=begin_s(streams),
        spread_s=min(gap_s, 0.2 * stage_s),
        gaps="exponential",
        stage_s=stage_s,
        growth=growth,
    )
    return Load(streams, script, streams)
