"""Findings about serving reasoning language models, as pytest tests with verdicts.

Public names are imported when first used, so that an installed but unused plugin costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "plugin.conformance": ("EngineConformance",),
    "plugin.findings": ("finding", "in_tier", "upgrade"),
    "experiment.serving": ("Serving",),
    "experiment.turns": ("TURN_TOKENS",),
    "experiment.workloads": ("Sampling", "Workload", "closed", "gamma", "poisson", "together"),
    "datasets.prompts": ("Prompt",),
    "experiment.arm": ("Arm",),
    "verdicts.claims": (
        "higher",
        "lower",
        "no_worse",
        "not_higher",
        "not_lower",
        "pct",
        "pp",
        "unchanged",
    ),
    "verdicts.contrasts": ("falls", "flat", "levels_off", "rises"),
    "metrics": (
        "UNPARSED",
        "TRUNCATED",
        "PREFIX_HITS",
        "PREEMPTIONS",
        "EMPTY",
        "FAILED",
        "AGREEMENT",
        "ACCEPTANCE_LENGTH",
        "ACCEPTANCE_RATE",
        "ACCURACY",
        "CHANGED_NUMERICS",
        "DECODE_PER_PREFILL",
        "DELTAS_PER_S",
        "E2E",
        "E2E_P90",
        "EARLY_AGREEMENT",
        "KV_FULL",
        "KV_MEAN",
        "KV_PEAK",
        "KV_ROOM",
        "KV_SWING",
        "LANES_FILLED",
        "OUTPUT_TOKENS",
        "REASONING_TOKENS",
        "RUN_TIME",
        "SANITY",
        "STRAGGLING",
        "TBT",
        "TBT_P99",
        "TPS",
        "TTFT",
        "TTFT_P90",
        "TTFVT",
        "UNFINISHED",
        "goodput",
        "in_time",
        "metric",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]

if TYPE_CHECKING:
    from .datasets.prompts import Prompt as Prompt
    from .experiment.arm import Arm as Arm
    from .experiment.serving import Serving as Serving
    from .experiment.turns import TURN_TOKENS as TURN_TOKENS
    from .experiment.workloads import Sampling as Sampling
    from .experiment.workloads import Workload as Workload
    from .experiment.workloads import closed as closed
    from .experiment.workloads import gamma as gamma
    from .experiment.workloads import poisson as poisson
    from .experiment.workloads import together as together
    from .metrics import ACCEPTANCE_LENGTH as ACCEPTANCE_LENGTH
    from .metrics import ACCEPTANCE_RATE as ACCEPTANCE_RATE
    from .metrics import ACCURACY as ACCURACY
    from .metrics import AGREEMENT as AGREEMENT
    from .metrics import CHANGED_NUMERICS as CHANGED_NUMERICS
    from .metrics import DECODE_PER_PREFILL as DECODE_PER_PREFILL
    from .metrics import DELTAS_PER_S as DELTAS_PER_S
    from .metrics import E2E as E2E
    from .metrics import E2E_P90 as E2E_P90
    from .metrics import EARLY_AGREEMENT as EARLY_AGREEMENT
    from .metrics import EMPTY as EMPTY
    from .metrics import FAILED as FAILED
    from .metrics import KV_FULL as KV_FULL
    from .metrics import KV_MEAN as KV_MEAN
    from .metrics import KV_PEAK as KV_PEAK
    from .metrics import KV_ROOM as KV_ROOM
    from .metrics import KV_SWING as KV_SWING
    from .metrics import LANES_FILLED as LANES_FILLED
    from .metrics import OUTPUT_TOKENS as OUTPUT_TOKENS
    from .metrics import PREEMPTIONS as PREEMPTIONS
    from .metrics import PREFIX_HITS as PREFIX_HITS
    from .metrics import REASONING_TOKENS as REASONING_TOKENS
    from .metrics import RUN_TIME as RUN_TIME
    from .metrics import SANITY as SANITY
    from .metrics import STRAGGLING as STRAGGLING
    from .metrics import TBT as TBT
    from .metrics import TBT_P99 as TBT_P99
    from .metrics import TPS as TPS
    from .metrics import TRUNCATED as TRUNCATED
    from .metrics import TTFT as TTFT
    from .metrics import TTFT_P90 as TTFT_P90
    from .metrics import TTFVT as TTFVT
    from .metrics import UNFINISHED as UNFINISHED
    from .metrics import UNPARSED as UNPARSED
    from .metrics import goodput as goodput
    from .metrics import in_time as in_time
    from .metrics import metric as metric
    from .plugin.conformance import EngineConformance as EngineConformance
    from .plugin.findings import finding as finding
    from .plugin.findings import in_tier as in_tier
    from .plugin.findings import upgrade as upgrade
    from .verdicts.claims import higher as higher
    from .verdicts.claims import lower as lower
    from .verdicts.claims import no_worse as no_worse
    from .verdicts.claims import not_higher as not_higher
    from .verdicts.claims import not_lower as not_lower
    from .verdicts.claims import pct as pct
    from .verdicts.claims import pp as pp
    from .verdicts.claims import unchanged as unchanged
    from .verdicts.contrasts import falls as falls
    from .verdicts.contrasts import flat as flat
    from .verdicts.contrasts import levels_off as levels_off
    from .verdicts.contrasts import rises as rises


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'pytest_rllm' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
