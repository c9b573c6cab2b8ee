"""Does an engine whose stalls void its own blocks pass? python benchmarks/statistics/voids.py

The new engine takes a known factor longer in a share of its blocks. The anchor probe, which it
answers, sees most of these stalls; the reference load, which is no engine, sees none of them. The
blocks are judged by ``judge_blocks`` itself. Prints a Markdown table.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from tabulate import tabulate

from pytest_rllm import not_higher, pct
from pytest_rllm.metrics import Metric
from pytest_rllm.records.header import Header
from pytest_rllm.records.run import Run
from pytest_rllm.verdicts.judgement import judge_blocks

TIME = Metric("time", "s", "lower", "run", lambda run: run.header.notes["value"], timed=True)
CLAIM = not_higher(TIME, by_more_than=pct(5))
SEEN = 0.8
"""Share of the stalls that the probe sees."""
PROBE, REFERENCE = 0.1, 0.02
"""Usual seconds of both."""


def sessions(
    *,
    stalled: float,
    factor: float,
    timed: bool,
    draws: int,
    by_machine: float = 0.03,
    blocks: int = 60,
    scatter: float = 0.095,
    seed: int = 0,
) -> dict[str, float]:
    """Shares of the sessions with each verdict on "no more than 5 % slower".

    Args:
        stalled: share of the new engine's blocks that stall.
        factor: how many times as long they take.
        timed: whether a reference load was timed beside the runs.
        draws: sessions.
        by_machine: share of runs of either arm which the machine slows, and every probe sees it.
        blocks: in a session.
        scatter: standard deviation of the effect between blocks, a log ratio.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    words: Counter[str] = Counter()
    for _ in range(draws):
        stall = rng.random(blocks) < stalled
        slow = rng.random((2, blocks)) < by_machine
        values = np.exp(rng.normal(0, scatter / np.sqrt(2), (2, blocks))) * np.where(slow, 2.5, 1)
        values[0] *= np.where(stall, factor, 1)
        seen = slow.copy()
        seen[0] |= stall & (rng.random(blocks) < SEEN)
        pairs = [
            tuple(
                Run(
                    Header(
                        arm="new" if side == 0 else "old",
                        server=1,
                        notes={"value": float(values[side, i])},
                        anchor_s=PROBE * (3 if seen[side, i] else 1),
                        reference_s=REFERENCE * (3 if slow[side, i] else 1) if timed else None,
                    ),
                    closing=CLOSING,
                )
                for side in (0, 1)
            )
            for i in range(blocks)
        ]
        words[judge_blocks([CLAIM], pairs).verdict] += 1  # type: ignore[arg-type]
    return {word: count / draws for word, count in words.items()}


CLOSING = {
    "planned": 0,
    "wall_s": 1.0,
    "loop_lag_share": 0.0,
    "monitor_error": None,
    "telemetry_errors": {},
}

SETTINGS = {
    "nothing differs": (0.0, 1.0),
    "10 % of blocks take twice as long": (0.1, 2.0),
    "20 % of blocks take twice as long": (0.2, 2.0),
    "20 % of blocks take 3 times as long": (0.2, 3.0),
}


def table(draws: int) -> str:
    """Shares of each verdict, in Markdown."""
    rows = []
    for name, (stalled, factor) in SETTINGS.items():
        for timed in (False, True):
            found = sessions(stalled=stalled, factor=factor, timed=timed, draws=draws)
            told = [f"{found.get(w, 0):.0%}" for w in ("holds", "refuted", "inconclusive")]
            by = "reference load" if timed else "anchor probe"
            rows.append((name, by, *told, f"{found.get('invalid', 0):.0%}"))
    header = ("the new engine", "voids by", "holds", "refuted", "inconclusive", "invalid")
    return tabulate(rows, header, "github", disable_numparse=True)


if __name__ == "__main__":
    print(table(draws=500))
