"""The record of a run: each of its requests, and what became of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..records.reader import read_run
from ..records.run import RecordError, Run, Sample
from . import answer
from .explained import Explained, NotUnderstood


def explain(path: Path, given: argparse.Namespace) -> Explained:
    """Explain a record: a line for each request, or the answers to one question in full.

    Raises:
        NotUnderstood: no record, or it holds no answer to that question.
    """
    try:
        run = read_run(path)
    except RecordError as error:
        raise NotUnderstood(str(error).removeprefix(f"{path}: ")) from error
    asked = [s for s in run.samples if given.request in (None, s.prompt.id)]
    if given.request is not None and not asked:
        raise NotUnderstood(f"it holds no answer to {given.request!r}")
    said = [_content(sample, run) for sample in asked]
    failed = sum(one["outcome"] == "failed" for one in said)
    return Explained(
        title=f"the record of {len(run.samples)} requests of {run.header.arm or 'a run'}"
        + ("" if run.closing else ", cut short"),
        lines=list(_lines(said, failed, whole=given.request is not None)),
        content={
            "kind": "record",
            "arm": run.header.arm,
            "engine": run.header.engine,
            "complete": run.closing is not None,
            "series": {name: len(times) for name, (times, _) in run.series.items()},
            "failed": failed,
            "requests": said,
        },
        counts=not failed and run.closing is not None,
    )


def _content(sample: Sample, run: Run) -> dict[str, Any]:
    named = {"question": sample.prompt.id, "repeat": sample.prompt.repeat}
    return named | answer.content(sample, run, timed=True)


def _lines(said: list[dict[str, Any]], failed: int, *, whole: bool) -> Iterator[str]:
    for one in said:
        if whole:
            yield f"{one['question']}, repeat {one['repeat']}:"
            yield from answer.lines(one)
            continue
        times = ", ".join(f"{name} {value:.4g} s" for name, value in one["times"].items())
        told = "; ".join((answer.outcome(one), answer.counts(one), times or "no times"))
        yield f"  {one['question']}: {told}"
        if one["contradiction"]:
            yield f"    contradicts itself: {one['contradiction']}"
        for remark in one["remarks"]:
            yield f"    note: {remark}"
    yield f"{len(said) - failed} would count, {failed} would count as failed"
