"""Rules that judge paired runs, each as an interval of the log ratio of the new side to the old.

A known slowdown multiplies all times of the new side. That moves every rule's interval by the
slowdown's logarithm and leaves its width as it was, so each rule judges a draw once and its words
for all slowdowns follow; ``tests/test_rival.py`` holds that against judging every slowdown anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from noise import Noise, pairs_of_servers
from scipy import stats

from pytest_rllm import no_worse, pct
from pytest_rllm.metrics import Metric
from pytest_rllm.records.header import Header, Imported
from pytest_rllm.records.run import Run
from pytest_rllm.verdicts.judge import Judged, judge_family

FOREIGN = Imported("another tool", "runs", "a run", {}, 0.0, None, ("time", "TBT", "TTFT"))
"""Whole runs, as they are imported: fewer are made than blocks of our own."""
MARGIN = pct(5)
ERROR = 0.025
"""Share of each of the two wrong answers on the margin that a calibrated rule may give."""
OUR_CONFIDENCE = 0.95
THEIR_CONFIDENCE = 0.90
"""Of inference-doctor 0.4.1 as it ships."""
FASTER = 1e-6
"""The new side is judged with its times so much shorter: its interval then lies below the margin,
and where "safe" is withheld all the same, the rule asks for more than the interval."""


@dataclass(frozen=True)
class Intervals:
    """What one rule says of many draws: log ratios, one of each per draw.

    Attributes:
        estimate, low, high: of the new side to the old one.
        passes: whether the rule calls a draw safe when its interval lies below the margin; False
            where it asks for more than that.
    """

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    passes: np.ndarray

    def safe(self, slowdown: float, factor: float | np.ndarray = 1.0) -> np.ndarray:
        """Which draws are called safe with a slowdown put on (0.1 is 10 %) and the interval
        ``factor`` times as wide."""
        high = self.estimate + factor * (self.high - self.estimate)
        return (high + math.log1p(slowdown) < MARGIN.up()) & self.passes

    def not_safe(self, slowdown: float, factor: float | np.ndarray = 1.0) -> np.ndarray:
        """Which draws are called not safe."""
        low = self.estimate - factor * (self.estimate - self.low)
        return np.asarray(low + math.log1p(slowdown) > MARGIN.up())

    def calibrated(self) -> np.ndarray:
        """Per draw the factor with which each end of the interval is on the wrong side of the truth
        in ``ERROR`` of the draws, and neither wrong answer on the margin comes more often.

        The sides can be swapped in every noise here, so both ends are one sample. Each half of the
        draws gets the factor of the other half.
        """
        above = -self.estimate / (self.high - self.estimate)
        below = self.estimate / (self.estimate - self.low)
        first = np.arange(self.estimate.size) < self.estimate.size // 2
        found = np.empty(self.estimate.size)
        for half in (first, ~first):
            needed = np.concatenate([above[~half], below[~half]])
            found[half] = np.quantile(needed, 1 - ERROR, method="higher")
        return found


def ours(draws: np.ndarray, noise: Noise) -> Intervals:
    """Pairs of runs, judged by the function that judges a session."""
    found = [judged(np.stack([new * FASTER, old]), noise) for new, old in draws]
    estimate, low, high = (
        np.array([getattr(j, name) for j in found]) - math.log(FASTER)
        for name in ("estimate", "low", "high")
    )
    return Intervals(estimate, low, high, np.array([j.verdict == "holds" for j in found]))


def judged(draw: np.ndarray, noise: Noise) -> Judged:
    """Our verdict on "the new side is no worse than the margin" for one draw."""
    metric = Metric(
        noise.metric, "s", "lower", "run", lambda run: run.header.notes["value"], timed=True
    )
    pairs = pairs_of_servers(draw.shape[1])
    each = -(-draw.shape[1] // pairs)
    blocks = [
        (_run("new", i // each, new), _run("old", i // each, old))
        for i, (new, old) in enumerate(draw.T)
    ]
    claim = no_worse(metric, within=MARGIN)
    return judge_family([claim], blocks, ("new", "old"), spread=noise.machine.spread)[0]


def _run(side: str, server: int, value: float) -> Run:
    header = Header(engine=side, server=server, notes={"value": float(value)}, imported=FOREIGN)
    return Run(header, closing={"wall_s": 1.0})


def welch(draws: np.ndarray, confidence: float = THEIR_CONFIDENCE) -> Intervals:
    """The rule of inference-doctor 0.4.1: pairs are not used.

    Welch's t interval of the logarithm of the ratio of the two means. A mean's logarithm has the
    variance s**2 / (n * mean**2), by the delta method; the degrees of freedom are those of
    Satterthwaite. ``check.py`` holds it against the package itself, which takes a millisecond for
    each interval.
    """
    runs = draws.shape[2]
    means = draws.mean(axis=2)
    parts = draws.var(axis=2, ddof=1) / (runs * means**2)
    variance = parts.sum(axis=1)
    freedom = variance**2 * (runs - 1) / (parts**2).sum(axis=1)
    return _student(np.log(means[:, 0] / means[:, 1]), variance, freedom, confidence)


def paired_t(draws: np.ndarray, noise: Noise) -> Intervals:
    """Student's t interval of the pairs' log ratios, widened as ours is: between ours and theirs,
    it tells what comes of pairs and what of ranks."""
    ratios = np.log(draws[:, 0] / draws[:, 1])
    runs = ratios.shape[1]
    own = noise.machine.server_spread[noise.metric] / math.sqrt(pairs_of_servers(runs))
    found = _student(
        ratios.mean(axis=1), ratios.var(axis=1, ddof=1) / runs, runs - 1.0, OUR_CONFIDENCE
    )
    half = np.hypot(found.high - found.estimate, stats.norm.ppf(0.5 + OUR_CONFIDENCE / 2) * own)
    return Intervals(found.estimate, found.estimate - half, found.estimate + half, found.passes)


def _student(
    estimate: np.ndarray, variance: np.ndarray, freedom: np.ndarray | float, confidence: float
) -> Intervals:
    half = stats.t.ppf(0.5 + confidence / 2, freedom) * np.sqrt(variance)
    return Intervals(estimate, estimate - half, estimate + half, np.full(estimate.shape, True))
