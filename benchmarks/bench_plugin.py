"""CPU time that a plugin adds to a pytest run which does not use it.

    python -m pytest benchmarks/bench_plugin.py

Each run is a process of its own on a file with one empty test; its user and system time counts.
The runs are interleaved, the order turns, and a difference is that of two runs of one round.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import pytest
from tabulate import tabulate

from pytest_rllm.verdicts.location import location

ROUNDS = 100
GOAL_MS = 5.0
NONE = "no plugin"
ALONE = {
    NONE: "",
    "pytest-rllm": "pytest_rllm.plugin",
    "pytest-benchmark": "benchmark",
    "syrupy": "syrupy",
    "hypothesis": "hypothesispytest",
}
"""Entry points that pytest may load of all that are installed: it finds them all, as ever, and is
told to leave out the others."""
UNSET = (
    "PYTHONDONTWRITEBYTECODE",
    "PYTEST_ADDOPTS",
    "PYTEST_PLUGINS",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD",
)
Times = dict[str, list[float]]


def commands() -> dict[str, list[str]]:
    """A command per plugin that is installed."""
    installed = {point.name for point in entry_points(group="pytest11")}
    base = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_nothing.py"]
    return {
        name: [
            *base,
            *(word for other in sorted(installed - {own}) for word in ("-p", f"no:{other}")),
        ]
        for name, own in ALONE.items()
        if own in installed or name == NONE
    }


@pytest.fixture(scope="module")
def times(tmp_path_factory: pytest.TempPathFactory) -> Times:
    """CPU seconds of every case, one per round."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "test_nothing.py").write_text("def test_nothing(): pass\n")
    env = {name: value for name, value in os.environ.items() if name not in UNSET}
    env["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")  # written by the first round of all
    cases = list(commands().items())
    took: Times = {name: [] for name, _ in cases}
    for i in range(ROUNDS + 1):
        for name, command in cases[i % len(cases) :] + cases[: i % len(cases)]:
            before = cpu_of_children()
            subprocess.run(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, check=True)
            if i > 0:
                took[name].append(cpu_of_children() - before)
    return took


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Measured:
    """A clock that goes on by what was measured before, for pytest-benchmark to look at."""

    now = 0.0

    @classmethod
    def read(cls) -> float:
        return cls.now

    @classmethod
    def replay(cls, times: list[float]) -> Callable[[], None]:
        left = iter(times)

        def run() -> None:
            cls.now += next(left)

        return run


@pytest.mark.benchmark(timer=Measured.read)
@pytest.mark.parametrize("name", ALONE)
def test_a_run_on_an_empty_file(benchmark: Any, times: Times, name: str) -> None:
    if name not in times:
        pytest.skip(f"{name} is not installed")
    benchmark.pedantic(Measured.replay(times[name]), rounds=ROUNDS)


def test_an_unused_plugin_adds_at_most_5_ms(
    times: Times, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for name in times.keys() - {NONE}:
        pairs = zip(times[name], times[NONE], strict=True)
        added = location([1e3 * (one - two) for one, two in pairs])
        rows.append([name, added.estimate, added.low, added.high])
    rows.sort(key=lambda row: row[1])
    with capsys.disabled():
        print("\n" + tabulate(rows, ["", "added CPU, ms", "95 % from", "to"], floatfmt="+.2f"))
    assert next(added_ms for name, added_ms, *_ in rows if name == "pytest-rllm") <= GOAL_MS
