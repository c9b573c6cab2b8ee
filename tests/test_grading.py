"""Every answer gets one of five grades."""

from __future__ import annotations

import time

import pytest

from pytest_rllm.datasets import grading
from pytest_rllm.datasets.grading import final_answer, grade


@pytest.mark.parametrize(
    ("answer", "key"),
    [
        (r"So it is \boxed{7}.", "7"),
        (r"\boxed{ 7 }", " 7 "),
        (r"\boxed{3} was too low, \boxed{7}", "7"),
        (r"The answer is 3, no: \boxed{7}", "7"),
        (r"\boxed{\frac{1}{2}}", "0.5"),
        (r"\boxed{0.5}", r"\frac{1}{2}"),
        (r"\boxed{\frac{3}{6}}", r"\frac12"),
        (r"\boxed{\sqrt{8}}", r"2\sqrt{2}"),
        (r"\boxed{1{,}000}", "1000"),
        (r"\boxed{x = 5}", "5"),
        (r"\boxed{\{1, 2\}}", r"\{2, 1\}"),
        ("The answer is 7.", "7"),
        ("the ANSWER is: **7**", "7"),
        ("The answer is 0.5.", "0.5"),
        ("The answer is 3. Wait, the answer is 7!", "7"),
    ],
)
def test_the_same_mathematics_is_right(answer: str, key: str) -> None:
    assert grade(answer, key, "math", "stop") == "right"


@pytest.mark.parametrize(
    ("answer", "key"),
    [
        (r"\boxed{8}", "7"),
        (r"\boxed{7}, no: \boxed{8}", "7"),
        (r"\boxed{0.51}", r"\frac{1}{2}"),
        (r"\boxed{(1, 2)}", "(2, 1)"),
        (r"\boxed{unknown}", "7"),
        ("The answer is 0.25.", "0"),
    ],
)
def test_other_mathematics_is_wrong(answer: str, key: str) -> None:
    assert grade(answer, key, "math", "stop") == "wrong"


@pytest.mark.parametrize(
    ("answer", "key", "expected"),
    [
        (r"\boxed{paris}", "Paris", "right"),
        (r"\boxed{Paris}", " paris ", "right"),
        (r"\boxed{\text{B}}", "B", "right"),
        ("The answer is **B**.", "b", "right"),
        (r"\boxed{London}", "Paris", "wrong"),
        (r"\boxed{0.5}", "1/2", "wrong"),
    ],
)
def test_words_are_compared_as_text(answer: str, key: str, expected: str) -> None:
    assert grade(answer, key, "word", "stop") == expected


@pytest.mark.parametrize("kind", ["math", "word"])
@pytest.mark.parametrize(
    ("answer", "finish_reason", "expected"),
    [
        ("It is 7", "stop", "unparsed"),
        (r"\boxed{", "stop", "unparsed"),
        (r"\boxed{\frac{1}{2}", "stop", "unparsed"),
        (r"\boxed{}", "stop", "unparsed"),
        ("It is 7", None, "unparsed"),
        ("It is 7", "length", "truncated"),
        (r"First \boxed{7}, then \boxed{", "length", "truncated"),
        ("", "length", "truncated"),
        ("", "stop", "empty"),
        (" \n", "stop", "empty"),
        (r"\boxed{7}", "length", "right"),
    ],
)
def test_an_answer_without_a_result_is_graded_by_its_cause(
    kind: str, answer: str, finish_reason: str | None, expected: str
) -> None:
    assert grade(answer, "7", kind, finish_reason) == expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{\frac{1}{\sqrt{2}}} and more}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{a}{b}", "a"),
        ("nothing", None),
    ],
)
def test_braces_in_a_box_may_nest(text: str, found: str | None) -> None:
    assert final_answer(text) == found


def test_an_answer_that_would_be_computed_for_ever_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grading, "TIMEOUT_S", 1)
    begun = time.monotonic()
    assert grade(r"\boxed{9^{9^{9^9}}}", "7", "math", "stop") == "wrong"
    assert time.monotonic() - begun < 30
