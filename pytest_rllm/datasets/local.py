"""Questions of one's own, from a JSONL or Parquet file that the description of a pair names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from string import Formatter
from typing import Any

from ..local_data import LocalData
from .hub import BOXED
from .prompts import Prompt

Row = Mapping[str, Any]


def prompts_of(data: LocalData) -> Iterator[Prompt]:
    """The questions of a file, in its order.

    The id of a prompt is the tier's name with the row's own name or number, so that ids of two
    files that are asked together cannot be the same.

    Raises:
        ValueError: the file cannot be read, has not the columns that the pair names, or a row has
            no answer, no question, or the name of another row; with the file and the row, which of
            a JSONL file is the line.
    """
    rows = (_rows_of_jsonl if data.path.suffix == ".jsonl" else _rows_of_parquet)(data)
    if not rows:
        raise ValueError(f"{data.path} has no rows; questions are expected")
    columns = list(dict.fromkeys(column for _, row in rows for column in row))
    named = {"answer": data.answer, "question": data.question, "id": data.id}
    for said, column in (named | {"template": data.template}).items():
        if column is not None and column not in columns:
            raise ValueError(
                f"{data.said.get(said, said)}: {data.path} has no column {column!r}; "
                f"its columns are {', '.join(columns)}"
            )
    pieces = _pieces(data, columns)
    seen: dict[str, int] = {}
    for count, (number, row) in enumerate(rows):
        name = str(count) if data.id is None else _cell(data, row, number, data.id)
        if name in seen:
            raise ValueError(
                f"{data.path}, row {number}: the id {name!r} is that of row {seen[name]}, too; "
                "ids must be unique"
            )
        seen[name] = number
        key = f"{data.tier}-{name}"
        yield Prompt(
            id=key,
            text="".join(
                piece if column is None else piece + _cell(data, row, number, column)
                for piece, column in pieces
            ),
            answer=_cell(data, row, number, data.answer).strip(),
            tier=data.tier,
            kind=data.kind,
            template=key if data.template is None else _cell(data, row, number, data.template),
        )


def _rows_of_jsonl(data: LocalData) -> list[tuple[int, Row]]:
    """The rows with the numbers of their lines.

    Read here and not by the library, which takes texts like "2024-05-01" for times, makes decimal
    numbers of whole ones, and stumbles over empty lines.
    """
    rows: list[tuple[int, Row]] = []
    try:
        for number, line in enumerate(data.path.read_text("utf-8-sig").split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{data.path}, row {number}: broken JSON ({error})") from error
            if not isinstance(row, dict):
                raise ValueError(f"{data.path}, row {number}: no JSON object, which a row must be")
            rows.append((number, row))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{data.path} cannot be read as jsonl: {error}") from error
    return rows


def _rows_of_parquet(data: LocalData) -> list[tuple[int, Row]]:
    """The rows, numbered from 1."""
    import datasets

    quiet = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset("parquet", data_files=str(data.path), split="train")
        return list(enumerate(loaded, 1))
    except Exception as error:
        reasons = [str(one) for one in (error, error.__cause__) if one is not None]
        raise ValueError(f"{data.path} cannot be read as parquet: {'; '.join(reasons)}") from error
    finally:
        if not quiet:
            datasets.enable_progress_bars()


def _pieces(data: LocalData, columns: list[str]) -> list[tuple[str, str | None]]:
    """The text around the question: each piece with the column whose value follows it."""
    if data.prompt is None:
        return [("", data.question), (BOXED, None)]
    pieces = []
    for text, name, _, _ in Formatter().parse(data.prompt):
        column = data.question if name == "question" else name
        if column is not None and column not in columns:
            raise ValueError(
                f"{data.said.get('prompt', 'prompt')}: {data.path} has no column {column!r}; its "
                f"columns are {', '.join(columns)}; 'question' stands for the question's column"
            )
        pieces.append((text, column))
    return pieces


def _cell(data: LocalData, row: Row, number: int, column: str) -> str:
    """The text or number in a column of a row."""
    value = row.get(column)
    if isinstance(value, str | int | float) and str(value).strip():
        return str(value)
    found = "is empty" if value is None or isinstance(value, str) else f"is {value!r}"
    raise ValueError(
        f"{data.path}, row {number}: {column!r} {found}; a text or a number is expected; the "
        f"columns are {', '.join(row)}"
    )
