"""Runs in which a GPU was throttled, or served others, too: they say nothing of the engine's
times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..records.run import Run
from ..telemetry.neighbours import UNSEEN_GIB
from ..telemetry.throttling import MOST, throttled_by


def disturbed_gpu(run: Run) -> str | None:
    """Why the GPUs of a run were not as they are when an engine has them for itself; None where
    they were, or nobody knows."""
    return next(_reasons(run), None)


def _reasons(run: Run) -> Iterator[str]:
    for device, who in run.header.gpu_strangers.items():
        yield f"{device} was shared: {who}"
    devices = dict.fromkeys(name.partition("_")[0] for name in run.series if name[:3] == "gpu")
    for device in devices:
        yield from _throttled(run, device)
        yield from _shared(run, device)


def _throttled(run: Run, device: str) -> Iterator[str]:
    readings = _values(run, f"{device}_clock_reasons")
    named = [names for names in map(throttled_by, readings) if names]
    if not readings or len(named) <= MOST * len(readings):
        return
    bits = Counter(name for names in named for name in names)
    yield (
        f"{device} was throttled in {len(named) / len(readings):.0%} of {len(readings)} readings "
        f"({', '.join(bits)}), {MOST:.0%} are allowed"
    )


def _shared(run: Run, device: str) -> Iterator[str]:
    processes, held = _values(run, f"{device}_processes"), _values(run, f"{device}_memory_gib")
    if any(processes):
        if min(processes) < max(processes):
            yield f"{device} was shared: processes came or went while it was measured"
    elif held and max(held) - min(held) > UNSEEN_GIB:
        yield (
            f"{device} was shared: what is held of its memory went from {min(held):.1f} to "
            f"{max(held):.1f} GiB while it was measured, and its driver lists no processes"
        )


def _values(run: Run, name: str) -> list[float]:
    return run.series[name][1] if name in run.series else []
