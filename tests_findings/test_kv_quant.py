"""Optimisation: an 8-bit KV cache."""

from pytest_rllm import ACCURACY, TBT, Sampling, Serving, finding, lower, not_lower, pct, pp


@finding(
    "An FP8 KV cache makes serving models of 14B and above faster and keeps accuracy.",
    cite="Li et al., ICLR 2026 (arXiv 2510.18672), KV-cache quantisation: the 14B and 32B of v1",
    sizes="14B+",
)
def test_kv_quant(compare, dataset, workload, model):
    """An optimisation is worth its risk from 10 % on; accuracy may lose less than 10 points, which
    240 questions at temperature 0.6 can tell.

    A large model reads little of its KV cache beside its weights unless sequences are long: the
    paper's pairs have worked examples before each question (``docs/gpu.md``).

    Known deviation of the tiny pair on a CPU: TBT falls by 0 to 6 % only (four sessions).
    Reckoned, not profiled: a step of about 5 ms reads 10 MB of weights and, with 16 requests of 200
    tokens, 13 MB of KV cache at most; most of its time is neither, and a smaller KV cache saves
    little.
    """
    arms = {"against": Serving(), "workload": workload.closed(16)}
    compare(
        Serving(kv_cache_dtype="fp8"),
        **arms,
        prompts=dataset("medium", n=480, repeats=3, shots=model.examples, at_most=True),
        sampling=Sampling(model.fixed_length, fixed_length=True),
        blocks=(12, 24, 36, 48),
    ).shows(
        lower(TBT, by=pct(10)),
    )
    compare(
        Serving(kv_cache_dtype="fp8"),
        **arms,
        prompts=dataset("medium", n=240),
    ).shows(
        not_lower(ACCURACY, by_more_than=pp(10)),
    )
