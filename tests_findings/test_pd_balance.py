"""Prefill against decode: how many workers of each kind a reasoning model needs."""

import pytest

from pytest_rllm import DECODE_PER_PREFILL, Serving, finding, higher, pct


@finding(
    "Decoding takes a reasoning model more times its prefill than it takes the plain model, so it "
    "wants more decode workers per prefill worker.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), prefill-decode disaggregation; open question 3",
)
@pytest.mark.parametrize("in_flight", [1, 8], ids=["alone", "eight"])
def test_pd_balance(compare, dataset, workload, in_flight):
    """The paper says only that decode dominates and that one prefill worker wants more than one
    decode worker. Half as many again is where a split of one to two becomes one of one to three.

    The engine tells the seconds of both phases. Of one request at a time they are its own time: the
    level is the number of decode workers that keep up with one prefill worker (xPyD with x = 1)
    where neither batches; 65 and 6.5 were seen of the tiny pair on two cores. With eight in flight
    a decoding step counts for each of its requests, so that a decode worker which holds eight at
    once does the work of about eight of those: divide the level by eight.
    """
    compare(
        Serving(model="reasoning"),
        against=Serving(model="plain"),
        prompts=dataset("easy", "medium", "hard", n=96 if in_flight == 1 else 480, at_most=True),
        workload=workload.closed(in_flight),
        blocks=(8, 12),
    ).shows(
        higher(DECODE_PER_PREFILL, by=pct(50)),
    )
