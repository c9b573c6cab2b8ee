"""A proxy before a real engine that breaks one thing: the way a build of it could be broken.

``python fault_proxy.py UPSTREAM_URL [--fail-share 0.05] [--rename OLD NEW] [--without METRIC]``
prints its own URL and serves until standard input closes. Everything else passes through as it
comes, streams included.
"""

from __future__ import annotations

import argparse
import http.client
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

CHAT = "/v1/chat/completions"


@dataclass
class Faults:
    """What is broken.

    Attributes:
        fail_share: share of the chat requests that are answered with HTTP 500, seeded.
        rename: old and new name of a field of the streamed deltas.
        without: name of a metric whose samples are left out of the metrics page.
    """

    fail_share: float = 0.0
    rename: tuple[str, str] | None = None
    without: str | None = None
    _random: random.Random = field(default_factory=lambda: random.Random(0))
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def fails(self) -> bool:
        with self._turn:
            return self._random.random() < self.fail_share

    def changed(self, path: str, data: bytes) -> bytes:
        if self.rename and path.startswith(CHAT):
            old, new = self.rename
            data = data.replace(f'"{old}":'.encode(), f'"{new}":'.encode())
        if self.without and path == "/metrics":
            kept = (line for line in data.split(b"\n") if self.without.encode() not in line)
            data = b"\n".join(kept)
        return data


def handler_of(upstream: str, faults: Faults) -> type[BaseHTTPRequestHandler]:
    host = urlsplit(upstream).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            self._pass_on(None)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path.startswith(CHAT) and faults.fails():
                message = b'{"error": {"message": "injected by the fault proxy"}}'
                self.send_response(500)
                self.send_header("Content-Length", str(len(message)))
                self.end_headers()
                self.wfile.write(message)
                return
            self._pass_on(body)

        def _pass_on(self, body: bytes | None) -> None:
            asked = http.client.HTTPConnection(host, timeout=300)
            asked.request(
                self.command, self.path, body, {"Content-Type": "application/json"} if body else {}
            )
            answer = asked.getresponse()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            whole = b"" if self.path.startswith(CHAT) else answer.read()
            while data := whole or answer.read1(65536):
                whole = b""
                data = faults.changed(self.path, data)
                if data:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
                if not self.path.startswith(CHAT):
                    break
            self.wfile.write(b"0\r\n\r\n")
            asked.close()

    return Handler


@contextmanager
def fault_proxy(upstream: str, faults: Faults) -> Iterator[str]:
    """The URL of a proxy before ``upstream``, in a thread of this process."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(upstream, faults))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("upstream")
    parser.add_argument("--fail-share", type=float, default=0.0)
    parser.add_argument("--rename", nargs=2)
    parser.add_argument("--without")
    given = parser.parse_args()
    renamed = tuple(given.rename) if given.rename else None
    with fault_proxy(given.upstream, Faults(given.fail_share, renamed, given.without)) as url:
        print(url, flush=True)
        sys.stdin.read()
