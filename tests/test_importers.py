"""Files that other tools wrote become records of the same numbers, or are refused by name."""

from __future__ import annotations

import json
import math
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from pytest_rllm.__main__ import main
from pytest_rllm.importers import ImportRefused, read
from pytest_rllm.metrics import (
    ACCEPTANCE_LENGTH,
    ACCEPTANCE_RATE,
    ACCURACY,
    DELTAS_PER_S,
    E2E,
    KV_PEAK,
    OUTPUT_TOKENS,
    REASONING_TOKENS,
    RUN_TIME,
    TBT,
    TPS,
    TTFT,
    TTFVT,
    Metric,
    MetricUnavailable,
)
from pytest_rllm.records.deltas import Delta
from pytest_rllm.records.reader import read_run
from pytest_rllm.records.run import Run, Sample

RECORDED = Path(__file__).parent / "recorded" / "imports"
MICROSECONDS = 2e-6
"""Records keep times to the microsecond."""


def imported(path: Path, folder: Path, number: int = 0) -> Run:
    return read(path)[number].record(folder / "record.jsonl", arm="A", file=path.name)


def number(metric: Metric, run: Run) -> float:
    return metric.of_run(run)


def content(name: str) -> Any:
    return json.loads((RECORDED / name).read_text())


def lines(name: str) -> list[Any]:
    return [json.loads(line) for line in (RECORDED / name).read_text().splitlines()]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    def write(content: Any) -> Path:
        path = tmp_path / "edited.json"
        path.write_text(json.dumps(content))
        return path

    return write


# ---- times that cannot be


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("ttfts", -0.1, "request 2: ttfts is -0.1, which cannot be"),
        ("ttfts", math.nan, "request 2: ttfts is nan, which cannot be"),
        ("ttfts", "0.1", "request 2: ttfts is '0.1', which cannot be"),
        ("start_times", -5.0, "request 2: start_times is -5.0, which cannot be"),
        ("start_times", math.inf, "request 2: start_times is inf, which cannot be"),
        ("itls", [0.1, -0.2], "request 2: itls is -0.2, which cannot be"),
        ("output_lens", -4, "request 2: -4 output tokens"),
    ],
)
def test_vllm_bench_times_that_cannot_be_are_refused_by_request_and_field(
    tmp_path: Path, write: Callable[[Any], Path], field: str, value: Any, why: str
) -> None:
    edited = content("vllm_bench/completions.json")
    edited[field][2] = value
    with pytest.raises(ImportRefused) as refused:
        imported(write(edited), tmp_path)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("field", "by_s", "why"),
    [
        ("request_end", -100.0, "its end ("),
        ("first_token_iteration", -100.0, "its event 1 ("),
        ("request_end", math.nan, "the time of its end is nan"),
    ],
)
def test_guidellm_times_that_cannot_be_are_refused(
    tmp_path: Path, write: Callable[[Any], Path], field: str, by_s: float, why: str
) -> None:
    path = next((RECORDED / "guidellm").glob("*.json"))
    edited = json.loads(path.read_text())
    one = edited["benchmarks"][0]["requests"]["successful"][1]
    one["info"]["timings"][field] += by_s
    with pytest.raises(ImportRefused) as refused:
        imported(write(edited), tmp_path)
    assert "request " in str(refused.value)
    assert why in str(refused.value)


@pytest.mark.parametrize("field", ["request_latency", "time_to_first_token"])
def test_aiperf_times_that_cannot_be_are_refused(tmp_path: Path, field: str) -> None:
    folder = copytree(RECORDED / "aiperf" / "records", tmp_path / "aiperf")
    file = folder / "profile_export.jsonl"
    edited = [json.loads(line) for line in file.read_text().splitlines()]
    edited[1]["metrics"][field]["value"] = -3.0
    file.write_text("\n".join(map(json.dumps, edited)))
    with pytest.raises(ImportRefused, match=f"{field} is -3.0, which cannot be"):
        imported(file, tmp_path)


# ---- numbers


@pytest.mark.parametrize("name", ["completions", "again"])
def test_vllm_bench_numbers_are_those_of_its_file(tmp_path: Path, name: str) -> None:
    file = content(f"vllm_bench/{name}.json")
    run = imported(RECORDED / f"vllm_bench/{name}.json", tmp_path)
    ends = [at + took for at, took in zip(file["start_times"], file["latencies"], strict=True)]
    wall = max(ends) - min(file["start_times"])
    assert len(run.samples) == file["completed"] == 6
    assert number(TTFT, run) == pytest.approx(file["mean_ttft_ms"] / 1e3, abs=MICROSECONDS)
    assert number(TBT, run) == pytest.approx(file["mean_tpot_ms"] / 1e3, abs=MICROSECONDS)
    assert number(E2E, run) == pytest.approx(statistics.fmean(file["latencies"]), abs=MICROSECONDS)
    assert number(RUN_TIME, run) == pytest.approx(wall, abs=MICROSECONDS)
    assert number(TPS, run) == pytest.approx(file["total_output_tokens"] / wall, rel=1e-4)
    assert number(DELTAS_PER_S, run) == pytest.approx(144 / wall, rel=1e-4)
    assert number(OUTPUT_TOKENS, run) == 24


