"""What is known about an engine on a class of machine: how far two servers of one build lie apart.

Two processes that serve the same model from the same build differ a little in speed for as long as
they live (memory layout, for one). No number of blocks on one pair of servers averages that away,
so the intervals of timed metrics are widened by it. ``benchmarks/calibration`` measures it.
What is stored or assumed is where a session begins: its own servers add what they show.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from ..metrics import Metric
from ..verdicts.claims import Margin
from ..verdicts.intervals import CONFIDENCE
from ..verdicts.server_spread import NO_SPREAD, ServerSpread


class MachineError(ValueError):
    """A file on a machine cannot be used; the message says where it is and what to do."""


UNMEASURED = ServerSpread(0.02, 2)
"""What is assumed where nobody has measured it: 2 %, as 1.3 to 2.4 % were measured on one machine.
Two degrees of freedom: as sure of it as three pairs of servers would make one."""
FILE = "machine.json"
FEWEST_SITTINGS = 2
"""Pairs of servers that show a spread at all."""
SERVER_POWER = 0.95
"""How often the spread between servers alone may leave room for a verdict."""
MOST_SERVERS = 1000
"""Pairs of servers that nobody starts."""


@dataclass(frozen=True)
class Machine:
    """A class of machine, with one engine on it.

    Attributes:
        hardware: name of the class, see ``telemetry.hardware.hardware_id``.
        server_spread: per timed metric the standard deviation of the log ratio between two fresh
            servers of one build, what their blocks' own scatter explains taken off.
        sittings: pairs of servers behind that, 2 or more; 0 when nothing was measured.
    """

    hardware: str
    server_spread: Mapping[str, float] = field(default_factory=dict)
    sittings: int = 0

    def measured(self, metric: Metric) -> bool:
        """Whether the spread of a metric was measured; true of what does not depend on time."""
        return not metric.timed or (metric.whole or metric.name) in self.server_spread

    def spread(self, metric: Metric) -> ServerSpread:
        """Of a metric between two servers of one build, with ``sittings`` - 1 degrees of freedom;
        none for what does not depend on time."""
        if not metric.timed:
            return NO_SPREAD
        if not self.measured(metric):
            return UNMEASURED
        return ServerSpread(self.server_spread[metric.whole or metric.name], self.sittings - 1)

    def servers_needed(
        self, metric: Metric, margin: Margin, confidence: float = CONFIDENCE
    ) -> int | None:
        """How many pairs of fresh servers a claim needs, however many blocks each of them serves.

        The fewest k with ``(t_c + t_power) * sd / sqrt(k) <= margin``, for a power of 95 %. That is
        ``k >= ((z_c + z_power) * sd / margin) ** 2`` where the spread is known well; t has the
        degrees of freedom of what is known and k - 1 more.

        Args:
            metric: what is claimed of.
            margin: between the true effect and the claim's bound.
            confidence: two-sided, of the interval.

        Returns:
            1 for what does not depend on time; None where no number that can be started is enough.
        """
        from scipy import stats

        known = self.spread(metric)
        if known.sd == 0:
            return 1
        k = np.arange(1, MOST_SERVERS + 1)
        df = known.df + k - 1
        quantiles = stats.t.ppf(0.5 + confidence / 2, df) + stats.t.ppf(SERVER_POWER, df)
        enough = quantiles * known.sd <= margin.up() * np.sqrt(k)
        return int(enough.argmax()) + 1 if enough.any() else None


@cache
def machine(folder: Path, hardware: str, engine: str) -> Machine:
    """What ``<folder>/<hardware>/<engine>/machine.json`` holds, or a machine of which nothing is
    known.

    Raises:
        MachineError: the file is there and is broken, or it lies where it lay before it was known
            per engine.
    """
    path = folder / hardware / engine / FILE
    before = folder / hardware / FILE
    if not path.is_file() and before.is_file():
        raise MachineError(
            f"{before}: the spread between servers belongs to one engine now; if it was measured "
            f"with {engine}, move the file to {path}, else to the folder of its engine"
        )
    if not path.is_file():
        return Machine(hardware)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        spread = {str(k): float(v) for k, v in content["server_spread"].items()}
        wrong = [name for name, value in spread.items() if not 0 <= value < math.inf]
        if wrong:
            raise ValueError(f"a spread is a finite number of at least 0: {', '.join(wrong)}")
        sittings = int(content["sittings"])
        if spread and sittings < FEWEST_SITTINGS:
            raise ValueError(f"{sittings} sittings show no spread, {FEWEST_SITTINGS} do")
        return Machine(hardware, spread, sittings)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MachineError(
            f"{path}: not what is known of a machine ({type(error).__name__}: {error}); fix the "
            "file, or measure it anew: benchmarks/calibration"
        ) from error
