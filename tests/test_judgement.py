"""What a comparison shows is one value: whose fault it is, whether it is decided, and as JSON."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from doubles.synthetic import (
    MATCH,
    SHARE,
    TIME,
    VALUE,
    answers,
    judged,
    judgement,
    run,
    sample,
    valued,
)

from pytest_rllm.baselines.case import fresh_case
from pytest_rllm.baselines.compare import decide, decide_upgrade
from pytest_rllm.importers import against
from pytest_rllm.metrics import ACCURACY, E2E, FAILED, KV_PEAK, REASONING_TOKENS, TBT, TTFT, Metric
from pytest_rllm.records.deltas import Delta
from pytest_rllm.records.header import Imported
from pytest_rllm.records.run import Run
from pytest_rllm.reports.row import Row
from pytest_rllm.session import upgrade
from pytest_rllm.session.upgrade import Builds
from pytest_rllm.verdicts.claims import (
    Claim,
    Verdict,
    higher,
    lower,
    no_worse,
    not_lower,
    pct,
    pp,
    unchanged,
)
from pytest_rllm.verdicts.judge import Judged, Look, judge_family
from pytest_rllm.verdicts.judgement import Block, Judgement, judge_blocks, settled
from pytest_rllm.verdicts.precedence import overall
from pytest_rllm.verdicts.reasons import Reason

RIGHT = no_worse(ACCURACY, within=pp(5))
FEW_FAILURES = no_worse(FAILED, within=pp(50))
FIRST_TOKEN = no_worse(TTFT, within=pct(5))
LESS_KV = no_worse(KV_PEAK, within=pp(5))
NO_GAUGE = {"kv_use": "kv_use: none of vllm:kv_cache_usage_perc is on the page"}


# ---- one arm broken


def arm(name: str, errors: int = 0, of: int = 96, **about: Any) -> Run:
    """A healthy arm, but for so many failed requests."""
    told = {"series": {"kv_use": [0.1, 0.2, 0.3]}} | about
    samples = [sample(f"q{i}", error="HTTP 500" if i < errors else None) for i in range(of)]
    return run(*samples, arm=name, **told)


def without_reasoning(name: str) -> Run:
    return run(*(sample(f"q{i}", thought="") for i in range(96)), arm=name)


def without_first_token(name: str) -> Run:
    """One stream ended well and held nothing."""
    others = [sample(f"q{i}") for i in range(1, 96)]
    return run(sample("q0", deltas=[]), *others, arm=name)


BROKEN: dict[str, tuple[Callable[[str], Run], Claim, str]] = {
    "requests fail": (
        lambda name: arm(name, errors=8),
        RIGHT,
        "{}: 48 of 576 requests failed: HTTP 500",
    ),
    "no reasoning": (
        without_reasoning,
        RIGHT,
        "{}: no reasoning in any answer; fields of the stream's deltas were content, role: "
        "was one renamed?",
    ),
    "no gauge on the page": (
        lambda name: arm(name, series={}, closing={"series_missing": NO_GAUGE}),
        LESS_KV,
        "{}: " + NO_GAUGE["kv_use"],
    ),
    "no series in the record": (
        lambda name: arm(name, series={}),
        LESS_KV,
        "the series 'kv_use' was not recorded; there are none",
    ),
    "empty streams": (without_first_token, FIRST_TOKEN, "the answer to q0 has no first token"),
    "no tokens counted": (
        lambda name: run(
            *(sample(f"q{i}", deltas=[dataclasses.replace(d, tokens=None)]) for i in range(96)
              for d in sample().deltas[:1]),
            arm=name,
        ),
        no_worse(REASONING_TOKENS, within=pct(5)),
        "the engine did not report tokens per delta, nor how many of all are reasoning",
    ),
}  # fmt: skip


ENOUGH = 6
"""Blocks that tell a fault of one arm from chance."""


@pytest.mark.parametrize(("make", "claim", "text"), BROKEN.values(), ids=BROKEN)
def test_what_the_first_arms_engine_broke_is_said(
    make: Callable[[str], Run], claim: Claim, text: str
) -> None:
    found = judge_blocks([claim, FEW_FAILURES], [(make("A"), arm("B"))] * ENOUGH)
    wanted = Reason(text.format("A"), (claim.slug,), side="A", by_engine=True)
    assert found.broken == found.reasons == (wanted,)
    assert [judged.verdict for judged in found.verdicts] == ["invalid", "holds"]
    assert (found.verdicts[0].why, found.decided) == (wanted.text, True)


@pytest.mark.parametrize(("make", "claim", "text"), BROKEN.values(), ids=BROKEN)
def test_what_the_second_arm_lacks_is_nothing_that_the_first_broke(
    make: Callable[[str], Run], claim: Claim, text: str
) -> None:
    found = judge_blocks([claim], [(arm("A"), make("B"))] * ENOUGH)
    assert found.reasons == (Reason(text.format("B"), (claim.slug,), side="B", by_engine=True),)
    assert (found.broken, found.verdict) == ((), "invalid")


@pytest.mark.parametrize(("make", "claim", "text"), BROKEN.values(), ids=BROKEN)
def test_what_both_arms_lack_is_neithers(
    make: Callable[[str], Run], claim: Claim, text: str
) -> None:
    found = judge_blocks([claim], [(make("A"), make("B"))] * ENOUGH)
    assert {reason.side for reason in found.reasons} == {None}
    texts = dict.fromkeys((text.format("A"), text.format("B")))
    assert [reason.text for reason in found.reasons] == list(texts)
    assert (found.broken, found.verdict) == ((), "invalid")


@pytest.mark.parametrize(
    ("errors", "side"), [((2, 0), "A"), ((0, 2), "B"), ((2, 2), None), ((40, 40), None)]
)
def test_failures_that_may_be_chance_are_looked_at_further(
    errors: tuple[int, int], side: str | None
) -> None:
    found = judge_blocks([RIGHT], [(arm("A", errors[0]), arm("B", errors[1]))])
    assert {(reason.side, reason.by_engine) for reason in found.reasons} == {(side, None)}
    assert (found.verdict, found.broken) == ("invalid", ())
    assert found.decided is (side is None), "what both arms do alike, more blocks do not change"


def test_more_blocks_tell_whether_failures_were_chance() -> None:
    few, none = arm("A", 3, of=48), arm("B", of=48)
    assert not judge_blocks([RIGHT], [(few, none)]).decided
    worse = judge_blocks([RIGHT], [(few, none)] * 4)
    assert worse.decided
    assert [reason.text for reason in worse.broken] == ["A: 12 of 192 requests failed: HTTP 500"]
    calmed = judge_blocks([RIGHT], [(few, none), *[(arm("A", of=400), arm("B", of=400))]])
    assert (calmed.reasons, calmed.verdict, calmed.decided) == ((), "holds", True)


def test_a_metric_that_the_record_is_too_short_for_is_not_the_engines_fault() -> None:
    found = judge_blocks([LESS_KV], [(arm("A", series={"kv_use": [0.1, 0.2]}), arm("B"))])
    (reason,) = found.reasons
    assert reason.text.startswith("KV use was read 2 times while requests were in flight")
    assert (reason.side, reason.by_engine, found.broken) == ("A", False, ())


@pytest.mark.parametrize(("tokens", "by_engine"), [(1, False), (9, True)])
def test_an_answer_in_one_delta_is_the_engines_doing_when_it_holds_more_than_one_token(
    tokens: int, by_engine: bool
) -> None:
    whole = sample("q0", deltas=[Delta(0.5, "content", tokens, "7")])
    others = sample("q1", tokens=18 - tokens), sample("q2")  # as many tokens as in the other arm
    pair = (run(whole, *others), arm("B", of=3))
    found = judge_blocks([no_worse(TBT, within=pct(5))], [pair] * ENOUGH)
    (reason,) = found.reasons
    assert reason.text.startswith("TBT: the answer to q0 ")
    assert (reason.side, reason.by_engine, bool(found.broken)) == ("A", by_engine, by_engine)


def test_one_odd_answer_among_many_blocks_breaks_nothing_yet() -> None:
    odd, whole = (without_first_token("A"), arm("B")), (arm("A"), arm("B"))
    found = judge_blocks([FIRST_TOKEN], [odd, *[whole] * 11])
    (reason,) = found.reasons
    assert (reason.side, reason.by_engine, found.broken, found.decided) == ("A", None, (), False)


def test_one_cause_is_said_once_with_all_the_claims_that_it_costs() -> None:
    claims = [LESS_KV, RIGHT, no_worse(KV_PEAK, within=pp(1))]
    found = judge_blocks(claims, [(arm("A", series={}), arm("B"))])
    (reason,) = found.reasons
    assert reason.claims == (claims[0].slug, claims[2].slug)
    assert [judged.verdict for judged in found.verdicts] == ["invalid", "holds", "invalid"]


# ---- verdicts, look after look


def of_verdict(verdict: str) -> Judged:
    (judged,) = judge_family([lower(SHARE, by=pp(5))], [(valued(0.5), valued(0.5))], ("A", "B"))
    return dataclasses.replace(judged, verdict=verdict)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "now", "kept"),
    [
        ("holds", "inconclusive", "holds"),
        ("holds", "refuted", "holds"),
        ("refuted", "holds", "refuted"),
        ("inconclusive", "refuted", "refuted"),
        ("inconclusive", "holds", "holds"),
        ("holds", "invalid", "holds"),
        ("refuted", "invalid", "refuted"),
        ("invalid", "holds", "holds"),
        ("invalid", "inconclusive", "inconclusive"),
    ],
)
def test_a_decided_claim_stays_so(before: str, now: str, kept: str) -> None:
    old, new = of_verdict(before), of_verdict(now)
    assert settled([old], [new]) == [old if kept == before else new]


def test_a_look_keeps_the_verdict_of_the_look_before() -> None:
    claim = higher(SHARE, by=pp(5))
    good = [(valued(0.6 + i / 1000), valued(0.5, arm="B")) for i in range(12)]
    bad = [(valued(0.1 + i / 1000), valued(0.5, arm="B")) for i in range(12)]
    first = judge_blocks([claim], good, look=Look((12, 24), 0))
    assert first.verdict == "holds"
    assert judge_blocks([claim], good + bad, look=Look((12, 24), 1)).verdict != "holds"
    again = judge_blocks([claim], good + bad, look=Look((12, 24), 1), before=first)
    assert again.verdicts == first.verdicts
    cut = run(sample(), notes={"value": 0.5})
    cut.closing = None
    spoilt = [claim], [*good, (cut, cut)]
    assert judge_blocks(*spoilt, look=Look((12, 24), 1)).verdict == "invalid"
    kept = judge_blocks(*spoilt, look=Look((12, 24), 1), before=first)
    assert kept.verdict == "holds"
    assert {reason.claims for reason in kept.reasons} == {()}, "it is told, and undoes nothing"


def test_what_the_engine_broke_after_a_verdict_is_still_told() -> None:
    """The page of the first arm's engine lacks a series from the second look on."""
    kv = [0.1, 0.2, 0.1]
    calm = [(arm("A", series={"kv_use": kv}), arm("B", series={"kv_use": kv}))] * 30
    gone = [(arm("A", series={}), arm("B", series={"kv_use": kv}))] * 12
    less = no_worse(KV_PEAK, within=pp(20))
    first = judge_blocks([less], calm, look=Look((30, 42), 0))
    assert first.verdict == "holds"
    found = judge_blocks([less], calm + gone, look=Look((30, 42), 1), before=first)
    (reason,) = found.broken
    assert (found.verdict, reason.claims) == ("holds", ())
    assert "'kv_use' was not recorded" in reason.text


