"""The folder of baselines: what is stored of each test case, and how the four words change it.

A file is ``<hardware>/<engine>/<finding>.json``: numbers of one engine never replace those of
another. Files of schema 1 lie at ``<hardware>/<finding>.json``; they are used as they are, case by
case, until a case is written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..records.files import write_whole
from . import ledger, machines
from .case import (
    SCHEMA,
    Case,
    fresh_case,
    missing,
    stale,
    unclaimed,
)
from .format import BaselineError, dump, read
from .schema1 import SCHEMA_1, upgrade, upgrade_entries

__all__ = [
    "SCHEMA",
    "WORDS",
    "BaselineError",
    "Baselines",
    "Case",
    "dump",
    "fresh_case",
    "missing",
    "stale",
    "unclaimed",
    "upgrade",
]

WORDS = ("create", "fix", "trim", "update")
UNKNOWN = "unknown"
"""Engine version in the ledger of a case that does not say which it had."""


@dataclass
class Baselines:
    """The stored cases of one folder: read when asked for, changed as the words say.

    Attributes:
        root: the folder ``baselines``.
        words: which of WORDS were asked for.
        written: files that were changed or removed.
        asked: hardware, engine and finding of every file that was asked for.
        proposed: what writes the changes that wait until their test is over and has passed.
    """

    root: Path
    words: frozenset[str] = frozenset()
    written: list[Path] = field(default_factory=list)
    asked: set[tuple[str, str, str]] = field(default_factory=set)
    proposed: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        unknown = self.words - set(WORDS)
        if unknown:
            raise BaselineError(
                f"--rllm-baseline takes {', '.join(WORDS)} (joined by commas), "
                f"not {', '.join(sorted(unknown))}"
            )

    def path(self, hardware: str, engine: str, finding: str) -> Path:
        """Where the cases of a finding are stored."""
        return self.root / hardware / engine / f"{finding}.json"

    def cases(self, hardware: str, engine: str, finding: str) -> dict[str, Case]:
        """Stored cases by id; empty when there is no file.

        A case that is stored in schema 1 only has that schema's keys, see ``schema1.upgrade``.

        Raises:
            BaselineError: a file is broken, of another finding, or of a newer schema.
        """
        self.asked.add((hardware, engine, finding))
        old = {
            name: case
            for name, case in self._old(hardware, finding).items()
            if case.match.get("engine") == engine
        }
        return old | read(self.path(hardware, engine, finding), finding)

    def change(
        self, hardware: str, engine: str, finding: str, case_id: str, fresh: Case
    ) -> Case | None:
        """Store what the words allow of a fresh case; returns the case as it is stored now, with
        today's keys."""
        after = self.propose(hardware, engine, finding, case_id, fresh)
        self.store()
        return after

    def propose(
        self, hardware: str, engine: str, finding: str, case_id: str, fresh: Case
    ) -> Case | None:
        """As :meth:`change`, but nothing is written before :meth:`store`.

        Raises:
            BaselineError: a file cannot be used.
        """
        cases = self.cases(hardware, engine, finding)
        stored = cases.get(case_id)
        before = None if stored is None else upgrade(stored, fresh.judgements)
        after = _changed(before, fresh, self.words)
        if after is None:
            return None
        cases[case_id] = after
        self._ledger(self.path(hardware, engine, finding).parent)  # a broken one fails the case

        def write() -> None:
            outdated = "update" in self.words and self._outdated(hardware, engine, finding, cases)
            if after == before and not outdated:
                return
            self._write(hardware, engine, finding, cases)
            folder = self.path(hardware, engine, finding).parent
            if stored is not None and stored.schema == SCHEMA_1:
                self._move_ledger(folder, finding, case_id, fresh)
            ledger.append(folder, _accepted(finding, case_id, before, after))

        self.proposed.append(write)
        return after

    def store(self) -> None:
        """Write what was proposed.

        Raises:
            BaselineError: a file cannot be used.
        """
        proposed, self.proposed = self.proposed, []
        for write in proposed:
            write()

    def elsewhere(
        self,
        hardware: str,
        engine: str,
        finding: str,
        case_id: str,
        match: Mapping[str, str] | None = None,
        *,
        any_amount: bool = False,
    ) -> dict[str, Case]:
        """The same case as other classes of machine of the same kind (CPU or GPU) stored it, by
        the class: what is no time may be known from them.

        Args:
            hardware, engine, finding, case_id: of the case here.
            match: what must be equal, the hardware apart; None for whatever is stored.
            any_amount: whether another number of questions will do, as this class may have stored.
        """
        free = {"hardware", "arms"} if any_amount else {"hardware"}
        wanted = {key: value for key, value in (match or {}).items() if key not in free}
        kind = hardware.partition("-")[0]
        found = {}
        for folder in sorted(self.root.glob(f"{kind}-*/{engine}")):
            other = folder.parent.name
            path = self.path(other, engine, finding)
            case = read(path, finding).get(case_id) if any_amount or other != hardware else None
            if case is None:
                continue
            same = {key: value for key, value in case.match.items() if key not in free} == wanted
            if same or match is None:
                found[other] = case
        return found

    def sessions(
        self, hardware: str, engine: str, finding: str, case_id: str, machine: str = ""
    ) -> ledger.Stored:
        """What the sessions of a machine stored of a case with the engine version that is stored
        now, where there were enough; with the keys of the case as it is stored."""
        folder = self.path(hardware, engine, finding).parent
        stored = self.cases(hardware, engine, finding).get(case_id)
        if stored is None:
            return {}
        if stored.schema == SCHEMA_1:
            folder = folder.parent
        version = stored.match.get("engine_version", UNKNOWN)
        return ledger.by_session(self._ledger(folder), finding, case_id, machine, version)

    def drifted(self) -> list[str]:
        """What accepted changes add up to, for the folders of the files that were written."""
        folders = dict.fromkeys(path.parent for path in self.written)
        return [said for folder in folders for said in ledger.drifted(self._ledger(folder))]

    def outdated(self) -> list[Path]:
        """Files of schema 1 whose cases were asked for: ``update`` converts them."""
        return sorted(
            {
                self._old_path(hardware, finding)
                for hardware, engine, finding in tuple(self.asked)
                for case in self.cases(hardware, engine, finding).values()
                if case.schema == SCHEMA_1
            }
        )

    def unused(self, existing: Mapping[str, set[str]]) -> list[str]:
        """Stored cases of this session's machines and engines that no test stands for;
        ``existing`` as in :meth:`trim`."""
        return [
            f"{finding} [{case}] of {engine}"
            for _, engine, finding, cases in self._whole()
            for case in sorted(cases.keys() - existing.get(finding, set()))
        ]

    def trim(self, existing: Mapping[str, set[str]]) -> None:
        """Drop stored cases of this session's machines and engines that no longer exist, and files
        of which no case is left.

        Args:
            existing: case ids per finding; whole, so only right when nothing was left out.

        Raises:
            BaselineError: a file cannot be used; none is changed then.
        """
        for hardware, engine, finding, cases in list(self._whole()):
            kept = {k: v for k, v in cases.items() if k in existing.get(finding, ())}
            if kept != cases:
                self._write(hardware, engine, finding, kept)

    def _whole(self) -> Iterator[tuple[str, str, str, dict[str, Case]]]:
        """Hardware, engine, finding and cases of every file of the folders that were asked for."""
        for hardware, engine in sorted({(hardware, engine) for hardware, engine, _ in self.asked}):
            folder = self.root / hardware
            paths = [*folder.glob("*.json"), *(folder / engine).glob("*.json")]
            for finding in sorted({path.stem for path in paths if path.name != machines.FILE}):
                yield hardware, engine, finding, self.cases(hardware, engine, finding)

    def _old_path(self, hardware: str, finding: str) -> Path:
        return self.root / hardware / f"{finding}.json"

    def _old(self, hardware: str, finding: str) -> dict[str, Case]:
        """Cases of all engines that are stored in schema 1."""
        return read(self._old_path(hardware, finding), finding, SCHEMA_1)

    def _ledger(self, folder: Path) -> list[ledger.Entry]:
        try:
            return ledger.read(folder)
        except ValueError as error:
            raise BaselineError(str(error)) from error

    def _move_ledger(self, folder: Path, finding: str, case_id: str, fresh: Case) -> None:
        """Take a case's lines out of the ledger of schema 1, into that of the engine."""
        entries = self._ledger(folder.parent)
        moved = [e for e in entries if (e.finding, e.case) == (finding, case_id)]
        ledger.append(folder, upgrade_entries(moved, fresh.judgements))
        ledger.replace(folder.parent, [entry for entry in entries if entry not in moved])

    def _outdated(
        self, hardware: str, engine: str, finding: str, cases: Mapping[str, Case]
    ) -> bool:
        """Whether the file's text is not the one that would be written today."""
        path = self.path(hardware, engine, finding)
        today = {name: case for name, case in cases.items() if case.schema == SCHEMA}
        return not path.is_file() or path.read_text(encoding="utf-8") != dump(finding, today)

    def _write(self, hardware: str, engine: str, finding: str, cases: Mapping[str, Case]) -> None:
        """Store these cases and no others of the engine, each in the place of its schema."""
        today = {name: case for name, case in cases.items() if case.schema == SCHEMA}
        self._put(self.path(hardware, engine, finding), finding, today, SCHEMA)
        old = self._old(hardware, finding)
        kept = {
            name: case
            for name, case in old.items()
            if case.match.get("engine") != engine or cases.get(name) == case
        }
        if kept != old:
            self._put(self._old_path(hardware, finding), finding, kept, SCHEMA_1)

    def _put(self, path: Path, finding: str, cases: Mapping[str, Case], schema: int) -> None:
        if not cases and not path.exists():
            return
        if cases:
            write_whole(path, dump(finding, cases, schema))
        else:
            path.unlink()
        if path not in self.written:
            self.written.append(path)


