"""The type of all metrics, their table, and helpers that several metrics share."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from ..records.run import Run, Sample

Better = Literal["higher", "lower", "neither"]


Evidence = Literal["requests", "answers", "beginnings", "times", "served"]
"""What a metric is worked out from: whether requests were answered, what the answers say, how they
begin, the course of a run in time, which the machine's speed is part of, or what a server is."""


class MetricUnavailable(LookupError):
    """A run lacks what a metric needs; the message says what is missing."""

    by_engine = False
    """Whether the engine caused it."""


class NotTold(MetricUnavailable):
    """The engine did not tell what a metric needs, or tells it no more."""

    by_engine = True


@dataclass(frozen=True)
class Metric:
    """A named number of a run.

    Attributes:
        name: the usual term of the field.
        unit: of the value; a ``share`` is of 1, and shown as a percentage.
        better: which direction is better.
        per: ``question``: one number per question, and questions are the replicates, because
            answers do not depend on the speed of the machine; ``run``: one number per run, and run
            blocks are the replicates; ``pair``: as ``question``, but computed from both arms' runs.
        of: the function: from Run to ``{question id: number}`` or to one number.
        timed: whether the value depends on the speed of the machine, so that levels of different
            days cannot be compared on a shared machine.
        paced: whether the value, though no time, depends on how fast the machine is: on which
            requests overlap, or on how many readings of telemetry a run has.
        bursty: whether it counts events that come in bursts: where a block has any, it has many.
        fixed_length: whether runs can only be compared in speed if their output lengths are equal.
        whole: for a metric of one tier, the name of the metric of all requests, see :meth:`on`.
        series: the engine's telemetry that the metric needs, in our names (``kv_use`` ...).
        counts_failed: whether failed requests count, too.
        tier: of the only requests that count; empty for all.
        span: of a share, by how much two values can differ at most.
        of_server: whether it says what a server is, whatever else cannot be judged of it.
        exact: whether it is of a server and has no sampling error.
        of_beginnings: whether it says how answers begin, however they end.
    """

    name: str
    unit: str
    better: Better
    per: Literal["question", "run", "pair"]
    of: Callable[..., dict[str, float] | float]
    timed: bool = False
    fixed_length: bool = False
    paced: bool = False
    bursty: bool = False
    whole: str | None = None
    series: tuple[str, ...] = ()
    counts_failed: bool = False
    tier: str = ""
    span: float = 1.0
    of_server: bool = False
    exact: bool = False
    of_beginnings: bool = False

    @property
    def evidence(self) -> Evidence:
        """What it is worked out from."""
        if self.counts_failed:
            return "requests"
        if self.of_server or self.exact:
            return "served"
        if self.of_beginnings:
            return "beginnings"
        return "times" if self.per == "run" else "answers"

    @property
    def travels(self) -> bool:
        """Whether a value can be compared with one of another machine."""
        return not (self.timed or self.paced)

    @property
    def is_rate(self) -> bool:
        """Whether a slower machine makes the value smaller, as it does ``token/s``."""
        return self.unit.endswith("/s")

    @property
    def slug(self) -> str:
        """The key of stored numbers, made from the name: ``KV peak`` becomes ``kv-peak``."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    def value(self, *runs: Run) -> dict[str, float] | float:
        """The value of the metric.

        Raises:
            MetricUnavailable: a run lacks what the metric needs, or it was imported from a tool
                that does not keep it.
        """
        name = self.whole or self.name
        for run in runs:
            imported = run.header.imported
            if imported and name not in imported.carries:
                why = imported.not_kept.get(name) or (
                    f"{imported.tool} keeps neither an answer key nor telemetry"
                )
                raise MetricUnavailable(f"{self.name}: {why}")
        if len(runs) > 1:
            return self.of(*runs)
        computed = runs[0].computed
        if self not in computed:  # claims are judged again at every look
            computed[self] = self.of(runs[0])
        value: dict[str, float] | float = computed[self]
        return value

    def of_run(self, run: Run) -> float:
        """One number for a run: the value, or its mean over questions if it has one per question.

        Raises:
            MetricUnavailable: the run lacks what the metric needs.
        """
        value = self.value(run)
        if isinstance(value, dict):
            if not value:
                raise MetricUnavailable(f"{self.name}: the run holds no finished request")
            return statistics.fmean(value.values())
        return value

    def of_questions(self, run: Run) -> dict[str, float]:
        """One number per question: the mean over its repeats."""
        value = self.value(run)
        assert isinstance(value, dict), f"{self.name} is a metric of a run, not of a question"
        return value

    def of_question_pairs(self, first: Run, second: Run) -> tuple[dict[str, float], ...]:
        """Numbers per question for both arms; those of the second arm are 1 for a metric of pairs,
        which compares the first arm with the second."""
        if self.per != "pair":
            return self.of_questions(first), self.of_questions(second)
        value = self.value(first, second)
        assert isinstance(value, dict)
        return value, dict.fromkeys(value, 1.0)

    def of_pair(self, first: Run, second: Run) -> tuple[float, float]:
        """One number per arm; see :meth:`of_run`."""
        if self.per != "pair":
            return self.of_run(first), self.of_run(second)
        numbers = self.of_question_pairs(first, second)
        if not numbers[0]:
            raise MetricUnavailable(f"{self.name}: no question was answered in both arms")
        return statistics.fmean(numbers[0].values()), statistics.fmean(numbers[1].values())

    def on(self, tier: str) -> Metric:
        """The same metric, of the requests of one tier only."""

        name = f"{self.name} on {tier}"

        def of(*runs: Run) -> dict[str, float] | float:
            return self.value(*(_part(run, tier, name) for run in runs))

        return replace(self, name=name, of=of, whole=self.whole or self.name, tier=tier)

    def __str__(self) -> str:
        return self.name


METRICS: dict[str, Metric] = {}


def metric(
    name: str,
    unit: str,
    *,
    better: Better,
    per: Literal["question", "run", "pair"] = "run",
    timed: bool = False,
    fixed_length: bool = False,
    paced: bool = False,
    bursty: bool = False,
    series: tuple[str, ...] = (),
    counts_failed: bool = False,
    of_server: bool = False,
    exact: bool = False,
    of_beginnings: bool = False,
) -> Callable[[Callable[..., dict[str, float] | float]], Metric]:
    """Register a function as the metric ``name``; the arguments are those of :class:`Metric`."""

    def register(function: Callable[..., dict[str, float] | float]) -> Metric:
        if name in METRICS:
            raise ValueError(f"two metrics are called {name!r}: rename one")
        made = Metric(
            name,
            unit,
            better,
            per,
            function,
            timed,
            fixed_length,
            paced,
            bursty,
            series=series,
            counts_failed=counts_failed,
            of_server=of_server,
            exact=exact,
            of_beginnings=of_beginnings,
        )
        METRICS[name] = made
        return made

    return register


def finished(run: Run) -> list[Sample]:
    """The requests of a run that did not fail.

    Raises:
        MetricUnavailable: there are none.
    """
    finished = [s for s in run.samples if s.error is None]
    if not finished:
        raise NotTold("no request of the run finished")
    return finished


def per_question(run: Run, number: Callable[[Sample], float]) -> dict[str, float]:
    """The mean of ``number`` over the finished requests of each question."""
    numbers: defaultdict[str, list[float]] = defaultdict(list)
    for sample in finished(run):
        numbers[sample.prompt.id].append(number(sample))
    return {question: statistics.fmean(values) for question, values in numbers.items()}


def known(count: int | None, what: str) -> float:
    """A count that the engine reported.

    Raises:
        MetricUnavailable: the engine did not report it.
    """
    if count is None:
        raise NotTold(f"the engine did not report {what}")
    return float(count)


def uncounted(run: Run) -> str:
    """Why running counts of a run's deltas are unknown though they were told, to append to a
    message; empty where they are known, or none were told."""
    told = (run.closing or {}).get("uncounted")
    if not told:
        return ""
    return (
        f": its running usage cannot be right in {told['answers']} of {len(run.samples)} answers, "
        f"the first: {told['why']}"
    )


def _part(run: Run, tier: str, name: str) -> Run:
    samples = [s for s in run.samples if s.prompt.tier == tier]
    if not samples:
        tiers = sorted({s.prompt.tier for s in run.samples} - {""})
        raise MetricUnavailable(
            f"{name}: no request of the run is known to be of {tier!r}; there are "
            f"{', '.join(tiers) or 'none whose data set is known'}"
        )
    return replace(run, samples=samples)
