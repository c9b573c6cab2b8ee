"""A server without a model that streams on a known, seeded schedule: clients are measured by it.

``python -m pytest_rllm.loadgen.reference_server`` serves in a process of its own, prints one line
of JSON with its URL, and ends when its standard input closes; :func:`running` starts one. The text
of each delta is the time (CLOCK_MONOTONIC) just before its bytes were handed to the kernel, see
:func:`truth`.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from ... import access
from .schedules import Script as Script
from .schedules import truth as truth


@dataclass
class Running:
    """A reference server that runs in a process of its own."""

    url: str
    pid: int


@contextlib.contextmanager
def running(*options: str) -> Iterator[Running]:
    """Start a server with these command line options; it ends with the context."""
    command = [sys.executable, "-m", "pytest_rllm.loadgen.reference_server", *options]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=access.child_environment(),
    )
    assert process.stdin
    assert process.stdout
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"the reference server ended with status {process.wait()} before it served; its "
                "standard error says why"
            )
        yield Running(json.loads(line)["url"], process.pid)
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
