"""Blocks, names of arms and the order of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from synthetic import run, sample

from pytest_rllm.claims import higher, pct
from pytest_rllm.datasets import Prompt
from pytest_rllm.experiments import Arm, compare
from pytest_rllm.metrics import E2E
from pytest_rllm.samples import Run
from pytest_rllm.serving import Serving
from pytest_rllm.workloads import Sampling, closed, gamma, together


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


class WrittenDown:
    """Runs nothing: notes what would be run, and answers with a synthetic run."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.prepared: list[Arm] = []

    def prepare(self, arms: list[Arm]) -> None:
        self.prepared += arms

    def run(self, arm: Arm, path: Path, about: dict[str, Any]) -> Run:
        self.order.append(path.name)
        made = run(*(sample(p.id) for p in arm.prompts))
        made.about |= about
        return made


def compared(first: Arm, second: Arm, blocks: int = 4) -> Any:
    source = WrittenDown()
    about = {"finding": "f", "case": "c", "pair": "tiny"}
    return source, compare(source, first, second, blocks=blocks, where=Path("w"), about=about)


def test_every_question_is_in_one_block_and_tiers_are_mixed_in_each() -> None:
    whole = arm(prompts=prompts(36, "easy", "medium", "hard"))
    blocks = [whole.block(i, 6) for i in range(6)]
    assert sorted(p.id for b in blocks for p in b.prompts) == sorted(p.id for p in whole.prompts)
    for block in blocks:
        tiers = [p.tier for p in block.prompts]
        assert tiers.count("easy") == tiers.count("medium") == tiers.count("hard") == 2


def test_repeats_of_a_question_share_a_block_in_rounds() -> None:
    block = arm(prompts=prompts(12, repeats=3)).block(1, 4)
    assert [(p.id, p.repeat) for p in block.prompts] == [
        (f"q{i}", k) for k in range(3) for i in (3, 4, 5)
    ]


def test_blocks_of_an_open_loop_have_their_own_arrivals() -> None:
    whole = arm(workload=gamma(5, 2))
    assert whole.block(0, 2).workload.starts(6) != whole.block(1, 2).workload.starts(6)


def test_arms_take_turns() -> None:
    source, _ = compared(arm(), arm(serving=Serving(prefix_caching=True)))
    letters = [name[3] for name in source.order]
    assert "".join(letters) == "ABBAABBA"
    assert len(source.prepared) == 2


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (
            {"serving": Serving(kv_cache_dtype="fp8")},
            ("reasoning on easy", "reasoning, fp8 KV on easy"),
        ),
        ({"prompts": prompts(12, "hard")}, ("reasoning on easy", "reasoning on hard")),
        (
            {"workload": closed(4)},
            ("reasoning on easy, together", "reasoning on easy, 4 in flight"),
        ),
        (
            {"sampling": Sampling(9)},
            ("reasoning on easy, up to 64 tokens", "reasoning on easy, up to 9 tokens"),
        ),
    ],
)
def test_arms_are_named_by_what_tells_them_apart(change: dict[str, Any], names: Any) -> None:
    assert compared(arm(), arm(**change))[1].arms == names


def test_a_fingerprint_is_of_what_is_measured() -> None:
    changes: list[dict[str, Any]] = [
        {"serving": Serving(prefix_caching=True)},
        {"prompts": prompts(11)},
        {"workload": closed(4)},
        {"sampling": Sampling(9)},
    ]
    prints = {arm().fingerprint, *(arm(**change).fingerprint for change in changes)}
    assert len(prints) == 5
    assert arm().fingerprint == arm().fingerprint


def test_what_is_judged_has_a_name_and_a_spread() -> None:
    _, comparison = compared(arm(), arm(serving=Serving(prefix_caching=True)))
    comparison.shows(higher(E2E, by=pct(5)))
    (name,) = comparison.stored_as()
    assert name == "reasoning on easy vs reasoning, prefix caching on easy: E2E [%]"
    assert comparison.spreads() == dict.fromkeys(
        ["reasoning on easy: E2E", "reasoning, prefix caching on easy: E2E"], 0.0
    )
