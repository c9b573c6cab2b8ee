"""One test case in a report: its judgements, what they mean, and how the case ended."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from ..baselines.levels import Level
from ..records.reader import read_run
from ..records.run import RecordError, Run
from ..verdicts.judge import Judged
from ..verdicts.judgement import Judgement

Outcome = Literal["pass", "fail", "xfail", "inconclusive", "invalid", "skip", "error"]
COLUMNS = ("claim", "effect", "interval", "n", "detectable", "status")


@dataclass(frozen=True)
class Row:
    """How one case of a finding ended, with every claim.

    Attributes:
        finding, case: which.
        sentence, cite: what is claimed in words, and where it is claimed.
        outcome: how the test ended.
        judgements: one per comparison of the case.
        statuses: per verdict of all judgements what it means beside the baseline.
        notes: what else makes the case fail, or why it was skipped.
        levels: stored ones beside the fresh ones.
        stored_on: class of the machine whose baseline was used; empty when there is none.
        pace: how many times as long a load that is no engine takes as when the baseline was stored
            on this machine; None where that is unknown.
        records: folder of the case's records.
        died: label of the engine whose server ended while it was measured; empty when none did.
        pair: name of the pair of models.
        attempt: at the case, from 1; a plugin may run a test again that failed.
    """

    finding: str
    case: str
    sentence: str
    cite: str
    outcome: Outcome
    judgements: tuple[Judgement, ...] = ()
    statuses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    levels: tuple[Level, ...] = ()
    stored_on: str = ""
    pace: float | None = None
    records: str = ""
    died: str = ""
    pair: str = ""
    attempt: int = 1

    @property
    def title(self) -> str:
        again = f", attempt {self.attempt}" if self.attempt > 1 else ""
        return f"{self.finding} [{self.case}]{again}"

    @property
    def decided(self) -> bool:
        """Whether another attempt would be one at another answer: an error alone may be tried
        again, and what was refuted before it stays."""
        return self.outcome != "error" or any(one.verdict == "refuted" for one in self.verdicts)

    @property
    def verdicts(self) -> tuple[Judged, ...]:
        """Of all judgements, in the order of ``statuses``."""
        return tuple(judged for judgement in self.judgements for judged in judgement.verdicts)

    @property
    def not_measured(self) -> tuple[str, ...]:
        """Claims that an engine's declared capabilities leave out."""
        return tuple(text for judgement in self.judgements for text in judgement.not_measured)

    def lines(self) -> list[tuple[str, ...]]:
        """COLUMNS per claim, as a person reads them."""
        return [
            _line(judged, status)
            for judged, status in zip(self.verdicts, self.statuses, strict=True)
        ]

    def explanations(self) -> list[str]:
        """What explains the table: each reason once with the claims that it costs, further runs,
        notes and remarks."""
        said = [text for judgement in self.judgements for text in _explained(judgement)]
        return list(dict.fromkeys([*said, *self.notes]))

    def runs(self) -> Iterator[tuple[Path, Run]]:
        """The case's recorded runs with their series, for plots; read one at a time.

        Raises:
            RecordError: a record cannot be read, or there is no folder of them: it was removed, or
                it lies in an archive, which has to be unpacked.
        """
        if not Path(self.records).is_dir():
            raise RecordError(
                f"{self.records}: there is no such folder of records; unpack the archive, or give "
                "the report's row the folder where they are"
            )
        found = [*Path(self.records).rglob("*.jsonl"), *Path(self.records).rglob("*.jsonl.xz")]
        for path in sorted({p.with_name(p.name.removesuffix(".xz")) for p in found}):
            yield path, read_run(path)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"judgements": [one.to_json() for one in self.judgements]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The row that :meth:`to_json` told."""
        return cls(
            **{
                **content,
                "judgements": tuple(Judgement.from_json(one) for one in content["judgements"]),
                "statuses": tuple(content["statuses"]),
                "notes": tuple(content["notes"]),
                "levels": tuple(Level(**level) for level in content.get("levels", ())),
            }
        )

    def dumped(self) -> str:
        """The row as one line of JSON."""
        return json.dumps(self.to_json(), ensure_ascii=False)


def effect_text(judged: Judged) -> str:
    """An effect with its unit; empty when there is none."""
    if judged.estimate is None:
        return ""
    return f"{_number(judged.estimate, judged.scale)} {_unit(judged.scale)}"


def range_text(judged: Judged) -> str:
    """An interval without its confidence; empty when there is none."""
    if judged.estimate is None or judged.confidence is None:
        return ""
    low, high = (_number(bound, judged.scale) for bound in (judged.low, judged.high))
    return f"{low} .. {high}"


def interval_text(judged: Judged) -> str:
    """An interval with its confidence; empty when there is none."""
    if judged.estimate is None or judged.confidence is None:
        return ""
    return f"{range_text(judged)} at {_confidence_text(judged.confidence)}"


def further_text(judged: Judged) -> str:
    """What would decide a claim; where nobody can have that, which margins are decided."""
    if judged.within_reach:
        return f"about {judged.further} more {judged.replicate} would decide"
    said = f"the effect lies on the margin: it would take {judged.further} more {judged.replicate}"
    if not (interval := range_text(judged)):
        return said
    return (
        f"{said}; what was measured decides on margins outside of {interval} {_unit(judged.scale)}"
    )


def detectable_text(judged: Judged) -> str:
    """The distance from the margin that a true effect needs to be noticed."""
    return f"{_number(judged.detectable, judged.scale).lstrip('+')} {_unit(judged.scale)}"


def _explained(judgement: Judgement) -> Iterator[str]:
    names = {judged.slug: judged.claim for judged in judgement.verdicts}
    for reason in judgement.reasons:
        lost = [names[slug] for slug in reason.claims if slug in names]
        whole = len(lost) == len(names)
        costs = f"invalid for it: {'; '.join(lost)}" if lost else "found after the verdicts"
        yield reason.text + ("" if whole else f" ({costs})")
    for judged in judgement.verdicts:
        if judged.why and judged.verdict != "invalid":
            yield f"{judged.claim}: {judged.why}"
    for judged in judgement.verdicts:
        if judged.further:
            yield f"{judged.claim}: {further_text(judged)}"
    yield from judgement.not_measured
    yield from judgement.remarks


def _line(judged: Judged, status: str) -> tuple[str, ...]:
    effect = effect_text(judged)
    if not effect:
        return (judged.claim, "", "", "", "", status)
    return (
        judged.claim,
        effect,
        interval_text(judged),
        f"{judged.n} {judged.replicate}",
        detectable_text(judged),
        status,
    )


def _confidence_text(confidence: float) -> str:
    """A confidence in per cent; however near to 1, it never reads as certain."""
    return f"{min(round(100 * confidence, 1), 99.9):g} %"


def _unit(scale: str) -> str:
    return "%" if scale == "percent" else "pp"


def _number(value: float | None, scale: str) -> str:
    if value is None or not math.isfinite(value):
        return "unknown"
    percent = 100 * (math.expm1(value) if scale == "percent" else value)
    return f"{percent:+.{1 if abs(percent) < 100 else 0}f}"
