"""Pilot study: more requests in flight."""

from pytest_rllm import (
    ACCURACY,
    TPS,
    TTFVT,
    TURN_TOKENS,
    Arm,
    Sampling,
    Serving,
    finding,
    flat,
    higher,
    pct,
    pp,
    rises,
    unchanged,
)

IN_FLIGHT = (8, 16, 32, 64)
"""Those of the paper."""


@finding(
    "With more requests in flight accuracy stays, throughput rises, and the first visible token "
    "comes later.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), pilot study",
)
def test_batch_size(compare, dataset, workload, model):
    """Four times the requests: throughput and TTFVT should both move by far more than 25 %. A step
    of a large model takes little longer for 16 than for 4: there it is the paper's 8 and 64, with
    four times the answers to each question.

    Throughput is compared at a fixed output length, the rest on free-running answers.
    """

    few, many = (8, 64) if model.large else (4, 16)

    def arm(in_flight: int, sampling: Sampling, *tiers: str, n: int) -> Arm:
        # MATH-500 has 500
        asked = dataset(*tiers, n=n, repeats=many // 16, at_most=True)
        return Arm(Serving(), asked, workload.closed(in_flight), sampling)

    fixed, free = Sampling(TURN_TOKENS, fixed_length=True), Sampling(model.generous)
    compare(arm(many, fixed, "medium", n=512), against=arm(few, fixed, "medium", n=512)).shows(
        higher(TPS, by=pct(25)),
    )
    compare(arm(many, free, "medium", n=256), against=arm(few, free, "medium", n=256)).shows(
        unchanged(ACCURACY, within=pp(10)),
        higher(TTFVT, by=pct(25)),
    )


@finding(
    "With 8, 16, 32 and 64 requests in flight accuracy stays, throughput rises, and the first "
    "visible token comes later each time.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), pilot study",
    tier="gate",
)
def test_batch_curve(compare_curve, dataset, workload, model):
    """Eight times the requests should move throughput and TTFVT by far more than 25 %. An engine
    whose processors are busy with 16 requests gains nothing from 32, so no step may lose more than
    10 % of the throughput; to see that takes 29 blocks, so there is one look at 30.

    Every block has 64 requests, so that 64 are in flight: where there are fewer questions, as at
    the tier paper, there are fewer blocks, and claims on times may stay open. Throughput is
    compared at a fixed output length, the rest on free-running answers. Accuracy is level within 10
    points, which 384 questions, each asked twice, can tell.
    """

    def curve(sampling: Sampling, n: int, repeats: int, *looks: int):
        prompts = dataset("medium", n=n, repeats=repeats)
        filled = len(prompts) // prompts.times // IN_FLIGHT[-1]
        return compare_curve(
            {k: Arm(Serving(), prompts, workload.closed(k), sampling) for k in IN_FLIGHT},
            of="in flight",
            blocks=[look for look in looks if look <= filled] or filled,
        )

    curve(Sampling(TURN_TOKENS, fixed_length=True), 480, 4, 30).shows(
        rises(TPS, by=pct(25), within=pct(10)),
    )
    curve(Sampling(model.generous), 384, 2, 6, 8, 10, 12).shows(
        flat(ACCURACY, within=pp(10)),
        rises(TTFVT, by=pct(25)),
    )
