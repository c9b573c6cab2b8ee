"""A proxy between client and server that holds streamed deltas back by a known time.

``python delay_proxy.py UPSTREAM_PORT FIRST_S EACH_S [FIRST_S EACH_S ...]`` listens once per pair of
delays and prints the ports on one line. The k-th event of a response (from 0) leaves at its arrival
+ FIRST_S + k * EACH_S and never before the event ahead of it, so errors do not add up. A delay of
0 0 is what the undelayed arm goes through: both arms pay for the proxy.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import StreamReader, StreamWriter


async def _requests(client: StreamReader, server: StreamWriter, count: list[int]) -> None:
    while data := await client.read(65536):
        count[0] = 0  # HTTP/1.1 without pipelining: what a client says starts a new response
        server.write(data)
        await server.drain()
    server.close()


async def _responses(
    server: StreamReader, client: StreamWriter, count: list[int], delays: tuple[float, float]
) -> None:
    loop = asyncio.get_running_loop()
    first_s, each_s = delays
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def release() -> None:
        while True:
            due, data = await waiting.get()
            if (ahead := due - loop.time()) > 0:
                await asyncio.sleep(ahead)
            if not data:
                client.close()
                return
            client.write(data)

    releasing = asyncio.create_task(release())
    while True:
        data = await server.read(65536)
        arrival, events = loop.time(), data.count(b"data: ")
        if events and b"text/event-stream" not in data[:400]:
            count[0] += events
        streams = bool(count[0]) or b"text/event-stream" in data[:400]
        held = first_s + each_s * max(0, count[0] - 1) if streams else 0.0
        await waiting.put((arrival + held, data))
        if not data:
            break
    await releasing


async def _serve(upstream: int, delays: tuple[float, float]) -> asyncio.Server:
    async def connected(client_in: StreamReader, client_out: StreamWriter) -> None:
        server_in, server_out = await asyncio.open_connection("127.0.0.1", upstream)
        count = [0]
        await asyncio.gather(
            _requests(client_in, server_out, count),
            _responses(server_in, client_out, count, delays),
            return_exceptions=True,
        )
        server_out.close()

    return await asyncio.start_server(connected, "127.0.0.1", 0)


async def main(upstream: int, delays: list[tuple[float, float]]) -> None:
    servers = [await _serve(upstream, pair) for pair in delays]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    numbers = [float(text) for text in sys.argv[2:]]
    asyncio.run(main(int(sys.argv[1]), list(zip(numbers[::2], numbers[1::2], strict=True))))
