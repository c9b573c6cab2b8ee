"""A serving is named by what differs from the default, and keyed by all of it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from pytest_rllm.experiment.serving import Serving

ALL = [
    (Serving(), "reasoning"),
    (Serving(model="plain"), "plain"),
    (Serving(quantization="awq"), "reasoning, awq weights"),
    (Serving(kv_cache_dtype="fp8"), "reasoning, fp8 KV"),
    (Serving(prefix_caching=True), "reasoning, prefix caching"),
    (Serving(speculative="ngram"), "reasoning, ngram speculation (3)"),
    (Serving(speculative="eagle"), "reasoning, eagle speculation (3)"),
    (Serving(speculative="draft", speculative_tokens=5), "reasoning, draft speculation (5)"),
    (Serving(tensor_parallel=2), "reasoning, TP 2"),
    (Serving(scheduling="priority"), "reasoning, priority scheduling"),
    (Serving(batch_invariant=True), "reasoning, batch-invariant kernels"),
    (Serving(flags=("--seed", "1")), "reasoning, --seed, 1"),
]


@pytest.mark.parametrize(("serving", "words"), ALL)
def test_a_serving_in_words(serving: Serving, words: str) -> None:
    assert str(serving) == words


def test_every_difference_changes_the_key() -> None:
    assert len({serving.key for serving, _ in ALL}) == len(ALL)


def test_a_field_that_was_added_later_changes_no_key_with_its_default() -> None:
    assert Serving().key == "54aa2b5745e6"
    assert Serving("plain", kv_cache_dtype="fp8").key == "f92c0bd6382d"


def test_the_key_is_the_same_in_another_process() -> None:
    code = "from pytest_rllm.experiment.serving import Serving; print(Serving(flags=('--x',)).key)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == Serving(flags=("--x",)).key


def test_a_serving_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Serving().model = "plain"  # type: ignore[misc]
    assert len({Serving(), Serving()}) == 1


@pytest.mark.parametrize(
    ("unknown", "message"),
    [
        ({"model": "base"}, "'reasoning', 'plain' or 'original', not 'base'"),
        ({"speculative": "heads"}, "'ngram', 'draft', 'eagle' or None, not 'heads'"),
        ({"scheduling": "lottery"}, "'priority' or None, not 'lottery'"),
        ({"speculative_tokens": 0}, "are at least 1"),
        ({"tensor_parallel": 0}, "are at least 1"),
    ],
)
def test_an_unknown_serving_is_refused(unknown: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Serving(**unknown)
