"""How much a comparison takes: looks that its questions can fill, servers that its claims need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..engines.server import key_of
from ..experiment.arm import Arm
from ..models import ModelPair
from ..telemetry.hardware import hardware_id
from ..verdicts.claims import Claim
from ..verdicts.sequential import confidences
from .comparison import one
from .session import Session


@dataclass(frozen=True)
class Setting:
    """Where and how a comparison of a test case is measured.

    Attributes:
        where: folder of its records, relative to the session's.
        key: among the case's stored numbers.
        sizes: numbers of blocks at which the claims are looked at.
        parts: into how many blocks the prompts are split.
        servers: how many servers of each arm claims need.
    """

    where: Path
    key: str
    sizes: tuple[int, ...]
    parts: int
    servers: Callable[[Sequence[Claim]], int]


def fitting(looks: tuple[int, ...], *arms: Arm) -> tuple[int, ...]:
    """Those looks that the questions of the arms can fill, the first in any case."""
    questions = min(len({prompt.id for prompt in arm.prompts}) for arm in arms)
    return tuple(size for size in looks if size <= questions) or looks[:1]


def servers_for(
    session: Session, pair: ModelPair, arms: Sequence[Arm], sizes: tuple[int, ...]
) -> Callable[[Sequence[Claim]], int]:
    """How many servers of each arm the claims on them need, see ``Machine.servers_needed``; no more
    than there are blocks for.

    Args:
        session: whose machine is known.
        pair: the models.
        arms: all arms of the comparison.
        sizes: numbers of blocks at which the claims are looked at.
    """
    if session.replaying:
        return one  # the records have their servers
    engines = [session.engines.of(arm.engine) for arm in arms]
    keys = {key_of(engine, arm.serving, pair) for engine, arm in zip(engines, arms, strict=True)}
    if len(keys) == 1 or any(engine.url is not None for engine in engines):
        return one
    machines = [
        session.machine(hardware_id(session.gpu, on_cpu=engine.on_cpu), engine.name)
        for engine in engines
    ]

    def needed(claims: Sequence[Claim]) -> int:
        confidence, most = confidences(sizes)[-1], -(-sizes[-1] // sizes[0])
        pairs = [
            machine.servers_needed(claim.metric, claim.margin, confidence) or most
            for machine in machines
            for claim in claims
        ]
        return min(most, max(pairs))

    return needed


def stored_effects(
    session: Session, finding: str, case: str, arm: Arm
) -> Mapping[str, Sequence[float]]:
    """Effects of the baseline of this class of machine, else of another one."""
    engine, baselines = session.engines.of(arm.engine), session.baselines
    where = hardware_id(session.gpu, on_cpu=engine.on_cpu), engine.name, finding
    stored = baselines.cases(*where).get(case)
    others = baselines.elsewhere(*where, case) if stored is None else {}
    found = next(iter(others.values()), stored)
    return {} if found is None else found.effects
