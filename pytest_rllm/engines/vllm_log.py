"""What the log of vLLM says where a server did not start, in vLLM's own words."""

from __future__ import annotations

from .causes import (
    FREE_THE_GPU,
    INSTALL_NVCC,
    KILLED,
    LONGER_THAN_MADE_FOR,
    NO_NVCC,
    NO_ROOM_FOR_CACHE,
    Cause,
)

CAUSES: tuple[Cause, ...] = (
    Cause(NO_NVCC, f"{INSTALL_NVCC}; VLLM_USE_FLASHINFER_SAMPLER=0 may do without them"),
    Cause(
        r"Free memory on device (?:\S+ )?\((?P<free>[\d.]+)/(?P<all>[\d.]+) GiB\) on startup is "
        r"less than .*?\([\d.]+, (?P<wanted>[\d.]+) GiB\)",
        f"{{free}} of {{all}} GiB of the GPU are free, and {{wanted}} are asked for: "
        f"{FREE_THE_GPU}, or take a smaller model or a larger GPU",
    ),
    Cause(
        r"Available memory on node \S+ \((?P<free>[\d.]+)/(?P<all>[\d.]+) GiB\) on startup is less "
        r"than .*?\([\d.]+, (?P<wanted>[\d.]+) GiB\)",
        "{free} of {all} GiB of the host's memory are free, and {wanted} are asked for: say "
        "kv_cache_bytes = ... in the pair's TOML file, or free memory",
    ),
    Cause(r"No available memory for the cache blocks", NO_ROOM_FOR_CACHE),
    Cause(
        r"max seq len \((?P<tokens>\d+)\), \(?(?P<needed>[\d.]+) GiB KV cache is needed, which is "
        r"larger than the available KV cache memory \((?P<there>[\d.]+) GiB\)",
        "the KV cache does not hold one sequence: {tokens} tokens take {needed} GiB, and {there} "
        f"are left beside the weights: {FREE_THE_GPU}, say a smaller context_length or a larger "
        "kv_cache_bytes in the pair's TOML file, or take a larger GPU",
    ),
    Cause(
        r"max seq len \((?P<tokens>\d+)\) is larger than the maximum number of tokens that can be "
        r"stored in KV cache \((?P<there>\d+)\)",
        "the KV cache does not hold one sequence: it has room for {there} tokens of {tokens}: "
        f"{FREE_THE_GPU}, say a smaller context_length or a larger kv_cache_bytes in the pair's "
        "TOML file, or take a larger GPU",
    ),
    Cause(
        r"User-specified max_model_len \((?P<asked>\d+)\) is greater than the derived "
        r"max_model_len \([^)]*?=(?P<made>\d+)",
        LONGER_THAN_MADE_FOR,
    ),
    Cause(
        r"same vocabulary size\. Target model vocab_size=(?P<target>\d+)\. Draft model "
        r"vocab_size=(?P<draft>\d+)",
        "the draft model has {draft} tokens in its vocabulary, and the model that it drafts for "
        "{target}: take a draft model of the same vocabulary, or none",
    ),
    Cause(
        r"batch_invariant mode is not supported for (?P<what>\w+)",
        "this model's attention ({what}) has no batch-invariant kernels in this build: take a "
        "newer build or another model",
    ),
    Cause(
        r"Model architectures \['(?P<what>\w+)'\] (?:are not supported|failed to be inspected)",
        "this build knows no model of the architecture {what}: take a newer build",
    ),
    Cause(r"Failed core proc\(s\): \{[^}]*: -9\b", KILLED),
)
"""The first that the log shows counts."""
