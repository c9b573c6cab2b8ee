"""What each finding showed on each engine, as a Markdown page: ``python -m pytest_rllm findings``.

``--rllm-report findings:FILE.json`` keeps what a session showed in a file per engine and class of
machine: cases that were measured before stay until they are measured again. The command writes the
page of all files of a folder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ..verdicts.judge import Judged
from .page_marks import PageError, escaped, write_or_print
from .row import Row, effect_text, range_text
from .session_report import SessionReport

HELP = "print the page of findings from the files of --rllm-report findings:FILE"
SCHEMA = 1
BEGIN, END = "<!-- findings: begin -->", "<!-- findings: end -->"
"""What the table stands between on a page."""
NOT_KEPT = ("error", "invalid")
"""Outcomes that say nothing of a finding: what was known of it before stays."""
WORDS = {
    "pass": "holds",
    "xfail": "known deviation",
    "fail": "fails",
    "inconclusive": "undecided",
    "skip": "not measured",
}
"""Outcome of a case to what the page calls it."""


@dataclass(frozen=True)
class Shown:
    """What one case of a finding showed.

    Attributes:
        finding, case, pair: which, and on which models.
        sentence, cite: what is claimed, and where.
        outcome: of the test.
        build: of the engine, with its version; empty where nothing was measured.
        date: ISO.
        claims: per claim its text, verdict, effect and interval, as a person reads them.
        notes: why it, or a part of it, was not measured.
    """

    finding: str
    case: str
    pair: str
    sentence: str
    cite: str
    outcome: str
    build: str
    date: str
    claims: tuple[tuple[str, str, str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.finding}/{self.case}"

    @property
    def parameters(self) -> str:
        """The case without the name of its pair."""
        return self.case.removeprefix(self.pair).removeprefix("-")


@dataclass(frozen=True)
class Found:
    """What the findings showed on one engine and class of machine.

    Attributes:
        engine: its name.
        hardware: class of the machine.
        shown: by key, see :class:`Shown`.
    """

    engine: str
    hardware: str
    shown: Mapping[str, Shown] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Heading of its column."""
        return f"{self.engine} on {self.hardware}"


# ---- the files


def write(report: SessionReport, path: Path) -> None:
    """Add what a session showed to a file; ``read`` reads it.

    Raises:
        PageError: the session measured nothing, or on another engine or class of machine than the
            file is of, or the file is none.
    """
    engines = {judgement.match["engine"] for row in report.rows for judgement in row.judgements}
    machines = {judgement.match["hardware"] for row in report.rows for judgement in row.judgements}
    if len(engines) != 1 or len(machines) != 1:
        seen = ", ".join(sorted(engines | machines)) or "nothing"
        raise PageError(
            f"a page of findings is of one engine on one machine, and this session measured {seen}"
        )
    fresh = Found(engines.pop(), machines.pop())
    if fresh.engine == "mock" or report.decision is not None:
        raise PageError("a page of findings is of a real engine, and of findings alone")
    old = _read_file(path) if path.exists() else fresh
    if (old.engine, old.hardware) != (fresh.engine, fresh.hardware):
        raise PageError(f"{path} is of {old.title}, and this session measured {fresh.title}")
    today = datetime.now(UTC).date().isoformat()
    shown = dict(old.shown)
    for row in report.rows:
        one = _shown(row, today)
        if one.outcome not in NOT_KEPT and (one.claims or one.key not in old.shown):
            shown[one.key] = one
    asked = {one.sentence for one in shown.values()}
    for row in report.without_gpu:  # one case stands for all where no case needs no GPU
        if row.sentence not in asked:
            asked.add(row.sentence)
            shown[f"{row.finding}/{row.case}"] = _shown(row, today)
    content = {
        "schema": SCHEMA,
        "engine": fresh.engine,
        "hardware": fresh.hardware,
        "shown": [asdict(shown[key]) for key in sorted(shown)],
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _shown(row: Row, date: str) -> Shown:
    builds = {judgement.match.get("engine_version", "") for judgement in row.judgements}
    left_out = tuple(dict.fromkeys((*row.notes, *row.not_measured)))
    return Shown(
        finding=row.finding,
        case=row.case,
        pair=row.pair,
        sentence=row.sentence,
        cite=row.cite,
        outcome=row.outcome,
        build=", ".join(sorted(builds)),
        date=date,
        claims=tuple(map(_claim, row.verdicts)),
        notes=left_out,
    )


def _claim(judged: Judged) -> tuple[str, str, str, str]:
    return judged.claim, judged.verdict, effect_text(judged), range_text(judged)


def read(folder: Path) -> list[Found]:
    """All files of a folder, by name.

    Raises:
        PageError: there is none, or a file is of another kind.
    """
    found = [_read_file(file) for file in sorted(folder.glob("*.json"))]
    if not found:
        raise PageError(f"there is no FILE.json in {folder}: run --rllm-report findings:FILE.json")
    return found


def _read_file(file: Path) -> Found:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise PageError(
                f"{file} is of schema {content['schema']}, and this version reads {SCHEMA}: make "
                "it anew with --rllm-report findings:FILE"
            )
        shown = [
            Shown(
                **{
                    **one,
                    "claims": tuple(map(tuple, one["claims"])),
                    "notes": tuple(one["notes"]),
                }
            )
            for one in content["shown"]
        ]
        return Found(content["engine"], content["hardware"], {one.key: one for one in shown})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, PageError):
            raise
        raise PageError(
            f"{file} is no file of --rllm-report findings ({type(error).__name__}: {error}): "
            "remove it, or make it anew"
        ) from error


