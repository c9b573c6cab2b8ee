"""What the log of llama.cpp says where a server did not start, in llama.cpp's own words."""

from __future__ import annotations

from ..causes import FREE_THE_GPU, Cause

CAUSES: tuple[Cause, ...] = (
    Cause(
        r"allocating (?P<more>[\d.]+) MiB on device (?P<gpu>\d+): cudaMalloc failed: out of memory",
        "memory of GPU {gpu} ran out when {more} MiB were asked for: "
        f"{FREE_THE_GPU}, or take a smaller model or a larger GPU",
    ),
    Cause(
        r"draft model (?:vocab|bos tokens|eos tokens)\b.* must match target model"
        r"|target and draft vocabs are not compatible",
        "the draft model has another vocabulary than the model that it drafts for: take a draft "
        "model of the same vocabulary, or none",
    ),
)
"""The first that the log shows counts."""
