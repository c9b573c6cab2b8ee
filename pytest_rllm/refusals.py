"""What it means when a server, or a gateway before it, does not let us in, and what to do."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from .access import CA_FILE, KEY, current, shown_url


@dataclass(frozen=True)
class Refusal:
    """An answer that is no answer of an engine's.

    Attributes:
        status: of HTTP.
        location: where it redirects to; empty where it does not.
        encoding: how the body is compressed; empty when it is not.
    """

    status: int
    location: str = ""
    encoding: str = ""

    def advice(self, url: str) -> str | None:
        """What it means and what to do, in a sentence; None where the answer speaks for itself."""
        sent = [one for one in current().of(url) if one.name.lower() == "authorization"]
        if self.status in (401, 403):
            if sent:
                return (
                    f"the server refuses the key in {sent[0].variable}: it may have expired, or "
                    "not be for this model; put a valid one into that variable"
                )
            return (
                "the server wants a key, and none is meant for it: name the environment variable "
                f"that holds one, {KEY} VARIABLE"
            )
        if self.status == 407:
            return "a proxy wants a password, and no proxy is used: give the server's own URL"
        if 300 <= self.status < 400:
            place = shown_url(current().without_secrets(self.location))
            to = f" to {place}" if place else ""
            return (
                f"the server redirects{to}, which is not followed, because a key would travel on "
                "and times would count both: give the final URL"
            )
        if self.encoding not in ("", "identity"):
            return compressed(self.encoding)
        return None


def compressed(encoding: str) -> str:
    """What to do about a server that compresses an answer."""
    return (
        f"the server compresses its answers ({encoding}) though none is asked for: compression "
        "holds back what was generated, so switch it off in the server or in the gateway before it"
    )


NOT_LET_IN = ("the server refuses the key", "the server wants a key", "the server redirects")
"""How sentences begin that tell of our access, and not of the engine."""


def not_let_in(error: str | None) -> bool:
    """Whether a request's error is of our access to the server, and tells nothing of the engine."""
    return error is not None and any(words in error for words in NOT_LET_IN)


def about_tls(error: BaseException) -> str:
    """What to do about a failed TLS connection, to append to its message; empty for others."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"; the server's certificate is not trusted: give the file of the authority that "
            f"signed it, {CA_FILE} FILE, or the name that it was made for"
        )
    if isinstance(error, ssl.SSLError):
        return "; the server does not speak TLS there: is it http:// and not https://?"
    return ""
