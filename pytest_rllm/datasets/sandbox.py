"""Run the program of an answer in a sandbox, where the user has switched one on.

A program and the tests that call it run in a sandbox each (:mod:`.inside_sandbox`), without a
network, without files of the user's, without a place to write, and with limits of time, memory,
processes and output. What the sandbox of the tests ends with is the verdict.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..access import child_environment

TIME_S = 10
"""Time limit of a program with all its tests, in s; a program that takes longer is wrong."""
PIPE = 1 << 20
"""Size of a pipe, in bytes, into which a question and a program must fit."""
IMAGE = "python:3.12-slim"
"""Docker image that programs run in; it is not downloaded unasked."""
SYSTEM_PYTHON = "/usr/bin/python3"
NOBODY = 65534
"""User and group id of a program."""
_INSIDE = Path(__file__).with_name("inside_sandbox.py")
_chosen: str | None = None


class NoSandbox(ValueError):
    """No sandbox is switched on, or it does not work here; says what to do."""


def use(name: str | None) -> None:
    """Switch a sandbox on, or off with None.

    Raises:
        ValueError: there is no such sandbox.
    """
    global _chosen
    if name is not None and name not in SANDBOXES:
        raise ValueError(f"{' or '.join(SANDBOXES)}, not {name!r}")
    if name != _chosen:
        _passes.cache_clear()
    _chosen = name


def needed() -> str | None:
    """Why programs cannot be run now; None when a sandbox is on."""
    if _chosen is not None:
        return None
    return (
        "answers are programs, which run only in a sandbox: switch one on with "
        "--rllm-run-code=bwrap (Debian's package bubblewrap) or --rllm-run-code=docker"
    )


def check() -> None:
    """Try the sandbox that is on with a right program and a wrong one.

    Raises:
        NoSandbox: it does not work here; with the reason.
    """
    key = key_of("def two():\n", "def check(candidate):\n    assert candidate() == 2\n", "two")
    verdicts = [_run(f"def two():\n    return {n}\n", key) for n in (2, 3)]
    if [verdict == 0 for verdict in verdicts] != [True, False]:
        raise NoSandbox(f"the sandbox {_chosen} does not work here: {_complaint(key)}")


def key_of(setup: str, test: str, entry_point: str) -> str:
    """The answer key of a question whose answers are programs.

    Args:
        setup: start of the program that the question shows, up to the function to write.
        test: program that defines ``check(candidate)``, which raises where the function is wrong.
        entry_point: name of the function.
    """
    return json.dumps({"setup": setup, "test": test, "entry_point": entry_point})


def passes(program: str, key: str) -> bool:
    """Whether a program passes the tests of its question.

    Args:
        program: of the answer.
        key: of :func:`key_of`.

    Raises:
        NoSandbox: none is switched on.
    """
    if why := needed():
        raise NoSandbox(why)
    return _passes(program, key)


@lru_cache(maxsize=10_000)
def _passes(program: str, key: str) -> bool:
    return _run(program, key) == 0


def _run(program: str, key: str) -> int | None:
    """What the tests' sandbox ended with; None where there was no time or no room for it."""
    told = json.loads(key)
    lines = {
        "tests": json.dumps(told),
        "program": json.dumps({**told, "test": "", "program": program}),
    }
    if max(map(len, lines.values())) >= PIPE:  # JSON is ASCII
        return None
    ends = {role: os.pipe() for role in lines}
    names = {role: f"rllm-{role}-{uuid.uuid4().hex}" for role in lines}
    running: list[subprocess.Popen[bytes]] = []
    try:
        for role, line in lines.items():  # both have their first line before either may speak
            fcntl.fcntl(ends[role][1], fcntl.F_SETPIPE_SZ, PIPE)
            os.write(ends[role][1], line.encode() + b"\n")
        for role, other in (("tests", "program"), ("program", "tests")):
            running.append(_start(role, names[role], ends[role][0], ends[other][1]))
        for end in (end for pair in ends.values() for end in pair):
            os.close(end)
        ends = {}
        return running[0].wait(TIME_S)
    except subprocess.TimeoutExpired:
        return None
    finally:
        for end in (end for pair in ends.values() for end in pair):
            os.close(end)
        for process in running:
            process.kill()  # takes everything in its sandbox with it
            process.wait()
        if _chosen == "docker" and running:
            command = ["docker", "rm", "--force", *names.values()]
            subprocess.run(command, capture_output=True, check=False, env=child_environment())


