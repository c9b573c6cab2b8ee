"""Scheduling by predicted difficulty: what it does to a batch's tail, and whether anyone starves.

The engine serves the requests that wait in the order of a priority that each request tells, and the
priority is a prediction from the question alone: which data set it is of, or how long it is. An
engine takes up a request when there is room for its prompt, and learns later how long its answer
becomes: much of what a priority decides is who is preempted. Where a whole batch fits into the KV
cache to its end nobody waits, and no order changes anything.
"""

import pytest

from pytest_rllm import (
    E2E,
    E2E_P90,
    RUN_TIME,
    STRAGGLING,
    Arm,
    Sampling,
    Serving,
    finding,
    lower,
    not_higher,
    pct,
    pp,
)

CITE = "Li et al., ICLR 2026 (arXiv 2510.18672), open question 2: posed, without an answer"
TIERS = ("easy", "medium", "hard")
PREDICTED = {
    "tier": lambda prompt: TIERS.index(prompt.tier),
    "words": lambda prompt: len(prompt.text),
}
"""How difficult a question looks: the larger, the longer its answer is expected to be."""
by_prediction = pytest.mark.parametrize("predicted", PREDICTED)


@pytest.fixture
def arms(dataset, workload, model):
    """Two arms: the questions with the lowest of ``sign`` times their difficulty first, and in the
    order in which they came; batches of 72, three times what the KV cache of the tiny pair holds.
    """

    def made(predicted, sign):
        prompts = dataset(*TIERS, n=576, at_most=True)
        priorities = {p.id: sign * PREDICTED[predicted](p) for p in prompts}
        asked = prompts, workload.together(), Sampling(model.generous)
        return (
            Arm(Serving(scheduling="priority"), *asked, priorities=priorities),
            Arm(Serving(), *asked),
        )

    return made


@finding(
    "Serving first what looks short makes a batch's answers come sooner, and the slowest of the "
    "hard questions wait little longer.",
    cite=CITE,
    tier="gate",
)
@by_prediction
def test_shortest_first(compare, arms, predicted):
    """Ten per cent of the mean E2E is what makes a scheduler worth its risk. Its price is paid by
    the hard questions, whose slowest tenth a person would call starved at a quarter more.
    """
    first, against = arms(predicted, 1)
    compare(first, against=against, blocks=(8,)).shows(
        lower(E2E, by=pct(10)),
        not_higher(E2E_P90.on("hard"), by_more_than=pct(25)),
    )


@finding(
    "Serving first what looks long shortens a batch's tail and ends the batch sooner, and the "
    "slowest tenth of its answers come no later.",
    cite=CITE,
    tier="gate",
)
@by_prediction
def test_longest_first(compare, arms, predicted):
    """A tail is long answers that began late: they begin first here. Ten points less straggling is
    what a person sees in the running requests, ten per cent of the batch's time is what makes a
    scheduler worth its risk. Who waits instead is whoever asks something easy; of all answers
    together the slowest tenth may come ten per cent later.
    """
    first, against = arms(predicted, -1)
    compare(first, against=against, blocks=(8,)).shows(
        lower(STRAGGLING, by=pp(10)),
        lower(RUN_TIME, by=pct(10)),
        not_higher(E2E_P90, by_more_than=pct(10)),
    )
