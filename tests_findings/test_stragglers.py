"""Pilot study: a few hard requests of a batch run on long after the rest."""

from pytest_rllm import (
    LANES_FILLED,
    STRAGGLING,
    Arm,
    Sampling,
    Serving,
    finding,
    higher,
    lower,
    pp,
)


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


@finding(
    "In a batch of easy and hard questions the running requests fall off early and the hard ones "
    "run on alone; a batch of hard questions keeps its lanes filled longer.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), pilot study: running requests over time",
)
def test_mixed_batch(compare, dataset, workload, model):
    """The paper mixes GSM8K and AIME. Lanes filled is the mean number of running requests over the
    run, as a share of their highest number: the area under the curve that the paper draws. Ten
    points of it are a tenth of the engine's room for a whole batch.

    Both arms are the reasoning model, with 30 requests in a batch. A batch of easy questions lasts
    0.7 s on two cores, too short for a series that is read ten times per second: against one, the
    claim stayed undecided (12 points lower, 3 to 19).
    """

    def arm(*tiers: str) -> Arm:
        prompts = dataset(*tiers, n=360, fill=True)
        return Arm(Serving(), prompts, workload.together(), Sampling(model.generous))

    compare(arm("easy", "hard"), against=arm("hard"), blocks=(8, 12)).shows(
        lower(LANES_FILLED, by=pp(10)),
    )
