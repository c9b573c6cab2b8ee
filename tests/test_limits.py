"""What the GPUs of a machine allow a claim to show, and what a plan reckons from it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.arms import prompts
from doubles.mock_nvml import MockDevice, MockNvml
from doubles.mock_session import DeclaringEngine, measuring
from doubles.mock_source import MockSource
from doubles.synthetic import SHARE

from pytest_rllm.datasets.prompts import Prompt
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, closed
from pytest_rllm.metrics import ACCURACY, E2E, TBT, TPS
from pytest_rllm.models import PAIRS, ModelPair
from pytest_rllm.records.header import REMARKS
from pytest_rllm.session.case import FindingCase
from pytest_rllm.session.limits import Limits
from pytest_rllm.telemetry.gpu import Gpu
from pytest_rllm.verdicts.claims import higher, lower, not_lower, pct, pp

CONFIG_14B = {
    "num_hidden_layers": 48,
    "hidden_size": 5120,
    "intermediate_size": 13_824,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "vocab_size": 152_064,
    "torch_dtype": "bfloat16",
}
"""Of DeepSeek-R1-Distill-Qwen-14B."""
H100 = MockDevice("NVIDIA H100 80GB HBM3", 80.0, bus_bits=5120, memory_clock_mhz=2619)
FASTER = lower(TBT, by=pct(10))
FP8 = Serving(kv_cache_dtype="fp8")


@pytest.fixture
def pair(tmp_path: Path) -> ModelPair:
    """The paper's 14B pair, of which this machine has the configuration."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG_14B))
    pair = PAIRS["r1-distill-qwen-14b"]
    return replace(pair, reasoning=str(folder), plain=str(folder))


def asked(tokens: int, n: int = 960) -> list[Prompt]:
    return [replace(p, text="x" * 3 * tokens) for p in prompts(n)]


def speed(serving: Serving, tokens: int, in_flight: int = 16) -> Arm:
    """Answers of 1024 tokens to prompts of so many."""
    sampling = Sampling(1024, fixed_length=True)
    return Arm(serving, asked(tokens), closed(in_flight), sampling)


def limits(pair: ModelPair, first: Arm, base: Arm, gpu: MockDevice = H100) -> Limits:
    return Limits([first, base], pair, Gpu(MockNvml(gpu)), 48)


def case_of(tmp_path: Path, pair: ModelPair, source: MockSource, **more: Any) -> FindingCase:
    gpu = Gpu(MockNvml(H100))
    session = measuring(source, tmp_path, DeclaringEngine("engine 1"), gpu=gpu, **more)
    session._sources[pair.name] = source
    return FindingCase("f", "c", "A sentence.", "a source", session, pair, Path("f/c"))


# ---- what cannot be seen


def test_a_saving_that_is_too_small_is_told_with_its_size(pair: ModelPair) -> None:
    short = limits(pair, speed(FP8, 138), speed(Serving(), 138))
    assert short.too_small(FASTER) == (
        "TBT lower by 10 % cannot be seen here: reasoning, fp8 KV changes TBT by at most 3 % "
        "(roofline of 16 in flight, with prompts of about 138 tokens and answers of 1024: 6 % of "
        "the bytes that a step reads are KV cache)"
    )
    assert short.too_small(lower(TBT, by=pct(2))) is None
    long = limits(pair, speed(FP8, 3300), speed(Serving(), 3300))
    assert long.too_small(FASTER) is None
    assert (told := long.told()) is not None
    assert told.startswith("reasoning, fp8 KV could save at most 14 % of TBT and 14 % of E2E here")


@pytest.mark.parametrize(
    "claim",
    [not_lower(TBT, by_more_than=pct(10)), higher(TBT, by=pct(10)), higher(ACCURACY, by=pp(10))],
    ids=str,
)
def test_what_is_no_gain_in_speed_has_no_limit(pair: ModelPair, claim: Any) -> None:
    assert limits(pair, speed(FP8, 138), speed(Serving(), 138)).too_small(claim) is None


def test_more_tokens_per_second_are_a_saving_the_other_way_round(pair: ModelPair) -> None:
    eight = Serving(quantization="fp8-w8a8")
    found = limits(pair, speed(eight, 138), speed(Serving(), 138))
    assert found.too_small(higher(TPS, by=pct(80))) is None
    assert "by at most 8" in str(found.too_small(higher(TPS, by=pct(95))))


