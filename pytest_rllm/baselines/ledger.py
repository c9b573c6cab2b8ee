"""The ledger of accepted changes: what every stored number was, from the first session on.

``baselines/<hardware>/<engine>/ledger.jsonl`` gets a line for each number that ``--rllm-baseline``
stores or changes. Small changes that were each accepted add up; the ledger shows the sum. And it
tells how far a level moves from one session to the next, which no session can tell by itself.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..records.files import write_whole

FILE = "ledger.jsonl"
SESSIONS = 4
"""Stored sessions from which the spread between sessions is taken; fewer tell little."""
Stored = Mapping[str, Sequence[float]]
"""What several sessions stored of a number, by the number's key."""


@dataclass(frozen=True)
class Entry:
    """One number that was stored.

    Attributes:
        finding, case, key: which; the key is that of ``baselines.Case.levels`` or ``effects``.
        was: what stood there before; None for the first one.
        now: what stands there since.
        engine_version: of the engine that gave it.
        machine: fingerprint of the machine that it was measured on; empty where it is unknown.
    """

    finding: str
    case: str
    key: str
    was: float | None
    now: float
    engine_version: str
    machine: str = ""


def append(folder: Path, entries: Iterable[Entry]) -> None:
    """Add lines to a folder's ledger."""
    lines = _lines(entries)
    if lines:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / FILE, "a", encoding="utf-8") as file:
            file.writelines(lines)


def replace(folder: Path, entries: Iterable[Entry]) -> None:
    """Put these lines in the place of a folder's ledger; without a line, the file is removed."""
    lines = _lines(entries)
    if lines:
        write_whole(folder / FILE, "".join(lines))
    else:
        (folder / FILE).unlink(missing_ok=True)


def _lines(entries: Iterable[Entry]) -> list[str]:
    return [json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in entries]


def read(folder: Path) -> list[Entry]:
    """A folder's ledger, the oldest entry first; empty without a file.

    Raises:
        ValueError: a broken line, with its number.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.append(Entry(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path}:{number}: broken line ({error}); fix the file, or restore it with "
                "`git checkout`"
            ) from error
    return found


def by_session(
    entries: Sequence[Entry], finding: str, case: str, machine: str, engine_version: str
) -> Stored:
    """Per key what the sessions on one machine stored with one version of the engine, where
    SESSIONS of them did: what another version changed is no scatter."""
    wanted = finding, case, machine, engine_version
    values: defaultdict[str, list[float]] = defaultdict(list)
    for entry in entries:
        if (entry.finding, entry.case, entry.machine, entry.engine_version) == wanted:
            values[entry.key].append(entry.now)
    return {key: numbers for key, numbers in values.items() if len(numbers) >= SESSIONS}


def drifted(entries: Sequence[Entry]) -> list[str]:
    """Sentences on every number that was changed since it was first stored."""
    first: dict[tuple[str, str, str], float] = {}
    last: dict[tuple[str, str, str], tuple[float, int]] = {}
    for entry in entries:
        where = (entry.finding, entry.case, entry.key)
        first.setdefault(where, entry.now)
        last[where] = (entry.now, last.get(where, (0.0, 0))[1] + 1)
    return [
        f"{finding} [{case}] {key}: {first[finding, case, key]:g} at first, {now:g} after "
        f"{times - 1} accepted change(s)"
        for (finding, case, key), (now, times) in last.items()
        if now != first[finding, case, key]
    ]
