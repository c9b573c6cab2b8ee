"""One finding on the real engine, and everything that can be asked of its records afterwards."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are looked for whole."""
    monkeypatch.setenv("COLUMNS", "1000")


FINDING = """
from pytest_rllm import (
    ACCURACY, Serving, finding, higher, lower, not_lower, pp
)

@finding("Thinking helps, and takes tokens.", cite="this test")
def test_thinking(compare, dataset, workload):
    compare(
        Serving(model="reasoning"),
        against=Serving(model="plain"),
        prompts=dataset("easy", "medium", n=24),
        workload=workload.closed(8),
        blocks=3,
    ).shows(CLAIMS)
"""
HOLDS = "higher(ACCURACY, by=pp(5)), not_lower(ACCURACY, by_more_than=pp(1))"
NEVER = "lower(ACCURACY, by=pp(5))"
ARGS = ("-p", "no:cacheprovider", "-p", "no:randomly", "--rllm-model", "tiny")


def write(folder: Path, claims: str = HOLDS) -> None:
    (folder / "test_thinking.py").write_text(FINDING.replace("CLAIMS", claims))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess, Path]:
    """The finding measured on real vLLM in a process of its own: the run, and its folder."""
    folder = tmp_path_factory.mktemp("live")
    write(folder)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *ARGS, "--rllm-report", "json:live.json"],
        cwd=folder,
        env=os.environ | {"CI": "true"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return done, folder


@pytest.fixture
def recorded(live: tuple[subprocess.CompletedProcess, Path]) -> Path:
    return live[1] / ".rllm" / "records" / "latest"


@pytest.fixture
def replay(pytester: pytest.Pytester, recorded: Path, monkeypatch: pytest.MonkeyPatch):
    """Judge the records again with other claims and options; no engine is started."""
    monkeypatch.delenv("CI", raising=False)

    def again(*args: str, claims: str = HOLDS, records: Path = recorded) -> pytest.RunResult:
        write(pytester.path, claims)
        return pytester.runpytest_inprocess(*ARGS, f"--rllm-replay={records}", *args)

    return again


def stored(pytester: pytest.Pytester) -> Path:
    (path,) = (pytester.path / "baselines").glob("*/vllm/thinking.json")
    return path


def test_a_finding_is_measured_judged_and_told(live) -> None:
    done, folder = live
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
    assert "accuracy higher by 5 pp" in done.stdout
    assert "holds (paper)" in done.stdout
    assert "\r" not in done.stdout
    records = folder / ".rllm" / "records" / "latest" / "thinking" / "tiny" / "0"
    assert len(list(records.glob("*.jsonl"))) == 6
    logs = list((folder / ".rllm" / "records" / "latest" / "servers").glob("*.log"))
    assert len(logs) == 2, "each serving is started once"


def test_a_replay_gives_the_same_verdict_bit_for_bit(live, replay, pytester, recorded) -> None:
    before = len(list((recorded / "servers").iterdir()))
    replay("--rllm-report", "json:again.json").assert_outcomes(passed=1)
    then = json.loads((live[1] / "live.json").read_text())
    again = json.loads((pytester.path / "again.json").read_text())
    assert again.pop("records") != then.pop("records")
    assert (again.pop("replayed"), then.pop("replayed")) == (True, False)
    ((now,), (first,)) = (told["rows"] for told in (again, then))
    assert now.pop("records") != first.pop("records")
    assert again == then
    assert len(list((recorded / "servers").iterdir())) == before


def test_a_margin_that_cannot_hold_fails_with_the_table_of_claims(replay) -> None:
    result = replay(claims=f"{HOLDS}, higher(ACCURACY, by=pp(99))")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*Thinking helps, and takes tokens.*",
            "A: reasoning on * B: plain on *",
            "*accuracy higher by 5*",
        ]
    )
    result.stdout.fnmatch_lines(["*accuracy higher by 99 pp * refuted"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_baseline_is_created_and_holds(replay, pytester) -> None:
    result = replay("--rllm-baseline", "create")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["baseline written: *thinking.json"])
    text = stored(pytester).read_text()
    assert text.startswith('{\n "schema": 3,')
    result = replay()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*accuracy higher by 5 pp * holds"])
    assert stored(pytester).read_text() == text


def test_a_line_deleted_from_a_baseline_is_missed(replay, pytester) -> None:
    replay("--rllm-baseline", "create")
    path = stored(pytester)
    lines = path.read_text().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if '"1/a/accuracy": [' in line)
    del lines[at]
    path.write_text("".join(lines))
    result = replay()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*not in the baseline: 1/a/accuracy (reasoning on easy+medium)*create*"]
    )
    replay("--rllm-baseline", "create").assert_outcomes(passed=1)
    assert '"1/a/accuracy": [' in path.read_text()


def test_an_entry_that_nobody_claims_is_told_and_trimmed(replay, pytester) -> None:
    replay("--rllm-baseline", "create", claims="higher(ACCURACY, by=pp(5))")
    path = stored(pytester)
    content = json.loads(path.read_text())
    content["cases"]["tiny"]["levels"]["1/a/goodput"] = [1.0, 0.1]
    path.write_text(json.dumps(content))
    result = replay(claims="higher(ACCURACY, by=pp(5))")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*no longer claimed: 1/a/goodput (reasoning on easy+medium)*trim*"]
    )
    replay("--rllm-baseline", "trim", claims="higher(ACCURACY, by=pp(5))").assert_outcomes(passed=1)


