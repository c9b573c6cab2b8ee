"""Does a stored level tell a slower engine from a slower machine? On real vLLM, on this CPU.

``python benchmarks/levels/experiment.py`` serves the bundled reasoning model once, stores the
baseline of one finding (``batch-size``: throughput and latency) in a folder of its own, and then
measures that finding again:

- ``quiet``: as it was;
- ``busy``: beside a process that computes all the time;
- ``throttled``: the server is stopped for a part of every 100 ms, so that it needs 1.3 times as
  long for the same work, while the machine is as fast as ever.

It prints a line per session: how it ended, how many times as long the reference load took, and by
how much every level moved. About 3 minutes per session on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from pytest_rllm.engines.pool import Pool
from pytest_rllm.engines.server import Started
from pytest_rllm.engines.vllm import VllmEngine
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.models import PAIRS

ROOT = Path(__file__).parent.parent.parent
PERIOD_S = 0.1
SLOWER = 1.3
FINDING = ROOT / "tests_findings" / "test_batch_size.py"


@contextmanager
def quiet(_server: Started) -> Iterator[None]:
    """Nothing else."""
    yield


@contextmanager
def busy(_server: Started) -> Iterator[None]:
    """A process that computes all the time."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def throttled(server: Started) -> Iterator[None]:
    """The server's processes are stopped for a part of every period."""
    processes = psutil.Process(server.process.pid).children(recursive=True)
    over = threading.Event()

    def throttle() -> None:
        due = time.monotonic()  # by the clock, so that late wake-ups do not add up
        while not over.is_set():
            for kind, share in ((signal.SIGSTOP, 1 - 1 / SLOWER), (signal.SIGCONT, 1 / SLOWER)):
                for process in processes:
                    process.send_signal(kind)
                due += PERIOD_S * share
                time.sleep(max(0.0, due - time.monotonic()))

    thread = threading.Thread(target=throttle)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


CONDITIONS = {"quiet": quiet, "busy": busy, "throttled": throttled}


def session(folder: Path, number: int, url: str, *options: str) -> dict:
    """Measure the finding; the session's report."""
    report = folder / f"{number}.json"
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(FINDING)),
            *("--rllm-engine", f"vllm@{url}", "--rllm-model", "tiny"),
            *("--rllm-baselines", str(folder / "baselines"), "--rllm-report", f"json:{report}"),
            *("--rllm-record", str(folder / "records" / str(number)), *options),
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "RLLM_CACHE": str(folder / "cache")},
        stdout=subprocess.DEVNULL,
    )
    return json.loads(report.read_text())


def told(report: dict) -> str:
    """How the case ended, and how its levels moved."""
    (row,) = report["rows"]
    moved = [
        f"{level['key']} {level['here'] / level['stored'] - 1:+.0%}" + "!" * bool(level["drift"])
        for level in row["levels"]
    ]
    pace = "" if row["pace"] is None else f"reference x {row['pace']:.2f}; "
    return f"{row['outcome']}; {pace}{', '.join(moved)} (! drifted)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "conditions",
        nargs="*",
        default=["quiet", "busy", "throttled", "quiet"],
        help=f"of {', '.join(CONDITIONS)}, in order (default: quiet busy throttled quiet)",
    )
    parser.add_argument("--folder", type=Path, help="of records, reports and the baseline")
    given = parser.parse_args()
    folder = (given.folder or Path(tempfile.mkdtemp(prefix="levels-"))).absolute()
    with Pool(folder / "servers") as pool:
        server = pool.serve(VllmEngine(), Serving(), PAIRS["tiny"])
        assert isinstance(server, Started)
        session(folder, 0, server.url, "--rllm-baseline=create")
        print(f"stored; all of it is in {folder}", flush=True)
        for number, name in enumerate(given.conditions, 1):
            with CONDITIONS[name](server):
                report = session(folder, number, server.url)
            print(f"{name}: {told(report)}", flush=True)


if __name__ == "__main__":
    main()
