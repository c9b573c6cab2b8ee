"""What a pair names fits together, as the config.json files that are at hand tell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_rllm.datasets.prompts import choose
from pytest_rllm.engines import engine_named
from pytest_rllm.engines.server import Attached, refusal
from pytest_rllm.engines.sglang import SglangEngine
from pytest_rllm.engines.vllm import VllmEngine
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling
from pytest_rllm.models import PAIRS, ModelPair
from pytest_rllm.models.fit import misfit

TINY = PAIRS["tiny"]
CONFIG: dict[str, Any] = {
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
}
PLAIN = Serving(model="plain")
(QUESTION,) = choose(TINY.tiers, "easy", n=1)


def model(folder: Path, name: str, **more: Any) -> str:
    """A folder with a configuration and nothing else."""
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "config.json").write_text(json.dumps(CONFIG | more))
    return str(folder / name)


@pytest.fixture
def pair(tmp_path: Path) -> ModelPair:
    return replace(
        TINY,
        name="own",
        reasoning=model(tmp_path, "thinker"),
        plain=model(tmp_path, "talker"),
        draft=model(tmp_path, "drafter", hidden_size=32, num_hidden_layers=1),
        quantized={"gptq-int4": {"reasoning": model(tmp_path, "small")}},
        max_model_len=4096,
    )


def test_a_pair_that_fits_is_served(pair: ModelPair) -> None:
    engine = engine_named("mock")
    for serving in (
        Serving(),
        PLAIN,
        Serving(speculative="draft"),
        Serving(quantization="gptq-int4"),
    ):
        assert refusal(engine, serving, pair) is None


@pytest.mark.parametrize("name", [n for n in PAIRS if n.startswith("tiny")])
def test_the_bundled_pairs_fit(name: str) -> None:
    pair = PAIRS[name]
    for drafter in (None, *pair.drafters):
        assert misfit(pair, "reasoning", drafter=drafter) is None
    assert misfit(pair, "plain") is None


def test_no_model_is_asked_for_more_tokens_than_it_was_made_for(
    pair: ModelPair, tmp_path: Path
) -> None:
    long = replace(pair, max_model_len=32_768, reasoning=model(tmp_path, "thinker", **YARN))
    engine = engine_named("mock")
    assert refusal(engine, Serving(), long) is None, "YaRN stretches it"
    assert refusal(engine, PLAIN, long) == (
        f"the pair 'own' asks for 32,768 tokens; its plain model {pair.plain} was made for 4,096 "
        "(config.json): give it a context of its own, context.plain = 4096 in the pair's TOML "
        "file, or name another model"
    )
    assert refusal(engine, PLAIN, replace(long, context={"plain": 4096})) is None


YARN = {"rope_scaling": {"type": "yarn", "factor": 8, "original_max_position_embeddings": 4096}}


def test_a_draft_model_has_the_same_tokens(pair: ModelPair, tmp_path: Path) -> None:
    model(tmp_path, "drafter", vocab_size=936)
    told = str(refusal(engine_named("mock"), Serving(speculative="draft"), pair))
    assert "has 936 tokens, and its reasoning model" in told
    assert "has 1,000 (config.json): engines draft only with a model of the same tokens" in told
    assert misfit(pair, "reasoning") is None, "without the draft all is well"


@pytest.mark.parametrize(
    "head",
    [
        {"hidden_size": 96},
        {"hidden_size": 64, "target_hidden_size": 96},
        {"hidden_size": None, "transformer_layer_config": {"hidden_size": 96}},
    ],
)
def test_an_eagle_head_reads_the_numbers_of_its_model(
    pair: ModelPair, tmp_path: Path, head: dict[str, Any]
) -> None:
    about = {"architectures": ["LlamaForCausalLMEagle3"], "vocab_size": 32}
    own = replace(pair, eagle=model(tmp_path, "head", **about))
    assert misfit(own, "reasoning", drafter="eagle") is None, "its own tokens may be fewer"
    model(tmp_path, "head", **about | head)
    told = str(misfit(own, "reasoning", drafter="eagle"))
    assert "is for models of 96 numbers per token, and its reasoning model" in told
    assert "has 64 (config.json)" in told


def test_a_checkpoint_with_fewer_bits_has_the_shape_of_its_base(
    pair: ModelPair, tmp_path: Path
) -> None:
    model(tmp_path, "small", num_hidden_layers=2, vocab_size=1024)
    told = str(refusal(engine_named("mock"), Serving(quantization="gptq-int4"), pair))
    assert f"small is not made from {pair.reasoning}, the reasoning model of the pair" in told
    assert "it has 2 layers and not 4, 1,024 tokens and not 1,000 (config.json)" in told


def test_what_is_not_here_or_says_too_little_is_not_judged(pair: ModelPair, tmp_path: Path) -> None:
    elsewhere = replace(pair, plain="nobody/a-model-that-is-not-here", max_model_len=99_999)
    assert misfit(elsewhere, "plain") is None
    (tmp_path / "talker" / "config.json").write_text("{}")
    assert misfit(replace(pair, max_model_len=99_999), "plain") is None


# ---- both roles are asked alike


@pytest.mark.parametrize("engine", [VllmEngine(), SglangEngine()])
def test_requests_leave_nothing_to_a_models_generation_configuration(engine: Any) -> None:
    told = {"temperature": 0.7, "repetition_penalty": 1.05, "top_k": 20, "min_p": 0.0}
    for serving in (Serving(), PLAIN):
        server = Attached(engine, serving, TINY, "http://x", 1)
        body = server.body(QUESTION, Sampling(9))
        off = {"repetition_penalty": 1.0, "top_k": -1, "min_p": 0.0}
        assert {name: body[name] for name in off} == off
        assert server.sampled_by(told) == told | off


def test_what_a_pair_says_of_sampling_goes_before(pair: ModelPair) -> None:
    asks = replace(pair, requests={"plain": {"top_k": 20}})
    server = Attached(VllmEngine(), PLAIN, asks, "http://x", 1)
    assert server.body(QUESTION, Sampling(9))["top_k"] == 20
    assert server.sampled_by({"top_k": 7, "repetition_penalty": 1.05}) == {
        "top_k": 20,
        "repetition_penalty": 1.0,
    }
