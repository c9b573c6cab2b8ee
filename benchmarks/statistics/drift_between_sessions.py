"""How often do the levels of an unchanged engine drift, once several sessions are stored?

    python benchmarks/statistics/drift_between_sessions.py

Sessions on one machine store the times of a test case; a further session is held against them by
the code of the package, from the files that it wrote. The machine moves all times of a session
together, and each has scatter of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from pytest_rllm import E2E, TBT, TTFT, lower, pct
from pytest_rllm.baselines import ledger
from pytest_rllm.baselines.case import Case
from pytest_rllm.baselines.levels import beside
from pytest_rllm.baselines.store import Baselines
from pytest_rllm.verdicts.judge import Judged
from pytest_rllm.verdicts.judgement import Judgement

PLACE = ("cpu-simulated", "simulated", "f")
MACHINE = "0123456789ab"
TOGETHER, ALONE = 0.03, 0.02
"""Standard deviations of the natural logarithm: of a session, and of each time beside that."""
WITHIN = 0.005
"""Standard error over the blocks of one session, as a share; only the next session's own."""
CLAIMS = tuple(lower(metric, by=pct(10)) for metric in (TTFT, TBT, E2E))
LEVELS = tuple(f"1/{side}/{claim.metric.slug}" for claim in CLAIMS for side in "ab")
Sessions = np.ndarray
"""Times of shape (sessions, levels), the oldest first."""


def times(rng: np.random.Generator, sessions: int) -> Sessions:
    """Times of so many sessions of one engine, about 1."""
    together = rng.normal(0, TOGETHER, (sessions, 1))
    alone = rng.normal(0, ALONE, (sessions, len(LEVELS)))
    return np.asarray(np.exp(together + alone))


def case(values: Sequence[float], version: str) -> Case:
    """What a session stores."""
    levels: dict[str, list[float | None]] = {
        key: [float(value), WITHIN * float(value)]
        for key, value in zip(LEVELS, values, strict=True)
    }
    return Case({"engine_version": version}, levels=levels, machine=MACHINE)


def judgement() -> Judgement:
    """The claims of the case; what they say of it does not matter here."""
    verdicts = tuple(
        Judged(
            str(claim),
            claim.metric.name,
            claim.margin.scale,
            "holds",
            None,
            ("A", "B"),
            slug=claim.slug,
            metric_slug=claim.metric.slug,
        )
        for claim in CLAIMS
    )
    return Judgement("1", ("A", "B"), verdicts, claims=CLAIMS)


def drifts(root: Path, stored: Sequence[tuple[Sessions, str]], now: Sequence[float]) -> list[bool]:
    """Which levels of a further session are said to have drifted.

    Args:
        root: an empty folder for the baselines.
        stored: the sessions of each engine version, the oldest first.
        now: the times of the further session, with the last of these versions.
    """
    entries = [
        ledger.Entry(PLACE[-1], "c", key, None, float(value), version, MACHINE)
        for values, version in stored
        for session in values
        for key, value in zip(LEVELS, session, strict=True)
    ]
    values, version = stored[-1]
    last = case(values[-1], version)
    baselines = Baselines(root)
    baselines._write(*PLACE, {"c": last})
    ledger.replace(baselines.path(*PLACE).parent, entries)
    sessions = baselines.sessions(*PLACE, "c", MACHINE)
    found = beside(last, case(now, version), [judgement()], sessions)
    return [bool(level.drift) for level in found]


def rates(
    sessions: int, slower: float, draws: int, *, accepted: float = 1.0, seed: int = 0
) -> tuple[float, float]:
    """Shares of levels and of cases that drift.

    Args:
        sessions: that are stored with the last engine version.
        slower: how many times as long everything takes in the further session.
        draws: how many test cases are simulated.
        accepted: how many times as long everything took with the version before, of which four
            sessions are stored, too; 1 where there was no such version.
    """
    rng = np.random.default_rng(seed)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(draws):
            stored = [(times(rng, sessions), "2")]
            if accepted != 1:
                stored.insert(0, (accepted * times(rng, 4), "1"))
            found.append(drifts(Path(folder), stored, slower * times(rng, 1)[0]))
    return float(np.mean(found)), float(np.any(found, axis=1).mean())


def rows(draws: int) -> Iterator[tuple[str, str, str]]:
    """Per setting the share of levels and of cases that drift, as text."""
    settings = [(k, 1.0, 1.0) for k in (4, 6, 10)]
    settings += [(4, 1.15, 1.0), (4, 1.3, 1.0), (10, 1.15, 1.0), (10, 1.3, 1.0)]
    settings += [(4, 1.3, 1.5), (10, 1.3, 1.5)]
    for sessions, slower, accepted in settings:
        name = f"{sessions} sessions, "
        name += "unchanged" if slower == 1 else f"now {slower:g} times as long"
        if accepted != 1:
            name += f"; the version before took {accepted:g} times as long"
        each, case_ = rates(sessions, slower, draws, accepted=accepted)
        yield name, f"{each:.1%}", f"{case_:.1%}"


def main(write: Callable[[str], object] = print) -> None:
    """Print the table."""
    headers = ("sessions", f"a level of {len(LEVELS)} drifts", "a case does")
    write(tabulate(rows(1000), headers, tablefmt="github"))


if __name__ == "__main__":
    main()
