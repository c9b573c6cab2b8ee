"""One budget of GPU memory over all servers of a session: who may start, and who has to go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.mock_nvml import MockDevice, MockNvml
from doubles.script_engine import HEALTHY, ScriptEngine

from pytest_rllm.engines.base import CannotServe, EngineError, Launch
from pytest_rllm.engines.budget import Budget
from pytest_rllm.engines.builds import Build
from pytest_rllm.engines.memory import GIB
from pytest_rllm.engines.pool import Pool
from pytest_rllm.engines.server import Server
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.models import PAIRS, ModelPair
from pytest_rllm.telemetry.gpu import Gpu

BASE, CACHING = Serving(), Serving(prefix_caching=True)


def large(name: str, gib: float = 76) -> ModelPair:
    """A pair that is not on this machine, with so much of GPU memory as its need."""
    absent = {"reasoning": f"org/{name}", "plain": f"org/{name}-plain", "draft": None}
    return replace(PAIRS["tiny"], name=name, gpu_memory_gib=gib, kv_cache_bytes=None, **absent)


A, B, SMALL = large("a"), large("b"), PAIRS["tiny-gpu"]


class GpuEngine(ScriptEngine):
    """A script that is said to serve on a GPU, and keeps where it was placed."""

    def __init__(self, script: str = HEALTHY, build: str = "") -> None:
        super().__init__(script)
        self.build = Build(build, python=build) if build else None

    @property
    def on_cpu(self) -> bool:
        return False

    def launch(self, serving: Serving, pair: Any, port: int) -> Launch:
        place = self.placement
        assert place is not None
        told = {"share": round(place.share, 2), "free": place.free and place.free / GIB}
        said = f"import json, os\nprint({json.dumps(told)!r}, os.environ['CUDA_VISIBLE_DEVICES'])\n"
        return Launch(
            [*super().launch(serving, pair, port).argv[:2], said + self.script, str(port)]
        )

    def weights_gib(self, log: str) -> float | None:
        return 15.0

    def kv_gib(self, log: str) -> float | None:
        return 20.0


def gpus(*used_gib: float, kind: str = "NVIDIA H100", gib: float = 79.6) -> MockNvml:
    return MockNvml(
        *(MockDevice(kind, gib, used_gib=used, processes=[(4711, used)]) for used in used_gib)
    )


@pytest.fixture
def nvml() -> MockNvml:
    return gpus(0.5)


@pytest.fixture
def pool(tmp_path: Path, nvml: MockNvml, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pytest_rllm.engines.pool.NEEDED_BYTES", 0)  # not of this machine's memory
    budget = Budget(Gpu(nvml), tmp_path / "learnt")
    with Pool(tmp_path / "logs", start_s=60, budget=budget) as pool:
        yield pool


def told(server: Any) -> str:
    return str(server.log.read_text()).splitlines()[0]


def alive(*servers: Server) -> list[bool]:
    return [server.alive for server in servers]


def test_both_arms_get_half_of_what_is_free_and_see_their_gpu_alone(pool: Pool) -> None:
    servers = pool.serve_all([(GpuEngine(), each, A) for each in (BASE, CACHING)])
    assert [told(server) for server in servers] == ['{"share": 0.48, "free": 79.1} 0'] * 2
    assert alive(*servers) == [True, True]


def test_a_third_serving_takes_the_place_of_the_one_that_is_not_compared(pool: Pool) -> None:
    engine = GpuEngine()
    base, caching = pool.serve_all([(engine, each, A) for each in (BASE, CACHING)])
    again, third = pool.serve_all([(engine, BASE, A), (GpuEngine(build="/other"), BASE, A)])
    assert again is base
    assert alive(base, caching, third) == [True, False, True]


def test_the_budget_counts_over_pairs_and_builds(pool: Pool) -> None:
    of_a = pool.serve_all([(GpuEngine(), each, A) for each in (BASE, CACHING)])
    of_b = pool.serve_all([(GpuEngine(build=build), BASE, B) for build in ("/old", "/new")])
    assert alive(*of_a, *of_b) == [False, False, True, True]


def test_small_servers_go_only_as_far_as_a_large_one_needs_the_room(pool: Pool) -> None:
    small = [pool.serve(GpuEngine(), each, SMALL) for each in (BASE, CACHING)]
    (first,) = pool.serve_all([(GpuEngine(), BASE, A)])
    assert alive(*small, first) == [True, True, True]
    pool.serve(GpuEngine(), BASE, SMALL)  # used again: the other one is older now
    second = pool.serve(GpuEngine(), CACHING, A, beside=first)
    assert alive(*small, first, second) == [False, False, True, True]
    again = pool.serve(GpuEngine(), BASE, SMALL)
    assert alive(first, second, again) == [False, True, True]


def test_all_others_are_stopped_for_servers_that_take_turns(pool: Pool) -> None:
    engine = GpuEngine()
    both = pool.serve_all([(engine, each, A) for each in (BASE, CACHING)])
    (first,) = pool.serve_all([(engine, BASE, A)], copy=1, alone=True)
    assert alive(*both, first) == [False, False, True]
    assert told(first).startswith('{"share": 0.97')
    (second,) = pool.serve_all([(engine, CACHING, A)], copy=1, alone=True)
    assert alive(first, second) == [False, True]
    (half, _) = pool.serve_all([(engine, each, A) for each in (CACHING, BASE)], copy=1)
    assert half is not second, "it had the whole GPU, which is no fair comparison"


MEETS = """
import pathlib, time
pathlib.Path('{mine}').touch()
if not pathlib.Path('{theirs}').exists():
    time.sleep(1)
