"""How we may ask servers that somebody else runs: keys, further headers, and whom TLS trusts.

Everything that talks to an engine (the client, probes, metrics pages, health checks) takes its
headers and its TLS settings from here; what it means when a server lets us not in is in
``refusals``. What is secret is kept in objects that never show it, is sent to the servers it is
meant for and to nobody else, and is taken out of whatever a server says before that is kept.
"""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote, urlsplit

HIDDEN = "***"
LEAST_KEY = 8
"""Characters of the shortest key, and of the shortest value that is looked for in what servers say:
a shorter one would also be found where it is no secret."""
KEY, HEADER, CA_FILE = "--rllm-key-env", "--rllm-header-env", "--rllm-ca-file"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OURS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "accept", "connection"}
)
"""Headers that the client sets itself."""
_USER = re.compile(r"(?<=//)[^/\s?#]*@")


class Secret:
    """A text that does not show, whoever prints it: locals in tracebacks, too."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the socket and nothing else."""
        return self._text

    def __repr__(self) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


class HiddenBytes(bytes):
    """Bytes that may hold a secret, and so do not show."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes that are not shown>"

    __str__ = __repr__


@dataclass(frozen=True)
class Header:
    """A header that certain servers get.

    Attributes:
        origins: ``host:port`` of the servers that get it, in lower case.
        name: of the header.
        value: of the header.
        variable: of the environment, that holds the value.
        secret: what has to be hidden: the value, or the key in it.
    """

    origins: tuple[str, ...]
    name: str
    value: Secret
    variable: str
    secret: Secret


@dataclass(frozen=True)
class Access:
    """All that is needed to be let in by the servers of a session.

    Attributes:
        headers: which servers get which.
        ca_file: certificates that are trusted instead of the system's; None for the system's.
    """

    headers: tuple[Header, ...] = ()
    ca_file: str | None = None

    def of(self, url: str) -> tuple[Header, ...]:
        """The headers that the server of this URL gets."""
        return tuple(one for one in self.headers if _origin(url) in one.origins)

    @cached_property
    def _forms(self) -> tuple[str, ...]:
        """All that is looked for in what servers say, the longest first."""
        texts = {one.secret.reveal() for one in self.headers}
        forms = {
            form for text in texts for form in (text, json.dumps(text)[1:-1], quote(text, safe=""))
        }
        return tuple(sorted((f for f in forms if len(f) >= LEAST_KEY), key=len, reverse=True))

    def without_secrets(self, text: str) -> str:
        """The text, with HIDDEN where a server repeats a secret."""
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return text

    def without_secret_bytes(self, data: bytes) -> bytes:
        """The same for bytes."""
        for form in self._forms:
            data = data.replace(form.encode(), HIDDEN.encode())
        return data

    def without_secret_parts(self, parts: Sequence[bytes]) -> list[bytes]:
        """The same for as many parts of one text: a secret may begin in one and end in another."""
        if not self._forms:
            return list(parts)
        whole, found, begin = b"".join(parts), list[bytes](), 0
        spans = [m.span() for m in re.finditer(self._pattern, whole)]
        for part in parts:
            end, at, kept = begin + len(part), begin, b""
            for first, last in spans:
                if begin <= first < end:
                    kept += whole[at:first] + HIDDEN.encode()
                if last > at and first < end:
                    at = min(last, end)
            found.append(kept + whole[at:end])
            begin = end
        return found

    @cached_property
    def _pattern(self) -> bytes:
        return b"|".join(re.escape(form.encode()) for form in self._forms)

    def __reduce__(self) -> tuple[type[Access], tuple[tuple[Header, ...], str | None]]:
        return Access, (self.headers, self.ca_file)  # without what is cached


_now = Access()


def current() -> Access:
    """What this process uses."""
    return _now


def use(access: Access) -> None:
    """Let this process use it from now on; ``Access()`` forgets all keys."""
    global _now
    _now = access


def child_environment(more: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Variables for a child process: ours without those that hold keys, and more (None removes)."""
    hidden = {one.variable for one in _now.headers}
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {name: value for name, value in {**kept, **(more or {})}.items() if value is not None}


# ---- from options


def access_from(
    keys: Sequence[str], headers: Sequence[str], ca_file: str | None, urls: Sequence[str]
) -> Access:
    """What the options say.

    Args:
        keys: of ``--rllm-key-env``: ``VARIABLE`` or ``HOST[:PORT]=VARIABLE``.
        headers: of ``--rllm-header-env``: ``Name=VARIABLE`` or ``HOST[:PORT]=Name=VARIABLE``.
        ca_file: of ``--rllm-ca-file``.
        urls: that the options name; what names no host is for these.

    Raises:
        ValueError: what is wrong with one of them; no value is in the message.
    """
    made = []
    for text in keys:
        host, _, variable = text.rpartition("=")
        value = _value(KEY, variable)
        if len(value) < LEAST_KEY:
            raise ValueError(
                f"{KEY}: the variable {variable} holds fewer than {LEAST_KEY} characters: is it a "
                "key?"
            )
        origins = _origins(KEY, host, text, urls)
        bearer = Secret(f"Bearer {value}")
        made.append(Header(origins, "Authorization", bearer, variable, Secret(value)))
    for text in headers:
        place, _, variable = text.rpartition("=")
        host, _, name = place.rpartition("=")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{HEADER} takes NAME=VARIABLE or HOST=NAME=VARIABLE, not {text!r}")
        if name.lower() in _OURS:
            raise ValueError(f"{HEADER}: {name} is a header that the client sets itself")
        value = _value(HEADER, variable)
        origins = _origins(HEADER, host, text, urls)
        # Of "Basic abc" a server may repeat "abc" alone.
        secret = value.split()[-1] if name.lower().endswith("authorization") else value
        made.append(Header(origins, name, Secret(value), variable, Secret(secret)))
    _no_header_twice(made)
    access = Access(tuple(made), ca_file)
    if ca_file is not None:
        tls_context(access)
    return access