def test_vllm_bench_waiting_for_a_place_counts_when_a_rate_was_asked_for(tmp_path: Path) -> None:
    file = content("vllm_bench/failed.json")
    run = imported(RECORDED / "vllm_bench/failed.json", tmp_path)
    finished = [i for i, error in enumerate(file["errors"]) if not error]
    waited = [file["ttfts"][i] + file["queue_times"][i] for i in finished]
    assert number(TTFT, run) == pytest.approx(statistics.fmean(waited), abs=MICROSECONDS)
    assert max(file["queue_times"][i] for i in finished) > 0.1
    lateness = {s.prompt.id: s.sent_s - s.intended_s for s in run.samples}
    for i, waiting in enumerate(file["queue_times"]):
        assert lateness[str(i)] == pytest.approx(waiting, abs=MICROSECONDS)


def test_vllm_bench_without_a_rate_has_requests_due_when_sent(tmp_path: Path) -> None:
    run = imported(RECORDED / "vllm_bench/completions.json", tmp_path)
    assert all(s.sent_s == s.intended_s for s in run.samples)


def test_vllm_bench_counters_of_speculation_are_the_engines(tmp_path: Path) -> None:
    file = content("vllm_bench/speculation.json")
    run = imported(RECORDED / "vllm_bench/speculation.json", tmp_path)
    assert number(ACCEPTANCE_RATE, run) == pytest.approx(file["spec_decode_acceptance_rate"] / 100)
    assert number(ACCEPTANCE_LENGTH, run) == pytest.approx(file["spec_decode_acceptance_length"])
    with pytest.raises(MetricUnavailable, match=r"TBT: .* kept 136 events for 192 tokens"):
        number(TBT, run)


def test_guidellm_numbers_are_those_of_its_file(tmp_path: Path) -> None:
    requests = content("guidellm/chat.json")["benchmarks"][0]["requests"]["successful"]
    run = imported(RECORDED / "guidellm/chat.json", tmp_path)
    assert len(run.samples) == len(requests) == 6
    firsts = [one["time_to_first_token_ms"] / 1e3 for one in requests]
    assert number(TTFT, run) == pytest.approx(statistics.fmean(firsts), abs=MICROSECONDS)
    assert number(E2E, run) == pytest.approx(
        statistics.fmean(one["request_latency"] for one in requests), abs=MICROSECONDS
    )
    wall = max(one["request_end_time"] for one in requests) - min(
        one["request_start_time"] for one in requests
    )
    assert number(TPS, run) == pytest.approx(
        sum(one["output_tokens"] for one in requests) / wall, rel=1e-4
    )


def test_guidellm_latency_counts_from_the_schedule_where_there_is_one(tmp_path: Path) -> None:
    requests = content("guidellm/failed.json")["benchmarks"][0]["requests"]["successful"]
    run = imported(RECORDED / "guidellm/failed.json", tmp_path)
    assert number(E2E, run) == pytest.approx(
        statistics.fmean(one["request_scheduled_latency"] for one in requests), abs=MICROSECONDS
    )


def test_guidellm_keeps_two_or_three_times_of_an_answer_and_no_more(tmp_path: Path) -> None:
    requests = content("guidellm/scripted.json")["benchmarks"][0]["requests"]["successful"]
    run = imported(RECORDED / "guidellm/scripted.json", tmp_path)
    gaps = [one["inter_token_latency_ms"] / 1e3 for one in requests]
    shown = [one["time_to_first_output_token_ms"] / 1e3 for one in requests]
    assert number(TBT, run) == pytest.approx(statistics.fmean(gaps), abs=MICROSECONDS)
    assert number(TTFVT, run) == pytest.approx(statistics.fmean(shown), abs=MICROSECONDS)
    timings = [one["info"]["timings"] for one in requests]
    for sample in run.samples:
        told = timings[int(sample.prompt.id)]
        assert [delta.at_s for delta in sample.deltas] == pytest.approx(
            [
                told[name] - min(t["request_start"] for t in timings)
                for name in (
                    "first_token_iteration",
                    "first_output_token_iteration",
                    "last_token_iteration",
                )
            ],
            abs=MICROSECONDS,
        )
        assert sum(delta.tokens or 0 for delta in sample.deltas) == 8
        assert [delta.text for delta in sample.deltas] == ["", "w", ""]


@pytest.mark.parametrize("name", ["guidellm/chat.json", "vllm_bench/speculation.json"])
def test_tokens_of_an_event_are_never_invented(tmp_path: Path, name: str) -> None:
    run = imported(RECORDED / name, tmp_path)
    assert all(delta.tokens is None for sample in run.samples for delta in sample.deltas)
    assert all(sample.deltas and sample.output_tokens for sample in run.samples)


def test_guidellm_writes_a_run_per_benchmark(tmp_path: Path) -> None:
    runs = read(RECORDED / "guidellm/sweep.json")
    assert [run.name for run in runs] == ["concurrent@1", "concurrent@2"]
    assert [len(run.samples) for run in runs] == [4, 4]
    assert runs[0].load != runs[1].load


