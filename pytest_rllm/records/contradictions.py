"""Answers that contradict themselves: each number may be right, and all of them cannot be."""

from __future__ import annotations

import numpy as np

from .header import CONTEXT
from .run import Run, Sample
from .sse import MOST_SILENT

SPARE = 16
"""Tokens by which an answer may miss its budget or the context: a block, or a step of several
tokens."""
SILENT_SHARE = 0.5
"""Of an answer with text, more tokens in a row than this share cannot be without any. A model that
talks nonsense may make many special tokens, which have no text: up to 17 % of an answer in a row
with sampled speculation on vLLM for CPU."""


def contradiction(sample: Sample, run: Run) -> str | None:
    """How an answer contradicts itself, its budget or the context; None where it does not, or has
    failed.

    Args:
        sample: the answer.
        run: that it is of, which says how many tokens it may take.
    """
    if sample.error:
        return None
    return sample.contradiction or _silent(sample) or _cut_short(sample, run)


def _silent(sample: Sample) -> str | None:
    """Tokens in a row that were counted while no text came, beside text that was streamed.

    A character may take several tokens, of which only the last one shows: those are few in a row.
    """
    deltas, shown = sample.deltas, sample.deltas.sizes > 0
    if not deltas.counted or not shown.any() or sample.reasoning_told:
        return None
    rows = np.bincount(shown.cumsum(), np.where(shown, 0, deltas.tokens))
    total, silent = int(deltas.tokens.sum()), int(rows.max())
    if silent <= MOST_SILENT or silent <= SILENT_SHARE * total:
        return None
    return f"{silent} of its {total} tokens were counted one after the other while no text came"


def _cut_short(sample: Sample, run: Run) -> str | None:
    """The end ``length`` before the budget and the context were used up."""
    sampling, context = run.header.sampling, run.header.notes.get(CONTEXT)
    tokens, prompt = sample.output_tokens, sample.usage.get("prompt_tokens")
    if sample.finish_reason != "length" or sampling is None or tokens is None:
        return None
    if tokens + SPARE >= sampling.max_tokens:
        return None
    if context is None or not isinstance(prompt, int) or prompt + tokens + SPARE >= context:
        return None
    return (
        f"it ended with length after {tokens} tokens, short of its budget of "
        f"{sampling.max_tokens} and of the context of {context}"
    )
