"""What servers take of GPUs, and where they go: the table of the pairs on usual GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from doubles.families import shape
from doubles.mock_nvml import MockDevice, MockNvml
from memory_table import DRAFT, MARKS, WITH_DRAFT, cards, needs, table

from pytest_rllm.engines.budget import Budget
from pytest_rllm.engines.memory import GIB, Need, need_of
from pytest_rllm.engines.placement import Card, Layout, NoRoom, Placement, lay_out
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.models import PAIRS, ModelPair
from pytest_rllm.telemetry.gpu import Gpu

Q7, Q14, Q32 = (PAIRS[f"r1-distill-qwen-{size}"] for size in ("7b", "14b", "32b"))
L70, TINY = PAIRS["r1-distill-llama-70b"], PAIRS["tiny-gpu"]


def both(pair: ModelPair, *servings: Serving) -> list[Need]:
    """Of both arms: the base and, by default, one that needs as much."""
    return needs(pair, Serving(), *(servings or (Serving(prefix_caching=True),)))


@pytest.mark.parametrize(
    ("pair", "serving", "gpus", "weights", "kv"),
    [
        (Q7, Serving(), 1, 14.2, 1.75),
        (WITH_DRAFT, DRAFT, 1, 17.5, 2.63),
        (Q14, Serving(), 1, 27.5, 6.0),
        (Q32, Serving(), 1, 61.0, 8.0),
        (Q32, Serving(), 2, 30.5, 4.0),
        (L70, Serving(), 1, 131.4, 10.0),
        (L70, Serving(), 4, 32.9, 2.5),
        (Q7, Serving(kv_cache_dtype="fp8"), 1, 14.2, 0.875),
        (Q7, Serving(quantization="gptq-int4"), 1, 5.2, 1.75),
        (Q7, Serving(quantization="fp8"), 1, 14.2, 1.75),
    ],
    ids=str,
)
def test_weights_and_the_kv_cache_of_one_longest_sequence(
    pair: ModelPair, serving: Serving, gpus: int, weights: float, kv: float
) -> None:
    """GiB on each GPU; the longest sequence of these pairs has 32,768 tokens."""
    (need,) = needs(pair, serving)
    assert need.weights / gpus / GIB == pytest.approx(weights, abs=0.15)
    assert need.of_kv(gpus) / GIB == pytest.approx(kv, abs=0.05)


def test_more_gpus_than_kv_heads_hold_copies_of_the_cache() -> None:
    (need,) = needs(Q7, Serving())
    assert need.of_kv(8) == need.of_kv(4) == need.of_kv(1) / 4


ON = [
    (TINY, (), "RTX 4090", 1, "both arms side by side on GPU 0 at 0.09 each"),
    (Q7, (), "L40S", 1, "both arms side by side on GPU 0 at 0.46 each"),
    (Q7, (), "L40S", 2, "both arms on GPUs of their own (GPU 0, GPU 1) at 0.94 each"),
    (Q7, (), "H100", 1, "both arms side by side on GPU 0 at 0.48 each"),
    (Q7, (), "H200", 1, "both arms side by side on GPU 0 at 0.49 each"),
    (WITH_DRAFT, (DRAFT,), "L40S", 1, "taking turns on GPU 0 at 0.94"),
    (WITH_DRAFT, (DRAFT,), "H100", 1, "both arms side by side on GPU 0 at 0.48 each"),
    (Q14, (), "L40S", 1, "taking turns on GPU 0 at 0.94"),
    (Q14, (), "H100", 1, "both arms side by side on GPU 0 at 0.48 each"),
    (Q14, (), "H100", 2, "both arms on GPUs of their own (GPU 0, GPU 1) at 0.97 each"),
    (Q32, (), "H100", 1, "taking turns on GPU 0 at 0.97"),
    (Q32, (), "H100", 2, "both arms on GPUs of their own (GPU 0, GPU 1) at 0.97 each"),
    (Q32, (), "H200", 1, "taking turns on GPU 0 at 0.98"),
    (
        *(Q32, (), "L40S", 4),
        "both arms on GPUs of their own (GPUs 0 and 1, GPUs 2 and 3) at 0.94 each, each model "
        "spread over 2",
    ),
    (
        *(L70, (), "H100", 8),
        "both arms on GPUs of their own (GPUs 0, 1, 2 and 3, GPUs 4, 5, 6 and 7) at 0.97 each, "
        "each model spread over 4",
    ),
    (
        *(L70, (), "H200", 4),
        "both arms side by side on GPUs 0, 1, 2 and 3 at 0.49 each, each model spread over 4",
    ),
]


@pytest.mark.parametrize(
    ("pair", "other", "kind", "count", "said"),
    ON,
    ids=[f"{o[0].name}{'-draft' * bool(o[1])}-{o[2]}x{o[3]}" for o in ON],
)
def test_where_both_arms_of_a_pair_go(
    pair: ModelPair, other: tuple[Serving, ...], kind: str, count: int, said: str
) -> None:
    wanted = both(pair, *other)
    layout = lay_out(wanted, cards(kind, count))
    assert str(layout) == said
    fits(layout, wanted)


def fits(layout: Layout, wanted: list[Need]) -> None:
    """Every server has room for its weights and a longest sequence, and no GPU is overbooked."""
    for group in layout.sets:
        for card in group:
            assert layout.each * layout.size <= card.usable + 1
            for need in wanted:
                assert need.per_gpu(len(group), card.total) <= layout.size + 1
    used = [card.index for group in layout.sets for card in group]
    assert len(used) == len(set(used))


@pytest.mark.parametrize(
    ("pair", "kind", "count", "said"),
    [
        (
            *(Q7, "none", 0),
            "needs 20.1 GiB free on one GPU; there are 0: no GPU can be used",
        ),
        (
            *(Q14, "RTX 4090", 1),
            "needs 37.7 GiB free on one GPU; GPU 0 has 23.5 of 24.0 GiB free",
        ),
        (
            *(Q32, "L40S", 1),
            "needs 73.2 GiB free on one GPU; GPU 0 has 44.4 of 45.0 GiB free",
        ),
        (
            *(L70, "H200", 1),
            "needs 147.3 GiB free on one GPU; GPU 0 has 139.8 of 140.4 GiB free",
        ),
        (
            *(L70, "RTX 4090", 2),
            "needs 74.9 GiB free on each of 2 GPUs; GPU 0 has 23.5 of 24.0 GiB free; GPU 1 has "
            "23.5 of 24.0 GiB free",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, str | int) else value.name,
)
def test_what_does_not_fit_says_what_is_missing(
    pair: ModelPair, kind: str, count: int, said: str
) -> None:
    with pytest.raises(NoRoom) as caught:
        lay_out(both(pair), cards(kind, count))
    assert str(caught.value) == said


def test_who_holds_the_memory_is_named() -> None:
    busy = Card(0, "0", 79.6 * GIB, 22.9 * GIB, ((4711, 55.0 * GIB), (4712, None)))
    with pytest.raises(NoRoom) as caught:
        lay_out(both(Q14), [busy])
    assert str(caught.value) == (
        "needs 39.4 GiB free on one GPU; GPU 0 has 22.9 of 79.6 GiB free: process 4711 holds 55.0, "
        "process 4712 holds some"
    )


def test_free_memory_counts_and_not_what_a_gpu_has() -> None:
    """A GPU that somebody uses is left out where another one is free."""
    busy, free = Card(0, "0", 79.65 * GIB, 20 * GIB), replace(cards("H100")[0], index=1, name="1")
    layout = lay_out(both(Q7), [busy, free])
    assert str(layout) == "both arms side by side on GPU 1 at 0.48 each"


def test_five_servers_are_up_two_at_a_time_on_one_gpu() -> None:
    wanted = needs(Q7, *(Serving(flags=("--seed", str(i))) for i in range(5)))
    layout = lay_out(wanted, cards("H100"))
    assert (layout.at_once, str(layout)) == (
        2,
        "5 servers, 2 at a time, on GPU 0 at 0.48 each",
    )


def test_small_servers_with_a_fixed_cache_share_a_gpu_as_far_as_it_reaches() -> None:
    assert lay_out(both(TINY), cards("RTX 4090")).at_once == 6
    assert lay_out(both(TINY), cards("H100")).at_once == 15


def test_a_server_gets_the_same_memory_whether_it_is_compared_or_measured_alone() -> None:
    """So that it need not be started again."""
    one, two = lay_out(needs(Q7, Serving()), cards("H100")), lay_out(both(Q7), cards("H100"))
    assert one.on(one.sets[0]).like(two.on(two.sets[0]))
    turns = lay_out(both(Q7), cards("H100"), alone=True)
    assert turns.at_once == 1
    assert not turns.on(turns.sets[0]).like(two.on(two.sets[0]))


def test_a_serving_that_says_its_number_of_gpus_gets_it_and_the_base_does_not() -> None:
    layout = lay_out(both(Q7, Serving(tensor_parallel=2)), cards("H100", 4))
    first, second = (layout.on(layout.sets[0], i) for i in (0, 1))
    assert (first.gpus, second.gpus) == (1, 2)
    assert second.variables["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_a_pair_that_is_not_on_this_machine_has_the_need_that_it_says() -> None:
    (need,) = [need_of(Serving(), Q14, shape=lambda _: None)]
    assert not need.known
    assert need.per_gpu(1, 80 * GIB) == Q14.gpu_memory_gib * GIB / 2


def test_a_checkpoint_that_is_not_here_yet_counts_as_the_reasoning_model() -> None:
    plain, awq = needs(Q14, Serving(model="plain"), Serving(quantization="awq-int4"))
    (own,) = needs(Q14, Serving())
    assert plain == awq == own


def test_what_was_learnt_takes_the_place_of_the_estimate() -> None:
    learnt = need_of(Serving(), Q14, shape=shape, overhead=2 * GIB)
    (estimated,) = needs(Q14, Serving())
    assert estimated.per_gpu(1, 80 * GIB) - learnt.per_gpu(1, 80 * GIB) == pytest.approx(2.9 * GIB)


def test_a_share_leaves_out_what_engines_do_not_count() -> None:
    (card,) = cards("H100")
    place = Placement((card,), 40 * GIB, 5 * GIB)
    assert place.share == pytest.approx(39 / 79.65)
    assert place.share_of_free == pytest.approx(35 / 79.1)
    assert place.variables == {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def test_the_table_of_the_docs_is_that_of_this_code() -> None:
    page = (Path(__file__).parent.parent / "docs/gpu.md").read_text(encoding="utf-8")
    shown = page.partition(MARKS[0])[2].partition(MARKS[1])[0].strip()
    assert shown == table(), "python tests/memory_table.py docs/gpu.md"


def test_a_gpu_that_uses_the_memory_of_the_machine_has_as_much_as_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = SimpleNamespace(total=120 * GIB, available=100 * GIB)
    monkeypatch.setattr("pytest_rllm.engines.budget.psutil.virtual_memory", lambda: host)
    nvml = MockNvml(MockDevice("NVIDIA GB10", refuses={"nvmlDeviceGetMemoryInfo": 3}))
    (card,) = Budget(Gpu(nvml)).cards
    assert (card.total / GIB, card.free / GIB) == (120, 100)
