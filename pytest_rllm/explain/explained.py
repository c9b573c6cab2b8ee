"""What every reader of files gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class NotUnderstood(ValueError):
    """A file is not what its name says; the message says why."""


@dataclass(frozen=True)
class Explained:
    """What is understood of a file.

    Attributes:
        title: what the file is.
        lines: for people.
        content: the same for programs, plain values.
        counts: whether what is in it would count, and not as failed.
    """

    title: str
    lines: Sequence[str]
    content: Mapping[str, Any]
    counts: bool
