"""The client's fidelity: its error is measured correctly, and no load is measured twice."""

from __future__ import annotations

import functools
import json
import time
from typing import Any

import pytest

from pytest_rllm.loadgen import CLIENT_ERROR_S, fidelity
from pytest_rllm.loadgen import run as loadgen
from pytest_rllm.loadgen.fidelity import (
    HEADROOM,
    LEAST_RATE,
    SECONDS,
    USUAL_RATE,
    ClientCapacity,
    Fidelity,
    find_capacity,
    measure,
)
from pytest_rllm.loadgen.reference_server import running


def late_by(seconds: float) -> Any:
    """The load generator with a clock that is fast by ``seconds``: it shifts the recorded arrivals
    and the start of the run, but not the times that the reference server sends."""

    def clock() -> float:
        return time.monotonic() + seconds

    return functools.partial(loadgen.drive, clock=clock)


@pytest.mark.parametrize("processes", [1, 2])
def test_errors_are_recorded_less_true_arrival_times(processes: int) -> None:
    with running() as server:
        found = measure(server, 32, 4000.0, processes)
    assert (found.streams, found.processes) == (32, processes)
    assert 0 <= found.error_p50_s <= found.error_p99_s
    # Times that count from another start, or of other deltas, would be wrong by parts of the run.
    assert found.error_p50_s < SECONDS / 5
    # A busy machine is late; nothing makes it faster than it was asked to be.
    assert 0.25 < found.events_per_s / 4000.0 < 2


@pytest.mark.parametrize("seconds", [0.003, 0.02, 0.2])
def test_a_known_error_of_the_client_is_measured(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(fidelity, "drive", late_by(seconds))
    with running() as server:
        found = measure(server, 16, 2000.0)
    # Every arrival is later by as much; a busy machine adds a little to it.
    assert seconds <= found.error_p50_s < seconds + 0.1
    assert not found.faithful


def mock_measure(
    monkeypatch: pytest.MonkeyPatch, most_per_process: float
) -> list[tuple[float, int]]:
    """Mock measurements: each process is faithful up to this rate; returns the loads tried."""
    tried: list[tuple[float, int]] = []

    def measure(_server: object, streams: int, rate: float, processes: int = 1) -> Fidelity:
        tried.append((rate, processes))
        fine = rate <= most_per_process * processes
        return Fidelity(streams, processes, rate, 1e-5, 1e-4 if fine else 0.1)

    monkeypatch.setattr(fidelity, "measure", measure)
    return tried


def test_more_processes_are_tried_before_lower_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = mock_measure(monkeypatch, 30_000)
    found = find_capacity(64, 100_000.0, most=4)
    assert tried == [(100_000, 1), (100_000, 2), (100_000, 4)]
    assert (found.processes, found.events_per_s, found.faithful) == (4, 100_000, True)
    tried.clear()
    found = find_capacity(64, 100_000.0, most=2)
    assert tried == [(100_000, 1), (100_000, 2), (50_000, 2)]
    assert (found.processes, found.events_per_s, found.faithful) == (2, 50_000, True)


def test_a_client_that_is_faithful_at_no_rate_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = mock_measure(monkeypatch, 0)
    found = find_capacity(64, 9000.0, most=1)
    assert tried[-1] == (LEAST_RATE, 1)
    assert not found.faithful


def test_a_load_within_a_measured_one_is_not_measured_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = mock_measure(monkeypatch, 1e9)
    said: list[str] = []
    capacity = ClientCapacity()
    first = capacity.at_least(40, 5000.0, said.append)
    assert first.events_per_s >= max(USUAL_RATE, HEADROOM * 5000)
    for streams, rate in ((1, 1.0), (40, 5000.0), (30, first.events_per_s / HEADROOM)):
        assert capacity.at_least(streams, rate, said.append) is first
    assert len(tried) == len(said) == 1
    assert capacity.at_least(41, 10.0).streams == 41
    assert capacity.at_least(40, 50_000.0).events_per_s >= HEADROOM * 50_000
    assert len(tried) == 3


def test_a_fidelity_is_plain_json() -> None:
    said = Fidelity(16, 1, 12345.678, 2.00001e-05, 0.000987654).to_json()
    assert json.loads(json.dumps(said)) == {
        "streams": 16,
        "processes": 1,
        "events_per_s": 12350.0,
        "error_p50_s": 2e-05,
        "error_p99_s": 0.0009877,
    }
    assert Fidelity(16, 1, 1.0, 0.0, CLIENT_ERROR_S).faithful
