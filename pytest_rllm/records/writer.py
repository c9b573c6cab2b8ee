"""Write the record of a run, line by line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from .. import access
from .header import SCHEMA, Header
from .reader import read_run
from .run import RecordError, Run, Sample


class RunWriter:
    """Writes the record of a run; a context manager.

    Nothing is kept in memory. Only :meth:`close` writes the closing line: a record without one was
    cut short.
    """

    def __init__(self, path: Path, header: Header) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._samples = 0
        # surrogatepass: an engine may split a character into the surrogates of two deltas.
        self._file = open(  # noqa: SIM115 - closed in __exit__
            path, "w", encoding="utf-8", errors="surrogatepass"
        )
        self._line({"kind": "run", "schema": SCHEMA, **header.to_json()})

    def sample(self, sample: Sample) -> None:
        """Write one finished or failed request."""
        self._samples += 1
        self._line({"kind": "sample", **_to_json(sample)})

    def point(self, at_s: float, values: Mapping[str, float]) -> None:
        """Write one reading of series, ``at_s`` seconds from the start of the run."""
        self._line({"kind": "point", "at_s": round(at_s, 6), "values": dict(values)})

    def close(self, closing: Mapping[str, Any]) -> Run:
        """Write the closing line.

        Returns:
            The run as read from its record, so that a replay judges exactly the same numbers.
        """
        self._line({"kind": "end", "samples": self._samples, **closing})
        return read_run(self.path)

    def _line(self, content: dict[str, Any]) -> None:
        line = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        line = access.current().without_secrets(line)  # a server may repeat what it was sent
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            raise RecordError(
                f"{self.path}: cannot be written ({error.strerror}); the measured responses are in "
                "the spool files beside it; free space there, or record elsewhere "
                "(--rllm-record=DIR)"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


def _to_json(sample: Sample) -> dict[str, Any]:
    odd = {"contradiction": sample.contradiction, "remarks": sample.remarks}
    return {
        "prompt": sample.prompt.to_row(),
        "intended_s": round(sample.intended_s, 6),
        "sent_s": round(sample.sent_s, 6),
        "ended_s": round(sample.ended_s, 6),
        "finish_reason": sample.finish_reason,
        "error": sample.error,
        "usage": sample.usage,
        **{name: value for name, value in odd.items() if value},
        "deltas": [(round(at_s, 6), *rest) for at_s, *rest in sample.deltas.rows()],
    }
