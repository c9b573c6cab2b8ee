"""AIPerf's ``profile_export.jsonl``, and better, its ``profile_export_raw.jsonl``.

The first holds the arrival of every event with text. The second (``--export-level raw``) holds the
events themselves, so it is read as our own client reads a stream. How the requests were made, and
how many, stands in the summary beside them (``profile_export_aiperf.json``); it is needed too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from .. import metrics
from ..records.deltas import Deltas
from ..records.run import Sample
from ..records.sse import parse
from .foreign import (
    NO_FINISH,
    Foreign,
    Importer,
    ImportRefused,
    elapsed,
    one_token_each,
    request,
    uneven,
    unnamed,
)

NAME = "AIPerf"
SCHEMA = "1."
NS = 1e-9
KEY = "{conversation_id}/{turn_index}"
WANTED = (
    "the profile_export_raw.jsonl or profile_export.jsonl of `aiperf profile --streaming "
    "--export-level raw --use-server-token-count --per-chunk-usage`"
)


def recognises(documents: Sequence[dict[str, Any]]) -> bool:
    first = documents[0]
    return "aiperf_version" in first or "benchmark_phase" in (first.get("metadata") or {})


def read(documents: Sequence[dict[str, Any]], path: Path) -> list[Foreign]:
    """The one run that a file is of."""
    if "aiperf_version" in documents[0]:
        raise ImportRefused(
            f"the summary of {NAME}: it holds aggregates, no request; pass the .jsonl beside it "
            "(--export-level records or raw)"
        )
    lines = [one for one in documents if one["metadata"]["benchmark_phase"] == "profiling"]
    if not lines:
        raise ImportRefused(f"{NAME} kept no request outside of its warm-up")
    raw = "responses" in lines[0]
    summary = _summary(path, raw)
    tool, config = f"{NAME} {summary['aiperf_version']}", summary["input_config"]
    _check(tool, summary, lines)
    phases = [phase for phase in config["phases"] if phase["kind"] == "profiling"]
    endpoint = config["endpoint"]
    if raw and endpoint["type"] != "chat":
        raise ImportRefused(
            f"raw events of the endpoint type {endpoint['type']}, only chat is known here: pass "
            "the profile_export.jsonl beside it"
        )
    start = min(_due_ns(one["metadata"]) for one in lines)
    fixed = None
    if len(phases) == 1 and not phases[0].get("duration"):
        fixed = phases[0].get("requests")
    samples, not_kept = (_of_raw if raw else _of_records)(lines, start)
    not_kept |= {
        metric.name: "keeps the engine's counters in other files, if at all"
        for metric in (metrics.ACCEPTANCE_RATE, metrics.ACCEPTANCE_LENGTH)
    }
    if not fixed:
        not_kept[metrics.RUN_TIME.name] = "ended the run by other than its number of requests"
    return [
        Foreign(
            tool=tool,
            name=phases[0].get("name") or phases[0]["type"],
            load={
                "phases": phases,
                "endpoint": endpoint["type"],
                "streaming": endpoint.get("streaming", False),
                "events": "raw" if raw else "records",
            },
            began=start * NS,
            planned=fixed or len(lines),
            samples=samples,
            input_tokens=(summary.get("total_isl") or {}).get("avg"),
            not_kept=not_kept,
            doubts=() if raw else (NO_FINISH,),
        )
    ]


def _summary(path: Path, raw: bool) -> dict[str, Any]:
    stem = path.stem.removesuffix("_raw") if raw else path.stem
    beside = [path.with_name(f"{stem}{end}.json") for end in ("_aiperf", "")]
    for summary in beside:
        if summary.is_file():
            content: dict[str, Any] = json.loads(summary.read_text(encoding="utf-8"))
            if not str(content["schema_version"]).startswith(SCHEMA):
                raise ImportRefused(
                    f"{summary.name} has schema {content['schema_version']}, this version reads "
                    f"{SCHEMA}x; update pytest-rllm"
                )
            return content
    raise ImportRefused(
        f"{beside[0].name} is not beside it: {NAME} tells only there how the requests were made "
        "and how many"
    )


def _check(tool: str, summary: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    if summary.get("was_cancelled") or summary.get("is_complete") is False:
        raise ImportRefused(
            f"{tool} did not complete the run: {summary.get('incomplete_reason') or 'cancelled'}"
        )
    failed = sum(_error(one) is not None for one in lines)
    told = tuple(
        int((summary.get(name) or {"avg": 0})["avg"])
        for name in ("request_count", "error_request_count")
    )
    if told != (len(lines) - failed, failed):
        raise ImportRefused(
            f"{tool} tells of {told[0]} finished and {told[1]} failed requests, and the file holds "
            f"{len(lines) - failed} and {failed}: cut short, or of another run?"
        )


def _of_records(lines: list[dict[str, Any]], start: int) -> tuple[list[Sample], dict[str, str]]:
    finished = [one for one in lines if _error(one) is None]
    counts = [(len(_events_s(one)), _value(one, "usage_completion_tokens")) for one in finished]
    counted = all(tokens is not None for _, tokens in counts)
    one_each = counted and one_token_each(counts)
    samples = []
    for one in lines:
        metadata, error = one["metadata"], _error(one)
        sent_s = (metadata["request_start_ns"] - start) * NS
        latency = _value(one, "request_latency", "ms")
        if latency is None:
            latency = (metadata["request_end_ns"] - metadata["request_start_ns"]) * NS * 1e3
        events = (sent_s + at for at in _events_s(one))
        samples.append(
            request(
                KEY.format(**metadata),
                intended_s=(_due_ns(metadata) - start) * NS,
                sent_s=sent_s,
                ended_s=sent_s + latency / 1e3,
                deltas=unnamed(events, one_each=one_each and error is None),
                output_tokens=_value(one, "usage_completion_tokens"),
                error=error,
            )
        )
    why = {
        metrics.TTFVT.name: "keeps no text in this file, and counts white space as output "
        "(--export-level raw keeps it)",
        metrics.REASONING_TOKENS.name: "keeps no tokens per event in this file",
    }
    if not one_each:
        why[metrics.TBT.name] = uneven(counts)
    if not counted:
        for metric in (metrics.TPS, metrics.OUTPUT_TOKENS, metrics.TBT):
            why[metric.name] = (
                "counted tokens itself, the engine's count is not there (--use-server-token-count)"
            )
    if not all(_events_s(one) for one in finished):
        for metric in (metrics.TTFT, metrics.TBT, metrics.DELTAS_PER_S):
            why[metric.name] = "did not stream: it keeps no time within an answer (--streaming)"
    return samples, why


def _of_raw(lines: list[dict[str, Any]], start: int) -> tuple[list[Sample], dict[str, str]]:
    samples = []
    for one in lines:
        sent_ns = one["metadata"]["request_start_ns"]
        # Events are timed by another clock than requests are; both were read at the start.
        zero = one["start_perf_ns"] - (sent_ns - start)
        chunks = [((e["perf_ns"] - zero) * NS, _event(e)) for e in one["responses"]]
        stream = parse(chunks, _error(one))
        sample = request(
            KEY.format(**one["metadata"]),
            intended_s=(_due_ns(one["metadata"]) - start) * NS,
            sent_s=(sent_ns - start) * NS,
            ended_s=chunks[-1][0] if chunks else (one["metadata"]["request_end_ns"] - start) * NS,
            deltas=stream.deltas,
            finish_reason=stream.finish_reason,
            error=stream.error,
        )
        sample.usage.update(stream.usage)
        sample.contradiction, sample.remarks = stream.contradiction, stream.remarks
        samples.append(sample)
    finished = [sample for sample in samples if sample.error is None]
    why = {}
    if any(sample.output_tokens is None for sample in finished):
        for metric in (metrics.TPS, metrics.OUTPUT_TOKENS):
            why[metric.name] = "was told no count of tokens (--use-server-token-count)"
    if not all(sample.deltas.counted for sample in finished):
        if not why and one_token_each([(len(s.deltas), s.output_tokens) for s in finished]):
            for sample in finished:
                sample.deltas = Deltas(replace(delta, tokens=1) for delta in sample.deltas)
        else:
            for metric in (metrics.TBT, metrics.REASONING_TOKENS):
                why[metric.name] = (
                    "was not told how many tokens an event carried (--per-chunk-usage)"
                )
    return samples, why


def _events_s(one: dict[str, Any]) -> list[float]:
    """Arrivals of the events with text, in seconds after the request was sent."""
    first = _value(one, "time_to_first_token", "ms")
    if first is None:
        return []
    gaps = _value(one, "inter_chunk_latency", "ms") or []
    return [at / 1e3 for at in accumulate(gaps, initial=first)]


def _event(response: dict[str, Any]) -> bytes:
    """An event as it was on the wire."""
    fields = [f"{packet['name']}: {packet.get('value') or ''}" for packet in response["packets"]]
    return "\n".join([*fields, "", ""]).encode()


def _value(one: dict[str, Any], name: str, unit: str | None = None) -> Any:
    """A metric of a request, None when it has none."""
    metric = one["metrics"].get(name)
    if metric is None:
        return None
    if unit and metric["unit"] != unit:
        raise ValueError(f"{name} in {metric['unit']}, not in {unit}")
    value = metric["value"]
    for number in value if isinstance(value, list) else [value]:
        elapsed(KEY.format(**one["metadata"]), name, number)  # counts, too, are not below 0
    return value


def _error(one: dict[str, Any]) -> str | None:
    error = one.get("error")
    if error is None:
        return "cancelled" if one["metadata"].get("was_cancelled") else None
    return ": ".join(str(error[k]) for k in ("type", "code", "message") if error.get(k) is not None)


def _due_ns(metadata: dict[str, Any]) -> int:
    """When the rate limiter let the request go."""
    due: int = metadata.get("credit_issued_ns") or metadata["request_start_ns"]
    return due


IMPORTER = Importer(name=NAME, known="0.13.0", wanted=WANTED, recognises=recognises, read=read)
