"""Blocks, names of arms, the order of runs, and how many of them the claims need."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.arms import CACHING, arm, prompts
from doubles.mock_source import MockSource, Values, twice
from doubles.synthetic import MATCH, SHARE, TIME, VALUE, answers, record, run, sample

from pytest_rllm.baselines.machines import Machine
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, closed, gamma
from pytest_rllm.metrics import ACCURACY, AGREEMENT, E2E, TBT, TPS, TTFT, Metric
from pytest_rllm.records.header import Header
from pytest_rllm.records.reader import read_run
from pytest_rllm.records.run import RecordError, Run
from pytest_rllm.session.comparison import Comparison, arm_names, compare, unmeasured
from pytest_rllm.session.replay import Replay
from pytest_rllm.verdicts import sequential as looks
from pytest_rllm.verdicts.claims import Claim, Verb, higher, lower, not_lower, pct, pp
from pytest_rllm.verdicts.location import location

HEADER = Header(finding="f", case="c", pair="tiny")


def compared(
    first: Arm,
    second: Arm,
    blocks: int | Sequence[int] = 4,
    source: MockSource | None = None,
    **more: Any,
) -> tuple[MockSource, Comparison]:
    source = source or MockSource()
    made = compare(source, first, second, blocks=blocks, where=Path("w"), header=HEADER, **more)
    return source, made


def looked_at(
    blocks: int | Sequence[int], value: Values, **more: Any
) -> tuple[MockSource, Comparison]:
    """Two arms of 60 questions with these values."""
    arms = (arm(prompts=prompts(60), serving=serving) for serving in (CACHING, Serving()))
    known = {"recorded", "about"} & more.keys()
    source = MockSource(value, **{key: more.pop(key) for key in known})
    return compared(*arms, blocks, source, **more)


def no_spread(hardware: str, _engine: str) -> Machine:
    return Machine(hardware, {"time": 0.0}, 8)


def test_every_question_is_in_one_block_and_tiers_are_mixed_in_each() -> None:
    whole = arm(prompts=prompts(36, "easy", "medium", "hard"))
    blocks = [whole.block(i, 6) for i in range(6)]
    assert sorted(p.id for b in blocks for p in b.prompts) == sorted(p.id for p in whole.prompts)
    for block in blocks:
        tiers = [p.tier for p in block.prompts]
        assert tiers.count("easy") == tiers.count("medium") == tiers.count("hard") == 2


def test_repeats_of_a_question_share_a_block_in_rounds() -> None:
    block = arm(prompts=prompts(12, repeats=3)).block(1, 4)
    assert [(p.id, p.repeat) for p in block.prompts] == [
        (f"q{i}", k) for k in range(3) for i in (3, 4, 5)
    ]


def test_blocks_of_an_open_loop_have_their_own_arrivals() -> None:
    whole = arm(workload=gamma(5, 2))
    assert whole.block(0, 2).workload.starts(6) != whole.block(1, 2).workload.starts(6)


def test_every_aborted_request_is_in_one_block() -> None:
    whole = arm(cut=[replace(p, id=f"cut {p.id}") for p in prompts(10)])
    cuts = [[p.id for p in whole.block(i, 4).cut] for i in range(4)]
    assert sorted(itertools.chain(*cuts)) == sorted(p.id for p in whole.cut)
    assert [len(cut) for cut in cuts] == [2, 3, 2, 3]


def test_arms_take_turns() -> None:
    source, comparison = compared(arm(), arm(serving=CACHING))
    assert source.order == source.prepared == []
    comparison.shows(higher(TIME, by=pct(5)))
    assert "".join(name[3] for name in source.order) == "ABBAABBA"
    assert [name[:2] for name in source.order] == ["00", "00", "01", "01", "02", "02", "03", "03"]
    assert [([str(a.serving) for a in arms], copy) for arms, copy in source.prepared] == [
        (["reasoning", "reasoning, prefix caching"], 0)
    ]


@pytest.mark.parametrize("blocks", [0, -1, (), (0, 4), (4, 4), (6, 3)], ids=str)
def test_looks_grow(blocks: int | Sequence[int]) -> None:
    with pytest.raises(ValueError, match="growing numbers of blocks from 1 on"):
        compared(arm(), arm(serving=CACHING), blocks)


@pytest.mark.parametrize("blocks", [13, (4, 13)], ids=str)
def test_every_block_needs_a_question(blocks: int | Sequence[int]) -> None:
    with pytest.raises(ValueError, match="12 questions cannot fill 13 blocks"):
        compared(arm(), arm(serving=CACHING), blocks)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (
            {"serving": Serving(kv_cache_dtype="fp8")},
            ("reasoning on easy", "reasoning, fp8 KV on easy"),
        ),
        ({"prompts": prompts(12, "hard")}, ("reasoning on easy", "reasoning on hard")),
        (
            {"workload": closed(4)},
            ("reasoning on easy, together", "reasoning on easy, 4 in flight"),
        ),
        (
            {"sampling": Sampling(9)},
            ("reasoning on easy, up to 64 tokens", "reasoning on easy, up to 9 tokens"),
        ),
        (
            {"engine": "vllm 9"},
            ("ours: reasoning on easy", "called vllm 9: reasoning on easy"),
        ),
        (
            {"cut": prompts(3, "hard")},
            ("reasoning on easy, 0 more aborted", "reasoning on easy, 3 more aborted"),
        ),
    ],
)
def test_arms_are_named_by_what_tells_them_apart(change: dict[str, Any], names: Any) -> None:
    found = arm_names(arm(), arm(**change), lambda text: f"called {text}" if text else "ours")
    assert found == names


def by_priority(of: Sequence[int], **more: Any) -> dict[str, Any]:
    priorities = {f"q{i}": priority for i, priority in enumerate(of)}
    return {"serving": Serving(scheduling="priority"), "priorities": priorities, **more}


def test_priorities_are_of_all_prompts_and_of_servers_that_schedule_by_them() -> None:
    with pytest.raises(ValueError, match="4 prompts have no priority, such as 'q10'"):
        arm(**by_priority(range(8)))
    with pytest.raises(ValueError, match="'reasoning' does not schedule by priority"):
        arm(**by_priority(range(12), serving=Serving()))
    part = arm(**by_priority(range(12))).block(0, 2)
    assert part.fingerprint == arm(**by_priority(range(6), prompts=prompts(6))).fingerprint


def test_a_fingerprint_is_of_what_is_measured() -> None:
    changes: list[dict[str, Any]] = [
        {"serving": Serving(prefix_caching=True)},
        {"prompts": prompts(11)},
        {"workload": closed(4)},
        {"sampling": Sampling(9)},
        {"cut": prompts(3)},
        by_priority(range(12)),
        by_priority(range(1, 13)),
    ]
    prints = {arm().fingerprint, *(arm(**change).fingerprint for change in changes)}
    assert len(prints) == 8
    assert arm().fingerprint == "1b1816aa63a7", "a new field with its default is no other load"
    assert arm().fingerprint == arm().fingerprint
    assert arm(engine="another").fingerprint == arm().fingerprint, "both engines do the same"


def test_what_is_judged_has_a_name_and_a_spread() -> None:
    _, comparison = compared(arm(), arm(serving=CACHING), key="2")
    judgement = comparison.shows(higher(E2E, by=pct(5)))
    assert comparison.judgement is judgement
    (j,) = judgement.verdicts
    assert j.arms == ("reasoning on easy", "reasoning, prefix caching on easy")
    assert j.effect_key == "2/e2e/pct"
    assert judgement.spreads == dict.fromkeys(["2/a/e2e", "2/b/e2e"], 0.0)


# ---- no more blocks than the claims need

LOOKS = (10, 20, 40)


def on_the_margin(block: int, letter: str) -> float:
    """Ten per cent less, give or take as much."""
    return 0.9 * (1 + ((7 * block) % 11 - 5) / 50) if letter == "A" else 1.0


@pytest.mark.parametrize(
    ("value", "blocks", "measured", "verdict"),
    [
        (twice, LOOKS, 10, "holds"),
        (twice, (6, 12, 24), 12, "holds"),  # six blocks cannot carry what a first look asks for
        (twice, 30, 30, "holds"),
        (on_the_margin, LOOKS, 40, "inconclusive"),
        (lambda block, letter: twice(block, "AB"[letter == "A"]), LOOKS, 10, "refuted"),
    ],
    ids=["clear", "clear, later", "one look", "on the margin", "clear the other way"],
)
def test_blocks_are_measured_until_the_claims_are_decided(
    value: Values, blocks: int | Sequence[int], measured: int, verdict: str
) -> None:
    source, comparison = looked_at(blocks, value, machine=no_spread)
    (found,) = comparison.shows(lower(TIME, by=pct(10))).verdicts
    assert (found.verdict, found.n) == (verdict, measured)
    assert len(comparison.blocks) == measured
    assert source.order == [
        f"{i:02d}-{letter}.jsonl" for i in range(measured) for letter in ("AB", "BA")[i % 2]
    ]
    most = blocks if isinstance(blocks, int) else blocks[-1]
    assert all(a.header.blocks == b.header.blocks == most for a, b in comparison.blocks)


def test_the_interval_of_a_look_is_that_of_its_confidence() -> None:
    _, comparison = looked_at(LOOKS, twice, machine=no_spread)
    (found,) = comparison.shows(lower(TIME, by=pct(10))).verdicts
    effects = [math.log(twice(i, "A")) for i in range(10)]
    expected = location(effects, looks.confidences(LOOKS)[0])
    assert (found.low, found.high) == (expected.low, expected.high)


def test_all_claims_of_a_comparison_stand_together_in_one_call() -> None:
    source, comparison = looked_at(LOOKS, twice, machine=no_spread)
    found = comparison.shows(lower(TIME, by=pct(10)), lower(SHARE, by=pp(10)))
    assert len(source.order) == 20
    assert [j.metric for j in found.verdicts] == ["time", "share"]
    with pytest.raises(
        ValueError, match=r"called before: all claims .* stand together in one call"
    ):
        comparison.shows(lower(SHARE, by=pp(10)))
    assert comparison.judgement is found
    assert len(source.order) == 20


def turning(block: int, letter: str) -> list[float]:
    """For two metrics: one is half at first and twice later, one is on the margin to the end."""
    first = twice(block, letter) if block < 10 else 1 / twice(block, letter) ** 3
    return [first, on_the_margin(block, letter)]


TURNING, STEADY = (
    Metric(name, "s", "lower", "run", lambda of, i=i: of.header.notes["value"][i])
    for i, name in enumerate(("turning", "steady"))
)


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [(lower(TURNING, by=pct(10)), "holds"), (higher(TURNING, by=pct(10)), "refuted")],
    ids=["holds", "refuted"],
)
def test_a_verdict_that_was_reached_stays(claim: Claim, verdict: str) -> None:
    source, comparison = looked_at(LOOKS, turning)
    early, late = comparison.shows(claim, lower(STEADY, by=pct(10))).verdicts
    assert (early.verdict, early.n) == (verdict, 10)
    assert (late.verdict, late.n) == ("inconclusive", 40)
    assert len(source.order) == 80
    _, again = looked_at(40, turning)
    assert again.shows(claim).verdict != verdict, "later blocks say something else"


def test_blocks_that_cannot_be_judged_end_the_measuring() -> None:
    def about(block: int, letter: str) -> dict[str, Any]:
        return {"template": letter}

    source, comparison = looked_at(LOOKS, on_the_margin, about=about)
    (found,) = comparison.shows(lower(TIME, by=pct(10))).verdicts
    assert (found.verdict, found.why) == (
        "invalid",
        "the chat template differs between the arms: A against B",
    )
    assert len(source.order) == 20


@pytest.mark.parametrize(
    ("servers", "told"),
    [
        (1, [("AB", 0)]),
        (2, [("AB", 0), ("BA", 1), ("AB", 0)]),
        (3, [("AB", 0), ("BA", 1), ("AB", 2)]),
        (9, [("AB", 0), ("BA", 1), ("AB", 2), ("BA", 3)]),
    ],
)
def test_blocks_are_spread_over_as_many_pairs_of_servers_as_the_claims_need(
    servers: int, told: list[tuple[str, int]]
) -> None:
    asked: list[Claim] = []

    def needed(claims: Sequence[Claim]) -> int:
        asked.extend(claims)
        return servers

    source, comparison = looked_at(LOOKS, on_the_margin, servers=needed)
    comparison.shows(lower(TIME, by=pct(10)))
    assert asked == [lower(TIME, by=pct(10))]
    found = [("".join("BA"[a.serving == CACHING] for a in arms), c) for arms, c in source.prepared]
    assert found == told, "each starts in turned order"
    of_blocks = {run.header.server for pair in comparison.blocks for run in pair}
    assert len(of_blocks) == 2 * len(told), "a mock source counts every preparation"


def test_a_decided_comparison_starts_no_more_servers() -> None:
    source, comparison = looked_at(LOOKS, twice, servers=lambda _claims: 3, machine=no_spread)
    comparison.shows(lower(TIME, by=pct(10)))
    assert len(source.prepared) == 1


# ---- records that end


@pytest.mark.parametrize(("recorded", "blocks", "n"), [(10, 10, 10), (17, 17, 10), (20, 20, 20)])
def test_a_replay_ends_where_its_records_do(recorded: int, blocks: int, n: int) -> None:
    source, comparison = looked_at(LOOKS, on_the_margin, recorded=recorded)
    (found,) = comparison.shows(lower(TIME, by=pct(10))).verdicts
    assert (found.verdict, found.n) == ("inconclusive", n)
    assert len(comparison.blocks) == blocks
    assert source.order[-1][:2] == f"{blocks - 1:02d}"


def written(folder: Path, value: Values, blocks: int) -> None:
    """Records of what an engine would have said."""
    _, comparison = looked_at(LOOKS, value, recorded=blocks)
    comparison.shows(lower(TIME, by=pct(10)))
    for i, pair in enumerate(comparison.blocks):
        for letter, of in zip("AB", pair, strict=True):
            record(folder / "w" / f"{i:02d}-{letter}.jsonl", of)


def replayed(folder: Path, blocks: Sequence[int] = LOOKS) -> Comparison:
    arms = (arm(prompts=prompts(60), serving=serving) for serving in (CACHING, Serving()))
    return compare(Replay(folder), *arms, blocks=blocks, where=Path("w"), header=HEADER)


def test_a_replay_says_what_was_said(tmp_path: Path) -> None:
    written(tmp_path, on_the_margin, 20)
    _, live = looked_at(LOOKS, on_the_margin, recorded=20)
    claims = lower(TIME, by=pct(10)), higher(E2E, by=pct(1))
    assert replayed(tmp_path).shows(*claims) == live.shows(*claims)


@pytest.mark.parametrize(
    ("gone", "message"),
    [("00-A", "00-A.jsonl: cannot be read"), ("09-B", "09-B.jsonl: cannot be read")],
)
def test_records_that_end_before_the_first_look_are_no_verdict(
    tmp_path: Path, gone: str, message: str
) -> None:
    written(tmp_path, on_the_margin, 10)
    (tmp_path / "w" / f"{gone}.jsonl").unlink()
    with pytest.raises(RecordError, match=message):
        replayed(tmp_path).shows(lower(TIME, by=pct(10)))


def test_records_of_other_blocks_are_of_something_else(tmp_path: Path) -> None:
    written(tmp_path, on_the_margin, 10)
    with pytest.raises(RecordError, match=r"00-A.jsonl: recorded with fingerprint .* it anew"):
        replayed(tmp_path, (10, 20)).shows(lower(TIME, by=pct(10)))


@pytest.mark.parametrize(("key", "other"), [("pair", "huge"), ("blocks", 20)])
def test_records_under_another_header_are_of_something_else(
    tmp_path: Path, key: str, other: Any
) -> None:
    written(tmp_path, on_the_margin, 10)
    path = tmp_path / "w" / "03-B.jsonl"
    of = read_run(path)
    of.header = replace(of.header, **{key: other})
    record(path, of)
    with pytest.raises(RecordError, match=f"03-B.jsonl: recorded with {key} {other!r}, the test"):
        replayed(tmp_path).shows(lower(TIME, by=pct(10)))


# ---- what a reader should know


def test_a_void_block_is_left_out_and_named() -> None:
    def about(block: int, letter: str) -> dict[str, Any]:
        return {"anchor_s": 0.3 if (block, letter) == (4, "B") else 0.1}

    _, comparison = looked_at(10, twice, about=about)
    found = comparison.shows(lower(TIME, by=pct(10)), lower(VALUE, by=pct(10)))
    time, value = found.verdicts
    assert (time.verdict, time.n, value.n) == ("holds", 9, 9)
    why = "its anchor probe took 300 ms, 100 ms is usual"
    assert [block.void for block in found.blocks] == [None] * 4 + [why] + [None] * 5
    assert f"block 5 is void: {why}" in found.remarks
    _, answered = looked_at(10, twice, about=about)
    found = answered.shows(lower(ACCURACY, by=pp(50)))
    assert found.verdicts[0].n == 60, "every question of every block"
    assert found.remarks == ()


def test_times_are_widened_by_what_is_known_of_the_recorded_machine() -> None:
    asked = []

    def machine(hardware: str, engine: str) -> Machine:
        asked.append((hardware, engine))
        return Machine(hardware, {"time": 0.3}, 8)

    _, comparison = looked_at(10, twice, machine=machine)
    claims = lower(TIME, by=pct(45)), lower(VALUE, by=pct(45))
    found = comparison.shows(*claims)
    assert [j.verdict for j in found.verdicts] == ["inconclusive", "holds"]
    assert set(asked) == {(MATCH["hardware"], MATCH["engine"])}
    assert found.remarks == ()


def test_a_spread_that_nobody_measured_is_named() -> None:
    _, comparison = looked_at(10, twice)
    assert comparison.shows(lower(TIME, by=pct(10))).remarks == (
        "how far two servers of one build differ was not measured for time of mock on "
        "cpu-synthetic-2c: 2% is assumed until the servers of a session show more "
        "(benchmarks/calibration measures it)",
    )


def test_a_metric_without_a_measured_spread_is_named_where_others_have_one() -> None:
    _, comparison = looked_at(10, twice, machine=no_spread)
    found = comparison.shows(
        lower(TIME, by=pct(10)), higher(E2E, by=pct(5)), lower(VALUE, by=pct(1))
    )
    (remark,) = found.remarks
    assert "was not measured for E2E of mock on cpu-synthetic-2c: 2% is assumed" in remark


def test_a_difference_within_the_margin_is_named() -> None:
    pair = answers(*[True] * 60), answers(*[False] * 9, *[True] * 51, arm="B")
    claims = not_lower(ACCURACY, by_more_than=pp(10)), higher(ACCURACY, by=pp(1))
    within, beyond = (Comparison("1", {0: pair}.get, (1,), unmeasured).shows(c) for c in claims)
    assert within.remarks == (
        "accuracy not lower by more than 10 pp: the arms do differ (p = 0.0039), and not to the "
        "worse",
    )
    assert beyond.verdict == "holds"
    assert beyond.remarks == (), "a claim of a difference says so itself"


def test_levels_have_the_spread_of_the_blocks_that_were_judged() -> None:
    def about(block: int, letter: str) -> dict[str, Any]:
        return {"anchor_s": 9.0 if block == 9 else 0.1}

    def value(block: int, letter: str) -> float:
        return 1000.0 if block == 9 else 1.0 + block % 3

    _, comparison = looked_at(10, value, about=about)
    found = comparison.shows(lower(TIME, by=pct(10)))
    # Three times 1, 2 and 3: a standard deviation of the root of 6 / 8, over nine blocks.
    expected = math.sqrt(6 / 8) / 3
    assert list(found.spreads.values()) == [pytest.approx(expected)] * 2


# ---- bad input

PLAIN = Serving(model="plain")


def one(*of: Run) -> list[tuple[Run, Run]]:
    first, second = of
    return [(first, second)]


def silent(arm: str) -> Run:
    return run(*(sample(f"q{i}", deltas=[]) for i in range(4)), serving=PLAIN, arm=arm)


def timed(*seconds: float, n: int = 4) -> list[tuple[Run, Run]]:
    """A block per time of the first arm; the second one takes a second."""
    return [
        (
            run(*(sample(f"q{i}", ended_s=s) for i in range(n))),
            run(*(sample(f"q{i}") for i in range(n)), arm="B"),
        )
        for s in seconds
    ]


BAD: dict[str, tuple[list[tuple[Run, Run]], Metric, str, str]] = {
    "two questions": (
        one(answers(True, False), answers(False, False, arm="B")),
        ACCURACY,
        "inconclusive",
        "more questions would decide",
    ),
    "two questions, answered alike": (
        one(answers(True, True), answers(True, True, arm="B")),
        ACCURACY,
        "inconclusive",
        "more questions would decide",
    ),
    "one question": (
        one(answers(True), answers(False, arm="B")),
        ACCURACY,
        "inconclusive",
        "an error bar needs at least two",
    ),
    "all answers equal": (
        one(answers(*[True] * 12), answers(*[True] * 12, arm="B")),
        ACCURACY,
        "inconclusive",
        "more questions would decide",
    ),
    "one block": (timed(0.5), E2E, "inconclusive", "an error bar needs at least two"),
    "five blocks": (timed(0.5, 0.6, 0.7, 0.8, 0.9), E2E, "inconclusive", "6 can"),
    "all times equal": (timed(*[0.5] * 9), E2E, "inconclusive", "9 of 9 effects are exactly the"),
    "nearly all times equal": (timed(*[0.5] * 9, 3.0), E2E, "inconclusive", "9 of 10 effects are"),
    "NaN": (timed(*[0.5] * 8, math.nan), E2E, "invalid", r"finite numbers, got \[nan\]"),
    "no time at all": (timed(*[0.5] * 8, 0.0), E2E, "invalid", "a ratio needs both above 0"),
    "no tokens: TPS": (one(silent("A"), silent("B")), TPS, "invalid", "TPS was 0 against 0"),
    "no tokens: TTFT": (one(silent("A"), silent("B")), TTFT, "invalid", "has no first token"),
    "no tokens: TBT": (one(silent("A"), silent("B")), TBT, "invalid", "came in one delta"),
    "no tokens in one arm": (
        one(silent("A"), run(*(sample(f"q{i}") for i in range(4)), serving=PLAIN, arm="B")),
        TPS,
        "invalid",
        "output lengths apart: 0 against 36 tokens",
    ),
    "one arm failed": (
        one(
            run(*(sample(f"q{i}", error="HTTP 500") for i in range(4))),
            run(*(sample(f"q{i}") for i in range(4)), arm="B"),
        ),
        ACCURACY,
        "invalid",
        "A: 4 of 4 requests failed: HTTP 500",
    ),
    "nothing in one arm": (
        one(run(closing={"planned": 4}), run(*(sample(f"q{i}") for i in range(4)), arm="B")),
        ACCURACY,
        "invalid",
        "A: 0 of 4 requests were recorded",
    ),
    "nothing asked": (one(run(), run(arm="B")), ACCURACY, "invalid", "no request of the run"),
    "unequal pairs": (
        one(
            run(*(sample(f"q{i}") for i in range(3)), closing={"planned": 4}),
            run(*(sample(f"q{i}") for i in range(4)), arm="B"),
        ),
        ACCURACY,
        "invalid",
        "A: 3 of 4 requests were recorded",
    ),
    "other questions": (
        one(answers(True, True), answers(True, True, first=5, arm="B")),
        AGREEMENT,
        "invalid",
        "the arms did not answer the same questions",
    ),
    "other questions, by block": (
        one(answers(True, True), answers(False, True, first=5, arm="B")),
        ACCURACY,
        "inconclusive",
        "1 effect",
    ),
    "one template": (
        one(*(run(*(sample(f"q{i}", template="t") for i in range(9)), arm=a) for a in "AB")),
        ACCURACY,
        "inconclusive",
        "of one cluster",
    ),
}


@pytest.mark.parametrize("verb", ["lower", "higher", "not_lower", "not_higher", "unchanged"])
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_named_outcome_and_never_a_pass(name: str, verb: Verb) -> None:
    blocks, metric, verdict, reason = BAD[name]
    margin = pp(10) if metric.unit == "share" else pct(10)
    comparison = Comparison("1", dict(enumerate(blocks)).get, (len(blocks),), unmeasured)
    (found,) = comparison.shows(Claim(verb, metric, margin)).verdicts
    more = f"{found.further} more {found.replicate} would decide" if found.further else ""
    assert found.verdict == verdict
    assert re.search(reason, f"{found.why}; {more}")
    assert found.low is None or found.high - found.low > 0  # type: ignore[operator]
