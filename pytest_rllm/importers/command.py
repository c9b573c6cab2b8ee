"""``python -m pytest_rllm import``: result files of other tools become records, and verdicts."""

from __future__ import annotations

import argparse
import hashlib
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from ..records.run import Run
from ..reports.table import table_of
from . import ImportRefused, read
from .against import imported, judge

HELP = "turn result files of GuideLLM, AIPerf or vllm bench serve into run records, and judge them"
SAFE, NOT_SAFE, CANNOT_TELL = 0, 1, 8
"""Exit status; 2 is a wrong command line, as everywhere."""
STATUS = {"pass": SAFE, "fail": NOT_SAFE, "inconclusive": CANNOT_TELL, "invalid": CANNOT_TELL}
SAID = {
    SAFE: "safe: A is not worse than B by more than {:g} %",
    NOT_SAFE: "not safe: A is worse than B by more than {:g} %",
    CANNOT_TELL: "cannot tell whether A is worse than B by more than {:g} %",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("files", metavar="A", nargs="+", type=Path, help="result files")
    parser.add_argument(
        "--against",
        metavar="B",
        nargs="+",
        type=Path,
        help="judge the A against these, the first against the first, and so on: is A no worse? "
        "Eight of either or more, made in the order A B B A A B B A ... "
        "Exit status 0 safe, 1 not safe, 8 cannot tell",
    )
    parser.add_argument(
        "--margin",
        metavar="PERCENT",
        type=float,
        default=5.0,
        help="how much worse is still as good (5)",
    )
    parser.add_argument(
        "--fresh-servers",
        action="store_true",
        help="every run had a server that was started for it; otherwise one server of either side "
        "is presumed, and what two servers of one build may differ by widens every interval",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="where records go (.rllm/imports/<name of the file>)",
    )


def run(given: argparse.Namespace) -> int:
    """Import, and judge where asked to; returns the exit status."""
    against: list[Path] = given.against or []
    if not 0 < given.margin < 100:
        print(f"--margin is between 0 and 100 per cent, not {given.margin:g}", file=sys.stderr)
        return 2
    try:
        firsts = [record for file in given.files for record in _import(file, given.out, "A")]
        seconds = [record for file in against for record in _import(file, given.out, "B")]
        return _judge(firsts, seconds, given) if against else SAFE
    except ImportRefused as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
    except Exception:  # noqa: BLE001 - Python would exit with 1, which says "not safe" here
        traceback.print_exc()
    return CANNOT_TELL


def _import(file: Path, out: Path | None, arm: str) -> list[Run]:
    runs = read(file)
    folder = out or Path(".rllm") / "imports" / file.stem
    # Tools give all their files one name: what is in them tells their records apart.
    mark = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    records = []
    for number, foreign in enumerate(runs, 1):
        path = folder / f"{mark}-{number}.jsonl"
        record = foreign.record(path, arm=arm, file=file.name)
        failed = sum(sample.error is not None for sample in record.samples)
        print(
            f"{file} ({foreign.tool}, {foreign.name}): {len(record.samples)} requests, "
            f"{failed} failed -> {path}"
        )
        print(f"  kept: {', '.join(foreign.carries())}")
        reasons: dict[str, list[str]] = {}
        for name, why in imported(record).not_kept.items():
            reasons.setdefault(why, []).append(name)
        for why, names in reasons.items():
            print(f"  not kept: {', '.join(names)}: {why}")
        for doubt in foreign.doubts:
            print(f"  in doubt: {doubt}")
        records.append(record)
    return records


def _judge(firsts: Sequence[Run], seconds: Sequence[Run], given: argparse.Namespace) -> int:
    if len(firsts) != len(seconds):
        print(
            f"refused: {len(firsts)} runs against {len(seconds)}: the first is held against the "
            "first, and so on, so give as many of either",
            file=sys.stderr,
        )
        return CANNOT_TELL
    row = judge(firsts, seconds, given.margin, fresh_servers=given.fresh_servers)
    print(f"\n{table_of([row])}\n")
    status = STATUS[row.outcome]
    print(SAID[status].format(given.margin))
    return status
