"""What a whole session found: the one object that every report format is written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from .row import Row

SCHEMA = 2
"""1 knew neither levels, tier nor interruptions; it is read."""
Word = Literal["safe", "not safe", "cannot tell yet"]


@dataclass(frozen=True)
class Decision:
    """What the upgrade gate decided, and why.

    Attributes:
        word: the decision.
        new, old: labels of the two engines; ``new`` is judged, against ``old``.
        reasons: of the decision.
        changes: what the engines' APIs say differently.
    """

    word: Word
    new: str
    old: str
    reasons: tuple[str, ...]
    changes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For a person: the decision first."""
        first = f"{self.old} -> {self.new}: {self.word.upper()}"
        return [first, *(f"  {text}" for text in (*self.reasons, *self.changes))]


@dataclass(frozen=True)
class SessionReport:
    """A session as reports show it; plain values.

    Attributes:
        rows: one per test case, sorted by finding and case.
        decision: of the upgrade gate; None when no builds were compared.
        environment: what was measured where: ``engines``, ``hardware``, ``versions``.
        records: folder of the session's records.
        replayed: whether the runs come from records of an earlier session.
        messages: what else is said at the end of the session.
        tier: how much was measured of every comparison, see ``experiment.tiers``.
        interrupted: whether the session was stopped before its end.
        without_gpu: the cases that need a GPU which this machine has not.
    """

    rows: tuple[Row, ...]
    decision: Decision | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    records: str = ""
    replayed: bool = False
    messages: tuple[str, ...] = ()
    tier: str = "gate"
    interrupted: bool = False
    without_gpu: tuple[Row, ...] = ()

    def outcomes(self) -> dict[str, int]:
        """How many cases ended how, in the order of first appearance."""
        words = [row.outcome for row in self.rows]
        return {word: words.count(word) for word in dict.fromkeys(words)}

    def to_json(self) -> dict[str, Any]:
        """Plain values, the number of the schema first."""
        return (
            {"schema": SCHEMA}
            | asdict(self)
            | {
                name: [row.to_json() for row in getattr(self, name)]
                for name in ("rows", "without_gpu")
            }
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The report that :meth:`to_json` told.

        Raises:
            ValueError: of a newer schema.
        """
        told = dict(content)
        schema = told.pop("schema")
        if schema > SCHEMA:
            raise ValueError(
                f"a session report of schema {schema}; this version reads up to {SCHEMA}: "
                "update pytest-rllm"
            )
        decision = told["decision"]
        if decision is not None:
            pairs = {key: tuple(decision[key]) for key in ("reasons", "changes")}
            decision = Decision(**{**decision, **pairs})
        return cls(
            **{
                **told,
                "rows": tuple(Row.from_json(row) for row in told["rows"]),
                "without_gpu": tuple(map(Row.from_json, told.get("without_gpu", ()))),
                "decision": decision,
                "messages": tuple(told["messages"]),
            }
        )
