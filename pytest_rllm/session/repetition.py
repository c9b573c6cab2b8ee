"""Whether answers agree with those of another arm as far as that arm's agree with themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from ..experiment.arm import Arm
from ..verdicts.claims import Claim
from ..verdicts.contrasts import on_agreement
from ..verdicts.judgement import Judgement
from .contrasts import Contrast, Contrasts, Said, made_of

if TYPE_CHECKING:
    from .case import FindingCase

LOOKS = (4, 8, 12, 16)
"""Numbers of blocks at which the claims are looked at when a finding does not say."""


def compare_repeated(
    case: FindingCase,
    first: Arm,
    *,
    against: Arm,
    again: Arm,
    blocks: int | Sequence[int] | None = None,
    key: str | None = None,
) -> Contrasts:
    """Measure two arms, and the second one again; judge with
    ``.shows(not_lower(EARLY_AGREEMENT, by_more_than=pp(10)))`` whether the answers of the first arm
    agree with those of the second as far as those of the repetition do.

    On a GPU, rounding depends on what else is in a batch, so that greedy answers of one and the
    same server differ. How far is measured, and not known beforehand: the repetition should be
    asked with another number in flight, else it may be batched, and rounded, alike.

    Args:
        case: the test case.
        first, against: the arms.
        again: the second arm once more, served alike.
        blocks: growing numbers of blocks, each a run of every arm, at which the claims are looked
            at; by default ``LOOKS``, as far as there are questions.
        key: of the comparison among the stored numbers; by default its number in the test.

    Raises:
        CannotMeasure: an engine cannot do it, by its declared capabilities.
        ValueError: the repetition is served in another way, or asked other questions.
    """
    same = again.serving == against.serving and again.engine == against.engine
    if not same or list(again.prompts) != list(against.prompts):
        raise ValueError(
            f"again={again.serving}: a repetition is served as the arm that it repeats, "
            f"'{against.serving}', and is asked the same questions"
        )
    arms = [first, against, again]

    def contrasts(claims: Sequence[Said]) -> list[Contrast]:
        plain = [claim for claim in claims if isinstance(claim, Claim)]
        if len(plain) < len(claims):
            raise TypeError("agreement is compared with not_lower, unchanged and so on")
        return [Contrast(tuple(on_agreement(claim) for claim in plain), (0, 1, 2, 1))]

    def summary(claims: Sequence[Said], found: Sequence[Judgement]) -> Iterator[str]:
        for claim, judged in zip(claims, found[0].verdicts, strict=True):
            if judged.levels:
                one, other = (f"{100 * level:.1f} %" for level in judged.levels)
                yield f"{claim.metric}: {one}, and {other} when the second arm is asked again"

    def planned(claim: Said) -> list[tuple[str, Claim]]:
        return [("", part) for part in contrasts([claim])[0].claims]

    setting = case.setting(arms, case.looks(LOOKS, arms, blocks), key)
    if case.session.planning:
        return cast(Contrasts, case.plan(arms, setting, planned))
    return made_of(case, setting, arms, contrasts, summary)
