"""Numbers from a run. A metric is one decorated function, with its unit and direction."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from .grading import grade
from .samples import Run, Sample

Better = Literal["higher", "lower", "neither"]


class MetricUnavailable(LookupError):
    """A run does not hold what a metric needs; the message says what is missing."""


@dataclass(frozen=True)
class Metric:
    """A named number of a run.

    Attributes:
        name: the field's term.
        unit: of the value; ``share`` is of 1, shown as a percentage.
        better: direction, declared once and never guessed.
        per: ``question``: a number per question, and the question is the replicate (answers do
            not depend on the machine's mood); ``run``: one number, and the run block is;
            ``pair``: as ``question``, but a function of both arms' runs.
        of: the function: Run to ``{question id: number}`` or to one number.
        timed: depends on the speed of the machine; its level means nothing on another day of a
            noisy one.
        fixed_length: is a verdict about speed only between runs of equal output lengths.
        whole: name of the metric of all requests that this is a part of, see :meth:`on`.
    """

    name: str
    unit: str
    better: Better
    per: Literal["question", "run", "pair"]
    of: Callable[..., dict[str, float] | float]
    timed: bool = False
    fixed_length: bool = False
    whole: str | None = None

    def value(self, *runs: Run) -> dict[str, float] | float:
        """What the function says of runs that hold what it takes.

        Raises:
            MetricUnavailable: they do not; a record of another tool says what that one kept.
        """
        name = self.whole or self.name
        for run in runs:
            if name not in run.about.get("carries", (name,)):
                why = run.about["not_kept"].get(name) or (
                    f"{run.about['imported']['tool']} keeps neither an answer key nor telemetry"
                )
                raise MetricUnavailable(f"{self.name}: {why}")
        return self.of(*runs)

    def of_run(self, run: Run) -> float:
        """One number for a run; the mean over questions where the metric has one per question.

        Raises:
            MetricUnavailable: the run does not hold what it takes.
        """
        value = self.value(run)
        if isinstance(value, dict):
            if not value:
                raise MetricUnavailable(f"{self.name}: the run holds no finished request")
            return statistics.fmean(value.values())
        return value

    def of_questions(self, run: Run) -> dict[str, float]:
        """A number per question, repeats of a question averaged."""
        value = self.value(run)
        assert isinstance(value, dict), f"{self.name} is a metric of a run, not of a question"
        return value

    def of_question_pairs(self, first: Run, second: Run) -> tuple[dict[str, float], ...]:
        """Numbers per question for both arms; a metric of pairs holds the second arm against
        itself, which is 1."""
        if self.per != "pair":
            return self.of_questions(first), self.of_questions(second)
        value = self.value(first, second)
        assert isinstance(value, dict)
        return value, dict.fromkeys(value, 1.0)

    def of_pair(self, first: Run, second: Run) -> tuple[float, ...]:
        """One number per arm; see :meth:`of_run`."""
        if self.per != "pair":
            return self.of_run(first), self.of_run(second)
        numbers = self.of_question_pairs(first, second)
        if not numbers[0]:
            raise MetricUnavailable(f"{self.name}: no question was answered in both arms")
        return tuple(statistics.fmean(arm.values()) for arm in numbers)

    def on(self, tier: str) -> Metric:
        """The same metric of the requests of one tier (data set) only."""

        name = f"{self.name} on {tier}"

        def of(*runs: Run) -> dict[str, float] | float:
            return self.value(*(_part(run, tier, name) for run in runs))

        return replace(self, name=name, of=of, whole=self.whole or self.name)

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
) -> Callable[[Callable[..., dict[str, float] | float]], Metric]:
    """Make a function the metric ``name``; see :class:`Metric` for the words."""

    def register(function: Callable[..., dict[str, float] | float]) -> Metric:
        if name in METRICS:
            raise ValueError(f"two metrics are called {name!r}")
        made = Metric(name, unit, better, per, function, timed, fixed_length)
        METRICS[name] = made
        return made

    return register


# ---- answers


@metric("accuracy", "share", better="higher", per="question")
def ACCURACY(run: Run) -> dict[str, float]:
    """Share of right answers per question; truncated, unparsed and empty ones are wrong."""
    return _per_question(run, lambda s: float(_grade(s) == "right"))


@metric("unfinished", "share", better="lower", per="question")
def UNFINISHED(run: Run) -> dict[str, float]:
    """Share of answers without a result: truncated, unparsed or empty."""
    return _per_question(run, lambda s: float(_grade(s) in ("truncated", "unparsed", "empty")))


@metric("truncated", "share", better="lower", per="question")
def TRUNCATED(run: Run) -> dict[str, float]:
    """Share of answers that ran into the token budget."""
    return _per_question(run, lambda s: float(_grade(s) == "truncated"))


@metric("unparsed", "share", better="lower", per="question")
def UNPARSED(run: Run) -> dict[str, float]:
    """Share of finished answers in which no result can be found."""
    return _per_question(run, lambda s: float(_grade(s) == "unparsed"))


@metric("empty", "share", better="lower", per="question")
def EMPTY(run: Run) -> dict[str, float]:
    """Share of finished answers without any visible text."""
    return _per_question(run, lambda s: float(_grade(s) == "empty"))


@metric("agreement", "share", better="higher", per="pair")
def AGREEMENT(first: Run, second: Run) -> dict[str, float]:
    """Share of a question's answers that are word for word the other arm's, reasoning included.

    Only at temperature 0 does it say anything. The effect is held against full agreement.
    """
    texts = [
        {(s.prompt.id, s.prompt.repeat): "".join(d.text for d in s.deltas) for s in _finished(run)}
        for run in (first, second)
    ]
    if texts[0].keys() != texts[1].keys():
        raise MetricUnavailable("agreement: the arms did not answer the same questions")
    same: defaultdict[str, list[float]] = defaultdict(list)
    for key, text in texts[0].items():
        same[key[0]].append(float(text == texts[1][key]))
    return {question: statistics.fmean(values) for question, values in same.items()}


@metric("output tokens", "token", better="neither", per="question")
def OUTPUT_TOKENS(run: Run) -> dict[str, float]:
    """Tokens generated per answer, reasoning included, by the engine's count."""
    return _per_question(run, lambda s: _known(s.output_tokens, "output tokens"))


@metric("reasoning tokens", "token", better="neither", per="question")
def REASONING_TOKENS(run: Run) -> dict[str, float]:
    """Tokens before the first visible one."""
    return _per_question(run, lambda s: _known(s.reasoning_tokens, "tokens per delta"))


# ---- times


@metric("TPS", "token/s", better="higher", timed=True, fixed_length=True)
def TPS(run: Run) -> float:
    """Output tokens per second of the run, all requests together."""
    return sum(_known(s.output_tokens, "output tokens") for s in _finished(run)) / _duration(run)


@metric("deltas/s", "1/s", better="higher", timed=True, fixed_length=True)
def DELTAS_PER_S(run: Run) -> float:
    """Streamed deltas per second: the TPS of the paper's code. A delta may carry many tokens."""
    return sum(len(s.deltas) for s in _finished(run)) / _duration(run)


@metric("TTFT", "s", better="lower", timed=True)
def TTFT(run: Run) -> float:
    """Median seconds from the intended start to the first token of any kind."""
    return _median(run, lambda s: _since(s, s.first_token_s, "first token"))


@metric("TTFVT", "s", better="lower", timed=True)
def TTFVT(run: Run) -> float:
    """Mean seconds from the intended start to the first visible token, as in the paper.

    A request that never showed a visible token counts with its whole time: a lower bound.
    """
    return statistics.fmean(
        (s.ended_s if s.first_visible_s is None else s.first_visible_s) - s.intended_s
        for s in _finished(run)
    )


@metric("TBT", "s", better="lower", timed=True, fixed_length=True)
def TBT(run: Run) -> float:
    """Seconds between tokens, per request (last - first arrival) / tokens after the first; median.

    Within a delta of several tokens no time is invented: only their number counts.
    """
    return _median(run, _tbt)


@metric("E2E", "s", better="lower", timed=True)
def E2E(run: Run) -> float:
    """Mean seconds from the intended start to the end of the answer."""
    return statistics.fmean(s.ended_s - s.intended_s for s in _finished(run))


@metric("run time", "s", better="lower", timed=True)
def RUN_TIME(run: Run) -> float:
    """Seconds from the first intended start to the end of the last answer."""
    return _duration(run)


@metric("straggling", "share", better="lower")
def STRAGGLING(run: Run) -> float:
    """Share of a batch's time that is left when three quarters of its requests have ended."""
    ends = np.array([s.ended_s for s in _finished(run)]) - min(s.intended_s for s in run.samples)
    return float(1.0 - np.quantile(ends, 0.75) / ends.max())


# ---- the engine's telemetry


@metric("KV peak", "share", better="lower")
def KV_PEAK(run: Run) -> float:
    """Highest KV-cache use of the run, share of the cache."""
    return float(_while_busy(run).max())


@metric("KV mean", "share", better="lower")
def KV_MEAN(run: Run) -> float:
    """Mean KV-cache use over the run's readings, share of the cache."""
    return float(_while_busy(run).mean())


@metric("KV swing", "share", better="lower")
def KV_SWING(run: Run) -> float:
    """Largest fall of KV-cache use from a high to a later low while requests run."""
    use = _while_busy(run)
    return float((np.maximum.accumulate(use) - use).max())


@metric("preemptions", "share", better="lower")
def PREEMPTIONS(run: Run) -> float:
    """Preemptions per request: how often the engine threw a running request's KV cache away."""
    _finished(run)
    return counted(run, "preemptions") / len(run.samples)


@metric("prefix hits", "share", better="higher")
def PREFIX_HITS(run: Run) -> float:
    """Share of the prompts' tokens that were found in the prefix cache."""
    queries = counted(run, "prefix_queries")
    if queries <= 0:
        raise MetricUnavailable("the engine looked nothing up in a prefix cache: it was not on")
    return counted(run, "prefix_hits") / queries


@metric("acceptance rate", "share", better="higher")
def ACCEPTANCE_RATE(run: Run) -> float:
    """Accepted share of the tokens that speculation proposed."""
    return counted(run, "accepted_tokens") / _positive(counted(run, "draft_tokens"), "draft tokens")


@metric("acceptance length", "token", better="higher")
def ACCEPTANCE_LENGTH(run: Run) -> float:
    """Tokens per verified draft: one, and the accepted ones."""
    drafts = _positive(counted(run, "drafts"), "drafts")
    return 1.0 + counted(run, "accepted_tokens") / drafts


def _part(run: Run, tier: str, name: str) -> Run:
    samples = [s for s in run.samples if s.prompt.tier == tier]
    if not samples:
        tiers = sorted({s.prompt.tier for s in run.samples} - {""})
        raise MetricUnavailable(
            f"{name}: no request of the run is known to be of {tier!r}; there are "
            f"{', '.join(tiers) or 'none whose data set was told'}"
        )
    return replace(run, samples=samples)


def counted(run: Run, name: str) -> float:
    """How far a counter of the engine went up during a run.

    Raises:
        MetricUnavailable: the series was not recorded at the run's start and end.
    """
    times, values = run.series.get(name, ([], []))
    if not values:
        raise MetricUnavailable(_no_series(run, name))
    if times[0] > 0 or times[-1] < max((s.ended_s for s in run.samples), default=0.0):
        raise MetricUnavailable(
            f"the counter {name!r} was not read at both ends of the run, but from {times[0]:.2f} s "
            f"to {times[-1]:.2f} s"
        )
    return values[-1] - values[0]


def _while_busy(run: Run) -> np.ndarray:
    """Readings of KV use while at least one request was in flight, by the client's clock.

    The engine's own count of running requests is no help here: it is 0 between two waves of short
    answers, which are part of the run.
    """
    if "kv_use" not in run.series:
        raise MetricUnavailable(_no_series(run, "kv_use"))
    times, use = run.series["kv_use"]
    spans = [(s.sent_s, s.ended_s) for s in run.samples]
    busy = [u for t, u in zip(times, use, strict=True) if any(a <= t <= b for a, b in spans)]
    if len(busy) < 3:
        raise MetricUnavailable(
            f"KV use was read {len(busy)} times while requests were in flight, 3 are needed: "
            "the run is too short for its telemetry"
        )
    return np.array(busy)


def _no_series(run: Run, name: str) -> str:
    errors = "; ".join((run.closing or {}).get("telemetry_errors", {}))
    return (
        f"the series {name!r} was not recorded; there are {', '.join(sorted(run.series)) or 'none'}"
        + (f"; telemetry said: {errors}" if errors else "")
    )


def _finished(run: Run) -> list[Sample]:
    finished = [s for s in run.samples if s.error is None]
    if not finished:
        raise MetricUnavailable("no request of the run finished")
    return finished


def _per_question(run: Run, number: Callable[[Sample], float]) -> dict[str, float]:
    numbers: defaultdict[str, list[float]] = defaultdict(list)
    for sample in _finished(run):
        numbers[sample.prompt.id].append(number(sample))
    return {question: statistics.fmean(values) for question, values in numbers.items()}


def _median(run: Run, number: Callable[[Sample], float]) -> float:
    return statistics.median(number(sample) for sample in _finished(run))


def _grade(sample: Sample) -> str:
    prompt = sample.prompt
    return grade(sample.answer, prompt.answer, prompt.kind, sample.finish_reason)


def _tbt(sample: Sample) -> float:
    counts = [(d.at_s, _known(d.tokens, "tokens per delta")) for d in sample.deltas]
    carried = [(at_s, tokens) for at_s, tokens in counts if tokens]
    if len(carried) < 2:
        raise MetricUnavailable(f"TBT: the answer to {sample.prompt.id} came in one delta")
    return (carried[-1][0] - carried[0][0]) / sum(tokens for _, tokens in carried[1:])


def _since(sample: Sample, at_s: float | None, what: str) -> float:
    if at_s is None:
        raise MetricUnavailable(f"the answer to {sample.prompt.id} has no {what}")
    return at_s - sample.intended_s


def _known(count: int | None, what: str) -> float:
    if count is None:
        raise MetricUnavailable(f"the engine did not report {what}")
    return float(count)


def _positive(value: float, what: str) -> float:
    if value <= 0:
        raise MetricUnavailable(f"the engine counted no {what}: speculation was not on")
    return value


def _duration(run: Run) -> float:
    _finished(run)
    if run.duration_s <= 0:
        raise MetricUnavailable("the run took no time")
    return run.duration_s
