"""What is known about an engine on a class of machine: how far two servers of one build lie apart.

Two processes that serve the same model from the same build differ a little in speed for as long as
they live (memory layout, for one). No number of blocks on one pair of servers averages that away,
so the intervals of timed metrics are widened by it. ``benchmarks/calibration`` measures it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ..metrics import Metric


class MachineError(ValueError):
    """A file on a machine cannot be used; the message says where it is and what to do."""


UNMEASURED = 0.02
"""Standard deviation (log ratio) that is assumed where nobody has measured it: 2 %."""
FILE = "machine.json"


@dataclass(frozen=True)
class Machine:
    """A class of machine, with one engine on it.

    Attributes:
        hardware: name of the class, see ``telemetry.hardware.hardware_id``.
        server_spread: per timed metric the standard deviation of the log ratio between two fresh
            servers of one build, what their blocks' own scatter explains taken off.
        sittings: pairs of servers behind that; 0 when nothing was measured.
    """

    hardware: str
    server_spread: Mapping[str, float] = field(default_factory=dict)
    sittings: int = 0

    def spread(self, metric: Metric) -> float:
        """Standard deviation between servers for a metric; 0 for what does not depend on time."""
        if not metric.timed:
            return 0.0
        return self.server_spread.get(metric.whole or metric.name, UNMEASURED)


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
        return Machine(hardware, spread, int(content["sittings"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MachineError(
            f"{path}: not what is known of a machine ({type(error).__name__}: {error}); fix the "
            "file, or measure it anew: benchmarks/calibration"
        ) from error
