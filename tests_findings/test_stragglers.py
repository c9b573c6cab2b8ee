"""Pilot study: a few hard requests of a batch run on long after the rest."""

from pytest_rllm import STRAGGLING, Serving, finding, higher, pp


@finding(
    "A batch of a reasoning model ends in a long tail of a few hard requests; a plain model's "
    "requests end close together.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), pilot study",
    tier="smoke",
)
def test_stragglers(compare, dataset, workload):
    """Straggling is the share of the batch's time left when three quarters of it have ended.

    Ten points more than the plain model's is a tail that a person sees in the running requests. A
    batch that is large enough to have a tail is one block.
    """
    compare(
        Serving(model="reasoning"),
        against=Serving(model="plain"),
        prompts=dataset("easy", "medium", "hard", n=288, at_most=True),
        workload=workload.together(),
        blocks=(8, 12),
    ).shows(
        higher(STRAGGLING, by=pp(10)),
    )
