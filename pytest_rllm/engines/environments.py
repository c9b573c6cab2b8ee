"""Virtual environments that hold one version of an engine, resolved by uv, checked and locked."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from .. import access
from .base import EngineError
from .pip_settings import UvSettings, uv_settings

if TYPE_CHECKING:
    from packaging.requirements import Requirement

TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_BUILDS = ("torchvision", "torchaudio", "torchcodec")
"""Left out beside a CPU torch: the wheels on the default index are CUDA builds, which break the
import of a CPU engine. Text models need none of them."""
TORCHS_OWN = ("torch", "nvidia-", "cuda-", "triton")
"""Prefixes of packages whose versions follow the engine's torch, not the running environment."""
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


def clean_environment() -> dict[str, str]:
    """Variables for another environment's Python, without those of the running environment."""
    return access.child_environment(APART)


@dataclass(frozen=True)
class Venv:
    """A virtual environment that is being made.

    Attributes:
        folder: where; does not exist yet.
        log: every command and its output.
        say: called with what is being done.
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
            EngineError: a command failed; with its last lines and where the whole log is.
        """
        name, here = requirement.name, versions_in(sys.path)
        self.log.unlink(missing_ok=True)
        self._run(f"making an environment for {name}", [sys.executable, "-m", "venv", self.folder])
        settings = Path(sys.prefix) / "pip.conf"
        if settings.is_file():  # those that pip has in the running environment only
            shutil.copy(settings, self.folder)
        only_wheels = ("--no-deps", "--only-binary", name)
        self._uv(f"downloading {requirement}", "install", *only_wheels, str(requirement))
        engine = Installed(name, tuple(self._folders), frozenset(requirement.extras))
        needs, left_out = [str(requirement)], list[str]()
        if engine.cpu_torch:
            self._install_torch(engine.cpu_torch)
            left_out = ["torch", *CUDA_BUILDS]
            needs += map(str, Installed("torch", tuple(self._folders)).needs)
        self._install_needs(name, needs, left_out, engine.shareable(here))
        installed = self.installed()
        torch = ["torch"] if "torch" in installed else []
        self._run(f"checking {requirement}", [self.python, "-c", _CHECK, name, *torch])
        lock = [f"# {_how(installed, here, name)}"]
        lock += [f"{name}=={version}" for name, version in installed.items()]
        (self.folder / "lock.txt").write_text("\n".join(lock) + "\n")

    def _install_needs(
        self, engine: str, needs: list[str], left_out: list[str], preferred: Mapping[str, str]
    ) -> None:
        """Resolve the needs of an engine without those left out, and install the result.

        uv prefers the versions in the output file to newer ones, and takes others where it must.
        """
        wanted, excluded = self.folder / "wanted.txt", self.folder / "excluded.txt"
        resolved = self.folder / "resolved.txt"
        wanted.write_text("".join(f"{need}\n" for need in needs))
        excluded.write_text("".join(f"{name}\n" for name in left_out))
        resolved.write_text("".join(f"{name}=={version}\n" for name, version in preferred.items()))
        files = (str(wanted), "--excludes", str(excluded), "--output-file", str(resolved))
        self._uv(f"resolving what {engine} needs", "compile", *files, "--no-header")
        lock = ("--no-deps", "--requirements", str(resolved))
        self._uv(f"installing what {engine} needs", "install", "--compile-bytecode", *lock)

    def _install_torch(self, torch: str) -> None:
        """PyTorch's CPU builds are on its own index, or on a mirror that pip is configured with."""
        quiet = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")
        install = [str(self.python), "-m", "pip", "install", *quiet, "--no-deps", torch]
        try:
            self._run(f"installing {torch}", install)
        except EngineError:
            self._run(
                f"installing {torch} from {TORCH_INDEX}", [*install, "--index-url", TORCH_INDEX]
            )

    @property
    def _folders(self) -> list[str]:
        return [str(path) for path in self.folder.glob("lib/python*/site-packages")]

    def installed(self) -> dict[str, str]:
        """Canonical name to version of all that is in it, sorted, pip left out."""
        found = versions_in(self._folders)
        return {name: version for name, version in found.items() if name != "pip"}

    @cached_property
    def _settings(self) -> UvSettings:
        """pip's settings for uv; not logged, because addresses of indexes may hold passwords."""
        command = [str(self.python), "-m", "pip", "config", "list"]
        done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
        if done.returncode:
            raise EngineError(
                f"pip's configuration cannot be read: correct it, or see what {shlex.join(command)}"
                f" says:\n{_shown(done.stderr)}"
            )
        return uv_settings(done.stdout, clean_environment())

    def _uv(self, what: str, command: str, *arguments: str) -> None:
        """Run ``uv pip`` for this environment, without the settings of a project around it."""
        options = ("--color", "never", "--project", str(self.folder), "--python", str(self.python))
        line = [_uv_program(), "pip", command, *options, *self._settings.options, *arguments]
        self._run(what, line, self._settings.variables)

    def _run(
        self, what: str, command: Sequence[str | Path], variables: Mapping[str, str] | None = None
    ) -> None:
        """Run a command to its end, its output in the log; a Ctrl-C ends all that it started."""
        line, added = shlex.join(str(word) for word in command), variables or {}
        with open(self.log, "ab") as log:
            log.write(f"$ {line}\n".encode())
            if added:
                log.write(f"# with pip's configuration as {', '.join(added)}\n".encode())
            log.flush()
            begins = log.tell()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=clean_environment() | dict(added),
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
            raise EngineError(
                f"{what} failed with status {process.returncode}\n  command: {line}\n"
                f"  log: {self.log}, last lines:\n{_shown(output)}"
            )


