"""Readings of processors, metrics pages, and the watch that reads beside a run."""

from __future__ import annotations

import threading
import time

import psutil
import pytest

from pytest_rllm.telemetry.host import Host
from pytest_rllm.telemetry.prometheus import families, labels, sample_names, totals
from pytest_rllm.telemetry.watch import Watch


def test_the_host_reports_how_busy_its_processors_were() -> None:
    host = Host()
    assert host.read() == {}
    begun, cpu_begun, cpu_s = time.monotonic(), time.process_time(), 0.3
    while time.process_time() - cpu_begun < cpu_s:
        pass
    shares = host.read()
    own_share = cpu_s / (time.monotonic() - begun) / psutil.cpu_count()
    assert shares.keys() == {"host_busy", "host_stolen"}
    assert own_share / 2 < shares["host_busy"] <= 1, "the kernel counts in ticks of 10 ms"
    assert 0 <= shares["host_stolen"] < 1


def test_a_host_with_unchanged_counters_has_no_reading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    still = psutil.cpu_times()
    monkeypatch.setattr(psutil, "cpu_times", lambda: still)
    host = Host()
    assert (host.read(), host.read()) == ({}, {})


def test_a_watch_reads_from_entry_to_exit() -> None:
    ticks = iter(range(10**6))
    enough = threading.Event()
    points: list[tuple[float, dict[str, float]]] = []

    def read() -> dict[str, float]:
        if len(points) >= 3:
            enough.set()
        return {"x": float(len(points))}

    def keep(at_s: float, values: dict[str, float]) -> None:
        points.append((at_s, values))

    watch = Watch(read, keep, every_s=0.001, clock=lambda: float(next(ticks)))
    with watch:
        assert points[0] == (0.0, {"x": 0.0})
        assert enough.wait(30)
    read_so_far = list(points)
    assert [values["x"] for _, values in read_so_far] == list(range(len(read_so_far)))
    times = [at_s for at_s, _ in read_so_far]
    assert times == sorted(times)
    assert not watch._thread.is_alive()


def test_a_reading_that_fails_ends_the_readings_and_nothing_else() -> None:
    watch = Watch(lambda: {"x": 1 / 0}, lambda *_: None, every_s=0.001)
    with watch:
        pass
    assert watch.error == "ZeroDivisionError: division by zero"


def test_a_reading_that_never_ends_does_not_keep_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_rllm.telemetry.watch.PATIENCE_S", 0.05)
    hangs, first = threading.Event(), iter([True])

    def read() -> dict[str, float]:
        if not next(first, False):
            hangs.wait(30)
        return {}

    watch = Watch(read, lambda *_: None, every_s=0.001)
    with watch:
        time.sleep(0.05)
    assert watch.error == "a reading did not end within 0.05 s"
    hangs.set()


# ---- metrics pages: sums over replicas, labels, families, what a page without a name costs

PAGE = r"""# HELP e:use How full "it" is.
# TYPE e:use gauge
e:use{engine="0",model="{a=\"b\",c=\"d\"}\\"} 0.5
e:use{engine="1",model="m"} 0.25
# TYPE e:use_of_others gauge
e:use_of_others 9
# TYPE e:drafts_total counter
e:drafts_total{engine="0"} 3.0
e:drafts_total{engine="1"} 4e2
# TYPE e:drafts_created gauge
e:drafts_created{engine="0"} 1.7e+09
# TYPE e:latency_seconds histogram
e:latency_seconds_bucket{engine="0",le="0.5"} 1.0
e:latency_seconds_bucket{engine="0",le="+Inf"} 2.0
e:latency_seconds_count{engine="0"} 2.0
e:latency_seconds_sum{engine="0"} 0.1
# TYPE e:config_info gauge
e:config_info{size="8",kind="say \"x\", y"} 1.0
e:config_info{size="9",kind=""} 1.0
# TYPE e:silent_total counter
untyped_thing 7 1700000000000
"""


def test_samples_of_a_name_are_added_up_over_the_replicas() -> None:
    names = {"e:use", "e:drafts_total", "e:absent", "untyped_thing"}
    assert totals(PAGE, names) == {"e:use": 0.75, "e:drafts_total": 403.0, "untyped_thing": 7.0}
    assert totals("", names) == totals(PAGE, ()) == {}


def test_labels_are_read_with_what_is_quoted_in_them() -> None:
    assert labels(PAGE, "e:config_info") == [
        {"size": "8", "kind": 'say "x", y'},
        {"size": "9", "kind": ""},
    ]
    assert labels(PAGE, "e:config") == []


def test_families_keep_their_names_and_types() -> None:
    assert [(f.name, f.kind, sorted(f.labels)) for f in families(PAGE) if f.name[:2] == "e:"] == [
        ("e:use", "gauge", ["engine", "model"]),
        ("e:use_of_others", "gauge", []),
        ("e:drafts_total", "counter", ["engine"]),
        ("e:latency_seconds", "histogram", ["engine"]),
        ("e:config_info", "gauge", ["kind", "size"]),
        ("e:silent_total", "counter", []),
    ]


def test_names_of_samples_are_told_without_buckets() -> None:
    assert sample_names(PAGE) == [
        "e:config_info",
        "e:drafts_total",
        "e:latency_seconds_count",
        "e:latency_seconds_sum",
        "e:use",
        "e:use_of_others",
        "untyped_thing",
    ]


@pytest.mark.parametrize("line", ["e:use no-number", "e:use", 'e:use{a="b"}'])
def test_a_line_that_is_none_is_an_error_where_it_is_wanted(line: str) -> None:
    page = f"e:other 1\n{line}\n"
    assert totals(page, {"e:other"}) == {"e:other": 1.0}
    with pytest.raises((ValueError, IndexError)):
        totals(page, {"e:use"})
