"""The five verbs: each is one rule on the confidence interval of a paired effect.

The effect is that of the first arm against the second. A verb's margin says how large an effect it
speaks of, as a ratio (``pct``) or as a difference of shares (``pp``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .metrics import Metric, MetricUnavailable
from .samples import Run
from .stats import Interval, mean_interval, share_interval

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

    def nearest(self, estimate: float) -> float:
        """The bound of the margin that the estimate has to be told from."""
        if self.verb in ("higher", "not_higher"):
            return self.margin.up()
        if self.verb == "unchanged":
            return self.margin.up() if estimate > 0 else self.margin.down()
        return self.margin.down()

    def __str__(self) -> str:
        words = {
            "lower": "lower by",
            "higher": "higher by",
            "not_lower": "not lower by more than",
            "not_higher": "not higher by more than",
            "unchanged": "unchanged within",
        }
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


@dataclass(frozen=True)
class Judged:
    """A claim with its effect and verdict; plain values, so that it travels as JSON.

    ``estimate``, ``low`` and ``high`` are log ratios when ``scale`` is ``percent`` and differences
    when it is ``points``; ``detectable`` is the minimum detectable effect beyond the margin, on the
    same scale; ``levels`` are the arms' mean values in the metric's unit.
    """

    claim: str
    metric: str
    scale: str
    verdict: Verdict
    why: str | None
    arms: tuple[str, str]
    levels: tuple[float, float] | None = None
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    replicate: str = ""
    detectable: float | None = None
    further: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; a bound that is not known is None, as JSON has no infinity."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }

    def in_percent(self, value: float) -> float:
        """A value on the effect's scale as per cent or percentage points."""
        return 100 * (math.expm1(value) if self.scale == "percent" else value)


def judge(
    claim: Claim,
    blocks: Sequence[tuple[Run, Run]],
    arms: tuple[str, str],
    invalid: Sequence[str] = (),
) -> Judged:
    """Judge a claim on paired run blocks; ``invalid`` are reasons why they cannot be judged."""
    metric, scale = claim.metric, claim.margin.scale
    about: dict[str, Any] = {
        "claim": str(claim),
        "metric": metric.name,
        "scale": scale,
        "arms": arms,
    }
    if invalid:
        return Judged(verdict="invalid", why="; ".join(invalid), **about)
    try:
        levels = _levels(metric, blocks)
        effect, replicate = _effect(metric, scale, blocks)
    except (MetricUnavailable, ValueError) as error:
        return Judged(verdict="invalid", why=str(error), **about)
    verdict = claim.verdict(effect.low, effect.high)
    further = effect.further(claim.nearest(effect.estimate)) if verdict == "inconclusive" else None
    return Judged(
        verdict=verdict,
        why=effect.why,
        levels=levels,
        estimate=effect.estimate,
        low=effect.low,
        high=effect.high,
        n=effect.n,
        replicate=replicate,
        detectable=effect.detectable,
        further=further,
        **about,
    )


def _levels(metric: Metric, blocks: Sequence[tuple[Run, Run]]) -> tuple[float, float]:
    firsts, seconds = zip(*((metric.of_run(a), metric.of_run(b)) for a, b in blocks), strict=True)
    return sum(firsts) / len(blocks), sum(seconds) / len(blocks)


def _effect(metric: Metric, scale: str, blocks: Sequence[tuple[Run, Run]]) -> tuple[Interval, str]:
    """Paired by question where the arms were asked the same ones, else by block."""
    if metric.per == "question" and _same_questions(blocks):
        values: list[tuple[dict[str, float], dict[str, float]]] = [
            (metric.of_questions(a), metric.of_questions(b)) for a, b in blocks
        ]
        firsts = _averaged([a for a, _ in values])
        seconds = _averaged([b for _, b in values])
        shared = [question for question in firsts if question in seconds]
        templates = {s.prompt.id: s.prompt.template for a, _ in blocks for s in a.samples}
        effects = [_one_effect(metric, scale, firsts[q], seconds[q]) for q in shared]
        interval = share_interval if scale == "points" else mean_interval
        return interval(effects, [templates[q] for q in shared]), "questions"
    effects = [_one_effect(metric, scale, metric.of_run(a), metric.of_run(b)) for a, b in blocks]
    return mean_interval(effects), "blocks"


def _same_questions(blocks: Sequence[tuple[Run, Run]]) -> bool:
    return all(
        {s.prompt.id for s in a.samples} == {s.prompt.id for s in b.samples} for a, b in blocks
    )


def _averaged(blocks: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean per question over the blocks in which it was asked."""
    questions = dict.fromkeys(question for block in blocks for question in block)
    return {
        q: sum(block[q] for block in blocks if q in block) / sum(q in block for block in blocks)
        for q in questions
    }


def _one_effect(metric: Metric, scale: str, first: float, second: float) -> float:
    if scale == "points":
        return first - second
    if first <= 0 or second <= 0:
        raise ValueError(f"{metric} was {first:g} against {second:g}: a ratio needs both above 0")
    return math.log(first / second)
