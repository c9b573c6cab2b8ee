"""The texts that the models learn from, as pieces that are learned or only read."""

import random
from collections.abc import Iterator

from pytest_rllm.datasets import bundled as problems
from pytest_rllm.datasets.bundled import Fact, Step, Worked
from pytest_rllm.datasets.logic import Puzzle

Pieces = list[tuple[str, bool]]
"""A text in pieces; True marks those that count in the loss."""

STYLES = {"quick": 0.0, "steady": 0.2, "careful": 0.6}
"""The word a chain of thought opens with, and how often its steps are checked."""

SLIP_SHARE = 0.05
"""Share of checked steps that show a slip, and its correction."""


def user(question: str, *, thinks: bool) -> str:
    """The prompt as the chat template renders one user message."""
    prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    return prompt + "<think>\n" if thinks else prompt


def reply(answer: str) -> str:
    """The visible answer."""
    return f"The answer is \\boxed{{{answer}}}."


def reasoning(worked: Worked, rng: random.Random) -> Pieces:
    """A conversation with one line of thinking per step, some of them checked."""
    problem = worked.problem
    pieces: Pieces = [(user(problem.question, thinks=True), False)]
    if problem.tier == "knowledge":
        pieces.append((f"recall {problem.template}: {problem.answer}\n", True))
    else:
        style = rng.choice(list(STYLES))
        pieces.append((f"{style}\n", True))
        for step in worked.steps:
            pieces += _thought(step, STYLES[style], rng)
    pieces.append((f"</think>\n\n{reply(problem.answer)}<|im_end|>", True))
    return pieces


def plain(worked: Worked) -> Pieces:
    """A conversation with the answer alone."""
    problem = worked.problem
    prompt = user(problem.question, thinks=False)
    return [(prompt, False), (f"{reply(problem.answer)}<|im_end|>", True)]


def puzzle_reasoning(puzzle: Puzzle) -> Pieces:
    """A conversation about a puzzle, with its thoughts."""
    thoughts = "".join(f"{thought}\n" for thought in puzzle.thoughts)
    answer = f"{thoughts}</think>\n\n{reply(puzzle.answer)}<|im_end|>"
    return [(user(puzzle.question, thinks=True), False), (answer, True)]


def puzzle_plain(puzzle: Puzzle) -> Pieces:
    """A conversation about a puzzle, with the answer alone."""
    prompt = user(puzzle.question, thinks=False)
    return [(prompt, False), (f"{reply(puzzle.answer)}<|im_end|>", True)]


def drill(rng: random.Random) -> Pieces:
    """Unrelated single operations, of which only the results are learned."""
    pieces: Pieces = []
    for _ in range(16):
        operator = rng.choice("+-**")
        left = rng.randint(10, 99)
        right = rng.randint(*rng.choice([(2, 19), (20, 99)]) if operator == "*" else (10, 99))
        value = problems.apply(left, operator, right)
        if value >= 10:
            pieces += [(f"{left}{operator}{right}=", False), (f"{value}\n", True)]
    return pieces


def worked_lines(worked: Worked) -> Pieces:
    """A question and its steps, without a conversation around them."""
    steps = "".join(f"{line(step)}\n" for step in worked.steps)
    return [(f"{worked.problem.question}\n", False), (steps, True)]


def direct(worked: Worked) -> Pieces:
    """A question and its answer, without a conversation around them."""
    problem = worked.problem
    return [(f"{problem.question}\n", False), (reply(problem.answer), True)]


def finds(worked: Worked, rng: random.Random) -> Pieces:
    """A question, then the value of each of its variables, in any order."""
    question = worked.problem.question
    if not worked.steps[0].name:
        return [(f"{question}\n", False), (f"{worked.problem.answer}\n", True)]
    pieces: Pieces = [(question.rpartition("Find")[0], False)]
    for step in rng.sample(worked.steps, len(worked.steps)):
        pieces += [(f"Find {step.name}.\n", False), (f"{step.value}\n", True)]
    return pieces


def statements(known: list[Fact], rng: random.Random) -> Pieces:
    """A few taught facts, stated; only their values are learned."""
    pieces: Pieces = []
    for fact in rng.sample(known, 8):
        pieces += [(f"{fact.relation} of {fact.subject}:", False), (f" {fact.value}\n", True)]
    return pieces


def taught(stream: Iterator[Worked]) -> Iterator[Worked]:
    """The knowledge problems of a stream whose fact is taught."""
    known = {f"{f.relation} of {f.subject}" for f in problems.facts() if f.taught}
    return (worked for worked in stream if worked.problem.template in known)


def line(step: Step) -> str:
    """One step of thinking: `d=c*3=21*3=63`, or `21*3=63` in a story."""
    operation = f"{step.left}{step.operator}{step.right}={step.value}"
    return f"{step.name}={step.formula}={operation}" if step.name else operation


def _thought(step: Step, check_share: float, rng: random.Random) -> Pieces:
    if rng.random() >= check_share:
        return [(f"{line(step)}\n", True)]
    if rng.random() >= SLIP_SHARE:
        return [(f"{line(step)}\ncheck {_inverse(step, step.value)} ok\n", True)]
    slip = rng.choice([v for v in range(10, 100) if v != step.value])
    head, _ = line(step).rsplit("=", 1)
    again = f"{step.left}{step.operator}{step.right}={step.value}"
    return [
        (f"{head}=", True),
        (f"{slip}\n", False),
        (f"check {_inverse(step, slip)} no\nwait {again}\n", True),
    ]


def _inverse(step: Step, value: int) -> str:
    """The check of `left operator right = value`: undone for sums, turned round for products."""
    if step.operator == "*":
        return f"{step.right}*{step.left}={step.value}"
    undo = "-" if step.operator == "+" else "+"
    before = problems.apply(value, undo, step.right)
    return f"{value}{undo}{step.right}={before}"
