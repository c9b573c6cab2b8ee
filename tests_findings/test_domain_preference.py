"""Pilot study: where thinking helps."""

from pytest_rllm import ACCURACY, Serving, finding, higher, pp, unchanged


@finding(
    "A reasoning model is clearly better than its plain counterpart at mathematics, and about "
    "level with it on knowledge.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), pilot study",
    tier="smoke",
)
def test_domain_preference(compare, dataset, workload):
    """Clearly better is 20 points; level is within 10 points either way."""

    def asked(*tiers: str, n: int):
        return compare(
            Serving(model="reasoning"),
            against=Serving(model="plain"),
            prompts=dataset(*tiers, n=n, at_most=True),
            workload=workload.closed(16),
        )

    asked("easy", "medium", "hard", n=192).shows(higher(ACCURACY, by=pp(20)))
    asked("knowledge", n=288).shows(unchanged(ACCURACY, within=pp(10)))
