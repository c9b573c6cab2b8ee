"""The HTTP/1.1 side of the reference server: requests of a connection are answered in order."""

from __future__ import annotations

import json
import select
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .responses import Stream
    from .server import Server


class Connection:
    """A client's socket, with the bytes that the kernel has not accepted yet.

    Attributes:
        open: whether the socket is open.
        asked: received bytes that are not answered yet.
        pending: bytes to send that the kernel did not accept.
        stream: the response that is being streamed; None between responses.
    """

    def __init__(self, server: Server, client: socket.socket) -> None:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server, self._socket, self._send = server, client, client.send
        self.number, self.open, self.asked, self.pending = client.fileno(), True, b"", b""
        self.stream: Stream | None = None

    def write(self, data: bytes) -> None:
        """Send bytes, or keep them until the kernel accepts them."""
        if self.pending:
            self.pending += data
            return
        try:
            taken = self._send(data)
        except BlockingIOError:
            taken = 0
        except OSError:
            self.close()
            return
        if taken < len(data) and self.open:
            self.pending = data[taken:]
            self._server.blocked += 1
            self._server.poll.modify(self._socket, select.EPOLLIN | select.EPOLLOUT)

    def ready(self, mask: int) -> None:
        """Read new requests and write pending bytes, as the events in ``mask`` allow."""
        if mask & select.EPOLLOUT and self.pending:
            waiting, self.pending = self.pending, b""
            self._server.poll.modify(self._socket, select.EPOLLIN)
            self.write(waiting)
            if not self.pending and self.stream and self.open:
                self._server.plan(self.stream)
        if mask & ~select.EPOLLOUT:
            try:
                data = self._socket.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            self.asked += data
            self.answer()

    def answer(self) -> None:
        """Answer the requests that have arrived completely, in order."""
        while self.open and self.stream is None:
            head, blank, rest = self.asked.partition(b"\r\n\r\n")
            if not blank:
                return
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {
                k.strip().lower(): v.strip() for k, _, v in (x.partition(":") for x in lines)
            }
            length = int(headers.get("content-length") or 0)
            if len(rest) < length:
                if "100-continue" in headers.get("expect", "") and not rest:
                    self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            self.asked = rest[length:]
            method, path, *_ = [*first.split(" "), "", ""]
            self._server.answer(self, method, path.partition("?")[0], rest[:length])

    def respond(self, content: Any, status: str = "200 OK", kind: str = "application/json") -> None:
        """Send a complete response: a text as it is, anything else as JSON."""
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.write(head.encode() + body)

    def close(self) -> None:
        """Close the socket, if it is open."""
        if self.open:
            self.open = False
            self._socket.close()
            self._server.closed(self)
