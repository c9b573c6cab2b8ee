"""Tables of a TOML file whose values are checked, with the line of what is wrong."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import inf
from pathlib import Path
from typing import Any, NoReturn

from .toml_lines import line_of, line_of_error


class PairFileError(ValueError):
    """The TOML file of a model pair cannot be used; says where, and what was expected there."""


@dataclass
class Table:
    """A table of a TOML file, and where it stands.

    Attributes:
        file: the TOML file.
        source: all of it.
        content: the table's keys and values.
        expected: what is expected under each key; None where any key is allowed.
        path: names of the tables around it and its own.
    """

    file: Path
    source: str = field(repr=False)
    content: Mapping[str, Any]
    expected: Mapping[str, str] | None
    path: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises PairFileError where a key is none that is expected."""
        if self.expected is None:
            return
        for key in self.content:
            if key not in self.expected:
                near = get_close_matches(key, self.expected, 1, cutoff=0.5)
                meant = f"did you mean {near[0]!r}? There are" if near else "there are"
                self.fail(
                    f"unknown key {key!r} in {self._called}: {meant} {', '.join(self.expected)}",
                    key,
                )

    def __contains__(self, key: str) -> bool:
        return key in self.content

    def __iter__(self) -> Iterator[str]:
        return iter(self.content)

    @property
    def _called(self) -> str:
        return f"[{'.'.join(self.path)}]" if self.path else "the pair"

    def place(self, *key: str) -> str:
        """Where a key stands: ``pair.toml:12``; the table's own place where it lacks the key."""
        return f"{self.file}:{line_of(self.source, (*self.path, *key))}"

    def fail(self, message: str, *key: str) -> NoReturn:
        """Raise PairFileError about a key, or about the table."""
        raise PairFileError(f"{self.place(*key)}: {message}")

    def table(self, key: str, expected: Mapping[str, str] | None, *, needed: bool = False) -> Table:
        """The table under a key, empty where there is none.

        Raises:
            PairFileError: it is needed and not there, something else is there, or it has a key that
                is not expected.
        """
        content = self._value(key) if needed or key in self else {}
        if not isinstance(content, dict):
            self._wrong(key, "a table")
        return Table(self.file, self.source, content, expected, (*self.path, key))

    def text(self, key: str, default: str | None = None) -> str:
        """The text under a key.

        Raises:
            PairFileError: there is none and no default, or it is empty or something else.
        """
        value = self._value(key, default)
        if not isinstance(value, str) or not value.strip():
            self._wrong(key, "a text")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        """The whole number above 0 under a key.

        Raises:
            PairFileError: there is none and no default, or something else is there.
        """
        value = self._value(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self._wrong(key, "a whole number above 0")
        return value

    def number(self, key: str, default: float) -> float:
        """The number from 0 on under a key.

        Raises:
            PairFileError: something else is there.
        """
        value = self._value(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < inf:
            self._wrong(key, "a number from 0 on")
        return value

    def flag(self, key: str) -> bool:
        """Whether a key is true; false where it is left out.

        Raises:
            PairFileError: something else than true or false is there.
        """
        value = self._value(key, False)
        if not isinstance(value, bool):
            self._wrong(key, "true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """The list of texts under a key; empty where there is none.

        Raises:
            PairFileError: something else is there.
        """
        value = self._value(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._wrong(key, "a list of texts")
        return tuple(value)

    def _value(self, key: str, default: Any = None) -> Any:
        if key not in self and default is None:
            self.fail(f"{self._called} has no {key!r}; expected {self._meaning(key)}")
        return self.content.get(key, default)

    def _wrong(self, key: str, wanted: str) -> NoReturn:
        meaning = self._meaning(key)
        self.fail(
            f"{key} = {self.content[key]!r}; expected {wanted}{meaning and ': '}{meaning}", key
        )

    def _meaning(self, key: str) -> str:
        return (self.expected or {}).get(key, "")


def opened(file: Path, expected: Mapping[str, str]) -> Table:
    """The outermost table of a TOML file.

    Args:
        file: to read.
        expected: what is expected under each key.

    Raises:
        PairFileError: the file cannot be read, is no TOML, or has a key that is not expected.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise PairFileError(f"{file}: cannot be read ({error.strerror})") from error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PairFileError(f"{file}:{line}: not UTF-8, which TOML files are") from error
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, what = line_of_error(text, error)
        raise PairFileError(f"{file}:{line}: no valid TOML: {what}") from error
    return Table(file, text, content, expected)
