"""What conformance suites found, as files and as the table on the page of engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_rllm import EngineConformance
from pytest_rllm.__main__ import main
from pytest_rllm.reports.engine_table import (
    BEGIN,
    END,
    ROWS,
    Found,
    read,
    table,
)
from pytest_rllm.reports.page_marks import PageError, in_page

ROOT = Path(__file__).parent.parent
PAGE, FOLDER = ROOT / "docs" / "engines.md", ROOT / "docs" / "conformance"
ARGS = ("-p", "no:cacheprovider", "-p", "no:randomly", "--rllm-conformance", "found")
SUITE = """
import pytest
from pytest_rllm import EngineConformance

class TestMock(EngineConformance):
    engine = "mock"
    faults = {"test_its_server_is_healthy": "it is said to be ill"}

    def test_what_fails(self):
        assert 1 == 2, "one is not two"

    def test_what_needs_a_gpu(self):
        pytest.skip("there is no GPU")
"""
SOME = "role or healthy or seed or what_fails or what_needs"


def found_by(pytester: pytest.Pytester, suite: str, *args: str, workers: int = 0) -> Path:
    """The folder of what a session found of a suite."""
    pytester.makepyfile(suite)
    spread = ("-n", str(workers)) if workers else ()
    pytester.runpytest_subprocess(*ARGS, *spread, *args)
    return pytester.path / "found"


def one(engine: str = "mock", **tests: Any) -> Found:
    outcomes = {name: {"outcome": o, "reason": r} for name, (o, r) in tests.items()}
    return Found(engine, engine, "1.0", "CPU", "cpu-x-2c", "2026-11-27", outcomes)


# ---- the files


@pytest.mark.parametrize("workers", [0, 2])
def test_a_session_writes_what_each_suite_found(pytester: pytest.Pytester, workers: int) -> None:
    """Also where workers share the tests of one class."""
    folder = found_by(pytester, SUITE, "-k", SOME, workers=workers)
    assert [file.name for file in folder.iterdir()] == ["mock.json"]
    content = json.loads((folder / "mock.json").read_text())
    tests = content.pop("tests")
    assert content.pop("date")[:2] == "20"
    assert content.pop("hardware").startswith("cpu-")
    assert content == {
        "schema": 1,
        "engine": "mock",
        "distribution": "mock",
        "version": "mock",
        "on": "CPU",
    }
    failed = tests.pop("test_what_fails")
    assert failed["outcome"] == "failed"
    assert failed["reason"].startswith("AssertionError: one is not two")
    ill = tests.pop("test_its_server_is_healthy")
    assert ill == {"outcome": "failed", "reason": "[XPASS(strict)] it is said to be ill"}
    assert tests == {
        "test_the_role_is_no_token": {"outcome": "passed"},
        "test_a_seed_decides_what_is_sampled": {"outcome": "passed"},
        "test_what_needs_a_gpu": {"outcome": "skipped", "reason": "there is no GPU"},
    }


def test_a_known_fault_is_expected_and_said(pytester: pytest.Pytester) -> None:
    suite = SUITE.replace("test_its_server_is_healthy", "test_what_fails")
    folder = found_by(pytester, suite, "-k", "what_fails")
    tests = json.loads((folder / "mock.json").read_text())["tests"]
    assert tests == {"test_what_fails": {"outcome": "skipped", "reason": "it is said to be ill"}}


def test_two_suites_of_one_engine_are_two_files(pytester: pytest.Pytester) -> None:
    again = SUITE + "\nclass TestAgain(TestMock):\n    pass\n"
    folder = found_by(pytester, again, "-k", "what_needs")
    assert sorted(file.name for file in folder.iterdir()) == [
        "mock-testagain.json",
        "mock-testmock.json",
    ]


def test_a_session_without_a_suite_says_so(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    said = pytester.runpytest_inprocess(*ARGS).stdout.str()
    assert "no conformance suite ran, nothing was written" in said
    assert not (pytester.path / "found").exists()


def test_nobody_who_does_not_ask_gets_a_file(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SUITE)
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "-k", "what_needs")
    assert not list(pytester.path.glob("**/*.json"))


# ---- the table


def test_every_test_of_the_suite_has_its_row_once() -> None:
    """But for the parameters, which a row names."""
    named = [test for tests in ROWS.values() for test in tests]
    assert len(named) == len(set(named))
    tests = {name for name in dir(EngineConformance) if name.startswith("test_")}
    assert {name.partition("[")[0] for name in named} == tests


def test_a_cell_says_yes_no_failed_or_not_run() -> None:
    healthy, version = ROWS["tells its version and its health"]
    for tests, cell in (
        ({healthy: ("passed", ""), version: ("passed", "")}, ("yes", "")),
        ({healthy: ("passed", ""), version: ("skipped", "why")}, ("no", "why")),
        ({healthy: ("failed", "a"), version: ("skipped", "b")}, ("failed", "a")),
        ({healthy: ("passed", "")}, ("not run", "")),
    ):
        assert one(**tests).of((healthy, version)) == cell


def test_long_reasons_are_footnotes_and_the_same_one_is_told_once() -> None:
    (seeds,), (lengths, _) = ROWS["seeds"], ROWS["answers of a fixed length"]
    long = "the engine has no such thing, and never had <any>"
    shown = table(
        [
            one("first", **{seeds: ("skipped", long), lengths: ("skipped", "no")}),
            one("second", **{seeds: ("skipped", long), lengths: ("failed", long)}),
        ]
    )
    lines = {line.split("|")[1].strip(): line for line in shown.splitlines() if "|" in line}
    cells = {name: [c.strip() for c in line.split("|")[2:4]] for name, line in lines.items()}
    assert cells["capability"] == ["first 1.0, CPU", "second 1.0, CPU"]
    assert cells["seeds"] == ["no (1)", "no (1)"]
    assert cells["answers of a fixed length"] == ["no: no", "failed (1)"]
    assert shown.count("1. the engine has no such thing, and never had &lt;any>") == 1
    assert shown.endswith("second 1.0, CPU: 2026-11-27 on `cpu-x-2c`.")


def test_the_command_prints_the_table_or_writes_it_into_a_page(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = found_by(pytester, SUITE, "-k", SOME)
    capsys.readouterr()
    assert main(["conformance", str(folder)]) == 0
    shown = capsys.readouterr().out.strip()
    assert "| capability" in shown
    page = pytester.path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        assert main(["conformance", str(folder), "--page", str(page)]) == 0
        assert page.read_text() == f"before\n{BEGIN}\n\n{shown}\n\n{END}\nafter\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no file of --rllm-conformance"),
        ('{"schema": 9}', "is of schema 9"),
        ('{"schema": 1, "engine": "x"}', "is no file of --rllm-conformance"),
        ("[]", "is no file of --rllm-conformance"),
    ],
)
def test_a_file_that_is_none_is_said(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.json").write_text(text)
    assert main(["conformance", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_an_empty_folder_and_a_page_without_marks_are_said(tmp_path: Path) -> None:
    with pytest.raises(PageError, match=r"there is no NAME\.json in .*: run"):
        read(tmp_path)
    for page in ("", BEGIN, f"{END} {BEGIN}", f"{BEGIN} {END} {END}"):
        with pytest.raises(PageError, match="has not one line"):
            in_page(page, "table", (BEGIN, END))


# ---- the page of engines


def test_the_page_shows_what_the_files_say() -> None:
    """``make conformance`` writes both; neither is written by hand."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == in_page(page, table(read(FOLDER)), (BEGIN, END))


def test_the_engines_of_the_page_have_run_the_whole_suite() -> None:
    tests = {test for tests in ROWS.values() for test in tests}
    for found in read(FOLDER):
        assert found.tests.keys() == tests, found.title
        assert found.engine != "mock"
