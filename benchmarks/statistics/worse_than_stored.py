"""Does a baseline hide that an effect became worse? Two sessions of one test case, simulated.

    python benchmarks/statistics/worse_than_stored.py

A test case claims that TBT is lower by 10 %, that E2E is unchanged within 10 %, and that accuracy
may fall by 10 points. The effects of the first session are stored, once all claims are decided;
those of the second are judged beside them, by the code of the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
from tabulate import tabulate

from pytest_rllm import ACCURACY, E2E, TBT, lower, not_lower, pct, pp, unchanged
from pytest_rllm.baselines.case import fresh_case
from pytest_rllm.baselines.compare import Outcome, decide
from pytest_rllm.verdicts.claims import Claim
from pytest_rllm.verdicts.effects import Effects
from pytest_rllm.verdicts.judge import Judged
from pytest_rllm.verdicts.judgement import Judgement
from pytest_rllm.verdicts.server_spread import ServerSpread

BLOCKS, QUESTIONS = 24, 240
SCATTER = 0.095
"""Standard deviation of a block's log ratio, as in the pool of benchmarks/calibration."""
SERVERS = 0.023 / math.sqrt(2)
"""Standard deviation of what two pairs of servers add to all blocks, as log ratio."""
CLAIMS = (
    lower(TBT, by=pct(10)),
    unchanged(E2E, within=pct(10)),
    not_lower(ACCURACY, by_more_than=pp(10)),
)
MATCH = {"hardware": "cpu-simulated", "engine": "simulated", "engine_version": "1"}


@dataclass(frozen=True)
class Truth:
    """True effects of a session: log ratios of the times, and the share of right answers lost."""

    tbt: float = math.log(0.8)
    e2e: float = 0.0
    lost: float = 0.0


def _times(rng: np.random.Generator, effect: float) -> Effects:
    values = rng.normal(effect + rng.normal(0, SERVERS), SCATTER, BLOCKS)
    return Effects(list(values), "location", spread=ServerSpread(SERVERS))


def _answers(rng: np.random.Generator, lost: float) -> Effects:
    """Of questions that the second arm answers rightly in nine of ten tries on average."""
    right = np.random.default_rng(1).beta(4.5, 0.5, QUESTIONS)  # the same in all sessions
    first = rng.random(QUESTIONS) < right * (1 - lost / 0.9)
    second = rng.random(QUESTIONS) < right
    differences = first.astype(float) - second
    return Effects(list(differences), "share", list(range(QUESTIONS)), 1.0)


def _judged(claim: Claim, effects: Effects) -> Judged:
    interval = effects.interval()
    return Judged(
        claim=str(claim),
        slug=claim.slug,
        metric=claim.metric.name,
        metric_slug=claim.metric.slug,
        scale=claim.margin.scale,
        verdict=claim.of(interval),
        why=None,
        arms=("A", "B"),
        estimate=interval.estimate,
        low=interval.low,
        high=interval.high,
        confidence=interval.confidence,
        n=interval.n,
    )


def session(rng: np.random.Generator, truth: Truth) -> Judgement:
    """What one session measures of the case."""
    effects = (_times(rng, truth.tbt), _times(rng, truth.e2e), _answers(rng, truth.lost))
    verdicts = tuple(_judged(claim, of) for claim, of in zip(CLAIMS, effects, strict=True))
    return Judgement("1", ("A", "B"), verdicts, match=MATCH, machine="simulated", claims=CLAIMS)


def decided(rng: np.random.Generator, truth: Truth) -> Judgement:
    """The first session in which every claim is decided, as only such ones are stored."""
    for _ in count():
        found = session(rng, truth)
        if found.decided:
            return found
    raise AssertionError


def outcome(rng: np.random.Generator, before: Truth, now: Truth) -> Outcome:
    """How a second session ends beside the stored first one."""
    fresh = [session(rng, now)]
    return decide(fresh, fresh_case(fresh), fresh_case([decided(rng, before)]))


def rates(before: Truth, now: Truth, draws: int, seed: int = 0) -> tuple[float, float]:
    """Shares of cases that fail, and that pass or are expected failures although they got worse."""
    rng = np.random.default_rng(seed)
    endings = [outcome(rng, before, now).ending for _ in range(draws)]
    quiet = sum(ending in ("pass", "xfail") for ending in endings)
    return endings.count("fail") / draws, quiet / draws


def of_percent(percent: float) -> float:
    """Log ratio of a change in per cent."""
    return math.log1p(percent / 100)


KNOWN = Truth(tbt=of_percent(2))
"""TBT does not fall here: a known deviation."""
WEAK = Truth(lost=0.2)
"""Accuracy falls by 20 points: a known deviation."""
TRUTHS = {
    "all hold, and nothing changes": (Truth(), Truth()),
    "TBT is a known deviation, and nothing changes": (KNOWN, KNOWN),
    "accuracy is a known deviation, and nothing changes": (WEAK, WEAK),
    "TBT, known: from +2 % to +27 %": (KNOWN, replace(KNOWN, tbt=of_percent(27))),
    "TBT, known: from +2 % to +12 %": (KNOWN, replace(KNOWN, tbt=of_percent(12))),
    "accuracy, known: from -20 to -30 points": (WEAK, replace(WEAK, lost=0.3)),
    "accuracy, known: from -20 to -35 points": (WEAK, replace(WEAK, lost=0.35)),
    "TBT holds: from -45 % to -25 %": (Truth(of_percent(-45)), Truth(of_percent(-25))),
    "TBT holds: from -20 % to -45 % (better)": (Truth(), Truth(of_percent(-45))),
}


def rows(draws: int) -> Iterator[tuple[str, str, str]]:
    """Per truth the two rates, as text."""
    for name, (before, now) in TRUTHS.items():
        failed, quiet = rates(before, now, draws)
        yield name, f"{failed:.1%}", f"{quiet:.1%}"


def main(write: Callable[[str], object] = print) -> None:
    """Print the table."""
    headers = ("truth", "fails", "passes or is an expected failure")
    write(tabulate(rows(1000), headers, tablefmt="github"))


if __name__ == "__main__":
    main()