def test_arms_that_differ_in_more_or_of_unknown_models_have_no_limit(pair: ModelPair) -> None:
    other = limits(pair, speed(FP8, 138), speed(Serving(), 138, in_flight=8))
    absent = replace(pair, reasoning="nobody/has-this")
    unknown = limits(absent, speed(FP8, 138), speed(Serving(), 138))
    for each in (other, unknown):
        assert (each.too_small(FASTER), each.told()) == (None, None)
    assert unknown.block_s() is None
    assert unknown.start_s() is None


def test_a_claim_that_cannot_be_seen_is_left_out_and_the_rest_of_its_case_is_measured(
    pair: ModelPair, tmp_path: Path
) -> None:
    source = MockSource()
    case = case_of(tmp_path, pair, source)
    found = case.compare(speed(FP8, 138), against=speed(Serving(), 138), blocks=(2,)).shows(FASTER)
    assert (found.verdicts, source.order) == ((), [])
    case.compare(speed(FP8, 138), against=speed(Serving(), 138), blocks=(8,)).shows(
        FASTER, not_lower(SHARE, by_more_than=pp(50))
    )
    assert len(source.order) == 16
    row = case.conclude()
    assert [judged.metric for judged in row.verdicts] == [SHARE.name]
    assert "only a part was measured: TBT lower by 10 % cannot be seen here" in row.notes[-1]


def test_a_case_of_which_nothing_can_be_seen_is_a_skip(pair: ModelPair, tmp_path: Path) -> None:
    case = case_of(tmp_path, pair, MockSource())
    case.compare(speed(FP8, 138), against=speed(Serving(), 138), blocks=(2,)).shows(FASTER)
    row = case.conclude()
    assert (row.outcome, row.judgements) == ("skip", ())
    assert "by at most 3 %" in row.notes[0]


def test_a_replay_leaves_out_what_the_session_left_out(pair: ModelPair, tmp_path: Path) -> None:
    compared = {"against": speed(Serving(), 138), "blocks": (2,)}
    live = case_of(tmp_path, pair, MockSource())
    live.compare(speed(FP8, 138), **compared).shows(FASTER)  # type: ignore[arg-type]
    again = case_of(tmp_path, pair, MockSource(), replaying=True)
    again.session.gpu = Gpu(MockNvml())  # where it is replayed there is none
    again.compare(speed(FP8, 138), **compared).shows(FASTER)  # type: ignore[arg-type]
    assert again.conclude().notes == live.conclude().notes


def test_records_say_the_most_that_could_be_saved(pair: ModelPair, tmp_path: Path) -> None:
    source = MockSource()
    case = case_of(tmp_path, pair, source)
    long = speed(FP8, 3300), speed(Serving(), 3300)
    found = case.compare(long[0], against=long[1], blocks=(2,)).shows(FASTER)
    assert len(found.verdicts) == 1
    (remark,) = case.header(limits(pair, *long)).notes[REMARKS]
    assert "could save at most 14 % of TBT" in remark
    assert case.header().notes.get(REMARKS) is None


