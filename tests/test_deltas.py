"""Columns of deltas hold what a list of them held."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_rllm.records.deltas import MOST_TOKENS, UNKNOWN, Delta, Deltas

SAID = [
    Delta(1.0, "reasoning", 2, "so π🙂"),
    Delta(1.0, "content", 0, ""),
    Delta(2.5, "reasoning", None, "..."),
    Delta(4.0, "content", 7, "half \ud83d"),
    Delta(4.5, "content", 1, "\ude42 7"),
    Delta(5.0, "", 3, ""),
]
lists = st.lists(
    st.builds(
        Delta,
        st.floats(0, 1e6),
        st.sampled_from(["content", "reasoning", "", "odd"]),
        st.none() | st.integers(0, MOST_TOKENS),
        st.text(st.characters(exclude_categories=[]), max_size=5),
    ),
    max_size=9,
)


@given(lists)
def test_columns_hold_the_deltas_of_the_list(said: list[Delta]) -> None:
    deltas = Deltas(iter(said))
    assert len(deltas) == len(said)
    assert list(deltas) == said
    assert [deltas[i] for i in range(len(said))] == said
    assert [deltas[~i] for i in range(len(said))] == said[::-1]
    assert deltas.at_s.tolist() == [d.at_s for d in said]
    assert deltas.tokens.tolist() == [UNKNOWN if d.tokens is None else d.tokens for d in said]
    assert deltas.sizes.tolist() == [len(d.text) for d in said]
    assert deltas.counted == all(d.tokens is not None for d in said)
    assert deltas.text() == "".join(d.text for d in said)
    assert deltas.fields == tuple(dict.fromkeys(d.field for d in said))
    for field in ("content", "reasoning", "", "odd", "none"):
        assert deltas.text(field) == "".join(d.text for d in said if d.field == field)
        assert deltas.within(field).tolist() == [d.field == field for d in said]
    assert Deltas.of_rows(list(deltas.rows())) == deltas


@given(lists, lists, st.slices(9))
def test_deltas_compare_and_slice_like_lists(
    one: list[Delta], other: list[Delta], part: slice
) -> None:
    assert (Deltas(one) == Deltas(other)) == (one == other)
    assert (Deltas(one) == other) == (one == other)
    assert Deltas(one)[part] == one[part]


def test_any_change_makes_deltas_unequal() -> None:
    deltas = Deltas(SAID)
    assert deltas == SAID
    for i, said in enumerate(SAID):
        for other in (
            Delta(said.at_s + 1, said.field, said.tokens, said.text),
            Delta(said.at_s, "other", said.tokens, said.text),
            Delta(said.at_s, said.field, 9, said.text),
            Delta(said.at_s, said.field, said.tokens, said.text + "x"),
        ):
            assert Deltas([*SAID[:i], other, *SAID[i + 1 :]]) != deltas
    assert deltas != tuple(SAID)
    moved = [Delta(1.0, "content", 1, "ab"), Delta(1.0, "content", 1, "c")]
    assert Deltas(moved) != [Delta(1.0, "content", 1, "a"), Delta(1.0, "content", 1, "bc")]


def test_no_deltas_are_an_empty_sequence() -> None:
    none = Deltas()
    assert (len(none), list(none), none.text(), none.fields) == (0, [], "", ())
    assert none == [] == list(none.rows())
    assert none.counted
    assert none.at_s.dtype == np.float64
    with pytest.raises(IndexError):
        none[0]


def test_deltas_are_immutable() -> None:
    deltas = Deltas(SAID)
    for column in (deltas.at_s, deltas.tokens):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 0
    with pytest.raises(TypeError):
        deltas[0] = SAID[1]  # type: ignore[index]
    with pytest.raises(TypeError, match="unhashable"):
        hash(deltas)


def test_deltas_can_be_pickled() -> None:
    deltas = Deltas(SAID)
    assert pickle.loads(pickle.dumps(deltas)) == deltas


def test_the_repr_shows_the_deltas() -> None:
    assert repr(Deltas(SAID[1:2])) == (
        "Deltas([Delta(at_s=1.0, field='content', tokens=0, text='')])"
    )


def test_more_than_256_fields_are_kept_apart() -> None:
    said = [Delta(float(i), f"field {i}", 1, str(i)) for i in range(300)]
    assert list(Deltas(said)) == said
    assert Deltas(said).text("field 299") == "299"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((1.0, "content", 1), "expected 4"),
        ((1.0, "content", 1, "a", 2), "expected 4"),
        (("1.0", "content", 1, "a"), "an arrival cannot be '1.0'"),
        ((None, "content", 1, "a"), "an arrival cannot be None"),
        (("now", "content", 1, "a"), "an arrival cannot be 'now'"),
        (([1.0], "content", 1, "a"), r"an arrival cannot be \[1.0\]"),
        ((1.0, 7, 1, "a"), "the name of a field must be a text"),
        ((1.0, ["content"], 1, "a"), "unhashable"),
        ((1.0, "content", "1", "a"), "a count of tokens cannot be '1'"),
        ((1.0, "content", 1.5, "a"), "a count of tokens cannot be 1.5"),
        ((1.0, "content", -1, "a"), "a delta carries -1 tokens"),
        ((1.0, "content", -2, "a"), "a delta carries 0 to 2147483647 tokens"),
        ((1.0, "content", 2**31, "a"), "a delta carries 0 to 2147483647 tokens"),
        ((1.0, "content", 2**63, "a"), "a delta carries 0 to 2147483647 tokens"),
        ((1.0, "content", 2**64, "a"), "a count of tokens cannot be 18446744073709551616"),
        ((1.0, "content", 1, None), "expected str instance, NoneType found"),
        ((1.0, "content", 1, 7), "expected str instance, int found"),
    ],
)
def test_an_invalid_delta_is_refused(row: tuple[Any, ...], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Deltas.of_rows([row])


def test_numbers_that_fit_alone_but_not_together_are_refused() -> None:
    with pytest.raises(TypeError, match="a count of tokens cannot be 1"):
        Deltas.of_rows([(1.0, "content", 1, "a"), (1.0, "content", 2**63, "a")])


def test_rows_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Deltas.of_rows([(1.0, "content", 1, "a"), (1.0, "content", 1)])
