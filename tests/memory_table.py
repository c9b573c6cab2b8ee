"""Writes the table of where pairs go on usual GPUs: ``python tests/memory_table.py docs/gpu.md``.

Configurations are those of the published models, and the GPUs are made up: nothing is measured.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from doubles.families import shape

from pytest_rllm.engines.memory import GIB, Need, need_of
from pytest_rllm.engines.placement import Card, NoRoom, lay_out
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.models import PAIRS, ModelPair
from pytest_rllm.reports.page_marks import write_or_print

SIZES = {
    "none": (0.0, 0.0),
    "RTX 4090": (23.99, 23.5),
    "L40S": (44.99, 44.4),
    "H100": (79.65, 79.1),
    "H200": (140.4, 139.8),
}
"""GiB of a GPU, and of these free while nobody uses it: 24, 48, 80 and 141 GB."""
MACHINES = {
    "24 GB": ("RTX 4090", 1),
    "48 GB": ("L40S", 1),
    "80 GB": ("H100", 1),
    "141 GB": ("H200", 1),
    "8 x 80 GB": ("H100", 8),
}
DRAFT = Serving(speculative="draft")
WITH_DRAFT = replace(PAIRS["r1-distill-qwen-7b"], draft="deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B")
ROWS: Sequence[tuple[str, ModelPair, Serving]] = (
    *(
        (name, PAIRS[name], Serving(prefix_caching=True))
        for name in (
            "tiny-gpu",
            "r1-distill-qwen-1.5b",
            "r1-distill-qwen-7b",
            "qwen3-8b",
            "r1-distill-qwen-14b",
            "qwen3-14b",
            "r1-distill-qwen-32b",
            "r1-distill-llama-70b",
        )
    ),
    ("r1-distill-qwen-7b, a 1.5B drafts", WITH_DRAFT, DRAFT),
)
MARKS = "<!-- memory table: begin -->", "<!-- memory table: end -->"


def cards(kind: str, count: int = 1) -> list[Card]:
    total, free = SIZES[kind]
    return [Card(i, str(i), total * GIB, free * GIB) for i in range(count)]


def needs(pair: ModelPair, *servings: Serving) -> list[Need]:
    """What servers of a pair need; of the bundled ones by their own files."""
    if pair.name.startswith("tiny"):
        return [need_of(each, pair) for each in servings]
    return [need_of(each, pair, shape=shape) for each in servings]


def goes(both: Sequence[Need], kind: str, count: int) -> str:
    """Where both arms go, in a word."""
    try:
        layout = lay_out(both, cards(kind, count))
    except NoRoom:
        return "-"
    gpus = max(layout.spreads)
    if layout.at_once == 1:
        return "in turns"
    if layout.each == 1:
        return f"{gpus} each"
    return f"spread over {gpus}" if gpus > 1 else "side by side"


def table() -> str:
    """The table as Markdown."""
    lines = [
        f"| pair | needs | {' | '.join(MACHINES)} |",
        f"| --- | --- | {' | '.join('---' for _ in MACHINES)} |",
    ]
    for name, pair, serving in ROWS:
        both = needs(pair, Serving(), serving)
        least = max(need.per_gpu(pair.gpus, 80 * GIB) for need in both) / GIB
        needed = f"{least:.1f}" + (f" on each of {pair.gpus}" if pair.gpus > 1 else "")
        cells = [name, needed, *(goes(both, *machine) for machine in MACHINES.values())]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(write_or_print(table, Path(sys.argv[1]) if sys.argv[1:] else None, MARKS))
