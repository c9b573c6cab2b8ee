"""One side's imported runs against the other's: is what a user of the service feels no worse?

The runs of a side are blocks: the k-th of one is held against the k-th of the other. Requests of
one run share the machine's mood, so a single pair of runs has no error bar and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..metrics import E2E, RUN_TIME, TBT, TPS, TTFT, TTFVT
from ..records.run import Run
from ..reports.row import Row
from ..verdicts.claims import not_higher, not_lower, pct
from ..verdicts.judge import Judged, judge_family
from ..verdicts.validity import FAILED_SHARE, LENGTHS_APART

GATED = (TTFT, TTFVT, TBT, E2E, TPS, RUN_TIME)
"""What is claimed not to be worse, of that what both sides kept."""


def judge(firsts: Sequence[Run], seconds: Sequence[Run], margin: float) -> Row:
    """Judge that the first side is not worse than the second by more than ``margin`` per cent.

    Args:
        firsts, seconds: imported records, as many of either; see ``Foreign.record``.
        margin: in per cent of the second side's value.

    Returns:
        A row whose ending is ``pass``, ``fail``, ``inconclusive`` or ``invalid``.
    """
    blocks = list(zip(firsts, seconds, strict=True))
    runs = [run for pair in blocks for run in pair]
    arms = (firsts[0].about["arm"], seconds[0].about["arm"])
    claims, notes = [], []
    for metric in GATED:
        lacking = [run for run in runs if metric.name not in run.about["carries"]]
        if lacking:
            why = f"{lacking[0].about['arm']}: {lacking[0].about['not_kept'][metric.name]}"
            notes.append(f"{metric} is not judged: {why}")
            continue
        verb = not_higher if metric.better == "lower" else not_lower
        claims.append(verb(metric, by_more_than=pct(margin)))
    invalid = [
        *_problems(runs),
        *_unlike(runs),
        *_twice(runs),
        *_one_after_the_other(firsts, seconds),
    ]
    if any(claim.metric.fixed_length for claim in claims):
        invalid += _lengths(firsts, seconds)
    judged = judge_family(claims, blocks, arms, invalid)
    notes += dict.fromkeys(doubt for run in runs for doubt in run.about["doubts"])
    return Row(
        finding="not worse",
        case=f"{arms[0]} against {arms[1]}",
        sentence=f"{arms[0]} is not worse than {arms[1]} by more than {margin:g} %.",
        cite=firsts[0].about["imported"]["tool"],
        ending=_ending(judged),
        # What makes all claims invalid is said once, below the table.
        claims=[one.to_json() | ({"why": None} if invalid else {}) for one in judged],
        standings=[one.verdict for one in judged],
        notes=[*invalid, *notes],
        records="",
    )


def _ending(judged: Sequence[Judged]) -> str:
    verdicts = {one.verdict for one in judged}
    if "refuted" in verdicts:
        return "fail"
    if "invalid" in verdicts or not verdicts:
        return "invalid"
    return "inconclusive" if "inconclusive" in verdicts else "pass"


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
    first = runs[0].about["imported"]
    for run in runs[1:]:
        other = run.about["imported"]
        if other["tool"] != first["tool"]:
            yield (
                f"measured by {first['tool']} and by {other['tool']}: tools and their versions "
                "do not define a metric alike"
            )
            return
        unlike = [
            f"{name} {first['load'].get(name)} and {other['load'].get(name)}"
            for name in dict.fromkeys((*first["load"], *other["load"]))
            if first["load"].get(name) != other["load"].get(name)
        ]
        if unlike:
            yield f"{_called(runs[0])} and {_called(run)} had other loads: {'; '.join(unlike)}"
            return
        if _far(first["input_tokens"], other["input_tokens"]):
            yield (
                f"{_called(runs[0])} and {_called(run)} were asked other prompts: "
                f"{first['input_tokens']} and {other['input_tokens']} tokens"
            )
            return


def _twice(runs: Sequence[Run]) -> Iterator[str]:
    for i, run in enumerate(runs):
        for before in runs[:i]:
            if run.samples == before.samples:
                yield f"{_called(run)} is {_called(before)} once more: a run is evidence once"


def _one_after_the_other(firsts: Sequence[Run], seconds: Sequence[Run]) -> Iterator[str]:
    """All of one side before the other, and what the machine did meanwhile is in the effect."""
    one, other = ([run.about["imported"]["began"] for run in side] for side in (firsts, seconds))
    if len(one) > 1 and (max(one) < min(other) or max(other) < min(one)):
        yield (
            "all runs of one side were made before those of the other, and the machine's mood "
            "changes between: take turns (A B B A ...), both servers up"
        )


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
    return f"{run.about['arm']} ({run.about['imported']['file']}, {run.about['imported']['name']})"
