"""Metrics pages: sums over replicas, labels, families, and what a page without a name costs."""

from __future__ import annotations

import pytest

from pytest_rllm.telemetry.prometheus import families, labels, sample_names, totals

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
