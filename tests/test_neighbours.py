"""Who else is on the GPUs that servers use, on machines of a mock NVML."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from doubles.mock_nvml import MockDevice, MockNvml, gb10, h100, under_wsl

from pytest_rllm.engines.placement import Card, Placement
from pytest_rllm.session.readings import Readings
from pytest_rllm.telemetry.gpu import Gpu
from pytest_rllm.telemetry.neighbours import Neighbours, own_processes
from pytest_rllm.telemetry.reference import CpuReference, TorchReference

OURS = {100, 101}
STARTED = {"started": True, "attached": False}
ATTACHED = {"started": False, "attached": True}
BOTH = {"started": True, "attached": True}
UNKNOWN = {"nvmlDeviceGetComputeRunningProcesses": pynvml.NVML_ERROR_NO_PERMISSION}


def neighbours(*cards: MockDevice) -> Neighbours:
    found = Neighbours(Gpu(MockNvml(*cards), {}), lambda: OURS)
    found.look_before()
    return found


def serve(card: MockDevice, gib: float = 30.0, pid: int | None = 100) -> None:
    """A server takes memory of a GPU."""
    card.used_gib += gib
    if pid is not None:
        card.processes = [*card.processes, (pid, gib)]


def test_a_gpu_of_our_own_has_no_strangers() -> None:
    card = h100()
    seen = neighbours(card)
    serve(card)
    seen.servers_are_up()
    assert seen.strangers(**STARTED) == {}
    serve(card, 0.5, 101)
    assert seen.strangers(**STARTED) == {}, "a load beside our servers is ours, too"


def test_who_was_there_before_and_who_came_later_are_named() -> None:
    card = h100(processes=[(4711, 20.0)], used_gib=20.5)
    seen = neighbours(card)
    serve(card)
    seen.servers_are_up()
    assert seen.strangers(**STARTED) == {"gpu0": "process 4711 with 20.0 GiB of others"}
    card.processes = [(100, 30.0), (815, None), (4712, 1.5)]
    assert seen.strangers(**STARTED) == {"gpu0": "processes 815, 4712 with 1.5 GiB of others"}
    card.processes = [(100, 30.0)]
    assert seen.strangers(**STARTED) == {}, "they have gone"


def test_a_neighbour_on_a_gpu_that_servers_do_not_use_is_no_stranger() -> None:
    busy, ours = h100(processes=[(4711, 70.0)], used_gib=70.5), h100()
    seen = neighbours(busy, ours)
    serve(ours)
    seen.servers_are_up()
    assert [d.index for d in seen.devices] == [1]
    assert seen.strangers(**STARTED) == {}


@pytest.mark.parametrize("hidden", [None, UNKNOWN], ids=["in another namespace", "no permission"])
def test_where_our_processes_are_not_told_apart_memory_tells(
    hidden: dict[str, int] | None,
) -> None:
    busy, ours = h100(used_gib=40), h100(refuses=hidden or {})
    seen = neighbours(busy, ours)
    serve(ours, 30, None if hidden else 31337)
    seen.servers_are_up()
    assert [d.index for d in seen.devices] == [1]
    assert seen.strangers(**STARTED) == {}
    serve(ours, 1.5, None)
    assert seen.strangers(**STARTED) == {}, "an engine may take a little more"
    serve(ours, 8, None)
    assert seen.strangers(**STARTED) == {
        "gpu1": "9.5 GiB more are held than when the servers were ready, its driver says not by "
        "whom"
    }


def test_who_was_listed_before_is_a_stranger_in_any_namespace() -> None:
    card = h100(processes=[(31336, 20.0)], used_gib=20.5)
    seen = neighbours(card)
    serve(card, 30, 31337)
    seen.servers_are_up()
    assert seen.strangers(**STARTED) == {"gpu0": "process 31336 with 20.0 GiB of others"}


@pytest.mark.parametrize(
    ("used_gib", "strangers"),
    [
        (1.4, {}),
        (9.0, {"gpu0": "9.0 GiB were held before the first server, its driver says not by whom"}),
    ],
    ids=["a desktop", "an engine"],
)
def test_under_wsl_memory_tells(used_gib: float, strangers: dict[str, str]) -> None:
    card = under_wsl(used_gib=used_gib)
    seen = neighbours(card)
    serve(card, 10, None)
    seen.servers_are_up()
    assert seen.strangers(**STARTED) == strangers


def test_a_gpu_that_tells_neither_memory_nor_processes_has_no_strangers_that_we_know() -> None:
    card = gb10(refuses=UNKNOWN | gb10().refuses)
    seen = neighbours(card)
    seen.servers_are_up()
    assert seen.strangers(**STARTED) == {}


@pytest.mark.parametrize("refuses", [{}, UNKNOWN], ids=["listed", "not listed"])
def test_a_server_that_ran_before_is_no_stranger_and_who_joins_it_is(
    refuses: dict[str, int],
) -> None:
    card = h100(processes=[(4711, 60.0)], used_gib=60.5, refuses=refuses)
    seen = neighbours(card)
    seen.servers_are_up()
    assert seen.strangers(**ATTACHED) == {}
    serve(card, 5, 4712)
    (who,) = seen.strangers(**ATTACHED).values()
    assert who.startswith("5.0 GiB more" if refuses else "process 4712 with 5.0 GiB of others")


def test_a_server_beside_one_that_ran_before_has_it_as_no_stranger() -> None:
    card = h100(processes=[(4711, 30.0)], used_gib=30.5)
    seen = neighbours(card)
    serve(card)
    seen.servers_are_up()
    assert seen.strangers(**BOTH) == {}
    serve(card, 5, 4712)
    assert seen.strangers(**BOTH) == {"gpu0": "process 4712 with 5.0 GiB of others"}


def test_own_processes_are_this_one_and_what_it_started() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert {os.getpid(), child.pid} <= own_processes()
        assert os.getppid() not in own_processes()


# ---- whose readings matter


def test_the_reference_load_runs_on_the_gpu_that_the_server_sees() -> None:
    readings = Readings(Gpu(MockNvml(h100(), h100()), {}))
    cards = [Card(i, str(i), 80e9, 79e9) for i in (0, 1)]
    on_first, on_second, again = (
        SimpleNamespace(engine=engine(), placement=Placement((cards[i],), 1e9, 0))
        for i in (0, 1, 1)
    )
    on_cpu, elsewhere = (
        SimpleNamespace(engine=engine(on_cpu=on), placement=None) for on in (True, False)
    )
    loads = [readings.reference(server) for server in (on_first, on_second, again, elsewhere)]
    assert all(isinstance(load, TorchReference) for load in loads)
    assert loads[1] is loads[2]
    assert len({*loads}) == 3
    assert loads[1]._variables["CUDA_VISIBLE_DEVICES"] == "1"
    assert isinstance(readings.reference(on_cpu), CpuReference)
    readings.close()


def engine(*, on_cpu: bool = False, url: str | None = None) -> Any:
    return SimpleNamespace(on_cpu=on_cpu, url=url)


class Untouched:
    """GPUs that must not be asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")