@pytest.mark.parametrize("folder", ["records", "raw", "scripted"])
def test_aiperf_numbers_are_those_of_its_file(tmp_path: Path, folder: str) -> None:
    told = lines(f"aiperf/{folder}/profile_export.jsonl")
    run = imported(RECORDED / f"aiperf/{folder}/profile_export.jsonl", tmp_path)
    assert len(run.samples) == len(told)

    def late(one: Any) -> float:
        waited: int = one["metadata"]["request_start_ns"] - one["metadata"]["credit_issued_ns"]
        return waited / 1e9

    def value(one: Any, name: str) -> float:
        number: float = one["metrics"][name]["value"] / 1e3
        return number

    assert number(TTFT, run) == pytest.approx(
        statistics.fmean(late(one) + value(one, "time_to_first_token") for one in told),
        abs=MICROSECONDS,
    )
    assert number(E2E, run) == pytest.approx(
        statistics.fmean(late(one) + value(one, "request_latency") for one in told),
        abs=MICROSECONDS,
    )
    assert number(OUTPUT_TOKENS, run) == (8 if folder == "scripted" else 24)
    if folder == "scripted":
        assert number(TBT, run) == pytest.approx(
            statistics.fmean(value(one, "inter_token_latency") for one in told), abs=MICROSECONDS
        )


def test_aiperf_raw_events_are_read_as_a_stream_of_our_own(tmp_path: Path) -> None:
    run = imported(RECORDED / "aiperf/raw/profile_export_raw.jsonl", tmp_path)
    records = imported(RECORDED / "aiperf/raw/profile_export.jsonl", tmp_path)
    assert number(TTFT, run) == pytest.approx(number(TTFT, records), abs=MICROSECONDS)
    first = min(run.samples, key=lambda sample: sample.sent_s)
    told = lines("aiperf/raw/profile_export_raw.jsonl")[0]
    events = [json.loads(e["packets"][0]["value"]) for e in told["responses"][:-1]]
    texts = [(e["choices"] or [{"delta": {}}])[0]["delta"] for e in events]
    assert "".join(d.text for d in first.deltas if d.field == "reasoning") == "".join(
        text.get("reasoning") or "" for text in texts
    )
    assert first.answer == "".join(text.get("content") or "" for text in texts)
    assert first.output_tokens == sum(delta.tokens or 0 for delta in first.deltas) == 24
    assert [sample.finish_reason for sample in run.samples] == ["length"] * 3
    # The answer begins after the reasoning, and after white space.
    assert number(TTFVT, run) > number(TTFT, run)
    assert 0 < number(REASONING_TOKENS, run) < 24


@pytest.mark.parametrize(
    "name", ["guidellm/scripted.json", "aiperf/scripted/profile_export_raw.jsonl"]
)
def test_the_schedule_of_the_scripted_server_is_in_the_record(tmp_path: Path, name: str) -> None:
    """First token 50 ms after the role, the answer four tokens later, 5 ms between tokens."""
    run = imported(RECORDED / name, tmp_path)
    assert 0.05 <= number(TTFT, run) < 0.1
    assert 0.005 <= number(TBT, run) < 0.01
    assert number(TTFVT, run) - number(TTFT, run) == pytest.approx(4 * number(TBT, run), rel=0.2)


def test_every_run_reads_back_from_its_record(tmp_path: Path) -> None:
    path = RECORDED / "aiperf/failed/profile_export.jsonl"
    run = imported(path, tmp_path)
    again = read_run(tmp_path / "record.jsonl")
    assert again == run
    assert again.header.imported.tool == "AIPerf 0.13.0"
    assert again.header.imported.file == "profile_export.jsonl"


# ---- failed requests


@pytest.mark.parametrize(
    ("name", "requests", "causes"),
    [
        ("vllm_bench/failed.json", 7, ["Bad Request"]),
        ("guidellm/failed.json", 7, ["HTTPStatusError.*400 Bad Request"]),
        ("aiperf/failed/profile_export.jsonl", 7, ["Bad Request: 400: .*maximum context length"]),
        ("guidellm/cut_off.json", 6, ["cut off at the end of the benchmark: .*cancelled"] * 2),
    ],
)
def test_failed_requests_stay_failed_with_their_cause(
    tmp_path: Path, name: str, requests: int, causes: list[str]
) -> None:
    import re

    run = imported(RECORDED / name, tmp_path)
    failed = [sample for sample in run.samples if sample.error]
    assert len(run.samples) == requests
    assert len(failed) == len(causes)
    for sample, cause in zip(failed, causes, strict=True):
        assert re.search(cause, str(sample.error))
        assert not any(delta.tokens for delta in sample.deltas)


