"""Stored effects and levels, per class of machine and finding: read, compare, change.

A file is ``baselines/<hardware>/<finding>.json``. It stores measurements, not margins: what a
stored effect says of a claim is derived with the margin in the test. The one judgement it does
store is the list of claims that are *known* not to hold here, word for word: a claim whose margin
changes is another claim, and is judged anew.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..verdicts.claims import Claim
from ..verdicts.judge import Judged
from . import ledger, machines

SCHEMA = 1
DIGITS = 4
SPREADS = 3.0
"""A level has drifted when it moved by more than its margin and by more than three spreads."""
SESSION_SPREAD = 0.1
"""Share by which the level of a timed metric is taken to move between sessions, until the ledger
holds enough of them: blocks of one session do not show it."""

WORDS = ("create", "fix", "trim", "update")


class BaselineError(ValueError):
    """A baseline file cannot be used; the message says where it is broken and what to do."""


@dataclass
class Case:
    """What is stored of one test case.

    Attributes:
        match: what must be equal for the stored numbers to speak of the same thing.
        effects: per ``"A vs B: metric"`` estimate, low, high (per cent or points) and n.
        levels: per ``"arm: metric"`` the value and its spread (None when one block tells none), in
            the metric's unit.
        deviations: claims that are known not to hold here.
    """

    match: dict[str, str]
    effects: dict[str, list[float]] = field(default_factory=dict)
    levels: dict[str, list[float | None]] = field(default_factory=dict)
    deviations: list[str] = field(default_factory=list)


def fresh_case(match: Mapping[str, str], judged: Sequence[Judged], spreads: Spreads) -> Case:
    """What would be stored of these verdicts."""
    case = Case(dict(match))
    for j in judged:
        if j.verdict not in ("holds", "refuted"):
            continue
        assert j.estimate is not None
        assert j.low is not None
        assert j.high is not None
        case.effects[effect_key(j)] = [
            *(_rounded(j.in_percent(v)) for v in (j.estimate, j.low, j.high)),
            j.n,
        ]
        if j.verdict == "refuted":
            case.deviations.append(j.claim)
        if j.levels:
            for arm, level in zip(j.arms, j.levels, strict=True):
                key = level_key(arm, j)
                spread = spreads.get(key)
                case.levels[key] = [_rounded(level), None if spread is None else _rounded(spread)]
    return case


Spreads = Mapping[str, float]
"""Standard error of a level over its run blocks, per ``"arm: metric"``."""


def effect_key(j: Judged) -> str:
    """``"A vs B: metric [unit of the effect]"``."""
    return f"{j.arms[0]} vs {j.arms[1]}: {j.metric} [{'%' if j.scale == 'percent' else 'pp'}]"


def level_key(arm: str, j: Judged) -> str:
    """``"arm: metric"``."""
    return f"{arm}: {j.metric}"


def stale(stored: Case, fresh: Case) -> list[str]:
    """What differs of all that must match, said for a person."""
    return [
        f"{key} is {fresh.match.get(key, 'unknown')}, the baseline's is {stored.match.get(key)}"
        for key in sorted(stored.match.keys() | fresh.match.keys())
        if stored.match.get(key) != fresh.match.get(key)
    ]


def missing(stored: Case, fresh: Case) -> list[str]:
    """Entries that were measured and are not stored."""
    return sorted(
        (fresh.effects.keys() - stored.effects.keys())
        | (fresh.levels.keys() - stored.levels.keys())
    )


def unclaimed(stored: Case, judged: Sequence[Judged]) -> list[str]:
    """Entries and deviations that are stored and that no claim speaks of."""
    levels = {level_key(arm, j) for j in judged for arm in j.arms}
    return sorted(
        (stored.effects.keys() - {effect_key(j) for j in judged})
        | (stored.levels.keys() - levels)
        | (set(stored.deviations) - {j.claim for j in judged})
    )


def drifts(
    stored: Case,
    fresh: Case,
    claims: Sequence[tuple[Claim, Judged]],
    sessions: Spreads | None = None,
) -> list[str]:
    """Levels that moved by more than their margin and by more than their spread explains.

    Args:
        stored, fresh: the two cases.
        claims: what was judged; its margins.
        sessions: spread between sessions per ``"arm: metric"``, from the ledger. A time whose
            spread is not known there is taken to move by SESSION_SPREAD: stored levels are of
            another hour, and only large changes of them can be told.
    """
    found = []
    for claim, j in claims:
        for arm in j.arms:
            key = level_key(arm, j)
            if key not in stored.levels or key not in fresh.levels:
                continue
            (was, was_spread), (now, now_spread) = stored.levels[key], fresh.levels[key]
            assert was is not None
            assert now is not None
            margin = claim.margin.size / 100 * (abs(was) if j.scale == "percent" else 1.0)
            between = SESSION_SPREAD * abs(was) if claim.metric.timed else 0.0
            between = (sessions or {}).get(key, between)
            allowed = max(margin, SPREADS * math.hypot(was_spread or 0, now_spread or 0, between))
            if abs(now - was) > allowed:
                found.append(f"{key} went from {was:g} to {now:g}, more than {allowed:.2g}")
    return list(dict.fromkeys(found))


@dataclass
class Baselines:
    """The stored cases of one folder, read when asked for, changed as told, written at the end.

    Attributes:
        root: the folder ``baselines``.
        words: which of WORDS were asked for.
        written: files that were changed or removed.
        asked: hardware and finding of every file that was asked for.
    """

    root: Path
    words: frozenset[str] = frozenset()
    written: list[Path] = field(default_factory=list)
    asked: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        unknown = self.words - set(WORDS)
        if unknown:
            raise BaselineError(
                f"--rllm-baseline takes {', '.join(WORDS)} (joined by commas), "
                f"not {', '.join(sorted(unknown))}"
            )

    def path(self, hardware: str, finding: str) -> Path:
        return self.root / hardware / f"{finding}.json"

    def cases(self, hardware: str, finding: str) -> dict[str, Case]:
        """Stored cases by id; empty when there is no file.

        Raises:
            BaselineError: broken, of another finding, or of a newer schema.
        """
        self.asked.add((hardware, finding))
        path = self.path(hardware, finding)
        if not path.is_file():
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            schema = content["schema"]
            if schema > SCHEMA:
                raise BaselineError(
                    f"{path}: schema {schema}, this version reads up to {SCHEMA}: "
                    "update pytest-rllm"
                )
            if content["finding"] != finding:
                raise BaselineError(f"{path}: holds the finding {content['finding']!r}")
            return {name: Case(**case) for name, case in content["cases"].items()}
        except BaselineError:
            raise
        except json.JSONDecodeError as error:
            raise BaselineError(
                f"{path}:{error.lineno}: broken JSON ({error.msg}); mend it, or take it back from "
                "version control"
            ) from error
        except (KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
            raise BaselineError(
                f"{path}: not a baseline ({type(error).__name__}: {error}); mend it, or take it "
                "back from version control"
            ) from error

    def change(self, hardware: str, finding: str, case_id: str, fresh: Case) -> Case | None:
        """Store what the words allow of a fresh case; returns the case as it is stored now."""
        cases = self.cases(hardware, finding)
        before = cases.get(case_id)
        after = _changed(before, fresh, self.words)
        if after is None:
            return None
        cases[case_id] = after
        outdated = "update" in self.words and self._text(hardware, finding) != dump(finding, cases)
        if after != before or outdated:
            self._write(hardware, finding, cases)
            ledger.append(self.root / hardware, _accepted(finding, case_id, before, after))
        return after

    def sessions(self, hardware: str, finding: str, case_id: str) -> Spreads:
        """Spread between the sessions that stored a case, where there were enough."""
        return ledger.between_sessions(self._ledger(self.root / hardware), finding, case_id)

    def drifted(self) -> list[str]:
        """What accepted changes add up to, for the machines of the files that were written."""
        folders = dict.fromkeys(path.parent for path in self.written)
        return [said for folder in folders for said in ledger.drifted(self._ledger(folder))]

    def _ledger(self, folder: Path) -> list[ledger.Entry]:
        try:
            return ledger.read(folder)
        except ValueError as error:
            raise BaselineError(str(error)) from error

    def unused(self, existing: Mapping[str, set[str]]) -> list[str]:
        """Stored cases of this machine that no test stands for; ``existing`` as in :meth:`trim`."""
        return [
            f"{finding} [{case}]"
            for _, finding, cases in self._whole()
            for case in sorted(cases.keys() - existing.get(finding, set()))
        ]

    def trim(self, existing: Mapping[str, set[str]]) -> None:
        """Drop this machine's stored cases that no longer exist, and files of which none is left.

        Args:
            existing: case ids per finding; whole, so only right when nothing was left out.

        Raises:
            BaselineError: a file cannot be used; none is changed then.
        """
        for hardware, finding, cases in self._whole():
            kept = {k: v for k, v in cases.items() if k in existing.get(finding, ())}
            if kept != cases:
                self._write(hardware, finding, kept)

    def _whole(self) -> list[tuple[str, str, dict[str, Case]]]:
        """Hardware, finding and cases of every file of the machines that were asked for."""
        return [
            (hardware, path.stem, self.cases(hardware, path.stem))
            for hardware in sorted({hardware for hardware, _ in self.asked})
            for path in sorted((self.root / hardware).glob("*.json"))
            if path.name != machines.FILE
        ]

    def _text(self, hardware: str, finding: str) -> str | None:
        path = self.path(hardware, finding)
        return path.read_text(encoding="utf-8") if path.is_file() else None

    def _write(self, hardware: str, finding: str, cases: Mapping[str, Case]) -> None:
        path = self.path(hardware, finding)
        if cases:
            write_whole(path, dump(finding, cases))
        else:
            path.unlink(missing_ok=True)
        if path not in self.written:
            self.written.append(path)


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _accepted(finding: str, case: str, before: Case | None, after: Case) -> list[ledger.Entry]:
    """What the ledger has to hold of a change."""
    found = []
    for part in ("effects", "levels"):
        old: dict[str, list[float]] = getattr(before, part) if before else {}
        for key, value in sorted(getattr(after, part).items()):
            if old.get(key) != value:
                was = old[key][0] if key in old else None
                version = after.match.get("engine_version", "unknown")
                found.append(ledger.Entry(finding, case, key, was, value[0], version))
    return found


def _changed(before: Case | None, fresh: Case, words: frozenset[str]) -> Case | None:
    if before is None:
        return fresh if "create" in words else None
    # Under another match nothing new is stored: it would stand beside numbers of something else.
    create = "create" in words and ("fix" in words or before.match == fresh.match)
    after = Case(
        dict(before.match), dict(before.effects), dict(before.levels), [*before.deviations]
    )
    parts: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (after.effects, fresh.effects),
        (after.levels, fresh.levels),
    ]
    for old, new in parts:
        for key, value in new.items():
            if (key in old and "fix" in words) or (key not in old and create):
                old[key] = value
        if "trim" in words:
            for key in old.keys() - new.keys():
                del old[key]
    if "fix" in words:
        after.match, after.deviations = dict(fresh.match), [*fresh.deviations]
    elif "trim" in words:
        after.deviations = [d for d in after.deviations if d in fresh.deviations]
    if create and not fresh.effects.keys() <= before.effects.keys():
        after.deviations = list(dict.fromkeys([*after.deviations, *fresh.deviations]))
    return after


def dump(finding: str, cases: Mapping[str, Case]) -> str:
    """The file's text: schema first, keys sorted, one line per entry, four significant digits."""
    lines = ["{", f' "schema": {SCHEMA},', f' "finding": {json.dumps(finding)},', ' "cases": {']
    for i, (name, case) in enumerate(sorted(cases.items())):
        lines.append(f"  {json.dumps(name)}: {{")
        parts: list[tuple[str, Mapping[str, Any]]] = [
            ("effects", case.effects),
            ("levels", case.levels),
            ("match", case.match),
        ]
        lines.append(f'   "deviations": {json.dumps(sorted(case.deviations), ensure_ascii=False)},')
        for j, (title, entries) in enumerate(parts):
            lines.append(f'   "{title}": {{')
            lines += [
                f"    {json.dumps(key, ensure_ascii=False)}: {json.dumps(value)}"
                + ("," if k < len(entries) - 1 else "")
                for k, (key, value) in enumerate(sorted(entries.items()))
            ]
            lines.append("   }" + ("," if j < len(parts) - 1 else ""))
        lines.append("  }" + ("," if i < len(cases) - 1 else ""))
    return "\n".join([*lines, " }", "}"]) + "\n"


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
