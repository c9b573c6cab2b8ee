"""The five verbs: each is one rule on the confidence interval of a paired effect.

The effect is that of the first arm against the second. A verb's margin says how large an effect it
speaks of, as a ratio (``pct``) or as a difference of shares (``pp``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..metrics.base import Metric
from .intervals import Interval

Verdict = Literal["holds", "refuted", "inconclusive", "invalid"]
Verb = Literal["lower", "higher", "not_lower", "not_higher", "unchanged"]
_DOWNWARD = ("lower", "not_lower", "unchanged")


@dataclass(frozen=True)
class Margin:
    """A size of effect: ``percent`` is a ratio between the arms, ``points`` a difference."""

    size: float
    scale: Literal["percent", "points"]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.size) and self.size >= 0):
            raise ValueError(f"a margin is a finite number of at least 0, not {self.size}")

    def up(self) -> float:
        """The margin upwards on the scale of the effects (log ratio, or difference of shares)."""
        return math.log1p(self.size / 100) if self.scale == "percent" else self.size / 100

    def down(self) -> float:
        """The margin downwards, as a negative number."""
        if self.scale == "points":
            return -self.size / 100
        if self.size >= 100:
            raise ValueError("nothing can be lower by 100 % or more")
        return math.log1p(-self.size / 100)

    def __str__(self) -> str:
        return f"{self.size:g} {'%' if self.scale == 'percent' else 'pp'}"


def pct(size: float) -> Margin:
    """A margin in per cent of the second arm's value."""
    return Margin(size, "percent")


def pp(size: float) -> Margin:
    """A margin in percentage points, for shares of 1 such as accuracy or KV-cache use."""
    return Margin(size, "points")


@dataclass(frozen=True)
class Claim:
    """One thing that a finding says of a metric."""

    verb: Verb
    metric: Metric
    margin: Margin

    def __post_init__(self) -> None:
        if self.margin.scale == "points" and self.metric.unit != "share":
            raise ValueError(
                f"{self.metric} is in {self.metric.unit}: percentage points (pp) are for shares, "
                "give its margin in per cent (pct)"
            )
        if self.verb in _DOWNWARD:
            self.margin.down()

    def verdict(self, low: float, high: float) -> Verdict:
        """What an interval of the effect says, and nothing else."""
        up, down = self.margin.up(), self.margin.down() if self.verb in _DOWNWARD else 0.0
        match self.verb:
            case "lower":
                holds, refuted = high < down, low > down
            case "higher":
                holds, refuted = low > up, high < up
            case "not_lower":
                holds, refuted = low > down, high < down
            case "not_higher":
                holds, refuted = high < up, low > up
            case "unchanged":
                holds, refuted = low > down and high < up, high < down or low > up
        return "holds" if holds else "refuted" if refuted else "inconclusive"

    def of(self, effect: Interval) -> Verdict:
        """The verdict of an effect."""
        return self.verdict(effect.low, effect.high)

    def nearest(self, estimate: float) -> float:
        """The bound of the margin that the estimate has to be told from."""
        if self.verb in ("higher", "not_higher"):
            return self.margin.up()
        if self.verb == "unchanged":
            return self.margin.up() if estimate > 0 else self.margin.down()
        return self.margin.down()

    @property
    def slug(self) -> str:
        """Metric, verb and margin as a key of stored numbers: ``tbt-lower-10pct``."""
        scale = "pct" if self.margin.scale == "percent" else "pp"
        return f"{self.metric.slug}-{self.verb.replace('_', '-')}-{self.margin.size:g}{scale}"

    def __str__(self) -> str:
        words = {
            "lower": "lower by",
            "higher": "higher by",
            "not_lower": "not lower by more than",
            "not_higher": "not higher by more than",
            "unchanged": "unchanged within",
        }
        if self.margin.size == 0 and self.verb in ("lower", "higher"):
            return f"{self.metric} {self.verb}"
        return f"{self.metric} {words[self.verb]} {self.margin}"


def lower(metric: Metric, *, by: Margin) -> Claim:
    """The first arm's value is lower, by more than the margin."""
    return Claim("lower", metric, by)


def higher(metric: Metric, *, by: Margin) -> Claim:
    """The first arm's value is higher, by more than the margin."""
    return Claim("higher", metric, by)


def not_lower(metric: Metric, *, by_more_than: Margin) -> Claim:
    """The first arm loses no more than the margin (non-inferiority)."""
    return Claim("not_lower", metric, by_more_than)


def not_higher(metric: Metric, *, by_more_than: Margin) -> Claim:
    """The first arm exceeds the second by no more than the margin."""
    return Claim("not_higher", metric, by_more_than)


def unchanged(metric: Metric, *, within: Margin) -> Claim:
    """The arms are equivalent: the whole interval lies within the margin on both sides."""
    return Claim("unchanged", metric, within)


def no_worse(metric: Metric, *, within: Margin) -> Claim:
    """The first arm is no worse than the margin, in the direction that the metric declares; a
    metric that has none must stay unchanged."""
    verbs: dict[str, Verb] = {"higher": "not_lower", "lower": "not_higher", "neither": "unchanged"}
    return Claim(verbs[metric.better], metric, within)
