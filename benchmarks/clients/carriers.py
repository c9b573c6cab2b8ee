"""A client under comparison: how it is installed, run, and read. One file per client."""

from __future__ import annotations

import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import ClassVar

from pytest_rllm.models import pair_named

from .arrivals import Recorded
from .loads import Load

CARRIERS = {
    "us": "us:Us",
    "bare": "bare:Bare",
    "vllm": "vllm_bench:VllmBench",
    "guidellm": "guidellm:GuideLLM",
    "aiperf": "aiperf:AIPerf",
}
"""Name to module and class, imported when it is used."""
TOKENIZER = pair_named("tiny").path("reasoning")


class Carrier(ABC):
    """One client. It runs as a process of its own and leaves files.

    Attributes:
        name, title: in results, and for readers.
        keeps: which times it keeps, in words.
        requirements: what pip installs into its environment; none for those that run in ours.
        stages: whether it keeps the time of every delta, so that one run can climb a ladder.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    keeps: ClassVar[str]
    requirements: ClassVar[Sequence[str]] = ()
    stages: ClassVar[bool] = True

    def __init__(self, environments: Path) -> None:
        self.environment = environments / self.name

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return self.environment / "bin" / "python" if self.requirements else Path(sys.executable)

    def prepare(self) -> None:
        """Make its environment, unless there is one."""
        ready = self.environment / "ready"
        if not self.requirements or ready.is_file():
            return
        subprocess.run([sys.executable, "-m", "venv", self.environment], check=True)
        pip = [str(self.python), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        subprocess.run([*pip, *self.requirements], check=True)
        ready.write_text("\n".join(self.requirements))

    @property
    def version(self) -> str:
        """Name and version of the package that it is."""
        return f"pytest-rllm {metadata.version('pytest-rllm')}"

    @abstractmethod
    def command(self, url: str, load: Load, folder: Path) -> list[str]:
        """Arguments of the process that carries the load and leaves its files in the folder."""

    @property
    def env(self) -> dict[str, str]:
        """Variables of the process."""
        quiet = {
            "DO_NOT_TRACK": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        return {**os.environ, **quiet}

    @abstractmethod
    def read(self, load: Load, folder: Path) -> Recorded:
        """What the files tell; streams only where a reference server answered."""


def carrier(name: str, environments: Path) -> Carrier:
    module, _, kind = CARRIERS[name].partition(":")
    made: Carrier = getattr(import_module(f"{__package__}.{module}"), kind)(environments)
    return made


def installed(python: Path, package: str) -> str:
    """Name and version of a package in another environment."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return f"{package} {found.stdout.strip()}"
