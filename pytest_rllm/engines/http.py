"""Asking a server one thing, outside of what is measured."""

from __future__ import annotations

import json
import urllib.request
from http.client import HTTPException
from typing import Any

NO_ANSWER = (OSError, HTTPException)
"""What :func:`ask` raises when no server answers, or not as one does over HTTP."""


def ask(url: str, body: dict[str, Any] | None = None, timeout_s: float = 60) -> bytes:
    """GET, or POST as JSON, from a server: never through a proxy, as when it is measured.

    Raises:
        OSError, HTTPException: it does not answer, or with a status of failure.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310
    with _DIRECT.open(request, timeout=timeout_s) as response:
        return bytes(response.read())


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
