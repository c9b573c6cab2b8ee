"""Optimisations on the plain model beside the reasoning model: are their effects of reasoning?"""

import pytest

from pytest_rllm import (
    ACCURACY,
    E2E,
    TBT,
    TURN_TOKENS,
    Sampling,
    Serving,
    finding,
    pct,
    pp,
    unchanged,
)

OPTIMISATIONS = {
    "kv-fp8": Serving(kv_cache_dtype="fp8"),
    "prefix-caching": Serving(prefix_caching=True),
    "ngram": Serving(speculative="ngram"),
    "draft": Serving(speculative="draft"),
}


@finding(
    "What an optimisation does to TBT, E2E and accuracy of a reasoning model, it does to the plain "
    "model of the same size.",
    cite="reviewers of Li et al., ICLR 2026 (OpenReview 6CGjZYp6ft): are the effects of "
    "optimisations effects of reasoning at all?",
    tier="gate",
)
@pytest.mark.parametrize("optimisation", OPTIMISATIONS)
def test_plain_controls(compare_effects, dataset, workload, model, optimisation):
    """The claim is on the difference of two effects, optimised against base on the reasoning model
    and on the plain one, four runs in a block. An effect that holds on one model and not on the
    other is one of reasoning, and this is refuted.

    Elsewhere an optimisation is worth its risk from 10 % on: effects that lie within 10 % of each
    other call for one decision. To see that takes 29 blocks and some fresh servers.

    Both models are asked the same questions with the same sampling, and generate the same number
    of tokens where times are compared, fewer than an answer of either has. Sampling is greedy: an
    answer then changes by the optimisation, not by a draw, so that 240 questions can tell 10 points
    in the difference of two differences.

    Known deviations of the tiny pair: speculation is faster on its reasoning model than on its
    plain one. The draft model learned to think as the reasoning model does, of which it foresees
    2.9 of 3 tokens, and of the plain model 1.5 (TBT -47 % and -17 %). N-grams come back in
    reasoning, which takes up the question: 0.9 of 3 tokens are foreseen, and 0.7 of the plain
    model, which is too few to be worth their checking (E2E -2 % and +20 %).
    """
    asked = {"against": Serving(), "workload": workload.closed(8)}
    compare_effects(
        OPTIMISATIONS[optimisation],
        **asked,
        prompts=dataset("medium", n=480),
        sampling=Sampling(TURN_TOKENS, 0.0, fixed_length=True),
        blocks=(10, 20, 30),
    ).shows(
        unchanged(TBT, within=pct(10)),
        unchanged(E2E, within=pct(10)),
    )
    compare_effects(
        OPTIMISATIONS[optimisation],
        **asked,
        prompts=dataset("medium", n=240),
        sampling=Sampling(model.enough, 0.0),
    ).shows(
        unchanged(ACCURACY, within=pp(10)),
    )