print(pathlib.Path('{theirs}').exists())
pathlib.Path('{mine}').unlink()
"""


@pytest.mark.parametrize("nvml", [gpus(0.5), gpus(0.5, 0.5)], ids=["one", "two"])
def test_servers_start_in_turn_on_one_gpu_and_side_by_side_on_two(
    pool: Pool, nvml: MockNvml
) -> None:
    """On one, the second would take the first one's memory, not yet taken, for free."""
    scripts = [MEETS.format(mine=m, theirs=t) + HEALTHY for m, t in (("a", "b"), ("b", "a"))]
    engines = [
        GpuEngine(script, build) for script, build in zip(scripts, ("/x", "/y"), strict=True)
    ]
    # Without a KV cache in the need, what is roomy is not known, and both share a GPU where they
    # can: here they cannot.
    pair = large("c", gib=76 if len(nvml.devices) == 1 else 140)
    servers = pool.serve_all([(engine, BASE, pair) for engine in engines])
    met = [server.log.read_text().splitlines()[1] for server in servers]  # type: ignore[attr-defined]
    assert ("True" in met) is (len(nvml.devices) == 2)
    places = [server.placement.cards[0].index for server in servers if server.placement]
    assert places == list(range(len(nvml.devices))) or places == [0, 0]


def test_a_server_that_does_not_start_says_what_it_might_take(pool: Pool) -> None:
    """What is estimated may be too little: the whole GPU can be had."""
    with pytest.raises(EngineError) as caught:
        pool.serve(GpuEngine("raise SystemExit('no memory')"), BASE, A)
    assert "memory: up to 39.0 GiB of GPU 0; --rllm-turns gives it 78.1\n" in str(caught.value)
    with pytest.raises(EngineError) as caught:
        pool.serve_all([(GpuEngine("raise SystemExit('no memory')"), BASE, A)], alone=True)
    assert "memory: up to 78.1 GiB of GPU 0\n" in str(caught.value)


@pytest.mark.parametrize("nvml", [gpus(56.7)])
def test_what_does_not_fit_names_the_pair_and_who_holds_the_memory(pool: Pool) -> None:
    with pytest.raises(CannotServe) as caught:
        pool.serve(GpuEngine(), BASE, A)
    assert str(caught.value) == (
        "a: needs 39.0 GiB free on one GPU; GPU 0 has 22.9 of 79.6 GiB free: process 4711 holds "
        "56.7"
    )
    assert pool.started == 0


def test_memory_that_somebody_took_meanwhile_is_said(
    pool: Pool, nvml: MockNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_rllm.engines.pool.FREED_WITHIN_S", 0.3)
    (first,) = pool.serve_all([(GpuEngine(), BASE, A)])
    nvml.devices[0].used_gib, nvml.devices[0].processes = 60.0, [(99, 60.0)]
    with pytest.raises(CannotServe, match=r"as there were when .*: process 99 holds 60.0"):
        pool.serve(GpuEngine(), CACHING, A, beside=first)
    assert first.alive


def test_what_an_engine_took_is_kept_for_the_next_session(pool: Pool, tmp_path: Path) -> None:
    (server,) = pool.serve_all([(GpuEngine(), BASE, A)])
    assert server.placement is not None
    (kept,) = (tmp_path / "learnt").iterdir()
    size = server.placement.size / GIB
    assert json.loads(kept.read_text()) == {"a: reasoning": pytest.approx(size - 35, abs=0.01)}
    later = Budget(Gpu(gpus(0.5)), tmp_path / "learnt")
    layout = later.layout([(GpuEngine(), BASE, A)])
    assert layout is not None
    assert layout.engine / GIB == pytest.approx(size - 35, abs=0.01)
    kept.write_text("broken")
    assert Budget(Gpu(gpus(0.5)), tmp_path / "learnt").layout([(GpuEngine(), BASE, A)]) is not None


def test_without_a_gpu_that_tells_its_memory_nothing_is_planned(tmp_path: Path) -> None:
    assert Budget(Gpu(MockNvml())).layout([(GpuEngine(), BASE, A)]) is None
    assert Budget(Gpu(gpus(0.5))).layout([(ScriptEngine(HEALTHY), BASE, A)]) is None
