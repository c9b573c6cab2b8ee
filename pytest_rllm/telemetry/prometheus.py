"""Metrics pages in Prometheus' text format: sums over replicas, labels of info, families.

The format is read by ``prometheus_client``. It takes about 20 microseconds per line, and ten pages
of some 1300 lines are read per second of a run, so only the lines that are wanted are handed to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from prometheus_client.parser import text_string_to_metric_families

from .series import Room, Sample, refusal, together

HIDDEN_LABELS = frozenset({"le", "quantile"})
"""Labels of a histogram's buckets and a summary's quantiles: part of the type, not of the name."""
TOTAL = "_total"
"""Ending of a counter's name; some libraries leave it out."""


@dataclass(frozen=True)
class Page:
    """What one page says, by our names of series.

    Attributes:
        values: per series its value, in the series' unit.
        missing: per series that is not on the page, or not as it can be, a sentence: what was
            looked for, and what is there instead.
        refused: those of them that are on the page.
    """

    values: dict[str, float]
    missing: dict[str, str] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Family:
    """One family of a page.

    Attributes:
        name: as the page's ``# TYPE`` line says it; of a counter with its ``_total``.
        kind: ``counter``, ``gauge``, ``histogram`` ...
        labels: names of its labels, without those of buckets and quantiles.
    """

    name: str
    kind: str
    labels: frozenset[str]


def totals(text: str, names: Collection[str]) -> dict[str, float]:
    """Values by name of sample, added up over all label sets (replicas of the engine).

    Args:
        text: the page.
        names: of samples, as they stand on the page (``x_total``); others are not looked at.

    Returns:
        The names that are on the page, with their sums.

    Raises:
        ValueError: a line of them is not in Prometheus' format.
    """
    found: dict[str, float] = {}
    for sample in samples(text, names):
        found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def read_series(
    text: str,
    wanted: Mapping[str, Sequence[str]],
    where: str,
    prefix: str = "",
    room: Room = lambda _: None,
) -> Page:
    """Our series from a page, by what it calls them.

    Args:
        text: the page.
        wanted: per series of ours the names of samples that tell it, the best first: the first one
            that is on the page counts, of all engines behind the page together.
        where: which page it is, for messages: ``"/metrics of NAME"``.
        prefix: of the names that may be meant instead of one that is missing.
        room: see :func:`~pytest_rllm.telemetry.series.together`.

    Raises:
        ValueError: a line of them is not in Prometheus' format.
    """
    found: dict[str, list[Sample]] = {}
    for sample in samples(text, {name for names in wanted.values() for name in names}):
        found.setdefault(sample.name, []).append(sample)
    values, missing, refused = {}, {}, list[str]()
    for ours, theirs in wanted.items():
        there = next((name for name in theirs if name in found), None)
        if there is None:
            missing[ours] = why_missing(ours, theirs, text, where, prefix)
        elif why := refusal(ours, found[there]):
            missing[ours] = f"{ours}: {there} in {where} {why}"
            refused.append(ours)
        else:
            values[ours] = together(ours, found[there], room)
    return Page(values, missing, frozenset(refused))


def why_missing(ours: str, theirs: Sequence[str], text: str, where: str, prefix: str = "") -> str:
    """A sentence on a series that is not on a page; arguments as of :func:`read_series`."""
    all_there = sample_names(text)
    there = [name for name in all_there if name.startswith(prefix)] or all_there
    looked_for = " or ".join(theirs)
    return f"{ours}: {looked_for} is not in {where}; there are {nearest(theirs[0], there)}"


def labels(text: str, name: str) -> list[Mapping[str, str]]:
    """The label sets of the samples of that name: what an ``_info`` family says.

    Raises:
        ValueError: a line of them is not in Prometheus' format.
    """
    return [sample.labels for sample in samples(text, (name,))]


def nearest(wanted: str, names: Sequence[str], most: int = 5) -> str:
    """The names that are most like a wanted one, for a message: a page has hundreds of them."""
    shown = get_close_matches(wanted, names, most, 0.0)
    others = len(names) - len(shown)
    return (", ".join(shown) or "none") + (f" and {others} others" if others > 0 else "")


def sample_names(text: str) -> list[str]:
    """Names of all samples of a page, sorted, without buckets and times of creation."""
    found = {_name_of(line) for line in text.splitlines() if line and not line.startswith("#")}
    return sorted(name for name in found if not name.endswith(("_bucket", "_created")))


def families(text: str) -> Sequence[Family]:
    """All families of a page, in its order, without those that only tell times of creation.

    Raises:
        ValueError: the page is not in Prometheus' format.
    """
    found = []
    for family in text_string_to_metric_families(text):
        if family.name.endswith("_created"):
            continue
        names = {label for sample in family.samples for label in sample.labels} - HIDDEN_LABELS
        # The parser takes the ending from a counter's name, as OpenMetrics writes it.
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found.append(Family(name, family.type, frozenset(names)))
    return found


def samples(text: str, names: Collection[str]) -> Iterator[Sample]:
    """Samples of those names, in the order of the page.

    A counter whose ``_total`` is left out on the page is given with it.

    Raises:
        ValueError: a line of them is not in Prometheus' format.
    """
    called = {name: name for name in names} | _without_total(text, names)
    # Without the ``# TYPE`` lines the parser keeps names as they are.
    wanted = tuple(called)
    lines = [
        line for line in text.splitlines() if line.startswith(wanted) and _name_of(line) in called
    ]
    for family in text_string_to_metric_families("\n".join(lines)):
        for sample in family.samples:
            yield Sample(called[sample.name], sample.labels, float(sample.value))


def _without_total(text: str, names: Collection[str]) -> dict[str, str]:
    """Names of counters that stand on a page without their ending alone, with the whole names."""
    short = {name.removesuffix(TOTAL): name for name in names if name.endswith(TOTAL)}
    counters = [name for name in short if f"# TYPE {name} counter\n" in text]
    if not counters:
        return {}
    there = {_name_of(line) for line in text.splitlines()}
    return {name: short[name] for name in counters if short[name] not in there}


def _name_of(line: str) -> str:
    """The name that a sample's line begins with."""
    return line.partition("{")[0].partition(" ")[0]
