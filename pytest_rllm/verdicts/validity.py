"""Reasons why evidence cannot be used. A reason makes invalid only the claims that rest on it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..records.run import Run
from .claims import Claim
from .judge import Blocks
from .really_on import faults_of_quantisation, faults_of_run
from .reasons import EVERYTHING, TIMES, WHAT_ENDS, WHAT_FINISHED, Fault, Reason, Side
from .streams import clumped, contradicting
from .telemetry import faults_of_telemetry
from .void_blocks import Reasons, disturbed, first_reason

FAILED_SHARE = 0.01
"""With a larger share of failed requests, the finished ones are no fair sample."""
BY_CHANCE = 0.01
"""One-sided level at which one arm fails, or lacks evidence, more often than the other."""
LENGTHS_APART = 0.02
VOID_SHARE = 0.25
"""With a larger share of void blocks, the others were not measured undisturbed either. Of 326 pairs
of blocks on two cores of a shared host 24 were void; at that rate three of eight are void in one or
two cases of a hundred."""
LET_ALONE = "let nothing else run on this machine, or ask for less at once"
CAUSES = (
    ("the client was saturated", ": the client ", LET_ALONE),
    ("the GPU was throttled", " was throttled in ", "cool it, or limit its power (nvidia-smi -pl)"),
    ("the GPU was shared", " was shared: ", "let nothing else run on it, or choose another one"),
)
"""What voids blocks, words in the reasons of such blocks, and what to do about it."""
ONE_SIDED = 0.05
"""With a smaller p value of "either arm's runs are disturbed as often", the arm is to blame."""
TRUNCATED_SHARE = 0.2
RESOLVED = {"template": "the chat template", "sampling_defaults": "a sampling default"}


@dataclass(frozen=True)
class Checked:
    """What can be judged, and why the rest cannot.

    Attributes:
        void: per void block, by its index, the reason.
        reasons: each said once, with the claims that it costs.
    """

    void: dict[int, str]
    reasons: tuple[Reason, ...]


def check(blocks: Blocks, claims: Sequence[Claim]) -> Checked:
    """Look for everything that makes the evidence of these claims unusable."""
    timed = any(claim.metric.evidence == "times" for claim in claims)
    reasons = disturbed(blocks) if timed else {}
    void = {i: first_reason(of_block) for i, of_block in reasons.items()}
    faults = [
        *_failed(blocks),
        *contradicting(blocks),
        *(fault for i, side in enumerate("AB") for fault in _of_arm([b[i] for b in blocks], side)),
        *_disturbed(blocks, void),
        *_one_sided(blocks, reasons),
        *_lengths(blocks, claims),
        *_resolved(blocks),
        *_truncated(blocks),
        *faults_of_quantisation(blocks),
    ]
    return Checked(void, tuple(dict.fromkeys(_reasons(faults, claims))))


def problems(blocks: Blocks, claims: Sequence[Claim]) -> list[str]:
    """The texts of all reasons."""
    return [reason.text for reason in check(blocks, claims).reasons]


def _reasons(faults: Iterable[Fault], claims: Sequence[Claim]) -> Iterator[Reason]:
    """Faults that cost a claim, each once; a fault that both arms have is neither's alone."""
    unique = list(dict.fromkeys(faults))
    sides: defaultdict[str, set[Side | None]] = defaultdict(set)
    for fault in unique:
        sides[fault.kind].add(fault.side)
    for fault in unique:
        costs = tuple(claim.slug for claim in claims if fault.costs(claim))
        alone = bool(fault.kind) and len(sides[fault.kind]) == 1
        if costs:
            yield Reason(fault.text, costs, fault.side if alone else None, fault.by_engine)


def _of_arm(runs: Sequence[Run], side: str) -> Iterator[Fault]:
    """Faults of the runs of one arm."""
    arm = runs[0].header.arm
    mine: Side = "A" if side == "A" else "B"
    yield from clumped(runs)
    for run in runs:
        if run.closing is None:
            yield Fault(
                f"{arm}: the record was cut short after {len(run.samples)} requests", EVERYTHING
            )
            continue
        yield from _incomplete(run, arm)
        if all(sample.error for sample in run.samples):
            continue
        yield from faults_of_telemetry(run, arm, mine)
        yield from faults_of_run(run, arm, mine)


def differ(first: int, of_first: int, second: int, of_second: int) -> bool:
    """Whether the first of two counts is larger by more than chance: Fisher's exact test."""
    from scipy import stats

    table = np.array([[first, of_first - first], [second, of_second - second]])
    return bool(stats.fisher_exact(table, alternative="greater").pvalue < BY_CHANCE)


def _failed(blocks: Blocks) -> Iterator[Fault]:
    """Arms of which more than FAILED_SHARE of the requests failed."""
    counts = []
    for arm in zip(*blocks, strict=True):
        whole = [run for run in arm if run.closing is not None]
        samples = [sample for run in whole for sample in run.samples]
        planned = sum(run.closing["planned"] for run in whole if run.closing)
        counts.append(([s.error for s in samples if s.error], len(samples), planned))
    sides: tuple[Side, Side] = ("A", "B")
    if not any(len(errors) > FAILED_SHARE * planned for errors, _, planned in counts):
        return
    (one, of_one, _), (other, of_other, _) = counts
    worse = [
        differ(len(one), of_one, len(other), of_other),
        differ(len(other), of_other, len(one), of_one),
    ]
    for i, side in enumerate(sides):
        errors, answered, planned = counts[i]
        if len(errors) <= FAILED_SHARE * planned:
            continue
        yield Fault(
            f"{blocks[0][i].header.arm}: {len(errors)} of {answered} requests failed: {errors[0]}",
            WHAT_FINISHED,
            series=("*",),
            # An arm that fails by far more often does so alone, though the other one fails, too.
            kind="" if worse[1 - i] else f"failed {side}" if worse[i] else "failed",
            side=side,
            by_engine=None if not any(worse) else worse[i],
        )


