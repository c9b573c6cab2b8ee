"""Pilot study: a reasoning model takes longer for harder questions."""

import pytest

from pytest_rllm import E2E, Arm, Sampling, Serving, finding, higher, in_tier, not_higher, pct


@finding(
    "The running time of a reasoning model follows the difficulty of the questions; a plain "
    "model's follows their number alone.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), pilot study",
)
@pytest.mark.parametrize(
    ("harder", "easier"),
    [("medium", "easy"), pytest.param("hard", "medium", marks=in_tier("gate"))],
)
def test_adaptive_runtime(compare, dataset, workload, model, harder, easier):
    """Half as long again is a clear step; the plain model may move by less than that.

    Each tier is asked as many questions, so E2E compares the time per question. A data set that has
    fewer (AIME has 30) is asked more than once, so that as many are in flight.
    """

    def arm(role: str, tier: str) -> Arm:
        asked = dataset(tier, n=384, fill=True)
        return Arm(Serving(model=role), asked, workload.closed(12), Sampling(model.generous))

    compare(arm("reasoning", harder), against=arm("reasoning", easier)).shows(
        higher(E2E, by=pct(50)),
    )
    compare(arm("plain", harder), against=arm("plain", easier)).shows(
        not_higher(E2E, by_more_than=pct(50)),
    )
