"""What a build of llama.cpp says of itself: a ``llama-server``, or a Python with ``xllamacpp``."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ..base import EngineError
from ..environments import clean_environment
from ..launching import ANSWERS_WITHIN_S, Interpreter

SERVE = str(Path(__file__).with_name("serve.py"))
"""Run by the interpreter that has ``xllamacpp``."""
FOR_SERVE: Mapping[str, str | None] = {"PYTHONSAFEPATH": "1"}
"""Variables for it: what lies beside it in its folder is none of its modules."""
PROGRAM = "llama-server"
INSTALL = (
    "pip install 'pytest-rllm[llamacpp]', or name a llama-server of yours: "
    f"--rllm-engine llamacpp@/folder/{PROGRAM}"
)


@dataclass(frozen=True)
class Package:
    """An installed llama.cpp.

    Attributes:
        distribution: ``xllamacpp`` or ``llama-server``.
        version: of it.
        flags: that it takes, in their long form.
        speculation: kinds of speculation that it has, as llama.cpp calls them.
        on_cpu: whether it has no other device than the CPU.
        types: of numbers that it knows, as llama.cpp calls them.
    """

    distribution: str
    version: str
    flags: frozenset[str]
    speculation: frozenset[str]
    on_cpu: bool
    types: frozenset[str]


def has_package() -> bool:
    """Whether the running interpreter has ``xllamacpp``."""
    return find_spec("xllamacpp") is not None


def of_package(python: Interpreter) -> Package:
    """Asks an interpreter's ``xllamacpp``.

    Raises:
        EngineError: it has none, or one that does not import.
    """
    done = python.run(SERVE, "--tell", variables=FOR_SERVE)
    if done.returncode:
        nothing = f"it ended with status {done.returncode} and said nothing"
        last = (done.stderr.strip().splitlines() or [nothing])[-1]
        if "No module named 'xllamacpp'" in last:
            raise EngineError(f"llama.cpp is not installed for {python}: {INSTALL}")
        raise EngineError(
            f"xllamacpp is installed for {python}, but cannot be used: {last}; reinstall it, or "
            "take another version"
        )
    told = json.loads(done.stdout.splitlines()[-1])
    return Package(
        "xllamacpp",
        told["version"],
        frozenset(told["flags"]),
        frozenset(told["speculation"]),
        told["devices"] == ["CPU"],
        frozenset(told["types"]),
    )


@cache
def of_program(program: str) -> Package:
    """Asks a ``llama-server``.

    Raises:
        EngineError: it does not run.
    """
    version = version_of(Path(program))
    if version is None:
        raise EngineError(f"{program} does not run as {PROGRAM} does: try {program} --version")
    told = _said(program, "--help") or ""
    kinds = re.search(r"--spec-type\s+([a-z][\w,-]*)", told)
    types = re.search(r"--cache-type-k\s.*?allowed values: ([\w, ]+)", told, re.DOTALL)
    devices = (_said(program, "--list-devices") or "").partition("Available devices:")[2]
    return Package(
        PROGRAM,
        version,
        frozenset(re.findall(r"(?<![\w-])--[a-z][\w-]*", told)),
        frozenset(kinds[1].split(",") if kinds else ()),
        not devices.strip(),
        frozenset(types[1].replace(" ", "").split(",") if types else ()),
    )


def version_of(program: Path) -> str | None:
    """``b5549-abc1234`` of ``version: 5549 (abc1234)``, ``dev`` of ``version: dev``; None where it
    says something else."""
    told = _said(str(program), "--version") or ""
    found = re.search(r"^version:\s*(\S+)(?:\s+\(([^)\n]+)\))?", told, re.MULTILINE)
    if found is None:
        return None
    number = f"b{found[1]}" if found[1].isdigit() else found[1]
    return "-".join(filter(None, (number, found[2] and "-".join(found[2].split()))))


def _said(program: str, flag: str) -> str | None:
    try:
        done = subprocess.run(
            [program, flag],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWERS_WITHIN_S,
            env=clean_environment(),
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout + done.stderr
