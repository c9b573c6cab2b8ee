"""Readings of GPUs and processors, and the reasons why a machine cannot run a test."""

from __future__ import annotations

import sys
import threading
import time

import psutil
import pynvml
import pytest
from doubles.mock_nvml import MockDevice, MockNvml

from pytest_rllm.telemetry.gpu import THROTTLE_REASONS, UNNAMED, Device, Gpu
from pytest_rllm.telemetry.host import Host
from pytest_rllm.telemetry.prometheus import families, labels, sample_names, totals
from pytest_rllm.telemetry.watch import Watch

H200 = MockDevice()
L4 = MockDevice(b"NVIDIA L4", 22.5, (8, 9), bus_bits=192, memory_clock_mhz=6251)
ERRORS = {
    name.removeprefix("NVMLError_"): kind().value
    for name, kind in vars(pynvml).items()
    if name.startswith("NVMLError_") and "." not in name
}
"""Every error that NVML knows, by its name."""


def test_devices_are_described() -> None:
    gpu = Gpu(MockNvml(H200, L4))
    assert gpu.why_not is None
    assert gpu.devices == (
        Device(0, "NVIDIA H200", 141.0, (9, 0), "GPU-mock-0", pytest.approx(4916.7, abs=0.1)),
        Device(1, "NVIDIA L4", 22.5, (8, 9), "GPU-mock-1", pytest.approx(300.1, abs=0.1)),
    )


def test_memory_that_is_free_and_who_holds_the_rest_are_read_anew() -> None:
    card = MockDevice(processes=[(4711, 55.0), (815, None)], used_gib=60)
    gpu = Gpu(MockNvml(card))
    (device,) = gpu.devices
    assert (gpu.free_gib(device), gpu.holders(device)) == (81.0, [(4711, 55.0), (815, None)])
    card.processes, card.used_gib = [], 1
    assert (gpu.free_gib(device), gpu.holders(device)) == (140.0, [])


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_whatever_a_device_does_not_tell_is_none_and_no_error(error: int) -> None:
    told = [name for name in vars(MockNvml) if name.startswith("nvmlDevice")]
    told.remove("nvmlDeviceGetHandleByIndex")
    silent = MockDevice(refuses=dict.fromkeys(told, error))
    gpu = Gpu(MockNvml(silent))
    assert gpu.devices == (Device(0, UNNAMED, None, None),)
    assert (gpu.free_gib(gpu.devices[0]), gpu.holders(gpu.devices[0])) == (None, None)
    assert (gpu.read(), gpu.missing(memory_gib=80, capability=9.0)) == ({}, None)
    assert gpu.missing(count=2) == (
        "needs 2 GPUs; there is unnamed GPU, does not tell its memory, capability not told"
    )


@pytest.mark.parametrize(
    "need",
    [
        {},
        {"memory_gib": 141},
        {"count": 2},
        {"count": 2, "memory_gib": 22, "capability": 8.9},
        {"capability": 9.0},
    ],
    ids=str,
)
def test_a_need_that_is_met(need: dict[str, float]) -> None:
    assert Gpu(MockNvml(H200, L4)).missing(**need) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("need", "wanted"),
    [
        ({"memory_gib": 200}, "1 GPU, 200 GiB each"),
        ({"count": 3}, "3 GPUs"),
        ({"count": 2, "memory_gib": 44}, "2 GPUs, 44 GiB each"),
        ({"capability": 10.0}, "1 GPU, compute capability 10"),
        ({"count": 2, "capability": 9.0}, "2 GPUs, compute capability 9"),
    ],
)
def test_a_need_that_is_not_met_is_reported_with_the_existing_gpus(
    need: dict[str, float], wanted: str
) -> None:
    assert Gpu(MockNvml(H200, L4)).missing(**need) == (  # type: ignore[arg-type]
        f"needs {wanted}; there is NVIDIA H200, 141 GiB, capability 9.0; "
        "NVIDIA L4, 22 GiB, capability 8.9"
    )


@pytest.mark.parametrize(
    ("nvml", "why_not"),
    [
        (MockNvml(), "no NVIDIA GPU: NVML lists none"),
        (MockNvml(H200, broken=9), "no NVIDIA GPU: Driver Not Loaded"),
    ],
    ids=["none", "no driver"],
)
def test_without_a_gpu_the_reason_is_given(nvml: MockNvml, why_not: str) -> None:
    gpu = Gpu(nvml)
    assert gpu.why_not == gpu.missing() == why_not
    assert (gpu.devices, gpu.read()) == ((), {})


def test_without_the_library_the_reason_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Gpu().why_not == "no GPU monitoring: install nvidia-ml-py"


def test_the_real_library_agrees_with_this_machine() -> None:
    gpu = Gpu()
    if gpu.why_not is None:
        pytest.skip("this machine has a GPU")
    assert gpu.why_not.startswith("no NVIDIA GPU: ")
    assert (gpu.devices, gpu.read()) == ((), {})


def test_the_mock_has_no_function_that_the_library_lacks() -> None:
    names = [name for name in vars(MockNvml) if name.startswith(("nvml", "NVML"))]
    assert len(names) > 10
    assert [name for name in names if not hasattr(pynvml, name)] == []


def test_a_reading_names_its_device_and_unit() -> None:
    assert Gpu(MockNvml(H200)).read() == {
        "gpu0_memory_gib": 2.0,
        "gpu0_utilisation": 0.75,
        "gpu0_power_w": 350.0,
        "gpu0_sm_clock_mhz": 1980.0,
        "gpu0_memory_clock_mhz": 3201.0,
        "gpu0_throttled": 0.0,
        "gpu0_processes": 1.0,
    }


def test_values_that_a_device_does_not_report_are_left_out() -> None:
    whole, partial = MockDevice(), MockDevice(power_mw=None)
    values = Gpu(MockNvml(whole, partial)).read()
    assert "gpu0_power_w" in values
    assert "gpu1_power_w" not in values
    assert len(values) == 13


@pytest.mark.parametrize(
    ("reasons", "throttled"),
    [*((bit, 1.0) for bit in THROTTLE_REASONS.values()), (0x04, 0.0), (0x01, 0.0), (0x28, 1.0)],
)
def test_heat_throttles_and_a_power_cap_does_not(reasons: int, throttled: float) -> None:
    assert Gpu(MockNvml(MockDevice(throttle=reasons))).read()["gpu0_throttled"] == throttled


def test_throttle_reasons_are_those_of_the_library() -> None:
    for reason, bit in THROTTLE_REASONS.items():
        assert getattr(pynvml, f"nvmlClocksThrottleReason{reason}") == bit


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
