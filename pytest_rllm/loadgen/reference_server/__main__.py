"""Serve streams on a known schedule until standard input closes; the URL is printed as JSON."""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import signal
import sys
from dataclasses import fields

from .schedules import Script
from .server import Server


def main(arguments: list[str] | None = None) -> None:
    """Serve until standard input closes or SIGTERM comes."""
    parser = argparse.ArgumentParser(
        prog="python -m pytest_rllm.loadgen.reference_server",
        description=(__doc__ or "").split("\n")[0],
    )
    for setting in fields(Script):
        kind = type(setting.default)
        parser.add_argument(
            f"--{setting.name.replace('_', '-')}", type=kind, default=setting.default
        )
    parser.add_argument("--metrics-bytes", type=int, default=0, help="smallest length of /metrics")
    parser.add_argument("--cpu", type=int, help="number of the core to run on")
    chosen = vars(parser.parse_args(arguments))
    metrics_bytes, cpu = chosen.pop("metrics_bytes"), chosen.pop("cpu")
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = Server(Script(**chosen), metrics_bytes)
    Script().schedule()  # numpy loads its random generators on first use
    print(json.dumps({"url": server.url, "pid": os.getpid()}), flush=True)
    gc.disable()
    server.serve(sys.stdin.fileno() if sys.stdin else None)


if __name__ == "__main__":
    main()
