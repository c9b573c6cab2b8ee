"""Whether a number format is why a server cannot be measured: tried without it, and once more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ..engines.base import CannotServe, DidNotStart, Endpoint, EngineError, RefusesFormat
from ..engines.pool import Pool
from ..experiment.arm import Arm
from ..models import ModelPair
from .probes import Probes


@contextmanager
def formats_tried(
    pool: Pool, probes: Probes, pair: ModelPair, wanted: Sequence[tuple[Endpoint, Arm]]
) -> Iterator[None]:
    """While the servers of some arms are made ready: find out what an error comes from.

    Args:
        pool, probes, pair: of the session.
        wanted: the arms with their engines.

    Raises:
        RefusesFormat: without its formats for weights and the KV cache an arm's server starts and
            answers, and with them it fails again.
        EngineError: as it was raised.
    """
    try:
        yield
    except CannotServe:
        raise
    except EngineError as error:
        for engine, arm in wanted:
            own = replace(arm.serving, quantization=None, kv_cache_dtype=None)
            if own == arm.serving or engine.url is not None:
                continue
            if isinstance(error, DidNotStart):
                pool.try_without_formats(engine, arm.serving, pair, error)
                continue
            probes.signature(pool.serve(engine, own, pair), arm.engine)
            try:
                probes.signature(pool.serve(engine, arm.serving, pair), arm.engine)
            except EngineError as again:
                raise RefusesFormat(
                    f"{engine.label} starts '{arm.serving}' and does not answer, and answers "
                    f"'{own}': {str(again).splitlines()[0]}"
                ) from error
        raise
