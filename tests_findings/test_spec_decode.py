"""Optimisation: speculative decoding."""

import pytest

from pytest_rllm import (
    ACCURACY,
    DELTAS_PER_S,
    TBT,
    Sampling,
    Serving,
    finding,
    lower,
    not_lower,
    pct,
    pp,
)


@finding(
    "Speculative decoding lowers TBT and the streamed deltas per second, and keeps accuracy.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), speculative decoding",
)
@pytest.mark.parametrize("drafter", ["ngram", "draft"])
def test_spec_decode(compare, dataset, workload, model, drafter):
    """The paper says that TPS falls while TBT falls, too. Its code counts one streamed delta as one
    token, and a delta of speculative decoding carries several: what falls is deltas per second."""
    serving = Serving(speculative=drafter)
    compare(
        serving,
        against=Serving(),
        prompts=dataset("hard", n=96),
        workload=workload.closed(4),
        sampling=Sampling(model.fixed_length, ignore_eos=True),
    ).shows(
        lower(TBT, by=pct(5)),
        lower(DELTAS_PER_S, by=pct(5)),
    )
    compare(
        serving,
        against=Serving(),
        prompts=dataset("medium", n=240),
        workload=workload.closed(8),
    ).shows(
        not_lower(ACCURACY, by_more_than=pp(10)),
    )
