"""The differences between two API contracts of an engine: what a release renamed or changed.

Contracts are stored in ``baselines/contracts/<distribution>-<version>.json``. They are observed on
the bundled reasoning model served in the default way: every machine has it, and optional parts,
such as the metrics of speculation, are absent from all of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from packaging.version import Version

from .api_snapshot import NOT_TOLD, ApiSnapshot

ALIKE = 0.6
"""Two names are one that was renamed when they share so much of their words. Renames that were:
vllm:gpu_prefix_cache_hits to vllm:prefix_cache_hits 0.86, vllm:gpu_cache_usage_perc to
vllm:kv_cache_usage_perc 0.75, reasoning_content to reasoning 0.67. No rename:
vllm:num_requests_swapped, vllm:num_requests_waiting_by_reason 0.5. Said as gone and new, as words
cannot tell: vllm:time_per_output_token_seconds, vllm:inter_token_latency_seconds 0.44."""

Part = Literal["metric", "delta field", "usage field", "sampling", "template"]
_SAID = {"sampling": "sampling default", "template": "chat template"}
_FAMILY = re.compile(r"(.*)\{(.*)\} (\w+)")
_HEAD = re.compile(r".*[:.{]")
_LENGTH = re.compile(r"(\d+) tokens")


@dataclass(frozen=True)
class Change:
    """One difference between two contracts; ``old`` and ``new`` are names, or what a name means."""

    kind: Literal["renamed", "gone", "changed", "new"]
    part: Part
    old: str | None
    new: str | None

    def __str__(self) -> str:
        names = " -> ".join(name for name in (self.old, self.new) if name is not None)
        return f"{_SAID.get(self.part, self.part)} {self.kind}: {names}"


def changes(old: ApiSnapshot, new: ApiSnapshot) -> list[Change]:
    """Every difference of two contracts, each once and by part; what is only new comes last.

    Of two engines: defaults of the parameters that both tell, and the chat template, as far as both
    tell it. The names of metrics and fields are each engine's own.
    """
    if old.engine != new.engine:
        return _of_two_engines(old, new)
    found = _of_metrics(_families(old), _families(new))
    parts: tuple[tuple[Part, Sequence[str], Sequence[str]], ...] = (
        ("delta field", old.delta_fields, new.delta_fields),
        ("usage field", old.usage_fields, new.usage_fields),
    )
    for part, was, now in parts:
        found += _of_names(part, dict.fromkeys(was, ""), dict.fromkeys(now, ""))
    found += _of_names("sampling", old.sampling, new.sampling)
    if old.template != new.template:
        found.append(Change("changed", "template", old.template, new.template))
    return sorted(found, key=lambda change: change.kind == "new")


def _of_two_engines(old: ApiSnapshot, new: ApiSnapshot) -> list[Change]:
    both = sorted(old.sampling.keys() & new.sampling.keys())
    was, now = ({name: one.sampling[name] for name in both} for one in (old, new))
    found = _of_names("sampling", was, now)
    if _two_templates(old.template, new.template):
        found.append(Change("changed", "template", old.template, new.template))
    return found


def _two_templates(old: str, new: str) -> bool:
    """Whether the templates are known to differ: by the tokens' ids, or by their number alone."""
    if NOT_TOLD in (old, new):
        return False
    if NOT_TOLD in old or NOT_TOLD in new:
        return _LENGTH.findall(old) != _LENGTH.findall(new)
    return old != new


@dataclass(frozen=True)
class _Families:
    """Families of metrics: name to type, and name to the names of its labels."""

    types: Mapping[str, str]
    labels: Mapping[str, Sequence[str]]


def _families(contract: ApiSnapshot) -> _Families:
    types: dict[str, str] = {}
    labels: dict[str, list[str]] = {}
    for family in contract.metrics:
        match = _FAMILY.fullmatch(family)
        name, said, kind = match.groups() if match else (family, "", "")
        types[name] = kind
        labels.setdefault(name, []).extend(filter(None, said.split(",")))
    return _Families(types, labels)


def _of_metrics(old: _Families, new: _Families) -> list[Change]:
    """A label is a name like any other, looked for under the family's new name."""
    found = _of_names("metric", old.types, new.types)
    now = {name: name for name in old.types.keys() & new.types.keys()}
    now |= {c.old: c.new for c in found if c.kind == "renamed" and c.old and c.new}
    for name in sorted(now):
        was, came = (
            {f"{now[name]}{{{label}}}": "" for label in labels}
            for labels in (old.labels[name], new.labels[now[name]])
        )
        found += _of_names("metric", was, came)
    return found


