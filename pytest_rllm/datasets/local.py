"""Questions of one's own, from a JSONL or Parquet file that the description of a pair names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from string import Formatter
from typing import Any

from ..local_data import LocalData
from .hub import BOXED
from .prompts import Prompt


def prompts_of(data: LocalData) -> Iterator[Prompt]:
    """The questions of a file, in its order.

    The id of a prompt is the tier's name with the row's own name or number, so that ids of two
    files that are asked together cannot be the same.

    Raises:
        ValueError: the file cannot be read, has not the columns that the pair names, or a row has
            no answer, no question, or the name of another row; with the file and the row.
    """
    rows = _rows(data)
    columns = list(rows.column_names)
    named = {"answer": data.answer, "question": data.question, "id": data.id}
    for said, column in (named | {"template": data.template}).items():
        if column is not None and column not in columns:
            raise ValueError(
                f"{data.said.get(said, said)}: {data.path} has no column {column!r}; "
                f"its columns are {', '.join(columns)}"
            )
    pieces = _pieces(data, columns)
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        name = str(number - 1) if data.id is None else _cell(data, row, number, data.id)
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
    if not seen:
        raise ValueError(f"{data.path} has no rows; questions are expected")


def _rows(data: LocalData) -> Any:
    """The rows of the file in its order, a ``datasets.Dataset``."""
    import datasets

    reader = {".jsonl": "json", ".parquet": "parquet"}[data.path.suffix]
    quiet = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(reader, data_files=str(data.path), split="train")
    except Exception as error:
        raise ValueError(_unreadable(data, error)) from error
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


def _cell(data: LocalData, row: Mapping[str, Any], number: int, column: str) -> str:
    """The text or number in a column of a row."""
    value = row[column]
    if isinstance(value, str | int | float) and str(value).strip():
        return str(value)
    found = "is empty" if value is None or isinstance(value, str) else f"is {value!r}"
    raise ValueError(
        f"{data.path}, row {number}: {column!r} {found}; a text or a number is expected; the "
        f"columns are {', '.join(row)}"
    )


def _unreadable(data: LocalData, error: Exception) -> str:
    """Why a file cannot be read; of JSONL with the first row that is broken."""
    if data.path.suffix == ".jsonl":
        with open(data.path, encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    if line.strip() and not isinstance(json.loads(line), dict):
                        return f"{data.path}, row {number}: no JSON object, one row is expected"
                except ValueError as broken:
                    return f"{data.path}, row {number}: broken JSON ({broken})"
    if not data.path.stat().st_size:
        return f"{data.path} has no rows; questions are expected"
    reasons = [str(one) for one in (error, error.__cause__) if one is not None]
    return f"{data.path} cannot be read as {data.path.suffix[1:]}: {'; '.join(reasons)}"
