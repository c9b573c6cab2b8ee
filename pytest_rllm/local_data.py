"""A file of questions of one's own, as the description of a model pair names it.

It stands below the rooms ``models`` (which reads the description) and ``datasets`` (which reads the
file), because these do not import each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class LocalData:
    """Which file holds the questions of a tier, and what its columns mean.

    Attributes:
        path: a JSONL file (``.jsonl``) or a Parquet file (``.parquet``).
        tier: the tier that it is of, one of ``pytest_rllm.models.TIERS``.
        answer: column of the answer key.
        question: column of the question; None where ``prompt`` names all columns that it takes.
        id: column of a name that each row has for itself; None: rows are numbered from 0.
        template: column that is equal for questions which are not independent of each other; None:
            every question stands for itself.
        kind: how answers are graded, ``math`` (as mathematics) or ``word`` (as text).
        prompt: what is sent: a text with the names of columns in braces, where ``{question}`` is
            the question; None: the question, then the paper's request for a boxed answer.
        said: per attribute the place that says it, ``"pair.toml:12"``, for messages.
    """

    path: Path
    tier: str
    answer: str
    question: str | None
    id: str | None = None
    template: str | None = None
    kind: Literal["math", "word"] = "math"
    prompt: str | None = None
    said: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __str__(self) -> str:
        """The file's path, as messages name the data."""
        return str(self.path)