def _value(option: str, variable: str) -> str:
    if not _VARIABLE.fullmatch(variable):
        raise ValueError(
            f"{option} takes the name of an environment variable, and what it was given is none; a "
            "key itself is never given: put it into a variable, export NAME=..., and say NAME"
        )
    value = os.environ.get(variable)
    if not value:
        state = "empty" if value == "" else "not set"
        raise ValueError(
            f"{option}: the environment variable {variable} is {state}; set it where pytest is "
            f"started, export {variable}=..."
        )
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise ValueError(
            f"{option}: the variable {variable} holds characters that no header may have, such as "
            "the end of a line; store the value without them"
        )
    return value


def _origins(option: str, host: str, text: str, urls: Sequence[str]) -> tuple[str, ...]:
    host = host.lower()
    if host and re.search(r"[^:]:\d+$", host):
        return (host,)
    origins = list(dict.fromkeys(map(_origin, urls)))
    if host:
        meant = tuple(one for one in origins if one.rpartition(":")[0] == host)
        if not meant:
            raise ValueError(
                f"{option}={text}: no URL of the options is of {host}: correct the host, or say "
                f"{host}:PORT=..."
            )
        return meant
    if not origins:
        raise ValueError(
            f"{option} is for a server that runs already: name one by its URL, --rllm-engine "
            "NAME@http://HOST:PORT"
        )
    hosts = sorted({one.rpartition(":")[0] for one in origins})
    if len(hosts) > 1:
        raise ValueError(
            f"{option}={text}: which of {', '.join(hosts)} gets it? Nothing is sent to a server "
            f"that it is not meant for: say {hosts[0]}={text}"
        )
    return tuple(origins)


def _origin(url: str) -> str:
    """``host:port`` in lower case."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{(parts.hostname or '').lower()}:{port}"


def _no_header_twice(headers: Sequence[Header]) -> None:
    seen: set[tuple[str, str]] = set()
    for one in headers:
        for origin in one.origins:
            if (origin, one.name.lower()) in seen:
                raise ValueError(f"{HEADER}: {origin} is given the header {one.name} twice")
            seen.add((origin, one.name.lower()))


# ---- what is sent, and to whom


def headers_for(url: str) -> dict[str, Secret]:
    """Headers that a request to this URL has on top."""
    return {one.name: one.value for one in _now.of(url)}


def header_lines(url: str) -> HiddenBytes:
    """The same as lines of a request, each with its line end."""
    lines = (f"{name}: {value.reveal()}\r\n" for name, value in headers_for(url).items())
    return HiddenBytes("".join(lines).encode("ascii"))


def tls_context(access: Access | None = None) -> ssl.SSLContext:
    """Certificates and host names are always checked.

    Raises:
        ValueError: the CA file cannot be read, or holds no certificate.
    """
    ca_file = (access or _now).ca_file
    if ca_file is None:
        return ssl.create_default_context()
    if not Path(ca_file).is_file():
        raise ValueError(f"{CA_FILE}: there is no file {ca_file}")
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(
            f"{CA_FILE}: {ca_file} holds no certificates in PEM form ({error}); give the file of "
            "the authority that signed the server's certificate"
        ) from error


def checked_url(url: str) -> str:
    """The URL, when it is one of a server and holds nothing secret.

    Raises:
        ValueError: why it cannot be used; without what may be secret in it.
    """
    shown = shown_url(url)
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError as error:
        raise ValueError(f"not the URL of a server: {shown} ({error})") from None
    if parts.scheme in ("http", "https") and not parts.hostname:
        raise ValueError(
            f"not the URL of a server: {shown!r} names no host: write http://HOST:PORT"
        )
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"not the URL of a server: {shown}; write http:// or https:// and a host")
    if "@" in parts.netloc:
        raise ValueError(
            f"{shown}: a URL with a user or password would show them in lists of processes: leave "
            f"them out, and name a variable that holds the key ({KEY} MY_KEY) or the whole header "
            f"({HEADER} Authorization=MY_HEADER)"
        )
    if parts.query or parts.fragment:
        raise ValueError(
            f"{shown}: a URL of a server has no ? and no #: give its base, and a key by {KEY}"
        )
    return url


def shown_url(text: str) -> str:
    """A text with URLs, without users, passwords and queries in them."""
    text = _USER.sub(f"{HIDDEN}@", text)
    return re.sub(r"(https?://[^\s?#]*)[?#]\S*", rf"\1?{HIDDEN}", text)
