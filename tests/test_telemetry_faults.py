"""What an engine tells of itself is not believed whatever it says: pages, and series of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from doubles.synthetic import run, sample

from pytest_rllm.__main__ import main
from pytest_rllm.engines.sglang import SglangEngine
from pytest_rllm.engines.vllm import VllmEngine
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.metrics import (
    ACCURACY,
    KV_PEAK,
    LANES_FILLED,
    PREEMPTIONS,
    PREFIX_HITS,
    MetricUnavailable,
)
from pytest_rllm.records.run import Run
from pytest_rllm.telemetry.prometheus import Page
from pytest_rllm.verdicts.claims import Claim, lower, no_worse, pp
from pytest_rllm.verdicts.validity import check

PAGES = Path(__file__).parent / "faults" / "metrics"
RIGHT = no_worse(ACCURACY, within=pp(5))
KV, HITS = lower(KV_PEAK, by=pp(5)), lower(PREFIX_HITS, by=pp(5))
PREEMPTED, LANES = no_worse(PREEMPTIONS, within=pp(5)), lower(LANES_FILLED, by=pp(5))
CLAIMS = (RIGHT, KV, HITS, PREEMPTED, LANES)


def page(name: str) -> str:
    return (PAGES / f"{name}.txt").read_text(encoding="utf-8")


def vllm(text: str) -> Page:
    return VllmEngine().read_metrics(text, Serving())


# ---- pages


def test_engines_on_one_page_are_added_up_and_a_share_is_of_both() -> None:
    said = vllm(page("m01_two_engines_data_parallel"))
    assert said.values["kv_use"] == pytest.approx(0.60)
    assert said.values["running"] == 2
    assert said.values["generation_tokens"] == 20
    assert said.values["prefix_queries"] == 200
    assert said.values["kv_capacity_tokens"] == 8192


def test_a_share_is_weighted_by_what_each_engine_has_room_for() -> None:
    text = page("m01_two_engines_data_parallel")
    uneven = text.replace('"1",kv_cache_size_tokens="4096"', '"1",kv_cache_size_tokens="12288"')
    assert vllm(uneven).values["kv_use"] == pytest.approx((0.62 + 3 * 0.58) / 4)
    unknown = text.replace('"1",kv_cache_size_tokens="4096"', '"1"')
    assert vllm(unknown).values["kv_use"] == pytest.approx(0.60), "of one it is not told"


def test_ranks_of_sglang_are_weighted_too() -> None:
    line = 'sglang:{}{{dp_rank="{}"}} {}\n'
    values = {"token_usage": ("0.2", "0.6"), "max_total_num_tokens": ("1000", "3000")}
    text = "".join(line.format(n, i, v) for n, both in values.items() for i, v in enumerate(both))
    said = SglangEngine().read_metrics(text, Serving()).values
    assert said["kv_use"] == pytest.approx(0.5)
    assert said["kv_capacity_tokens"] == 4000


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("m03_negative_kv_use", "in /metrics of vllm is -0.39, outside of 0..1"),
        ("m04_nan", "in /metrics of vllm is nan, which is no number to judge by"),
    ],
)
def test_an_impossible_value_costs_its_series_by_name(name: str, why: str) -> None:
    said = vllm(page(name))
    assert said.missing["kv_use"] == f"kv_use: vllm:kv_cache_usage_perc {why}"
    assert "kv_use" not in said.values
    assert said.values["generation_tokens"] == 10, "the others stay"


@pytest.mark.parametrize("value", ["1.5", "-1e-3", "+Inf", "-Inf", "NaN"])
def test_one_engine_of_two_with_an_impossible_share_spoils_their_mean(value: str) -> None:
    text = page("m01_two_engines_data_parallel").replace(" 0.58", f" {value}")
    assert "kv_use" in vllm(text).missing


def test_a_count_is_not_negative() -> None:
    text = page("m01_two_engines_data_parallel").replace(
        'vllm:num_requests_running{engine="1",model_name="m"} 1.0',
        'vllm:num_requests_running{engine="1",model_name="m"} -1.0',
    )
    assert vllm(text).missing["running"].endswith("is -1, and cannot be below 0")


def test_the_page_of_a_router_is_none_of_the_engine() -> None:
    said = vllm(page("m07_router_page"))
    assert said.values == {}
    assert said.missing["running"] == (
        '/metrics of vllm is none of its own but a router\'s (label server="http://a"), with '
        "vllm:gpu_prefix_cache_hit_rate, vllm:num_requests_running: give the URL of the engine "
        "itself"
    )


def test_names_as_ray_writes_them_are_read() -> None:
    said = vllm(page("m08_ray_prefix"))
    assert said.values["kv_use"] == 0.5
    assert said.values["prefix_queries"] == 100


def test_another_prefix_is_named_with_what_is_there() -> None:
    said = vllm(page("m08_ray_prefix").replace("ray_vllm_", "my_vllm_"))
    assert said.values == {}
    assert "my_vllm_kv_cache_usage_perc" in said.missing["kv_use"]


def test_counters_without_total_are_read() -> None:
    said = vllm(page("m09_go_client_without_total"))
    assert said.values["generation_tokens"] == 10
    assert said.values["prefix_queries"] == 100
    assert said.values["preemptions"] == 0


def test_a_gauge_of_that_name_is_no_counter_without_total() -> None:
    text = page("m09_go_client_without_total").replace(" counter", " gauge")
    assert "generation_tokens" in vllm(text).missing


def test_a_counter_that_is_there_both_ways_counts_once() -> None:
    text = page("m09_go_client_without_total") + "vllm:generation_tokens_total 7\n"
    assert vllm(text).values["generation_tokens"] == 7


def test_gauges_of_several_processes_are_not_added() -> None:
    """One that has ended leaves its last value on the page."""
    text = page("m03_negative_kv_use").replace("-0.39", "0.39")
    stale = 'vllm:num_requests_running{engine="0",model_name="m",pid="12"} 1.0\n'
    alone = vllm(text.replace('model_name="m"}', 'model_name="m",pid="7"}'))
    assert alone.values["running"] == 1, "one process is no trouble"
    said = vllm(text.replace('model_name="m"}', 'model_name="m",pid="7"}') + stale)
    assert "running" not in said.values
    assert "by the processes 7 and 12, of which one may have ended" in said.missing["running"]


def test_a_line_that_stands_twice_is_not_added() -> None:
    text = page("m03_negative_kv_use").replace("-0.39", "0.39")
    said = vllm(text + 'vllm:num_requests_running{engine="0",model_name="m"} 1.0\n')
    assert said.missing["running"].endswith("stands there twice with the same labels")


# ---- what people read


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("m01_two_engines_data_parallel", 0, "  kv_use (gauge): 0.6\n"),
        (
            "m03_negative_kv_use",
            1,
            "  refused: kv_use: vllm:kv_cache_usage_perc in /metrics of vllm is -0.39, outside of",
        ),
        ("m04_nan", 1, "  refused: kv_use: vllm:kv_cache_usage_perc in /metrics of vllm is nan"),
        ("m07_router_page", 1, "  refused: /metrics of vllm is none of its own but a router's"),
        ("m08_ray_prefix", 0, "  generation_tokens (counter): 10\n"),
        ("m09_go_client_without_total", 0, "  generation_tokens (counter): 10\n"),
    ],
)
def test_a_page_is_explained(
    name: str, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(PAGES / f"{name}.txt")
    assert main(["explain", path]) == status
    told = capsys.readouterr().out
    assert "names, read as vllm's\n" in told
    assert said in told
    assert main(["explain", path, "--json"]) == status
    content = json.loads(capsys.readouterr().out)
    assert content["engine"] == "vllm"
    assert ("kv_use" in content["refused"]) == (status == 1)


@pytest.mark.parametrize("text", ["", "# HELP a b\n", "vllm:num_requests_running{ 1\n"])
def test_what_is_no_page_is_not_understood(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "page.txt"
    path.write_text(text)
    assert main(["explain", str(path)]) == 2
    assert "not understood: " in capsys.readouterr().err


# ---- series of a run


def of(side: str = "A", /, **series: list[float]) -> Run:
    sound: dict[str, list[float]] = {
        "kv_use": [0.1, 0.5, 0.4, 0.0],
        "running": [0, 2, 1, 0],
        "generation_tokens": [0, 9, 18, 36],
        "preemptions": [0, 0, 0, 0],
        "prefix_queries": [0, 10, 20, 40],
        "prefix_hits": [0, 0, 10, 20],
    }
    return run(*(sample(f"q{i}") for i in range(4)), arm=side, series=sound | series)


def costs(**series: list[float]) -> dict[str, set[str]]:
    """Claims that one arm's series cost, by the reason."""
    found = check([(of(**series), of("B"))], CLAIMS).reasons
    return {reason.text: {str(c) for c in CLAIMS if c.slug in reason.claims} for reason in found}


