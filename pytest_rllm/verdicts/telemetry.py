"""Why what an engine tells of itself cannot be used: lost, impossible, or of something else."""

from __future__ import annotations

from collections.abc import Iterator

from ..engines.capabilities import COUNTERS, GAUGES
from ..metrics.engine import LEAST_READINGS, busy_readings
from ..records.run import Run
from ..telemetry.series import fall, impossible
from .reasons import TIMES, Fault, Side

LOST = 0.1
"""A single page may come late; when a larger share is lost, the engine does not answer."""
NOT_THE_ENGINES = ("host_", "gpu")
"""Series that are not read from the engine's page: they go on when the engine stops answering."""
PARTS = {"prefix_hits": "prefix_queries", "accepted_tokens": "draft_tokens"}
"""Counters that cannot grow more than those that they are a part of."""
OF_WORK = ("kv_use", "running")
"""Gauges that cannot be 0 all the time while an engine makes tokens."""
COUNTED = 0.5
"""An engine that counts less than this share of the tokens that arrived here does not count all.
What it counts at the end of a request may be missing of the last ones."""

_CHECKED = "telemetry"


def faults_of_telemetry(run: Run, arm: str, side: Side) -> Iterator[Fault]:
    """What costs the claims that rest on an engine's own telemetry, by the name of the series."""
    assert run.closing is not None
    if (whole := _lost(run)) is not None:
        yield _fault(arm, whole, "*", side, kind="telemetry")
    for series, why in run.closing.get("series_missing", {}).items():
        yield _fault(arm, why, series, side)
    if run.closing["monitor_error"]:
        yield Fault(f"{arm}: the monitor stopped: {run.closing['monitor_error']}", TIMES)
    if _CHECKED not in run.computed:  # claims are judged again at every look
        run.computed[_CHECKED] = [*_impossible(run)], _fallen(run) or _uncounted(run)
    impossible_ones, of_another = run.computed[_CHECKED]
    for series, why in impossible_ones:
        yield _fault(arm, f"{series} {why}", series, side)
    if of_another:  # not the engine's doing where a balancer stands before it
        yield _fault(arm, of_another, "*", side, kind="another process", by_engine=False)


def _fault(
    arm: str, text: str, series: str, side: Side, kind: str = "", *, by_engine: bool = True
) -> Fault:
    return Fault(
        f"{arm}: {text}",
        frozenset(),
        series=(series,),
        kind=kind or f"series {series}",
        side=side,
        by_engine=by_engine,
    )


def _lost(run: Run) -> str | None:
    """Which pages failed, where too many did."""
    assert run.closing is not None
    lost = run.closing["telemetry_errors"]
    engines = (t for name, (t, _) in run.series.items() if not name.startswith(NOT_THE_ENGINES))
    read = max(map(len, engines), default=0)
    if sum(lost.values()) <= LOST * (sum(lost.values()) + read):
        return None
    return f"telemetry failed: {'; '.join(lost)}"


def _impossible(run: Run) -> Iterator[tuple[str, str]]:
    """Series with a value that they cannot have, and which."""
    for series in (*GAUGES, *COUNTERS):
        times, values = run.series.get(series, ([], []))
        for at, value in zip(times, values, strict=True):
            if why := impossible(series, value):
                yield series, f"is {why} (after {at:.1f} s)"
                break
    for part, whole in PARTS.items():
        of_part, of_whole = _growth(run, part), _growth(run, whole)
        if of_part is not None and of_whole is not None and of_part > of_whole:
            yield part, f"grew by {of_part:g}, {whole} by {of_whole:g}, of which it is a part"
    for series in OF_WORK:
        busy = busy_readings(run, series)
        if len(busy) >= LEAST_READINGS and not busy.any() and _tokens(run):
            yield (
                series,
                f"stayed at 0 at {len(busy)} readings while requests ran and {_tokens(run)} tokens "
                "arrived",
            )


def _fallen(run: Run) -> str | None:
    """Counters that fell: then all series are of more than one process."""
    falls = {
        series: why
        for series in COUNTERS
        if series in run.series and (why := fall(*run.series[series]))
    }
    if not falls:
        return None
    (series, why), *others = falls.items()
    and_others = f"; so did {', '.join(name for name, _ in others)}" if others else ""
    return f"{series} {why}{and_others}"


def _uncounted(run: Run) -> str | None:
    """Tokens that an engine made and did not count: the page is of another one, or stands still."""
    counted, arrived = _growth(run, "generation_tokens"), _tokens(run)
    if counted is None or counted >= COUNTED * arrived:
        return None
    return (
        f"generation_tokens grew by {counted:g} while {arrived} tokens arrived: the page is not of "
        "the engine that answers, or of one of several, or it stands still"
    )


def _growth(run: Run, series: str) -> float | None:
    """By how much a counter grew; None where it was not told."""
    values = run.series.get(series, ([], []))[1]
    return values[-1] - values[0] if values else None


def _tokens(run: Run) -> int:
    """Tokens of the answers that arrived, as far as they are counted."""
    return sum(sample.output_tokens or 0 for sample in run.samples if not sample.error)
