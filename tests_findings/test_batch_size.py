"""Pilot study: more requests in flight."""

from pytest_rllm import (
    ACCURACY,
    TPS,
    TTFVT,
    TURN_TOKENS,
    Arm,
    Sampling,
    Serving,
    finding,
    higher,
    pct,
    pp,
    unchanged,
)


@finding(
    "With more requests in flight accuracy stays, throughput rises, and the first visible token "
    "comes later.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), pilot study",
)
def test_batch_size(compare, dataset, workload, model):
    """Four times the requests: throughput and TTFVT should both move by far more than 25 %.

    Throughput is compared at a fixed output length, the rest on free-running answers.
    """

    def arm(in_flight: int, sampling: Sampling, *tiers: str, n: int) -> Arm:
        return Arm(Serving(), dataset(*tiers, n=n), workload.closed(in_flight), sampling)

    fixed, free = Sampling(TURN_TOKENS, fixed_length=True), Sampling(model.generous)
    compare(arm(16, fixed, "medium", n=512), against=arm(4, fixed, "medium", n=512)).shows(
        higher(TPS, by=pct(25)),
    )
    compare(arm(16, free, "medium", n=256), against=arm(4, free, "medium", n=256)).shows(
        unchanged(ACCURACY, within=pp(10)),
        higher(TTFVT, by=pct(25)),
    )
