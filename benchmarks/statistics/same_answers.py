"""How should one claim that two servings give the same answers? Four ways, simulated.

    python benchmarks/statistics/same_answers.py

Greedy answers of a right engine part at some token by rounding alone, with a constant rate per
token; those of an unsound one, which spoils some requests, differ from the start. The first table
shows how often each way of claiming holds and is refuted, with 160 questions; the second shows the
same of accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from scipy import stats
from tabulate import tabulate

from pytest_rllm import ACCURACY, EARLY_AGREEMENT, not_lower, pp
from pytest_rllm.verdicts.claims import Claim, Verdict
from pytest_rllm.verdicts.shares import share

QUESTIONS = 160
START = 125
"""Tokens of some 500 characters, where the metric of the first characters ends."""
SAME = not_lower(EARLY_AGREEMENT, by_more_than=pp(5))
PER_TOKEN = 0.05 / START
"""Rate of partings that makes 5 % of the starts differ."""
Rule = Callable[[np.random.Generator, int, float, float], Verdict]
"""From tokens per answer, partings per token by rounding, and share of spoilt requests."""


@cache
def verdict(claim: Claim, better: int, worse: int, n: int) -> Verdict:
    """What the package says when so many of n questions became better and worse."""
    effects = [1.0] * better + [-1.0] * worse + [0.0] * (n - better - worse)
    return claim.of(share(effects, range(n)))


def parted_at(rng: np.random.Generator, rate: float, spoilt: float) -> np.ndarray:
    """Token at which the answers to each question part; of spoilt requests at the first."""
    natural = rng.exponential(1 / rate, QUESTIONS) if rate else np.full(QUESTIONS, np.inf)
    return np.where(rng.random(QUESTIONS) < spoilt, 0.0, natural)


def whole(rng: np.random.Generator, length: int, rate: float, spoilt: float) -> Verdict:
    """Answers are equal from their start to their end."""
    return verdict(SAME, 0, int((parted_at(rng, rate, spoilt) < length).sum()), QUESTIONS)


def start(rng: np.random.Generator, length: int, rate: float, spoilt: float) -> Verdict:
    """They are equal for their first 500 characters."""
    return whole(rng, min(length, START), rate, spoilt)


def per_token(rng: np.random.Generator, length: int, rate: float, spoilt: float) -> Verdict:
    """They part at most so often per token (exact bounds of a Poisson rate: Garwood, 1936)."""
    at = parted_at(rng, rate, spoilt)
    parted, tokens = int((at < length).sum()), float(np.minimum(at, length).sum())
    low = stats.chi2.ppf(0.025, 2 * parted) / 2 / tokens if parted else 0.0
    high = stats.chi2.ppf(0.975, 2 * parted + 2) / 2 / tokens
    return "holds" if high < PER_TOKEN else "refuted" if low > PER_TOKEN else "inconclusive"


def repeated(rng: np.random.Generator, length: int, rate: float, spoilt: float) -> Verdict:
    """As many are equal as when one arm is asked twice, which costs its requests once more."""
    other = parted_at(rng, rate, spoilt) >= length
    same = parted_at(rng, rate, 0.0) >= length
    return verdict(SAME, int((other & ~same).sum()), int((~other & same).sum()), QUESTIONS)


RULES: dict[str, Rule] = {
    "whole answers": whole,
    "first 500 characters": start,
    "per token": per_token,
    "against a repeat": repeated,
}
TRUTHS = (
    (150, 0.0, 0.0),
    (1000, 1e-4, 0.0),
    (4000, 1e-4, 0.0),
    (4000, 1e-3, 0.0),
    (150, 0.0, 0.15),
    (1000, 1e-4, 0.15),
    (4000, 1e-4, 0.15),
    (4000, 1e-3, 0.15),
)
"""Tokens per answer, partings per token by rounding, share of spoilt requests."""


def shares(rule: Rule, truth: tuple[int, float, float], draws: int) -> tuple[float, float]:
    """How often a way of claiming holds, and how often it is refuted."""
    rng = np.random.default_rng(0)
    found = [rule(rng, *truth) for _ in range(draws)]
    return found.count("holds") / draws, found.count("refuted") / draws


def accuracy(
    questions: int, points: float, flips: float, lost: float, draws: int
) -> tuple[float, float]:
    """How often "accuracy loses no more than so many points" holds, and how often it is refuted.

    Args:
        questions: that are asked in both arms.
        points: the margin.
        flips: share of answers that become wrong by rounding alone, and as many become right.
        lost: share of answers that become wrong on top.
        draws: how many comparisons are simulated.
    """
    rng = np.random.default_rng(0)
    better, worse, _ = rng.multinomial(
        questions, (flips, flips + lost, 1 - 2 * flips - lost), draws
    ).T
    claim = not_lower(ACCURACY, by_more_than=pp(points))
    found = [verdict(claim, int(b), int(w), questions) for b, w in zip(better, worse, strict=True)]
    return found.count("holds") / draws, found.count("refuted") / draws


def _text(shares: tuple[float, float]) -> str:
    return " / ".join(f"{100 * each:.0f}" for each in shares)


def rows(draws: int) -> Iterator[tuple[str, ...]]:
    """Per truth the shares of every way of claiming."""
    for truth in TRUTHS:
        length, rate, spoilt = truth
        name = f"{length} tokens, {1000 * rate:g} per 1000, {spoilt:.0%} spoilt"
        yield name, *(_text(shares(rule, truth, draws)) for rule in RULES.values())


DESIGNS = ((160, 3.0), (160, 5.0), (500, 3.0))


def accuracy_rows(draws: int) -> Iterator[tuple[str, ...]]:
    """Per truth the shares with every margin and number of questions."""
    for flips, lost in ((0.0, 0.0), (0.005, 0.0), (0.01, 0.0), (0.02, 0.0), (0.01, 0.12)):
        name = f"{flips:.1%} each way, {lost:.0%} lost"
        found = (accuracy(*design, flips, lost, draws) for design in DESIGNS)
        yield name, *map(_text, found)


def main(write: Callable[[str], object] = print) -> None:
    """Print both tables."""
    write("Holds / is refuted, per cent of comparisons:\n")
    write(tabulate(rows(1000), ("truth", *RULES), tablefmt="github"))
    names = [f"{n} questions, {points:g} points" for n, points in DESIGNS]
    write("\nAccuracy, likewise:\n")
    write(tabulate(accuracy_rows(1000), ("answers that change", *names), tablefmt="github"))


if __name__ == "__main__":
    main()
