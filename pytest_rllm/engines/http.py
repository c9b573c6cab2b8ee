"""Asking a server one thing, outside of what is measured."""

from __future__ import annotations

import json
import time
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from io import BytesIO
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from .. import access
from ..refusals import Refusal, about_tls

NO_ANSWER = (OSError, HTTPException)
"""What :func:`ask` raises when no server answers, or not as one does over HTTP."""
MOST_BYTES = 16 * 2**20
"""A longer answer is an error: none of an engine's is."""
DEADLINES = 4
"""An answer that arrives bit by bit has failed after this many timeouts."""
SHOWN = 300


class Refused(HTTPError):
    """The server answered with another status than 200, or not as an engine does.

    ``code`` is the status, ``read()`` the answer; the message says what to do, where that is known.
    """

    def __init__(self, url: str, status: int, reason: str, body: bytes, advice: str | None) -> None:
        super().__init__(url, status, reason, None, BytesIO(body))  # type: ignore[arg-type]
        self.advice = advice
        said = " ".join(body[:SHOWN].decode("utf-8", "replace").split())
        self._text = f"HTTP {status} {reason}".rstrip() + (f": {said}" if said else "")
        if advice:
            self._text += f"; {advice}"

    def __str__(self) -> str:
        return self._text


def ask(url: str, body: dict[str, Any] | None = None, timeout_s: float = 60) -> bytes:
    """GET, or POST as JSON, from a server: never through a proxy, as when it is measured, and no
    redirect is followed.

    Raises:
        OSError, HTTPException: it does not answer, or with a status of failure (:class:`Refused`).
    """
    try:
        status, reason, headers, data = _asked(url, body, timeout_s)
    except NO_ANSWER as error:
        # A traceback through the sending of a request would show its headers among the locals.
        error.__cause__ = error.__context__ = None
        if isinstance(error, TimeoutError):
            raise TimeoutError(f"{url} was silent for {timeout_s:g} s") from None
        if hint := about_tls(error):
            raise OSError(f"{type(error).__name__}: {error}{hint}") from None
        raise error.with_traceback(None) from None
    data = access.current().without_secret_bytes(data)
    refusal = Refusal(
        status, headers.get("location", ""), headers.get("content-encoding", "").lower()
    )
    advice = refusal.advice(url)
    if not 200 <= status < 300 or advice:
        shown = b"" if refusal.encoding else data
        raise Refused(url, status, access.current().without_secrets(reason), shown, advice)
    return data


def _asked(
    url: str, body: dict[str, Any] | None, timeout_s: float
) -> tuple[int, str, dict[str, str], bytes]:
    """Status, reason, headers by lower-case name, and body of an answer."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise OSError(f"not the URL of a server: {access.shown_url(url)}")
    connection = (
        HTTPSConnection(parts.hostname, parts.port, timeout=timeout_s, context=access.tls_context())
        if parts.scheme == "https"
        else HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    )
    data = None if body is None else json.dumps(body).encode()
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    given_up = time.monotonic() + DEADLINES * timeout_s
    try:
        connection.putrequest("GET" if data is None else "POST", path, skip_accept_encoding=True)
        connection.putheader("User-Agent", "pytest-rllm")
        connection.putheader("Accept-Encoding", "identity")
        connection.putheader("Content-Type", "application/json")
        if data is not None:
            connection.putheader("Content-Length", str(len(data)))
        for name, value in access.headers_for(url).items():
            connection.putheader(name, value.reveal())
        connection.endheaders(data)
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, answer.reason or "", headers, _read(answer, url, given_up)
    finally:
        connection.close()


def _read(answer: HTTPResponse, url: str, given_up: float) -> bytes:
    pieces, size, promised = list[bytes](), 0, answer.length
    while promised is None or size < promised:
        piece = answer.read1(65536 if promised is None else min(65536, promised - size))
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
        if size > MOST_BYTES:
            raise OSError(f"the answer of {url} is longer than {MOST_BYTES >> 20} MiB")
        if time.monotonic() > given_up:
            raise TimeoutError(f"the answer of {url} did not end in time")
    if promised is not None and size < promised:
        raise OSError(f"the answer of {url} ended before its end")
    return b"".join(pieces)
