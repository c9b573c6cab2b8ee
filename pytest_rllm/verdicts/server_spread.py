"""How far two servers of one build lie apart, and how well that is known.

Imports nothing of ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ServerSpread:
    """The scatter of the effect between pairs of fresh servers of one build.

    Attributes:
        sd: standard deviation, on the scale of the effects (log ratio).
        df: degrees of freedom behind it; infinite where it is known exactly.
    """

    sd: float
    df: float = math.inf

    def pooled(self, pairs: Sequence[Sequence[float]]) -> ServerSpread:
        """With what the servers of a session show of it.

        Both variances are weighted by their degrees of freedom, so a guess with few of them gives
        way to what is seen. Seen is the variance of the pairs' means, less what the scatter of
        their blocks explains of it.

        Args:
            pairs: per pair of servers the effects of its blocks; fewer than two pairs, or pairs of
                one block each, show nothing.
        """
        k, n = len(pairs), sum(len(effects) for effects in pairs)
        if k < 2 or n == k or math.isinf(self.df):
            return self
        between = float(np.var([np.mean(effects) for effects in pairs], ddof=1))
        squares = sum(float(np.var(effects)) * len(effects) for effects in pairs)
        explained = squares / (n - k) * float(np.mean([1 / len(effects) for effects in pairs]))
        df = self.df + k - 1
        variance = (self.df * self.sd**2 + (k - 1) * max(0.0, between - explained)) / df
        return ServerSpread(math.sqrt(variance), df)

    def between_engines(self, other: ServerSpread) -> ServerSpread:
        """Between a server of one engine and one of another: each gives half of the variance, with
        the degrees of freedom of Satterthwaite (Biometrics Bulletin 1946)."""
        return _summed((self.sd**2 / 2, self.df), (other.sd**2 / 2, other.df))

    def no_surer_than(self, other: ServerSpread) -> ServerSpread:
        """At least as wide as another one, and known no better."""
        return ServerSpread(max(self.sd, other.sd), min(self.df, other.df))

    def with_another(self, other: ServerSpread) -> ServerSpread:
        """Of the difference of two effects, each between servers of its own."""
        return _summed((self.sd**2, self.df), (other.sd**2, other.df))

    def of_mean(self, pairs: float) -> ServerSpread:
        """Of the mean of so many pairs of servers."""
        return ServerSpread(self.sd / math.sqrt(pairs), self.df)

    def half_width(self, confidence: float) -> float:
        """Half of the two-sided interval that this scatter alone gives, by Student's t."""
        from scipy import stats

        return float(stats.t.ppf(0.5 + confidence / 2, self.df)) * self.sd


NO_SPREAD = ServerSpread(0.0)
"""Of what no server's speed moves, and of two arms on one server."""


def _summed(*parts: tuple[float, float]) -> ServerSpread:
    """Of independent parts, each a variance and its degrees of freedom."""
    variance = sum(part for part, _ in parts)
    if not variance:
        return ServerSpread(0.0, min(df for _, df in parts))
    share = sum(part**2 / df for part, df in parts)
    return ServerSpread(math.sqrt(variance), variance**2 / share if share else math.inf)