def _of_names(part: Part, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Differences of names and of what they mean (a type, a value, or nothing)."""
    gone, came, both = old.keys() - new.keys(), new.keys() - old.keys(), old.keys() & new.keys()
    renamed = _renames(gone, came, lambda was, now: bool(old[was] == new[now]))
    gone, came = gone - renamed.keys(), came - set(renamed.values())
    changed = [name for name in sorted(both) if old[name] != new[name]]

    def said(name: str, means: Mapping[str, Any]) -> str:
        return f"{name} {means[name]}".rstrip()

    return [
        *(Change("renamed", part, was, renamed[was]) for was in sorted(renamed)),
        *(Change("gone", part, said(name, old), None) for name in sorted(gone)),
        *(Change("changed", part, said(name, old), said(name, new)) for name in changed),
        *(Change("new", part, None, said(name, new)) for name in sorted(came)),
    ]


def _renames(
    gone: Collection[str], came: Collection[str], same: Callable[[str, str], bool]
) -> dict[str, str]:
    """Old names to new ones, the most alike first; of equally alike ones none is told."""
    scored = [(_alike(was, now), was, now) for was in gone for now in came if same(was, now)]
    ranked = sorted((pair for pair in scored if pair[0] >= ALIKE), reverse=True)
    renamed: dict[str, str] = {}
    settled: set[str] = set()
    for _, group in groupby(ranked, key=lambda pair: pair[0]):
        pairs = [(was, now) for _, was, now in group if not {was, now} & settled]
        ends = Counter(name for pair in pairs for name in pair)
        renamed |= {was: now for was, now in pairs if ends[was] == ends[now] == 1}
        settled |= ends.keys()
    return renamed


def _alike(one: str, other: str) -> float:
    """Share of common words (Dice), 0 to 1; what both are within (``x:``) says nothing."""
    heads = {match[0] if (match := _HEAD.match(name)) else "" for name in (one, other)}
    shared = len(heads.pop()) if len(heads) == 1 else 0
    first, second = (Counter(re.findall(r"[a-z0-9]+", n[shared:].lower())) for n in (one, other))
    total = first.total() + second.total()
    return 2 * (first & second).total() / total if total else 0.0


@dataclass(frozen=True)
class ApiCheck:
    """Whether an engine keeps its contract, why in sentences, and the contract to store now."""

    ending: Literal["pass", "fail"]
    lines: Sequence[str] = field(repr=False)
    store: ApiSnapshot | None = field(default=None, repr=False)

    @property
    def kept(self) -> bool:
        return self.ending == "pass"

    def __str__(self) -> str:
        return "\n".join(self.lines)


def decide(fresh: ApiSnapshot, stored: Sequence[ApiSnapshot], words: frozenset[str]) -> ApiCheck:
    """Whether an engine keeps its contract.

    The stored contract of the same version must be equal. Without one, the nearest older version
    counts (else the nearest newer): of its names none may be gone, renamed or mean another thing.
    More names are welcome, but not another sampling default: it changes answers. With nothing to
    compare with it fails too.

    Args:
        fresh: as observed now.
        stored: all there are.
        words: of ``--rllm-baseline``: ``create`` stores what is missing, ``fix`` what differs.
    """
    ours = [c for c in stored if (c.engine, c.distribution) == (fresh.engine, fresh.distribution)]
    others = sorted({c.served for c in ours} - {fresh.served})
    if others:
        return ApiCheck(
            "fail",
            [
                f"stored contracts of {fresh.distribution} are of {', '.join(others)}; this one is "
                f"of {fresh.served}, which has other metrics and another template: observe the same"
            ],
        )
    same = next((c for c in ours if c.version == fresh.version), None)
    if same is None:
        return _of_new_version(fresh, ours, words)
    found = changes(same, fresh)
    if not found:
        return ApiCheck("pass", [f"{fresh.name} keeps its stored contract"])
    if "fix" in words:
        return ApiCheck("pass", [f"{fresh.name}, stored anew:", *map(str, found)], fresh)
    return ApiCheck(
        "fail",
        [
            f"{fresh.name} does not keep its stored contract:",
            *map(str, found),
            "store it with --rllm-baseline=fix once reviewed",
        ],
    )


def _of_new_version(
    fresh: ApiSnapshot, ours: Sequence[ApiSnapshot], words: frozenset[str]
) -> ApiCheck:
    create = "create" in words
    if not ours:
        why = f"no contract of {fresh.distribution} is stored, so nothing tells what it must be"
        if create:
            return ApiCheck("pass", [f"{why}: {fresh.name} is stored now"], fresh)
        return ApiCheck("fail", [f"{why}: store it with --rllm-baseline=create once reviewed"])
    near = _nearest(fresh, ours)
    found = changes(near, fresh)
    stands = "is stored now" if create else "is not stored"
    lines = [
        f"{fresh.name} {stands}; beside {near.name}:",
        *(map(str, found) if found else ["no change"]),
    ]
    if create:
        return ApiCheck("pass", lines, fresh)
    if all(change.kind == "new" and change.part != "sampling" for change in found):
        return ApiCheck("pass", lines)
    return ApiCheck("fail", [*lines, "store it with --rllm-baseline=create once reviewed"])


def _nearest(fresh: ApiSnapshot, stored: Sequence[ApiSnapshot]) -> ApiSnapshot:
    """The newest of those that are older, else the oldest; of a version that is no release, which
    has no place in the order, the one from which it differs least, the newest of equal ones."""
    version, ordered = fresh.version, sorted(stored, key=lambda c: _order(c.version))
    if not _is_release(version):
        return min(reversed(ordered), key=lambda c: len(changes(c, fresh)))
    ordered = [c for c in ordered if _is_release(c.version)] or ordered
    older = [c for c in ordered if _order(c.version) < _order(version)]
    return older[-1] if older else ordered[0]


def _order(version: str) -> Version:
    """Versions that are none by the rules (``b9012``) are ordered by the numbers in them."""
    try:
        return Version(version)
    except ValueError:  # InvalidVersion, or more digits than Python reads
        return Version(".".join(re.findall(r"\d{1,18}", version)) or "0")


def _is_release(version: str) -> bool:
    """Whether a version has a place in the order: not ``dev``, ``0.1.dev3+gabc`` or ``b0``."""
    try:
        return not Version(version).is_devrelease
    except ValueError:  # InvalidVersion, or more digits than Python reads
        return re.match(r"[a-z]?[1-9]\d{0,17}\b", version) is not None
