"""What is stored of one test case, and how fresh numbers differ from it.

A case stores measurements, not margins: what a stored effect says of a claim is derived with the
margin in the test. The one judgement that it does store is the list of claims that are *known* not
to hold here, with their margins: a claim whose margin changes is another claim, and is judged anew.

Every key is made of slugs: ``1/tbt/pct`` is the effect on TBT, in per cent, of the test's first
comparison, ``1/a/tbt`` the level of its first arm, ``1/tbt-lower-10pct`` a claim. A step of a curve
names its two points: ``1:512-vs-256/accuracy/pp``. No sentence is part of a key, so a better
sentence makes nothing stale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..verdicts.claims import Claim, Verdict
from ..verdicts.judgement import Judgement

SCHEMA = 3
"""3 knows whose the levels are: ``machine`` and ``reference_s``; 2 did not."""
DIGITS = 4


@dataclass
class Case:
    """What is stored of one test case.

    Attributes:
        match: what must be equal for the stored numbers to speak of the same thing.
        effects: per effect's key estimate, low, high (per cent or points) and n.
        levels: per level's key the value and its spread (None when one block tells none), in the
            metric's unit.
        deviations: keys of the claims that are known not to hold here.
        machine: fingerprint of the machine that stored the levels; empty where it is unknown.
        reference_s: per comparison the seconds that a load which is no engine took beside it on
            that machine.
        labels: names of the arms by ``1/a`` and ``1/b``, for people; nothing compares them.
        schema: of the file that the case was read from. Keys of schema 1 are sentences, see
            ``schema1.upgrade``.
        judgements: what a fresh case was made of; empty for a stored one.
    """

    match: dict[str, str]
    effects: dict[str, list[float]] = field(default_factory=dict)
    levels: dict[str, list[float | None]] = field(default_factory=dict)
    deviations: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict, compare=False)
    machine: str = ""
    reference_s: dict[str, float] = field(default_factory=dict)
    schema: int = field(default=SCHEMA, kw_only=True)
    judgements: tuple[Judgement, ...] = field(default=(), kw_only=True, compare=False, repr=False)


def fresh_case(judgements: Sequence[Judgement]) -> Case:
    """What would be stored of these judgements, which are those of one test case.

    Only decided claims have numbers that are worth storing.
    """
    case = Case(_merged([j.match for j in judgements]), judgements=tuple(judgements))
    case.labels = labels(judgements)
    machines = {judgement.machine for judgement in judgements}
    case.machine = machines.pop() if len(machines) == 1 else ""
    for judgement in judgements:
        if case.machine and judgement.reference_s is not None:
            case.reference_s[judgement.comparison] = _rounded(judgement.reference_s)
        for j in judgement.verdicts:
            if j.verdict not in ("holds", "refuted"):
                continue
            assert j.estimate is not None
            assert j.low is not None
            assert j.high is not None
            case.effects[j.effect_key] = [
                *(_rounded(j.in_percent(v)) for v in (j.estimate, j.low, j.high)),
                j.n,
            ]
            if j.verdict == "refuted":
                case.deviations.append(j.key)
            for key, level in zip(j.level_keys, j.levels, strict=True) if j.levels else ():
                spread = judgement.spreads.get(key)
                case.levels[key] = [_rounded(level), None if spread is None else _rounded(spread)]
    return case


def labels(judgements: Sequence[Judgement]) -> dict[str, str]:
    """Names of the arms of every comparison, by ``1/a`` and ``1/b``."""
    return {
        f"{judgement.comparison}/{side}": name
        for judgement in judgements
        for j in judgement.verdicts
        for side, name in zip("ab", j.arms, strict=True)
    }


def described(key: str, names: Mapping[str, str]) -> str:
    """A key with the names of the arms that it speaks of, where they are known."""
    comparison, _, rest = key.partition("/")
    side = f"{comparison}/{rest.partition('/')[0]}"
    if side in names:
        return f"{key} ({names[side]})"
    both = [names.get(f"{comparison}/{side}") for side in "ab"]
    return f"{key} ({both[0]} vs {both[1]})" if all(both) else key


def differ(stored: Case, fresh: Case) -> set[str]:
    """Keys of what differs of all that must match."""
    keys = stored.match.keys() | fresh.match.keys()
    return {key for key in keys if stored.match.get(key) != fresh.match.get(key)}


def stale(stored: Case, fresh: Case) -> list[str]:
    """What differs of all that must match, said for a person."""
    return [
        f"{key} is {fresh.match.get(key, 'unknown')}, the baseline's is {stored.match.get(key)}"
        for key in sorted(differ(stored, fresh))
    ]


def missing(stored: Case, fresh: Case, *, levels: bool = True) -> list[str]:
    """Keys of what was measured and is not stored; with ``levels`` those of levels, too, which
    belong to the machine that stored them."""
    effects = fresh.effects.keys() - stored.effects.keys()
    return sorted(effects | (fresh.levels.keys() - stored.levels.keys() if levels else set()))


def unclaimed(stored: Case, judgements: Sequence[Judgement]) -> list[str]:
    """Keys of the numbers and deviations that are stored and that no claim speaks of."""
    verdicts = [j for judgement in judgements for j in judgement.verdicts]
    return sorted(
        (stored.effects.keys() - {j.effect_key for j in verdicts})
        | (stored.levels.keys() - {key for j in verdicts for key in j.level_keys})
        | (set(stored.deviations) - {j.key for j in verdicts})
    )


def part_of(stored: Case, fresh: Case, judgements: Sequence[Judgement]) -> Case:
    """What is stored of those comparisons and claims that could be measured; no more is compared
    where an engine cannot do the rest."""
    gone = set(unclaimed(stored, judgements))
    match = dict(stored.match)
    fresh_arms, stored_arms = (of.match.get("arms", "") for of in (fresh, stored))
    if fresh_arms and set(fresh_arms.split()) <= set(stored_arms.split()):
        match["arms"] = fresh_arms
    return replace(
        stored,
        match=match,
        effects={key: value for key, value in stored.effects.items() if key not in gone},
        levels={key: value for key, value in stored.levels.items() if key not in gone},
        deviations=[key for key in stored.deviations if key not in gone],
    )


def stored_effect(claim: Claim, effect: Sequence[float]) -> tuple[float, float, float]:
    """Estimate, low and high of a stored effect on the claim's scale (log ratio, or difference of
    shares); a ratio that was rounded to -100 % lies below every margin."""
    estimate, low, high, _ = effect
    if claim.margin.scale == "points":
        return estimate / 100, low / 100, high / 100
    return _log_ratio(estimate), _log_ratio(low), _log_ratio(high)


def stored_verdict(claim: Claim, effect: Sequence[float]) -> Verdict:
    """What a stored effect says of a claim, under the margin of today."""
    _, low, high = stored_effect(claim, effect)
    return claim.verdict(low, high)


def _log_ratio(percent: float) -> float:
    return math.log1p(percent / 100) if percent > -100 else -math.inf


def _merged(matches: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """One match for a test case: equal values as they are, different ones side by side.

    ``arms`` is a list of fingerprints, and each is named once.
    """
    found: dict[str, str] = {}
    for key in dict.fromkeys(key for match in matches for key in match):
        values = dict.fromkeys(match[key] for match in matches if key in match)
        if key == "arms":
            found[key] = " ".join(dict.fromkeys(word for v in values for word in v.split()))
        else:
            found[key] = "+".join(values)
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