@pytest.mark.parametrize(
    ("value", "verdict", "decided"),
    [(0.5, "holds", True), (0.1, "refuted", True), (0.441, "inconclusive", False)],
)
def test_an_open_claim_is_not_decided(value: float, verdict: str, decided: bool) -> None:
    blocks = [(valued(value + i % 10 / 500), valued(0.5, arm="B")) for i in range(30)]
    found = judge_blocks([no_worse(SHARE, within=pp(5))], blocks)
    assert (found.verdict, found.decided) == (verdict, decided)


# ---- what else it holds


def timed(*anchors: float) -> list[tuple[Run, Run]]:
    """Blocks of growing values; all but one have the same anchor."""
    return [
        (valued(0.5 + i / 100, anchor_s=a), valued(1.0, arm="B", anchor_s=0.1))
        for i, a in enumerate(anchors)
    ]


def test_it_holds_what_every_block_measured() -> None:
    blocks = timed(0.1, 0.1, 0.1, 0.1, 0.9)
    claims = [lower(TIME, by=pct(10)), lower(E2E, by=pct(10)), LESS_KV, FEW_FAILURES]
    found = judge_blocks(claims, blocks, comparison="kv", remarks=["by the way"])
    void = "its anchor probe took 900 ms, 100 ms is usual"
    assert found.blocks[-1] == Block(
        5, {"time": (0.54, 1.0), "e2e": (1.0, 1.0), "failed-requests": (0.0, 0.0)}, void
    )
    assert [block.number for block in found.blocks] == [1, 2, 3, 4, 5]
    assert [block.void for block in found.blocks] == [None] * 4 + [void]
    assert found.remarks[:2] == (f"block 5 is void: {void}", "by the way")
    assert (found.comparison, found.arms, found.claims) == ("kv", ("A", "B"), tuple(claims))
    assert {judged.comparison for judged in found.verdicts} == {"kv"}
    # The void block is left out of the levels of times, and their spread.
    assert found.verdicts[0].levels == pytest.approx((0.515, 1.0))
    assert found.spreads["kv/a/time"] == pytest.approx(0.0129099 / 2, rel=1e-4)
    assert found.spreads["kv/b/time"] == 0.0
    assert not any("kv-peak" in key for key in found.spreads)
    assert found.match == {**MATCH, "arms": " "}


