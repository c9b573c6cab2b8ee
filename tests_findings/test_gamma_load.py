"""Load that comes in bursts: arrivals from a Gamma process, below and above the knee.

The knee, the highest rate at which nine of ten requests have their first token in time, is
searched first, with as many requests as a run has. In time is ten times as long as alone: a request
that is taken up at once waits for some steps of others, one that waits for room waits for whole
answers.
"""

import pytest

from pytest_rllm import (
    ACCURACY,
    E2E,
    KV_FULL,
    KV_PEAK,
    KV_SWING,
    PREEMPTIONS,
    TBT,
    Arm,
    Sampling,
    Serving,
    finding,
    goodput,
    higher,
    in_time,
    lower,
    not_higher,
    pct,
    pp,
    unchanged,
)

REQUESTS = 128
"""Of a run: enough for a queue that grows at half as much again as the tiny pair's engine keeps up
with to fill the KV cache, which holds some 45 of them."""


@finding(
    "Under bursty arrivals above what an engine keeps up with, a reasoning model fills the KV "
    "cache, requests are preempted, and goodput falls behind the offered rate.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), Gamma load",
    tier="gate",
)
@pytest.mark.parametrize("cv", [1, 3], ids=["cv1", "cv3"])
def test_gamma_load(compare, knee, dataset, workload, model, cv):
    """Twice the knee against half of it. The paper saw the cache at about 100 %: full means 95 % or
    more here, and a tenth of the time more than at the lower rate is what a person sees in the
    series. One preemption in twenty requests is what the slowest twentieth of the users sees. Four
    times the rate would give four times the goodput if the engine kept up; at most twice is far
    behind. One request in five that is late, beyond those of the lower rate, is a service that is
    out of order.
    """
    prompts = dataset("easy", "medium", "hard", n=8 * REQUESTS, at_most=True)
    sampling = Sampling(model.generous)
    found = knee(Arm(Serving(), prompts[:REQUESTS], workload.closed(1), sampling))
    limit = {"ttft_s": found.ttft_s}

    def at(rate: float) -> Arm:
        return Arm(Serving(), prompts, workload.gamma(rate, cv), sampling)

    compare(at(2 * found.rate), against=at(found.rate / 2), blocks=(8,)).shows(
        higher(KV_FULL, by=pp(10)),
        higher(PREEMPTIONS, by=pp(5)),
        lower(in_time(**limit), by=pp(20)),
        not_higher(goodput(**limit), by_more_than=pct(100)),
    )


@finding(
    "Bursty arrivals change when answers come, and not how many are right.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), Gamma load: earlier findings hold under it",
    tier="gate",
)
def test_accuracy(compare, knee, dataset, workload, model):
    """Twice the knee, in bursts, with preemptions, against four in flight: a preempted request is
    read again and must go on as it would have. Ten points are what 256 questions can tell.
    """
    prompts = dataset("easy", "medium", "hard", n=256, at_most=True)
    sampling = Sampling(model.generous)
    found = knee(Arm(Serving(), prompts[:REQUESTS], workload.closed(1), sampling))
    compare(
        Arm(Serving(), prompts, workload.gamma(2 * found.rate, 3), sampling),
        against=Arm(Serving(), prompts, workload.closed(4), sampling),
        blocks=(4,),
    ).shows(
        unchanged(ACCURACY, within=pp(10)),
    )


@finding(
    "Under bursty arrivals, too, KV-cache use of a reasoning model is far higher than its plain "
    "counterpart's, and it swings.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), Gamma load: earlier findings hold under it",
    tier="gate",
)
def test_fluctuation(compare, knee, dataset, workload, model):
    """At the knee of the reasoning model, in bursts; margins as under a closed load."""
    more = pct(100) if model.large else pp(10)
    prompts = dataset("easy", "medium", "hard", n=8 * REQUESTS, at_most=True)
    sampling = Sampling(model.generous)
    found = knee(Arm(Serving(), prompts[:REQUESTS], workload.closed(1), sampling))
    compare(
        Serving(),
        against=Serving(model="plain"),
        prompts=prompts,
        workload=workload.gamma(found.rate, 3),
        sampling=sampling,
        blocks=(8,),
    ).shows(
        higher(KV_PEAK, by=more),
        higher(KV_SWING, by=more),
    )


@finding(
    "The optimisations still help under bursty arrivals: speculative decoding lowers TBT, prefix "
    "caching and an FP8 KV cache lower E2E.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), Gamma load: earlier findings hold under it",
    tier="gate",
)
@pytest.mark.parametrize(
    ("serving", "metric", "repeats"),
    [
        pytest.param(Serving(speculative="draft"), TBT, 1, id="draft"),
        pytest.param(Serving(prefix_caching=True), E2E, 3, id="prefix-cache"),
        pytest.param(Serving(kv_cache_dtype="fp8"), E2E, 1, id="kv-quant"),
    ],
)
def test_optimisations(compare, knee, dataset, workload, model, serving, metric, repeats):
    """At the knee, in bursts, greedy, at a fixed length, so that both arms do the same work. Ten
    per cent is the margin that these optimisations have under a closed load, too.
    """
    sampling = Sampling(model.fixed_length, temperature=0.0, fixed_length=True)
    asked = {"n": 8 * REQUESTS // repeats, "repeats": repeats, "shots": model.examples}
    prompts = dataset("medium", **asked, at_most=True)
    base = Arm(Serving(), prompts[:REQUESTS], workload.closed(1), sampling)
    load = workload.gamma(knee(base).rate, 3)
    compare(
        Arm(serving, prompts, load, sampling),
        against=Arm(Serving(), prompts, load, sampling),
        blocks=(8, 16),
    ).shows(
        lower(metric, by=pct(10)),
    )