def test_a_failure_that_broke_a_stream_keeps_what_had_come(
    tmp_path: Path, write: Callable[[Any], Path]
) -> None:
    file = content("vllm_bench/completions.json")
    file["errors"][2] = "Traceback (most recent call last):\n  File ...\nConnectionError: gone\n"
    file["itls"][2] = file["itls"][2][:3]
    file["output_lens"][2] = 0
    file |= {"completed": 5, "failed": 1}
    run = imported(write(file), tmp_path)
    sample = next(sample for sample in run.samples if sample.error)
    assert (sample.prompt.id, sample.error, len(sample.deltas)) == (
        "2",
        "ConnectionError: gone",
        4,
    )
    assert sample.ended_s == sample.deltas[-1].at_s
    assert all(delta.tokens is None for delta in sample.deltas)


# ---- what was not kept


NOT_KEPT = [
    ("vllm_bench/completions.json", TTFVT, "vllm bench serve keeps no text per event"),
    ("vllm_bench/completions.json", REASONING_TOKENS, "vllm bench serve keeps no text per event"),
    ("vllm_bench/completions.json", ACCEPTANCE_RATE, "read no counters of speculation"),
    ("vllm_bench/chat.json", TBT, "does not keep which events of a chat carried tokens"),
    ("vllm_bench/chat.json", DELTAS_PER_S, "the role or the end alone"),
    ("vllm_bench/scripted.json", TTFT, "the first event of a chat, which may carry the role alone"),
    ("vllm_bench/failed.json", TBT, "kept 118 events for 123 tokens"),
    ("guidellm/chat.json", TTFVT, "GuideLLM 0.8.1 keeps when .* begin with white space"),
    ("guidellm/chat.json", TBT, "GuideLLM 0.8.1 kept 139 events for 144 tokens"),
    ("guidellm/chat.json", DELTAS_PER_S, "the first and the last event of an answer only"),
    ("guidellm/failed.json", TTFVT, "reasoning stood inline in its answers"),
    ("guidellm/cut_off.json", RUN_TIME, "ended the run by other than its number of requests"),
    ("aiperf/records/profile_export.jsonl", TTFVT, "AIPerf 0.13.0 keeps no text in this file"),
    ("aiperf/records/profile_export.jsonl", TBT, "kept 137 events for 144 tokens"),
    ("aiperf/failed/profile_export.jsonl", REASONING_TOKENS, "no tokens per event in this file"),
    ("guidellm/chat.json", ACCURACY, "GuideLLM 0.8.1 keeps neither an answer key nor telemetry"),
    ("aiperf/raw/profile_export_raw.jsonl", ACCURACY, "AIPerf 0.13.0 keeps neither an answer key"),
    ("vllm_bench/completions.json", KV_PEAK, "vllm bench serve keeps neither .* nor telemetry"),
]


@pytest.mark.parametrize(("name", "metric", "sentence"), NOT_KEPT)
def test_what_a_tool_did_not_keep_is_refused_by_name(
    tmp_path: Path, name: str, metric: Metric, sentence: str
) -> None:
    run = imported(RECORDED / name, tmp_path)
    with pytest.raises(MetricUnavailable, match=f"^{metric}: .*{sentence}"):
        number(metric, run)


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (
            E2E,
            "no request of the run is known to be of 'easy'; there are none whose data set is",
        ),
        (TTFVT, "GuideLLM 0.8.1 keeps when .* begin with white space"),
        (ACCURACY, "GuideLLM 0.8.1 keeps neither an answer key nor telemetry"),
    ],
    ids=str,
)
def test_of_one_data_set_a_metric_is_refused_for_what_is_true(
    tmp_path: Path, metric: Metric, reason: str
) -> None:
    run = imported(RECORDED / "guidellm/chat.json", tmp_path)
    with pytest.raises(MetricUnavailable, match=f"^{metric} on easy: {reason}"):
        number(metric.on("easy"), run)


def test_a_metric_that_nobody_thought_of_is_refused_too(tmp_path: Path) -> None:
    own = Metric("own", "s", "lower", "run", lambda run: 1.0)
    run = imported(RECORDED / "guidellm/chat.json", tmp_path)
    with pytest.raises(MetricUnavailable, match=r"own: GuideLLM 0\.8\.1 keeps neither"):
        number(own, run)


def test_ttft_of_a_chat_is_known_where_role_and_first_token_came_together(tmp_path: Path) -> None:
    file = content("vllm_bench/chat.json")
    run = imported(RECORDED / "vllm_bench/chat.json", tmp_path)
    assert number(TTFT, run) == pytest.approx(file["mean_ttft_ms"] / 1e3, abs=MICROSECONDS)


def test_vllm_bench_of_a_version_that_kept_no_queues_has_no_latency_under_a_rate(
    tmp_path: Path, write: Callable[[Any], Path]
) -> None:
    file = content("vllm_bench/failed.json")
    del file["queue_times"]
    run = imported(write(file), tmp_path)
    for metric in (TTFT, E2E):
        with pytest.raises(MetricUnavailable, match="does not keep when a request was due"):
            number(metric, run)
    assert imported(write(file | {"max_concurrency": None}), tmp_path).header.imported.carries
    assert number(E2E, imported(write(file | {"max_concurrency": None}), tmp_path)) > 0


