"""What a session costs: told before it starts, while it runs, and kept for the next one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from ..cache import cache_folder
from ..engines.base import Endpoint
from ..experiment.tiers import Tier
from ..telemetry.gpu import Gpu
from ..telemetry.hardware import hardware_id
from ..telemetry.machine import fingerprint
from .pace import Pace
from .plan import Plan


@dataclass
class Costs:
    """The costs of one session.

    Attributes:
        engine: tells the engine that is measured, once it is asked for.
        gpu: the GPUs of this machine.
        tier: how much is measured of a comparison.
        agenda: test cases that the session is to measure, ``finding/case``, in order.
    """

    engine: Callable[[], Endpoint]
    gpu: Gpu
    tier: Tier
    agenda: list[str] = field(default_factory=list)

    @cached_property
    def machine(self) -> str:
        """Fingerprint of this machine."""
        return fingerprint(self.gpu)

    @cached_property
    def pace(self) -> Pace:
        """What measuring this engine took on this machine the last time."""
        label = re.sub(r"[^\w.+-]+", "-", self.engine().label)
        return Pace.read(cache_folder() / "pace" / self.machine / f"{label}.json")

    @cached_property
    def plan(self) -> Plan:
        """What the session would measure, filled by the tests of a session that only plans."""
        return Plan(self.pace)

    def plan_lines(self, width: int) -> list[str]:
        """The plan with what it is of, for a terminal of so many columns."""
        engine = self.engine()
        on = hardware_id(self.gpu, on_cpu=engine.on_cpu)
        about = [
            f"{engine.label} on {on}, machine {self.machine}; nothing was started",
            f"tier {self.tier.name}: {self.tier.says}",
        ]
        return self.plan.lines(width, about)

    def later_s(self, case: str, comparison: str) -> float | None:
        """Estimated seconds of all that comes after a comparison; None where that is unknown.

        Args:
            case: ``finding/case``.
            comparison: its key within the case.
        """
        if case not in self.agenda:
            return None
        later = self.agenda[self.agenda.index(case) + 1 :]
        return self.pace.later_s(case, comparison, later)

    def keep(self) -> None:
        """Keep what was measured for the next session."""
        if "pace" in self.__dict__:
            self.pace.write()
