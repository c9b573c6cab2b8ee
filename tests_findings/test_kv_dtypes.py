"""Optimisation: which types of the KV cache that an engine offers are really on."""

from pytest_rllm import (
    CHANGED_NUMERICS,
    KV_ROOM,
    PLAUSIBLE_NUMERICS,
    Sampling,
    Serving,
    finding,
    higher,
    not_lower,
    pct,
    pp,
)


@finding(
    "A type of the KV cache that an engine offers is really on: the cache holds more tokens, and "
    "numerics change, but not beyond rounding.",
    cite="follows from Li et al., ICLR 2026 (arXiv 2510.18672, v1 and camera-ready): what KV-cache "
    "quantisation does can be judged only where it is on",
    tier="gate",
)
def test_kv_dtypes(compare, dataset, workload, kv_dtype, model):
    """A case per name that the installed engine lists, so that one that is added is asked, too.

    Eight bits hold twice the tokens of sixteen, less what scales take: 50 % more is less than any
    type of up to eight bits has. All log probabilities of a probe of 48 tokens change where a
    format is on, and none where it is not: half of them tells the two apart. A format that rounds
    moves few tokens by more than 2 nats; one that is broken moves most: half of them, again.

    What an engine accepts and ignores has the room and the numerics of the base, so the first two
    are refuted; what it serves wrongly is refuted by the third. Both are known deviations of that
    engine.
    """
    compare(
        Serving(kv_cache_dtype=kv_dtype),
        against=Serving(),
        prompts=dataset("easy", n=8),
        workload=workload.closed(8),
        sampling=Sampling(model.short),
        blocks=2,
    ).shows(
        higher(KV_ROOM, by=pct(50)),
        not_lower(CHANGED_NUMERICS, by_more_than=pp(50)),
        not_lower(PLAUSIBLE_NUMERICS, by_more_than=pp(50)),
    )
