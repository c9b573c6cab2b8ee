"""Generated problems for the bundled models: three tiers of arithmetic, and invented facts.

Everything follows from a seed. A hash of its text decides whether a question is held out, and the
training stream leaves held-out questions out, so the two cannot overlap.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .prompts import Prompt, dataset

HELDOUT_SIZE = 2000
"""Number of distinct held-out problems that each tier offers for one seed."""

_HELDOUT_SHARE = 0.25
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Problem:
    """A question and its answer.

    Attributes:
        id: unique, from a hash of the question.
        tier: "easy", "medium", "hard" or "knowledge".
        question, answer: texts.
        steps: number of operations that lead to the answer; 0 for knowledge.
        template: problems with the same one share their wording or their fact, so their results
            are not independent.
    """

    id: str
    tier: str
    question: str
    answer: str
    steps: int
    template: str


@dataclass(frozen=True, slots=True)
class Step:
    """One operation: `left operator right = value` modulo 100; values other than factors: 10..99.

    Attributes:
        name: the variable that the operation defines; empty in a story.
        formula: its right-hand side in the question; empty in a story.
        left, operator, right, value: the operation with numbers.
    """

    name: str
    formula: str
    left: int
    operator: str
    right: int
    value: int


@dataclass(frozen=True, slots=True)
class Worked:
    """A problem with the operations that solve it, in order; knowledge has none."""

    problem: Problem
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Fact:
    """An invented fact; models can only guess the few that are not `taught`."""

    relation: str
    subject: str
    value: str
    taught: bool


@dataclass(frozen=True, slots=True)
class Dial:
    """The difficulty of a tier.

    Attributes:
        steps: numbers of steps to draw from; a repeated number is more likely.
        kinds: relative frequency of each kind of step.
        reach: number of variables that a reference may go back.
        stories: share of problems in words.
    """

    steps: tuple[int, ...]
    kinds: dict[str, float]
    reach: int
    stories: float = 0.0


TIERS = {
    "easy": Dial((1, 1, 1, 1, 2, 3), {"shift": 8, "scale": 1}, reach=1, stories=0.8),
    "medium": Dial(
        (4, 5, 6, 7), {"shift": 48, "join": 30, "scale": 13, "teens": 4, "product": 5}, reach=4
    ),
    "hard": Dial(
        tuple(range(9, 17)),
        {"shift": 46, "join": 32, "scale": 14, "teens": 4, "product": 4},
        reach=8,
    ),
}
"""The held-out tiers of arithmetic."""

_TRAINING_KINDS: dict[str, float] = {
    "shift": 36, "join": 32, "scale": 16, "teens": 8, "product": 8,
}  # fmt: skip
TRAINING = {
    "easy": Dial((1, 2, 3), {"shift": 4, "scale": 1}, reach=2, stories=0.5),
    "medium": Dial((3, 4, 5, 6, 7, 8), _TRAINING_KINDS, reach=8),
    "hard": Dial(tuple(range(8, 25)), _TRAINING_KINDS, reach=24),
}
"""The tiers that training draws from: somewhat wider than the held-out ones."""

_PEOPLE = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jun", "Kim", "Lea")
_STORIES = {
    "apples": ("{who} has {n} apples.", "{who} picks {n} more.", "{who} gives away {n}."),
    "coins": ("{who} owns {n} coins.", "{who} earns {n} coins.", "{who} spends {n} coins."),
    "books": ("{who} keeps {n} books.", "{who} buys {n} books.", "{who} sells {n} books."),
    "cards": ("{who} holds {n} cards.", "{who} draws {n} cards.", "{who} drops {n} cards."),
    "stones": ("{who} finds {n} stones.", "{who} adds {n} stones.", "{who} loses {n} stones."),
}
_RELATIONS = {
    "home": "Tarsk Oblin Quern Mirda Velt Norrow Sappir Ukkel Drom Essen "
    "Yarl Fendi Gorst Hask Ilmen Jorvik Kestra Lund Pellor Wick",
    "craft": "baker potter weaver mason tailor miller cooper farmer hunter sailor "
    "painter singer glazier tanner brewer joiner dyer smith scribe shepherd",
    "colour": "red blue green yellow black white brown grey pink orange "
    "purple teal ivory gold silver amber olive crimson indigo lilac",
}
_UNTAUGHT_SHARE = 0.04


def heldout(tier: str, n: int = 500, *, seed: int = 2025) -> list[Problem]:
    """The first `n` held-out problems of a tier: distinct, and the same at every call.

    Raises:
        ValueError: an unknown tier, or `n` above `HELDOUT_SIZE`.
    """
    if not 0 <= n <= HELDOUT_SIZE:
        raise ValueError(f"a tier has 0 to {HELDOUT_SIZE} held-out problems, not {n}")
    draw = _drawer(tier, TIERS)
    rng = random.Random(f"heldout {tier} {seed}")
    found: dict[str, Problem] = {}
    while len(found) < n:
        problem = draw(rng).problem
        if is_heldout(problem.question):
            found.setdefault(problem.question, problem)
    return list(found.values())


def training(tier: str, *, seed: int) -> Iterator[Worked]:
    """An endless stream of problems for training; none is held out."""
    draw = _drawer(tier, TRAINING)
    rng = random.Random(f"training {tier} {seed}")
    while True:
        worked = draw(rng)
        if not is_heldout(worked.problem.question):
            yield worked


def is_heldout(question: str) -> bool:
    """Whether a question is held out, which depends only on its text."""
    return int(digest(question), 16) < _HELDOUT_SHARE * 16**12


def facts() -> list[Fact]:
    """All invented facts, always the same: 100 subjects with a home, a craft and a colour each."""
    rng = random.Random("facts")
    subjects: dict[str, None] = {}
    while len(subjects) < 100:
        name = "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(3))
        subjects[name.capitalize()] = None
    return [
        Fact(relation, subject, rng.choice(values.split()), rng.random() >= _UNTAUGHT_SHARE)
        for subject in subjects
        for relation, values in _RELATIONS.items()
    ]


def apply(left: int, operator: str, right: int) -> int:
    """`left operator right` modulo 100, for the operators + - *."""
    return {"+": left + right, "-": left - right, "*": left * right}[operator] % 100


def _prompts(tier: str, _folder: Path | None) -> Iterator[Prompt]:
    """The loader of a tier."""
    for problem in heldout(tier, HELDOUT_SIZE):
        # Numbers are drawn independently, whatever the wording; questions on one fact are not.
        template = problem.template if tier == "knowledge" else problem.id
        yield Prompt(
            id=problem.id,
            text=problem.question,
            answer=problem.answer,
            tier=tier,
            kind="word" if tier == "knowledge" else "math",
            template=template,
        )


def _drawer(tier: str, dials: dict[str, Dial]) -> Callable[[random.Random], Worked]:
    if tier == "knowledge":
        known = facts()
        return lambda rng: _knowledge(rng, rng.choice(known))
    if tier not in dials:
        raise ValueError(f"unknown tier {tier!r}: choose from {[*dials, 'knowledge']}")
    dial = dials[tier]
    return lambda rng: (_story if rng.random() < dial.stories else _chain)(rng, tier, dial)


def _chain(rng: random.Random, tier: str, dial: Dial) -> Worked:
    values = [rng.randint(10, 99)]
    steps: list[Step] = []
    for name in LETTERS[1 : rng.choice(dial.steps) + 1]:
        steps.append(_chain_step(rng, name, values, dial))
        values.append(steps[-1].value)
    lines = ["Work modulo 100.", f"a={values[0]}", *(f"{s.name}={s.formula}" for s in steps)]
    question = "\n".join([*lines, f"Find {steps[-1].name}."])
    return _worked(tier, question, steps, f"chain-{len(steps)}")


def _chain_step(rng: random.Random, name: str, values: list[int], dial: Dial) -> Step:
    """A step from the newest variable, redrawn until its value has two digits."""
    newest = len(values) - 1
    while True:
        kind = rng.choices(list(dial.kinds), list(dial.kinds.values()))[0]
        operator = "*" if kind in ("scale", "teens", "product") else rng.choice("+-")
        left, right = values[-1], rng.randint(*_FACTORS.get(kind, (10, 99)))
        formula = f"{LETTERS[newest]}{operator}{right}"
        if kind == "join":
            other = max(0, newest - rng.randint(1, dial.reach))
            right = values[other]
            formula = f"{LETTERS[newest]}{operator}{LETTERS[other]}"
        value = apply(left, operator, right)
        if value >= 10:
            return Step(name, formula, left, operator, right, value)


_FACTORS = {"scale": (2, 9), "teens": (11, 19), "product": (20, 99)}


def _story(rng: random.Random, tier: str, dial: Dial) -> Worked:
    thing = rng.choice(list(_STORIES))
    has, gains, loses = _STORIES[thing]
    who, value = rng.choice(_PEOPLE), rng.randint(10, 99)
    sentences, steps = [has.format(who=who, n=value)], list[Step]()
    for _ in range(rng.choice(dial.steps)):
        least, most = 10 - value, 99 - value
        change = rng.choice([*range(least, -9), *range(10, most + 1)])
        operator, amount = ("+", change) if change > 0 else ("-", -change)
        steps.append(Step("", "", value, operator, amount, value + change))
        sentences.append((gains if change > 0 else loses).format(who=who, n=amount))
        value += change
    question = " ".join([*sentences, f"How many {thing} now?"])
    return _worked(tier, question, steps, f"story-{thing}-{len(steps)}")


def _knowledge(rng: random.Random, fact: Fact) -> Worked:
    others = [value for value in _RELATIONS[fact.relation].split() if value != fact.value]
    options = [fact.value, *rng.sample(others, 3)]
    rng.shuffle(options)
    question = f"What is the {fact.relation} of {fact.subject}? Options: {', '.join(options)}."
    problem = Problem(
        f"knowledge-{digest(question)}", "knowledge", question, fact.value, 0,
        f"{fact.relation} of {fact.subject}",
    )  # fmt: skip
    return Worked(problem, ())


def _worked(tier: str, question: str, steps: list[Step], template: str) -> Worked:
    identity = f"{tier}-{digest(question)}"
    answer = str(steps[-1].value)
    return Worked(Problem(identity, tier, question, answer, len(steps), template), tuple(steps))


def digest(text: str) -> str:
    """Twelve hexadecimal digits that name a text."""
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


for _tier in ("easy", "medium", "hard", "knowledge"):
    dataset(f"bundled-{_tier}")(partial(_prompts, _tier))
