"""The ledger keeps every accepted number, and tells what changes add up to."""

from __future__ import annotations

from dataclasses import replace as replaced
from pathlib import Path

import pytest

from pytest_rllm.baselines.ledger import (
    FILE,
    SESSIONS,
    Entry,
    append,
    by_session,
    drifted,
    read,
    replace,
)


def entries(*values: float, key: str = "1/a/tps", case: str = "tiny") -> list[Entry]:
    """A number as it was stored, one session after the other."""
    befores = [None, *values]
    return [Entry("f", case, key, was, now, "1") for was, now in zip(befores, values, strict=False)]


def test_what_is_added_is_read_back_in_its_order(tmp_path: Path) -> None:
    assert read(tmp_path / "hardware") == []
    append(tmp_path / "hardware", [])
    assert not (tmp_path / "hardware").exists()
    first, second = entries(1.0, 1.5), entries(2.0, case="huge")
    append(tmp_path / "hardware", first)
    append(tmp_path / "hardware", second)
    assert read(tmp_path / "hardware") == first + second
    text = (tmp_path / "hardware" / FILE).read_text()
    assert len(text.splitlines()) == 3
    assert '"key": "1/a/tps"' in text


def test_lines_are_replaced_whole_and_an_empty_ledger_is_no_file(tmp_path: Path) -> None:
    first, second = entries(1.0, 1.5), entries(2.0, case="é")
    append(tmp_path, first + second)
    replace(tmp_path, second)
    assert read(tmp_path) == second
    assert "é" in (tmp_path / FILE).read_text()
    replace(tmp_path, [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broken", ["{", "[]", '{"finding": "f"}', '{"odd": 1}', '"text"', ""])
def test_a_broken_line_is_named(tmp_path: Path, broken: str) -> None:
    append(tmp_path, entries(1.0))
    with open(tmp_path / FILE, "a") as file:
        file.write(f"{broken}\n")
    with pytest.raises(ValueError, match=rf"{FILE}:2: broken line .* `git checkout`"):
        read(tmp_path)


def test_few_sessions_tell_no_spread() -> None:
    few = entries(*range(SESSIONS - 1), key="few")
    values = [10.0, 11.0, 9.0, 12.0, 10.0]
    many = entries(*values, key="many")
    other = entries(*values, key="many", case="other")
    assert by_session(few + many, "f", "tiny", "", "1") == {"many": values}
    assert by_session(few + many + other, "f", "other", "", "1").keys() == {"many"}
    assert by_session(many, "g", "tiny", "", "1") == {}


def test_sessions_of_another_machine_or_engine_version_are_no_scatter() -> None:
    before = entries(10.0, 11.0, 9.0, 12.0)
    accepted = [replaced(entry, engine_version="2", now=entry.now * 2) for entry in before]
    elsewhere = [replaced(entry, machine="other") for entry in before]
    entries_of_all = before + elsewhere + accepted
    assert by_session(entries_of_all, "f", "tiny", "", "2") == {"1/a/tps": [20, 22, 18, 24]}
    assert by_session(entries_of_all, "f", "tiny", "other", "1") == {"1/a/tps": [10, 11, 9, 12]}


def test_what_changes_add_up_to_is_said_of_each_number() -> None:
    creeping = entries(10.0, 10.4, 10.8, 11.2)
    back = entries(1.0, 2.0, 1.0, key="back")
    assert drifted(creeping + back + entries(5.0, key="once")) == [
        "f [tiny] 1/a/tps: 10 at first, 11.2 after 3 accepted change(s)"
    ]
