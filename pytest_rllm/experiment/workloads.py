"""Who asks when, and under which sampling parameters. Pure and seeded: nothing is sent here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Sampling:
    """What one request asks of the sampler; the paper's temperature and top-p by default.

    Attributes:
        temperature: 0 is greedy.
        top_p: nucleus mass, in (0, 1].
        max_tokens: output budget in tokens, reasoning and answer together.
        fixed_length: run every answer to exactly ``max_tokens``, whatever ends it; for speed.
    """

    max_tokens: int
    temperature: float = 0.6
    top_p: float = 0.95
    fixed_length: bool = False

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"Sampling.max_tokens is at least 1, not {self.max_tokens}")
        if not (0 <= self.temperature < math.inf and 0 < self.top_p <= 1):
            raise ValueError(
                "Sampling wants temperature >= 0 and 0 < top_p <= 1, "
                f"not {self.temperature} and {self.top_p}"
            )


@dataclass(frozen=True)
class Workload:
    """When the requests of a run start.

    Attributes:
        kind: ``"together"`` (all at once: the paper's batch), ``"closed"`` (``in_flight`` at any
            time, the next starts when one ends), ``"gamma"`` (open loop, gaps drawn from a Gamma
            distribution).
        in_flight: for ``closed``, requests in flight.
        rate: for ``gamma``, mean arrivals per second.
        cv: for ``gamma``, coefficient of variation of the gaps: 1 is a Poisson process, above 1
            is bursty.
        seed: draws of the gaps; one seed gives one schedule.
    """

    kind: Literal["together", "closed", "gamma"]
    in_flight: int | None = None
    rate: float | None = None
    cv: float | None = None
    seed: int = 0

    def starts(self, n: int) -> list[float] | None:
        """Intended starts of ``n`` requests in seconds from the start of the run, ascending.

        None for a closed loop, whose starts depend on when answers end.
        """
        if self.kind == "closed":
            return None
        if self.kind == "together":
            return [0.0] * n
        assert self.rate is not None
        assert self.cv is not None
        shape = 1.0 / (self.cv * self.cv)
        rng = np.random.default_rng(self.seed)
        gaps = rng.gamma(shape, 1.0 / (self.rate * shape), size=n)
        return [float(t) for t in np.cumsum(gaps) - gaps[0]] if n else []

    def seeded(self, seed: int) -> Workload:
        """The same load with another draw of arrivals."""
        return Workload(self.kind, self.in_flight, self.rate, self.cv, seed)

    def __str__(self) -> str:
        if self.kind == "together":
            return "together"
        if self.kind == "closed":
            return f"{self.in_flight} in flight"
        return f"{self.rate:g}/s, cv {self.cv:g}"


def together() -> Workload:
    """All requests of a run start at once, as in the paper's batches."""
    return Workload("together")


def closed(in_flight: int) -> Workload:
    """``in_flight`` requests at any time; the next starts when one ends."""
    if in_flight < 1:
        raise ValueError(f"closed(in_flight) needs at least 1 request in flight, not {in_flight}")
    return Workload("closed", in_flight=in_flight)


def gamma(rate: float, cv: float, seed: int = 0) -> Workload:
    """Open loop with Gamma gaps: ``rate`` per second on average, coefficient of variation ``cv``.

    Source: BurstGPT-like load in Li et al., ICLR 2026.
    """
    if not (rate > 0 and math.isfinite(rate) and cv > 0 and math.isfinite(cv)):
        raise ValueError(f"gamma(rate, cv) needs finite numbers above 0, not {rate} and {cv}")
    return Workload("gamma", rate=rate, cv=cv, seed=seed)


def poisson(rate: float, seed: int = 0) -> Workload:
    """Open loop with exponential gaps: a Gamma process whose coefficient of variation is 1."""
    return gamma(rate, 1.0, seed)
