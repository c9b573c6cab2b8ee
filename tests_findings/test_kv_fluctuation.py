"""Pilot study: a reasoning model's KV cache fills and empties, a plain model's hardly moves."""

from pytest_rllm import KV_PEAK, KV_SWING, Serving, finding, higher, pp


@finding(
    "KV-cache use of a reasoning model is far higher than its plain counterpart's, and it swings.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), pilot study",
    tier="smoke",
)
def test_kv_fluctuation(compare, dataset, workload):
    """The paper saw 3 to 70 % against less than about 3 %: 10 points are a modest reading of it.

    Swing needs a cache that fills and empties: long blocks, of four waves of requests.
    """
    compare(
        Serving(model="reasoning"),
        against=Serving(model="plain"),
        prompts=dataset("easy", "medium", "hard", n=720, at_most=True),
        workload=workload.closed(16),
        blocks=(8, 12),
    ).shows(
        higher(KV_PEAK, by=pp(10)),
        higher(KV_SWING, by=pp(10)),
    )
