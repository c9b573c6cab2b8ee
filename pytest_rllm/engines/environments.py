"""Virtual environments that hold one wheel of an engine, resolved by pip, checked and locked."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

from .base import EngineError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_BUILDS = ("torchvision", "torchaudio", "torchcodec")
"""A registry's wheels of them break the import of a CPU engine; text models need none of them."""
TORCHS_OWN = ("torch", "nvidia-", "cuda-", "triton")
"""How names begin whose versions follow the engine's torch, not the running environment."""
APART: dict[str, str | None] = {
    "PYTHONPATH": None,
    "PYTHONHOME": None,
    "VIRTUAL_ENV": None,
    "__PYVENV_LAUNCHER__": None,
    "PYTHONSAFEPATH": "1",
}
"""Variables (None removes) that keep the running environment and this folder out of another one."""
LAST_LINES = 15
_CHECK = """
import importlib, sys
from importlib import metadata
files = metadata.files(sys.argv[1]) or []
tops = {f.parts[0] for f in files if len(f.parts) == 2 and f.name == "__init__.py"}
for name in [*sys.argv[2:], *sorted(tops)]:
    importlib.import_module(name)
"""
_BLAMED = re.compile(r"The user requested \(constraint\) ([a-z0-9-]+)==")
"""How pip names a constraint for which there is no way."""


class CommandFailed(EngineError):
    """A command that makes an environment failed; ``output`` is all that it said."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


def clean_environment() -> dict[str, str]:
    """Variables for another environment's Python, which shall see nothing of the running one."""
    return {name: value for name, value in (os.environ | APART).items() if value is not None}


@dataclass(frozen=True)
class Venv:
    """A virtual environment that is being made.

    Attributes:
        folder: where; does not exist yet.
        log: every command and all that it said.
        say: told what is being done.
        held: file descriptors that stay open until the last command has ended.
    """

    folder: Path
    log: Path
    say: Callable[[str], None]
    held: tuple[int, ...] = ()

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def install(self, requirement: Requirement) -> None:
        """Make it, install the requirement, check that it imports, and write ``lock.txt``.

        Raises:
            EngineError: a command failed; with its last words and where the whole log is.
        """
        name = requirement.name
        self.log.unlink(missing_ok=True)
        self._run(f"making an environment for {name}", sys.executable, "-m", "venv", self.folder)
        with tempfile.TemporaryDirectory() as folder:
            wheels = ("--no-deps", "--only-binary", ":all:", "--dest", folder)
            self._pip(f"downloading {requirement}", "download", *wheels, str(requirement))
            wheel = Wheel(next(Path(folder).glob("*.whl")), frozenset(requirement.extras))
            how = self._install(wheel)
        installed = self.installed()
        torch = ["torch"] if "torch" in installed else []
        self._run(f"checking {requirement}", self.python, "-c", _CHECK, name, *torch)
        lock = [f"# {how}", *(f"{name}=={version}" for name, version in installed.items())]
        (self.folder / "lock.txt").write_text("\n".join(lock) + "\n")

    def _install(self, wheel: Wheel) -> str:
        """Install a wheel and what it needs; returns how that was resolved, in a sentence."""
        torch = wheel.cpu_torch
        if torch:
            self._install_torch(torch)
            needs = [str(need) for need in wheel.needs if need.name not in CUDA_BUILDS]
        else:
            extras = f"[{','.join(sorted(wheel.extras))}]" if wheel.extras else ""
            needs = [f"{wheel.path}{extras}"]
        here = versions_in(sys.path)
        taken = self._resolve(f"installing what {wheel.path.name} needs", needs, wheel.allows(here))
        if torch:
            self._pip(f"installing {wheel.path.name}", "install", "--no-deps", str(wheel.path))
        if not taken:
            return "resolved without the versions of the environment that asked for it"
        others = [name for name, v in self.installed().items() if here.get(name, v) != v]
        but = f", but for {', '.join(others)}" if others else ""
        return f"resolved with the versions of the environment that asked for it{but}"

    def _resolve(self, what: str, needs: list[str], versions: dict[str, str]) -> dict[str, str]:
        """Install needs with all the given versions that pip finds a way for; returns those."""
        constraints = self.folder / "constraints.txt"
        while versions:
            constraints.write_text("".join(f"{n}=={version}\n" for n, version in versions.items()))
            try:
                self._pip(what, "install", *needs, "--constraint", str(constraints))
                return versions
            except CommandFailed as failed:
                blamed = versions.keys() & _BLAMED.findall(failed.output) or versions.keys()
                versions = {n: version for n, version in versions.items() if n not in blamed}
        self._pip(f"{what}, with any versions", "install", *needs)
        return {}

    def _install_torch(self, torch: str) -> None:
        """PyTorch's builds for CPU are on its own index, or where somebody mirrors them."""
        install = ("install", "--no-deps", torch)
        try:
            self._pip(f"installing {torch}", *install)
        except EngineError:
            self._pip(
                f"installing {torch} from {TORCH_INDEX}", *install, "--index-url", TORCH_INDEX
            )

    def installed(self) -> dict[str, str]:
        """Canonical name to version of all that is in it, sorted, pip left out."""
        found = versions_in([str(path) for path in self.folder.glob("lib/python*/site-packages")])
        return {name: version for name, version in found.items() if name != "pip"}

    def _pip(self, what: str, command: str, *arguments: str) -> None:
        quiet = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")
        self._run(what, self.python, "-m", "pip", command, *quiet, *arguments)

    def _run(self, what: str, *command: str | Path) -> None:
        """Run a command to its end, its words in the log; nothing of it outlives a Ctrl-C."""
        line = shlex.join(str(word) for word in command)
        with open(self.log, "ab") as log:
            log.write(f"$ {line}\n".encode())
            log.flush()
            begins = log.tell()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=clean_environment(),
                start_new_session=True,
                pass_fds=self.held,
            )
        begun = time.monotonic()
        try:
            while process.poll() is None:
                self.say(f"{what} ({time.monotonic() - begun:.0f} s)")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.5)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if process.returncode:
            output = self.log.read_bytes()[begins:].decode(errors="replace")
            shown = "\n".join(f"  | {text}" for text in output.splitlines()[-LAST_LINES:])
            raise CommandFailed(
                f"{what} failed with status {process.returncode}\n  command: {line}\n"
                f"  log: {self.log}, last lines:\n{shown or '  | (it said nothing)'}",
                output,
            )