def test_a_known_deviation_is_expected_until_its_margin_changes(replay, pytester) -> None:
    replay(claims=NEVER).assert_outcomes(failed=1)
    replay("--rllm-baseline", "create", claims=NEVER).assert_outcomes(xfailed=1)
    result = replay("-rx", claims=NEVER)
    result.assert_outcomes(xfailed=1)
    result.stdout.fnmatch_lines(["*known deviation: accuracy lower by 5 pp"])
    result = replay(claims=NEVER.replace("pp(5)", "pp(6)"))
    result.assert_outcomes(failed=1)


def test_what_held_and_is_refuted_now_is_a_regression(replay, pytester) -> None:
    replay("--rllm-baseline", "create", claims=NEVER)
    path = stored(pytester)
    content = json.loads(path.read_text())
    (key,) = content["cases"]["tiny"]["effects"]
    content["cases"]["tiny"]["effects"][key] = [-50.0, -60.0, -40.0, 24]
    content["cases"]["tiny"]["deviations"] = []
    path.write_text(json.dumps(content))
    result = replay(claims=NEVER)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*accuracy lower by 5 pp * regression"])


def test_a_baseline_of_another_engine_version_is_stale(replay, pytester) -> None:
    replay("--rllm-baseline", "create")
    path = stored(pytester)
    path.write_text(path.read_text().replace('"engine_version": "', '"engine_version": "9.'))
    result = replay()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*stale baseline: engine_version is *the baseline's is 9.*"])
    replay("--rllm-baseline", "fix").assert_outcomes(passed=1)
    replay().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema": 99, "cases": {}}', "*schema 99*update pytest-rllm*"),
        ('{"schema": 2,\n "cases": {', "*thinking.json:2: broken JSON*"),
        (
            '{"schema": 2, "finding": "thinking", "cases": {"tiny": {"odd": 1}}}',
            "*not a baseline*odd*",
        ),
    ],
)
def test_an_unusable_baseline_is_an_error_not_a_verdict(replay, pytester, text, message) -> None:
    replay("--rllm-baseline", "create")
    stored(pytester).write_text(text)
    result = replay()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])


def test_an_undecided_finding_skips_or_fails_as_told(replay, monkeypatch) -> None:
    """No 24 questions can tell an effect of theirs from one that is a hair away."""
    result = replay("--rllm-report", "json:now.json")
    (row,) = json.loads(Path("now.json").read_text())["rows"]
    estimate = row["judgements"][0]["verdicts"][0]["estimate"]
    close = f"higher(ACCURACY, by=pp({100 * estimate - 0.5:.3f}))"
    result = replay(claims=close)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*the effect lies on the margin: it would take * more questions*"])
    replay("--rllm-inconclusive", "fail", claims=close).assert_outcomes(failed=1)
    monkeypatch.setenv("CI", "true")
    replay(claims=close).assert_outcomes(failed=1)
    replay("--rllm-inconclusive", "skip", claims=close).assert_outcomes(skipped=1)


def test_a_test_that_asks_for_something_else_is_not_judged_on_these_records(
    replay, pytester, recorded
) -> None:
    write(pytester.path)
    path = pytester.path / "test_thinking.py"
    path.write_text(path.read_text().replace("closed(8)", "closed(4)"))
    result = pytester.runpytest_inprocess(*ARGS, f"--rllm-replay={recorded}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*recorded with fingerprint*record it anew*"])


def test_a_record_cut_short_is_invalid_and_keeps_its_samples(replay, tmp_path, recorded) -> None:
    copy = tmp_path / "records"
    shutil.copytree(recorded, copy)
    path = copy / "thinking" / "tiny" / "0" / "00-A.jsonl"
    path.write_bytes(path.read_bytes()[:-200])
    result = replay(records=copy)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*reasoning on easy+medium: the record was cut short after * requests*"]
    )
    path.unlink()
    result = replay(records=copy)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*00-A.jsonl: cannot be read*"])
    result.stdout.no_fnmatch_line("*During handling of the above exception*")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (".shows(CLAIMS)", "", "*compare(...) without .shows(...)*"),
        ("CLAIMS", "", "*shows() needs at least one claim*"),
        ("blocks=3", "blocks=0", "*growing numbers of blocks*"),
        ("blocks=3", "blocks=99", "*24 questions cannot fill 99 blocks*"),
    ],
)
def test_a_finding_that_claims_nothing_fails(pytester, recorded, old, new, message) -> None:
    (pytester.path / "test_thinking.py").write_text(
        FINDING.replace(old, new).replace("CLAIMS", HOLDS)
    )
    result = pytester.runpytest_inprocess(*ARGS, f"--rllm-replay={recorded}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([message])


def test_workers_may_replay_but_not_measure(pytester, recorded) -> None:
    write(pytester.path)
    args = (*ARGS, "-n", "2")
    result = pytester.runpytest_subprocess(*args, f"--rllm-replay={recorded}")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*accuracy higher by 5 pp * holds (paper)"])
    result = pytester.runpytest_subprocess(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["ERROR: 2 workers on one engine would measure each other*"])


def test_reports_are_written_as_asked(replay, pytester) -> None:
    replay("--rllm-report", "markdown:out.md").assert_outcomes(passed=1)
    text = (pytester.path / "out.md").read_text()
    assert re.search(r"\| thinking \[tiny\] +\| accuracy higher by 5 pp +\| \+", text)