def _incomplete(run: Run, arm: str) -> Iterator[Fault]:
    assert run.closing is not None
    if run.closing["planned"] != len(run.samples):
        text = f"{arm}: {len(run.samples)} of {run.closing['planned']} requests were recorded"
        yield Fault(text, EVERYTHING)
    cut, cuts = run.closing.get("cut", 0), run.closing.get("cuts_planned", 0)
    if cut < cuts:
        yield Fault(
            f"{arm}: only {cut} of {cuts} requests hung up: the others failed or ended before",
            EVERYTHING,
        )


def _disturbed(blocks: Blocks, void: dict[int, str]) -> Iterator[Fault]:
    """So many void blocks that the others were not measured undisturbed either."""
    if len(void) <= VOID_SHARE * len(blocks):
        return
    texts = [f"block {i + 1} is void: {why}" for i, why in void.items()]
    stolen = [
        v for pair in blocks for run in pair for v in run.series.get("host_stolen", ([], []))[1]
    ]
    taken = f"; other machines took {np.mean(stolen):.0%} of the processors" if any(stolen) else ""
    what, such, advice = _cause(texts)
    yield Fault(
        f"{what}: {len(void)} of {len(blocks)} blocks are void; {such}{taken}; {advice}", TIMES
    )


def _cause(texts: Sequence[str]) -> tuple[str, str, str]:
    """What voids most of the blocks with these reasons, one of them, and what to do about it."""
    for what, words, advice in CAUSES:
        such = [text for text in texts if words in text]
        if len(such) * 2 > len(texts):
            return what, such[0], advice
    return "CPU contention", texts[0], LET_ALONE


def _one_sided(blocks: Blocks, reasons: Mapping[int, Reasons]) -> Iterator[Fault]:
    """Void blocks of one arm more often than chance explains (exact binomial test): what was left
    out may be what its engine did."""
    from scipy import stats

    alone = [sum(bool(r[i]) and not r[1 - i] for r in reasons.values()) for i in (0, 1)]
    if not any(alone):
        return
    p = stats.binomtest(alone[0], sum(alone)).pvalue
    if p >= ONE_SIDED:
        return
    more = int(alone[1] > alone[0])
    first, second = (blocks[0][i].header.arm for i in (more, 1 - more))
    yield Fault(
        f"{alone[more]} blocks are void by {first} alone and {alone[1 - more]} by {second} alone "
        f"(p = {p:.2g}): what was left out may be what its engine did, so times cannot be judged; "
        f"find out what disturbs {first}, or measure where the engine runs on this machine",
        TIMES,
    )


def _truncated(blocks: Blocks) -> Iterator[Fault]:
    """A budget that is too small for both arms decides lengths, times and answers by itself.

    Where it is too small for one arm only, that is a difference between the arms, which the claims
    show.
    """
    samplings = [run.header.sampling for run in blocks[0]]
    first, second = samplings
    if first is None or second is None or first.max_tokens != second.max_tokens:
        return
    if first.fixed_length or second.fixed_length:
        return
    shares = []
    for arm in zip(*blocks, strict=True):
        reasons = [s.finish_reason for run in arm for s in run.samples if not s.error]
        shares.append(reasons.count("length") / len(reasons) if reasons else 0.0)
    if min(shares) > TRUNCATED_SHARE:
        yield Fault(
            f"{min(shares):.0%} of the answers of either arm ran into the budget of "
            f"{first.max_tokens} tokens: raise Sampling.max_tokens",
            WHAT_ENDS,
        )


def _resolved(blocks: Blocks) -> Iterator[Fault]:
    """Answers can be compared only when both arms were prompted and sampled alike."""
    first, second = (run.header for run in blocks[0])
    if not first.serving or not second.serving or first.serving.model != second.serving.model:
        return
    for key, what in RESOLVED.items():
        one, other = getattr(first, key), getattr(second, key)
        if one and other and _unlike(one, other):  # an engine need not tell
            yield Fault(f"{what} differs between the arms: {one} against {other}", WHAT_FINISHED)


def _unlike(one: Any, other: Any) -> bool:
    """Whether what two engines told differs; of a template one may tell the number of tokens only,
    or nothing; of sampling one may tell what the other does not know, as long as it is off."""
    if isinstance(one, str) and isinstance(other, str) and "not told" in f"{one} {other}":
        counts = [re.findall(r"(\d+) tokens", text) for text in (one, other)]
        return all(counts) and counts[0] != counts[1]
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return any(_on(k, one.get(k)) != _on(k, other.get(k)) for k in {*one, *other})
    return bool(one != other)


def _on(parameter: str, value: Any) -> Any:
    """A sampling parameter's value; None where that switches it off, as -1 and 0 do of top_k."""
    return None if not value or (parameter == "top_k" and value < 0) else value


def _lengths(blocks: Blocks, claims: Sequence[Claim]) -> Iterator[Fault]:
    speed = [str(claim.metric) for claim in claims if claim.metric.fixed_length]
    if not speed:
        return
    first, second = (
        sum(s.output_tokens or 0 for pair in blocks for s in pair[i].samples) for i in (0, 1)
    )
    if abs(first - second) > LENGTHS_APART * max(first, second):
        yield Fault(
            f"output lengths apart: {first} against {second} tokens; {', '.join(speed)} can be "
            "compared only between equal lengths (Sampling(fixed_length=True))",
            TIMES,
            metrics=tuple(speed),
        )
