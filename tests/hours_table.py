"""Writes the table of hours on usual GPUs: ``python tests/hours_table.py docs/gpu.md``.

Each cell is what ``--rllm-plan`` says of all findings on a made-up machine: nothing is measured.
It takes some minutes.
"""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import datasets as library  # noqa: F401 - so that the processes of plans have it
import pytest
from doubles.mock_nvml import MockDevice
from doubles.planned import arguments, size_up, stand_in

from pytest_rllm.models import PAIRS, ModelPair
from pytest_rllm.reports.page_marks import write_or_print

GPUS = {
    "RTX 4090": ("NVIDIA GeForce RTX 4090", 23.99, (8, 9), 384, 10_501),
    "L40S": ("NVIDIA L40S", 44.99, (8, 9), 384, 9001),
    "H100": ("NVIDIA H100 80GB HBM3", 79.65, (9, 0), 5120, 2619),
    "H200": ("NVIDIA H200", 140.4, (9, 0), 6144, 3201),
}
"""Name, GiB, compute capability, bits of the memory's bus and its clock in MHz, as NVML tells."""
MACHINES = {
    "RTX 4090": ("RTX 4090", 1),
    "L40S": ("L40S", 1),
    "H100": ("H100", 1),
    "H200": ("H200", 1),
    "8 x H100": ("H100", 8),
}
ROWS = (
    "tiny-gpu",
    "r1-distill-qwen-1.5b",
    "r1-distill-qwen-7b",
    "qwen3-8b",
    "r1-distill-qwen-14b",
    "qwen3-14b",
    "r1-distill-qwen-32b",
    "r1-distill-llama-70b",
)
MARKS = "<!-- hours table: begin -->", "<!-- hours table: end -->"


@dataclass(frozen=True)
class Plan:
    """What a plan says: cases that would be measured, hours, and claims that cannot be seen."""

    cases: int
    hours: float | None
    unseen: int

    def __str__(self) -> str:
        if not self.cases:
            return "-"
        hours = "unknown" if self.hours is None else f"{self.hours:.1f} h"
        unseen = f" ({self.unseen})" if self.unseen else ""
        return f"{self.cases} cases, {hours}{unseen}"


def named(pair: ModelPair) -> dict[str, float]:
    """Every model that a pair names, each of a GiB: all of them can be had."""
    quantized = [model for roles in pair.quantized.values() for model in roles.values()]
    return {model: 1.0 for model in (pair.reasoning, pair.plain, pair.eagle, *quantized) if model}


def plan(pair: str, machine: str) -> Plan:
    """What a plan of all findings of a pair says on a machine. It changes this process."""
    said = io.StringIO()
    gpu, count = MACHINES[machine]
    name, gib, capability, bits, clock = GPUS[gpu]
    free = {"processes": (), "used_gib": 0.5, "bus_bits": bits, "memory_clock_mhz": clock}
    gpus = [MockDevice(name, gib, capability, **free) for _ in range(count)]  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("data").mkdir()
        stand_in(patch, Path(folder) / "cache", gpus, named(PAIRS[pair]))
        size_up(patch)
        patch.setenv("COLUMNS", "3000")  # a line for each sentence
        with redirect_stdout(said):
            pytest.main([*arguments(pair, "data"), "-s"])
    return read(said.getvalue())


def read(text: str) -> Plan:
    """The numbers of a plan.

    Raises:
        ValueError: it is none; with what it says.
    """
    cases = re.search(r"^(\d+) cases, \d+ comparisons; ", text, re.M)
    spent = re.search(r"^(hours|minutes): (?:about ([\d.]+)|unknown)", text, re.M)
    if cases is None or spent is None:
        raise ValueError(f"no plan: {text[-2000:]}")
    hours = float(spent[2]) / (60 if spent[1] == "minutes" else 1) if spent[2] else None
    left_out = re.findall(
        r"^not measured: (?:(\d+) cases: )?(.*cannot be seen here: .*)$", text, re.M
    )
    unseen = sum(int(count or 1) * why.count("cannot be seen here: ") for count, why in left_out)
    return Plan(int(cases[1]), hours, unseen)


def rows(pairs: Sequence[str]) -> list[str]:
    """Rows of the table, each plan in a process of its own."""
    cells = [(pair, machine) for pair in pairs for machine in MACHINES]
    with get_context("fork").Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        plans = dict(zip(cells, pool.starmap(plan, cells, chunksize=1), strict=True))
    return [
        f"| {pair} | {' | '.join(str(plans[pair, machine]) for machine in MACHINES)} |"
        for pair in pairs
    ]


def table() -> str:
    """The table as Markdown."""
    head = f"| pair | {' | '.join(MACHINES)} |", f"| --- | {' | '.join('---' for _ in MACHINES)} |"
    return "\n".join((*head, *rows(ROWS)))


if __name__ == "__main__":
    sys.exit(write_or_print(table, Path(sys.argv[1]) if sys.argv[1:] else None, MARKS))
