"""The worked example of a pair of one's own: what it writes is a pair, untrained as it is here."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_rllm.datasets.prompts import load
from pytest_rllm.models import ModelPair, pair_named
from pytest_rllm.plugin.pair_check import check

sys.path.insert(0, str(Path(__file__).parent.parent))

from training import own_pair


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> ModelPair:
    """What the script writes, without its training."""
    folder = tmp_path_factory.mktemp("own")
    tokenizer = own_pair.make_tokenizer()
    own_pair.write_questions(folder)
    own_pair.save(folder / "checkpoint", own_pair.make_model(tokenizer.get_vocab_size()), tokenizer)
    return pair_named(str(folder / "pair.toml"))


def test_it_is_a_pair_with_two_modes_and_enough_questions(pair: ModelPair) -> None:
    check(pair)
    assert pair.two_modes
    assert pair.reasoning_format == "qwen3"
    sizes = {tier: len(load(data)) for tier, data in pair.tiers.items()}
    assert sizes == {"easy": 600, "medium": 600, "hard": 600, "knowledge": 240}


@pytest.mark.parametrize("tier", own_pair.STEPS)
def test_answers_are_right_and_questions_are_not_learned(pair: ModelPair, tier: str) -> None:
    for prompt in load(pair.tiers[tier]):
        ball, *swaps = map(int, re.findall(r"\d+", prompt.text))
        for one, other in zip(swaps[::2], swaps[1::2], strict=True):
            ball = {one: other, other: one}.get(ball, ball)
        assert str(ball) == prompt.answer
        assert own_pair.is_heldout(prompt.text)


def test_a_learned_text_is_what_is_asked_in_that_mode(pair: ModelPair) -> None:
    """The template renders what training reads, and the tokenizer gives every text back."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(pair.path("reasoning"))
    stream = own_pair.examples(5, lambda: 16)
    for _ in range(40):
        read, learned = next(stream)
        ids = tokenizer.encode(read + learned, add_special_tokens=False)
        assert tokenizer.decode(ids) == read + learned
        assert tokenizer.unk_token_id not in ids
        assert len(tokenizer.encode(learned, add_special_tokens=False)) <= pair.enough
    for prompt in (load(pair.tiers["hard"])[0], load(pair.tiers["knowledge"])[0]):
        for role in ("reasoning", "plain"):
            body = pair.asks({"messages": [{"role": "user", "content": prompt.text}]}, role)
            rendered = tokenizer.apply_chat_template(
                body["messages"],
                tokenize=False,
                add_generation_prompt=True,
                **body["chat_template_kwargs"],
            )
            assert rendered == own_pair.chat(prompt.text, thinks=role == "reasoning")


def test_facts_are_asked_as_they_were_learned(pair: ModelPair) -> None:
    learned = {
        own_pair.fact_question(who, feature): value for who, feature, value in own_pair.facts()
    }
    assert {p.text: p.answer for p in load(pair.tiers["knowledge"])} == learned
