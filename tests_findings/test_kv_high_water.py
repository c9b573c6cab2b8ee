"""How full the KV cache gets at growing token budgets: a first experiment of this project."""

from pytest_rllm import KV_PEAK, Arm, Sampling, Serving, finding, higher, not_lower, pct


@finding(
    "The KV-cache high-water mark grows with the token budget until answers end by themselves.",
    cite="follows from Li et al., ICLR 2026 (arXiv 2510.18672), pilot study; no figure is given",
    tier="gate",
)
def test_kv_high_water(compare, dataset, workload, model):
    """An eighth, a half and the whole of the budget that suffices for most answers: for the paper's
    models these are 1024, 4096 and 8192 tokens on MATH-500.

    A quarter more is what four times the budget must at least add where it cuts answers off; once
    most answers end by themselves, the mark may grow, and falls by no more than a tenth. Ratios,
    because how full the cache is in all depends on its size. That nothing falls takes 30 blocks:
    fewer cannot show that far emptier ones are rare.

    The bundled model is expected to fall short of the quarter: uncut answers to medium questions
    have 115 tokens on average, beside prompts of 62. With 64 of them all requests end at once and
    hold 126 each; with more they end one by one, and the peak is 15 % higher, not the 40 % that
    177 tokens each would be.
    """

    def arm(part: int) -> Arm:
        asked = dataset("medium", n=480)
        return Arm(Serving(), asked, workload.closed(16), Sampling(model.enough // part))

    compare(arm(2), against=arm(8), blocks=(8, 12)).shows(higher(KV_PEAK, by=pct(25)))
    compare(arm(1), against=arm(2), blocks=(12, 30)).shows(
        not_lower(KV_PEAK, by_more_than=pct(10)),
    )