# ---- the page


def table(found: Sequence[Found]) -> str:
    """The page: a summary of findings by engines, then every claim with its effect and interval."""
    names = sorted({one.finding for each in found for one in each.shown.values()})
    titles = [each.title for each in found]
    notes: list[str] = []
    summary = [[f"[{name}](#{name})", *(_summed(name, each) for each in found)] for name in names]
    parts = [tabulate(summary, headers=["finding", *titles], tablefmt="github")]
    parts += [text for name in names for text in _section(name, found, notes)]
    if notes:
        parts.append("### Notes")
        parts.append("\n".join(f"{n}. {escaped(note)}" for n, note in enumerate(notes, 1)))
    parts.append("\n".join(_seen(each) for each in found))
    return "\n\n".join(parts)


def _summed(name: str, each: Found) -> str:
    """How the cases of a finding ended on one engine."""
    outcomes = [one.outcome for one in each.shown.values() if one.finding == name]
    if not outcomes:
        return "not asked"
    counted = {word: outcomes.count(outcome) for outcome, word in WORDS.items()}
    if len(outcomes) == 1:
        return next(word for word, n in counted.items() if n)
    return ", ".join(f"{n} {word}" for word, n in counted.items() if n)


def _section(name: str, found: Sequence[Found], notes: list[str]) -> Iterator[str]:
    yield f"### {name}"
    cases = {
        (one.sentence, one.cite): None
        for each in found
        for one in each.shown.values()
        if one.finding == name
    }
    for sentence, cite in cases:
        yield f"{escaped(sentence)} *({escaped(cite)})*"
        body = list(_lines(name, sentence, found, notes))
        headers = ["models", "case", "claim", *(each.title for each in found)]
        yield tabulate(body, headers=headers, tablefmt="github", disable_numparse=True)


def _lines(
    name: str, sentence: str, found: Sequence[Found], notes: list[str]
) -> Iterator[list[str]]:
    """A line per case and claim: what each engine showed."""
    cases = {
        one.case: one
        for each in found
        for one in each.shown.values()
        if one.finding == name and one.sentence == sentence
    }
    for case, any_one in sorted(cases.items()):
        here = [each.shown.get(f"{name}/{case}") for each in found]
        claims = dict.fromkeys(
            _numbered(one)[i][0] for one in here if one for i in range(len(one.claims))
        )
        for claim in claims or {"": None}:
            cells = [_cell(one, claim, notes) for one in here]
            text = claim.partition("\0")[0]
            yield [any_one.pair, any_one.parameters, escaped(text), *cells]


def _numbered(one: Shown) -> list[tuple[str, tuple[str, str, str, str]]]:
    """The claims of a case by text; a text that stands twice is told apart by a number."""
    seen: list[str] = []
    found = []
    for claim in one.claims:
        seen.append(claim[0])
        found.append((f"{claim[0]}\0{seen.count(claim[0])}", claim))
    return found


def _cell(one: Shown | None, claim: str, notes: list[str]) -> str:
    if one is None:
        return "not asked"
    told = dict(_numbered(one)).get(claim)
    if told is None:
        why = "; ".join(one.notes) or "not measured"
        if why not in notes:
            notes.append(why)
        return f"not measured ({notes.index(why) + 1})"
    _, verdict, effect, interval = told
    return f"**{verdict}** {effect} ({interval})" if effect else f"**{verdict}**"


def _seen(each: Found) -> str:
    told = {(one.build, one.date) for one in each.shown.values() if one.build}
    builds = ", ".join(sorted({build for build, _ in told}))
    dates = sorted({date for _, date in told})
    when = " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "never"
    return f"- {each.title}: {builds}; measured {when}."


# ---- the command


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="where the files are")
    parser.add_argument(
        "--page", metavar="FILE", type=Path, help="write it into this page, between its marks"
    )


def run(given: argparse.Namespace) -> int:
    """Print the page, or write it into one; the exit status is 2 where that cannot be."""
    return write_or_print(lambda: table(read(given.folder)), given.page, (BEGIN, END))
