"""Generated problems: the same at every call, separate from training, with right answers."""

import itertools
import re

import pytest

from pytest_rllm.datasets import bundled as problems
from pytest_rllm.datasets import logic
from pytest_rllm.datasets.bundled import HELDOUT_SIZE, TIERS, facts, heldout, is_heldout, training
from pytest_rllm.datasets.prompts import load

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


# ---- logic puzzles


def solve_puzzle(question: str) -> str:
    """The answer, from the question's text alone."""
    *story, asked = [re.sub(r"^[a-z] ", "", line).rstrip(".?") for line in question.split("\n")]
    if asked.startswith("Is the") and "bigger" in asked:
        return _bigger(story, *re.findall(r"the (\w+)", asked))
    target = asked.split()[{"Where": -1, "Is": -4, "How": -1, "Which": -2}[asked.split()[0]]]
    if asked.startswith("Is "):
        target = asked.removeprefix("Is ").removeprefix("the ").split()[0]
    rooms: dict[str, str] = {}
    holds: dict[str, str] = {}
    faces: dict[str, int] = {}
    for who, verb, *rest in map(str.split, story):
        thing = rest[1] if rest[0] == "the" else ""
        if verb in ("went", "moved"):
            rooms[who] = rest[-1]
        elif verb in ("took", "got"):
            holds[thing] = who
        elif verb in ("dropped", "left"):
            del holds[thing]
        elif verb == "gave":
            assert rooms[who] == rooms[rest[-1]]
            holds[thing] = rest[-1]
        elif verb == "faces":
            faces[who] = logic.HEADINGS.index(rest[0])
        else:
            faces[who] = (faces[who] + ["", "right", "back", "left"].index(rest[0])) % 4
        for held, holder in holds.items():
            rooms[held] = rooms[holder]
    if asked.startswith("How many"):
        return str(list(holds.values()).count(target))
    if asked.startswith("Which way"):
        return logic.HEADINGS[faces[target]]
    if asked.startswith("Is "):
        return "yes" if rooms[target] == asked.split()[-1] else "no"
    return rooms[target]


def _bigger(story: list[str], one: str, other: str) -> str:
    smaller: dict[str, str] = {}
    for line in story:
        first, second = re.findall(r"[Tt]he (\w+)", line)
        big, small = (first, second) if "bigger" in line else (second, first)
        smaller[big] = small
    while one != other and one in smaller:
        one = smaller[one]
    return "yes" if one == other else "no"


def test_puzzles_are_the_same_at_every_call_and_distinct() -> None:
    puzzles = logic.heldout(HELDOUT_SIZE)
    assert puzzles[:50] == logic.heldout(50) != logic.heldout(50, seed=1)
    assert len({puzzle.question for puzzle in puzzles}) == HELDOUT_SIZE
    assert len({puzzle.id for puzzle in puzzles}) == HELDOUT_SIZE
    assert {puzzle.template for puzzle in puzzles} == set(logic.TEMPLATES)
    with pytest.raises(ValueError, match="held-out puzzles, not 2001"):
        logic.heldout(2001)


def test_training_never_meets_a_heldout_puzzle() -> None:
    kept = {puzzle.question for puzzle in logic.heldout(HELDOUT_SIZE)}
    drawn = itertools.islice(logic.training(seed=2025), 10_000)
    assert kept.isdisjoint(puzzle.question for puzzle in drawn)
    assert all(map(is_heldout, kept))


def test_the_answer_of_a_puzzle_follows_from_its_story() -> None:
    for puzzle in itertools.chain(
        logic.heldout(500), itertools.islice(logic.training(seed=7), 2000)
    ):
        assert puzzle.answer == solve_puzzle(puzzle.question), puzzle.question


def test_the_last_thought_about_a_puzzle_says_its_answer() -> None:
    for puzzle in logic.heldout(500):
        asked = puzzle.question.rpartition("\n")[2].rstrip("?").split()
        last = puzzle.thoughts[-1].split()[-1]
        if puzzle.template in ("yes-no", "size"):
            assert (last == asked[-1]) == (puzzle.answer == "yes")
        else:
            assert last == puzzle.answer
        assert puzzle.thoughts[0].split()[0] in asked


def test_stories_to_learn_from_grow_where_asked() -> None:
    fewest, most = logic.TRAINING_STEPS
    growing = list(itertools.islice(logic.training(seed=1, grows=True), 2 * logic.GROWTH))
    assert max(puzzle.steps for puzzle in growing[:1000]) == fewest + 1
    assert fewest + 1 < max(puzzle.steps for puzzle in growing[-1000:]) < most
    drawn = itertools.islice(logic.training(seed=1), 1000)
    assert {puzzle.steps for puzzle in drawn} == set(range(fewest, most + 1))


def test_a_right_answer_to_a_yes_or_no_is_not_always_the_same() -> None:
    answers = [puzzle.answer for puzzle in logic.heldout(HELDOUT_SIZE)]
    yes, no = answers.count("yes"), answers.count("no")
    assert 0.8 < yes / no < 1.25


def test_puzzles_are_a_data_set() -> None:
    prompts = load("bundled-logic")
    assert len(prompts) == HELDOUT_SIZE
    assert {(prompt.tier, prompt.kind) for prompt in prompts} == {("logic", "word")}
    assert [p.answer for p in prompts[:9]] == [puzzle.answer for puzzle in logic.heldout(9)]
