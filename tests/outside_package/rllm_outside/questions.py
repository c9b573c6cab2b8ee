"""A data set: doubles of numbers."""

from collections.abc import Iterator
from pathlib import Path

from pytest_rllm import Prompt


def doubles(_folder: Path | None) -> Iterator[Prompt]:
    for i in range(64):
        yield Prompt(f"double-{i}", f"What is twice {i}?", str(2 * i), "easy", "math", f"{i}")
