"""How findings end in pytest's words, and what is told of them when all have ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .. import reports
from ..baselines.machines import MachineError
from ..baselines.store import BaselineError
from ..engines.base import EngineError, MetricMissing
from ..records.run import RecordError
from ..records.spool import ClientError
from ..reports.row import Row
from ..reports.table import of_one
from ..reports.table import render as render_table
from ..session.case import ClaimsNothing, Trial
from ..session.session import Bench
from ..session.upgrade import CANNOT_TELL, Answer, answer
from .findings import MARK, case_id, finding_id
from .fixtures import bench_of
from .options import upgrading, value

KNOWN = "known deviation"
ERRORS = (EngineError, RecordError, BaselineError, MachineError, MetricMissing, ClientError)
"""Said in a sentence of their own: a traceback would hide it."""


@contextmanager
def ended(item: pytest.Item, trial: Trial, name: str) -> Iterator[None]:
    """Run a finding's body, then end it as its verdicts and baselines say."""
    bench = trial.bench
    try:
        yield
        row = trial.conclude()
    except ClaimsNothing as nothing:
        raise pytest.fail.Exception(str(nothing), pytrace=False) from None
    except ERRORS as error:
        _tell(item, name, _broken(trial, str(error)))
        item.user_properties.append(("rllm_error", True))
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    finally:
        bench.say.clear()
    _tell(item, name, row)
    _end(item, row, bench.inconclusive)


def _end(item: pytest.Item, row: Row, inconclusive: str) -> None:
    match row.ending:
        case "pass":
            return
        case "xfail":
            known = [
                c["claim"] for c, s in zip(row.claims, row.standings, strict=True) if s == KNOWN
            ]
            pytest.xfail(f"{KNOWN}: {'; '.join(known)}")
        case "inconclusive" if inconclusive == "skip":
            pytest.skip("inconclusive: " + "; ".join(row.reasons() or ["undecided"]))
        case "invalid":
            item.user_properties.append(("rllm_error", True))
    pytest.fail(of_one(row), pytrace=False)


def exit_status(session: pytest.Session, bench: Bench) -> int:
    """0, 1 or CANNOT_TELL as the answer on an upgrade says; what else went wrong keeps its own."""
    if bench.broken and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if not upgrading(session.config):
        return int(session.exitstatus)
    bench.answer = _answer(session.items, bench)
    if session.exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return int(session.exitstatus)
    word = bench.answer.word
    if word == "cannot tell yet":
        return CANNOT_TELL
    return int(session.exitstatus) if word == "safe" else int(pytest.ExitCode.TESTS_FAILED)


def _answer(items: Sequence[pytest.Item], bench: Bench) -> Answer:
    asked = {
        item.nodeid: f"{finding_id(item)} [{case_id(item)}]"
        for item in items
        if item.get_closest_marker(MARK) and item.nodeid not in bench.left_out
    }
    told = {row.title for row in bench.rows}
    return answer(bench.rows, [title for title in asked.values() if title not in told])


def _tell(item: pytest.Item, name: str, row: Row) -> None:
    bench_of(item.config).rows.append(row)
    item.user_properties.append((name, row.to_json()))


def _broken(trial: Trial, why: str) -> Row:
    return Row(
        finding=trial.finding,
        case=trial.case,
        sentence=trial.sentence,
        cite=trial.cite,
        ending="error",
        claims=[],
        standings=[],
        notes=[why.splitlines()[0]],
        records=str(trial.bench.shown_records / trial.folder),
    )


def summarise(terminal: Any, told: Sequence[str]) -> None:
    """Print the table of findings, write the report that was asked for, say where records lie."""
    rows = sorted(map(Row.from_json, told), key=lambda row: (row.finding, row.case))
    bench = bench_of(terminal.config)
    terminal.section("findings")
    for line in bench.said:
        terminal.write_line(line)
    if rows:
        terminal.write_line(render_table(rows))
        terminal.write_line("")
    counts = {e: sum(r.ending == e for r in rows) for e in dict.fromkeys(r.ending for r in rows)}
    terminal.write_line(", ".join(f"{n} {ending}" for ending, n in counts.items()))
    if bench.answer is not None and bench.builds is not None:
        terminal.write_line("")
        for line in bench.answer.lines(bench.builds):
            terminal.write_line(line)
    terminal.write_line(f"records: {bench.shown_records} (judge them again: --rllm-replay=PATH)")
    for path in bench.baselines.written:
        terminal.write_line(f"baseline {'written' if path.exists() else 'removed'}: {path}")
    for said in bench.drifted:
        terminal.write_line(f"since the first baseline: {said}")
    for said in bench.unused:
        terminal.write_line(
            f"in the baselines, and no test stands for it (--rllm-baseline=trim drops it): {said}"
        )
    if bench.broken:
        terminal.write_line(f"the stored baselines could not be looked through: {bench.broken}")
    report = value(terminal.config, "report")
    if report:
        form, _, file = report.partition(":")
        Path(file).write_text(reports.render_named(form)(rows), encoding="utf-8")
        terminal.write_line(f"report: {file}")
