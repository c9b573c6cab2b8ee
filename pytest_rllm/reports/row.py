"""One test case in a report; plain values that travel as one JSON string."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

BOUNDS = ("low", "high", "detectable")
COLUMNS = ("claim", "effect", "95 % interval", "n", "can see", "verdict")


@dataclass(frozen=True)
class Row:
    """How one case of a finding ended, with every claim.

    Attributes:
        ending: ``pass``, ``fail``, ``xfail``, ``inconclusive``, ``invalid`` or ``error``.
        claims: judged claims as plain dictionaries (see ``claims.Judged``).
        standings: per claim, what the verdict means beside the baseline.
        notes: what else makes the case fail.
        records: folder of the case's records.
    """

    finding: str
    case: str
    sentence: str
    cite: str
    ending: str
    claims: Sequence[dict[str, Any]]
    standings: Sequence[str]
    notes: Sequence[str]
    records: str

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Row:
        return Row(**json.loads(text))

    @property
    def title(self) -> str:
        return f"{self.finding} [{self.case}]"

    def lines(self) -> list[tuple[str, ...]]:
        """COLUMNS per claim, as a person reads them."""
        return [
            _line(claim, standing)
            for claim, standing in zip(self.claims, self.standings, strict=True)
        ]

    def reasons(self) -> list[str]:
        """Everything that needs saying beside the table: reasons, further runs, notes."""
        said = [f"{c['claim']}: {c['why']}" for c in self.claims if c["why"]]
        said += [
            f"{c['claim']}: about {c['further']} more {c['replicate']} would decide"
            for c in self.claims
            if c["further"]
        ]
        return [*dict.fromkeys(said), *self.notes]


def _line(claim: dict[str, Any], standing: str) -> tuple[str, ...]:
    if claim["estimate"] is None:
        return (claim["claim"], "", "", "", "", standing)
    unit = "%" if claim["scale"] == "percent" else "pp"
    low, high, distance = (_shown(claim[name], claim["scale"]) for name in BOUNDS)
    return (
        claim["claim"],
        f"{_shown(claim['estimate'], claim['scale'])} {unit}",
        f"{low} .. {high}",
        f"{claim['n']} {claim['replicate']}",
        f"{distance.lstrip('+')} {unit}",
        standing,
    )


def _shown(value: float | None, scale: str) -> str:
    if value is None:
        return "unknown"
    percent = 100 * (math.expm1(value) if scale == "percent" else value)
    return f"{percent:+.{1 if abs(percent) < 100 else 0}f}"
