"""Lists for a terminal keep to its width and lose nothing."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pytest_rllm.reports.layout import GAP, NARROWEST, Group, listing, wrapped

words = st.text("ab+-.0µß", min_size=1, max_size=70)
texts = st.lists(words, max_size=12).map(" ".join)
cells = st.text("ab+-. %0", max_size=18).map(str.strip)
lines = st.tuples(texts, cells, cells)
groups = st.lists(st.tuples(texts, st.lists(lines, max_size=4)), max_size=3)
headers = st.tuples(words, words.map(lambda word: word[:12]), cells)


def squeezed(texts: Sequence[str]) -> str:
    """All but the blanks, which is where lines are broken."""
    return "".join("".join(texts).split())


def needed(groups: Sequence[Group], headers: Sequence[str]) -> int:
    """Columns that the list takes with its first column as narrow as it can be."""
    rows = [headers, *(line for _, of_group in groups for line in of_group)]
    rest = [max(len(row[i]) for row in rows) for i in range(1, len(headers))]
    return NARROWEST + sum(len(GAP) + each for each in rest)


@given(groups, headers, st.integers(0, 120))
def test_no_line_is_longer_than_the_terminal_is_wide(
    groups: list[Group], headers: tuple[str, ...], more: int
) -> None:
    width = needed(groups, headers) + more
    assert [line for line in listing(groups, headers, width) if len(line) > width] == []


@given(groups, headers, st.integers(1, 160))
def test_nothing_of_a_cell_a_title_or_a_heading_is_lost(
    groups: list[Group], headers: tuple[str, ...], width: int
) -> None:
    found = listing(groups, headers, width)
    shown = [line for line in found if set(line) - {"-", " "}]
    texts = [*headers]
    for title, of_group in groups:
        texts += [title, *(cell for line in of_group for cell in line)]

    def counted(texts: Sequence[str]) -> dict[str, int]:
        text = squeezed(texts)
        return {sign: text.count(sign) for sign in sorted(set(text) - {"-"})}

    assert counted(shown) == counted(texts)


@given(groups, headers, st.integers(0, 120))
def test_cells_of_a_column_are_below_each_other(
    groups: list[Group], headers: tuple[str, ...], more: int
) -> None:
    numbered = [
        (title, [(text, f"<{i}", f">{i}") for i, (text, _, _) in enumerate(of_group)])
        for title, of_group in groups
    ]
    found = listing(numbered, headers, needed(numbered, headers) + more)
    for sign in "<>":
        assert len({line.index(sign) for line in found if sign in line}) <= 1
    assert sum("<" in line for line in found) == sum(len(of_group) for _, of_group in groups)


def test_a_line_is_below_its_title_and_its_second_line_further_in() -> None:
    claim = "a claim that takes two lines of a column"
    found = listing([("a case", [(claim, "1 %")])], ("claim", "effect"), 36)
    case, first, second = found[2:]
    assert case == "a case"
    assert first.startswith("  a claim")
    assert first.endswith("1 %")
    assert second.startswith("    ")
    assert squeezed([first.removesuffix("1 %"), second]) == squeezed([claim])


@given(texts, st.integers(20, 120))
def test_a_text_in_lines_keeps_its_words_whole_and_breaks_at_the_width(
    text: str, width: int
) -> None:
    found = wrapped(text, width)
    assert " ".join(found).split() == text.split()
    assert all(len(line) <= width for line in found if len(line.split()) > 1)
    assert all(line.startswith("  ") for line in found[1:])
