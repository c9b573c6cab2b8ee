"""How much is measured of a comparison: minutes against precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Name = Literal["smoke", "short", "gate", "fine", "paper"]
NAMES: tuple[Name, ...] = get_args(Name)
"""From the least that is measured to the most."""
FEWEST = 6
"""Blocks below which an interval of 95 % cannot exclude anything (Wilcoxon's bounds)."""


@dataclass(frozen=True)
class Tier:
    """One trade of minutes for precision.

    Attributes:
        name: for ``--rllm-tier``.
        says: what it measures and what it cannot see, for people.
        at_most: blocks at the first and only look; None for the looks that a test plans.
        split: into how many blocks at least the prompts are split, of large models into twice as
            many; None: as many as the last look has.
        times: how many times as many blocks and questions as a test plans, where the data set has
            them.
        questions: of each data set are asked, or all that it has; None for as many as a test plans.
        answers: to each question at least.
    """

    name: Name
    says: str
    at_most: int | None = None
    split: int | None = None
    times: int = 1
    questions: int | None = None
    answers: int = 1

    @property
    def as_planned(self) -> bool:
        """Whether a finding is measured as its test plans it: baselines are of such tiers."""
        return self.at_most is None and self.times == 1 and self.questions is None

    def looks(self, planned: Sequence[int], times: int) -> tuple[int, ...]:
        """Numbers of blocks at which claims are looked at.

        Args:
            planned: those of the test, growing.
            times: how many times as many questions as the test plans there are.
        """
        if self.at_most is not None:
            return (min(self.at_most, planned[-1]),)
        return tuple(size * min(self.times, times) for size in planned)

    def parts(
        self, planned: Sequence[int], times: int, questions: int, *, large: bool = False
    ) -> int:
        """Into how many blocks the prompts are split, of which all or the first are measured.

        Args:
            planned, times: as of :meth:`looks`.
            questions: that there are; each is in one block.
            large: whether the models are large ones.
        """
        looks = self.looks(planned, times)
        if self.split is None:
            return looks[-1]
        return max(looks[-1], min(max(self.split * (2 if large else 1), planned[-1]), questions))

    def leaves_out(self, smallest: Name) -> str | None:
        """Why a finding is not measured; None when it is.

        Args:
            smallest: the smallest tier that the finding says it is part of.
        """
        if NAMES.index(smallest) <= NAMES.index(self.name):
            return None
        return f"it is no part of --rllm-tier={self.name}; --rllm-tier={smallest} measures it"


TIERS: dict[str, Tier] = {
    tier.name: tier
    for tier in (
        Tier(
            "smoke",
            f"a few findings on {FEWEST} small blocks, models as they are, one of a large pair: "
            "sees that something is broken; cannot see optimisations, small losses of accuracy, or "
            "effects near a margin",
            at_most=FEWEST,
            split=4 * FEWEST,
        ),
        Tier(
            "short",
            "what each test plans, without the findings that take long: sees effects of the size "
            "of its margins",
        ),
        Tier("gate", "every finding as its test plans it: sees effects of the size of its margins"),
        Tier("fine", "four times as many blocks and questions: sees half the effects", times=4),
        Tier(
            "paper",
            "what the paper asked: the first 100 questions of a data set, three answers to each",
            questions=100,
            answers=3,
        ),
    )
}
