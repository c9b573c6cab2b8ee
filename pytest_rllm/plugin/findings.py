"""A finding: one sentence about serving, with its source, on a test function."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..models import ModelPair
    from ..reports.row import Row
    from ..session.session import Session

MARK = "finding"
TIER_MARK = "rllm_tier"
"""Marks a case that is measured in other tiers than the rest of its finding."""
JUDGES = frozenset(
    {
        "compare",
        "compare_builds",
        "compare_curve",
        "compare_effects",
        "compare_repeated",
        "contract",
    }
)
"""Fixtures that end in a verdict."""
LONGEST = 100
"""Bytes of a case's folder; file systems allow 255, and a limit leaves room for what ends names."""


def finding(
    sentence: str, *, cite: str, tier: str = "short", sizes: str | None = None
) -> pytest.MarkDecorator:
    """Mark a test function as the test of one sentence of a source.

    Args:
        sentence: what is claimed, in words.
        cite: where it is claimed.
        tier: the smallest ``--rllm-tier`` in which it is measured: ``smoke`` is for what takes
            seconds and fails when a serving is broken, ``gate`` for what takes long.
        sizes: of which models it is claimed, ``"7B"``, ``"14B+"`` or ``"7B-32B"``, of which the
            sentence names the first number; a pair of another size has no case. None: of all.

    Raises:
        ValueError: a text is missing, or there is no such tier or size.
    """
    for name, text in (("sentence", sentence), ("cite", cite)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"@finding needs a {name}, got {text!r}")
    _check_tier(tier)
    if sizes is not None:
        least = re.split("[+-]", sizes)[0]
        if least not in sentence:
            raise ValueError(f"@finding: the sentence {sentence!r} does not say {least!r}")
    about = {"sentence": sentence, "cite": cite, "tier": tier, "sizes": sizes}
    mark: pytest.MarkDecorator = getattr(pytest.mark, MARK)(**about)
    return mark


def in_tier(tier: str) -> pytest.MarkDecorator:
    """Mark one case of a finding: ``pytest.param(64, marks=in_tier("gate"))``.

    Args:
        tier: the smallest in which the case is measured, in place of the finding's.

    Raises:
        ValueError: there is no such tier.
    """
    _check_tier(tier)
    mark: pytest.MarkDecorator = getattr(pytest.mark, TIER_MARK)(tier)
    return mark


def _check_tier(tier: str) -> None:
    from ..experiment.tiers import NAMES

    if tier not in NAMES:
        raise ValueError(f"@finding: tier is one of {', '.join(NAMES)}, not {tier!r}")


def tier_of(item: pytest.Item) -> Any:
    """The smallest tier in which a case is measured."""
    own, mark = item.get_closest_marker(TIER_MARK), item.get_closest_marker(MARK)
    if own is not None:
        return own.args[0]
    return "short" if mark is None else mark.kwargs.get("tier", "short")


def upgrade(sentence: str) -> pytest.MarkDecorator:
    """Mark a test function as a case of the upgrade gate: what two builds must have in common.

    It runs with ``--rllm-against`` only, findings without it only, and uses ``compare_builds``.
    """
    mark = finding(sentence, cite="no regression between two builds")
    return mark.with_args(builds=True)


def select(items: list[pytest.Item], *, upgrading: bool) -> list[pytest.Item]:
    """Take out, in place, the findings that answer another question; returns them."""
    out = []
    for item in items:
        mark = item.get_closest_marker(MARK)
        builds = mark is not None and bool(mark.kwargs.get("builds"))
        judges = mark is not None or "contract" in getattr(item, "fixturenames", ())
        if judges and builds != upgrading:
            out.append(item)
    items[:] = [item for item in items if item not in out]
    return out


def finding_id(item: pytest.Item) -> str:
    """``tests_findings/test_kv_quant.py`` is the finding ``kv-quant``."""
    return Path(item.path).stem.removeprefix("test_").replace("_", "-")


def case_id(item: pytest.Item) -> str:
    """The test's parameters, as pytest names them; with the function where a file has several."""
    name = item.name.removeprefix("test_")
    function, _, parameters = name.partition("[")
    own = function.replace("_", "-")
    parameters = parameters.removesuffix("]")
    if own == finding_id(item):
        return parameters or own
    return f"{own}-{parameters}" if parameters else own


def title_of(item: pytest.Item) -> str:
    """As ``Row.title``, of a case that need not have a row."""
    return f"{finding_id(item)} [{case_id(item)}]"


def records_of(item: pytest.Item) -> Path:
    """Where a case's records lie, relative to the session's: its id, as far as that names one
    folder; else the begin of it with a hash of the whole."""
    case = case_id(item)
    plain = re.sub(r"[/\\\x00-\x1f]", "_", case)
    if case != plain or case.startswith(".") or len(case.encode()) > LONGEST:
        from hashlib import sha256

        begin = plain.lstrip(".").encode()[: LONGEST // 2].decode(errors="ignore")
        plain = f"{begin}-{sha256(case.encode()).hexdigest()[:12]}"
    return Path(finding_id(item)) / plain


def _model(item: pytest.Item) -> str:
    """Name of the pair that a case is measured on; empty where it has none."""
    callspec = getattr(item, "callspec", None)  # of tests with parameters
    return str(callspec.params.get("model", "")) if callspec else ""


def pair_of(item: pytest.Item) -> ModelPair | None:
    """The models that a case is measured on; None where it has none."""
    from ..models import pair_named

    name = _model(item)
    return pair_named(name) if name else None


def row_without_gpu(item: pytest.Item, missing: str) -> Row:
    """The row of a case that is not measured because this machine lacks the GPUs."""
    from ..reports.row import Row

    mark = item.get_closest_marker(MARK)
    assert mark is not None
    pair = _model(item)
    about = {key: mark.kwargs[key] for key in ("sentence", "cite")}
    return Row(
        finding_id(item), case_id(item), outcome="skip", notes=(missing,), pair=pair, **about
    )


def agenda(items: Iterable[pytest.Item], session: Session) -> list[str]:
    """``finding/case`` of the findings that this machine can measure, in order."""
    return [
        f"{finding_id(item)}/{case_id(item)}"
        for item in items
        if item.get_closest_marker(MARK)
        and not any(
            session.lacks(records_of(item), mark.kwargs, pair_of(item))
            for mark in item.iter_markers("gpu")
        )
    ]


def check(items: Iterable[pytest.Item]) -> int:
    """Refuse findings that could pass by silence; returns how many there are.

    Raises:
        pytest.UsageError: a finding without ``compare``, an upgrade without ``compare_builds``, or
            two that share an id and case.
    """
    seen: dict[Path, pytest.Item] = {}
    for item in items:
        mark = item.get_closest_marker(MARK)
        if mark is None:
            continue
        used = set(getattr(item, "fixturenames", ()))
        if not JUDGES & used:
            judges = ", ".join(sorted(JUDGES))
            raise pytest.UsageError(f"{item.nodeid}: a @finding must use a fixture of {judges}")
        if mark.kwargs.get("builds") and "compare_builds" not in used:
            raise pytest.UsageError(f"{item.nodeid}: an @upgrade must use 'compare_builds'")
        other = seen.setdefault(records_of(item), item)
        if other is not item:
            raise pytest.UsageError(
                f"{item.nodeid} and {other.nodeid} are one finding and case, {title_of(item)}: "
                "their records and baselines would overwrite each other; rename one"
            )
    return len(seen)
