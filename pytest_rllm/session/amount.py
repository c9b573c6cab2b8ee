"""How much a comparison takes: looks that its questions can fill, questions and servers that its
claims need; whether its questions can be asked of the models at all, and what GPUs allow it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..engines.server import key_of
from ..experiment.arm import Arm
from ..metrics.answers import ACCURACY
from ..metrics.base import Metric
from ..models import ModelPair
from ..telemetry.hardware import hardware_id
from ..verdicts.claims import Claim
from ..verdicts.means import unseen
from ..verdicts.sequential import confidences
from ..verdicts.tails import NO_HARM
from .comparison import one
from .limits import Limits
from .session import Session

MARKS = 8
"""Tokens that a chat template adds to a message, about."""


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
    questions = min(arm.units for arm in arms)
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


def too_few_questions(claim: Claim, arms: Sequence[Arm], confidence: float) -> str | None:
    """Why a claim on shares of answers could not hold even if no answer changed; None if it could.

    Where no answer of n independent questions changed, a share of up to
    ``1 - ((1 - confidence) / 2) ** (1 / n)`` may change unseen (Clopper and Pearson, Biometrika
    1934). Questions of one template are not independent and count once.

    Args:
        claim: that is to be judged.
        arms: both sides, with all the questions that they are ever asked.
        confidence: two-sided, of the interval at the last look.
    """
    margin, metric = claim.margin, claim.metric
    if metric.per == "run" or claim.verb not in NO_HARM or margin.scale != "points":
        return None
    if not 0 < margin.size < 100:
        return None
    first, second = (
        {p.id: p.template for p in arm.prompts if metric.tier in ("", p.tier)} for arm in arms
    )
    n = len(set(first.values()))
    if first != second or n == 0:
        return None  # judged by blocks, or not at all
    error = (1 - confidence) / 2
    may_change = unseen(error, n)
    if may_change < margin.size / 100:
        return None
    needed = math.floor(math.log(error) / math.log1p(-margin.size / 100)) + 1
    of_tier = f" of tier {metric.tier}" if metric.tier else ""
    return (
        f"{n} independent questions{of_tier} are too few for it to hold: if no answer changes, "
        f"{100 * may_change:.1f} pp may still change unseen; {needed} questions would do"
    )


def limits_of(session: Session, pair: ModelPair, arms: Sequence[Arm], blocks: int) -> Limits | None:
    """What the GPUs of this machine allow; None in a replay, of two builds, and where the arms are
    not served on these GPUs."""
    if session.replaying or session.engines.builds is not None or not pair.gpu_memory_gib:
        return None
    engines = [session.engines.for_arm(arm) for arm in arms]
    if session.gpu.why_not or any(engine.on_cpu or engine.url is not None for engine in engines):
        return None
    return Limits(arms, pair, session.gpu, blocks)


def cannot_hold(
    session: Session, arms: Sequence[Arm], setting: Setting, limits: Limits | None
) -> Callable[[Claim], str | None]:
    """Why a claim cannot hold whatever is measured, None where it can: of two builds, with so few
    questions; else on these GPUs, which is kept for a replay.

    Args:
        session: that measures.
        arms: both sides.
        setting: where and how they are measured.
        limits: what the GPUs allow.
    """

    def why_not(claim: Claim) -> str | None:
        if session.engines.builds is not None:
            return too_few_questions(claim, arms, confidences(setting.sizes)[-1])
        why = None if limits is None else limits.too_small(claim)
        return session.not_measured(setting.where / claim.slug, why)

    return why_not


def no_room(arm: Arm, pair: ModelPair) -> str | None:
    """Why an arm's prompts do not fit into the context of its model together with their answers;
    None where they do.

    Prompts are counted only where the model's tokenizer is at hand: else the engine itself refuses
    what does not fit.
    """
    context, answer = pair.context_of(arm.serving.model), arm.sampling.max_tokens
    if answer >= context:
        return (
            f"an answer may take {answer:,} tokens, and the {arm.serving.model} model of the pair "
            f"{pair.name!r} has a context of {context:,}: ask for shorter answers (its budgets), "
            "or name a model with a longer context"
        )
    longest = max(
        arm.prompts, key=lambda p: sum(len(each["content"]) for each in p.messages), default=None
    )
    if longest is None:
        return None
    count = _counter(pair.reasoning if arm.serving.model == "reasoning" else pair.plain)
    if count is None:
        return None
    tokens = sum(count(each["content"]) + MARKS for each in longest.messages)
    room = context - answer
    if tokens <= room:
        return None
    turns = len(longest.before)
    with_turns, fewer = (
        (f" with the {turns} turns before it", "send fewer turns, or ") if turns else ("", "")
    )
    return (
        f"a question takes about {tokens} tokens{with_turns}, and the context of the "
        f"{arm.serving.model} model of the pair {pair.name!r}, {context} tokens, has room for "
        f"{room} beside an answer of {answer}: {fewer}ask for shorter answers"
    )


@cache
def _counter(model: str) -> Callable[[str], int] | None:
    """Counts the tokens of a text; None where a model's tokenizer is not on this machine."""
    try:
        from huggingface_hub import try_to_load_from_cache
        from tokenizers import Tokenizer
    except ImportError:
        return None
    own = Path(model).expanduser() / "tokenizer.json"
    cached = None if own.is_file() or model.count("/") != 1 else model
    file = own if cached is None else try_to_load_from_cache(cached, own.name)
    if not isinstance(file, str | Path) or not Path(file).is_file():
        return None
    tokenizer = Tokenizer.from_file(str(file))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def cannot_answer(metric: Metric, arms: Sequence[Arm], pair: ModelPair) -> str | None:
    """Why nothing can be claimed of the accuracy of a pair's answers; None where it can."""
    if not pair.single_turn or (metric.whole or metric.name) != ACCURACY.name:
        return None
    if not any(prompt.before for arm in arms for prompt in arm.prompts):
        return None
    return (
        f"the models of the pair {pair.name!r} learned from single questions alone: after earlier "
        "turns they answer next to nothing rightly, and their accuracy could not fall"
    )
