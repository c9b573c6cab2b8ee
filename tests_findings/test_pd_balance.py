"""Prefill against decode: how many workers of each kind a reasoning model needs."""

import pytest

from pytest_rllm import DECODE_PER_PREFILL, Serving, finding, higher, in_tier, pct
from pytest_rllm.session.comparison import CannotMeasure


@finding(
    "Decoding takes a reasoning model more times its prefill than it takes the plain model, so it "
    "wants more decode workers per prefill worker.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), prefill-decode disaggregation; open question 3",
)
@pytest.mark.parametrize(
    "in_flight", [pytest.param(1, id="alone"), pytest.param(8, id="eight", marks=in_tier("gate"))]
)
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


@finding(
    "One prefill worker beside one decode worker is unbalanced for a reasoning model: decode "
    "dominates.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), prefill-decode disaggregation",
)
@pytest.mark.usefixtures("compare")
def test_pd_disaggregation():
    """Not measured: a comparison asks one server per arm, and 1P1D is two of them behind a router
    that sends each request first to the one and then to the other. What decides the balance, how
    many times its prefill a model decodes, is measured on one server above.

    Seen by hand on a CPU: vLLM for CPU 0.32.0 runs 1P1D with its ``ExampleConnector``, which hands
    the KV cache over in files. 24 questions, one at a time, to the bundled reasoning model: 928 of
    1598 prompt tokens were loaded by the decode server, whole blocks of 32, all 24 greedy answers
    were those of one server, and decoding took 13.6 s, the prompts 0.3 s on each side.
    A test of the adapter, in ``tests/test_vllm.py``, does that again.
    """
    raise CannotMeasure(
        "1P1D takes a router in front of two servers with a connector between them (on GPUs two "
        "of these, and vLLM's NIXL), which is not started here; the other cases of pd-balance "
        "measure what decides the balance"
    )
