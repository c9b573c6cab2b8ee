"""A session that was stopped goes on where it was, with the servers of the mock engine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

FINDING = """
from pytest_rllm import ACCURACY, E2E, Sampling, Serving, finding, higher, pct, pp, unchanged

@finding("A plain model is less often right.", cite="none", tier="smoke")
def test_right(compare, dataset, workload):
    asked = {"prompts": dataset("hard", n=64), "workload": workload.closed(4)}
    compare(
        Serving(), against=Serving(model="plain"), sampling=Sampling(512), blocks=(8, 16), **asked
    ).shows(unchanged(ACCURACY, within=pp(10)))
"""
ARGS = ("-q", "-p", "no:cacheprovider", "--rllm-model=tiny", "--rllm-engine=mock")
TIMEOUT_S = 300


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLLM_CACHE", str(pytester.path / "cache"))
    monkeypatch.setenv("COLUMNS", "1000")
    (pytester.path / "test_right.py").write_text(FINDING)
    return pytester.path


def blocks(project: Path) -> dict[str, bytes]:
    """Finished records of blocks, by their file's name."""
    found = (project / "records" / "right" / "tiny" / "0").glob("*.jsonl")
    texts = {path.name: path.read_bytes() for path in found}
    return {name: text for name, text in texts.items() if b'"kind":"end"' in text}


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "pytest", *ARGS, "--rllm-record=records", *options]


def stopped_after(project: Path, n: int, by: signal.Signals = signal.SIGINT) -> str:
    """Start a session, and stop it when that many runs are there, as Ctrl-C does or by another
    signal; what it said."""
    session = subprocess.Popen(
        command(), cwd=project, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    given_up = time.monotonic() + TIMEOUT_S
    while len(blocks(project)) < n:
        assert session.poll() is None, "it ended before it was stopped"
        assert time.monotonic() < given_up
        time.sleep(0.02)
    os.kill(session.pid, by)
    said, _ = session.communicate(timeout=TIMEOUT_S)
    assert session.returncode == (pytest.ExitCode.INTERRUPTED if by == signal.SIGINT else -by), said
    return said


def measured(project: Path, *options: str) -> tuple[dict[str, Any], str]:
    """Run a session to its end: the row of its case, and what it said."""
    done = subprocess.run(
        command("--rllm-report=json:report.json", *options),
        cwd=project,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    return json.loads((project / "report.json").read_text())["rows"][0], done.stdout


def test_finished_blocks_are_kept_and_the_rest_is_measured(project: Path) -> None:
    said = stopped_after(project, 5)
    assert "next: this session was stopped; the same command with --rllm-record=records" in said
    before = blocks(project)
    row, said = measured(project)
    after = blocks(project)
    numbers = sorted(
        {
            name[:2]
            for name in before
            if {f"{name[:2]}-A.jsonl", f"{name[:2]}-B.jsonl"} <= before.keys()
        }
    )
    assert len(numbers) >= 2
    assert (
        f"{len(numbers)} blocks were measured before, by a session that was stopped, and " in said
    )
    for number in numbers:  # a block of which one run was missing is measured anew
        for side in "AB":
            assert after[f"{number}-{side}.jsonl"] == before[f"{number}-{side}.jsonl"]
    (verdict,) = row["judgements"][0]["verdicts"]
    assert verdict["n"] in (32, 64)
    names = [path.name for path in (project / "records/servers").glob("*.log")]
    numbers = sorted(int(name.split("-")[2]) for name in names)
    assert numbers == list(range(1, len(names) + 1)), "fresh servers have numbers of their own"
    assert len(names) >= 4
    again, _ = measured_again(project)
    assert again["judgements"] == row["judgements"], "a replay sees one session"


def test_a_session_that_was_killed_goes_on_too(project: Path) -> None:
    """It could not end its record: what of it is there is measured anew."""
    stopped_after(project, 4, signal.SIGKILL)
    before = blocks(project)
    row, said = measured(project)
    assert re.search(r"[2-9] blocks were measured before, by a session that was stopped", said)
    after = blocks(project)
    for name in ("00-A.jsonl", "00-B.jsonl", "01-A.jsonl", "01-B.jsonl"):
        assert after[name] == before[name]
    (verdict,) = row["judgements"][0]["verdicts"]
    assert verdict["n"] in (32, 64)


def measured_again(project: Path) -> tuple[dict[str, Any], str]:
    """A replay of the records."""
    done = subprocess.run(
        [*command()[:-1], "--rllm-replay=records", "--rllm-report=json:again.json"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    return json.loads((project / "again.json").read_text())["rows"][0], done.stdout


def test_a_whole_session_is_judged_again_without_a_server(project: Path) -> None:
    first, _ = measured(project)
    logs = {path.name for path in (project / "records/servers").glob("*.log")}
    records = blocks(project)
    second, said = measured(project)
    assert "blocks were measured before" in said
    assert second["judgements"] == first["judgements"]
    assert blocks(project) == records
    assert {path.name for path in (project / "records/servers").glob("*.log")} == logs


def test_records_of_something_else_are_not_overwritten(project: Path) -> None:
    measured(project)
    records = blocks(project)
    path = project / "test_right.py"
    path.write_text(FINDING.replace("Sampling(512)", "Sampling(256)"))
    row, said = measured(project)
    assert row["outcome"] == "error"
    assert "recorded with fingerprint" in said
    assert "record into another folder (--rllm-record=DIR)" in said
    assert blocks(project) == records


def test_a_small_session_is_not_taken_for_a_part_of_a_large_one(project: Path) -> None:
    measured(project, "--rllm-tier=smoke")
    row, said = measured(project)
    assert row["outcome"] == "error"
    assert "recorded with fingerprint" in said
