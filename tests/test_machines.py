"""What is known of a machine widens times, and only them; what is not known is assumed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from doubles.synthetic import TIME, VALUE

from pytest_rllm.baselines.machines import FILE, UNMEASURED, Machine, MachineError, machine
from pytest_rllm.metrics import ACCURACY, METRICS, TBT, TPS, Metric
from pytest_rllm.verdicts.claims import pct, pp
from pytest_rllm.verdicts.server_spread import NO_SPREAD, ServerSpread

KNOWN = {"server_spread": {"TBT": 0.01, "TPS": 0.03}, "sittings": 12}


def put(root: Path, content: Any, hardware: str = "cpu-x-2c", engine: str = "vllm") -> Machine:
    path = root / hardware / engine / FILE
    path.parent.mkdir(parents=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return machine(root, hardware, engine)


def test_a_machine_is_read_from_beside_its_baselines(tmp_path: Path) -> None:
    known = put(tmp_path, KNOWN)
    assert known == Machine("cpu-x-2c", {"TBT": 0.01, "TPS": 0.03}, 12)
    assert machine(tmp_path, "cpu-y-2c", "vllm") == Machine("cpu-y-2c", {}, 0)


@pytest.mark.parametrize(
    ("metric", "spread"),
    [
        (TBT, ServerSpread(0.01, 11)),
        (TPS, ServerSpread(0.03, 11)),
        (TBT.on("hard"), ServerSpread(0.01, 11)),
        (TIME, UNMEASURED),
        (TIME.on("a"), ServerSpread(0.02, 2)),
    ],
    ids=str,
)
def test_a_time_differs_between_servers(metric: Metric, spread: ServerSpread) -> None:
    known = Machine("cpu-x-2c", {"TBT": 0.01, "TPS": 0.03}, 12)
    assert known.spread(metric) == spread
    assert known.measured(metric) is (spread is not UNMEASURED and metric.whole != "time")


def test_what_no_clock_measures_does_not_differ_between_servers() -> None:
    odd = Machine("cpu-x-2c", dict.fromkeys([*METRICS, "value"], 0.5), 12)
    for metric in (ACCURACY, ACCURACY.on("hard"), VALUE):
        assert odd.spread(metric) == NO_SPREAD
        assert odd.measured(metric)
    spreads = {metric.name: Machine("none").spread(metric) for metric in METRICS.values()}
    assert {name for name, spread in spreads.items() if spread.sd} == {
        metric.name for metric in METRICS.values() if metric.timed
    }
    assert set(spreads.values()) == {NO_SPREAD, UNMEASURED}


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        {"server_spread": {}},
        {"sittings": 3},
        {"server_spread": [], "sittings": 3},
        {"server_spread": {"TBT": "fast"}, "sittings": 3},
        {"server_spread": {"TBT": None}, "sittings": 3},
        {"server_spread": {"TBT": math.nan}, "sittings": 3},
        {"server_spread": {"TBT": math.inf}, "sittings": 3},
        {"server_spread": {"TBT": -0.01}, "sittings": 3},
        {"server_spread": {}, "sittings": "many"},
        {"server_spread": {"TBT": 0.01}, "sittings": 1},
    ],
    ids=str,
)
def test_a_broken_file_says_where_it_is_and_what_to_do(tmp_path: Path, content: Any) -> None:
    with pytest.raises(MachineError, match=r"cpu-x-2c.vllm.machine\.json: .* measure it anew"):
        put(tmp_path, content)


def test_what_is_known_of_one_engine_says_nothing_of_another(tmp_path: Path) -> None:
    put(tmp_path, KNOWN)
    assert machine(tmp_path, "cpu-x-2c", "mock") == Machine("cpu-x-2c", {}, 0)


def test_a_file_from_before_engines_had_their_own_says_where_to_move_it(tmp_path: Path) -> None:
    path = tmp_path / "cpu-x-2c" / FILE
    path.parent.mkdir()
    path.write_text(json.dumps(KNOWN))
    with pytest.raises(MachineError, match=r"machine\.json: .* vllm, move the file to .*vllm"):
        machine(tmp_path, "cpu-x-2c", "vllm")
    put(tmp_path, KNOWN, engine="mock")
    assert machine(tmp_path, "cpu-x-2c", "mock").sittings == 12


@pytest.mark.parametrize(
    ("sd", "sittings", "margin", "pairs"),
    [
        (0.023, 10_000, 5, 3),  # (3.6 * 0.023 / 0.0488) ** 2 is 2.9
        (0.023, 10_000, 2, 18),  # and (3.6 * 0.023 / 0.0198) ** 2 is 17.5
        (0.023, 15, 5, 4),
        (0.023, 3, 5, 5),  # t of two, three ... six degrees of freedom
        (0.023, 3, 50, 1),
        (0.023, 15, 0.001, None),
        (0.0, 15, 0.001, 1),
    ],
)
def test_as_many_servers_as_a_margin_needs(
    sd: float, sittings: int, margin: float, pairs: int | None
) -> None:
    known = Machine("cpu-x-2c", {"TBT": sd}, sittings)
    assert known.servers_needed(TBT, pct(margin)) == pairs


def test_more_confidence_needs_more_servers_and_answers_need_one_pair() -> None:
    known = Machine("cpu-x-2c", {"TBT": 0.023}, 15)
    needed = [known.servers_needed(TBT, pct(5), level) for level in (0.8, 0.95, 0.99, 0.999)]
    assert needed == [3, 4, 5, 7]
    assert known.servers_needed(ACCURACY, pp(1)) == 1
    assert Machine("none").servers_needed(TBT, pct(5)) == 4
