"""The bare reader: non-blocking sockets, one epoll, recv, clock, append. What Python can do."""

from __future__ import annotations

import gc
import pickle
import select
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from .arrivals import Recorded, of_chunks
from .carriers import Carrier
from .loads import Load, request

END = b"0\r\n\r\n"
READ = 1 << 14
"""Bytes at a time: a larger buffer costs more to allocate than a delta costs to read."""

Chunks = list[tuple[float, bytes]]


def read_all(url: str, asked: Sequence[bytes], streams: int) -> list[tuple[float, Chunks]]:
    """Send requests, a connection for each of ``streams``, and read until all have ended.

    Args:
        url: of the server.
        asked: requests of HTTP/1.1, headers and body; the next goes out when one has ended.
        streams: how many at a time.

    Returns:
        Per request when it was sent, and (time, bytes) of each read; monotonic s.
    """
    poll, clock = select.epoll(), time.monotonic
    waiting, answers = list(reversed(asked)), []
    readers: dict[int, tuple[socket.socket, Any, Chunks]] = {}

    def send(client: socket.socket) -> None:
        chunks: Chunks = []
        readers[client.fileno()] = client, client.recv, chunks
        answers.append((clock(), chunks))
        client.sendall(waiting.pop())

    port = urlparse(url).port or 80
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in asked[:streams]]
    for client in clients:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(client, select.EPOLLIN)
        send(client)
    left = len(asked)
    while left:
        for number, _ in poll.poll():
            client, receive, chunks = readers[number]
            data = receive(READ)
            chunks.append((clock(), data))
            if data.endswith(END) or not data:
                left -= 1
                if waiting:
                    send(client)
                else:
                    poll.unregister(number)
    for client in clients:
        client.close()
    poll.close()
    return answers


class Bare(Carrier):
    name = "bare"
    title = "bare reader"
    keeps = "every read of a socket and its time"

    def command(self, url: str, load: Load, folder: Path) -> list[str]:
        module = "benchmarks.clients.bare"
        return [sys.executable, "-m", module, url, load.as_json(), str(folder / "read.pickle")]

    def read(self, load: Load, folder: Path) -> Recorded:
        answers = pickle.loads((folder / "read.pickle").read_bytes())  # noqa: S301 - our own
        visible = load.script.reasoning
        return Recorded([of_chunks(sent, chunks, visible) for sent, chunks in answers])


def main(url: str, load: Load, path: Path) -> None:
    gc.disable()
    path.write_bytes(
        pickle.dumps(read_all(url, [request(load.body)] * load.requests, load.streams))
    )


if __name__ == "__main__":
    main(sys.argv[1], Load.of_json(sys.argv[2]), Path(sys.argv[3]))
