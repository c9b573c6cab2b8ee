"""Metrics of recorded runs. Importing this package registers all of them in ``METRICS``."""

from .answers import (
    ACCURACY,
    AGREEMENT,
    EMPTY,
    FAILED,
    OUTPUT_TOKENS,
    REASONING_TOKENS,
    TRUNCATED,
    UNFINISHED,
    UNPARSED,
)
from .base import METRICS, Metric, MetricUnavailable, metric
from .engine import (
    ACCEPTANCE_LENGTH,
    ACCEPTANCE_RATE,
    KV_MEAN,
    KV_PEAK,
    KV_SWING,
    PREEMPTIONS,
    PREFIX_HITS,
    counted,
    while_busy,
)
from .latency import DELTAS_PER_S, E2E, RUN_TIME, STRAGGLING, TBT, TPS, TTFT, TTFVT

__all__ = [
    "ACCEPTANCE_LENGTH",
    "ACCEPTANCE_RATE",
    "ACCURACY",
    "AGREEMENT",
    "DELTAS_PER_S",
    "E2E",
    "EMPTY",
    "FAILED",
    "KV_MEAN",
    "KV_PEAK",
    "KV_SWING",
    "METRICS",
    "OUTPUT_TOKENS",
    "PREEMPTIONS",
    "PREFIX_HITS",
    "REASONING_TOKENS",
    "RUN_TIME",
    "STRAGGLING",
    "TBT",
    "TPS",
    "TRUNCATED",
    "TTFT",
    "TTFVT",
    "UNFINISHED",
    "UNPARSED",
    "Metric",
    "MetricUnavailable",
    "counted",
    "metric",
    "while_busy",
]
