"""Tests that another plugin runs again: a verdict stays, an error may be tried again."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles.mock_session import DeclaringEngine, mock_engines
from doubles.mock_source import RecordingMockSource

from pytest_rllm.engines.base import EngineError
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.records.header import Header
from pytest_rllm.records.run import Run
from pytest_rllm.session.sources import Place

RERUNS = """
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    \"\"\"As pytest-rerunfailures does: twice more, and only the last attempt counts.\"\"\"
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for left in (2, 1, 0):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        again = left and any(report.failed for report in reports)
        for report in reports:
            if again and report.failed:
                report.outcome = "rerun"
            item.ihook.pytest_runtest_logreport(report=report)
        if not again:
            break
        item._initrequest()
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True

def pytest_report_teststatus(report):
    if report.outcome == "rerun":
        return "rerun", "R", "RERUN"
"""
FINDING = """
import pytest
from pytest_rllm import ACCURACY, Prompt, Sampling, Serving, finding, higher, pp

QUESTIONS = [Prompt(f"q{i}", f"{i}?", "7", "easy", "math", f"q{i}") for i in range(16)]
tries = []

BEFORE
@finding("Thinking helps.", cite="this test")
def test_one(compare, workload):
    tries.append(1)
    compare(
        Serving(), against=Serving(model="plain"), prompts=QUESTIONS, workload=workload.closed(2),
        sampling=Sampling(64), blocks=2,
    ).shows(higher(ACCURACY, by=pp(5)))
    AFTER
"""


class Losing(RecordingMockSource):
    """Loses its engine at the first so many runs; answers rightly from the next on."""

    lost = 0

    def run(self, arm: Arm, path: Path, header: Header, place: Place) -> Run:
        if self.lost:
            self.lost -= 1
            raise EngineError("mock 1 died between two runs")
        return super().run(arm, path, header, place)


@pytest.fixture
def source(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Losing:
    monkeypatch.setenv("COLUMNS", "1000")
    pytester.makeconftest(RERUNS)
    made = Losing(
        lambda block, letter: (1.0, 8 * (letter == "A")), folder=pytester.path / "records"
    )
    mock_engines(monkeypatch, made, {"vllm": DeclaringEngine("a mock")})
    return made


def measured(
    pytester: pytest.Pytester, *args: str, before: str = "", after: str = ""
) -> pytest.RunResult:
    text = FINDING.replace("BEFORE", before).replace("AFTER", after)
    pytester.makepyfile(test_one=text)
    common = ("-p", "no:cacheprovider", "-p", "no:randomly", "--rllm-model=tiny")
    return pytester.runpytest_inprocess(*common, "--rllm-record=records", *args)


def test_an_error_is_tried_again_and_both_attempts_are_named(
    source: Losing, pytester: pytest.Pytester
) -> None:
    source.lost = 1
    result = measured(pytester)
    assert result.parseoutcomes() == {"passed": 1, "rerun": 1}
    result.stdout.fnmatch_lines(["one ?tiny?*", "one ?tiny?, attempt 2*"])
    assert "mock 1 died between two runs" in result.stdout.str()
    folders = sorted(path.name for path in (pytester.path / "records" / "one").iterdir())
    assert folders == ["tiny.attempt-2"], "the first one lost its engine before any record"
    replay = pytester.runpytest_inprocess(
        "-p", "no:cacheprovider", "--rllm-model=tiny", "--rllm-replay=records"
    )
    assert replay.parseoutcomes() == {"passed": 1}


def test_what_was_refuted_is_not_measured_until_it_passes(
    source: Losing, pytester: pytest.Pytester
) -> None:
    """The second time all answers would be as the claim wants them."""
    asked = []

    def value(block: int, letter: str) -> tuple[float, int]:
        asked.append(letter)
        return 1.0, 8 * ((letter == "A") == (len(asked) > 4))

    source.value = value
    result = measured(pytester)
    assert result.parseoutcomes() == {"failed": 1, "rerun": 2}
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert len(asked) == 4, "two blocks of two arms, once"
    assert "attempt 2" not in result.stdout.str()


def test_a_later_line_that_passes_the_second_time_hides_no_refutation(
    source: Losing, pytester: pytest.Pytester
) -> None:
    source.value = lambda block, letter: (1.0, 8 * (letter == "B"))
    result = measured(pytester, after="assert len(tries) > 1, 'a later line'")
    assert result.parseoutcomes() == {"failed": 1, "rerun": 2}
    assert "refuted" in result.stdout.str()


def test_what_passed_before_a_teardown_failed_is_not_measured_again(
    source: Losing, pytester: pytest.Pytester
) -> None:
    before = """
@pytest.fixture(autouse=True)
def closing():
    yield
    assert len(closed) > 0 or closed.append(1)

closed = []
"""
    result = measured(pytester, before=before)
    assert result.parseoutcomes() == {"passed": 2, "rerun": 1}
    assert len(source.order) == 4


def test_errors_that_stay_are_an_error(source: Losing, pytester: pytest.Pytester) -> None:
    source.lost = 9
    result = measured(pytester)
    assert result.parseoutcomes() == {"errors": 1, "rerun": 2}
    result.stdout.fnmatch_lines(["one ?tiny?*", "one ?tiny?, attempt 2*", "one ?tiny?, attempt 3*"])
