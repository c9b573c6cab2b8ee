"""Compare clients: python -m benchmarks.clients

Measures what is not measured yet (about 40 minutes on two cores), then writes results.json, the
page and the plots beside this file. ``--only us,bare --part rate`` measures less.
"""

from __future__ import annotations

import argparse
import resource
from pathlib import Path

from .bench import Bench
from .carriers import CARRIERS, carrier
from .page import write
from .parts import PARTS
from .results import Results

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.clients", description=__doc__)
    parser.add_argument("--only", default=",".join(CARRIERS), help="clients, by comma")
    parser.add_argument("--part", default=",".join(PARTS), help="parts, by comma")
    parser.add_argument("--streams", default="16,64,256,1024", help="streams of the ladders")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--client-cpu", type=int, default=1)
    parser.add_argument("--volume", type=float, default=1.0, help="less than 1 to try it out")
    parser.add_argument("--work", type=Path, default=Path(".rllm/clients"), help="scratch, kept")
    parser.add_argument("--environments", type=Path, help="the peers' (default: in the scratch)")
    parser.add_argument("--out", type=Path, default=HERE, help="results.json, page and plots")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    chosen = parser.parse_args()
    # 1024 streams are more files than a shell allows by default; clients inherit this.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    work = chosen.work.resolve()
    results = Results(work / "measured.jsonl")
    if not chosen.page:
        environments = (chosen.environments or work / "environments").resolve()
        carriers = []
        for name in chosen.only.split(","):
            one = carrier(name, environments)
            one.prepare()
            known = {"part": "versions", "client": name, "version": one.version}
            if not results.has(**known):
                results.add(known)
            carriers.append(one)
        bench = Bench(
            carriers,
            results,
            work / "runs",
            server_cpu=chosen.server_cpu,
            client_cpu=chosen.client_cpu,
            streams=[int(n) for n in chosen.streams.split(",")],
            repeats=chosen.repeats,
            volume=chosen.volume,
        )
        for part in chosen.part.split(","):
            print(f"{part}: {PARTS[part].__doc__}", flush=True)
            PARTS[part](bench)
    write(results, chosen.out)


if __name__ == "__main__":
    main()
