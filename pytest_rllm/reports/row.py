"""One test case in a report; plain values that travel as one JSON string."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

COLUMNS = ("claim", "effect", "interval", "n", "can see", "verdict")


@dataclass(frozen=True)
class Row:
    """How one case of a finding ended, with every claim.

    Attributes:
        ending: ``pass``, ``fail``, ``xfail``, ``inconclusive``, ``invalid`` or ``error``.
        claims: judged claims as plain dictionaries (see ``judging.Judged``).
        standings: per claim, what the verdict means beside the baseline.
        notes: what else makes the case fail.
        remarks: what a reader should know and what fails nothing.
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
    remarks: Sequence[str] = ()

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
        """Everything that needs saying beside the table: reasons, further runs, notes, remarks."""
        said = [f"{c['claim']}: {c['why']}" for c in self.claims if c["why"]]
        said += [
            f"{c['claim']}: about {c['further']} more {c['replicate']} would decide"
            for c in self.claims
            if c["further"]
        ]
        return [*dict.fromkeys(said), *self.notes, *self.remarks]

    @staticmethod
    def effect_of(claim: Mapping[str, Any]) -> tuple[str, str]:
        """A claim's effect with its unit, and its interval with its confidence; empty when it has
        none."""
        if claim["estimate"] is None:
            return "", ""
        scale = claim["scale"]
        low, high = (_shown(claim[name], scale) for name in ("low", "high"))
        interval = f"{low} .. {high} at {_sure(claim['confidence'])}"
        return f"{_shown(claim['estimate'], scale)} {_unit(scale)}", interval


def _line(claim: dict[str, Any], standing: str) -> tuple[str, ...]:
    effect, interval = Row.effect_of(claim)
    if not effect:
        return (claim["claim"], "", "", "", "", standing)
    distance = _shown(claim["detectable"], claim["scale"])
    return (
        claim["claim"],
        effect,
        interval,
        f"{claim['n']} {claim['replicate']}",
        f"{distance.lstrip('+')} {_unit(claim['scale'])}",
        standing,
    )


def _sure(confidence: float) -> str:
    """A confidence in per cent; however near to 1, it never reads as certain."""
    return f"{min(round(100 * confidence, 1), 99.9):g} %"


def _unit(scale: str) -> str:
    return "%" if scale == "percent" else "pp"


def _shown(value: float | None, scale: str) -> str:
    if value is None:
        return "unknown"
    percent = 100 * (math.expm1(value) if scale == "percent" else value)
    return f"{percent:+.{1 if abs(percent) < 100 else 0}f}"
