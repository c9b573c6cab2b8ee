"""Files of questions of one's own: read in their order, and refused with file and row."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_rllm.datasets.hub import BOXED
from pytest_rllm.datasets.prompts import Prompt, choose, load, revision
from pytest_rllm.local_data import LocalData

ROWS: list[dict[str, Any]] = [
    {"prompt_text": "2+3?", "gold": 5, "key": "b", "topic": "sums", "note": None},
    {"prompt_text": "Spell cat.", "gold": " cat ", "key": "a", "topic": "words", "note": "x"},
    {"prompt_text": "7-4?", "gold": "3", "key": "c", "topic": "sums", "note": "y"},
]
TEXT_ROWS = [row | {"gold": str(row["gold"])} for row in ROWS]
"""A column of a Parquet file has one type."""

Write = Callable[..., LocalData]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes rows to a file, with the library's cache beside it; returns what describes it."""
    import datasets as library

    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def written(rows: Any = TEXT_ROWS, name: str = "mine.jsonl", **more: Any) -> LocalData:
        path = tmp_path / name
        if isinstance(rows, str):
            path.write_text(rows)
        elif path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            library.Dataset.from_list(rows).to_parquet(str(path))
        usual: dict[str, Any] = {"tier": "medium", "answer": "gold", "question": "prompt_text"}
        return LocalData(path, **usual | more)

    return written


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.parquet"])
def test_rows_become_prompts_in_their_order(write: Write, name: str) -> None:
    assert load(write(name=name)) == (
        Prompt("medium-0", "2+3?" + BOXED, "5", "medium", "math", "medium-0"),
        Prompt("medium-1", "Spell cat." + BOXED, "cat", "medium", "math", "medium-1"),
        Prompt("medium-2", "7-4?" + BOXED, "3", "medium", "math", "medium-2"),
    )


def test_ids_templates_and_the_kind_are_the_files(write: Write) -> None:
    found = load(write(id="key", template="topic", kind="word", tier="knowledge"))
    assert [p.id for p in found] == ["knowledge-b", "knowledge-a", "knowledge-c"]
    assert [p.template for p in found] == ["sums", "words", "sums"]
    assert {(p.tier, p.kind) for p in found} == {("knowledge", "word")}


def test_the_same_id_in_two_tiers_is_two_questions(write: Write) -> None:
    one = write(id="key")
    mixed = choose({"easy": replace(one, tier="easy"), "medium": one}, "easy", "medium", n=6)
    assert len({p.id for p in mixed}) == 6


def test_answers_are_as_they_are_written(write: Write) -> None:
    """Whatever stands beside them."""
    said = [5, "2024-05-01", 0.5, "007", True]
    found = load(write([ROWS[0] | {"gold": value} for value in said]))
    assert [p.answer for p in found] == ["5", "2024-05-01", "0.5", "007", "True"]


def test_empty_lines_are_no_rows(write: Write) -> None:
    row = '{"prompt_text": "?", "gold": "1"}\n'
    assert [p.id for p in load(write(f"{row}\n{row}"))] == ["medium-0", "medium-1"]
    with pytest.raises(ValueError, match=r"mine\.jsonl, row 3: broken JSON"):
        load(write(f"{row}\n{{", tier="easy"))


def test_a_prompt_names_the_question_and_other_columns(write: Write) -> None:
    data = write(prompt="On {topic}: {question}\nWrite \\boxed{{}} once.")
    assert load(data)[0].text == "On sums: 2+3?\nWrite \\boxed{} once."
    without = write(prompt="{topic}/{prompt_text}", question=None, name="other.jsonl")
    assert [p.text for p in load(without)] == ["sums/2+3?", "words/Spell cat.", "sums/7-4?"]


def test_what_a_file_holds_is_in_the_revision_of_its_questions(write: Write) -> None:
    first = revision(load(write()))
    assert first == revision(load(write(name="same.jsonl")))
    changed = [*TEXT_ROWS[:2], TEXT_ROWS[2] | {"gold": "4"}]
    assert first != revision(load(write(changed, name="changed.jsonl")))


def test_a_file_is_chosen_from_like_any_data_set(write: Write) -> None:
    tiers = {"medium": write(), "easy": "bundled-easy"}
    assert [p.id for p in choose(tiers, "medium", n=2, repeats=2)] == ["medium-0", "medium-1"] * 2
    with pytest.raises(ValueError, match=r"4 questions of '\S+mine\.jsonl' were .*, it has 3: ask"):
        choose(tiers, "medium", n=4)


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no such column": (
        TEXT_ROWS,
        {"answer": "golden", "said": {"answer": "pair.toml:12"}},
        r"^pair\.toml:12: \S+mine\.jsonl has no column 'golden'; its columns are prompt_text, g",
    ),
    "no such column in the prompt": (
        TEXT_ROWS,
        {"prompt": "{questions}", "said": {"prompt": "pair.toml:9"}},
        r"^pair\.toml:9: .* no column 'questions'; its columns are .*; 'question' stands for",
    ),
    "an empty answer": (
        [*TEXT_ROWS, TEXT_ROWS[0] | {"gold": " "}],
        {},
        r"mine\.jsonl, row 4: 'gold' is empty; a text or a number is expected; the columns are pro",
    ),
    "no answer": (
        [TEXT_ROWS[0], {"prompt_text": "?"}],
        {},
        r"mine\.jsonl, row 2: 'gold' is empty; .* the columns are prompt_text$",
    ),
    "no question": (
        [TEXT_ROWS[0] | {"prompt_text": ""}],
        {},
        r"mine\.jsonl, row 1: 'prompt_text' is empty",
    ),
    "an answer that is a list": (
        [TEXT_ROWS[0] | {"gold": ["5", "five"]}],
        {},
        r"mine\.jsonl, row 1: 'gold' is \['5', 'five'\]; a text or a number is expected",
    ),
    "an id twice": (
        [*TEXT_ROWS, TEXT_ROWS[1]],
        {"id": "key"},
        r"mine\.jsonl, row 4: the id 'a' is that of row 2, too; ids must be unique",
    ),
    "broken JSON": (
        '{"prompt_text": "?", "gold": "1"}\n{"prompt_text": "?", "gold": \n',
        {},
        r"mine\.jsonl, row 2: broken JSON \(Expecting value",
    ),
    "no rows": ("", {}, r"mine\.jsonl has no rows; questions are expected"),
    "a row that is no object": (
        '{"prompt_text": "?", "gold": "1"}\n3\n',
        {},
        r"mine\.jsonl, row 2: no JSON object, which a row must be",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_with_file_and_row(write: Write, what: str) -> None:
    rows, more, message = WRONG[what]
    with pytest.raises(ValueError, match=message):
        load(write(rows, **more))


def test_a_broken_parquet_file_is_told(write: Write) -> None:
    with pytest.raises(ValueError, match=r"mine\.parquet cannot be read as parquet: "):
        load(write("no parquet", name="mine.parquet"))
