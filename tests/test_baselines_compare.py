"""The whole table of outcomes."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from doubles.synthetic import judged, judgement

from pytest_rllm.baselines.compare import Outcome, decide, decide_upgrade
from pytest_rllm.baselines.ledger import Stored
from pytest_rllm.baselines.store import Case, fresh_case
from pytest_rllm.metrics import ACCURACY, TPS, TTFVT
from pytest_rllm.verdicts.claims import Claim, Verdict, higher, lower, not_lower, pct, pp
from pytest_rllm.verdicts.judge import Judged
from pytest_rllm.verdicts.judgement import Judgement

MATCH = {"hardware": "gpu-x-1x", "engine": "vllm"}
FASTER = higher(TPS, by=pct(10))
RIGHT = not_lower(ACCURACY, by_more_than=pp(3))
EFFECTS: dict[Verdict, tuple[float, float, float]] = {
    "holds": (0.2, 0.3, 0.4),
    "refuted": (-0.4, -0.3, -0.2),
    "inconclusive": (-0.4, 0.0, 0.4),
}


def told(claim: Claim, verdict: Verdict) -> Judged:
    if verdict == "invalid":
        return judged(claim, verdict, None, None)
    effect = EFFECTS[verdict]
    assert claim.verdict(effect[0], effect[2]) == verdict
    return judged(claim, verdict, effect)


def shown(*verdicts: tuple[Claim, Verdict], comparison: str = "1") -> Judgement:
    return judgement(*((v[0], told(*v)) for v in verdicts), comparison=comparison, match=MATCH)


def case(*verdicts: tuple[Claim, Verdict]) -> Case:
    return fresh_case([shown(*verdicts)])


def outcome(*verdicts: tuple[Claim, Verdict], stored: Case | None = None) -> Outcome:
    return decide([shown(*verdicts)], case(*verdicts), stored)


@pytest.mark.parametrize(
    ("fresh", "stored", "ending", "status"),
    [
        ("holds", None, "pass", "holds (paper)"),
        ("holds", "holds", "pass", "holds"),
        ("holds", "refuted", "pass", "changed"),
        ("refuted", None, "fail", "refuted"),
        ("refuted", "holds", "fail", "regression"),
        ("refuted", "refuted", "xfail", "known deviation"),
        ("inconclusive", None, "inconclusive", "inconclusive"),
        ("inconclusive", "holds", "inconclusive", "inconclusive"),
        ("inconclusive", "refuted", "inconclusive", "inconclusive"),
        ("invalid", None, "invalid", "invalid"),
        ("invalid", "holds", "invalid", "invalid"),
        ("invalid", "refuted", "invalid", "invalid"),
    ],
)
@pytest.mark.parametrize("claim", [FASTER, RIGHT], ids=str)
def test_what_a_fresh_verdict_means_beside_the_stored_one(
    claim: Claim, fresh: Verdict, stored: Verdict | None, ending: str, status: str
) -> None:
    found = outcome((claim, fresh), stored=None if stored is None else case((claim, stored)))
    assert (found.ending, found.statuses, found.notes) == (ending, [status], [])


@pytest.mark.parametrize(
    ("verdicts", "ending"),
    [
        (("holds", "holds"), "pass"),
        (("holds", "refuted"), "fail"),
        (("inconclusive", "holds"), "inconclusive"),
        (("inconclusive", "refuted"), "fail"),
        (("invalid", "refuted"), "fail"),
        (("invalid", "inconclusive"), "invalid"),
        (("invalid", "holds"), "invalid"),
    ],
)
def test_the_verdicts_precedence_decides(verdicts: tuple[Verdict, Verdict], ending: str) -> None:
    found = outcome((FASTER, verdicts[0]), (RIGHT, verdicts[1]))
    assert found.ending == ending
    assert outcome((FASTER, verdicts[1]), (RIGHT, verdicts[0])).ending == ending


@pytest.mark.parametrize(
    ("other", "ending"),
    [
        ("holds", "xfail"),
        ("inconclusive", "inconclusive"),
        ("invalid", "invalid"),
        ("refuted", "fail"),
    ],
)
def test_a_known_deviation_hides_no_other_claim(other: Verdict, ending: str) -> None:
    stored = case((FASTER, "refuted"), (RIGHT, "holds"))
    assert outcome((FASTER, "refuted"), (RIGHT, other), stored=stored).ending == ending


def test_a_stored_effect_speaks_under_the_margin_of_today() -> None:
    stored = case((FASTER, "holds"))
    held = higher(TPS, by=pct(15))
    never_held = higher(TPS, by=pct(60))
    assert outcome((held, "refuted"), stored=stored).statuses == ["regression"]
    assert outcome((never_held, "refuted"), stored=stored).statuses == ["refuted"]


@pytest.mark.parametrize(
    ("low", "status"), [(-2.9, "regression"), (-3.1, "refuted")], ids=["held", "undecided"]
)
def test_stored_points_are_percentage_points(low: float, status: str) -> None:
    stored = Case(MATCH, {"1/accuracy/pp": [-1.0, low, 1.0, 64]})
    assert outcome((RIGHT, "refuted"), stored=stored).statuses == [status]


def test_a_deviation_is_known_for_its_margin_only() -> None:
    found = outcome((higher(TPS, by=pct(5)), "refuted"), stored=case((FASTER, "refuted")))
    assert (found.ending, found.statuses) == ("fail", ["refuted"])


def test_a_stored_bound_of_minus_all_is_below_every_margin() -> None:
    sooner = lower(TTFVT, by=pct(10))
    stored = Case(MATCH, {"1/ttfvt/pct": [-50.0, -100.0, -20.0, 2]})
    fresh = judged(sooner, "refuted", (0.1, 0.2, 0.3))
    assert decide([judgement((sooner, fresh), match=MATCH)], stored, stored).statuses == [
        "regression"
    ]


@pytest.mark.parametrize("fresh", ["holds", "refuted", "inconclusive"])
def test_a_stale_baseline_never_passes(fresh: Verdict) -> None:
    stored = case((FASTER, "holds"))
    stored.match["engine"] = "sglang"
    found = outcome((FASTER, fresh), stored=stored)
    assert found.ending == "fail"
    assert found.notes == ["stale baseline: engine is vllm, the baseline's is sglang"]


def test_a_stale_baseline_makes_no_error_of_the_machine_a_failure() -> None:
    stored = case((FASTER, "holds"))
    stored.match["engine"] = "sglang"
    assert outcome((FASTER, "invalid"), stored=stored).ending == "invalid"


def test_what_was_measured_and_is_not_stored_fails() -> None:
    found = outcome((FASTER, "holds"), (RIGHT, "holds"), stored=case((FASTER, "holds")))
    assert found.ending == "fail"
    assert found.notes == [
        f"not in the baseline: {key} (--rllm-baseline=create stores it)"
        for key in (
            "1/a/accuracy (reasoning)",
            "1/accuracy/pp (reasoning vs plain)",
            "1/b/accuracy (plain)",
        )
    ]


def test_what_is_stored_and_no_longer_claimed_fails() -> None:
    found = outcome((FASTER, "holds"), stored=case((FASTER, "holds"), (RIGHT, "refuted")))
    assert found.ending == "fail"
    assert found.notes == [
        f"in the baseline and no longer claimed: {key} (--rllm-baseline=trim drops it)"
        for key in (
            "1/a/accuracy (reasoning)",
            "1/accuracy-not-lower-3pp (reasoning vs plain)",
            "1/accuracy/pp (reasoning vs plain)",
            "1/b/accuracy (plain)",
        )
    ]


def drifted(key: str, sessions: Stored = MappingProxyType({})) -> Outcome:
    stored = case((FASTER, "holds"), (RIGHT, "holds"))
    stored.levels[key] = [0.4, 0.01]
    fresh = shown((FASTER, "holds"), (RIGHT, "holds"))
    return decide([fresh], fresh_case([fresh]), stored, sessions)


def test_a_level_that_drifted_fails() -> None:
    found = drifted("1/b/accuracy")
    assert found.ending == "fail"
    assert found.notes == ["drift: 1/b/accuracy (plain) went from 0.4 to 0.5, more than 0.03"]


def test_what_sessions_have_shown_says_what_a_drift_is() -> None:
    wide, narrow = [0.3, 0.4, 0.5, 0.6], [0.40, 0.41, 0.40, 0.39]
    assert drifted("1/b/tps", {"1/b/tps": wide}).ending == "pass"
    assert drifted("1/b/tps", {"1/b/tps": narrow}).notes == [
        "drift: 1/b/tps (plain) went from 0.4 to 0.5, and 4 sessions with this engine version gave "
        "0.4 on average; more than 0.0291 beyond that"
    ]
    assert drifted("1/b/accuracy", {"1/b/accuracy": wide}).ending == "pass"


def test_statuses_stand_in_the_order_of_the_comparisons_and_their_claims() -> None:
    """Both comparisons claim the same of the same arms, and only the second one's is known."""
    before = [
        shown((FASTER, "holds"), (RIGHT, "holds")),
        shown((FASTER, "refuted"), comparison="2"),
    ]
    fresh = [
        shown((FASTER, "refuted"), (RIGHT, "holds")),
        shown((FASTER, "refuted"), comparison="2"),
    ]
    found = decide(fresh, fresh_case(fresh), fresh_case(before))
    assert found.statuses == ["regression", "holds", "known deviation"]
    assert found.ending == "fail"


# ---- two builds


@pytest.mark.parametrize(
    ("verdicts", "ending", "statuses"),
    [
        (("holds", "holds"), "pass", ["no regression", "no regression"]),
        (("refuted", "holds"), "fail", ["regression", "no regression"]),
        (("refuted", "inconclusive"), "fail", ["regression", "inconclusive"]),
        (("inconclusive", "holds"), "inconclusive", ["inconclusive", "no regression"]),
        (("inconclusive", "invalid"), "invalid", ["inconclusive", "invalid"]),
        (("refuted", "invalid"), "fail", ["regression", "invalid"]),
    ],
)
def test_two_builds_are_held_against_each_other_alone(
    verdicts: tuple[Verdict, Verdict], ending: str, statuses: list[str]
) -> None:
    found = decide_upgrade([shown(*zip((FASTER, RIGHT), verdicts, strict=True))])
    assert (found.ending, found.statuses, found.notes) == (ending, statuses, [])