def _accepted(finding: str, case: str, before: Case | None, after: Case) -> list[ledger.Entry]:
    """What the ledger has to hold of a change."""
    found = []
    for part in ("effects", "levels"):
        old: dict[str, list[float]] = getattr(before, part) if before else {}
        for key, value in sorted(getattr(after, part).items()):
            if old.get(key) != value:
                was = old[key][0] if key in old else None
                version = after.match.get("engine_version", UNKNOWN)
                found.append(
                    ledger.Entry(finding, case, key, was, value[0], version, after.machine)
                )
    return found


def _changed(before: Case | None, fresh: Case, words: frozenset[str]) -> Case | None:
    if before is None:
        return fresh if "create" in words else None
    # Under another match nothing new is stored: it would stand beside numbers of something else.
    create = "create" in words and ("fix" in words or before.match == fresh.match)
    after = Case(
        dict(before.match),
        dict(before.effects),
        dict(before.levels),
        [*before.deviations],
        dict(before.labels),
        before.machine,
        dict(before.reference_s),
    )
    if "fix" in words and before.machine != fresh.machine:
        after.machine, after.levels = fresh.machine, dict(fresh.levels)
    # The levels of another machine stay as they are: none of this one's is put between them.
    levels = fresh.levels if after.machine == fresh.machine else before.levels
    parts: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
        (after.effects, fresh.effects, fresh.effects),
        (after.levels, levels, fresh.levels),
    ]
    for old, new, claimed in parts:
        for key, value in new.items():
            if (key in old and "fix" in words) or (key not in old and create):
                old[key] = value
        if "trim" in words:
            for key in old.keys() - claimed.keys():
                del old[key]
    if "fix" in words:
        after.match, after.deviations = dict(fresh.match), [*fresh.deviations]
        after.reference_s = dict(fresh.reference_s)
    elif "trim" in words:
        after.deviations = [d for d in after.deviations if d in fresh.deviations]
    if create and not fresh.effects.keys() <= before.effects.keys():
        after.deviations = list(dict.fromkeys([*after.deviations, *fresh.deviations]))
    if create:
        after.labels = fresh.labels | after.labels
    if words & {"fix", "update"}:
        after.labels |= fresh.labels
    if "trim" in words:
        after.labels = {key: after.labels[key] for key in after.labels if key in fresh.labels}
    return after
