"""GuideLLM's ``benchmarks.json``: per request the first and the last event with text, and counts.

What GuideLLM plots between those two times it interpolates; none of it is taken over. Its file also
tells when the first event of the visible answer came, and the whole text: TTFVT is known where that
text does not begin with white space and holds no inline reasoning.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import metrics
from ..records.deltas import Delta
from ..records.run import Sample
from .foreign import NO_FINISH, Foreign, Importer, ImportRefused, one_token_each, request, uneven

NAME = "GuideLLM"
SCHEMA = 2
SCHEDULED = ("constant", "poisson", "trace")
"""Strategies that give a request a time of its own; under the others it is due when sent."""


def recognises(documents: Sequence[dict[str, Any]]) -> bool:
    first = documents[0]
    return len(documents) == 1 and "benchmarks" in first and "metadata" in first


def read(documents: Sequence[dict[str, Any]], _path: Path) -> list[Foreign]:
    """One run per benchmark: a sweep puts several into a file."""
    report = documents[0]
    schema = report["metadata"]["version"]
    if schema > SCHEMA:
        raise ImportRefused(
            f"a report of {NAME} with schema {schema}, this version reads {SCHEMA}; "
            "update pytest-rllm"
        )
    if schema < SCHEMA:
        raise ImportRefused(
            f"a report of {NAME} with schema {schema}, only {SCHEMA} is read: measure with "
            f"{NAME} 0.7 or newer"
        )
    tool = f"{NAME} {report['metadata']['guidellm_version']}"
    runs = [_run(tool, benchmark) for benchmark in report["benchmarks"]]
    if not runs:
        raise ImportRefused(f"a report of {NAME} without any benchmark: none ended")
    return runs


def _run(tool: str, benchmark: dict[str, Any]) -> Foreign:
    config, groups = benchmark["config"], benchmark["requests"]
    strategy = config["strategy"]
    made = benchmark["scheduler_metrics"]["requests_made"]
    for group in ("successful", "errored"):
        if len(groups[group] or ()) != made[group]:
            raise ImportRefused(
                f"{tool} made {made[group]} {group} requests and kept {len(groups[group] or ())}: "
                "run it without a sample size (--metrics sample_size)"
            )
    for phase in ("warmup", "cooldown"):
        if config[phase]["value"] or config[phase]["percent"]:
            raise ImportRefused(
                f"{tool} left its {phase} out of its numbers and not out of its requests: "
                f"run it without a {phase}, and warm the server by a run of its own"
            )
    finished, others = groups["successful"], [*groups["errored"], *(groups["incomplete"] or ())]
    if not finished and not others:
        raise ImportRefused(f"{tool} kept no request")
    scheduled = strategy["type_"] in SCHEDULED
    start = min(_due(one, scheduled) for one in (*finished, *others))
    counts = [(_timings(one)["token_iterations"], _tokens(one)) for one in finished]
    one_each = one_token_each(counts)
    visible = _why_not_visible(finished)
    samples = [
        _finished(str(i), one, start, scheduled, one_each=one_each, visible=visible is None)
        for i, one in enumerate(finished)
    ]
    samples += [
        _failed(str(i), one, start, scheduled) for i, one in enumerate(others, len(finished))
    ]
    limits = [constraint["args"] for constraint in config["constraints"].values()]
    return Foreign(
        tool=tool,
        name=_name(strategy),
        load={
            "strategy": {k: v for k, v in strategy.items() if k != "worker_count"},
            "constraints": limits,
            "request_format": config["backend"].get("request_format"),
        },
        began=start,
        planned=made["total"],
        samples=samples,
        input_tokens=_total(one["input_metrics"]["total_tokens"] for one in (*finished, *others)),
        not_kept=_not_kept(config, finished, counts, visible, limits, one_each),
        doubts=[
            "output tokens are the engine's count, or the number that was asked for where the "
            "engine told none",
            NO_FINISH,
        ],
    )


def _finished(
    key: str, one: dict[str, Any], start: float, scheduled: bool, *, one_each: bool, visible: bool
) -> Sample:
    times, text = _timings(one), one["output"] or ""
    shown = times["first_output_token_iteration"] if visible and text else None
    first, last = times["first_token_iteration"], times["last_token_iteration"]
    events = sorted({at for at in (first, shown, last) if at is not None})
    counts = [1] * len(events)
    if events:
        # With one token per event, all up to the last is known to have come by then.
        counts[-1] = times["token_iterations"] - len(events) + 1
    return request(
        key,
        intended_s=_due(one, scheduled) - start,
        sent_s=_sent(one) - start,
        ended_s=times["request_end"] - start,
        deltas=[
            # Of the text of that event the first letter is certain, and enough.
            Delta(
                at - start,
                "content" if at == shown else "",
                tokens if one_each else None,
                text[0] if at == shown else "",
            )
            for at, tokens in zip(events, counts, strict=True)
        ],
        output_tokens=_tokens(one),
    )


def _failed(key: str, one: dict[str, Any], start: float, scheduled: bool) -> Sample:
    """An errored request, or one that was cut off at the end of the benchmark."""
    times, cause = _timings(one), one["info"]["error"]
    if one["info"]["status"] == "cancelled":
        cause = f"cut off at the end of the benchmark: {cause}"
    ended = times["request_end"] or times["resolve_end"] or _sent(one)
    events = {times["first_token_iteration"], times["last_token_iteration"]} - {None}
    return request(
        key,
        intended_s=_due(one, scheduled) - start,
        sent_s=_sent(one) - start,
        ended_s=ended - start,
        deltas=[Delta(at - start, "", None, "") for at in sorted(events)],
        error=cause or "failed; the tool kept no cause",
    )


def _not_kept(
    config: dict[str, Any],
    finished: list[dict[str, Any]],
    counts: list[tuple[int, int | None]],
    visible: str | None,
    limits: list[dict[str, Any]],
    one_each: bool,
) -> dict[str, str]:
    why = {
        metrics.DELTAS_PER_S.name: "keeps the first and the last event of an answer only",
        metrics.REASONING_TOKENS.name: "keeps no tokens per event",
        metrics.ACCEPTANCE_RATE.name: "reads no counters at the engine",
        metrics.ACCEPTANCE_LENGTH.name: "reads no counters at the engine",
    }
    if visible:
        why[metrics.TTFVT.name] = visible
    if not one_each:
        why[metrics.TBT.name] = uneven(counts)
    if any(_timings(one)["first_token_iteration"] is None for one in finished):
        for metric in (metrics.TTFT, metrics.TTFVT, metrics.TBT):
            why[metric.name] = "did not stream: it keeps no time within an answer"
    unknown = None
    if not config["prefer_response_metrics"]:
        unknown = "put the tokens asked for above the engine's count (prefer_response_metrics)"
    elif any(tokens is None for _, tokens in counts):
        unknown = "got no count of tokens from the engine"
    if unknown:
        for metric in (metrics.TPS, metrics.OUTPUT_TOKENS, metrics.TBT):
            why[metric.name] = unknown
    if not any(limit["kind"] == "max_requests" for limit in limits) or len(limits) > 1:
        why[metrics.RUN_TIME.name] = "ended the run by other than its number of requests alone"
    return why


def _why_not_visible(finished: list[dict[str, Any]]) -> str | None:
    """Why the first event with content need not be the first visible token; None when it is."""
    texts = [one["output"] or "" for one in finished]
    if any("<think>" in text or "</think>" in text for text in texts):
        return "keeps no text per event, and reasoning stood inline in its answers"
    if any(text[:1].isspace() for text in texts):
        return (
            "keeps when an answer's first event came, not its text, and answers begin with white "
            "space"
        )
    if any("first_output_token_iteration" not in _timings(one) for one in finished):
        return "of this version does not keep when the visible answer began"
    return None


def _name(strategy: dict[str, Any]) -> str:
    size = strategy.get("rate", strategy.get("streams"))
    return strategy["type_"] if size is None else f"{strategy['type_']}@{size:g}"


def _timings(one: dict[str, Any]) -> dict[str, Any]:
    timings: dict[str, Any] = one["info"]["timings"]
    return timings


def _sent(one: dict[str, Any]) -> float:
    times = _timings(one)
    for name in ("request_start", "resolve_start", "targeted_start", "queued"):
        if times[name] is not None:
            return float(times[name])
    raise ImportRefused(f"request {one['request_id']} of {NAME} has no time at all")


def _due(one: dict[str, Any], scheduled: bool) -> float:
    targeted = _timings(one)["targeted_start"]
    return float(targeted) if scheduled and targeted is not None else _sent(one)


def _tokens(one: dict[str, Any]) -> int | None:
    tokens: int | None = one["output_metrics"]["total_tokens"]
    return tokens


def _total(counts: Any) -> int | None:
    known = list(counts)
    return None if None in known else sum(known)


IMPORTER = Importer(
    name=NAME,
    known="0.8.1",
    wanted="the benchmarks.json of `guidellm run --output kind=json`",
    recognises=recognises,
    read=read,
)
