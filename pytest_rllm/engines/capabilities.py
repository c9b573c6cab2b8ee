"""What an engine declares that it can do and tell; what it does not declare is never asked for."""

from __future__ import annotations

from dataclasses import dataclass

from ..experiment.serving import Serving

SHOWN = 8
"""Names in a message."""
GAUGES = ("kv_use", "running", "waiting", "kv_capacity_tokens")
SPECULATION = ("drafts", "draft_tokens", "accepted_tokens")
"""Counters that an engine tells while speculation is on."""
COUNTERS = (
    "preemptions",
    "generation_tokens",
    "prompt_tokens",
    "prefix_queries",
    "prefix_hits",
    "prefill_s",
    "decode_s",
    *SPECULATION,
)
"""Our names of series: gauges are values, counters only grow; shares of 1, requests, tokens, and
seconds that requests spent being read (``prefill_s``) and being answered (``decode_s``), summed
over requests."""


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do and tell. What is not declared is never asked for.

    Attributes:
        models: roles of a pair that it can serve, ``"reasoning"`` and ``"plain"``.
        series: our names (GAUGES, COUNTERS) of what its metrics page tells.
        reasoning: it streams the reasoning apart from the answer, in a field of its own.
        fixed_length: it can run an answer to exactly ``max_tokens``.
        token_counts: it says how many tokens each streamed delta carried.
        log_probabilities: it tells the log probability of each token of an answer.
        seeds: a request's ``seed``, a field of OpenAI's API, decides what is sampled for it.
        prefix_caching: prompts may share cached prefixes.
        speculative: kinds of speculation, of ``Serving.speculative``.
        kv_cache_dtype: the KV cache may have another data type than the model.
        quantization: weights may be quantised when they are loaded.
        checkpoints: quantised checkpoints are served as their libraries write them.
        kv_cache_dtypes: names of types that it offers for the KV cache beside the model's own;
            empty where it does not tell.
        quantizations: names of what it offers to do to weights when they are loaded; empty where it
            does not tell.
        tensor_parallel: one copy of the model may be spread over several GPUs.
        scheduling: orders in which it can serve the requests that wait, of ``Serving.scheduling``.
        batch_invariant: it has kernels whose results do not depend on what else is in a batch.
        flags: it takes further flags when it is started.
        is_mock: it runs no model: nothing that is measured on it may be stored as a baseline.
    """

    models: frozenset[str] = frozenset({"reasoning"})
    series: frozenset[str] = frozenset()
    reasoning: bool = False
    fixed_length: bool = False
    token_counts: bool = False
    log_probabilities: bool = False
    seeds: bool = False
    prefix_caching: bool = False
    speculative: frozenset[str] = frozenset()
    kv_cache_dtype: bool = False
    quantization: bool = False
    checkpoints: bool = False
    kv_cache_dtypes: tuple[str, ...] = ()
    quantizations: tuple[str, ...] = ()
    tensor_parallel: bool = False
    scheduling: frozenset[str] = frozenset()
    batch_invariant: bool = False
    flags: bool = False
    is_mock: bool = False

    def __post_init__(self) -> None:
        unknown = sorted(self.series - {*GAUGES, *COUNTERS})
        if unknown:
            raise ValueError(
                f"Capabilities.series: {', '.join(unknown)} is no series of ours; "
                f"there are {', '.join((*GAUGES, *COUNTERS))}"
            )

    def as_it_runs(self) -> Capabilities:
        """What is left of them for a server that runs already and cannot be started otherwise."""
        return Capabilities(
            series=self.series,
            reasoning=self.reasoning,
            fixed_length=self.fixed_length,
            token_counts=self.token_counts,
            log_probabilities=self.log_probabilities,
            seeds=self.seeds,
            is_mock=self.is_mock,
        )

    def series_of(self, serving: Serving) -> frozenset[str]:
        """The series that the page of that serving tells."""
        return self.series if serving.speculative else self.series - set(SPECULATION)

    def lacking(self, serving: Serving) -> list[str]:
        """What a serving needs and is not declared, in the words of ``Serving``."""
        asked = {
            f"the {serving.model} model": ("reasoning" if serving.reasons else "plain")
            in self.models,
            f"{serving.quantization} weights": self.quantization or not serving.quantization,
            f"a KV cache of {serving.kv_cache_dtype}": self.kv_cache_dtype
            or not serving.kv_cache_dtype,
            "prefix caching": self.prefix_caching or not serving.prefix_caching,
            f"{serving.speculative} speculation": serving.speculative is None
            or serving.speculative in self.speculative,
            f"{serving.tensor_parallel} GPUs per copy of the model": self.tensor_parallel
            or serving.tensor_parallel == 1,
            f"requests by {serving.scheduling}": serving.scheduling is None
            or serving.scheduling in self.scheduling,
            "batch-invariant kernels": self.batch_invariant or not serving.batch_invariant,
            f"the flags {' '.join(serving.flags)}": self.flags or not serving.flags,
        }
        return [what for what, can in asked.items() if not can]

    def unknown(self, serving: Serving) -> str | None:
        """What a serving names and is not offered, with what is; None where all is offered, or
        where the engine does not tell."""
        for what, asked, offered in (
            ("KV cache of", serving.kv_cache_dtype, self.kv_cache_dtypes),
            ("weights of", serving.quantization, self.quantizations),
        ):
            if asked is not None and offered and asked not in offered:
                more = len(offered) - SHOWN
                shown = (*offered[:SHOWN], *([f"{more} more"] if more > 0 else []))
                return f"no {what} {asked!r}: there are {', '.join(shown)}"
        return None
