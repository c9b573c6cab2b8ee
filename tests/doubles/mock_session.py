"""A measuring session whose runs come from a mock source, and whose engines only declare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from doubles.mock_source import MockSource
from pytest_rllm.baselines.machines import Machine
from pytest_rllm.baselines.store import Baselines
from pytest_rllm.engines.base import Launch, Launcher
from pytest_rllm.engines.capabilities import COUNTERS, GAUGES, Capabilities
from pytest_rllm.engines.openai import OpenAIEndpoint
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.reports.progress import Progress
from pytest_rllm.session.engines import Engines
from pytest_rllm.session.session import Session

EVERYTHING = Capabilities(
    models=frozenset({"reasoning", "plain"}),
    series=frozenset({*GAUGES, *COUNTERS}),
    reasoning=True,
    fixed_length=True,
    token_counts=True,
    log_probabilities=True,
    prefix_caching=True,
    speculative=frozenset({"ngram", "draft"}),
    kv_cache_dtype=True,
    quantization=True,
    tensor_parallel=True,
    flags=True,
)


class DeclaringEngine(OpenAIEndpoint, Launcher):
    """An engine that declares what it can do, and that nobody may start.

    Args:
        label: what people call it.
        declared: by default everything.
        key: tells builds of one label apart; the label by default.
    """

    name = "declaring"

    def __init__(
        self, label: str, declared: Capabilities = EVERYTHING, key: str | None = None
    ) -> None:
        super().__init__()
        self.label = label
        self._declared, self._key = declared, key or label

    @property
    def key(self) -> str:
        return self._key

    def version(self) -> str:
        return "1"

    @property
    def declared(self) -> Capabilities:
        return self._declared

    def launch(self, serving: Serving, pair: Any, port: int) -> Launch:
        raise AssertionError(f"{self.label} must not be started")


def measuring(
    source: MockSource,
    folder: Path,
    *engines: DeclaringEngine,
    against: str | None = None,
    **more: Any,
) -> Session:
    """A session whose runs of the pair "tiny" come from ``source``.

    Args:
        source: of the runs.
        folder: of the records and of the baselines.
        engines: by their labels; the first is the session's own.
        against: label of the engine that the gate compares with.
        more: further fields of the session.
    """
    engines = engines or (DeclaringEngine("engine 1"),)
    given: dict[str, Any] = {
        "engine_text": engines[0].label,
        "records": folder,
        "replaying": False,
        "baselines": Baselines(folder),
        "inconclusive": "fail",
        "data": None,
        "say": Progress(None),
        "against": against,
    }
    session = Session(**given | more)
    session.engines.made.update({engine.label: engine for engine in engines})
    session._sources["tiny"] = source
    session.machine = lambda hardware, _engine: Machine(  # type: ignore[method-assign]
        hardware, {"time": 0.0}, 8
    )
    return session


def mock_engines(
    monkeypatch: pytest.MonkeyPatch, source: MockSource, engines: Mapping[str, DeclaringEngine]
) -> None:
    """Let every session of this process measure with ``source``.

    Args:
        monkeypatch: undoes it.
        source: of all runs.
        engines: by what an option, or an arm, calls them.
    """

    def of(self: Engines, text: str) -> DeclaringEngine:
        return engines[text or self.text]

    def machine(self: Session, hardware: str, _engine: str) -> Machine:
        return Machine(hardware, {"time": 0.0, "E2E": 0.002}, 9)

    monkeypatch.setattr(Session, "source", lambda self, pair: source)
    monkeypatch.setattr(Engines, "of", of)
    monkeypatch.setattr(Session, "machine", machine)
