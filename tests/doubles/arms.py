"""Arms of synthetic questions."""

from __future__ import annotations

from typing import Any

from pytest_rllm.datasets.prompts import Prompt
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, together

CACHING = Serving(prefix_caching=True)


def prompts(n: int, *tiers: str, repeats: int = 1) -> list[Prompt]:
    tiers = tiers or ("easy",)
    return [
        Prompt(f"q{i}", f"question {i}", "7", tiers[i % len(tiers)], "math", f"q{i}", repeat=k)
        for k in range(repeats)
        for i in range(n)
    ]


def arm(**changed: Any) -> Arm:
    given = {
        "serving": Serving(),
        "prompts": prompts(12),
        "workload": together(),
        "sampling": Sampling(64),
    }
    return Arm(**given | changed)
