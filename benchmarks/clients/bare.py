"""The bare reader: non-blocking sockets, one epoll, recv, clock, append. What Python can do."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlparse

END = b"0\r\n\r\n"
READ = 1 << 14
"""Bytes at a time: a larger buffer costs more to allocate than a delta costs to read."""


def read_all(url: str, asked: Sequence[bytes]) -> list[tuple[float, list[tuple[float, bytes]]]]:
    """Send all requests, one connection each, and read until all have ended.

    Args:
        url: of the server.
        asked: requests of HTTP/1.1, headers and body.

    Returns:
        Per request when it was sent, and (time, bytes) of each read; monotonic s.
    """
    poll, clock = select.epoll(), time.monotonic
    readers: dict[int, tuple[Any, list[tuple[float, bytes]]]] = {}
    clients = [socket.create_connection(("127.0.0.1", urlparse(url).port or 80)) for _ in asked]
    answers = []
    for client, request in zip(clients, asked, strict=True):
        client.setblocking(False)
        poll.register(client, select.EPOLLIN)
        answers.append((clock(), []))
        client.sendall(request)
        readers[client.fileno()] = client.recv, answers[-1][1]
    left = len(clients)
    while left:
        for number, _ in poll.poll():
            receive, chunks = readers[number]
            data = receive(READ)
            chunks.append((clock(), data))
            if data.endswith(END) or not data:
                left -= 1
                poll.unregister(number)
    for client in clients:
        client.close()
    poll.close()
    return answers