def test_guidellm_without_the_engines_usage_has_no_tokens(
    tmp_path: Path, write: Callable[[Any], Path]
) -> None:
    file = content("guidellm/scripted.json")
    requests = file["benchmarks"][0]["requests"]["successful"]
    requests[0]["output_metrics"]["total_tokens"] = None
    run = imported(write(file), tmp_path)
    for metric in (TPS, TBT, OUTPUT_TOKENS):
        with pytest.raises(MetricUnavailable, match="got no count of tokens from the engine"):
            number(metric, run)
    file = content("guidellm/scripted.json")
    file["benchmarks"][0]["config"]["prefer_response_metrics"] = False
    with pytest.raises(MetricUnavailable, match="the tokens asked for above the engine's"):
        number(TPS, imported(write(file), tmp_path))


def test_guidellm_without_a_stream_has_no_times_within_an_answer(
    tmp_path: Path, write: Callable[[Any], Path]
) -> None:
    file = content("guidellm/scripted.json")
    for one in file["benchmarks"][0]["requests"]["successful"]:
        for name in ("first_token", "first_output_token", "last_token"):
            one["info"]["timings"][f"{name}_iteration"] = None
        one["info"]["timings"]["token_iterations"] = 0
    run = imported(write(file), tmp_path)
    for metric in (TTFT, TTFVT, TBT):
        with pytest.raises(MetricUnavailable, match="did not stream"):
            number(metric, run)
    assert number(E2E, run) > 0


def test_aiperf_without_a_stream_or_usage_keeps_latency_alone(tmp_path: Path) -> None:
    folder = copytree(RECORDED / "aiperf/scripted", tmp_path / "edited")
    file = folder / "profile_export.jsonl"
    told = [json.loads(line) for line in file.read_text().splitlines()]
    for one in told:
        for name in ("time_to_first_token", "inter_chunk_latency", "usage_completion_tokens"):
            del one["metrics"][name]
    file.write_text("".join(json.dumps(one) + "\n" for one in told))
    run = imported(file, tmp_path)
    with pytest.raises(MetricUnavailable, match=r"did not stream: .*\(--streaming\)"):
        number(TTFT, run)
    with pytest.raises(MetricUnavailable, match="counted tokens itself"):
        number(TPS, run)
    assert number(E2E, run) > 0


def test_an_event_of_unknown_text_and_tokens_is_a_token_and_a_role_alone_is_none() -> None:
    prompt = read(RECORDED / "vllm_bench/chat.json")[0].samples[0].prompt
    role, event = Delta(1.0, "", 0, ""), Delta(2.0, "", None, "")
    sample = Sample(prompt, 0.0, 0.0, 3.0, [role, event])
    assert (sample.first_token_s, sample.output_tokens) == (2.0, None)


# ---- refused files


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("vllm_bench/summary.json", r"holds no start_times, ttfts, .*--save-detailed"),
        ("aiperf/records/profile_export_aiperf.json", r"holds aggregates, .* pass the \.jsonl"),
        ("aiperf/records/profile_export_aiperf.csv", r"no JSON; pass the benchmarks\.json"),
        ("README.md", "no JSON; pass"),
        ("nothing.json", "cannot be read"),
    ],
)
def test_a_file_without_requests_is_refused_with_what_to_pass(name: str, sentence: str) -> None:
    with pytest.raises(ImportRefused, match=sentence):
        read(RECORDED / name)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "empty; pass"),
        (b" \n", "empty; pass"),
        (b"{}", "of no tool that is known here; pass"),
        (b'{"results": []}', "of no tool that is known here; pass"),
        (b"[1, 2]", "of no tool that is known here"),
        (b"7", "of no tool that is known here"),
        (b"\xff\xfe\x00", "not a text; pass"),
    ],
)
def test_a_file_of_no_known_tool_is_refused(tmp_path: Path, text: bytes, sentence: str) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(text)
    with pytest.raises(ImportRefused, match=rf"file\.json: {sentence}"):
        read(path)


@pytest.mark.parametrize(
    "name",
    [
        "vllm_bench/completions.json",
        "guidellm/chat.json",
        "aiperf/raw/profile_export.jsonl",
        "aiperf/raw/profile_export_raw.jsonl",
    ],
)
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tmp_path: Path, name: str, share: float) -> None:
    folder = copytree((RECORDED / name).parent, tmp_path / "cut")
    path = folder / Path(name).name
    whole = path.read_bytes()
    path.write_bytes(whole[: math.ceil(share * len(whole))])
    with pytest.raises(ImportRefused, match="cut short"):
        read(path)


@pytest.mark.parametrize("name", ["profile_export.jsonl", "profile_export_raw.jsonl"])
def test_aiperf_lines_that_are_gone_are_missed(tmp_path: Path, name: str) -> None:
    folder = copytree(RECORDED / "aiperf/raw", tmp_path / "cut")
    path = folder / name
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ImportRefused, match=r"tells of 3 finished and 0 failed .* 2 and 0"):
        read(path)


def test_aiperf_without_its_summary_is_refused(tmp_path: Path) -> None:
    folder = copytree(RECORDED / "aiperf/raw", tmp_path / "alone")
    (folder / "profile_export_aiperf.json").unlink()
    with pytest.raises(ImportRefused, match=r"profile_export_aiperf\.json is not beside it"):
        read(folder / "profile_export_raw.jsonl")


