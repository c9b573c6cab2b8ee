"""Beyond mathematics: what thinking does on other kinds of questions."""

import pytest

from pytest_rllm import ACCURACY, Serving, finding, not_lower, pp

DOMAINS = ("disciplines", "commonsense", "strategy", "code", "logic")


@finding(
    "Beyond mathematics, too, a reasoning model answers no worse than its plain counterpart: on "
    "knowledge of many disciplines, commonsense, code and logic.",
    cite="reviews of Li et al., ICLR 2026 (OpenReview 6CGjZYp6ft), which ask for these data sets "
    "and state no direction",
    tier="gate",
)
@pytest.mark.parametrize("domain", DOMAINS, ids="on-{}".format)
def test_domains(compare, dataset, workload, domain):
    """Worse is by more than 10 points, what `domain-preference` calls level on knowledge.

    No source says that thinking helps here, so nothing is claimed about an advantage. HumanEval has
    164 questions; with 288 of the others an interval is about 7 points wide to either side where
    the two models agree on half of their answers.
    """
    compare(
        Serving(model="reasoning"),
        against=Serving(model="plain"),
        prompts=dataset(domain, n=288, at_most=True),
        workload=workload.closed(16),
    ).shows(not_lower(ACCURACY, by_more_than=pp(10)))
