"""How long a server may take to start, what it does meanwhile, and why it did not."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..checkpoints.on_disk import weights_bytes
from ..experiment.serving import Serving
from ..models import ModelPair
from .base import DidNotStart, Endpoint, EngineError, Launcher
from .causes import KILLED
from .last_words import cause, step
from .ports import taken
from .server import Started

BASE_S = 300.0
"""Seconds for a start whatever is served: an engine of some gigabytes is imported."""
COMPILING_S = 300.0
"""Seconds more on a GPU, where kernels and graphs are made when they are first used: cold starts of
277 s (RTX 5090) and 345 s (a 7B with an FP8 KV cache on an H100) are reported of vLLM (#44881,
#52682), of which reading the weights took some seconds."""
PER_GIB_S = 20.0
"""Seconds per GiB of weights: 54 MB/s, less than a hard disk or a network reads."""
DOWNLOAD_PER_GIB_S = 100.0
"""Seconds more per GiB that is not on this machine yet: 11 MB/s, a line of 90 Mbit/s."""
QUIET_S = 60.0
"""Seconds without a line in its log after which a server is said to be silent."""
LAST_BYTES = 4096
"""Of a log, which hold what a server does now."""
KILLS = (-9, 137)
"""Statuses of a process that SIGKILL ended, as Python and as a shell say it."""


def seconds_of(text: str | None) -> float | None:
    """The seconds that an option says; None where it says none.

    Raises:
        ValueError: it is no whole number above 0.
    """
    if text is None:
        return None
    if not text.isdecimal() or not int(text):
        raise ValueError(f"a whole number of seconds, 1 or more, not {text!r}")
    return float(text)


def start_time_s(
    stored_gib: float, absent_gib: float = 0.0, *, on_cpu: bool, base_s: float = BASE_S
) -> float:
    """Seconds within which a server should be healthy, in whole tens.

    Args:
        stored_gib: size of what it loads and this machine has, in GiB.
        absent_gib: size of what it has to download first, in GiB.
        on_cpu: whether the engine is known to serve on a CPU.
        base_s: for a start whatever is served.
    """
    reading = PER_GIB_S * (stored_gib + absent_gib) + DOWNLOAD_PER_GIB_S * absent_gib
    return round(base_s + (0 if on_cpu else COMPILING_S) + reading, -1)


def time_for(engine: Endpoint, serving: Serving, pair: ModelPair) -> float:
    """Seconds within which a server of that kind should be healthy, see :func:`start_time_s`.

    Args:
        engine: that serves.
        serving, pair: how, and what; models that are not on this machine are as large as their
            number of parameters tells, two bytes each.
    """
    drafter = serving.speculative if serving.speculative in ("draft", "eagle") else None
    models = [pair.weights(serving.model, serving.quantization)[0]]
    models += [pair.path(drafter)] if drafter else []
    sizes = [weights_bytes(model) for model in models]
    absent = 2 * (pair.size_b or 0) * 1e9 if sizes[0] is None else 0
    stored = sum(size or 0 for size in sizes)
    return start_time_s(stored / 2**30, absent / 2**30, on_cpu=engine.on_cpu)


def wait_until_healthy(
    server: Started, limit_s: float, begun: float, say: Callable[[str], None]
) -> None:
    """Return when a server answers that it is well.

    Args:
        server: that is starting.
        limit_s: seconds since its start after which it has failed.
        begun: its start, by ``time.monotonic``.
        say: told what is waited for.

    Raises:
        DidNotStart: it ended before; with the cause, as far as its log tells it.
        EngineError: it is not healthy in time, or another server listens at its port.
    """
    label = server.engine.label
    while True:
        waited = time.monotonic() - begun
        if not server.alive:
            why = _why(server)
            raise DidNotStart(
                f"{label} ended with status {server.status} after {waited:.0f} s, before it "
                f"was healthy{why}\n{server.last_words()}",
                why,
            )
        if server.answers(server.engine.health_path):
            if found := taken(server.port, server.process.pid):
                raise EngineError(f"{label}: {found}\n{server.last_words()}")
            return
        quiet = _quiet(server, begun)
        if waited > limit_s:
            raise EngineError(
                f"{label} was not healthy after {limit_s:.0f} s{quiet}{_why(server)}; if it only "
                "needs longer, --rllm-start-timeout=SECONDS says how long it may take\n"
                f"{server.last_words()}"
            )
        now = step(server.log_lines(LAST_BYTES))
        say(
            f"starting {label}: {server.serving} ({waited:.0f} of {limit_s:.0f} s{quiet})"
            f"{f': {now}' if now else ''}"
        )
        time.sleep(0.2)


def _why(server: Started) -> str:
    """Why it did not start, to append to a sentence; empty where nothing tells."""
    if found := taken(server.port, server.process.pid):
        return f" ({found})"
    engine = server.engine
    known = engine.causes if isinstance(engine, Launcher) else ()
    if why := cause(server.log_lines(), known):
        return why
    return f": {KILLED}" if server.status in KILLS else ""


def _quiet(server: Started, begun: float) -> str:
    """That its log has no new line for long, to append to a sentence; empty where it has."""
    last = server.log.stat().st_mtime
    silent = min(time.time() - last, time.monotonic() - begun)
    return f", and said nothing for {silent:.0f} s" if silent > QUIET_S else ""
