"""Pilot study: how many tokens a reasoning model may spend."""

from pytest_rllm import ACCURACY, Arm, Sampling, Serving, finding, higher, levels_off, pp, unchanged


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


@finding(
    "Accuracy rises with the token budget, levels off, and does not rise past that.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), pilot study: 256 to 20k tokens, of which 4k to "
    "8k suffice",
    tier="gate",
)
def test_budget_curve(compare_curve, dataset, workload, model):
    """The paper's pairs are asked with its eight budgets, and are to be level from 4096 tokens on;
    other pairs with budgets that double, and are to be level from the one that suffices for most.

    A rise by 10 points is one that a user notices. Level means that any two of the larger budgets
    lie within 10 points, which 240 questions at temperature 0.6 can tell (half width about 6
    points): a loss by overthinking of a few points, which the paper reports of GPQA and AIME, is
    within that.
    """
    prompts = dataset("medium", n=240)
    compare_curve(
        {
            budget: Arm(Serving(), prompts, workload.closed(16), Sampling(budget))
            for budget in model.budget_curve
        },
        of="tokens",
    ).shows(
        levels_off(ACCURACY, at=model.level_from or model.enough, by=pp(10), within=pp(10)),
    )
