"""Optimisation: which types of the KV cache that an engine offers are really on."""

from pytest_rllm import (
    CHANGED_NUMERICS,
    KV_ROOM,
    SANITY,
    Sampling,
    Serving,
    finding,
    higher,
    not_lower,
    pct,
    pp,
)


@finding(
    "A type of the KV cache that an engine offers is really on: the cache holds more tokens, "
    "numerics change, and easy questions are still answered right.",
    cite="follows from Li et al., ICLR 2026 (arXiv 2510.18672, v1 and camera-ready): what KV-cache "
    "quantisation does can be judged only where it is on",
    tier="gate",
)
def test_kv_dtypes(compare, dataset, workload, kv_dtype, model):
    """A case per name that the installed engine lists, so that one that is added is asked, too.

    Eight bits hold twice the tokens of sixteen, less what scales take: 50 % more is less than any
    type of up to eight bits has. All log probabilities of a probe of 48 tokens change where a
    format is on, and none where it is not: half of them tells the two apart. A format that rounds
    costs an easy question or two; of one that is broken no answer is right: 30 points lie between.

    Known deviations of vLLM on a CPU (0.32.0): ``float16`` and ``bfloat16`` have the room and the
    numerics of the base, which is served in bfloat16 here: the first is accepted and ignored, the
    second is the model's own. ``turboquant_*`` and ``ultraquant_4bit`` have a third more room, and
    two of three answers are wrong. ``fp8_inc``, ``fp8_ds_mla``, ``nvfp4`` and its kinds, and all
    ``..._per_token_head`` have twice the room and other numerics, and no answer is right: they are
    accepted and broken.
    """
    compare(
        Serving(kv_cache_dtype=kv_dtype),
        against=Serving(),
        prompts=dataset("easy", n=48),
        workload=workload.closed(16),
        sampling=Sampling(model.enough),
        blocks=2,
    ).shows(
        higher(KV_ROOM, by=pct(50)),
        not_lower(CHANGED_NUMERICS, by_more_than=pp(50)),
        not_lower(SANITY, by_more_than=pp(30)),
    )