def test_two_engines_match_what_two_engines_measured() -> None:
    first, second = (
        answers(True, True),
        run(
            sample("q0"),
            sample("q1"),
            arm="B",
            fingerprint="f2",
            match={**MATCH, "engine": "vllm", "client": "2"},
        ),
    )
    found = judge_blocks([RIGHT], [(first, second)])
    assert found.match == {
        **MATCH,
        "engine": "mock-vs-vllm",
        "client": "unknown-vs-2",
        "arms": " f2",
    }


def test_a_difference_within_the_margin_is_remarked_upon() -> None:
    right, wrong = answers(*[True] * 60), answers(*[False] * 9, *[True] * 51, arm="B")
    found = judge_blocks([no_worse(ACCURACY, within=pp(50)), higher(ACCURACY, by=pp(1))],
                         [(right, wrong)])  # fmt: skip
    assert found.remarks == (
        "accuracy not lower by more than 50 pp: the arms do differ (p = 0.0039), "
        "and not to the worse",
    )


# ---- a value


def judgements() -> dict[str, Judgement]:
    nothing = Metric("nothing", "s", "lower", "run", lambda run: math.inf)
    claims = [lower(VALUE, by=pct(10)), unchanged(SHARE, within=pp(5)), LESS_KV]
    blocks = timed(0.1, 0.1, 0.1, 0.9)
    return {
        "infinite bounds": judge_blocks([lower(VALUE, by=pct(10))], blocks[:1]),
        "all kinds": judge_blocks(claims, blocks, comparison="kv", not_measured=["x is not"]),
        "broken": judge_blocks([RIGHT], [(arm("A", 8), arm("B"))]),
        "too few to tell": judge_blocks([RIGHT], [(arm("A", 1, of=9), arm("B", of=9))]),
        "no number": judge_blocks([lower(nothing, by=pct(10))], blocks),
        "answers": judge_blocks([RIGHT, FEW_FAILURES], [(answers(True), answers(False))]),
    }


