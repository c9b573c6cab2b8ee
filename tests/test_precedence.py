"""Verdicts are summed up in one written order, by findings, by the gate and by imports."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from doubles.synthetic import judged, judgement, run, sample

from pytest_rllm.baselines.case import fresh_case
from pytest_rllm.baselines.compare import decide, decide_upgrade
from pytest_rllm.importers import against
from pytest_rllm.metrics import E2E, TTFT
from pytest_rllm.records.header import Imported
from pytest_rllm.reports.row import Row
from pytest_rllm.session import upgrade
from pytest_rllm.session.upgrade import Builds
from pytest_rllm.verdicts.claims import Claim, Verdict, no_worse, pct
from pytest_rllm.verdicts.judge import Judged
from pytest_rllm.verdicts.precedence import overall


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (("refuted", "invalid", "inconclusive", "holds"), "refuted"),
        (("refuted", "invalid"), "refuted"),
        (("invalid", "inconclusive", "holds"), "invalid"),
        (("invalid", "holds"), "invalid"),
        (("inconclusive", "holds"), "inconclusive"),
        (("holds", "holds"), "holds"),
        (("refuted",), "refuted"),
    ],
    ids=" ".join,
)
def test_the_first_of_the_order_decides_wherever_it_stands(
    verdicts: tuple[Verdict, ...], expected: Verdict
) -> None:
    for order in itertools.permutations(verdicts):
        assert overall(order) == expected


@pytest.mark.parametrize(
    ("verdicts", "message"),
    [([], "no verdicts"), (["holds", "passed"], "unknown verdicts: passed")],
)
def test_what_is_no_verdict_is_no_silent_success(verdicts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        overall(verdicts)


# ---- one order for all


CLAIMS = no_worse(TTFT, within=pct(5)), no_worse(E2E, within=pct(5))
ENDS: dict[Verdict, tuple[str, str]] = {
    "refuted": ("fail", "not safe"),
    "invalid": ("invalid", "cannot tell yet"),
    "inconclusive": ("inconclusive", "cannot tell yet"),
    "holds": ("pass", "safe"),
}
"""How a test ends, and what the gate decides."""


def told(claim: Claim, verdict: Verdict) -> Judged:
    return judged(claim, verdict, None, None) if verdict == "invalid" else judged(claim, verdict)


@pytest.mark.parametrize("verdicts", list(itertools.product(ENDS, repeat=2)), ids=" ".join)
def test_findings_the_gate_and_imports_agree_on_every_pair_of_verdicts(
    verdicts: tuple[Verdict, Verdict], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome, word = ENDS[overall(verdicts)]
    found = [told(claim, v) for claim, v in zip(CLAIMS, verdicts, strict=True)]
    shown = judgement(*zip(CLAIMS, found, strict=True))
    assert decide([shown], fresh_case([shown]), None).ending == outcome

    compared = decide_upgrade([shown])
    assert compared.ending == outcome
    row = Row("gate", "c", "s", "x", compared.ending, (shown,), tuple(compared.statuses))
    assert upgrade.decide(Builds("new", "old"), [row]).word == word
    apart = [judgement(pair) for pair in zip(CLAIMS, found, strict=True)]
    rows = [Row("gate", str(i), "s", "x", "fail", (one,), ("",)) for i, one in enumerate(apart)]
    assert upgrade.decide(Builds("new", "old"), rows).word == word, "in two cases"

    kept = Imported("tool 1", "f.json", "1", {}, 0.0, 9, tuple(c.metric.name for c in CLAIMS))
    unkept = {m.name: "not kept" for m in against.GATED if m.name not in kept.carries}
    runs = [
        run(sample(f"q{i}"), arm=side, imported=replace(kept, not_kept=unkept))
        for i, side in enumerate("AB")
    ]
    monkeypatch.setattr(against, "judge_family", lambda *_, **__: found)
    assert against.judge(runs[:1], runs[1:], 5).outcome == outcome