def test_aiperf_files_may_have_another_name(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_bytes(
        (RECORDED / "aiperf/raw/profile_export_aiperf.json").read_bytes()
    )
    for ours, theirs in (("mine.jsonl", ""), ("mine_raw.jsonl", "_raw")):
        path = tmp_path / ours
        path.write_bytes((RECORDED / f"aiperf/raw/profile_export{theirs}.jsonl").read_bytes())
        assert len(read(path)[0].samples) == 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schema_version": "2.0"}, r"schema 2\.0, this version reads 1\..*update pytest-rllm"),
        ({"was_cancelled": True}, "did not complete the run: cancelled"),
        ({"is_complete": False, "incomplete_reason": "stalled"}, "did not complete .*: stalled"),
        ({"input_config": {}}, "reads unlike those of the versions known here"),
    ],
)
def test_aiperf_runs_that_are_no_evidence_are_refused(
    tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    folder = copytree(RECORDED / "aiperf/raw", tmp_path / "edited")
    summary = folder / "profile_export_aiperf.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | change))
    with pytest.raises(ImportRefused, match=sentence):
        read(folder / "profile_export.jsonl")


def test_aiperf_raw_events_of_other_endpoints_are_refused(tmp_path: Path) -> None:
    folder = copytree(RECORDED / "aiperf/raw", tmp_path / "edited")
    summary = folder / "profile_export_aiperf.json"
    summary.write_text(summary.read_text().replace('"type": "chat"', '"type": "completions"'))
    with pytest.raises(ImportRefused, match=r"only chat is known here: pass .*export\.jsonl"):
        read(folder / "profile_export_raw.jsonl")
    assert read(folder / "profile_export.jsonl")


def _benchmark(file: Any) -> Any:
    return file["benchmarks"][0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: f["metadata"].update(version=3), "schema 3, .* update pytest-rllm"),
        (lambda f: f["metadata"].update(version=1), r"schema 1, .* with GuideLLM 0\.7 or newer"),
        (lambda f: f["benchmarks"].clear(), "without any benchmark"),
        (
            lambda f: _benchmark(f)["requests"]["successful"].pop(),
            "made 6 successful requests and kept 5: run it without a sample size",
        ),
        (
            lambda f: _benchmark(f)["config"]["warmup"].update(value=0.1),
            "left its warmup out of its numbers",
        ),
        (
            lambda f: _benchmark(f)["requests"]["successful"][0].pop("info"),
            r"GuideLLM that reads unlike .* \(0\.8\.1\): KeyError: 'info'",
        ),
    ],
)
def test_guidellm_reports_that_are_no_record_are_refused(
    write: Callable[[Any], Path], change: Callable[[Any], object], sentence: str
) -> None:
    file = content("guidellm/chat.json")
    change(file)
    with pytest.raises(ImportRefused, match=sentence):
        read(write(file))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"backend": "openai-embeddings"}, "made with --backend openai-embeddings"),
        ({"completed": 5}, "tells of 5 finished and 0 failed requests and lists 6 and 0"),
        ({"failed": 1}, "tells of 6 finished and 1 failed requests and lists 6 and 0"),
        ({"ttfts": [0.1]}, r"reads unlike .* \(0\.32\): ValueError"),
        ({"date": "yesterday"}, "reads unlike"),
    ],
)
def test_vllm_bench_results_that_are_no_record_are_refused(
    write: Callable[[Any], Path], change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ImportRefused, match=sentence):
        read(write(content("vllm_bench/completions.json") | change))


# ---- the command


def test_import_writes_a_record_per_run_and_says_what_was_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["import", str(RECORDED / "guidellm/sweep.json")]) == 0
    records = sorted((tmp_path / ".rllm/imports/sweep").iterdir())
    assert [len(read_run(path).samples) for path in records] == [4, 4]
    out = capsys.readouterr().out
    assert "sweep.json (GuideLLM 0.8.1, concurrent@1): 4 requests, 0 failed -> " in out
    assert "  kept: TTFT, E2E, TPS, run time, output tokens, failed requests\n" in out
    assert "  not kept: TBT: GuideLLM 0.8.1 kept 89 events for 96 tokens" in out
    assert "  in doubt: output tokens are the engine's count, or the number that was" in out


def test_files_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    folders = ("records", "raw", "failed")
    files = [str(RECORDED / "aiperf" / folder / "profile_export.jsonl") for folder in folders]
    assert main(["import", *files, "--out", str(tmp_path / "records")]) == 0
    assert main(["import", *files, "--out", str(tmp_path / "records")]) == 0
    written = [read_run(path) for path in (tmp_path / "records").iterdir()]
    assert sorted(len(run.samples) for run in written) == [3, 6, 7]


def test_a_result_appended_to_a_file_is_a_run_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "appended.json"
    path.write_text(
        "\n".join((RECORDED / f"vllm_bench/{n}.json").read_text() for n in ("completions", "again"))
    )
    assert [run.name for run in read(path)] == ["result 1", "result 2"]