@dataclass(frozen=True)
class Wheel:
    """A wheel on disk, and what it needs here.

    Attributes:
        path: the file.
        extras: those of its extras that are wanted.
    """

    path: Path
    extras: frozenset[str] = frozenset()

    @cached_property
    def needs(self) -> list[Requirement]:
        """What it needs on this machine, by this interpreter, with its extras."""
        from packaging.requirements import Requirement

        with ZipFile(self.path) as wheel:
            name = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
            lines = HeaderParser().parsestr(wheel.read(name).decode()).get_all("Requires-Dist", [])
        found = []
        for need in map(Requirement, lines):
            asked = [{"extra": extra} for extra in ("", *self.extras)]
            if need.marker is None or any(need.marker.evaluate(extra) for extra in asked):
                need.marker = None
                found.append(need)
        return found

    @property
    def cpu_torch(self) -> str | None:
        """A CPU build's own PyTorch, as ``torch==2.13.0+cpu``; None for any other wheel."""
        torch = (str(need) for need in self.needs if need.name == "torch")
        return next((need for need in torch if "+cpu" in need), None)

    def allows(self, versions: Mapping[str, str]) -> dict[str, str]:
        """Those of the installed versions that nothing in its own needs speaks against."""
        from packaging.specifiers import SpecifierSet
        from packaging.utils import parse_wheel_filename

        wanted: dict[str, SpecifierSet] = {}
        for need in self.needs:
            name = _canonical(need.name)
            wanted[name] = wanted.get(name, SpecifierSet()) & need.specifier
        not_shared = ("torch",) if self.cpu_torch else TORCHS_OWN
        return {
            name: version
            for name, version in versions.items()
            if name != parse_wheel_filename(self.path.name)[0]
            and not name.startswith(not_shared)
            and wanted.get(name, SpecifierSet()).contains(version, prereleases=True)
        }


def versions_in(folders: list[str]) -> dict[str, str]:
    """Canonical name to version of all that is installed in folders, sorted."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions(path=folders):
        if distribution.name:  # None for what a broken uninstallation left behind
            found.setdefault(_canonical(distribution.name), distribution.version)
    return dict(sorted(found.items()))


def _canonical(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)
