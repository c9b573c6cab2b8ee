"""Generated problems: the same at every call, separate from training, with right answers."""

import itertools
import re

import pytest

from pytest_rllm.datasets import bundled as problems
from pytest_rllm.datasets.bundled import HELDOUT_SIZE, TIERS, facts, heldout, is_heldout, training

ARITHMETIC = ("easy", "medium", "hard")
ALL = (*ARITHMETIC, "knowledge")
STORY_SIGNS = {
    "picks": 1, "earns": 1, "buys": 1, "draws": 1, "adds": 1,
    "gives away": -1, "spends": -1, "sells": -1, "drops": -1, "loses": -1,
}  # fmt: skip


def solve(question: str) -> int:
    """The answer, from the question's text alone."""
    if question.startswith("Work modulo 100."):
        variables: dict[str, int] = {}
        for name, formula in re.findall(r"^(\w)=(.+)$", question, re.MULTILINE):
            variables[name] = eval(formula, {"__builtins__": {}}, variables) % 100
        return variables[question[-2]]
    start, *changes = re.findall(r"\w+ (\D+?) (\d+)\b", question)
    return int(start[1]) + sum(STORY_SIGNS[verb] * int(amount) for verb, amount in changes)


@pytest.mark.parametrize("tier", ALL)
def test_same_problems_at_every_call(tier: str) -> None:
    assert heldout(tier) == heldout(tier)
    assert heldout(tier, 50) == heldout(tier)[:50]
    assert heldout(tier, 50, seed=1) != heldout(tier, 50)


@pytest.mark.parametrize("tier", ALL)
def test_problems_are_distinct(tier: str) -> None:
    drawn = heldout(tier, HELDOUT_SIZE)
    assert len(drawn) == HELDOUT_SIZE
    assert len({problem.question for problem in drawn}) == HELDOUT_SIZE
    assert len({problem.id for problem in drawn}) == HELDOUT_SIZE
    assert {problem.tier for problem in drawn} == {tier}


@pytest.mark.parametrize("tier", ALL)
def test_training_never_meets_a_heldout_problem(tier: str) -> None:
    kept = {problem.question for problem in heldout(tier, HELDOUT_SIZE)}
    drawn = itertools.islice(training(tier, seed=2025), 10_000)
    assert kept.isdisjoint(worked.problem.question for worked in drawn)
    assert all(map(is_heldout, kept))


@pytest.mark.parametrize("tier", ARITHMETIC)
def test_answers_follow_from_the_question(tier: str) -> None:
    for problem in heldout(tier):
        assert problem.answer == str(solve(problem.question)), problem.question


@pytest.mark.parametrize("tier", ARITHMETIC)
def test_steps_lead_to_the_answer(tier: str) -> None:
    for worked in itertools.islice(training(tier, seed=7), 500):
        assert len(worked.steps) == worked.problem.steps
        assert str(worked.steps[-1].value) == worked.problem.answer
        for step in worked.steps:
            assert step.value == problems.apply(step.left, step.operator, step.right)
            assert 10 <= step.value <= 99
            assert 10 <= step.left <= 99


@pytest.mark.parametrize("tier", ARITHMETIC)
def test_tiers_have_their_numbers_of_steps(tier: str) -> None:
    assert {problem.steps for problem in heldout(tier)} == set(TIERS[tier].steps)


def test_tiers_grow_harder() -> None:
    easy, medium, hard = (TIERS[tier].steps for tier in ARITHMETIC)
    assert max(easy) < min(medium)
    assert max(medium) < min(hard)


def test_knowledge_offers_its_answer_among_four_options() -> None:
    values = {f"{fact.relation} of {fact.subject}": fact.value for fact in facts()}
    for problem in heldout("knowledge"):
        options = problem.question.split("Options: ")[1].rstrip(".").split(", ")
        assert len(set(options)) == 4
        assert problem.answer in options
        assert problem.answer == values[problem.template]
        assert problem.steps == 0


def test_a_few_facts_are_never_taught() -> None:
    untaught = [fact for fact in facts() if not fact.taught]
    assert len(facts()) == 300
    assert 5 <= len(untaught) <= 20


def test_unknown_tier_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown tier 'hrad': choose from .*'hard'"):
        heldout("hrad")
    with pytest.raises(ValueError, match="unknown tier"):
        next(training("hrad", seed=1))


@pytest.mark.parametrize("n", [-1, HELDOUT_SIZE + 1])
def test_more_than_exists_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"0 to {HELDOUT_SIZE} held-out problems, not {n}"):
        heldout("easy", n)