@dataclass(frozen=True)
class Installed:
    """A package that is installed, and what it needs on this machine.

    Attributes:
        name: the package.
        folders: where it is installed.
        extras: those of its extras that are wanted.
    """

    name: str
    folders: tuple[str, ...]
    extras: frozenset[str] = frozenset()

    @cached_property
    def needs(self) -> list[Requirement]:
        """What it needs on this machine, by this interpreter, with its extras."""
        from packaging.requirements import Requirement

        distributions = metadata.distributions(name=self.name, path=list(self.folders))
        found = []
        for need in map(Requirement, next(iter(distributions)).requires or []):
            asked = [{"extra": extra} for extra in ("", *self.extras)]
            if need.marker is None or any(need.marker.evaluate(extra) for extra in asked):
                need.marker = None
                found.append(need)
        return found

    @property
    def cpu_torch(self) -> str | None:
        """A CPU build's own PyTorch, as ``torch==2.13.0+cpu``; None for any other package."""
        torch = (str(need) for need in self.needs if need.name == "torch")
        return next((need for need in torch if "+cpu" in need), None)

    def shareable(self, versions: Mapping[str, str]) -> dict[str, str]:
        """Those of the running environment's versions that are preferred beside this engine."""
        not_shared = ("torch",) if self.cpu_torch else TORCHS_OWN
        return {
            name: version
            for name, version in versions.items()
            if name != self.name and not name.startswith(not_shared) and _is_version(version)
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


def _is_version(text: str) -> bool:
    """Whether uv can read it; some old packages have versions that no standard allows."""
    from packaging.version import Version

    try:
        Version(text)
    except ValueError:  # InvalidVersion, or more digits than Python reads
        return False
    return True


def _how(installed: Mapping[str, str], here: Mapping[str, str], engine: str) -> str:
    """How an environment was resolved, in a sentence, with what differs from the running one."""
    others = [
        f"{name} {version} (running environment: {here[name]})"
        for name, version in installed.items()
        if name != engine and here.get(name, version) != version
    ]
    return (
        f"resolved by uv {metadata.version('uv')}, which prefers the versions of the running "
        f"environment; different: {', '.join(others) or 'none'}"
    )


def _uv_program() -> str:
    import uv

    try:
        return uv.find_uv_bin()
    except FileNotFoundError as error:
        raise EngineError(
            f"the package uv is installed, but not its program ({error}); reinstall it with "
            "python -m pip install --force-reinstall uv"
        ) from error


def last_line(output: str) -> str:
    """The last line of what a program printed: of a traceback the error."""
    return (output.strip().splitlines() or ["it said nothing"])[-1].strip()


def _shown(output: str) -> str:
    lines = [f"  | {text}" for text in output.splitlines()[-LAST_LINES:]]
    return "\n".join(lines or ["  | (no output)"])
