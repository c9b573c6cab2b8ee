"""The page of findings: what sessions add to its files, and that it says what they say."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.synthetic import MATCH, SHARE, judged, judgement

from pytest_rllm.__main__ import main
from pytest_rllm.reports.findings_table import BEGIN, END, Found, read, table, write
from pytest_rllm.reports.page_marks import PageError, in_page
from pytest_rllm.reports.row import Row
from pytest_rllm.reports.session_report import Decision, SessionReport
from pytest_rllm.verdicts.claims import Verdict, higher, pp
from pytest_rllm.verdicts.judgement import Judgement

ROOT = Path(__file__).parent.parent
PAGE, FOLDER = ROOT / "docs" / "findings.md", ROOT / "docs" / "findings"
FINDINGS = ROOT / "tests_findings"


HERE = {**MATCH, "engine": "vllm"}


def claimed(verdict: Verdict, match: dict[str, str] = HERE) -> Judgement:
    """What a comparison shows whose one claim ends so."""
    claim = higher(SHARE, by=pp(5))
    return judgement((claim, judged(claim, verdict)), match=match)


def row(outcome: str = "pass", *, case: str = "tiny", **about: Any) -> Row:
    said: dict[str, Any] = {"finding": "kv-quant", "sentence": "Small caches help.", "cite": "c"}
    shown = claimed("holds" if outcome == "pass" else "refuted")
    statuses = tuple(one.verdict for one in shown.verdicts)
    said |= {"pair": "tiny", "judgements": (shown,), "statuses": statuses}
    return Row(case=case, outcome=outcome, **said | about)  # type: ignore[arg-type]


SKIPPED = row("skip", judgements=(), statuses=(), notes=("it lacks | AVX-512",))


def kept(file: Path, *rows: Row, **about: Any) -> Found:
    write(SessionReport(rows, **about), file)
    (found,) = read(file.parent)
    return found


def test_a_session_adds_to_what_was_known(tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    kept(file, row(), row(case="tiny-draft"))
    found = kept(file, row("xfail", case="tiny-draft"), row(case="tiny-ngram"))
    assert (found.engine, found.hardware) == (HERE["engine"], HERE["hardware"])
    assert {one.parameters: one.outcome for one in found.shown.values()} == {
        "": "pass",
        "draft": "xfail",
        "ngram": "pass",
    }


def test_what_a_session_could_not_judge_or_measure_does_not_take_the_place_of_what_was(
    tmp_path: Path,
) -> None:
    file = tmp_path / "one.json"
    before = kept(file, row())
    for worse in (row("invalid"), row("error"), SKIPPED):
        assert kept(file, worse, row(case="other")).shown["kv-quant/tiny"] == replace(
            before.shown["kv-quant/tiny"]
        )


def test_a_case_that_was_never_measured_has_its_reason(tmp_path: Path) -> None:
    shown = table([kept(tmp_path / "one.json", SKIPPED, row(case="tiny-draft"))])
    assert "not measured (1)" in shown
    assert "1. it lacks \\| AVX-512" in shown


@pytest.mark.parametrize(
    ("rows", "about", "why"),
    [
        ((SKIPPED,), {}, "measured nothing"),
        ((row(),), {"decision": Decision("safe", "a", "b", ())}, "findings alone"),
    ],
)
def test_other_sessions_are_no_part_of_it(
    tmp_path: Path, rows: tuple[Row, ...], about: dict[str, Any], why: str
) -> None:
    with pytest.raises(PageError, match=why):
        write(SessionReport(rows, **about), tmp_path / "one.json")
    assert not (tmp_path / "one.json").exists()


@pytest.mark.parametrize("key", ["engine", "hardware"])
def test_another_engine_or_machine_is_refused(tmp_path: Path, key: str) -> None:
    file = tmp_path / "one.json"
    kept(file, row())
    content = json.loads(file.read_text()) | {key: "other"}
    file.write_text(json.dumps(content))
    with pytest.raises(PageError, match=r"is of .*other"):
        write(SessionReport((row(),)), file)


def test_numbers_of_a_mock_are_no_part_of_it(tmp_path: Path) -> None:
    mocked = claimed("holds", MATCH)
    with pytest.raises(PageError, match="a real engine"):
        write(SessionReport((row(judgements=(mocked,)),)), tmp_path / "one.json")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": 99}', '{"schema": 1, "shown": [1]}'])
def test_a_file_of_another_kind_is_named(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.json").write_text(text)
    assert main(["findings", str(tmp_path)]) == 2
    assert "odd.json" in capsys.readouterr().err


def test_a_finding_that_only_a_gpu_can_measure_stands_for_itself_once(tmp_path: Path) -> None:
    needs = [
        row("skip", case=case, sentence=text, judgements=(), statuses=(), notes=("needs a GPU",))
        for case, text in (("7b", "Of 7B."), ("14b", "Of 7B."), ("32b", "Small caches help."))
    ]
    found = kept(tmp_path / "one.json", row(), without_gpu=tuple(needs))
    assert sorted(found.shown) == ["kv-quant/7b", "kv-quant/tiny"]
    assert found.shown["kv-quant/7b"].notes == ("needs a GPU",)


def test_engines_stand_side_by_side(tmp_path: Path) -> None:
    one = kept(tmp_path / "one.json", row())
    other = replace(one, engine="other", shown={})
    lines = table([one, other]).splitlines()
    (summary,) = [line for line in lines if line.startswith("| [kv-quant]")]
    assert [cell.strip() for cell in summary.split("|")[2:4]] == ["holds", "not asked"]
    assert any("**holds**" in line and "not asked" in line for line in lines)


# ---- the page of this repository


def sentences() -> Iterator[str]:
    """Of all findings in tests_findings."""
    for file in sorted(FINDINGS.glob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "finding":
                yield ast.literal_eval(node.args[0])


def test_the_page_shows_what_the_files_say() -> None:
    """``make findings-page`` writes it; it is not written by hand."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == in_page(page, table(read(FOLDER)), (BEGIN, END))


def test_every_finding_has_its_place_on_the_page_and_no_other_has() -> None:
    """A sentence that has changed, or that nobody has asked of any engine, is named here."""
    on_page = {one.sentence for each in read(FOLDER) for one in each.shown.values()}
    assert on_page == set(sentences())
