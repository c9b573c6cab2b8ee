"""What SGLang's metrics page means, by release: names are taken as they are found on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...telemetry.prometheus import Page, samples, why_missing
from ...telemetry.series import Sample, refusal, together

HITS = ("device_hit", "host_hit", "storage_hit")
"""Values of the label ``mode``: prompt tokens found in a cache, by where it is."""


@dataclass(frozen=True)
class Source:
    """One name on the page for a series of ours.

    Attributes:
        name: of the samples.
        modes: values of their label ``mode`` that count; empty: all samples count.
        beside: SGLang writes some counters when they first count. One that is not on a page is 0
            where a sample of this name is there: a release that has it has the counter, too.
    """

    name: str
    modes: tuple[str, ...] = ()
    beside: str = ""


CAPACITY = "sglang:max_total_num_tokens"
"""Tokens that the KV cache holds: on the page from the start on."""
WHERE = "/metrics of sglang"
REQUESTS = "sglang:num_requests_total"
"""Requests that have ended; what is counted at their end is on the page from the first of them."""
SOURCES: Mapping[str, tuple[Source, ...]] = {
    "kv_use": (Source("sglang:token_usage"),),
    "running": (Source("sglang:num_running_reqs"),),
    "waiting": (Source("sglang:num_queue_reqs"),),
    "kv_capacity_tokens": (Source(CAPACITY),),
    "preemptions": (
        Source("sglang:num_retracted_requests_total", beside="sglang:realtime_tokens_total"),
    ),
    "generation_tokens": (Source("sglang:generation_tokens_total"),),
    "prompt_tokens": (Source("sglang:prompt_tokens_total"),),
    # The second of each until 0.5.21: it also counts what a preempted request looks up again.
    "prefix_queries": (
        Source("sglang:prefill_effective_tokens_total", ("input", *HITS)),
        Source("sglang:realtime_tokens_total", ("prefill_compute", "prefill_cache")),
    ),
    "prefix_hits": (
        Source("sglang:prefill_effective_tokens_total", HITS),
        Source("sglang:realtime_tokens_total", ("prefill_cache",)),
    ),
    "drafts": (Source("sglang:spec_verify_calls_total"),),
}
"""Our name to SGLang's, the newest first. It counts no drafted and no accepted tokens."""
AT_THE_END = ("generation_tokens", "prompt_tokens", "drafts")
"""Counted when a request ends, and 0 before the first one has."""


def read(page: str, *, speculates: bool) -> Page:
    """Our series from a page; shares of 1, requests, tokens.

    Args:
        page: its text.
        speculates: whether the server has speculation on: else it counts no drafts.

    Raises:
        ValueError: a line is not in Prometheus' format.
    """
    wanted = {name: said for name, said in SOURCES.items() if speculates or name != "drafts"}
    names = {name for said in wanted.values() for one in said for name in (one.name, one.beside)}
    found: dict[str, list[Sample]] = {}
    for sample in samples(page, {*names, REQUESTS, CAPACITY} - {""}):
        if not sample.labels.get("priority"):  # else it is a part of one that has none
            found.setdefault(sample.name, []).append(sample)
    rooms = {frozenset(s.labels.items()): s.value for s in found.get(CAPACITY, ())}
    none_ended = CAPACITY in found and REQUESTS not in found
    values, missing, refused = {}, {}, list[str]()
    for ours, sources in wanted.items():
        theirs = [one.name for one in sources]
        told = next((one for one in sources if one.name in found or one.beside in found), None)
        if told is None and none_ended and ours in AT_THE_END:
            values[ours] = 0.0
        elif told is None:
            missing[ours] = why_missing(ours, theirs, page, WHERE, "sglang:")
        else:
            there = [s for s in found.get(told.name, ()) if _counts(s, told)]
            if why := refusal(ours, there):
                missing[ours] = f"{ours}: {told.name} in {WHERE} {why}"
                refused.append(ours)
            else:
                values[ours] = together(
                    ours, there, lambda s: rooms.get(frozenset(s.labels.items()))
                )
    return Page(values, missing, frozenset(refused))


def _counts(sample: Sample, source: Source) -> bool:
    """Whether a sample is of what a source counts."""
    return not source.modes or sample.labels.get("mode") in source.modes
