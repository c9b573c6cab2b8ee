"""How a test case ends by its judgements: in the gate as they are, else beside what is stored."""

from __future__ import annotations

from collections.abc import Sequence

from ..baselines.case import Case as StoredCase
from ..baselines.case import fresh_case
from ..baselines.compare import Outcome, decide, decide_upgrade
from ..verdicts.judgement import Judgement, engines_of
from .live import MOCK
from .session import Session


def outcome_of(
    session: Session,
    finding: str,
    case: str,
    judgements: Sequence[Judgement],
    not_measured: str | None = None,
) -> Outcome:
    """Decide how a case ends; proposes to store what the baseline words allow.

    Args:
        session: that measured it.
        finding, case: names of the test case.
        judgements: of its comparisons, one at least.
        not_measured: why a part of it cannot be measured on these engines.
    """
    if session.engines.builds is not None:
        outcome = decide_upgrade(judgements)
        if any(judgement.broken for judgement in judgements):
            outcome.ending = "fail"
    else:
        partly = not_measured is not None
        outcome = _beside_baseline(session, finding, case, judgements, partly=partly)
    if not_measured is not None:
        outcome.notes.append(f"only a part was measured: {not_measured}")
        if outcome.ending in ("pass", "xfail"):
            outcome.ending = "skip"
    return outcome


def _beside_baseline(
    session: Session, finding: str, case: str, judgements: Sequence[Judgement], *, partly: bool
) -> Outcome:
    """Beside the stored case. Of a case of which only a part was measured nothing is stored: what
    could not be measured here is not gone."""
    partly = partly or any(judgement.not_measured for judgement in judgements)
    fresh = fresh_case(judgements)
    where = (fresh.match["hardware"], fresh.match["engine"], finding)
    baselines = session.baselines
    verdicts = {judged.verdict for each in judgements for judged in each.verdicts}
    decided = verdicts <= {"holds", "refuted"}
    why = None
    if _of_a_mock(judgements):
        why = "a mock engine measured it, and its numbers are of no real engine"
    elif partly:
        why = "only a part of it was measured"
    elif not session.tier.as_planned:
        why = (
            f"it was measured at tier {session.tier.name}, and baselines are of tier gate or short"
        )
    if baselines.words and why:
        session.messages.append(f"--rllm-baseline stores nothing of {finding} [{case}]: {why}")
    stored: StoredCase | None
    if decided and baselines.words and not why:
        stored = baselines.propose(*where, case, fresh)
    else:
        stored = baselines.cases(*where).get(case)
    more = session.tier.times > 1
    return decide(
        judgements,
        fresh,
        None if more else stored,
        baselines.sessions(*where, case, fresh.machine),
        elsewhere=baselines.elsewhere(*where, case, fresh.match, any_amount=more),
        partly=partly,
    )


def _of_a_mock(judgements: Sequence[Judgement]) -> bool:
    """Whether a mock engine measured any of these: such numbers are never stored."""
    versions = [version for judgement in judgements for _, version in engines_of(judgement.match)]
    return any(version.startswith(MOCK) for version in versions)
