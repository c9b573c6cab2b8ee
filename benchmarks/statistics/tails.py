"""Is an engine called safe of which a few blocks are far slower?

    python benchmarks/statistics/tails.py

Log ratios of run blocks are drawn: the scatter of a machine, and a share of blocks that take
several times as long. Three rules look at them after 15, 30 and 60 blocks whether nothing is worse
by more than 5 %: the typical block alone, as it was; with a bound on the share of blocks that are
far off, as a review proposed; and with the mean and enough blocks, as it is. Half a minute.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from tabulate import tabulate

from pytest_rllm import E2E, no_worse, pct
from pytest_rllm.session.case import UPGRADE_LOOKS
from pytest_rllm.verdicts.effects import Effects
from pytest_rllm.verdicts.intervals import Interval
from pytest_rllm.verdicts.sequential import confidences
from pytest_rllm.verdicts.tails import lacking

LOOKS = UPGRADE_LOOKS
CLAIM = no_worse(E2E, within=pct(5))
DRAWS = 400
Rule = Callable[[Effects, float], bool]
TRUTHS = (
    ("nothing is slower", 0.0, 1.0),
    ("5 % of blocks twice as slow", 0.05, 2.0),
    ("10 % of blocks twice as slow", 0.1, 2.0),
    ("20 % of blocks five times as slow", 0.2, 5.0),
)
SCATTERS = (0.02, 0.055)
"""Of a quiet machine, and of blocks of four turns on two cores of a shared one."""


def typical(effects: Effects, confidence: float) -> bool:
    """The typical block alone."""
    return CLAIM.of(effects.interval(confidence)) == "holds"


def share_of_far(effects: Effects, confidence: float) -> bool:
    """And fewer than 15 % of the blocks may be far slower, by an interval of their share."""
    x = np.asarray(effects.values)
    d = x - effects.interval(confidence).estimate
    far = np.abs(d) > max(math.log(1.25), 3 * 1.4826 * float(np.median(np.abs(d))))
    found: Interval = Effects(list(np.sign(d) * far), "share").interval(confidence)
    return typical(effects, confidence) and found.high < 0.15


def mean_too(effects: Effects, confidence: float) -> bool:
    """And the mean holds, and there are enough blocks: the rule of today."""
    return typical(effects, confidence) and lacking(CLAIM, effects, confidence) is None


RULES: tuple[Rule, ...] = (typical, share_of_far, mean_too)


def drawn(rng: np.random.Generator, scatter: float, share: float, times: float) -> np.ndarray:
    """Log ratios of the blocks of one comparison."""
    n = LOOKS[-1]
    slow = rng.random(n) < share
    return rng.normal(0.0, scatter, n) + np.where(slow, math.log(times), 0.0)


def safe(rule: Rule, x: np.ndarray) -> int | None:
    """Blocks at the look that says safe; None where none does."""
    for n, confidence in zip(LOOKS, confidences(LOOKS), strict=True):
        if rule(Effects(list(x[:n]), "location"), confidence):
            return n
    return None


def shares(scatter: float, share: float, times: float, draws: int = DRAWS) -> dict[str, float]:
    """How often each rule says safe."""
    rng = np.random.default_rng(0)
    comparisons = [drawn(rng, scatter, share, times) for _ in range(draws)]
    return {
        rule.__name__: sum(safe(rule, x) is not None for x in comparisons) / draws for rule in RULES
    }


def main() -> None:
    rows = []
    for scatter in SCATTERS:
        for truth, share, times in TRUTHS:
            found = shares(scatter, share, times)
            mean = share * (times - 1)
            rows.append(
                (f"{scatter:.1%}", truth, f"{mean:+.0%}", *(f"{v:.1%}" for v in found.values()))
            )
    header = (
        "scatter",
        "truth",
        "mean",
        "typical block",
        "share of far ones",
        "mean, enough blocks",
    )
    print(tabulate(rows, header, "github"))


if __name__ == "__main__":
    main()
