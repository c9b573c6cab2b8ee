"""The captured body of one streamed response: what it holds, and what would become of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..datasets.prompts import Prompt
from ..records.header import Header
from ..records.run import Run, Sample
from ..records.sse import parse
from . import answer
from .explained import Explained, NotUnderstood


def explain(path: Path, given: argparse.Namespace) -> Explained:
    """Explain a capture. Its bytes have no times.

    Raises:
        NotUnderstood: it cannot be read.
    """
    try:
        body = path.read_bytes()
    except OSError as error:
        raise NotUnderstood(f"cannot be read ({error.strerror})") from error
    stream = parse([(0.0, body)])
    sample = Sample(
        Prompt("capture", "", "", "", "word", "capture"),
        intended_s=0.0,
        sent_s=0.0,
        ended_s=0.0,
        deltas=stream.deltas,
        usage=stream.usage,
        finish_reason=stream.finish_reason,
        error=stream.error,
        contradiction=stream.contradiction,
        remarks=stream.remarks,
        opened=given.reasoning_opened,
    )
    closing = {"uncounted": {"answers": 1, "why": stream.uncounted}} if stream.uncounted else {}
    said = answer.content(sample, Run(Header(), [sample], closing=closing), timed=False)
    return Explained(
        title=f"one streamed response of {len(body)} bytes",
        lines=list(answer.lines(said)),
        content={"kind": "stream", "bytes": len(body), **said},
        counts=stream.error is None,
    )
