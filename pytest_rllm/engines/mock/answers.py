"""What the mock engine says: reasoning and an answer, drawn from a seed and the question's text."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

STEPS = {"easy": 4, "medium": 12, "hard": 24, "knowledge": 3}
"""Steps of reasoning by tier, on average; of any other question the medium number."""
SPREAD = 0.3
"""A step count is at most so much (share of 1) below or above its tier's."""
PLAIN_SHARE = 0.4
"""The plain model is right in so many of the cases in which the reasoning model is."""
FILLER = (" so", " then", " check", " again")


@dataclass(frozen=True)
class Key:
    """The right answer to a question, and how hard the question is."""

    answer: str
    tier: str


@dataclass(frozen=True)
class Said:
    """An answer, token by token; either part may be empty."""

    reasoning: tuple[str, ...]
    answer: tuple[str, ...]

    def cut(self, tokens: int) -> Said:
        """Its first tokens."""
        kept = self.reasoning[:tokens]
        return Said(kept, self.answer[: tokens - len(kept)])

    def __len__(self) -> int:
        return len(self.reasoning) + len(self.answer)


@dataclass(frozen=True)
class Author:
    """Writes answers; equal authors write equal ones.

    Attributes:
        accuracy: probability that the reasoning model's answer is right, where the key is known.
        reasons: whether it reasons, as the reasoning model of a pair does.
        seed: of all draws.
        answers: the right answer by the text of a prompt, for requests that do not tell it.
    """

    accuracy: float = 0.9
    reasons: bool = True
    seed: int = 0
    answers: Mapping[str, str] = field(default_factory=dict, hash=False)

    def write(self, prompt: str, key: Key | None = None, repeat: int = 0) -> Said:
        """The answer to a prompt.

        Args:
            prompt: text of the last message.
            key: what the request tells of the right answer.
            repeat: another number draws another answer; the same one gives the same.
        """
        rng = random.Random(f"{self.seed} {repeat} {prompt}")  # noqa: S311 - no secret
        if key is None and prompt in self.answers:
            key = Key(self.answers[prompt], "medium")
        mean = STEPS.get(key.tier if key else "", STEPS["medium"])
        steps = max(1, round(mean * rng.uniform(1 - SPREAD, 1 + SPREAD)))
        numbers = [rng.randint(10, 99) for _ in range(steps)]
        reasoning = [
            token
            for number, value in enumerate(numbers, 1)
            for token in (f" Step {number}", " gives", f" {value}", rng.choice(FILLER), ".")
        ]
        share = self.accuracy if self.reasons else self.accuracy * PLAIN_SHARE
        right = key is not None and rng.random() < share
        final = key.answer if key and right else _wrong(key, rng)
        answer = ("The", " answer", " is", " \\boxed{", final, "}", ".")
        return Said(tuple(reasoning) if self.reasons else (), answer)

    def filled(self, said: Said, tokens: int) -> Said:
        """The answer made exactly so many tokens long: cut, or followed by words."""
        more = tuple(FILLER[i % len(FILLER)] for i in range(tokens - len(said)))
        return Said(said.reasoning, said.answer + more).cut(tokens)


def answers_of(file: Path) -> dict[str, str]:
    """A JSON object with the right answer by the text of a prompt."""
    content = json.loads(file.read_text(encoding="utf-8"))
    return {str(text): str(answer) for text, answer in content.items()}


def _wrong(key: Key | None, rng: random.Random) -> str:
    """A number that is not the key."""
    while (number := str(rng.randint(100, 999))) == (key and key.answer):
        pass
    return number