def _start(role: str, name: str, read: int, write: int) -> subprocess.Popen[bytes]:
    assert _chosen is not None
    command = SANDBOXES[_chosen](name, role)
    try:
        return subprocess.Popen(
            command,
            stdin=read,
            stdout=write,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            **_as_nobody(),
        )
    except OSError as error:
        raise NoSandbox(f"{command[0]} cannot be started: {error.strerror}") from error


def _as_nobody() -> dict[str, Any]:
    """For root, whose processes no limit counts, and who can read everything."""
    if os.geteuid() or _chosen != "bwrap":
        return {}
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []}


def _complaint(key: str) -> str:
    """What the sandbox says when it is started by itself."""
    assert _chosen is not None
    with suppress(OSError, subprocess.TimeoutExpired):
        ended = subprocess.run(
            SANDBOXES[_chosen](f"rllm-try-{uuid.uuid4().hex}", "tests"),
            input=f"{key}\n".encode(),
            capture_output=True,
            timeout=TIME_S,
            env=child_environment(),
            check=False,
            **_as_nobody(),
        )
        said = ended.stderr.decode(errors="replace").strip().splitlines()
        return said[-1] if said else f"it ended with status {ended.returncode}"
    return "it cannot be started"


def bwrap_command(_name: str, role: str) -> list[str]:
    """The command line that runs a role in bubblewrap.

    Raises:
        NoSandbox: it is not installed.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise NoSandbox("bwrap is not installed: install bubblewrap, or use --rllm-run-code=docker")
    python, prefix = _python()
    bound: list[str] = []
    for path in ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", prefix):
        if os.path.islink(path):
            bound += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path) and (path == "/usr" or not path.startswith("/usr")):
            bound += ["--ro-bind", path, path]
    return [
        program,
        *("--unshare-all", "--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)),
        *("--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv"),
        *bound,
        *("--dev-bind", os.devnull, os.devnull, "--remount-ro", "/", "--chdir", "/"),
        *(python, "-I", "-S", "-B", "-c", _INSIDE.read_text("utf-8"), role),
    ]


def _python() -> tuple[str, str]:
    """An interpreter that the program's user can read, and the folder of its library.

    Raises:
        NoSandbox: there is none.
    """
    own = Path(os.path.realpath(sys.executable))
    folders = Path(sys.base_prefix).parents
    if not _as_nobody() or all(folder.stat().st_mode & 0o005 == 0o005 for folder in folders):
        return str(own), sys.base_prefix
    if Path(SYSTEM_PYTHON).exists():
        return SYSTEM_PYTHON, "/usr"
    raise NoSandbox(
        f"the user nobody, as which root runs programs, cannot read {own}, and there is no "
        f"{SYSTEM_PYTHON}: install it, or run as another user"
    )


def docker_command(name: str, role: str) -> list[str]:
    """The command line that runs a role in a container of :data:`IMAGE`.

    Raises:
        NoSandbox: docker is not installed.
    """
    program = shutil.which("docker")
    if program is None:
        raise NoSandbox("docker is not installed: install it, or use --rllm-run-code=bwrap")
    return [
        *(program, "run", "--rm", "--interactive", "--pull=never", "--name", name),
        *("--network=none", "--read-only", "--cap-drop=ALL"),
        *("--security-opt=no-new-privileges", f"--user={NOBODY}:{NOBODY}"),
        *("--memory=640m", "--memory-swap=640m", "--pids-limit=16", "--cpus=1"),
        IMAGE,
        *("python", "-I", "-S", "-B", "-c", _INSIDE.read_text("utf-8"), role),
    ]


SANDBOXES: dict[str, Callable[[str, str], Sequence[str]]] = {
    "bwrap": bwrap_command,
    "docker": docker_command,
}
"""Per name, what gives the command line for a container's name and a role."""
