"""Pilot study: a reasoning model's KV cache fills and empties, a plain model's hardly moves."""

from pytest_rllm import KV_PEAK, KV_SWING, Serving, finding, higher, pct, pp


@finding(
    "KV-cache use of a reasoning model is far higher than its plain counterpart's, and it swings.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), pilot study",
    tier="smoke",
)
def test_kv_fluctuation(compare, dataset, workload, model):
    """The paper saw 3 to 70 % against less than about 3 %: 10 points are a modest reading of it.

    Swing needs a cache that fills and empties: long blocks, of four waves of requests. The cache of
    a large model is as large as its GPU allows, and a share of it says nothing: there it is twice
    as much, which is modest, too.
    """
    more = pct(100) if model.large else pp(10)
    compare(
        Serving(model="reasoning"),
        against=Serving(model="plain"),
        prompts=dataset("easy", "medium", "hard", n=720, at_most=True),
        workload=workload.closed(16),
        blocks=(8, 12),
    ).shows(
        higher(KV_PEAK, by=more),
        higher(KV_SWING, by=more),
    )
