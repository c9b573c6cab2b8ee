"""A real HTTP(S) server before another one, which asks for a key, and misbehaves as it is told.

It passes requests on to a server of ours, streams included, so that whole sessions can be measured
through it.
"""

from __future__ import annotations

import datetime
import gzip
import http.client
import ipaddress
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

CHAT = "/v1/chat/completions"


@dataclass
class Gateway:
    """What a gateway does, and what it saw.

    Attributes:
        upstream: URL of the server behind it; empty for none.
        headers: that a request must have; others are answered with 401.
        expires_after: number of chat requests after which no key is taken any more.
        repeats: whether a refusal repeats the headers that it got, as careless servers do.
        echoes: whether streams and metrics pages repeat them, too, in comments; in two parts.
        redirect: where every request is sent to instead.
        compresses: whether answers are gzip'd, though nobody asks for it.
        only: the path that is redirected or compressed; empty: every one.
        status: of the answer to a request without the headers that it must have.
        protocol: of its answers.
        words: that pages of the server behind it hold, and what the gateway says instead.
        pages: answers of its own by path: status and body.
        seen: path and headers of every request.
    """

    upstream: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    expires_after: int | None = None
    repeats: bool = False
    echoes: bool = False
    redirect: str = ""
    compresses: bool = False
    only: str = ""
    status: int = 401
    protocol: str = "HTTP/1.1"
    words: dict[str, str] = field(default_factory=dict)
    pages: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""
    _chats: int = 0
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def refuses(self, path: str, headers: dict[str, str]) -> bool:
        """Whether the key of a request is not taken."""
        with self._turn:
            self.seen.append((path, headers))
            self._chats += path.startswith(CHAT)
            if self.expires_after is not None and self._chats > self.expires_after:
                return True
        return any(headers.get(name.lower()) != value for name, value in self.headers.items())


def _handler(gateway: Gateway) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = gateway.protocol

        def log_message(self, *_: object) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            self._serve(None)

        def do_POST(self) -> None:
            self._serve(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        def _serve(self, body: bytes | None) -> None:
            got = {name.lower(): value for name, value in self.headers.items()}
            meant = gateway.only in ("", self.path)
            if gateway.redirect and meant:
                self._say(307, b"", Location=gateway.redirect + self.path)
            elif gateway.refuses(self.path, got):
                said = f"wrong key; got {got}" if gateway.repeats else "wrong key"
                self._say(gateway.status, said.encode())
            elif self.path in gateway.pages:
                self._say(*gateway.pages[self.path])
            else:
                self._pass_on(body)

        def _say(self, status: int, body: bytes, **more: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _pass_on(self, body: bytes | None) -> None:
            asked = http.client.HTTPConnection(urlsplit(gateway.upstream).netloc, timeout=60)
            sent = {"Content-Type": "application/json"} if body else {}
            asked.request(self.command, self.path, body, sent)
            answer = asked.getresponse()
            kind = answer.headers.get("Content-Type", "text/plain")
            chunked = gateway.protocol == "HTTP/1.1"
            got = " ".join(f"{name}: {value}" for name, value in self.headers.items())
            if gateway.compresses and gateway.only in ("", self.path):
                data = gzip.compress(answer.read())
                self._say(answer.status, data, **{"Content-Type": kind, "Content-Encoding": "gzip"})
                return
            if gateway.words and self.command == "GET":
                text = answer.read().decode()
                for theirs, said in gateway.words.items():
                    text = text.replace(theirs, said)
                if gateway.echoes and "json" not in kind:
                    text += f"# got {got}\n"
                self._say(answer.status, text.encode(), **{"Content-Type": kind})
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", kind)
            if chunked:
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for data in self._parts(answer, got if gateway.echoes and "event" in kind else ""):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
            if chunked:
                self.wfile.write(b"0\r\n\r\n")
            asked.close()

        def _parts(self, answer: http.client.HTTPResponse, got: str) -> Iterator[bytes]:
            if got:
                middle = got.rindex("PLANTED") + 3
                yield f": got {got[:middle]}".encode()
                time.sleep(0.01)  # so that they arrive one by one
                yield f"{got[middle:]}\n\n".encode()
            while data := answer.read1(65536):
                yield data

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are none of a test's business."""


@contextmanager
def running(gateway: Gateway, certificate: Certificate | None = None) -> Iterator[Gateway]:
    """The gateway, which serves on loopback and knows its ``url``."""
    server = _Server(("127.0.0.1", 0), _handler(gateway))
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.server, certificate.key)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        scheme = "https"
    gateway.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield gateway
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True)
class Certificate:
    """Files in PEM form: of the authority, of the server, and the server's key."""

    authority: Path
    server: Path
    key: Path


def certificate(folder: Path) -> Certificate:
    """A certificate for 127.0.0.1 that an authority of its own has signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def builder(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named("authority of a test"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
        )

    root, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    authority = (
        builder("authority of a test", root)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **usage),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(root.public_key()), critical=False)
        .sign(root, hashes.SHA256())
    )
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        builder("server of a test", own)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()), critical=False
        )
        .sign(root, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    paths = Certificate(folder / "authority.pem", folder / "server.pem", folder / "key.pem")
    pem = serialization.Encoding.PEM
    paths.authority.write_bytes(authority.public_bytes(pem))
    paths.server.write_bytes(signed.public_bytes(pem))
    paths.key.write_bytes(
        own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