@pytest.mark.parametrize(
    "served",
    [engine(on_cpu=True), engine(url="http://elsewhere:8000")],
    ids=["on a CPU", "on another machine"],
)
def test_an_engine_that_uses_no_gpu_here_has_none_read(served: Any) -> None:
    gpu: Any = Untouched()
    readings = Readings(gpu)
    readings.before_servers([served])
    readings.servers_are_up([served])
    assert readings.strangers(served, [served]) == {}
    assert not any(name.startswith("gpu") for name in readings.monitor([served])())


def test_only_gpus_that_servers_use_are_read() -> None:
    cards = h100(processes=[(4711, 70.0)], used_gib=70.5), h100()
    readings = Readings(Gpu(MockNvml(*cards), {}))
    readings.before_servers([engine()])
    serve(cards[1], 30, os.getpid())
    readings.servers_are_up([engine()])
    read = readings.monitor([engine(on_cpu=True), engine()])()
    assert {name.partition("_")[0] for name in read if name.startswith("gpu")} == {"gpu1"}
    assert readings.strangers(engine(), [engine()]) == {}
    cards[1].processes = [*cards[1].processes, (4712, None)]
    assert readings.strangers(engine(), [engine()]) == {"gpu1": "process 4712 of others"}
    assert readings.strangers(engine(on_cpu=True), [engine()]) == {}


def test_a_local_server_by_url_was_there_before() -> None:
    card = h100(processes=[(4711, 60.0)], used_gib=60.5)
    readings = Readings(Gpu(MockNvml(card), {}))
    served = engine(url="http://localhost:8000")
    readings.before_servers([served])
    readings.servers_are_up([served])
    assert readings.strangers(served, [served]) == {}
    assert "gpu0_processes" in readings.monitor([served])()
