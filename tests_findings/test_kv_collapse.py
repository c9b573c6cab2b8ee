"""Why an FP8 KV cache collapses a small model: the range of its keys.

``tiny-wide-keys`` stands for the paper's 7B: the bundled reasoning model with every key times 2^7
and every query divided by 2^7, which leaves its attention scores as they are
(``docs/why-fp8-kv-caches-collapse.md``).
"""

import pytest

from pytest_rllm import (
    ACCURACY,
    EARLY_AGREEMENT,
    Arm,
    Sampling,
    Serving,
    finding,
    lower,
    not_lower,
    pp,
    unchanged,
)
from pytest_rllm.checkpoints import CheckpointError
from pytest_rllm.checkpoints.command import folder_of
from pytest_rllm.checkpoints.keys import keys_of

OURS = "our explanation of the collapse (docs/why-fp8-kv-caches-collapse.md)"
FORMATS = {"fp8": "e4m3", "fp8_e5m2": "e5m2"}
"""Data type of a KV cache to the name of its format."""


@pytest.fixture
def greedy(dataset, workload, model):
    """An arm that asks the same 240 questions greedily, 16 at a time."""

    def arm(serving):
        sampling = Sampling(model.enough, temperature=0)
        return Arm(serving, dataset("medium", n=240), workload.closed(16), sampling)

    return arm


@finding(
    "An FP8 KV cache (e4m3, scale 1) collapses the accuracy of the 7B model.",
    cite="Li et al., arXiv 2510.18672 v1, KV-cache quantisation",
    sizes="7B",
)
def test_kv_collapse(compare, greedy):
    """The paper says that accuracy collapses, and a public report (verl#4435) that it is about 0.
    A loss of 30 points is no rounding and no chance; what rounding alone costs is 10 points at
    most, of which ``kv-quant`` speaks."""
    compare(greedy(Serving(kv_cache_dtype="fp8")), against=greedy(Serving())).shows(
        lower(ACCURACY, by=pp(30))
    )


@finding(
    "An FP8 KV cache with more range and less precision (e5m2) keeps the accuracy of the 7B model.",
    cite=OURS,
    sizes="7B",
)
def test_kv_collapse_wide_format(compare, greedy):
    """Were precision the cause, e5m2 would be worse: it has a bit less than e4m3, and 128 times its
    range. Accuracy may lose 10 points, as in ``kv-quant``."""
    compare(greedy(Serving(kv_cache_dtype="fp8_e5m2")), against=greedy(Serving())).shows(
        not_lower(ACCURACY, by_more_than=pp(10))
    )


@finding(
    "The stand-in of the 7B model answers in its own precision as the model it was made from.",
    cite=OURS,
    tier="gate",
    sizes="7B",
)
def test_kv_collapse_original(compare, greedy, model):
    """The control: what collapses is no worse a model. Powers of two are exact in bfloat16, so only
    the order of a few sums may differ; margins are those of the metamorphic checks."""
    if model.wide_keys is None:
        pytest.skip(f"the reasoning model of the pair {model.name!r} is no variant of another one")
    compare(greedy(Serving()), against=greedy(Serving(model="original"))).shows(
        unchanged(ACCURACY, within=pp(5)),
        not_lower(EARLY_AGREEMENT, by_more_than=pp(5)),
    )


@finding(
    "The keys that a checkpoint can reach foretell which FP8 KV cache keeps its accuracy.",
    cite=OURS,
    tier="gate",
)
@pytest.mark.parametrize("dtype", FORMATS)
def test_kv_collapse_foretold(compare, greedy, model, dtype):
    """``python -m pytest_rllm keys`` foretells that accuracy is kept, where a format holds the
    keys, or that it collapses, where tokens reach twice its range in the first layer; between the
    two it foretells nothing, and there is nothing to claim. Variants of the bundled model have keys
    of 2^0 to 2^14 times their size, in all heads and layers or in some. Margins are as above.
    """
    try:
        keys = keys_of(folder_of(model.path("reasoning")))
    except CheckpointError as error:
        pytest.skip(f"what its keys can reach cannot be read: {error}")
    name = FORMATS[dtype]
    fit = keys.fit(name)
    if fit is None or fit.accuracy is None:
        pytest.skip(f"nothing is foretold: {keys.unknown or f'{name} {fit.answer}'}")
    claims = {
        "kept": not_lower(ACCURACY, by_more_than=pp(10)),
        "collapses": lower(ACCURACY, by=pp(30)),
    }

    compare(greedy(Serving(kv_cache_dtype=dtype)), against=greedy(Serving())).shows(
        claims[fit.accuracy]
    )
