"""The mock engine as the rest of the package sees it."""

from __future__ import annotations

import os
import sys
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from ...datasets.prompts import Prompt
from ...experiment.serving import Serving
from ...experiment.workloads import Sampling
from ...models import ModelPair
from ...telemetry.prometheus import Page, read_series, totals
from ..base import Launch, Launcher
from ..capabilities import COUNTERS, GAUGES, SPECULATION, Capabilities
from ..openai import OpenAIEndpoint
from .server import METRICS

KV_TOKENS = 6400
_ROOT = Path(__file__).parents[3]


class MockEngine(OpenAIEndpoint, Launcher):
    """Streams seeded answers from a process of its own, and runs no model.

    ``Serving(flags=...)`` takes the flags of ``python -m pytest_rllm.engines.mock --help``: how
    often it is right, its pace, and faults that it makes. A request with the field
    ``"reasons": false`` is answered without reasoning, as by a model with two modes.
    """

    name: ClassVar[str] = "mock"
    health_path: ClassVar[str] = "/health"
    metrics_path: ClassVar[str | None] = "/metrics"

    # ---- which one it is

    def version(self) -> str:
        """``mock``, so that it is seen wherever a version is shown."""
        return "mock"

    @cached_property
    def label(self) -> str:
        return f"mock engine at {self.url}" if self.url else "mock engine"

    @property
    def on_cpu(self) -> bool:
        return True

    # ---- what it can do

    @property
    def declared(self) -> Capabilities:
        return Capabilities(
            models=frozenset({"reasoning", "plain"}),
            series=frozenset({*GAUGES, *COUNTERS}),
            reasoning=True,
            fixed_length=True,
            token_counts=True,
            log_probabilities=True,
            seeds=True,
            prefix_caching=True,
            speculative=frozenset({"ngram", "draft"}),
            kv_cache_dtype=True,
            quantization=True,
            checkpoints=True,
            flags=True,
            is_mock=True,
        )

    # ---- how to ask it

    def body(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        """The request tells the mock the right answer: it could not find it."""
        told = {"answer": prompt.answer, "tier": prompt.tier}
        body = super().body(prompt, sampling)
        return body | {"fixed_length": sampling.fixed_length, "mock": told}

    def greedy_body(
        self, text: str, tokens: int, *, log_probabilities: bool = False
    ) -> dict[str, Any]:
        body = super().greedy_body(text, tokens, log_probabilities=log_probabilities)
        return body | {"fixed_length": True}

    # ---- what it tells

    def read_metrics(self, page: str, serving: Serving) -> Page:
        wanted = {
            ours: (theirs,)
            for ours, theirs in METRICS.items()
            if serving.speculative or ours not in SPECULATION
        }
        return read_series(page, wanted, f"{self.metrics_path} of the mock engine")

    def switched_on(self, page: str) -> list[str]:
        found = totals(page, {METRICS["drafts"], "mock:prefix_caching"})
        on = ["prefix caching"] if found.get("mock:prefix_caching") else []
        return on + ["speculation"] * (METRICS["drafts"] in found)

    # ---- how to start it

    def launch(self, serving: Serving, pair: ModelPair, port: int) -> Launch:
        """It needs no files of the pair: any model is the same to it."""
        options = {
            "--port": port,
            "--context": pair.context_of(serving.model),
            "--kv-tokens": KV_TOKENS * (2 if serving.kv_cache_dtype else 1),
            "--numerics": f"{serving.kv_cache_dtype or ''} {serving.quantization or ''}".strip(),
        }
        if serving.speculative:
            options["--speculative-tokens"] = serving.speculative_tokens
        argv = [text for flag, value in options.items() for text in (flag, str(value))]
        argv += ["--plain"] * (serving.model == "plain")
        argv += ["--prefix-caching"] * serving.prefix_caching
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "pytest_rllm.engines.mock"]
        own = pair.flags.get(self.name, ())
        return Launch([*command, *argv, *own, *serving.flags], {"PYTHONPATH": path})
