"""Metrics of what a server is, whatever it is asked: the room of its KV cache, and its numerics.

They are exact: what a server tells of itself has no sampling error.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..records.run import Run
from .base import NotTold, metric

FAR_OFF = 2.0
"""Nats: a token's log probability that moves by more is no rounding any more."""


@metric("KV room", "token", better="higher", series=("kv_capacity_tokens",), exact=True)
def KV_ROOM(run: Run) -> float:
    """Tokens that the KV cache of the server has room for."""
    values = run.series.get("kv_capacity_tokens", ([], []))[1]
    if not values:
        missing = (run.closing or {}).get("series_missing", {})
        raise NotTold(
            missing.get("kv_capacity_tokens", "the engine did not tell the room of its KV cache")
        )
    return values[0]


@metric("changed numerics", "share", better="neither", per="pair", exact=True)
def CHANGED_NUMERICS(first: Run, second: Run) -> dict[str, float]:
    """Share of the tokens of a fixed greedy probe whose log probability is not bit for bit that of
    the other arm: 0 where a number format is not really on."""
    return _per_token(_moved(first, second) > 0)


@metric("plausible numerics", "share", better="higher", per="pair", exact=True)
def PLAUSIBLE_NUMERICS(first: Run, second: Run) -> dict[str, float]:
    """Share of the tokens of a fixed greedy probe whose log probability lies within FAR_OFF nats of
    the other arm's: a format that rounds keeps most, one that is broken few."""
    return _per_token(_moved(first, second) <= FAR_OFF)


def _moved(first: Run, second: Run) -> npt.NDArray[np.float64]:
    """How far each token's log probability lies from the other arm's, in nats."""
    one, other = first.header.signature, second.header.signature
    if not one or len(one) != len(other):
        raise NotTold("the engine told no log probabilities of the probe")
    moved: npt.NDArray[np.float64] = np.abs(np.array(one) - np.array(other))
    return moved


def _per_token(of: npt.NDArray[np.bool_]) -> dict[str, float]:
    return {f"token {i}": float(value) for i, value in enumerate(of)}
