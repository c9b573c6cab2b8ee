"""Generated logic puzzles in the style of bAbI: short stories, each with one question.

People walk between rooms, carry things, turn, and things are compared by size. Everything follows
from a seed; a hash of the question decides whether it is held out, as in :mod:`.bundled`.
Source of the style: Weston et al., "Towards AI-Complete Question Answering", arXiv 1502.05698;
wording and stories are our own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path

from .bundled import HELDOUT_SIZE, LETTERS, digest, is_heldout
from .prompts import Prompt, dataset

PEOPLE = ("Ada", "Ben", "Eva", "Gus", "Kim", "Tom")
ROOMS = ("kitchen", "garden", "hall", "cellar", "attic", "office")
THINGS = ("ball", "book", "cup", "hat", "key", "lamp", "pen", "bag")
HEADINGS = ("north", "east", "south", "west")
"""In the order of a turn to the right."""
UNKNOWN = "-"
"""What a thought says of a place that is not known yet, or of no holder."""

STEPS = (4, 10)
"""Fewest and most sentences of a held-out story."""
TRAINING_STEPS = (2, 11)
"""Those of a story to learn from."""
GROWTH = 4000
"""Stories to learn from before the longest has one sentence more."""


@dataclass(frozen=True, slots=True)
class Puzzle:
    """A story with a question, its answer, and the thoughts that lead to it.

    Attributes:
        id: unique, from a hash of the question.
        question, answer: texts.
        steps: number of sentences of the story.
        template: which kind of question; one of :data:`TEMPLATES`.
        thoughts: one line each, in order, without newlines; the first says what is asked about.
        story: the sentences alone, one a line.
        asked: the question alone.
    """

    id: str
    question: str
    answer: str
    steps: int
    template: str
    thoughts: tuple[str, ...]
    story: str
    asked: str


@dataclass(slots=True)
class _World:
    """Where everyone and everything is; what is not known yet is missing."""

    people: list[str]
    rooms: dict[str, str] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)
    lies: dict[str, str] = field(default_factory=dict)

    def place(self, thing: str) -> str:
        """Who holds a thing, and the room that it is in."""
        if thing in self.holders:
            return f"{self.holders[thing]} {self.rooms[self.holders[thing]]}"
        return f"{UNKNOWN} {self.lies[thing]}" if thing in self.lies else UNKNOWN

    def held(self, person: str) -> list[str]:
        """What a person holds."""
        return [thing for thing, holder in self.holders.items() if holder == person]

    def state(self, target: str, template: str) -> str:
        """What a thought says about what is asked."""
        if template == "count":
            return str(len(self.held(target)))
        return self.rooms.get(target, UNKNOWN) if target in PEOPLE else self.place(target)

    def copy(self) -> _World:
        """The world as it is now."""
        return _World(self.people, dict(self.rooms), dict(self.holders), dict(self.lies))


def heldout(n: int = 500, *, seed: int = 2025) -> list[Puzzle]:
    """The first `n` held-out puzzles: distinct, and the same at every call.

    Raises:
        ValueError: `n` is above `bundled.HELDOUT_SIZE`.
    """
    if not 0 <= n <= HELDOUT_SIZE:
        raise ValueError(f"there are 0 to {HELDOUT_SIZE} held-out puzzles, not {n}")
    rng = random.Random(f"heldout logic {seed}")
    found: dict[str, Puzzle] = {}
    while len(found) < n:
        puzzle = _draw(rng, STEPS)
        if is_heldout(puzzle.question):
            found.setdefault(puzzle.question, puzzle)
    return list(found.values())


def training(*, seed: int, grows: bool = False) -> Iterator[Puzzle]:
    """An endless stream of puzzles to learn from; none is held out.

    Args:
        seed: of the stream.
        grows: begin with short stories; the longest grows every :data:`GROWTH` puzzles.
    """
    rng = random.Random(f"training logic {seed}")
    fewest, most = TRAINING_STEPS
    for drawn in count():
        longest = min(most, fewest + 1 + drawn // GROWTH) if grows else most
        puzzle = _draw(rng, (fewest, longest))
        if not is_heldout(puzzle.question):
            yield puzzle


def _draw(rng: random.Random, steps: tuple[int, int]) -> Puzzle:
    template = rng.choices(list(TEMPLATES), list(TEMPLATES.values()))[0]
    sentences = rng.randint(*steps)
    if template == "turn":
        return _turn(rng, sentences)
    if template == "size":
        return _size(rng, min(sentences, len(THINGS) - 1))
    return _walk(rng, template, sentences)


TEMPLATES = {"person": 1, "thing": 3, "yes-no": 2, "count": 2, "turn": 2, "size": 2}
"""Kinds of questions, and how often each comes."""


def _walk(rng: random.Random, template: str, length: int) -> Puzzle:
    """People walk, take, drop and give; asked is where one is, or how much one holds."""
    while True:
        world = _World(rng.sample(PEOPLE, rng.randint(1, 3)))
        sentences, notes, worlds = list[str](), list[str](), list[_World]()
        for _ in range(length):
            sentence, note = _event(rng, world)
            sentences.append(sentence)
            notes.append(note)
            worlds.append(world.copy())
        things = [*world.holders, *world.lies]
        people = list(world.rooms)
        about = things if template == "thing" else people
        if template == "yes-no":
            about = people + things
        if about:
            break
    target = rng.choice(about)
    room = world.rooms[target] if target in PEOPLE else world.place(target).split()[1]
    named = target if target in PEOPLE else f"the {target}"
    asked, answer = f"Where is {named}?", room
    if template == "count":
        asked, answer = f"How many things has {target}?", world.state(target, template)
    elif template == "yes-no":
        answer = rng.choice(("yes", "no"))
        said = room if answer == "yes" else rng.choice([r for r in ROOMS if r != room])
        asked = f"Is {named} in the {said}?"
    thoughts = [
        f"{note}: {then.state(target, template)}" for note, then in zip(notes, worlds, strict=True)
    ]
    return _puzzle(template, sentences, asked, answer, (target, *_labelled(thoughts)))


def _event(rng: random.Random, world: _World) -> tuple[str, str]:
    """One event, done to the world: its sentence, and its short note."""
    who = rng.choice(world.people)
    here = world.rooms.get(who)
    held = world.held(who)
    near = [p for p in world.rooms if p != who and world.rooms[p] == here]
    free = [
        thing
        for thing in THINGS
        if thing not in world.holders and world.lies.get(thing, here) == here
    ]
    kinds = {
        "walk": 4,
        "take": 4 if here and free else 0,
        "drop": 2 if held else 0,
        "give": 3 if held and near else 0,
    }
    kind = rng.choices(list(kinds), list(kinds.values()))[0]
    if kind == "walk":
        room = rng.choice([r for r in ROOMS if r != here])
        world.rooms[who] = room
        return f"{who} {rng.choice(('went', 'moved'))} to the {room}.", f"{who} {room}"
    if kind == "take":
        thing = rng.choice(free)
        world.lies.pop(thing, None)
        world.holders[thing] = who
        return f"{who} {rng.choice(('took', 'got'))} the {thing}.", f"{who} took {thing}"
    thing = rng.choice(held)
    if kind == "drop":
        del world.holders[thing]
        world.lies[thing] = world.rooms[who]
        return f"{who} {rng.choice(('dropped', 'left'))} the {thing}.", f"{who} left {thing}"
    other = rng.choice(near)
    world.holders[thing] = other
    return f"{who} gave the {thing} to {other}.", f"{who} gave {thing} {other}"


def _turn(rng: random.Random, length: int) -> Puzzle:
    """People turn; asked is which way one of them faces."""
    people = rng.sample(PEOPLE, rng.randint(1, min(3, length)))
    target = rng.choice(people)
    faces: dict[str, int] = {}
    sentences, notes = [], []
    for i in range(length):
        late = [who for who in people if who not in faces][: length - i]
        missing = len(late) == length - i and late
        who = late[0] if missing else rng.choice(people)
        if who not in faces:
            faces[who] = rng.randrange(4)
            word = HEADINGS[faces[who]]
            sentences.append(f"{who} faces {word}.")
        else:
            word = rng.choice(("left", "right", "back"))
            faces[who] = (faces[who] + {"right": 1, "back": 2, "left": 3}[word]) % 4
            sentences.append(f"{who} turns {word}.")
        now = HEADINGS[faces[target]] if target in faces else UNKNOWN
        notes.append(f"{who} {word}: {now}")
    asked = f"Which way does {target} face?"
    return _puzzle("turn", sentences, asked, HEADINGS[faces[target]], (target, *_labelled(notes)))


def _size(rng: random.Random, length: int) -> Puzzle:
    """Things in a chain from big to small; asked is whether one is bigger than another."""
    chain = rng.sample(THINGS, length + 1)
    pairs = list(pairwise(chain))
    sentences = [
        f"The {big} is bigger than the {small}."
        if rng.random() < 0.5
        else f"The {small} is smaller than the {big}."
        for big, small in rng.sample(pairs, len(pairs))
    ]
    one, other = rng.sample(range(len(chain)), 2)
    yes = one < other
    thoughts = [f"{chain[one]} {chain[other]}"]
    thoughts += [f"{big} over {small}" for big, small in pairs[one : other if yes else len(chain)]]
    if not yes:
        thoughts.append(f"{chain[-1]} last")
    asked = f"Is the {chain[one]} bigger than the {chain[other]}?"
    return _puzzle("size", sentences, asked, "yes" if yes else "no", tuple(thoughts))


def _labelled(lines: list[str]) -> tuple[str, ...]:
    return tuple(f"{label} {line}" for label, line in zip(LETTERS, lines, strict=False))


def _puzzle(
    template: str, sentences: list[str], asked: str, answer: str, thoughts: tuple[str, ...]
) -> Puzzle:
    story = "\n".join(_labelled(sentences))
    question = f"{story}\n{asked}"
    identity = f"logic-{digest(question)}"
    return Puzzle(identity, question, answer, len(sentences), template, thoughts, story, asked)


@dataset("bundled-logic")
def _prompts(_folder: Path | None) -> Iterator[Prompt]:
    """The held-out puzzles. Stories are drawn independently, whatever their template."""
    for puzzle in heldout(HELDOUT_SIZE):
        yield Prompt(puzzle.id, puzzle.question, puzzle.answer, "logic", "word", puzzle.id)
