"""Several client processes send one workload and leave one record."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from doubles.scripted_load import (
    HEADER,
    NAMES,
    by_name,
    noticed,
    requests,
    run,
    tokens,
    with_cuts,
)
from doubles.scripted_server import AnswerScript, ScriptedServer
from hypothesis import given
from hypothesis import strategies as st

from pytest_rllm.experiment.workloads import closed, gamma, poisson, together
from pytest_rllm.loadgen import workers
from pytest_rllm.loadgen.client import Request, firsts, in_conversations
from pytest_rllm.loadgen.pages import Scrape
from pytest_rllm.loadgen.run import drive
from pytest_rllm.loadgen.workers import WorkerError, shares
from pytest_rllm.records import spool
from pytest_rllm.records.reader import read_run
from pytest_rllm.records.writer import RunWriter


@pytest.fixture
def server() -> ScriptedServer:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


@given(
    st.integers(0, 40),
    st.sampled_from([together(), closed(1), closed(7), poisson(3.0), gamma(9.0, 3.0)]),
    st.integers(1, 5),
)
def test_a_workload_is_divided_completely(requests, workload, processes) -> None:
    divided = shares(range(requests), workload, processes)
    assert len(divided) == processes
    starts = workload.starts(requests)
    if starts is None:
        assert sum(share.lanes for share in divided) == workload.in_flight
        assert max(s.lanes for s in divided) - min(s.lanes for s in divided) <= 1
    else:
        sent = sorted(one for share in divided for one in share.starts)
        assert sent == list(enumerate(starts))


@pytest.mark.parametrize("processes", [2, 3])
def test_open_loop_keeps_its_schedule_across_processes(
    server: ScriptedServer, path: Path, processes: int
) -> None:
    server.default = AnswerScript(reasoning=3, answer=3)
    workload = poisson(40, seed=5)
    done = run(server.url, NAMES, workload, path, processes=processes)
    samples = by_name(done)
    assert sorted(samples) == sorted(NAMES)
    intended = [samples[name].intended_s for name in NAMES]
    assert intended == pytest.approx(workload.starts(len(NAMES)), abs=1e-6)
    # A process whose times count from its own start would be late by the whole schedule or more.
    late_s = statistics.median(s.sent_s - s.intended_s for s in done.samples)
    assert late_s < workload.starts(len(NAMES))[-1] / 2
    for name in NAMES:
        assert [d.text for d in samples[name].deltas] == [t.text for t in server.sent[name]]
        assert samples[name].error is None
    assert done.closing["processes"] == processes
    assert done.closing["planned"] == len(NAMES)
    ends = [s.ended_s for s in done.samples]
    assert ends == sorted(ends), "the merged record is in the order of ends"


def test_a_closed_loop_is_the_same_in_several_processes(server: ScriptedServer, path: Path) -> None:
    """The lanes of all processes take from one queue: a slow answer holds up its own lane only."""
    server.default = AnswerScript(reasoning=2, answer=2, first_s=0.02)
    server.answers[NAMES[0]] = AnswerScript(reasoning=2, answer=2, first_s=1.5)
    done = run(server.url, NAMES, closed(2), path, processes=2)
    assert server.most_in_flight == 2
    assert sorted(by_name(done)) == sorted(NAMES)
    slow = by_name(done)[NAMES[0]]
    others = [s for s in done.samples if s is not slow]
    assert max(s.ended_s for s in others) < slow.ended_s
    assert sum(s.intended_s == 0 for s in done.samples) == 2


def test_everything_else_is_the_same_as_in_one_process(server: ScriptedServer, path: Path) -> None:
    names, cut = with_cuts(server, 3)
    progress = []
    scrape = Scrape(f"{server.url}/metrics", tokens, every_s=0.05)
    done = run(
        server.url,
        names,
        together(),
        path,
        cut,
        processes=2,
        scrape=scrape,
        monitor=lambda: {"x": 1.0},
        progress=lambda *now: progress.append(now),
    )
    assert noticed(server, cut)
    assert (done.closing["planned"], done.closing["cut"], done.closing["cuts_planned"]) == (8, 4, 4)
    assert progress == [(i, len(names)) for i in range(1, len(names) + 1)]
    times, _ = done.series["tokens"]
    assert times[0] == 0.0
    assert times == sorted(times)
    assert done.series["x"][1]
    assert done.closing["telemetry_errors"] == {}
    assert read_run(path) == done
    assert spool.leftover_spools(path) == []


def test_a_worker_that_dies_ends_the_run_with_its_standard_error(
    server: ScriptedServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = workers._start

    async def broken(job):
        monkeypatch.setattr(workers.sys, "executable", "/bin/false")
        return await whole(job)

    monkeypatch.setattr(workers, "_start", broken)
    with pytest.raises(WorkerError, match="a client process ended with status 1"):
        run(server.url, NAMES, together(), path, processes=2)
    assert read_run(path).closing is None


TALKS = 4
"""Turns of each conversation below."""


def talking(repeat: int = 0) -> list[Request]:
    """The requests of three conversations, mixed, and two that are in none."""
    asked = requests(NAMES[: 3 * TALKS]) + requests(["alone 1", "alone 2"])
    return [
        replace(r, prompt=replace(r.prompt, conversation=f"talk {i % 3}", repeat=repeat))
        if i < 3 * TALKS
        else r
        for i, r in enumerate(asked)
    ]


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("workload", [closed(1), closed(2), together(), poisson(60)], ids=str)
def test_a_turn_of_a_conversation_starts_when_the_one_before_it_has_ended(
    server: ScriptedServer, path: Path, workload, processes: int
) -> None:
    server.default = AnswerScript(reasoning=2, answer=2, first_s=0.01)
    with RunWriter(path, HEADER) as writer:
        done = drive(server.url, talking(), workload, writer, processes=processes)
    assert len(done.samples) == done.closing["planned"] == 3 * TALKS + 2
    talks = defaultdict(list)
    for sample in sorted(
        done.samples, key=lambda s: [*NAMES, "alone 1", "alone 2"].index(s.prompt.id)
    ):
        talks[sample.prompt.conversation].append(sample)
    assert sorted(map(len, talks.values())) == [2, TALKS, TALKS, TALKS]
    for name, turns in talks.items():
        if name:
            assert [t.intended_s for t in turns[1:]] == [t.ended_s for t in turns[:-1]]
    assert server.most_in_flight <= (workload.in_flight or 5)
    starts = workload.starts(5)
    if starts is not None:
        first = [turns[0] for name, turns in talks.items() if name] + talks[""]
        assert sorted(s.intended_s for s in first) == pytest.approx(starts, abs=1e-6)


def test_a_conversation_that_is_repeated_is_another_one() -> None:
    found = in_conversations([*talking(), *talking(repeat=1)])
    later = [request.then for request in found if request.then is not None]
    assert len(set(later)) == len(later) == 2 * 3 * (TALKS - 1)
    assert all(found[r.then].prompt.repeat == r.prompt.repeat for r in found if r.then)
    assert len(firsts(found)) == 2 * 5