def test_a_refused_file_ends_with_cannot_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["import", str(RECORDED / "vllm_bench/summary.json"), "--out", str(tmp_path)])
    assert status == 8
    assert "refused: " in capsys.readouterr().err


# ---- A against B


def vary(folder: Path, side: str, n: int, factor: float = 1.0, **change: Any) -> list[str]:
    """Runs like the recorded one, ``factor`` times as slow, a little apart, a minute each.

    Sides take turns: B runs half a minute after A.
    """
    rng = random.Random(f"{side}{factor}")
    file = content("vllm_bench/completions.json")
    files = []
    for i in range(n):
        slow = factor * rng.uniform(0.995, 1.005)
        start = file["start_times"][0]
        at = datetime(2026, 11, 20, 12) + timedelta(minutes=i, seconds=30 * (side == "B"))
        path = folder / f"{side}{i}.json"
        varied = file | {
            "date": at.strftime("%Y%m%d-%H%M%S"),
            "start_times": [start + slow * (t - start) for t in file["start_times"]],
            "ttfts": [slow * t for t in file["ttfts"]],
            "itls": [[slow * t for t in itls] for itls in file["itls"]],
        }
        path.write_text(json.dumps(varied | change))
        files.append(str(path))
    return files


def against(firsts: Sequence[str], seconds: Sequence[str], folder: Path, *options: str) -> int:
    out = str(folder / "records")
    return main(["import", *firsts, "--against", *seconds, "--out", out, *options])


def test_a_single_pair_of_runs_decides_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(RECORDED / f"vllm_bench/{name}.json") for name in ("completions", "again")]
    assert against(files[:1], files[1:], tmp_path) == 8
    out = capsys.readouterr().out
    assert "TPS not lower by more than 5 %" in out
    assert out.count("inconclusive") == 5
    assert "an error bar needs at least two" in out
    assert "TTFVT is not judged: A: vllm bench serve keeps no text per event" in out
    assert "cannot tell whether A is worse than B by more than 5 %" in out


@pytest.mark.parametrize(
    ("factor", "margin", "status", "word"),
    [
        (1.0, "5", 0, "safe: A is not worse than B by more than 5 %"),
        (0.8, "5", 0, "safe: "),
        (1.2, "5", 1, "not safe: A is worse than B by more than 5 %"),
        (1.2, "30", 0, "safe: A is not worse than B by more than 30 %"),
        (1.05, "5", 8, "cannot tell"),
    ],
)
def test_blocks_decide(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    factor: float,
    margin: str,
    status: int,
    word: str,
) -> None:
    firsts, seconds = vary(tmp_path, "A", 8, factor), vary(tmp_path, "B", 8)
    assert against(firsts, seconds, tmp_path, "--margin", margin, "--fresh-servers") == status
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith(word)
    for metric in ("TTFT", "TBT", "E2E", "TPS", "run time"):
        assert f" {metric} not " in out


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"max_concurrency": 4}, "had other loads: max_concurrency 4 and 2"),
        ({"input_lens": [32] * 6}, "were asked other prompts: 192 and 100 tokens"),
    ],
)
def test_runs_of_different_things_cannot_be_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], sentence: str
) -> None:
    firsts, seconds = vary(tmp_path, "A", 8, **change), vary(tmp_path, "B", 8)
    assert against(firsts, seconds, tmp_path) == 8
    out = capsys.readouterr().out
    assert sentence in out
    assert "holds" not in out


def test_lengths_apart_cost_the_claims_that_take_equal_lengths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    firsts = vary(tmp_path, "A", 8, output_lens=[23, 22, 23, 24, 24, 24])
    assert against(firsts, vary(tmp_path, "B", 8), tmp_path, "--fresh-servers") == 8
    out = capsys.readouterr().out
    assert "output lengths apart: 1120 against 1152 tokens" in out
    verdicts = {
        metric: next(line for line in out.splitlines() if f" {metric} not " in line).split()[-1]
        for metric in ("TTFT", "E2E", "TPS", "run time")
    }
    assert verdicts == {"TTFT": "holds", "E2E": "holds", "TPS": "invalid", "run time": "holds"}


def test_runs_that_did_not_take_turns_cannot_be_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    firsts = vary(tmp_path, "A", 8, date="20261119-000000")
    assert against(firsts, vary(tmp_path, "B", 8), tmp_path) == 8
    out = capsys.readouterr().out
    assert "not interleaved: on average the runs of A were made earlier than those of B by" in out
    assert "make them in the order A B B A A B B A ..., with both servers up" in out


@pytest.mark.parametrize(
    ("order", "taken"),
    [("ABABABABABAB", True), ("ABBAABBA", True), ("AAABABBB", False), ("BBBABAAA", False)],
)
def test_the_times_of_the_sides_have_to_be_the_same_on_average(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], order: str, taken: bool
) -> None:
    files: dict[str, list[str]] = {"A": [], "B": []}
    for minute, side in enumerate(order):
        at = datetime(2026, 11, 20, 12) + timedelta(minutes=minute)
        folder = tmp_path / str(minute)
        folder.mkdir()
        files[side] += vary(folder, side, 1, 1 + minute / 1e4, date=f"{at:%Y%m%d-%H%M%S}")
    against(files["A"], files["B"], tmp_path)
    assert ("not interleaved: " not in capsys.readouterr().out) is taken


