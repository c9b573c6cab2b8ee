"""The deltas of one response, in columns: a million take about 30 MB, and need no Python loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

MOST_TOKENS = 2**31 - 1
"""Largest number of tokens of a delta; a larger one is an error of the engine, and refused."""
UNKNOWN = -1
"""In the column of tokens: the engine did not report the number."""


@dataclass(frozen=True, slots=True)
class Delta:
    """One streamed event that carried tokens or text.

    Attributes:
        at_s: arrival, seconds from the start of the run (monotonic).
        field: ``reasoning``, ``reasoning_content``, ``content``, or ``""`` for tokens without text.
        tokens: number of tokens it carried; None if the engine did not report it.
        text: the text it carried, possibly empty.
    """

    at_s: float
    field: str
    tokens: int | None
    text: str


class Deltas(Sequence[Delta]):
    """The deltas of one response in the order of arrival: an immutable sequence of :class:`Delta`.

    Each Delta is created when it is accessed. Metrics use the columns, read-only arrays of shape
    (n,):

    Attributes:
        at_s: float64, arrival times in s.
        tokens: int32, number of tokens; ``UNKNOWN`` if the engine did not report it.
        sizes: int64, number of characters of text.
    """

    __slots__ = ("_codes", "_names", "_offsets", "_text", "at_s", "tokens")

    at_s: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.int32]

    def __init__(self, deltas: Iterable[Delta] = ()) -> None:
        self._fill([(d.at_s, d.field, d.tokens, d.text) for d in deltas])

    @classmethod
    def of_rows(cls, rows: Sequence[Sequence[Any]]) -> Self:
        """Create deltas from rows ``[at_s, field, tokens, text]``, the form of a record.

        Raises:
            TypeError, ValueError: a row is no delta; the message says why.
        """
        made = cls.__new__(cls)
        made._fill(rows)
        return made

    def rows(self) -> Iterator[tuple[float, str, int | None, str]]:
        """The deltas as plain values: at_s, field, tokens, text."""
        counts: Iterable[int | None] = self.tokens.tolist()
        if not self.counted:
            counts = [None if count == UNKNOWN else count for count in counts]
        names, text, ends = self._names, self._text, self._offsets.tolist()
        return zip(
            self.at_s.tolist(),
            [names[code] for code in self._codes.tolist()],
            counts,
            [text[a:b] for a, b in pairwise(ends)],
            strict=True,
        )

    @property
    def counted(self) -> bool:
        """Whether the engine reported the number of tokens of every delta."""
        return not (self.tokens == UNKNOWN).any()

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Number of characters of each delta, shape (n,)."""
        return np.diff(self._offsets)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the deltas, each once, in the order of appearance."""
        return self._names

    def within(self, field: str) -> npt.NDArray[np.bool_]:
        """Which deltas have this field, shape (n,)."""
        code = self._names.index(field) if field in self._names else len(self._names)
        found: npt.NDArray[np.bool_] = self._codes == code
        return found

    def text(self, field: str | None = None) -> str:
        """The joined text of the deltas of one field, or of all."""
        if field is None or self._names == (field,):
            return self._text
        if field not in self._names:
            return ""
        which = np.flatnonzero(self._codes == self._names.index(field))
        breaks = np.flatnonzero(np.diff(which) > 1)
        firsts = [which[0], *which[breaks + 1]]
        lasts = [*which[breaks], which[-1]]
        return "".join(
            self._text[self._offsets[a] : self._offsets[b + 1]]
            for a, b in zip(firsts, lasts, strict=True)
        )

    def _fill(self, rows: Sequence[Sequence[Any]]) -> None:
        at_s, fields, tokens, texts = zip(*rows, strict=True) if len(rows) else [()] * 4
        self.at_s = _column("an arrival", at_s, "iuf").astype(np.float64)
        unknown = tokens.count(None)
        counts = [UNKNOWN if t is None else t for t in tokens] if unknown else tokens
        found = _column("a count of tokens", counts, "biu")
        if found.size and not UNKNOWN <= found.min() <= found.max() <= MOST_TOKENS:
            raise ValueError(f"a delta carries 0 to {MOST_TOKENS} tokens")
        self.tokens = found.astype(np.int32)
        if int((self.tokens == UNKNOWN).sum()) != unknown:
            raise ValueError(f"a delta carries {UNKNOWN} tokens")
        self._names = tuple(dict.fromkeys(fields))
        if not all(isinstance(name, str) for name in self._names):
            raise TypeError(f"the name of a field must be a text, not one of {self._names}")
        codes = {name: code for code, name in enumerate(self._names)}
        kind = np.min_scalar_type(len(codes))
        self._codes = np.fromiter(map(codes.__getitem__, fields), kind, len(fields))
        self._text = "".join(texts)
        self._offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=self._offsets[1:])
        for column in (self.at_s, self.tokens, self._codes, self._offsets):
            column.setflags(write=False)

    @overload
    def __getitem__(self, index: int) -> Delta: ...
    @overload
    def __getitem__(self, index: slice) -> Deltas: ...
    def __getitem__(self, index: int | slice) -> Delta | Deltas:
        if isinstance(index, slice):
            return Deltas.of_rows(list(self.rows())[index])
        at = range(len(self))[index]
        start, end = self._offsets[at : at + 2].tolist()
        count = int(self.tokens[at])
        return Delta(
            float(self.at_s[at]),
            self._names[self._codes[at]],
            None if count == UNKNOWN else count,
            self._text[start:end],
        )

    def __len__(self) -> int:
        return self.at_s.size

    def __iter__(self) -> Iterator[Delta]:
        return (Delta(*row) for row in self.rows())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Deltas):
            return (
                self._names == other._names
                and self._text == other._text
                and np.array_equal(self._codes, other._codes)
                and np.array_equal(self._offsets, other._offsets)
                and np.array_equal(self.tokens, other.tokens)
                and np.array_equal(self.at_s, other.at_s)
            )
        return list(self) == other if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # unhashable as a list, to which it compares equal

    def __repr__(self) -> str:
        return f"Deltas({list(self)})"


def _column(what: str, values: Sequence[Any], kinds: str) -> npt.NDArray[Any]:
    """An array of the values, which must be of these numpy kinds: nothing is converted."""
    column = np.array(values) if values else np.zeros(0, np.int64)
    if column.dtype.kind not in kinds or column.ndim != 1:
        odd = [value for value in values if np.array(value).dtype.kind not in kinds] or values
        raise TypeError(f"{what} cannot be {odd[0]!r}")
    return column
