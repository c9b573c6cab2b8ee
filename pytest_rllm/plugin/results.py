"""Turn a finding's verdicts into a pytest outcome and print the summary."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from ..baselines.compare import KNOWN
from ..baselines.format import BaselineError
from ..baselines.machines import MachineError
from ..engines.api_snapshot import SnapshotError
from ..engines.base import EngineError, RefusesFormat
from ..records.run import RecordError
from ..records.spool import ClientError
from ..reports import FORMATS
from ..reports.layout import wrapped
from ..reports.page_marks import PageError
from ..reports.row import Row
from ..reports.terminal import WIDTH, case_text, last_lines, summary
from ..session.case import ClaimsNothing, FindingCase
from ..session.comparison import CannotMeasure
from ..session.session import DecisionKnown, Session
from ..session.sources import EngineDied
from ..session.upgrade import CANNOT_TELL
from .findings import MARK, title_of
from .fixtures import ROWS, session_of
from .options import upgrading, value

ERRORS = (EngineError, RecordError, BaselineError, MachineError, SnapshotError, ClientError)
"""Their messages are whole sentences: a traceback would hide them."""


@contextmanager
def outcome_of(item: pytest.Item, case: FindingCase, name: str) -> Iterator[None]:
    """Run a finding's body, then end the test as its verdicts and baselines say.

    Args:
        item: the test.
        case: what its fixtures measure with.
        name: of the user property that carries the case's row.
    """
    session = case.session
    if session.planning:
        with _planned(item, case):
            yield
        return
    try:
        yield
        row = case.conclude()
    except CannotMeasure as lacking:
        row = case.conclude(not_measured=str(lacking))
    except DecisionKnown as known:
        session.left_out[item.nodeid] = str(known)
        pytest.skip(str(known))
    except ClaimsNothing as nothing:
        raise pytest.fail.Exception(str(nothing), pytrace=False) from None
    except RefusesFormat as error:
        why = case.refused(str(error))
        if why is None:
            _end_in_error(item, case, name, error)
        row = case.conclude(not_measured=why)
    except ERRORS as error:
        _end_in_error(item, case, name, error)
    except (Exception, pytest.fail.Exception) as error:
        if case.judgements:  # what was decided before a later line failed is told, and stays
            _keep(item, name, _error_row(case, error))
        raise
    finally:
        session.say.clear()
    _keep(item, name, row)
    _end(item, row, session.inconclusive)


def end_as_before(item: pytest.Item, row: Row) -> None:
    """End a test that is run again, though it had been decided, as it ended then."""
    _end(item, row, session_of(item.config).inconclusive)


def _end_in_error(item: pytest.Item, case: FindingCase, name: str, error: Exception) -> NoReturn:
    _keep(item, name, _error_row(case, error))
    item.user_properties.append(("rllm_error", True))
    raise pytest.fail.Exception(str(error), pytrace=False) from None


@contextmanager
def _planned(item: pytest.Item, case: FindingCase) -> Iterator[None]:
    """The body of a finding in a session that only plans: it measures nothing."""
    item.user_properties.append(("rllm_planned", True))
    try:
        yield
    except CannotMeasure as lacking:
        case.session.costs.plan.not_measured[title_of(item)] = str(lacking)


def _end(item: pytest.Item, row: Row, inconclusive: str) -> None:
    match row.outcome:
        case "pass":
            return
        case "skip":
            pytest.skip("; ".join(row.notes))
        case "xfail":
            known = [
                judged.claim
                for judged, status in zip(row.verdicts, row.statuses, strict=True)
                if status == KNOWN
            ]
            pytest.xfail(f"{KNOWN}: {'; '.join(known)}")
        case "inconclusive" if inconclusive == "skip":
            pytest.skip("inconclusive: " + "; ".join(row.explanations() or ["undecided"]))
        case "invalid":
            item.user_properties.append(("rllm_error", True))
    pytest.fail(case_text(row), pytrace=False)


def exit_status(pytest_session: pytest.Session, session: Session) -> int:
    """0, 1 or CANNOT_TELL as the gate decides; what else went wrong keeps its own status."""
    passed = pytest_session.exitstatus == pytest.ExitCode.OK
    if session.planning:
        return int(pytest_session.exitstatus)
    if session.broken and passed:
        pytest_session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if not upgrading(pytest_session.config) or pytest_session.config.option.collectonly:
        return int(pytest_session.exitstatus)
    titles = {item.nodeid: title_of(item) for item in pytest_session.items}
    left_out = {titles.get(nodeid, nodeid): why for nodeid, why in session.left_out.items()}
    session.decide(_silent(pytest_session.items, session), left_out)
    if pytest_session.exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return int(pytest_session.exitstatus)
    if session.decision is None:
        return int(pytest.ExitCode.TESTS_FAILED)
    if session.decision.word == "cannot tell yet":
        return CANNOT_TELL
    failed = session.decision.word != "safe"
    return int(pytest.ExitCode.TESTS_FAILED if failed else pytest_session.exitstatus)


def _silent(items: Sequence[pytest.Item], session: Session) -> list[str]:
    """Titles of the cases that have neither a row nor a reason to be left out."""
    asked = {
        item.nodeid: title_of(item)
        for item in items
        if item.get_closest_marker(MARK) and item.nodeid not in session.left_out
    }
    known = {row.title for row in session.rows}
    return [title for title in asked.values() if title not in known]


def _keep(item: pytest.Item, name: str, row: Row) -> None:
    session_of(item.config).rows.append(row)
    item.stash.setdefault(ROWS, []).append(row)
    item.user_properties.append((name, row.dumped()))


def _error_row(case: FindingCase, error: BaseException) -> Row:
    judgements = case.judgements
    return Row(
        finding=case.finding,
        case=case.case,
        sentence=case.sentence,
        cite=case.cite,
        outcome="error",
        judgements=judgements,
        statuses=tuple(judged.verdict for one in judgements for judged in one.verdicts),
        notes=((str(error).splitlines() or [type(error).__name__])[0],),
        records=str(case.session.shown_records / case.folder),
        attempt=case.attempt,
        died=case.session.engines.label(error.engine) if isinstance(error, EngineDied) else "",
    )


def summarise(terminal: Any, dumped: Sequence[str]) -> None:
    """Print the table of findings, write the report that was asked for, say where records lie.

    Args:
        terminal: pytest's terminal reporter.
        dumped: the rows of all workers, each as one line of JSON.
    """
    session = session_of(terminal.config)
    width = terminal.config.get_terminal_writer().fullwidth
    if not terminal.isatty and "COLUMNS" not in os.environ:
        width = max(width, WIDTH)  # a log
    if session.planning:
        terminal.section("plan")
        for line in session.costs.plan_lines(width):
            terminal.write_line(line)
        for text in session.needs.lines():
            for line in wrapped(text, width):
                terminal.write_line(line)
        return
    report = session.report([Row.from_json(json.loads(text)) for text in dumped])
    terminal.section("findings")
    for line in summary(report, width, verbose=terminal.verbosity > 0):
        terminal.write_line(line)
    for path in session.baselines.written:
        terminal.write_line(f"baseline {'written' if path.exists() else 'removed'}: {path}")
    for path in session.outdated:
        terminal.write_line(f"baseline of schema 1 (--rllm-baseline=update converts it): {path}")
    for change in session.drifted:
        terminal.write_line(f"since the first baseline: {change}")
    for case in session.unused:
        terminal.write_line(
            f"in the baselines without a test (--rllm-baseline=trim drops it): {case}"
        )
    if session.broken:
        terminal.write_line(f"the stored baselines could not be checked: {session.broken}")
    asked = value(terminal.config, "report")
    if asked:
        form, _, file = asked.partition(":")
        try:
            FORMATS.load(form)(report, Path(file))
            terminal.write_line(f"report: {file}")
        except (OSError, PageError) as error:
            terminal.write_line(f"no report was written to {file}: {error}", red=True)
    for line in last_lines(report, width):
        terminal.write_line(line)
