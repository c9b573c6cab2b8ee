"""Paired effects of one metric: how they are made from run blocks, and the interval of them by how
they are averaged."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..metrics.base import Metric, MetricUnavailable
from ..records.run import Run, ServerId
from .intervals import CONFIDENCE, Interval, finite
from .location import location
from .means import mean, padded
from .server_spread import NO_SPREAD, ServerSpread
from .shares import share

Kind = Literal["location", "mean", "share", "exact"]
"""How effects are averaged; a function of that name explains each but the last: values without
sampling error are not averaged, their interval goes from the least to the largest."""
Blocks = Sequence[tuple[Run, Run]]
DOUBLED = math.log(2)
"""For ratios: the change at least that one more pair may show."""


@dataclass(frozen=True)
class Effects:
    """Paired effects of one metric, from which an interval of any confidence can be had.

    Attributes:
        values: one per replicate, finite.
        kind: how they are averaged.
        clusters: per effect, what it shares with others; None when all are independent.
        spread: of the typical effect, which the values cannot show: what all of them share (the
            servers' own speed).
        identical: the size of a change that any effect could have shown. For effects that are all
            zero (``location``: most of them, of which a median would show nothing else); None when
            equal values are no evidence (times). Of a ``share``, which can be no larger.
    """

    values: Sequence[float]
    kind: Kind
    clusters: Sequence[Hashable] | None = None
    identical: float | None = None
    spread: ServerSpread = NO_SPREAD

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """The interval of the typical effect."""
        return self._of_values(confidence).widened(self.spread)

    def _of_values(self, confidence: float) -> Interval:
        if self.kind == "exact":
            x = finite(self.values)
            low, high = float(x.min()), float(x.max())
            return Interval(float(x.mean()), low, high, x.size, x.size, None, confidence)
        n, equal = len(self.values), sum(value == 0 for value in self.values)
        still = 2 * equal > n if self.kind == "location" else equal == n
        if self.identical is not None and self.kind != "share" and n > 1 and still:
            return padded(finite(self.values), self.clusters, self.identical, confidence)
        match self.kind:
            case "location":
                return location(self.values, confidence)
            case "mean":
                return mean(self.values, self.clusters, confidence)
            case "share":
                names = range(len(self.values)) if self.clusters is None else self.clusters
                size = self.identical or 1.0
                return share([v / size for v in self.values], names, confidence).times(size)


def effects_of(metric: Metric, scale: str, blocks: Blocks) -> tuple[Effects, str]:
    """Paired by question where the arms were asked the same ones, else by block."""
    if metric.exact:
        levels = [metric.of_pair(a, b) for a, b in blocks]
        return Effects([_one_effect(metric, scale, *pair) for pair in levels], "exact"), "blocks"
    size = None if metric.timed else metric.span if scale == "points" else DOUBLED
    if metric.per == "pair" or (metric.per == "question" and _same_questions(blocks)):
        values = [metric.of_question_pairs(a, b) for a, b in blocks]
        firsts = _averaged([a for a, _ in values])
        seconds = _averaged([b for _, b in values])
        shared = [question for question in firsts if question in seconds]
        if not shared:
            raise MetricUnavailable(f"{metric}: no question was answered in both arms")
        templates = {s.prompt.id: s.prompt.template for a, _ in blocks for s in a.samples}
        effects = [_one_effect(metric, scale, firsts[q], seconds[q]) for q in shared]
        kind: Kind = "mean" if metric.timed else "share"
        if size and scale == "percent":
            size = max(size, _longest(metric, blocks, seconds), *map(abs, effects))
        return Effects(effects, kind, [templates[q] for q in shared], size), "questions"
    effects = [_one_effect(metric, scale, metric.of_run(a), metric.of_run(b)) for a, b in blocks]
    if size and not metric.bursty:  # one request that is altogether different
        size /= max(1.0, sum(len(run.samples) for pair in blocks for run in pair) / 2 / len(blocks))
    return Effects(effects, "location", identical=size), "blocks"


def _longest(metric: Metric, blocks: Blocks, usual: Mapping[str, float]) -> float:
    """How much longer the shortest answer could have been (log ratio): its whole budget."""
    samplings = [run.header.sampling for run in blocks[0]]
    if metric.unit != "token" or None in samplings:
        return 0.0
    budget = max(sampling.max_tokens for sampling in samplings if sampling)
    return math.log(max(1.0, budget / max(1.0, min(usual.values()))))


def between_servers(known: ServerSpread, effects: Effects, blocks: Blocks) -> ServerSpread:
    """The spread of the typical effect that comes from the servers: what is known beforehand, with
    what the pairs of servers behind the blocks show."""
    by_pair: defaultdict[tuple[ServerId, ...], list[int]] = defaultdict(list)
    for i, pair in enumerate(blocks):
        by_pair[tuple(run.server for run in pair)].append(i)
    if all(first == second for first, second in by_pair):
        return NO_SPREAD
    servers = min(len({pair[i] for pair in by_pair}) for i in (0, 1))
    if 1 < servers == len(blocks):
        return NO_SPREAD  # every block has servers of its own: the scatter of the blocks shows it
    if effects.kind == "location" and servers == len(by_pair):
        known = known.pooled([[effects.values[i] for i in each] for each in by_pair.values()])
    shares = [len(each) / len(blocks) for each in by_pair.values()]
    return known.of_mean(min(servers, 1 / sum(share**2 for share in shares)))


def _same_questions(blocks: Blocks) -> bool:
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
