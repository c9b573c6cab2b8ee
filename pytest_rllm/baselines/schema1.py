"""Baselines of schema 1: their keys were sentences, and one folder held one engine.

A file was ``<hardware>/<finding>.json``, with the ledger of all of them beside it. A case is
upgraded when its test has run: the fresh verdicts say which sentences stand for which keys.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ..verdicts.claims import Claim
from ..verdicts.judge import Judged
from ..verdicts.judgement import Judgement
from .case import SCHEMA, Case, labels, stored_verdict
from .ledger import Entry, Stored

SCHEMA_1 = 1
Value = TypeVar("Value")
Keys = Mapping[str, Sequence[str]]
"""Today's keys by the old one. An old level stood for every arm of that name."""


@dataclass(frozen=True)
class Spelling:
    """Which keys of today the keys of schema 1 stand for.

    Attributes:
        effects: by ``"A vs B: TBT [%]"``.
        levels: by ``"A: TBT"``.
        claims: by the claim's sentence; the claim and its verdict, in which its key is.
    """

    effects: Keys
    levels: Keys
    claims: Mapping[str, Sequence[tuple[Claim, Judged]]] = field(hash=False)

    @classmethod
    def of(cls, judgements: Iterable[Judgement]) -> Spelling:
        """The spelling of what these judgements claim."""
        effects: defaultdict[str, list[str]] = defaultdict(list)
        levels: defaultdict[str, list[str]] = defaultdict(list)
        claims: defaultdict[str, list[tuple[Claim, Judged]]] = defaultdict(list)
        for judgement in judgements:
            for claim, j in zip(judgement.claims, judgement.verdicts, strict=True):
                effects[_effect_key(j)].append(j.effect_key)
                for arm, key in zip(j.arms, j.level_keys, strict=True):
                    levels[_level_key(arm, j)].append(key)
                claims[j.claim].append((claim, j))
        return cls(effects, levels, claims)


def _effect_key(j: Judged) -> str:
    """``"A vs B: metric [unit of the effect]"``."""
    return f"{j.arms[0]} vs {j.arms[1]}: {j.metric} [{'%' if j.scale == 'percent' else 'pp'}]"


def _level_key(arm: str, j: Judged) -> str:
    """``"arm: metric"``."""
    return f"{arm}: {j.metric}"


def upgrade(case: Case, judgements: Sequence[Judgement]) -> Case:
    """A case with today's keys; one of today's schema as it is.

    Keys that no claim of the judgements corresponds to are kept as they are: they are reported as
    no longer claimed.
    """
    if case.schema == SCHEMA:
        return case
    spelling = Spelling.of(judgements)
    effects = _renamed(case.effects, spelling.effects)
    return replace(
        case,
        effects=effects,
        levels=_renamed(case.levels, spelling.levels),
        deviations=[key for old in case.deviations for key in _known(old, spelling, effects)],
        labels=labels(judgements),
        schema=SCHEMA,
    )


def upgrade_sessions(sessions: Stored, judgements: Sequence[Judgement]) -> Stored:
    """Sessions by the levels' keys of today; those that have one already keep it."""
    return _renamed(sessions, Spelling.of(judgements).levels)


def upgrade_entries(entries: Iterable[Entry], judgements: Sequence[Judgement]) -> list[Entry]:
    """Lines of a ledger with today's keys."""
    spelling = Spelling.of(judgements)
    names = {**spelling.levels, **spelling.effects}
    return [
        replace(entry, key=key)
        for entry in entries
        for key in dict.fromkeys(names.get(entry.key, [entry.key]))
    ]


def _renamed(values: Mapping[str, Value], names: Keys) -> dict[str, Value]:
    return {key: value for old, value in values.items() for key in names.get(old, [old])}


def _known(sentence: str, spelling: Spelling, effects: Mapping[str, Sequence[float]]) -> list[str]:
    """Keys of a deviation: of the comparisons of which the sentence was claimed, those whose stored
    effect does not show that it holds there."""
    claims = spelling.claims.get(sentence, ())
    refuted = [
        j.key
        for claim, j in claims
        if j.effect_key not in effects or stored_verdict(claim, effects[j.effect_key]) != "holds"
    ]
    return list(dict.fromkeys(refuted or [j.key for _, j in claims] or [sentence]))
