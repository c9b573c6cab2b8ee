"""Synthetic samples, runs and verdicts: what an engine would have left behind, without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_rllm.datasets.prompts import Prompt
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling
from pytest_rllm.metrics import Metric
from pytest_rllm.records.deltas import Delta
from pytest_rllm.records.header import Header
from pytest_rllm.records.run import Run, Sample
from pytest_rllm.records.writer import RunWriter
from pytest_rllm.verdicts.claims import Claim, Verdict
from pytest_rllm.verdicts.judge import Judged
from pytest_rllm.verdicts.judgement import Judgement

VALUE = Metric("value", "s", "lower", "run", lambda run: run.header.notes["value"])
"""A metric that is whatever the header of the run says."""
TIME = replace(VALUE, name="time", timed=True)
SHARE = Metric("share", "share", "higher", "run", lambda run: run.header.notes["value"])
MACHINE = "0123456789ab"
"""Fingerprint of the machine of synthetic judgements."""
MATCH = {"hardware": "cpu-synthetic-2c", "engine": "mock", "engine_version": "1", "models": "x"}


def sample(
    question: str = "q0",
    answer: str = r"\boxed{7}",
    *,
    key: str = "7",
    template: str | None = None,
    tier: str = "easy",
    repeat: int = 0,
    intended_s: float = 0.0,
    late_s: float = 0.0,
    first_s: float = 0.25,
    ended_s: float = 1.0,
    tokens: int = 9,
    thought: str = "hm",
    deltas: Sequence[Delta] | None = None,
    finish_reason: str | None = "stop",
    error: str | None = None,
) -> Sample:
    """A request that thinks one token long at ``first_s`` and answers when it ends."""
    if deltas is None:
        deltas = [
            Delta(first_s, "reasoning" if thought else "", 1, thought),
            Delta(ended_s, "content", tokens - 1, answer),
        ]
    return Sample(
        prompt=Prompt(question, f"{question}?", key, tier, "math", template or question, repeat),
        intended_s=intended_s,
        sent_s=intended_s + late_s,
        ended_s=ended_s,
        deltas=list(deltas),
        usage={"completion_tokens": sum(d.tokens or 0 for d in deltas)},
        finish_reason=finish_reason,
        error=error,
    )


def run(
    *samples: Sample,
    arm: str = "A",
    serving: Serving | None = None,
    series: Mapping[str, Sequence[float]] | None = None,
    closing: Mapping[str, Any] | None = None,
    **about: Any,
) -> Run:
    """A finished run of these samples; each series is read evenly from 0 to the last end."""
    end_s = max((s.ended_s for s in samples), default=1.0)
    told: dict[str, Any] = {
        "arm": arm,
        "serving": serving or Serving(),
        "sampling": Sampling(256),
        "server": 1,
        "match": MATCH,
        "signature": (-0.5, -0.25) if arm == "A" else (-0.5, -0.5),
    }
    return Run(
        Header(**(told | about)),
        list(samples),
        {
            name: ([i * end_s / max(1, len(values) - 1) for i in range(len(values))], list(values))
            for name, values in (series or {}).items()
        },
        {
            "planned": len(samples),
            "wall_s": end_s,
            "loop_lag_share": 0.001,
            "monitor_error": None,
            "telemetry_errors": {},
            "delta_fields": ["content", "role"],
            **(closing or {}),
        },
    )


def valued(value: float, **about: Any) -> Run:
    """A run whose ``VALUE``, ``TIME`` and ``SHARE`` are this number."""
    return run(sample(), notes={"value": value}, **about)


def record(path: Path, of: Run) -> None:
    """Write a run as if it had been measured."""
    assert of.closing is not None
    with RunWriter(path, of.header) as writer:
        for each in of.samples:
            writer.sample(each)
        for name, (times, values) in of.series.items():
            for at_s, value in zip(times, values, strict=True):
                writer.point(at_s, {name: value})
        writer.close(of.closing)


def answers(*right: bool, first: int = 0, arm: str = "A") -> Run:
    """A run that answers the questions ``q<first>`` ... right or wrong."""
    return run(
        *(
            sample(f"q{i}", r"\boxed{7}" if is_right else r"\boxed{8}")
            for i, is_right in enumerate(right, first)
        ),
        arm=arm,
    )


def judged(
    claim: Claim,
    verdict: Verdict,
    effect: tuple[float, float, float] | None = (0.2, 0.3, 0.4),
    levels: tuple[float, float] | None = (0.75, 0.5),
    arms: tuple[str, str] = ("reasoning", "plain"),
) -> Judged:
    """A verdict on ``claim`` with an effect as low, estimate, high on the claim's own scale."""
    low, estimate, high = effect or (None, None, None)
    return Judged(
        claim=str(claim),
        slug=claim.slug,
        metric_slug=claim.metric.slug,
        metric=claim.metric.name,
        scale=claim.margin.scale,
        verdict=verdict,
        why=None,
        arms=arms,
        levels=levels,
        estimate=estimate,
        low=low,
        high=high,
        confidence=0.95,
        n=6,
        replicate="blocks",
        detectable=0.05,
    )


def judgement(
    *verdicts: tuple[Claim, Judged],
    comparison: str = "1",
    match: Mapping[str, str] = MATCH,
    spreads: Mapping[str, float] | None = None,
    **more: Any,
) -> Judgement:
    """What a comparison of that key shows when its claims have these verdicts."""
    return Judgement(
        comparison,
        verdicts[0][1].arms,
        tuple(replace(j, comparison=comparison) for _, j in verdicts),
        spreads=spreads or {},
        match=match,
        claims=tuple(claim for claim, _ in verdicts),
        **{"machine": MACHINE, **more},
    )
