"""What a server is asked between its runs: its API, its numerics, and how fast it is just now."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

from ..engines.api_snapshot import ApiSnapshot, observe
from ..engines.base import EngineError
from ..engines.http import NO_ANSWER, ask
from ..engines.server import Server
from ..refusals import not_let_in
from .sources import EngineDied

SIGNATURE_PROMPT = "Work modulo 100. a=47; b=a+35; c=b-18; d=c*3; e=d+b. Find e."
SIGNATURE_TOKENS = 48
ANCHOR_TOKENS = 24
SHOWN = 200
"""Bytes of an answer in a message."""
PROBE_TRIES = 3
"""A server that fails a share of its requests shall be measured, not end the session: a probe is
asked again, and the record says how many were refused."""


@dataclass
class Probes:
    """Asks servers, and counts the probes that each of them refused."""

    _refused: dict[int, int] = field(default_factory=dict, init=False)

    def refused(self, server: Server) -> int:
        """Probes that a server has refused so far."""
        return self._refused.get(server.number, 0)

    def snapshot(self, server: Server) -> ApiSnapshot:
        """A server's API; asked again when a request of it fails, as single requests may.

        Raises:
            EngineError: it does not answer.
        """
        for _ in range(PROBE_TRIES - 1):
            try:
                return observe(server)
            except EngineError as error:
                if isinstance(error.__cause__, TimeoutError) or not_let_in(str(error)):
                    raise
                self._count_refused(server)
        return observe(server)

    def signature(self, server: Server, engine: str) -> tuple[float, ...]:
        """Log probabilities of a greedy answer's first tokens: the numerics of this serving.

        Args:
            server: that is asked.
            engine: how arms name its engine.

        Raises:
            EngineDied: it has ended.
            EngineError: it refuses every time, wants a key, or answers as its kind does not.
        """
        if not server.engine.capabilities.log_probabilities:
            return ()
        said = self._greedy(server, engine, SIGNATURE_TOKENS, log_probabilities=True)
        try:
            return tuple(server.engine.log_probabilities(json.loads(said)))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise EngineError(
                f"{server.engine.label} answered a probe otherwise than its kind does "
                f"({type(error).__name__}: {error}): {said[:SHOWN].decode(errors='replace')!r}\n"
                f"{server.last_words()}"
            ) from None

    def anchor_s(self, server: Server, engine: str) -> float:
        """Seconds that one fixed greedy request takes, alone: the machine's speed right now, where
        no load that is no engine can be timed beside the server.

        Args, Raises: as of :meth:`signature`.
        """
        begun = time.monotonic()
        self._greedy(server, engine, ANCHOR_TOKENS)
        return time.monotonic() - begun

    def _greedy(
        self, server: Server, engine: str, tokens: int, *, log_probabilities: bool = False
    ) -> bytes:
        """The answer to one fixed question, so many tokens long."""
        body = server.greedy_body(SIGNATURE_PROMPT, tokens, log_probabilities=log_probabilities)
        url = f"{server.url}/v1/chat/completions"
        for left in reversed(range(PROBE_TRIES)):
            try:
                return ask(url, body)
            except NO_ANSWER as error:
                if not_let_in(str(error)):
                    raise EngineError(f"{server.engine.label}: POST {url}: {error}") from None
                self._count_refused(server)
                if left and not isinstance(error, TimeoutError):
                    continue
                if not server.answers(server.engine.health_path):
                    raise EngineDied(
                        engine,
                        f"{server.engine.label} died between two runs, status {server.status}: "
                        f"POST {url}: {error}\n{server.last_words()}",
                    ) from None
                raise EngineError(
                    f"{server.engine.label} refused a probe {PROBE_TRIES} times: POST {url}: "
                    f"{error}\n{server.last_words()}"
                ) from None
        raise AssertionError("the last try returns or raises")

    def _count_refused(self, server: Server) -> None:
        self._refused[server.number] = self.refused(server) + 1
