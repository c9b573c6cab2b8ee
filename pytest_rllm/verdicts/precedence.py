"""The one order of precedence among verdicts that are summed up in a single one.

Tests, the upgrade gate and imported results all use it:

1. *refuted*: one claim is shown to be false. The claim rests on its own evidence, and evidence that
   is missing for another claim does not make it true again.
2. *invalid*: nothing is refuted, and one claim could not be judged. More data of the same kind do
   not help, so this is said before "inconclusive", which more data may settle.
3. *inconclusive*: every claim could be judged, and one is not decided yet.
4. *holds*: every claim is shown to be true.
"""

from __future__ import annotations

from collections.abc import Iterable

from .claims import Verdict

ORDER: tuple[Verdict, ...] = ("refuted", "invalid", "inconclusive", "holds")


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on claims that stand together: the first of ``ORDER`` that one of them has.

    Raises:
        ValueError: there is no verdict, or an unknown one.
    """
    found = list(verdicts)
    unknown = sorted(set(found) - set(ORDER))
    if unknown or not found:
        raise ValueError(f"unknown verdicts: {', '.join(unknown)}" if unknown else "no verdicts")
    return min(found, key=ORDER.index)