def test_one_server_of_either_side_hides_what_fresh_ones_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    firsts, seconds = vary(tmp_path, "A", 8), vary(tmp_path, "B", 8)
    assert against(firsts, seconds, tmp_path) == 8
    out = capsys.readouterr().out
    assert "one server of either side is presumed" in out
    assert "two servers of one build may differ by this much" in out
    assert against(firsts, seconds, tmp_path, "--fresh-servers") == 0
    assert "presumed" not in capsys.readouterr().out


@pytest.mark.parametrize(("pairs", "enough"), [(6, False), (7, False), (8, True)])
def test_fewer_than_eight_pairs_cannot_refute_one_of_five_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pairs: int, enough: bool
) -> None:
    firsts, seconds = vary(tmp_path, "A", pairs, 3.0), vary(tmp_path, "B", pairs)
    assert against(firsts, seconds, tmp_path, "--fresh-servers") == (1 if enough else 8)
    said = "pairs of runs cannot show that one of 5 metrics is worse, however bad it is: make at "
    assert (said + "least 8" in " ".join(capsys.readouterr().out.split())) is not enough


def test_a_run_is_evidence_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    firsts, seconds = vary(tmp_path, "A", 8), vary(tmp_path, "B", 7)
    assert against(firsts, [*seconds, seconds[0]], tmp_path) == 8
    assert "once more: a run is evidence once" in capsys.readouterr().out


def test_tools_are_not_held_against_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(RECORDED / name) for name in ("vllm_bench/chat.json", "guidellm/chat.json")]
    assert against(files[:1], files[1:], tmp_path) == 8
    assert "measured by vllm bench serve and by GuideLLM 0.8.1" in capsys.readouterr().out


def test_failed_requests_make_it_invalid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(RECORDED / "guidellm/failed.json")
    assert against([file], [str(RECORDED / "guidellm/chat.json")], tmp_path) == 8
    out = capsys.readouterr().out
    assert "A (failed.json, poisson@20): 1 of 7 requests failed: HTTPStatusError" in out


def test_requests_that_the_tool_lost_make_it_invalid(
    tmp_path: Path, write: Callable[[Any], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file = content("guidellm/chat.json")
    _benchmark(file)["scheduler_metrics"]["requests_made"].update(incomplete=2, total=8)
    assert against([str(write(file))], [str(RECORDED / "guidellm/chat.json")], tmp_path) == 8
    assert "6 of 8 requests are in the file" in capsys.readouterr().out


def test_as_many_runs_on_either_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert against(vary(tmp_path, "A", 3), vary(tmp_path, "B", 2), tmp_path) == 8
    assert "3 runs against 2" in capsys.readouterr().err


@pytest.mark.parametrize("margin", ["0", "100", "-5", "nan"])
def test_a_margin_that_means_nothing_is_a_wrong_command_line(
    tmp_path: Path, margin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    firsts, seconds = vary(tmp_path, "A", 1), vary(tmp_path, "B", 1)
    assert against(firsts, seconds, tmp_path, f"--margin={margin}") == 2
    assert "--margin is between 0 and 100 per cent" in capsys.readouterr().err


def test_a_crash_never_says_not_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pytest_rllm.importers.command.judge", lambda *_, **__: 1 / 0)
    assert against(vary(tmp_path, "A", 1), vary(tmp_path, "B", 1), tmp_path) == 8
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_end_to_end_from_the_shell(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest_rllm", "import", *vary(tmp_path, "A", 6)]
    ended = subprocess.run(
        [*command, "--fresh-servers", "--against", *vary(tmp_path, "B", 6)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1] == "safe: A is not worse than B by more than 5 %"
    assert len(list((tmp_path / ".rllm/imports").rglob("*.jsonl"))) == 12


def test_an_answer_that_the_engine_aborted_has_failed_in_an_import_too(
    tmp_path: Path,
) -> None:
    """Where the file holds the events; where it tells no finish reasons, that is said."""
    folder = Path(copytree(RECORDED / "aiperf" / "raw", tmp_path / "aborted"))
    file = folder / "profile_export_raw.jsonl"
    text = file.read_text()
    assert '\\"finish_reason\\":\\"length\\"' in text
    file.write_text(
        text.replace('\\"finish_reason\\":\\"length\\"', '\\"finish_reason\\":\\"abort\\"')
    )
    (foreign,) = read(file)
    assert {sample.error for sample in foreign.samples} == {
        "finish reason 'abort'; an answer is whole with stop or length only"
    }
    assert foreign.doubts == ()
    for name in ("vllm_bench/chat.json", "guidellm/chat.json", "aiperf/raw/profile_export.jsonl"):
        assert any("keeps no finish reasons" in doubt for doubt in read(RECORDED / name)[0].doubts)