def named(*claims: Claim) -> set[str]:
    return {str(claim) for claim in claims}


def test_sound_series_cost_nothing() -> None:
    assert costs() == {}


@pytest.mark.parametrize(
    ("series", "reason", "lost"),
    [
        (
            {"kv_use": [0.1, -0.39, 0.2, 0.1]},
            "A: kv_use is -0.39, outside of 0..1 (after 0.3 s)",
            (KV,),
        ),
        (
            {"kv_use": [0.1, 0.2, 1.2, 0.1]},
            "A: kv_use is 1.2, outside of 0..1 (after 0.7 s)",
            (KV,),
        ),
        (
            {"kv_use": [float("nan"), 0.2, 0.2, 0.1]},
            "A: kv_use is nan, which is no number to judge by (after 0.0 s)",
            (KV,),
        ),
        (
            {"kv_use": [0, 0, 0, 0]},
            "A: kv_use stayed at 0 at 4 readings while requests ran and 36 tokens arrived",
            (KV,),
        ),
        (
            {"running": [0, 0, 0, 0]},
            "A: running stayed at 0 at 4 readings while requests ran and 36 tokens arrived",
            (LANES,),
        ),
        (
            {"prefix_hits": [0, 30, 40, 50]},
            "A: prefix_hits grew by 50, prefix_queries by 40, of which it is a part",
            (HITS,),
        ),
        (
            {"preemptions": [5, 6, 0, 1]},
            "A: preemptions fell from 6 to 0 after 0.7 s: its engine restarted, or a balancer "
            "asked another replica for the page",
            (KV, HITS, PREEMPTED, LANES),
        ),
        (
            {"generation_tokens": [100, 130, 9, 30], "prefix_queries": [100, 130, 9, 30]},
            "A: generation_tokens fell from 130 to 9 after 0.7 s: its engine restarted, or a "
            "balancer asked another replica for the page; so did prefix_queries",
            (KV, HITS, PREEMPTED, LANES),
        ),
        (
            {"generation_tokens": [100, 100, 100, 100]},
            "A: generation_tokens grew by 0 while 36 tokens arrived: the page is not of the engine "
            "that answers, or of one of several, or it stands still",
            (KV, HITS, PREEMPTED, LANES),
        ),
    ],
)
def test_what_cannot_be_costs_what_rests_on_it_and_nothing_else(
    series: dict[str, list[float]], reason: str, lost: tuple[Claim, ...]
) -> None:
    found = costs(**series)
    assert reason in found
    assert found[reason] == named(*lost)
    assert str(RIGHT) not in found[reason]


def test_a_counter_that_starts_high_and_an_idle_gauge_are_sound() -> None:
    assert costs(generation_tokens=[1000, 1010, 1030, 1036], preemptions=[7, 7, 7, 7]) == {}
    empty = run(series={"kv_use": [0, 0, 0, 0], "running": [0, 0, 0, 0]})
    assert [r for r in check([(empty, empty)], CLAIMS).reasons if "stayed at 0" in r.text] == []


def test_a_metric_alone_does_not_believe_it_either() -> None:
    with pytest.raises(MetricUnavailable, match=r"kv_use is -0\.39, outside of 0\.\.1"):
        KV_PEAK.value(of(kv_use=[0.1, -0.39, 0.2, 0.1]))
    with pytest.raises(MetricUnavailable, match=r"'preemptions' fell from 6 to 0 after 0\.7 s"):
        PREEMPTIONS.value(of(preemptions=[5, 6, 0, 9]))
