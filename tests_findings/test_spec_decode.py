"""Optimisation: speculative decoding."""

import pytest

from pytest_rllm import (
    ACCURACY,
    DELTAS_PER_S,
    E2E,
    TBT,
    TTFVT,
    TURN_TOKENS,
    Sampling,
    Serving,
    finding,
    higher,
    in_tier,
    lower,
    not_lower,
    pct,
    pp,
)

DRAFTERS = ["ngram", "draft", "eagle"]
"""The last one is measured where a pair has a head, which the bundled pair has not."""


@finding(
    "Speculative decoding lowers TBT and the streamed deltas per second, and keeps accuracy.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), speculative decoding",
)
@pytest.mark.parametrize(
    "temperature",
    [pytest.param(0.6, id="sampled", marks=in_tier("gate")), pytest.param(0.0, id="greedy")],
)
@pytest.mark.parametrize("drafter", DRAFTERS)
def test_spec_decode(compare, dataset, workload, model, drafter, temperature):
    """The paper says that TPS falls while TBT falls, too. Its code counts one streamed delta as one
    token, and a delta of speculative decoding carries several: what falls is deltas per second.

    Known deviation on vLLM for CPU (0.29.0, 0.31.0 and 0.32.0 have the same code): sampled answers
    are garbage. vllm/utils/cpu_triton_utils.py replaces the kernel that spreads temperature and
    top-p over the drafted tokens by one that writes to an int64 copy of its output and drops it
    (``_expand_kernel_impl``), so the sampler divides the logits by uninitialised memory. Greedy
    answers do not pass there: the greedy cases tell the drafter from the sampler. Compare
    vllm-project/vllm#42638.

    Known deviation of the tiny pair on a CPU, n-grams, greedy: TBT moves by -7 to +10 % only (six
    sessions). A step that verifies four tokens takes about 1.6 times as long as one that makes one
    (deltas per second), and yields 1.6 to 1.7 tokens.
    """
    serving = Serving(speculative=drafter)
    compare(
        serving,
        against=Serving(),
        prompts=dataset("medium", n=240),
        workload=workload.closed(4),
        sampling=Sampling(2 * TURN_TOKENS, temperature, fixed_length=True),
        blocks=(10, 20, 30),
    ).shows(
        lower(TBT, by=pct(10)),
        lower(DELTAS_PER_S, by=pct(10)),
    )
    compare(
        serving,
        against=Serving(),
        prompts=dataset("medium", n=120),
        workload=workload.closed(8),
        sampling=Sampling(model.enough, temperature),
    ).shows(
        not_lower(ACCURACY, by_more_than=pp(10)),
    )


@finding(
    "Speculative decoding lowers E2E and raises TTFVT, at every size.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), speculative decoding",
    tier="gate",
)
@pytest.mark.parametrize("temperature", [0.6, 0.0], ids=["sampled", "greedy"])
@pytest.mark.parametrize("drafter", DRAFTERS)
def test_free_running(compare, dataset, workload, model, drafter, temperature):
    """Of answers of their own length: TTFVT is the time of the whole reasoning. The paper gives
    directions alone. A tenth is what a reader notices, and from where an optimisation is worth its
    risk.

    The reasoning is most of an answer and is decoded as the rest is, so one would expect TTFVT to
    fall with E2E. Where it does, the claim on TTFVT is refuted.

    Sampled answers on vLLM for CPU are garbage (see the other test): they run on to the budget,
    most without a visible token, and their times say nothing of speed.
    """
    compare(
        Serving(speculative=drafter),
        against=Serving(),
        prompts=dataset("medium", n=128),
        workload=workload.closed(4),
        sampling=Sampling(model.enough, temperature),
    ).shows(
        lower(E2E, by=pct(10)),
        higher(TTFVT, by=pct(10)),
    )