@pytest.mark.parametrize(("name", "found"), judgements().items(), ids=judgements())
def test_json_gives_the_judgement_back(name: str, found: Judgement) -> None:
    text = json.dumps(found.to_json(), allow_nan=False)
    again = Judgement.from_json(json.loads(text))
    assert again == found
    assert again.claims == ()
    assert (again.verdict, again.broken, again.decided) == (
        found.verdict,
        found.broken,
        found.decided,
    )
    assert again.to_json() == found.to_json()
    if name == "infinite bounds":
        (judged,) = again.verdicts
        assert (judged.low, judged.high, judged.detectable) == (-math.inf, math.inf, math.inf)


def test_a_judgement_cannot_be_changed() -> None:
    found = judge_blocks([RIGHT], [(answers(True), answers(True))])
    for name in ("verdicts", "reasons", "match", "claims"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(found, name, ())
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.verdicts[0].verdict = "refuted"  # type: ignore[misc]


# ---- what is worked out once


def test_a_metric_is_worked_out_once_per_run_however_often_it_is_judged() -> None:
    asked: list[int] = []

    def of(of_run: Run) -> float:
        asked.append(id(of_run))
        return float(of_run.header.notes["value"])

    counting = Metric("counting", "share", "higher", "run", of)
    blocks = [(valued(0.5 + i / 100), valued(0.5, arm="B")) for i in range(6)]
    claims = [no_worse(counting, within=pp(5)), higher(counting, by=pp(50))]
    before = None
    for at, size in enumerate((2, 4, 6)):
        before = judge_blocks(claims, blocks[:size], look=Look((2, 4, 6), at), before=before)
        assert sorted(asked) == sorted(id(each) for pair in blocks[:size] for each in pair)


@pytest.mark.parametrize(
    ("right", "said"),
    [((80, 96), "by less than the margin"), ((96, 80), "and not to the worse")],
)
def test_a_difference_is_said_to_be_small_or_not_to_the_worse(
    right: tuple[int, int], said: str
) -> None:
    first, second = (answers(*(i < n for i in range(96))) for n in right)
    found = judge_blocks([not_lower(ACCURACY, by_more_than=pp(40))], [(first, second)])
    (remark,) = found.remarks
    assert remark.endswith(said)


@pytest.mark.parametrize(("void", "verdict"), [(0.5, "holds"), (2.0, "inconclusive")])
def test_what_holds_without_void_blocks_must_hold_with_them(void: float, verdict: str) -> None:
    """Every fourth block is void, and what it tells moves the location or does not."""
    blocks = []
    for i in range(36):
        off = i % 4 == 0
        anchors = ((0.9, 0.1) if i % 8 else (0.1, 0.9)) if off else (0.1, 0.1)
        value = (void if off else 0.5) + i / 1000
        first = valued(value, server=1, anchor_s=anchors[0])
        blocks.append((first, valued(1.0, arm="B", server=2, anchor_s=anchors[1])))
    found = judge_blocks([lower(TIME, by=pct(46))], blocks)
    assert sum(block.void is not None for block in found.blocks) == 9
    (told,) = found.verdicts
    assert (told.verdict, told.n) == (verdict, 27)
    assert told.why == (None if verdict == "holds" else "holds only without the void blocks")


# ---- verdicts are summed up in one written order, by findings, by the gate and by imports


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
