"""What adapters share that start servers: the Python that has an engine, its flags and parsers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..access import child_environment
from ..models import ModelPair
from .base import EngineError
from .environments import APART, last_line

if TYPE_CHECKING:
    from .builds import Build

ANSWERS_WITHIN_S = 60
"""Seconds that an installed engine has to say what it is."""
ONE_THREAD: Mapping[str, str | None] = {"OMP_NUM_THREADS": "1"}
"""For servers on a CPU: more threads than one fight with the server for the cores, and change
rounding."""


@dataclass(frozen=True)
class Interpreter:
    """The Python that has an engine; as a text it is its path.

    Attributes:
        path: absolute.
        apart: whether it is a build's, which must find nothing of the running environment.
    """

    path: str = sys.executable
    apart: bool = False

    def __str__(self) -> str:
        return self.path

    @classmethod
    def of(cls, build: Build | None) -> Interpreter:
        """That of a build; the running one where the build has none."""
        return cls(build.python, apart=True) if build and build.python else cls()

    @property
    def variables(self) -> dict[str, str | None]:
        """What its processes have in their environment (None removes): nothing of the running one,
        and its own programs first."""
        if not self.apart:
            return {}
        programs = f"{Path(self.path).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return APART | {"PATH": programs}

    def run(
        self, *arguments: str, variables: Mapping[str, str | None] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs it to its end, whatever its status.

        Args:
            arguments: behind its path.
            variables: further ones of its environment.

        Raises:
            EngineError: it does not start, or not end.
        """
        env = child_environment({**self.variables, **(variables or {})})
        command = [self.path, *arguments]
        try:
            return subprocess.run(
                command, capture_output=True, text=True, env=env, timeout=ANSWERS_WITHIN_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EngineError(f"{self} does not run: {error}") from error

    def said(self, *arguments: str) -> str:
        """What it prints.

        Raises:
            EngineError: it does not run, or ends with a status of failure.
        """
        done = self.run(*arguments)
        if done.returncode:
            raise EngineError(f"{self} does not run: {last_line(done.stderr)}")
        return done.stdout


def flags_of(options: Mapping[str, str | int | None]) -> list[str]:
    """Flags with their values, as a command has them, without those whose value is None."""
    return [
        text for flag, value in options.items() if value is not None for text in (flag, str(value))
    ]


def without_look_ups(checkpoint: str) -> dict[str, str | None]:
    """Variables with which a server looks up nothing for a checkpoint that is a folder here."""
    return {"HF_HUB_OFFLINE": "1"} if Path(checkpoint).is_dir() else {}


def parser_of(
    pair: ModelPair, engine: str, parsers: Mapping[str, str], one_mode: Collection[str]
) -> str:
    """An engine's name for how a pair's reasoning model marks its reasoning.

    Args:
        pair: the models.
        engine: what people call the engine.
        parsers: ``ModelPair.reasoning_format`` to the engine's name of its parser.
        one_mode: formats whose parser takes all text for reasoning until it is told to end, also
            in an answer to a request that wants none.

    Raises:
        ValueError: there is none, or not one for both modes of the pair's checkpoint.
    """
    if pair.reasoning_format not in parsers:
        raise ValueError(
            f"the model pair {pair.name!r} marks its reasoning as {pair.reasoning_format!r}, for "
            f"which no parser of {engine} is known here; there are {', '.join(parsers)}"
        )
    if pair.two_modes and pair.reasoning_format in one_mode:
        known = ", ".join(name for name in parsers if name not in one_mode)
        raise ValueError(
            f"the model pair {pair.name!r} is one checkpoint with two modes, and {engine}'s parser "
            f"of {pair.reasoning_format!r} takes every answer for reasoning, in both of them: "
            f"choose another reasoning_format; there are {known}"
        )
    return parsers[pair.reasoning_format]
