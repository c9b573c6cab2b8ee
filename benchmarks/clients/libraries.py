"""Which HTTP library reads streams best? Several ways to read 256 streams, each on one core.

    python -m benchmarks.clients.libraries

The reference server is pinned to the first core, the client to the second. Every client keeps
(monotonic time, bytes) of what its library hands out and does nothing else. Libraries that are not
installed are named and left out: aiohttp, httpx, httptools and uvloop, and pyreqwest, a client
written in Rust (``pip install pyreqwest``; others from the index, rnet, primp, httpr and impit, are
made to look like browsers).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any
from urllib.parse import urlparse

import numpy as np
from tabulate import tabulate

from pytest_rllm.loadgen.reference_server import running

from .arrivals import carried, of_chunks
from .bare import read_all
from .loads import Load, request, steady

Chunks = list[tuple[float, bytes]]


async def aiohttp(url: str, body: dict[str, Any], n: int) -> list[Chunks]:
    import aiohttp

    clock = time.monotonic

    async def one(session: aiohttp.ClientSession) -> Chunks:
        chunks: Chunks = []
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            async for data in response.content.iter_any():
                chunks.append((clock(), data))
        return chunks

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        return await asyncio.gather(*(one(session) for _ in range(n)))


async def httpx(url: str, body: dict[str, Any], n: int) -> list[Chunks]:
    import httpx

    clock = time.monotonic

    async def one(client: httpx.AsyncClient) -> Chunks:
        chunks: Chunks = []
        async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
            async for data in response.aiter_raw():
                chunks.append((clock(), data))
        return chunks

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:
        return await asyncio.gather(*(one(client) for _ in range(n)))


async def httptools(url: str, body: dict[str, Any], n: int) -> list[Chunks]:
    import httptools

    clock, asked = time.monotonic, request(body)
    loop = asyncio.get_running_loop()

    class Reader(asyncio.Protocol):
        def __init__(self) -> None:
            self.chunks: Chunks = []
            self.done = loop.create_future()
            self.feed = httptools.HttpResponseParser(self).feed_data

        def connection_made(self, transport: Any) -> None:
            transport.write(asked)

        def data_received(self, data: bytes) -> None:
            self.at = clock()
            self.feed(data)

        def on_body(self, data: bytes) -> None:
            self.chunks.append((self.at, data))

        def on_message_complete(self) -> None:
            self.done.set_result(None)

    port = urlparse(url).port or 80
    made = [await loop.create_connection(Reader, "127.0.0.1", port) for _ in range(n)]
    await asyncio.gather(*(reader.done for _, reader in made))
    return [reader.chunks for _, reader in made]


async def pyreqwest(url: str, body: dict[str, Any], n: int) -> list[Chunks]:
    from pyreqwest.client import ClientBuilder

    clock = time.monotonic

    async def one(client: Any) -> Chunks:
        chunks: Chunks = []
        asking = client.post(f"{url}/v1/chat/completions").body_json(body)
        # By default it holds a response back until 64 KiB have come.
        asked = asking.streamed_read_buffer_limit(0).build_streamed()
        async with asked as response:
            read = response.body_reader.read_chunk
            while (data := await read()) is not None:
                chunks.append((clock(), bytes(data)))
        return chunks

    async with ClientBuilder().build() as client:
        return await asyncio.gather(*(one(client) for _ in range(n)))


Way = Callable[[str, dict[str, Any], int], Awaitable[list[Chunks]]]
WAYS: dict[str, tuple[Way, bool, tuple[str, ...]]] = {
    "httpx": (httpx, False, ("httpx",)),
    "aiohttp": (aiohttp, False, ("aiohttp",)),
    "aiohttp, uvloop": (aiohttp, True, ("aiohttp", "uvloop")),
    "pyreqwest (Rust)": (pyreqwest, False, ("pyreqwest",)),
    "pyreqwest (Rust), uvloop": (pyreqwest, True, ("pyreqwest", "uvloop")),
    "httptools": (httptools, False, ("httptools",)),
    "httptools, uvloop": (httptools, True, ("httptools", "uvloop")),
}
"""Name to client, whether it runs on uvloop, and the packages that it needs."""
BARE = "bare sockets, epoll"


def measure(name: str, url: str, load: Load) -> dict[str, float]:
    """Drive one load in this process; times in s, CPU in µs per delta."""
    body = load.body | {"timing": asdict(load.script)}
    gc.collect()
    gc.disable()
    began, cpu = time.monotonic(), time.process_time()
    if name == BARE:
        asked = [request(body)] * load.streams
        chunks = [stream for _, stream in read_all(url, asked, load.streams)]
    else:
        way, fast, _ = WAYS[name]
        factory = None
        if fast:
            import uvloop

            factory = uvloop.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            chunks = runner.run(way(url, body, load.streams))  # type: ignore[arg-type]
    cpu = time.process_time() - cpu
    streams = [of_chunks(began, stream) for stream in chunks]
    errors = np.concatenate([one.arrivals - one.truths for one in streams])
    truths = np.concatenate([one.truths for one in streams])
    assert len(errors) == load.tokens, f"{len(errors)} of {load.tokens} deltas"
    return {
        "offered": load.rate,
        "carried": carried(truths),
        "cpu_us": 1e6 * cpu / len(errors),
        "p50_s": float(np.median(errors)),
        "p99_s": float(np.percentile(errors, 99)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rates", default="5000,10000,20000,40000,80000")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    rates = [float(rate) for rate in chosen.rates.split(",")]
    if chosen.one:
        os.sched_setaffinity(0, {1})
        load = steady(chosen.streams, rates[0], chosen.seconds)
        print(json.dumps(measure(chosen.one, chosen.url, load)))
        return
    rows = []
    with running("--cpu", "0") as server:
        for name in (BARE, *WAYS):
            try:
                needs = WAYS[name][2] if name in WAYS else ()
                versions = ", ".join(f"{x} {importlib.metadata.version(x)}" for x in needs)
            except importlib.metadata.PackageNotFoundError as missing:
                print(f"{name}: not installed: {missing}")
                continue
            for rate in rates:
                options = ["--one", name, "--url", server.url, "--rates", f"{rate:g}"]
                options += ["--streams", str(chosen.streams), "--seconds", str(chosen.seconds)]
                command = [sys.executable, "-m", "benchmarks.clients.libraries", *options]
                got = subprocess.run(command, capture_output=True, text=True, timeout=120)
                if got.returncode:
                    print(f"{name} at {rate:g}/s: {got.stderr.strip().splitlines()[-1]}")
                    continue
                found = json.loads(got.stdout)
                rows.append([f"{name} ({versions})" if versions else name, *found.values()])
                for i, scale in ((4, 1e6), (5, 1e3)):
                    rows[-1][i] *= scale
    headers = ["way", "deltas/s due", "sent", "CPU, µs/delta", "error p50, µs", "p99, ms"]
    print(
        tabulate(rows, headers, floatfmt=("", ".0f", ".0f", ".1f", ".0f", ".2f"), tablefmt="github")
    )


if __name__ == "__main__":
    main()
