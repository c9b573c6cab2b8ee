"""What a decoder's steps take and what an optimisation could save, from published numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from doubles.arms import arm, prompts

from pytest_rllm.checkpoints.shape import Shape
from pytest_rllm.datasets.prompts import Turn
from pytest_rllm.experiment.roofline import CHARACTERS_PER_TOKEN, Load, Roofline, optimised
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, closed, gamma, together


def qwen2(layers: int, hidden: int, inner: int, heads: int, kv: int, **more: Any) -> dict[str, Any]:
    """The numbers of a published ``config.json``."""
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": 152_064,
        "torch_dtype": "bfloat16",
        **more,
    }


QWEN_7B = qwen2(28, 3584, 18_944, 28, 4)
QWEN_14B = qwen2(48, 5120, 13_824, 40, 8)
QWEN_32B = qwen2(64, 5120, 27_648, 40, 8)
LLAMA_70B = qwen2(80, 8192, 28_672, 64, 8, vocab_size=128_256)
H100 = 3352.0
"""GB/s: 5120 bits at 2619 MHz, twice per period."""
SMALL = Load(in_flight=16, prompt_tokens=138, output_tokens=1024)
"""16 in flight of 650 tokens each, as the desk check has it."""
FP8 = Serving(kv_cache_dtype="fp8")


def roofline(
    serving: Serving | None = None,
    config: dict[str, Any] = QWEN_7B,
    gpus: int = 1,
    gb_s: float = H100,
) -> Roofline:
    made = Roofline.of(Shape.of(config), serving or Serving(), gpus=gpus, bandwidth_gb_s=H100)
    assert made is not None
    return made


def saved(serving: Serving, metric: str, load: Load, **of: object) -> float:
    """Per cent."""
    most = roofline(serving, **of).most_saved(roofline(**of), metric, load)  # type: ignore[arg-type]
    assert most is not None
    return 100 * most


# ---- the numbers of the desk check


@pytest.mark.parametrize(("in_flight", "ms"), [(4, 6.9), (16, 8.0)])
def test_a_step_of_a_7b_on_an_h100(in_flight: int, ms: float) -> None:
    load = replace(SMALL, in_flight=in_flight)
    assert 1e3 * roofline().step_s(load) == pytest.approx(ms, rel=0.03)


def test_the_kv_cache_of_16_short_answers_is_4_per_cent_of_what_a_step_reads() -> None:
    assert SMALL.length == 650
    assert 100 * roofline().cache_share(SMALL) == pytest.approx(4, abs=0.3)
    assert saved(FP8, "TBT", SMALL) == pytest.approx(2, abs=0.2)


def test_long_prompts_give_an_fp8_kv_cache_something_to_save() -> None:
    load = replace(SMALL, prompt_tokens=3300)
    assert saved(FP8, "TBT", load, config=QWEN_14B) > 13


def test_four_times_the_paper_s_requests_take_the_step_beyond_a_quarter() -> None:
    few, many = (roofline().step_s(replace(SMALL, in_flight=n)) for n in (8, 64))
    assert many / few > 1.5
    assert roofline().step_s(SMALL) / roofline().step_s(replace(SMALL, in_flight=4)) < 1.25


# ---- what changes what


@pytest.mark.parametrize("metric", ["TBT", "E2E", "TTFVT", "TPS", "run time"])
def test_fewer_bits_of_the_weights_save_no_more_than_they_are(metric: str) -> None:
    four = saved(Serving(quantization="gptq-int4"), metric, SMALL)
    eight = saved(Serving(quantization="fp8-w8a8"), metric, SMALL)
    assert 40 < eight < 50 < 60 < four < 75


def test_speculation_saves_no_more_than_the_tokens_that_it_proposes() -> None:
    assert saved(Serving(speculative="ngram"), "TBT", SMALL) == pytest.approx(75)
    five = Serving(speculative="ngram", speculative_tokens=5)
    assert saved(five, "TBT", SMALL) == pytest.approx(100 * 5 / 6)


def test_a_prefix_cache_saves_prompts_and_no_steps() -> None:
    caching = Serving(prefix_caching=True)
    asked_again = replace(SMALL, in_flight=8, sent_before=2 / 3)
    assert saved(caching, "TBT", asked_again) == 0
    assert saved(caching, "E2E", asked_again) < 3
    long = replace(asked_again, prompt_tokens=3300, output_tokens=96)
    assert saved(caching, "E2E", long) > 25
    assert 60 < saved(caching, "TTFT", long) < 67
    assert saved(caching, "TTFT", replace(long, sent_before=0)) == 0


def test_what_a_step_takes_beside_reading_hides_what_a_tiny_model_saves() -> None:
    tiny = qwen2(4, 256, 768, 4, 4, vocab_size=512)
    answers = Load(in_flight=16, prompt_tokens=62, output_tokens=128)
    assert saved(FP8, "TBT", answers, config=tiny) < 5
    unknown = Roofline.of(Shape.of(tiny), FP8)
    base = Roofline.of(Shape.of(tiny), Serving())
    assert unknown is not None
    assert base is not None
    assert unknown.most_saved(base, "TBT", answers) > 0.2  # type: ignore[operator]


def test_several_gpus_read_at_the_same_time() -> None:
    one, two = roofline(config=QWEN_32B), roofline(config=QWEN_32B, gpus=2)
    load = replace(SMALL, in_flight=1)
    assert two.weights * 2 == pytest.approx(one.weights)
    assert two.cache_share(load) == pytest.approx(one.cache_share(load))
    assert two.step_s(load) < 0.6 * one.step_s(load)
    assert two.prompt_s(load) == pytest.approx(one.prompt_s(load) / 2)


def test_more_answers_pass_more_experts() -> None:
    mixture = qwen2(28, 3584, 18_944, 28, 4, num_experts=64, num_experts_per_tok=4)
    made = roofline(config=mixture)
    few, many = (made.weights_read(replace(SMALL, in_flight=n)) for n in (1, 64))
    assert few < 0.1 * made.weights
    assert many > 0.95 * made.weights
    assert many < made.weights


@pytest.mark.parametrize(
    "serving", [Serving(quantization="unheard-of"), Serving(kv_cache_dtype="turboquant_k8v4")]
)
def test_nothing_is_said_of_formats_of_unknown_size(serving: Serving) -> None:
    assert Roofline.of(Shape.of(QWEN_7B), serving) is None


@pytest.mark.parametrize("metric", ["accuracy", "KV peak", "deltas/s"])
def test_nothing_is_said_of_what_is_no_time(metric: str) -> None:
    assert roofline(FP8).most_saved(roofline(), metric, SMALL) is None


def test_a_run_takes_its_waves_and_its_prompts() -> None:
    made, load = roofline(config=LLAMA_70B, gpus=4), replace(SMALL, in_flight=8)
    one, four = made.run_s(load, 8), made.run_s(load, 32)
    assert four == pytest.approx(4 * one)
    assert one == pytest.approx(1024 * made.step_s(load) + 8 * made.prompt_s(load))
    assert made.run_s(load, 1) > 1024 * made.step_s(load)  # one answer takes as many steps


# ---- the load of an arm


def test_a_load_is_what_an_arm_asks() -> None:
    asked = [replace(p, text="x" * 300) for p in prompts(12)]
    load = Load.of(arm(prompts=asked, workload=closed(4), sampling=Sampling(64)), blocks=2)
    assert load == Load(4, 300 / CHARACTERS_PER_TOKEN, 64, 0.0)
    assert Load.of(arm(prompts=asked, workload=closed(16)), blocks=2).in_flight == 6
    assert Load.of(arm(prompts=asked, workload=together()), blocks=3).in_flight == 4
    assert Load.of(arm(prompts=asked), output_tokens=20).output_tokens == 20


def test_what_was_sent_before_is_what_repeats_and_earlier_turns_have() -> None:
    twice = arm(prompts=prompts(12, repeats=2))
    assert Load.of(twice).sent_before == pytest.approx(0.5)
    before = (Turn("x" * 60, "y" * 30),)
    shared = [replace(p, text="z" * 10, before=before) for p in prompts(12)]
    assert Load.of(arm(prompts=shared)).sent_before == pytest.approx(0.9)
    assert Load.of(arm()).sent_before == 0


@pytest.mark.parametrize(
    ("first", "base", "expected"),
    [
        (arm(serving=FP8), arm(), True),
        (arm(serving=Serving(quantization="gptq-int4")), arm(serving=FP8), True),
        (arm(), arm(), False),
        (arm(serving=Serving(model="plain")), arm(), False),
        (arm(serving=FP8, workload=closed(8)), arm(), False),
        (arm(serving=FP8, workload=gamma(1, 1)), arm(workload=gamma(1, 1)), False),
        (arm(serving=Serving(kv_cache_dtype="fp8", tensor_parallel=2)), arm(), False),
    ],
)
def test_arms_that_differ_in_an_optimisation_alone(first, base, expected: bool) -> None:  # type: ignore[no-untyped-def]
    assert optimised([first, base]) is expected
