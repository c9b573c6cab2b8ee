"""Whole answers of the upgrade gate, recorded on real vLLM, judge again to what they said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from recorded.sessions import DECIDED, ENGINES, PAIRS, ROOT, answer_in, pinned, replay, sessions


@pytest.mark.parametrize(
    ("session", "ci"),
    # In CI, pytest's summary says failures once more in full.
    [*((session, "") for session in sessions()), (sessions()[0], "true")],
    ids=lambda value: getattr(value, "name", value and "in CI"),
)
def test_a_recorded_session_gives_its_answer_again(session: Path, ci: str, tmp_path: Path) -> None:
    said = pinned(session).read_text(encoding="utf-8")
    word = re.search(r"^\S+ \S+ -> \S+ \S+: (.+)$", said, re.MULTILINE)
    assert word is not None
    done = replay(session.relative_to(ROOT), TMPDIR=str(tmp_path), CI=ci)
    assert said == answer_in(done.stdout), done.stdout[-3000:]
    assert done.returncode == DECIDED[word[1]]
    assert f"\nrecords: {session.relative_to(ROOT)} " in done.stdout
    assert not list(tmp_path.glob("rllm-replay-*"))


def test_three_builds_and_other_engines_were_compared() -> None:
    recorded = [f"{old}-{new}.tar.xz" for old, new in (*PAIRS, *ENGINES)]
    assert [s.name for s in sessions()] == recorded
    assert PAIRS == (("0.29.0", "0.31.0"), ("0.29.0", "0.32.0"), ("0.31.0", "0.32.0"))
