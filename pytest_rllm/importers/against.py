"""Judge imported runs of one side against those of another: is the service no worse for its users?

The runs of a side are blocks: the k-th run of one side is compared with the k-th of the other. The
requests of one run share the state of the machine, so a single pair of runs has no error bar and
decides nothing. Two servers of one build differ a little for as long as they live, and no file
tells which server answered: one of either side is presumed, unless the caller knows better.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import cast

from ..baselines.machines import UNMEASURED, Machine
from ..metrics import E2E, RUN_TIME, TBT, TPS, TTFT, TTFVT
from ..records.header import Imported
from ..records.run import Run
from ..reports.row import Outcome, Row
from ..verdicts.claims import not_higher, not_lower, pct
from ..verdicts.intervals import CONFIDENCE
from ..verdicts.judge import judge_family
from ..verdicts.judgement import Judgement
from ..verdicts.precedence import overall
from ..verdicts.reasons import Reason
from ..verdicts.streams import clumped
from ..verdicts.validity import FAILED_SHARE, LENGTHS_APART

GATED = (TTFT, TTFVT, TBT, E2E, TPS, RUN_TIME)
"""What is claimed not to be worse, of that what both sides kept."""
APART = 0.1
"""With the sides further apart on average, as a share of the time from the first run to the last, a
machine whose speed drifts is seen as an effect."""
ORDER = "make them in the order A B B A A B B A ..., with both servers up"
UNKNOWN = Machine("unknown")
"""No file tells what was measured on."""
ONE_SERVER_EACH = (
    "one server of either side is presumed, and that two of one build differ by "
    f"{UNMEASURED.sd:.0%} as long as they live, which no file tells: this alone hides differences "
    "of a few per cent; start both servers anew before every pair of runs, and say so with "
    "--fresh-servers"
)


def judge(
    firsts: Sequence[Run], seconds: Sequence[Run], margin: float, *, fresh_servers: bool = False
) -> Row:
    """Judge that the first side is not worse than the second by more than ``margin`` per cent.

    Args:
        firsts, seconds: imported records, as many of either; see ``Foreign.record``.
        margin: in per cent of the second side's value.
        fresh_servers: whether every run had a server that was started for it.

    Returns:
        A row whose outcome is ``pass``, ``fail``, ``inconclusive`` or ``invalid``.
    """
    blocks = [
        (
            _served(one, 2 * i if fresh_servers else 0),
            _served(other, 2 * i + 1 if fresh_servers else 1),
        )
        for i, (one, other) in enumerate(zip(firsts, seconds, strict=True))
    ]
    runs = [run for pair in blocks for run in pair]
    arms = (firsts[0].header.arm, seconds[0].header.arm)
    claims, notes = [], []
    for metric in GATED:
        lacking = [run for run in runs if metric.name not in imported(run).carries]
        if lacking:
            why = f"{lacking[0].header.arm}: {imported(lacking[0]).not_kept[metric.name]}"
            notes.append(f"{metric} is not judged: {why}")
            continue
        verb = not_higher if metric.better == "lower" else not_lower
        claims.append(verb(metric, by_more_than=pct(margin)))
    everything = [
        *_problems(runs),
        *_unlike(runs),
        *_twice(runs),
        *_not_interleaved(firsts, seconds),
    ]
    every_claim = tuple(claim.slug for claim in claims)
    of_length = tuple(claim.slug for claim in claims if claim.metric.fixed_length)
    reasons = [Reason(text, every_claim) for text in everything]
    if of_length:
        reasons += [Reason(text, of_length) for text in _lengths(firsts, seconds)]
    for fault in (*clumped(firsts), *clumped(seconds)):
        costs = tuple(claim.slug for claim in claims if fault.costs(claim))
        reasons += [Reason(fault.text, costs)] if costs else []
    invalid = {
        slug: [reason.text for reason in reasons if slug in reason.claims] for slug in every_claim
    }
    verdicts = tuple(judge_family(claims, blocks, arms, invalid, spread=UNKNOWN.spread))
    notes += _too_few(len(blocks), len(claims))
    if not fresh_servers:
        notes.append(ONE_SERVER_EACH)
    notes += dict.fromkeys(doubt for run in runs for doubt in imported(run).doubts)
    outcomes = {"holds": "pass", "refuted": "fail"}
    verdict = overall([one.verdict for one in verdicts]) if verdicts else "invalid"
    return Row(
        finding="not worse",
        case=f"{arms[0]} against {arms[1]}",
        sentence=f"{arms[0]} is not worse than {arms[1]} by more than {margin:g} %.",
        cite=imported(firsts[0]).tool,
        outcome=cast("Outcome", outcomes.get(verdict, verdict)),
        judgements=(Judgement("1", arms, verdicts, tuple(reasons)),),
        statuses=tuple(one.verdict for one in verdicts),
        notes=tuple(notes if claims else [*everything, *notes]),
    )


def imported(run: Run) -> Imported:
    """Where an imported run comes from."""
    assert run.header.imported is not None, "a record of another tool says which"
    return run.header.imported


def _problems(runs: Sequence[Run]) -> Iterator[str]:
    """What is wrong with a run by itself."""
    for run in runs:
        assert run.closing is not None, "an imported record is written whole"
        planned, arm = run.closing["planned"], _called(run)
        failed = [sample for sample in run.samples if sample.error]
        if len(failed) > FAILED_SHARE * planned:
            yield f"{arm}: {len(failed)} of {planned} requests failed: {failed[0].error}"
        if planned != len(run.samples):
            yield f"{arm}: {len(run.samples)} of {planned} requests are in the file"


def _unlike(runs: Sequence[Run]) -> Iterator[str]:
    """What makes runs measurements of different things."""
    first = imported(runs[0])
    for run in runs[1:]:
        other = imported(run)
        if other.tool != first.tool:
            yield (
                f"measured by {first.tool} and by {other.tool}: tools and their versions "
                "do not define a metric alike"
            )
            return
        unlike = [
            f"{name} {first.load.get(name)} and {other.load.get(name)}"
            for name in dict.fromkeys((*first.load, *other.load))
            if first.load.get(name) != other.load.get(name)
        ]
        if unlike:
            yield f"{_called(runs[0])} and {_called(run)} had other loads: {'; '.join(unlike)}"
            return
        if _far(first.input_tokens, other.input_tokens):
            yield (
                f"{_called(runs[0])} and {_called(run)} were asked other prompts: "
                f"{first.input_tokens} and {other.input_tokens} tokens"
            )
            return


def _twice(runs: Sequence[Run]) -> Iterator[str]:
    for i, run in enumerate(runs):
        for before in runs[:i]:
            if run.samples == before.samples:
                yield f"{_called(run)} is {_called(before)} once more: a run is evidence once"


def _not_interleaved(firsts: Sequence[Run], seconds: Sequence[Run]) -> Iterator[str]:
    """One side earlier than the other on average: what the machine did is in the effect."""
    one, other = ([imported(run).began for run in side] for side in (firsts, seconds))
    span = max(*one, *other) - min(*one, *other)
    apart = fmean(other) - fmean(one)
    if len(one) < 2 or abs(apart) <= APART * span:
        return
    earlier, later = (side[0].header.arm for side in (firsts, seconds)[:: 1 if apart > 0 else -1])
    yield (
        f"not interleaved: on average the runs of {earlier} were made earlier than those of "
        f"{later} by {abs(apart) / span:.0%} of the whole time, in which the machine's speed may "
        f"have changed: {ORDER}"
    )


def _too_few(pairs: int, claims: int) -> Iterator[str]:
    """Fewer pairs of runs than one of several claims can be refuted with (Wilcoxon's signed ranks
    at the level of Holm's first step)."""
    needed = math.ceil(math.log2(2 * max(1, claims) / (1 - CONFIDENCE)))
    if 1 < pairs < needed:
        yield (
            f"{pairs} pairs of runs cannot show that one of {claims} metrics is worse, however bad "
            f"it is: make at least {needed}"
        )


def _served(run: Run, server: int) -> Run:
    """The run with the number of the server that answered."""
    return replace(run, header=replace(run.header, server=server))


def _lengths(firsts: Sequence[Run], seconds: Sequence[Run]) -> Iterator[str]:
    one, other = (
        sum(sample.output_tokens or 0 for run in side for sample in run.samples)
        for side in (firsts, seconds)
    )
    if _far(one, other):
        yield (
            f"output lengths apart: {one} against {other} tokens; speed is compared at equal "
            "lengths only (let the tool ignore the end of a text)"
        )


def _far(one: int | None, other: int | None) -> bool:
    return one is None or other is None or abs(one - other) > LENGTHS_APART * max(one, other)


def _called(run: Run) -> str:
    return f"{run.header.arm} ({imported(run).file}, {imported(run).name})"
