"""Are verdicts right where two servers of one build differ? python benchmarks/statistics/servers.py

Blocks are drawn with a known effect, a known scatter, and a speed of each server that all of its
blocks share, and are judged by ``judge_family`` itself, look after look. Prints a Markdown table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tabulate import tabulate

from pytest_rllm import not_higher, pct
from pytest_rllm.baselines.machines import Machine
from pytest_rllm.metrics import Metric
from pytest_rllm.records.header import Header
from pytest_rllm.records.run import Run
from pytest_rllm.session.case import UPGRADE_LOOKS
from pytest_rllm.verdicts.judge import Judged, Look, judge_family
from pytest_rllm.verdicts.judgement import settled

TIME = Metric("time", "s", "lower", "run", lambda run: run.header.notes["value"], timed=True)
UNMEASURED = Machine("of which nothing is known")


@dataclass(frozen=True)
class Setting:
    """What is simulated.

    Attributes:
        between: standard deviation of the effect between pairs of servers, a log ratio.
        scatter: standard deviation of the effect between blocks, a log ratio.
        looks: blocks at each look.
        restarts: whether every look is on fresh servers; otherwise one pair serves all.
        margin: of the claim "not higher", in per cent.
        machine: what is known of the spread between servers.
    """

    between: float
    scatter: float = 0.095
    looks: tuple[int, ...] = UPGRADE_LOOKS
    restarts: bool = True
    margin: float = 5
    machine: Machine = UNMEASURED


@dataclass(frozen=True)
class Words:
    """Shares of the sessions with each verdict, and how many blocks they took on average."""

    holds: float
    refuted: float
    blocks: float


def sessions(setting: Setting, slower: float, *, draws: int, seed: int = 0) -> Words:
    """Verdicts on "no slower than the margin" where the truth is ``slower`` per cent.

    Args:
        setting: what is simulated.
        slower: true effect in per cent.
        draws: sessions.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    words: Counter[str] = Counter()
    blocks = 0
    starts = [0, *setting.looks[:-1]] if setting.restarts else [0]
    server = np.searchsorted(starts, np.arange(setting.looks[-1]), side="right") - 1
    for _ in range(draws):
        speeds = rng.normal(np.log1p(slower / 100), setting.between, len(starts))
        effects = speeds[server] + rng.normal(0, setting.scatter, server.size)
        verdict, n = _judged(setting, np.exp(effects), server)
        words[verdict] += 1
        blocks += n
    return Words(words["holds"] / draws, words["refuted"] / draws, blocks / draws)


def _judged(setting: Setting, ratios: np.ndarray, server: np.ndarray) -> tuple[str, int]:
    """The verdict on blocks of these ratios, and how many of them it took."""
    claim = not_higher(TIME, by_more_than=pct(setting.margin))
    pairs = [
        (_run(ratio, 2 * number), _run(1.0, 2 * number + 1))
        for ratio, number in zip(ratios.tolist(), server.tolist(), strict=True)
    ]
    found: Sequence[Judged] = ()
    for at, size in enumerate(setting.looks):
        fresh = judge_family(
            [claim],
            pairs[:size],
            ("new", "old"),
            look=Look(setting.looks, at),
            spread=setting.machine.spread,
        )
        found = settled(found, fresh) if found else fresh
        if found[0].verdict != "inconclusive":
            return found[0].verdict, size
    return found[0].verdict, setting.looks[-1]


def _run(value: float, server: int) -> Run:
    return Run(Header(server=server, notes={"value": value}), closing={"wall_s": 1.0})


SETTINGS = {
    "gate, unmeasured machine": Setting(0.02),
    "gate, little scatter": Setting(0.02, scatter=0.03),
    "the same, 15 sittings stored (2 %)": Setting(
        0.02, scatter=0.03, machine=Machine("x", {"time": 0.02}, 15)
    ),
    "12 blocks on one pair": Setting(0.02, scatter=0.02, looks=(12,), restarts=False),
    "finding, 8 blocks, margin 10 %": Setting(0.02, looks=(8,), restarts=False, margin=10),
    "finding, 8 blocks, margin 50 %": Setting(0.02, looks=(8,), restarts=False, margin=50),
}


def table(draws: int) -> str:
    """Errors on the margin for several spreads between servers, and power, in Markdown."""
    rows = []
    for name, setting in SETTINGS.items():
        wrong = []
        for between in (0.02, 0.03, 0.04):
            there = Setting(**{**vars(setting), "between": between})
            on_it = sessions(there, setting.margin, draws=draws)
            wrong.append(f"{on_it.holds:.1%}, {on_it.refuted:.1%}")
        same = sessions(setting, 0, draws=draws // 4)
        rows.append((name, *wrong, f"{same.holds:.0%} ({same.blocks:.0f})"))
        for factor in (1.1, 1.2, 1.5):
            slow = sessions(setting, 100 * (factor * (1 + setting.margin / 100) - 1), draws=100)
            rows[-1] += (f"{slow.refuted:.0%} ({slow.blocks:.0f})",)
    header = (
        "on the margin: holds, refuted",
        *(f"servers {between} % apart" for between in (2, 3, 4)),
        "no effect: holds (blocks)",
        *(f"{beyond} % beyond the margin: refuted (blocks)" for beyond in (10, 20, 50)),
    )
    return tabulate(rows, header, "github", disable_numparse=True)


if __name__ == "__main__":
    print(table(draws=500))
