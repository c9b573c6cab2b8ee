"""Whether an optimisation that was asked for was really on, and did no more than it may."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..checkpoints.rounded import bits_of
from ..metrics.base import Evidence, MetricUnavailable
from ..metrics.engine import counted
from ..records.header import SAID_TO_SERVE, WEIGHTS_GIB
from ..records.run import Run
from .judge import Blocks
from .reasons import EVERYTHING, WHAT_FINISHED, WHAT_IS_ASKED, Fault, Side

FAR_OFF = 2.0
"""Mean change of a token's log probability beyond which quantised numerics are implausible. A
broken format may be as sure of what is wrong: whether answers are right is a claim's to say."""
LIGHTER = 0.9
"""Of 8-bit weights even a model whose embeddings are a third of it takes less than this share."""
CAPACITY_GROWTH = 1.5
"""An 8-bit KV cache has room for about twice the tokens; with less than this it is off."""


def faults_of_run(run: Run, arm: str, side: Side) -> Iterator[Fault]:
    """An optimisation, or reasoning in a field of its own, that was asked for and is off."""
    serving = run.header.serving
    if serving is None:
        return

    def fault(text: str, kind: str, spoils: frozenset[Evidence]) -> Fault:
        return Fault(f"{arm}: {text}", spoils, kind=kind, side=side, by_engine=True)

    wanted = []
    if serving.speculative:
        wanted.append(("drafts", "speculation"))
    if serving.prefix_caching and run.header.repeats:
        wanted.append(("prefix_hits", "prefix caching"))
    for series, what in wanted:
        if _on_word(run, series):
            continue
        try:
            if counted(run, series) <= 0:
                text = f"{what} was not really on: {series} stayed at 0"
                yield fault(text, f"{what} off", EVERYTHING)
        except MetricUnavailable as error:
            yield fault(f"whether {what} was on is unknown: {error}", f"{what} unknown", EVERYTHING)
    reasoned = sum(s.reasoned for s in run.samples)
    if serving.model == "plain" and reasoned > len(run.samples) / 2:
        yield fault(
            f"{reasoned} of {len(run.samples)} answers of the plain model have reasoning: its "
            "server serves the reasoning model, or ignores what a request for an answer without "
            "reasoning says",
            "plain reasons",
            EVERYTHING,
        )
    if serving.reasons and not reasoned:
        assert run.closing is not None
        yield fault(
            "no reasoning in any answer; fields of the stream's deltas were "
            f"{', '.join(run.closing['delta_fields'])}: was one renamed?",
            "no reasoning",
            WHAT_FINISHED,
        )


def unproven(run: Run) -> Iterator[str]:
    """What an engine cannot tell of a server that somebody else runs, in a sentence: that it serves
    so rests on the user's word alone."""
    serving = run.header.serving
    if serving is None or SAID_TO_SERVE not in run.header.notes:
        return
    signs = {
        "speculation": serving.speculative and _on_word(run, "drafts"),
        f"that it is {serving.speculative}": serving.speculative and not _on_word(run, "drafts"),
        # Without repeated prompts there is nothing that a cache could hit.
        "prefix caching": serving.prefix_caching
        and (not run.header.repeats or _on_word(run, "prefix_hits")),
        "that requests are served by priority": serving.scheduling,
        "batch-invariant kernels": serving.batch_invariant,
        "on how many GPUs": serving.tensor_parallel > 1,
        "the KV cache's type": serving.kv_cache_dtype and _on_word(run),
        "the weights' type": serving.quantization and _on_word(run),
    }
    if unseen := [what for what, by_word in signs.items() if by_word]:
        yield (
            f"that {run.header.notes[SAID_TO_SERVE]} serves '{serving}' is what --rllm-serving "
            f"says: its engine tells nothing that shows {' and '.join(unseen)}"
        )


def _on_word(run: Run, series: str | None = None) -> bool:
    """Whether an optimisation rests on the user's word: its server is not ours, and its engine has
    no sign of it, which is that series, or log probabilities."""
    if SAID_TO_SERVE not in run.header.notes:
        return False
    if series is None:
        return not run.header.signature
    missing = (run.closing or {}).get("series_missing", {})
    return series not in run.series and series not in missing


def faults_of_quantisation(blocks: Blocks) -> Iterator[Fault]:
    """Quantisation shows in three signs: more room, other numerics, and not far off."""
    first, second = blocks[0][0], blocks[0][1]
    one, other = first.header.serving, second.header.serving
    if one is None or other is None or one.model != other.model:
        return
    for kind in ("kv_cache_dtype", "quantization"):
        if getattr(one, kind) == getattr(other, kind):
            continue
        arm = (first if getattr(one, kind) else second).header.arm
        change = _change(first.header.signature, second.header.signature)
        text = None
        with_it = first if getattr(one, kind) else second
        if change is None and _on_word(with_it):
            continue
        if change is None:
            text = f"whether {kind} is on is unknown: the engine told no log probabilities"
        elif change == 0:
            text = f"{kind} was not really on: log probabilities are bit for bit the same"
        elif change > FAR_OFF and not _rounded(getattr(with_it.header.serving, kind)):
            text = f"{kind} broke the model: a token's log probability moves by {change:.1f}"
        if text:
            yield Fault(f"{arm}: {text}", WHAT_IS_ASKED)
    if one.quantization and not other.quantization:
        yield from _memory(first, second)
    if other.quantization and not one.quantization:
        yield from _memory(second, first)
    if one.kv_cache_dtype and not other.kv_cache_dtype:
        yield from _room(first, second)
    if other.kv_cache_dtype and not one.kv_cache_dtype:
        yield from _room(second, first)


def _rounded(name: str | None) -> bool:
    """Whether the weights were rounded before any engine saw them: how far that moves numerics is
    no fault of the engine's, and they take as much memory as before."""
    return name is not None and bits_of(name) is not None


def _memory(small: Run, own: Run) -> Iterator[Fault]:
    """Weights with fewer bits have to take less memory, where the engine tells how much."""
    serving = small.header.serving
    takes, took = (run.header.notes.get(WEIGHTS_GIB) for run in (small, own))
    if takes is None or took is None or (serving and _rounded(serving.quantization)):
        return
    if takes > LIGHTER * took:
        yield Fault(
            f"{small.header.arm}: quantization was not really on: the weights take {takes:g} GiB "
            f"against {took:g} GiB",
            WHAT_IS_ASKED,
        )


def _room(small: Run, own: Run) -> Iterator[Fault]:
    """A KV cache of a smaller type has to hold more tokens than one of the model's own type."""
    arm = small.header.arm
    rooms = [run.series.get("kv_capacity_tokens", ([], []))[1] for run in (small, own)]
    if not all(rooms) and _on_word(small, "kv_capacity_tokens"):
        return
    if not all(rooms):
        text = f"{arm}: whether kv_cache_dtype is on is unknown: the engine tells no capacity"
        yield Fault(text, WHAT_IS_ASKED)
    elif rooms[0][0] < CAPACITY_GROWTH * rooms[1][0]:
        yield Fault(
            f"{arm}: kv_cache_dtype was not really on: room for {rooms[0][0]:.0f} tokens "
            f"against {rooms[1][0]:.0f}",
            WHAT_IS_ASKED,
        )


def _change(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Mean absolute difference of log probabilities at the same prompt's tokens."""
    if not first or len(first) != len(second):
        return None
    return float(np.abs(np.array(first) - np.array(second)).mean())
