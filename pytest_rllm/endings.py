"""How findings end in pytest's words, and what is told of them when all have ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from . import reports
from .baselines import BaselineError
from .engines.base import EngineError, MetricMissing
from .findings import case_id, finding_id
from .fixtures import bench_of
from .options import value
from .reports.row import Row
from .reports.table import of_one
from .reports.table import render as render_table
from .samples import RecordError
from .trials import Trial

ERRORS = (EngineError, RecordError, BaselineError, MetricMissing)
"""Said in a sentence of their own: a traceback would hide it."""


@contextmanager
def ended(item: pytest.Item, trial: Trial | None, name: str) -> Iterator[None]:
    """Run a finding's body, then end it as its verdicts and baselines say."""
    bench = bench_of(item.config)
    try:
        yield
        if trial is None:
            pytest.fail("the finding compared nothing: call compare(...).shows(...)", pytrace=False)
        row = trial.conclude()
    except ERRORS as error:
        _tell(item, name, _broken(item, trial, str(error)))
        item.user_properties.append(("rllm_error", True))
        pytest.fail(str(error), pytrace=False)
    finally:
        bench.say.clear()
    _tell(item, name, row)
    _end(item, row, bench.inconclusive)


def _end(item: pytest.Item, row: Row, inconclusive: str) -> None:
    match row.ending:
        case "pass":
            return
        case "xfail":
            pytest.xfail(f"known deviation\n{of_one(row)}")
        case "inconclusive" if inconclusive == "skip":
            pytest.skip("inconclusive: " + "; ".join(row.reasons() or ["undecided"]))
        case "invalid":
            item.user_properties.append(("rllm_error", True))
    pytest.fail(of_one(row), pytrace=False)


def _tell(item: pytest.Item, name: str, row: Row) -> None:
    item.user_properties.append((name, row.to_json()))


def _broken(item: pytest.Item, trial: Trial | None, why: str) -> Row:
    return Row(
        finding=finding_id(item),
        case=case_id(item),
        sentence=trial.sentence if trial else "",
        cite=trial.cite if trial else "",
        ending="error",
        claims=[],
        standings=[],
        notes=[why.splitlines()[0]],
        records=str(trial.bench.records / trial.folder) if trial else "",
    )


def summarise(terminal: Any, name: str) -> None:
    """Print the table of findings, write the report that was asked for, say where records lie."""
    told = [
        Row.from_json(text)
        for kind in terminal.stats.values()
        for report in kind
        for key, text in getattr(report, "user_properties", ())
        if key == name and getattr(report, "when", "") == "call"
    ]
    if not told:
        return
    rows = sorted(
        {(r.finding, r.case): r for r in told}.values(), key=lambda r: (r.finding, r.case)
    )
    bench = bench_of(terminal.config)
    terminal.section("findings")
    terminal.write_line(render_table(rows))
    terminal.write_line("")
    counts = {e: sum(r.ending == e for r in rows) for e in dict.fromkeys(r.ending for r in rows)}
    terminal.write_line(", ".join(f"{n} {ending}" for ending, n in counts.items()))
    terminal.write_line(f"records: {bench.records} (judge them again: --rllm-replay)")
    for path in bench.baselines.written:
        terminal.write_line(f"baseline written: {path}")
    report = value(terminal.config, "report")
    if report:
        form, _, file = report.partition(":")
        Path(file).write_text(reports.render_named(form)(rows), encoding="utf-8")
        terminal.write_line(f"report: {file}")