@pytest.mark.parametrize("name", ["tiny", "r1-distill-qwen-14b"])
def test_nothing_is_said_on_a_cpu(
    pair: ModelPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = MockSource()
    case = case_of(tmp_path, pair, source)
    if name == "tiny":
        case.pair = PAIRS["tiny"]
    else:
        monkeypatch.setattr(DeclaringEngine, "on_cpu", True)
    found = case.compare(speed(FP8, 138), against=speed(Serving(), 138), blocks=(2,)).shows(FASTER)
    assert len(found.verdicts) == 1


def test_of_speculation_and_of_answers_of_their_own_length_no_limit_is_told(
    pair: ModelPair,
) -> None:
    drafted = limits(pair, speed(Serving(speculative="ngram"), 138), speed(Serving(), 138))
    assert drafted.most_saved("TBT") == pytest.approx(0.75)
    assert drafted.told() is None
    free = [replace(speed(each, 138), sampling=Sampling(1024)) for each in (FP8, Serving())]
    assert limits(pair, *free).told() is None


# ---- what a plan reckons


def plan_of(pair: ModelPair, tmp_path: Path) -> str:
    case = case_of(tmp_path, pair, MockSource(), planning=True)
    for tokens in (138, 3300):
        compared = speed(FP8, tokens), speed(Serving(), tokens)
        case.compare(compared[0], against=compared[1], blocks=(24, 48)).shows(FASTER)
    return "\n".join(case.session.costs.plan.lines(1000))


def test_a_plan_reckons_what_was_never_measured(pair: ModelPair, tmp_path: Path) -> None:
    plan = plan_of(pair, tmp_path)
    # 480 to 960 requests in each arm, 16 at a time: 30 to 60 waves of 1024 steps of 15 to 18 ms,
    # twice; and as many prompts of 0.2 s.
    (line,) = (line for line in plan.splitlines() if line.strip().startswith("TBT lower"))
    first, last = (float(part) for part in re.findall(r"~(\d+\.\d)", line))
    assert 16 < first < 24
    assert last == pytest.approx(2 * first, rel=0.02)
    assert re.search(
        r"^minutes: about \d+, at most \d+; 1 of the 1 comparisons were never", plan, re.M
    )
    assert "reckoned from the bandwidth" in plan
    assert "f [c]: reasoning, fp8 KV could save at most 14 % of TBT" in plan
    assert "not measured: f [c]: TBT lower by 10 % cannot be seen here" in plan


def test_a_long_plan_is_in_hours(pair: ModelPair, tmp_path: Path) -> None:
    case = case_of(tmp_path, pair, MockSource(), planning=True)
    for _ in range(8):
        compared = speed(FP8, 3300), speed(Serving(), 3300)
        case.compare(compared[0], against=compared[1], blocks=(24, 48)).shows(FASTER)
    plan = "\n".join(case.session.costs.plan.lines(1000))
    found = re.search(r"^hours: about ([\d.]+), at most ([\d.]+); 8 of the 8", plan, re.M)
    assert found is not None
    assert 2 < float(found[1]) < 4 < float(found[2]) < 7


def test_a_plan_knows_no_minutes_of_a_gpu_that_does_not_tell_its_bandwidth(
    pair: ModelPair, tmp_path: Path
) -> None:
    case = case_of(tmp_path, pair, MockSource(), planning=True)
    case.session.gpu = Gpu(MockNvml(replace(H100, bus_bits=0)))
    long = speed(FP8, 3300), speed(Serving(), 3300)
    case.compare(long[0], against=long[1], blocks=(24,)).shows(lower(E2E, by=pct(10)))
    assert "minutes: unknown; 1 of the 1" in "\n".join(case.session.costs.plan.lines(1000))


# ---- workloads of the paper's pairs

PUBLISHED = {
    "r1-distill-qwen-14b": CONFIG_14B,
    "r1-distill-qwen-32b": CONFIG_14B | {"num_hidden_layers": 64, "intermediate_size": 27_648},
    "r1-distill-llama-70b": CONFIG_14B
    | {
        "num_hidden_layers": 80,
        "hidden_size": 8192,
        "intermediate_size": 28_672,
        "num_attention_heads": 64,
        "vocab_size": 128_256,
    },
    "qwen3-14b": CONFIG_14B
    | {"num_hidden_layers": 40, "intermediate_size": 17_408, "vocab_size": 151_936},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_with_the_examples_of_a_pair_an_optimisation_can_save_what_is_claimed(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED[name]))
    pair = replace(PAIRS[name], reasoning=str(tmp_path))
    prompt = 100 * (1 + pair.examples)  # a question of MATH-500 and its answer, about
    assert limits(pair, speed(FP8, prompt), speed(Serving(), prompt)).too_small(FASTER) is None
    assert limits(pair, speed(FP8, 100), speed(Serving(), 100)).too_small(FASTER) is not None
    assert prompt + 1024 < pair.max_model_len


def test_the_bundled_pairs_are_asked_without_examples_as_before() -> None:
    assert {pair.examples for pair in PAIRS.values() if not pair.large} == {0}
    assert {pair.examples for pair in PAIRS.values() if pair.large} == {32, 64}


def test_answers_of_their_own_length_end_one_by_one(pair: ModelPair) -> None:
    fixed = replace(speed(Serving(), 138), sampling=Sampling(4096, fixed_length=True))
    free = replace(fixed, sampling=Sampling(20_480))  # half of 8192 tokens on average
    seconds = [limits(pair, each, each).block_s() for each in (fixed, free)]
    alone = 4096 * 2 * 0.0121  # both arms, steps of one answer
    assert seconds[1] - seconds[0] == pytest.approx(alone, rel=0.1)  # type: ignore[operator]
