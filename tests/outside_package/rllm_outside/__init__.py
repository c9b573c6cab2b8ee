"""An engine, a report, a data set and a pair of models for pytest-rllm, from outside of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from pytest_rllm import Prompt
from pytest_rllm.engines.base import Launch
from pytest_rllm.engines.mock.engine import MockEngine
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.models import PAIRS, ModelPair
from pytest_rllm.reports.session_report import SessionReport


class OutsideMockEngine(MockEngine):
    """Runs no model: the shipped mock engine under another name, a little faster."""

    name: ClassVar[str] = "outside-mock"
    label = "outside mock engine"

    def launch(self, serving: Serving, pair: ModelPair, port: int) -> Launch:
        launch = super().launch(serving, pair, port)
        pace = ["--seconds-per-token", "0.0002", "--first-token-s", "0.001"]
        return Launch([*launch.argv, *pace], launch.env)


OUTSIDE = replace(PAIRS["tiny"], name="outside", tiers={"easy": "doubles"})
"""The bundled pair, asked the questions of this package."""


def doubles(_folder: Path | None) -> Iterator[Prompt]:
    """A data set: doubles of numbers."""
    for i in range(64):
        yield Prompt(f"double-{i}", f"What is twice {i}?", str(2 * i), "easy", "math", f"{i}")


def write(report: SessionReport, path: Path) -> None:
    """A report for a plot: one line per claim, with its effect in each block."""
    lines = [f"decision {report.decision.word if report.decision else 'none'}"]
    for row in report.rows:
        for judgement in row.judgements:
            for judged in judgement.verdicts:
                levels = [block.levels[judged.metric_slug] for block in judgement.blocks]
                lines.append(f"{row.title} {judged.key} {judged.verdict} {len(levels)} blocks")
    path.write_text("\n".join(lines) + "\n")
