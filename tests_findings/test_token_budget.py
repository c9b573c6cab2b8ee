"""Pilot study: how many tokens a reasoning model may spend."""

from pytest_rllm import ACCURACY, Arm, Sampling, Serving, finding, higher, pp, unchanged


@finding(
    "Accuracy rises with the token budget and then levels off.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), pilot study",
)
def test_token_budget(compare, dataset, workload, model):
    """A rise by 10 points is one that a user notices; level means within 10 points either way,
    which 240 questions at temperature 0.6 can tell (half width about 6 points)."""

    def arm(budget: int) -> Arm:
        return Arm(Serving(), dataset("medium", n=240), workload.closed(16), Sampling(budget))

    compare(arm(model.enough), against=arm(model.short)).shows(
        higher(ACCURACY, by=pp(10)),
    )
    compare(arm(model.generous), against=arm(model.enough)).shows(
        unchanged(ACCURACY, within=pp(10)),
    )
