"""The summary at the end of a session, for a person at a terminal: what was found, why, and what
to do next. Each thing is said once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from ..baselines.compare import KNOWN
from ..baselines.levels import SAME_PACE, Level
from ..experiment.tiers import TIERS
from ..verdicts.judge import Judged
from .layout import Group, listing, wrapped
from .next_step import next_step
from .row import Row, detectable_text, effect_text, interval_text, range_text
from .session_report import SessionReport
from .table import measured

WIDTH = 100
WIDE = 130
"""Columns from which on the confidence of every interval is shown."""
HEADERS = ("finding and claim", "effect", "interval", "n", "detectable", "status")
SPARE = ("detectable", "n")
"""Columns that a narrow terminal does without."""
SHORTER = {
    "not lower by more than": "may fall by",
    "not higher by more than": "may rise by",
}
"""Words of a claim in a narrow column."""
_VOID = re.compile(r"block \d+ is void: ")


def summary(report: SessionReport, width: int = WIDTH, *, verbose: bool = False) -> list[str]:
    """All lines, none of them longer than ``width`` but for a path that does not fit.

    Args:
        report: of the session.
        width: columns.
        verbose: whether every void block and every stored level is listed.
    """
    found = [line for text in report.messages for line in wrapped(text, width)]
    if not TIERS[report.tier].as_planned:
        found += wrapped(f"tier {report.tier}: {TIERS[report.tier].says}", width)
    shown = [row for row in report.rows if row.verdicts or row.outcome != "skip"]
    if shown:  # why a case was skipped is said below
        found += [*claims(shown, width), ""]
    texts = [*_explained(report.rows, verbose=verbose), *_baseline(report, verbose=verbose)]
    found += [line for text in texts for line in wrapped(text, width)]
    if verbose and (levels := list(_levels(report.rows))):
        found += ["", *listing(levels, ("level", "stored", "here", "ratio", "compared"), width)]
    if texts:
        found.append("")
    counted = ", ".join(f"{n} {word}" for word, n in report.outcomes().items())
    found += wrapped(counted, width)
    if report.decision:
        found += [
            "",
            *(line for text in report.decision.lines() for line in _indented(text, width)),
        ]
    return found


def last_lines(report: SessionReport, width: int = WIDTH) -> list[str]:
    """Where the records are, what was measured where, and what to do next."""
    texts = [f"records: {report.records} (judge them again: --rllm-replay=PATH)"]
    texts += [*measured(report), f"next: {next_step(report)}"]
    return [line for text in texts for line in wrapped(text, width)]


def case_text(row: Row, width: int = WIDTH) -> str:
    """One case with its sentence and arms: what a failure shows."""
    arms = dict.fromkeys(judgement.arms for judgement in row.judgements)
    texts = [
        f"{row.title}: {row.sentence}",
        f"({row.cite})",
        *(f"A: {first}   against   B: {second}" for first, second in arms),
    ]
    explained = [*(f"* {text}" for text in row.explanations()), f"records: {row.records}"]
    return "\n".join(
        [
            *(line for text in texts for line in wrapped(text, width)),
            "",
            *listing([("", _lines(row, width))], ("claim", *HEADERS[1:]), width, SPARE),
            *(line for text in explained for line in wrapped(text, width)),
        ]
    )


def claims(rows: Sequence[Row], width: int = WIDTH) -> list[str]:
    """A line per claim under the title of its case."""
    return listing([(row.title, _lines(row, width)) for row in rows], HEADERS, width, SPARE)


def _lines(row: Row, width: int) -> list[tuple[str, ...]]:
    if not row.verdicts:
        return [("not judged", "", "", "", "", row.outcome)]
    interval = interval_text if width >= WIDE else range_text
    return [
        _line(judged, status, interval)
        for judged, status in zip(row.verdicts, row.statuses, strict=True)
    ]


def short(claim: str) -> str:
    """A claim in fewer words, for a narrow column."""
    for words, fewer in SHORTER.items():
        claim = claim.replace(words, fewer)
    return claim


def _line(judged: Judged, status: str, interval: Callable[[Judged], str]) -> tuple[str, ...]:
    claim = short(judged.claim)
    if not effect_text(judged):
        return (claim, "", "", "", "", status)
    n = f"{judged.n} {judged.replicate}"
    return (claim, effect_text(judged), interval(judged), n, detectable_text(judged), status)


def _explained(rows: Sequence[Row], *, verbose: bool) -> Iterator[str]:
    """What explains the claims, each text once with the cases that it is of."""
    titles: dict[str, list[str]] = {}
    void: list[str] = []
    for row in rows:
        texts = row.explanations()
        lost = [text for text in texts if _VOID.match(text)]
        if lost and not verbose:
            blocks = sum(len(judgement.blocks) for judgement in row.judgements)
            void.append(f"{row.title} {len(lost)} of {blocks}")
        for text in texts if verbose else [text for text in texts if text not in lost]:
            titles.setdefault(text, []).append(row.title)
    for text, of in titles.items():
        more = f" and {len(of) - 2} more" if len(of) > 2 else ""
        yield f"{', '.join(of[:2])}{more}: {text}"
    if void:
        yield (
            f"void blocks, in which the machine or the client was disturbed: {', '.join(void)} "
            "(-v says why)"
        )


def _baseline(report: SessionReport, *, verbose: bool) -> Iterator[str]:
    """Whose numbers the verdicts and levels were compared with."""
    rows = [row for row in report.rows if row.stored_on]
    here = {row_hardware(row) for row in rows}
    for other in dict.fromkeys(row.stored_on for row in rows if row.stored_on not in here):
        of = [row for row in rows if row.stored_on == other]
        known = sum(status == KNOWN for row in of for status in row.statuses)
        yield (
            f"baseline: none is stored for {', '.join(sorted(here))}; that of {other} says which "
            f"deviations are known ({known} here), and its levels decide nothing"
        )
    beside = [level for row in rows for level in row.levels if not level.decides]
    own = [row for row in rows if row.stored_on in here and row.pace is None]
    if any(not level.decides for row in own for level in row.levels):
        yield (
            "baseline: its times and rates were stored on another machine of this class, or nobody "
            "knows on which: they decide nothing here"
        )
    if beside and not verbose:
        yield f"{len(beside)} stored levels decide nothing here; -v shows them beside today's"
    paces = [row.pace for row in rows if row.pace is not None]
    if paces and not 1 / SAME_PACE < max(paces, key=lambda p: max(p, 1 / p)) < SAME_PACE:
        yield (
            f"this machine took {min(paces):.2f} to {max(paces):.2f} times as long for a load that "
            "is no engine as when the baseline was stored: as much of a change is put down to it, "
            "and an engine that became slower by less cannot be told from it"
        )


def row_hardware(row: Row) -> str:
    """The class of machine that a case was measured on."""
    return row.judgements[0].match.get("hardware", "") if row.judgements else ""


def _levels(rows: Sequence[Row]) -> Iterator[Group]:
    for row in rows:
        if row.levels:
            yield row.title, [_level(level) for level in row.levels]


def _level(level: Level) -> tuple[str, ...]:
    ratio = f"{level.here / level.stored:.2f}" if level.stored else ""
    word = "drifted" if level.drift else "yes" if level.decides else "no"
    name = f"{level.metric} of {level.arm}"
    unit = "" if level.unit == "share" else f" {level.unit}"
    return name, f"{level.stored:.4g}{unit}", f"{level.here:.4g}{unit}", ratio, word


def _indented(text: str, width: int) -> list[str]:
    own = text[: len(text) - len(text.lstrip())]
    return [own + line for line in wrapped(text.strip(), width - len(own))]
