"""What a conformance suite found, as a file per engine: ``--rllm-conformance DIR``."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ...engines.base import Endpoint
from ...reports.engine_table import SCHEMA
from ...telemetry.gpu import Gpu
from ...telemetry.hardware import hardware_id

PROPERTY = "rllm_conformance"
"""Name under which it travels in ``user_properties``, as JSON, which engine a test is of."""


def subject_of(adapter: Endpoint, called: tuple[str, str] | None) -> dict[str, Any]:
    """Which engine a suite is about.

    Args:
        adapter: the engine.
        called: name and version of a server that does not tell them.

    Returns:
        What the file says beside the tests, and ``url``, which no reason repeats.
    """
    gpu = Gpu()
    hardware = hardware_id(gpu, on_cpu=adapter.on_cpu)
    distribution, version = called or (adapter.distribution, adapter.version())
    return {
        "engine": called[0] if called else adapter.name,
        "distribution": distribution,
        "version": version,
        "on": "CPU" if hardware.startswith("cpu-") else "GPU",
        "hardware": hardware,
        "date": date.today().isoformat(),
        "url": adapter.url,
    }


class Recorder:
    """Collects the results of all conformance suites of a session, those of workers included.

    Args:
        folder: where files go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self._suites: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest after each phase of a test."""
        told = next((text for name, text in report.user_properties if name == PROPERTY), None)
        if told is None:
            return
        suite, _, test = report.nodeid.rpartition("::")
        about = json.loads(str(told))
        url = about.pop("url")
        found = self._suites.setdefault(suite, about | {"tests": {}})["tests"]
        if report.when == "call" or not report.passed:
            found[test] = result_of(report, url)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Called by pytest: write the files."""
        if session.exitstatus == pytest.ExitCode.INTERRUPTED:
            self.said.append("conformance: the session was interrupted, nothing was written")
            return
        if not self._suites:
            self.said.append("conformance: no conformance suite ran, nothing was written")
        names = [_slug(about["engine"]) for about in self._suites.values()]
        for (suite, about), name in zip(self._suites.items(), names, strict=True):
            if names.count(name) > 1:
                name += "-" + _slug(suite.rpartition("::")[2])
            path = self.folder / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            content = {"schema": SCHEMA} | about | {"tests": dict(sorted(about["tests"].items()))}
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            self.said.append(f"conformance: {path}")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Called by pytest: say what was written."""
        for line in self.said:
            terminalreporter.write_line(line)


def result_of(report: pytest.TestReport, url: str | None = None) -> dict[str, str]:
    """Outcome of a test, with its reason, in one line and without the URL of the server."""
    expected = getattr(report, "wasxfail", None)
    if report.passed and expected is None:
        return {"outcome": "passed"}
    if expected is not None and report.outcome == "skipped":
        return {"outcome": "skipped", "reason": _line(expected.removeprefix("reason: "), url)}
    if report.skipped:
        said = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        return {"outcome": "skipped", "reason": _line(str(said).removeprefix("Skipped: "), url)}
    crash = getattr(report.longrepr, "reprcrash", None)
    return {
        "outcome": "failed",
        "reason": _line(str(crash.message if crash else report.longrepr), url),
    }


def _line(text: str, url: str | None) -> str:
    first = next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
    return first.replace(url, "URL") if url else first


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
