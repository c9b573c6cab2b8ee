"""Claims on a whole curve, and on what one change does to two models."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.arms import CACHING, prompts
from doubles.mock_nvml import MockDevice, MockNvml
from doubles.mock_session import DeclaringEngine, measuring, mock_engines
from doubles.mock_source import MockSource, RecordingMockSource
from doubles.synthetic import MATCH, SHARE, TIME, VALUE, answers, run, sample

from pytest_rllm import falls, flat, levels_off, pct, pp, rises, unchanged
from pytest_rllm.baselines.store import Baselines
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, closed, together
from pytest_rllm.metrics import ACCURACY, AGREEMENT, E2E, TBT
from pytest_rllm.models import PAIRS
from pytest_rllm.session.case import ClaimsNothing, FindingCase
from pytest_rllm.session.comparison import CannotMeasure
from pytest_rllm.session.contrasts import Contrasts, compare_curve, compare_effects
from pytest_rllm.session.replay import Replay
from pytest_rllm.telemetry.gpu import Gpu
from pytest_rllm.verdicts.claims import Claim, higher, lower, not_lower
from pytest_rllm.verdicts.contrasts import CurveClaim, effect_on, on_effect, versus
from pytest_rllm.verdicts.judge import Evidence, judge_family, judge_together
from pytest_rllm.verdicts.judgement import judge_blocks

POINTS = (8, 16, 32, 64)


def case_of(source: Any, folder: Path, **more: Any) -> FindingCase:
    session = measuring(source, folder, DeclaringEngine("engine"), **more)
    return FindingCase("f", "c", "A sentence.", "a source", session, PAIRS["tiny"], Path("f/c"))


def arms(points: Sequence[float] = POINTS, n: int = 64) -> dict[float, Arm]:
    return {point: Arm(Serving(), prompts(n), closed(int(point)), Sampling(64)) for point in points}


def curve_of(
    values: Sequence[float], folder: Path, blocks: int = 12, noise: float = 0.01
) -> tuple[MockSource, FindingCase, Contrasts]:
    """A curve of these values at the points, all on one server, with a little scatter."""

    def value(block: int, letter: str) -> float:
        of = values["ABCDEFGH".index(letter)]
        return of * (1 + noise * math.sin(7 * block + ord(letter)))

    source = MockSource(value, about=lambda block, letter: {"server": 1})
    case = case_of(source, folder)
    points = [2.0 ** (3 + i) for i in range(len(values))]
    return source, case, compare_curve(case, arms(points), of="in flight", blocks=blocks)


def verdicts(made: Contrasts) -> dict[str, str]:
    return {j.key: j.verdict for each in made.judgements for j in each.verdicts}


# ---- what a claim on a curve says


@pytest.mark.parametrize(
    ("claim", "steps"),
    [
        (
            rises(TIME, by=pct(50)),
            ["2>1 higher 0 %", "3>2 higher 0 %", "4>3 higher 0 %", "4>1 higher 50 %"],
        ),
        (
            falls(TIME, by=pct(50), within=pct(5)),
            [
                "2>1 not_higher 5 %",
                "3>2 not_higher 5 %",
                "4>3 not_higher 5 %",
                "4>1 lower 50 %",
            ],
        ),
        (
            flat(SHARE, within=pp(3)),
            [
                "2>1 unchanged 3 pp",
                "3>2 unchanged 3 pp",
                "4>3 unchanged 3 pp",
                "4>1 unchanged 3 pp",
            ],
        ),
        (
            levels_off(SHARE, at=3, by=pp(20), within=pp(5)),
            ["2>1 not_lower 5 pp", "3>2 not_lower 5 pp", "3>1 higher 20 pp", "4>3 unchanged 5 pp"],
        ),
        (
            levels_off(SHARE, at=2, by=pp(20), within=pp(5)),
            ["2>1 higher 20 pp", "3>2 unchanged 5 pp", "4>2 unchanged 5 pp", "4>3 unchanged 5 pp"],
        ),
    ],
)
def test_a_claim_on_a_curve_is_made_of_claims_on_its_steps(
    claim: CurveClaim, steps: list[str]
) -> None:
    points = (1, 2, 3, 4)
    found = [
        f"{points[later]}>{points[earlier]} {part.verb} {part.margin}"
        for (later, earlier), part in claim.steps(points)
    ]
    assert found == steps


def test_of_two_points_the_only_step_is_the_whole_rise() -> None:
    assert [(step, str(c)) for step, c in rises(TIME, by=pct(50)).steps((1, 2))] == [
        ((1, 0), "time higher by 50 %")
    ]
    assert [step for step, _ in flat(SHARE, within=pp(3)).steps((1, 2))] == [(1, 0)]


def test_claims_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="percentage points"):
        rises(TIME, by=pp(5))
    with pytest.raises(ValueError, match="100 % or more"):
        falls(TIME, by=pct(100))
    with pytest.raises(ValueError, match=r"level off at 16, 32, 64, not at 8"):
        list(levels_off(SHARE, at=8, by=pp(20), within=pp(5)).steps(POINTS))
    with pytest.raises(ValueError, match="two points at least, not 1"):
        list(flat(SHARE, within=pp(3)).steps((1,)))


def test_claims_say_what_they_are_of() -> None:
    assert [
        str(claim)
        for claim in (
            rises(TIME, by=pct(50)),
            falls(TIME, by=pct(50), within=pct(5)),
            flat(SHARE, within=pp(3)),
            levels_off(SHARE, at=4096, by=pp(20), within=pp(5)),
        )
    ] == [
        "time rises by 50 %, at every step",
        "time falls by 50 %, no step back by 5 %",
        "share is flat within 3 pp",
        "share rises by 20 pp and is level within 5 pp from 4096 on",
    ]


# ---- how a curve is measured and judged


def test_every_block_has_all_arms_forth_and_back(tmp_path: Path) -> None:
    source, _, made = curve_of((1, 2, 3, 4), tmp_path)
    assert source.order == []
    made.shows(rises(TIME, by=pct(50)))
    assert "".join(name[3] for name in source.order) == "ABCDDCBA" * 6
    assert len(source.prepared) == 1
    assert [str(arm.workload) for arm in source.prepared[0][0]] == [
        f"{point} in flight" for point in POINTS
    ]


def test_a_curve_that_rises_holds_at_every_step(tmp_path: Path) -> None:
    _, case, made = curve_of((1, 1.4, 1.8, 2.0), tmp_path)
    made.shows(rises(TIME, by=pct(50)))
    assert verdicts(made) == {
        "1:16-vs-8/time-higher-0pct": "holds",
        "1:32-vs-16/time-higher-0pct": "holds",
        "1:64-vs-32/time-higher-0pct": "holds",
        "1:64-vs-8/time-higher-50pct": "holds",
    }
    row = case.conclude()
    assert row.outcome == "pass"
    assert [line[0] for line in row.lines()] == [
        "time higher, 16 against 8",
        "time higher, 32 against 16",
        "time higher, 64 against 32",
        "time higher by 50 %, 64 against 8",
    ]
    assert row.judgements[0].arms == (
        "reasoning on easy, 16 in flight",
        "reasoning on easy, 8 in flight",
    )
    (said,) = (text for text in row.explanations() if text.startswith("time rises"))
    assert said.startswith("time rises by 50 %, at every step: holds; 1 at 8, 1.398 at 16, ")
    assert said.endswith("at 64 in flight (s)")


@pytest.mark.parametrize(
    ("values", "claim", "refuted"),
    [
        ((1, 1.4, 1.2, 2.0), rises(TIME, by=pct(50)), ["32-vs-16"]),
        ((1, 1.4, 1.38, 2.0), rises(TIME, by=pct(50), within=pct(30)), []),
        ((1, 1.1, 1.2, 1.3), rises(TIME, by=pct(50)), ["64-vs-8"]),
        ((2.0, 1.6, 1.3, 0.9), falls(TIME, by=pct(50)), []),
        ((1, 1, 1, 1), flat(VALUE, within=pct(30)), []),
        ((1, 1.2, 1.44, 1.7), flat(VALUE, within=pct(30)), ["64-vs-8"]),
        ((0.2, 0.6, 0.9, 0.9), levels_off(SHARE, at=32, by=pp(40), within=pp(20)), []),
        (
            (0.2, 0.5, 0.6, 0.9),
            levels_off(SHARE, at=32, by=pp(30), within=pp(20)),
            ["64-vs-32"],
        ),
        (
            (0.2, 0.9, 0.85, 0.5),
            levels_off(SHARE, at=16, by=pp(40), within=pp(20)),
            ["64-vs-16", "64-vs-32"],
        ),
    ],
)
def test_the_step_that_goes_wrong_is_named(
    values: Sequence[float], claim: CurveClaim, refuted: list[str], tmp_path: Path
) -> None:
    _, _, made = curve_of(values, tmp_path, blocks=30)
    made.shows(claim)
    found = verdicts(made)
    assert sorted(k[2:].split("/")[0] for k, v in found.items() if v == "refuted") == refuted
    assert set(found.values()) <= {"holds", "refuted"}
    word = "refuted" if refuted else "holds"
    assert any(text.startswith(f"{claim}: {word}") for text in made.judgements[-1].remarks)


def pairs(*values: float) -> list[tuple[Any, Any]]:
    """Blocks in which the first arm takes so many times as long as the second."""
    return [
        (run(sample(), notes={"value": v}), run(sample(), notes={"value": 1.0}, arm="B"))
        for v in values
    ]


def test_comparisons_that_are_judged_together_are_one_family() -> None:
    """What would refute one claim alone does not refute one of eight: Holm over all of them."""
    claim = not_lower(TIME, by_more_than=pct(5))
    slow = pairs(*[0.9, 0.91, 0.92, 0.9, 0.91, 0.93, 0.92, 0.94])
    level = pairs(*[1.0, 1.01, 0.99, 1.02, 1.0, 0.98, 1.01, 1.0])
    alone = judge_family([claim], slow, ("A", "B"))[0]
    assert alone.verdict == "refuted"
    of_two, of_eight = (
        judge_together([Evidence([claim], of, ("A", "B")) for of in [slow, *[level] * more]])
        for more in (1, 7)
    )
    assert of_two[0][0].verdict == "refuted"
    assert of_eight[0][0].verdict == "inconclusive"
    assert "Holm" in (of_eight[0][0].why or "")


def test_a_curve_is_looked_at_until_every_step_is_decided(tmp_path: Path) -> None:
    source, _, made = curve_of((1, 1.4, 1.8, 2.0), tmp_path, blocks=64)
    made.setting = replace(made.setting, sizes=(4, 16, 64))
    made.shows(rises(TIME, by=pct(50)))
    assert len(source.order) == 4 * 16  # four blocks exclude nothing


def test_a_case_counts_the_curve_among_its_comparisons(tmp_path: Path) -> None:
    _, case, made = curve_of((1, 2, 3, 4), tmp_path)
    with pytest.raises(ClaimsNothing, match="nothing was claimed"):
        case.conclude()
    with pytest.raises(ValueError, match="at least one claim"):
        made.shows()
    with pytest.raises(TypeError, match="a curve shows rises"):
        made.shows(higher(TIME, by=pct(5)))
    made.shows(rises(TIME, by=pct(50)))
    with pytest.raises(ValueError, match="called before"):
        made.shows(rises(TIME, by=pct(50)))
    with pytest.raises(ValueError, match="2 to 16 points, growing"):
        compare_curve(case, arms((16, 8)), of="in flight")
    with pytest.raises(ValueError, match="2 to 16 points, growing"):
        compare_curve(case, arms((16,)), of="in flight")


def test_claims_on_what_the_engine_does_not_tell_are_named(tmp_path: Path) -> None:
    _, case, made = curve_of((1, 2, 3, 4), tmp_path)
    made.untold = lambda metric: "it is not told" if metric is SHARE else None
    with pytest.raises(CannotMeasure, match="it is not told"):
        made.shows(flat(SHARE, within=pp(3)))
    made.shows(flat(SHARE, within=pp(3)), rises(TIME, by=pct(50)))
    assert case.conclude().not_measured == (
        "share is flat within 3 pp is not measured: it is not told",
    )


# ---- baselines, plans and records of a curve


def test_a_step_that_is_known_not_to_hold_is_a_known_deviation(tmp_path: Path) -> None:
    """A later session knows the step, and fails when another one goes wrong."""

    def concluded(values: Sequence[float], *words: str) -> Any:
        _, case, made = curve_of(values, tmp_path)
        case.session.baselines = Baselines(tmp_path / "stored", frozenset(words))
        made.shows(rises(TIME, by=pct(50)))
        row = case.conclude()
        case.session.baselines.store()
        return row

    concluded((1, 1.4, 1.2, 2.0), "create")
    stored = Baselines(tmp_path / "stored").cases(MATCH["hardware"], MATCH["engine"], "f")["c"]
    assert stored.deviations == ["1:32-vs-16/time-higher-0pct"]
    assert "1:64-vs-8/time/pct" in stored.effects
    assert len(stored.match["arms"].split()) == 4
    assert concluded((1, 1.4, 1.2, 2.0)).outcome == "xfail"
    row = concluded((1, 1.4, 1.2, 1.1))
    assert row.outcome == "fail"
    assert row.statuses == ("holds", "known deviation", "regression", "regression")


def test_a_plan_has_a_line_per_claim_on_the_curve(tmp_path: Path) -> None:
    case = case_of(MockSource(), tmp_path, planning=True)
    made = compare_curve(case, arms(), of="in flight", blocks=(4, 8))
    made.shows(rises(E2E, by=pct(50)), flat(ACCURACY, within=pp(10)))
    lines = case.session.costs.plan.lines(150)
    assert [" ".join(line.split()) for line in lines if "E2E" in line or "accuracy" in line] == [
        "E2E rises by 50 %, at every step unknown 4..8 128..256 < 8k..16k unknown",
        "accuracy is flat within 10 pp unknown",
    ]
    assert any("1 cases, 1 comparisons; 1 servers" in line for line in lines)


def test_the_next_plan_knows_what_a_curve_took_and_could_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _, case, made = curve_of((1, 1.4, 1.8, 2.0), tmp_path)
    made.shows(rises(TIME, by=pct(50)))
    pace = case.session.costs.pace
    (took,) = pace.took.values()
    assert (took.blocks, len(took.arms), took.requests) == (12, 4, 4 * 64 / 12)
    assert set(took.sees) == set(verdicts(made))
    case.session.planning, case.comparisons = True, []
    planned = compare_curve(case, arms(), of="in flight", blocks=12)
    planned.shows(rises(TIME, by=pct(50)))
    (line,) = [text for text in case.session.costs.plan.lines(150) if "time rises" in text]
    assert "%" in line.split("at every step")[1]
    assert "unknown" not in line


def recording(folder: Path, right: Sequence[int]) -> RecordingMockSource:
    """A source whose arms give so many right answers per block."""

    def value(block: int, letter: str) -> tuple[float, int]:
        place = "ABCDEFGH".index(letter)
        return 1 + place / 2 + block / 1000, right[place]

    return RecordingMockSource(value, about=lambda b, x: {"server": 1}, folder=folder)


def test_records_of_a_curve_are_judged_again_alike(tmp_path: Path) -> None:
    claims = rises(E2E, by=pct(50)), levels_off(ACCURACY, at=32, by=pp(20), within=pp(15))

    def judged(source: Any, **more: Any) -> Contrasts:
        case = case_of(source, tmp_path, **more)
        made = compare_curve(case, arms(n=120), of="in flight", blocks=(4, 12))
        made.shows(*claims)
        return made

    measured = judged(recording(tmp_path, (2, 5, 9, 9)))
    assert set(verdicts(measured).values()) == {"holds"}
    again = judged(Replay(tmp_path), replaying=True)
    assert [j.to_json() for j in again.judgements] == [j.to_json() for j in measured.judgements]


def test_a_curve_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    """Blocks of which all arms are recorded are kept; what is missing is measured."""
    first = curve_of((1, 2, 3, 4), tmp_path)[0]
    kept = {f"{i:02d}" for i in range(5)}

    class Resumed(MockSource):
        def kept(self, arm: Arm, path: Path, header: Any) -> Any:
            if path.name[:2] not in kept or path.name == "04-D.jsonl":
                return None
            return first.run(arm, path, header, None)  # type: ignore[arg-type]

    source = Resumed(lambda b, x: float(ord(x)), about=lambda b, x: {"server": 1})
    case = case_of(source, tmp_path)
    compare_curve(case, arms(), of="in flight", blocks=6).shows(rises(TIME, by=pct(50)))
    assert [name[:2] for name in source.order] == ["04"] * 4 + ["05"] * 4
    assert case.session.kept == 4


# ---- what one change does to two models

Values = Callable[[int, str], Any]


def on_one_gpu(case: FindingCase) -> None:
    """Two servers of its pair fit on the GPU of this machine, no more."""
    case.session.gpu = Gpu(MockNvml(MockDevice("NVIDIA H100", 79.6)))
    absent = {"reasoning": "org/large", "plain": "org/large-plain", "draft": None}
    case.pair = replace(case.pair, gpu_memory_gib=76, kv_cache_bytes=None, **absent)


def effects(
    value: Values, folder: Path, *, large: bool = False, blocks: Any = 12, **more: Any
) -> tuple[MockSource, FindingCase, Contrasts]:
    source = MockSource(value, about=lambda b, x: {"server": "ABCD".index(x)})
    case = case_of(source, folder, **more)
    if large:
        on_one_gpu(case)
    made = compare_effects(
        case,
        CACHING,
        against=Serving(),
        prompts=prompts(48),
        workload=together(),
        blocks=blocks,
    )
    return source, case, made


def times(reasoning: float, plain: float, pace: float = 4.0) -> Values:
    """The change multiplies the time of either model by so much; the plain one is faster."""
    usual = {"A": reasoning, "B": 1.0, "C": plain / pace, "D": 1 / pace}

    def value(block: int, letter: str) -> float:
        return usual[letter] * (1 + 0.01 * math.sin(5 * block + ord(letter)))

    return value


def test_the_same_effect_on_both_models_is_no_difference(tmp_path: Path) -> None:
    _, case, made = effects(times(0.5, 0.5), tmp_path)
    made.shows(unchanged(TIME, within=pct(30)))
    (judgement,) = made.judgements
    (judged,) = judgement.verdicts
    assert (judged.verdict, judged.key) == ("holds", "1/effect-on-time-unchanged-30pct")
    assert judged.claim == "effect on time unchanged within 30 %"
    assert judged.levels == pytest.approx((0.5, 0.5), abs=0.02)
    assert judged.in_percent(judged.estimate or 0) == pytest.approx(0, abs=2)
    assert judgement.arms == (
        "reasoning, prefix caching on easy against reasoning on easy",
        "plain, prefix caching on easy against plain on easy",
    )
    row = case.conclude()
    assert row.outcome == "pass"
    (said,) = (text for text in row.explanations() if "on the plain model" in text)
    assert said.startswith(("time: -50.", "time: -49."))


def test_a_far_block_does_not_make_the_effects_that_are_told(tmp_path: Path) -> None:
    def value(block: int, letter: str) -> float:
        far = 50.0 if block == 3 and letter == "A" else 1.0
        return far * float(times(0.5, 0.5)(block, letter))

    _, _, made = effects(value, tmp_path)
    (judgement,) = made.shows(unchanged(TIME, within=pct(30)))
    said = judgement.remarks[-1]
    assert said.startswith(("time: -50.", "time: -49."))
    assert (judgement.verdicts[0].levels or (0,))[0] > 2


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        (unchanged(TIME, within=pct(30)), "refuted"),
        (lower(TIME, by=pct(30)), "holds"),
        (higher(TIME, by=pct(30)), "refuted"),
    ],
)
def test_a_difference_of_effects_is_a_ratio_of_ratios(
    claim: Claim, verdict: str, tmp_path: Path
) -> None:
    _, _, made = effects(times(0.5, 1.0), tmp_path)
    (judgement,) = made.shows(claim)
    (judged,) = judgement.verdicts
    assert judged.verdict == verdict
    assert judged.in_percent(judged.estimate or 0) == pytest.approx(-50, abs=2)


def test_all_four_servers_are_up_where_memory_allows(tmp_path: Path) -> None:
    source, _, made = effects(times(0.5, 0.5), tmp_path)
    made.shows(unchanged(TIME, within=pct(30)))
    assert [str(arm.serving) for arm in source.prepared[0][0]] == [
        "reasoning, prefix caching",
        "reasoning",
        "plain, prefix caching",
        "plain",
    ]
    assert "".join(name[3] for name in source.order[:8]) == "ABCDDCBA"


def test_of_large_models_two_servers_are_up_at_a_time(tmp_path: Path) -> None:
    """In sittings whose order is turned, two up to each look, each on fresh servers."""
    source, _, made = effects(times(0.5, 0.6), tmp_path, large=True, blocks=(4, 8))
    made.setting = replace(made.setting, servers=lambda _claims: 1)
    made.shows(unchanged(TIME, within=pct(30)))
    letters = "".join(name[3] for name in source.order)
    assert letters == "ABBA" + "CDDC" + "CDDC" + "ABBA" + "ABBA" + "CDDC" + "CDDC" + "ABBA"
    roles = ["/".join({arm.serving.model for arm in arms}) for arms, _ in source.prepared]
    assert roles == ["reasoning", "plain", "plain", "reasoning"] * 2
    assert [copy for _, copy in source.prepared] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert not any(source.alone)
    assert [runs[0].header.notes["sitting"] for runs in made.blocks] == [1, 1, 2, 2, 3, 3, 4, 4]


def test_records_of_large_models_are_found_where_small_ones_look(tmp_path: Path) -> None:
    def judged(source: Any, folder: Path, **more: Any) -> Contrasts:
        case = case_of(source, folder, **more)
        if not more:
            on_one_gpu(case)
        asked = {"prompts": prompts(48), "workload": together(), "blocks": 12}
        made = compare_effects(case, CACHING, against=Serving(), **asked)
        made.shows(unchanged(ACCURACY, within=pp(30)), unchanged(E2E, within=pct(30)))
        return made

    source = RecordingMockSource(
        lambda b, x: (1.0 + b / 64 + (x in "AC"), 4 - (x in "BD")), folder=tmp_path
    )
    measured = judged(source, tmp_path)
    assert len(source.prepared) == 4
    again = judged(Replay(tmp_path), tmp_path, replaying=True)
    assert [j.to_json() for j in again.judgements] == [j.to_json() for j in measured.judgements]


def of_both(*rights: Sequence[bool]) -> tuple[Any, Any]:
    """One block of four runs that answer the same questions so."""
    a, b, c, d = (answers(*right, arm=x) for right, x in zip(rights, "ABCD", strict=True))
    return versus(a, b), versus(c, d)


def test_answers_are_compared_per_question(tmp_path: Path) -> None:
    """The change spoils a question of the reasoning model, and mends that of the plain one."""
    n = 40
    block = of_both([False] * 20 + [True] * 20, [True] * n, [False] * 20 + [True] * 20, [False] * n)
    claim = on_effect(unchanged(ACCURACY, within=pp(10)))
    (judged,) = judge_blocks([claim], [block]).verdicts
    assert (judged.n, judged.replicate) == (n, "questions")
    assert judged.estimate == pytest.approx(-0.5 - 0.5)
    assert judged.levels == pytest.approx((-0.5, 0.5))
    assert judged.verdict == "refuted"


def test_effects_on_shares_may_be_twice_as_far_apart() -> None:
    """Every question: one model loses it, the other gains it."""
    block = of_both([False] * 30, [True] * 30, [True] * 30, [False] * 30)
    claim = on_effect(lower(ACCURACY, by=pp(50)))
    (judged,) = judge_blocks([claim], [block]).verdicts
    assert (judged.estimate, judged.verdict) == (-2.0, "holds")


def test_unchanged_answers_bound_twice_what_one_effect_could_hide() -> None:
    same = [True] * 60
    (both,) = judge_blocks(
        [on_effect(unchanged(ACCURACY, within=pp(20)))], [of_both(same, same, same, same)]
    ).verdicts
    (one,) = judge_blocks(
        [unchanged(ACCURACY, within=pp(20))], [(answers(*same), answers(*same, arm="B"))]
    ).verdicts
    assert both.high == pytest.approx(2 * (one.high or 0))


def test_what_spoils_either_effect_spoils_their_difference(tmp_path: Path) -> None:
    block = of_both(*[[True] * 40] * 4)
    broken = block[1].both[0]
    for each in broken.samples:
        each.error = "boom"
    judgement = judge_blocks([on_effect(unchanged(ACCURACY, within=pp(30)))], [block])
    assert judgement.verdict == "invalid"
    assert "40 of 40 requests failed: boom" in judgement.reasons[0].text
    assert judgement.reasons[0].side is None


def test_an_effect_that_is_no_ratio_is_invalid_and_says_why(tmp_path: Path) -> None:
    _, _, made = effects(lambda b, x: 0.0 if x == "C" else 1.0, tmp_path)
    (judgement,) = made.shows(unchanged(TIME, within=pct(30)))
    assert judgement.verdict == "invalid"
    assert "time was 0 against 1: a ratio needs both above 0" in judgement.reasons[0].text


def test_there_is_no_effect_on_what_compares_two_runs_itself() -> None:
    with pytest.raises(ValueError, match="agreement compares two runs itself"):
        on_effect(not_lower(AGREEMENT, by_more_than=pp(5)))
    assert effect_on(TBT, "percent") is effect_on(TBT, "percent")


def test_two_effects_take_claims_on_two_arms(tmp_path: Path) -> None:
    _, _, made = effects(times(0.5, 0.5), tmp_path)
    with pytest.raises(TypeError, match="two effects are compared with lower"):
        made.shows(rises(TIME, by=pct(50)))


def test_the_spread_between_servers_counts_for_both_effects(tmp_path: Path) -> None:
    """An interval of two effects is wider by the root of two for what their servers differ by."""
    from pytest_rllm.baselines.machines import Machine

    def width(spread: float) -> float:
        _, _, made = effects(times(0.5, 0.5), tmp_path)
        made.machine = lambda hardware, _engine: Machine(hardware, {"time": spread}, 10**6)
        made.setting = replace(made.setting, servers=lambda _claims: 1)
        ((judged,),) = [j.verdicts for j in made.shows(unchanged(TIME, within=pct(90)))]
        return ((judged.high or 0) - (judged.low or 0)) / 2

    without = width(0.0)
    assert width(0.1) == pytest.approx(math.hypot(without, 1.96 * 0.1 * 2**0.5), rel=0.01)


def test_a_plan_names_the_four_servers(tmp_path: Path) -> None:
    case = case_of(MockSource(), tmp_path, planning=True)
    asked = {"prompts": prompts(48), "workload": together(), "blocks": 12}
    compare_effects(case, CACHING, against=Serving(), **asked).shows(unchanged(TBT, within=pct(10)))
    lines = case.session.costs.plan.lines(150)
    assert any(
        "effect on TBT" not in line and "TBT unchanged within 10 %" in line for line in lines
    )
    assert any("4 servers are started" in line for line in lines)


# ---- as findings

FINDING = """
from pytest_rllm import *

@finding("A curve.", cite="nobody")
def test_curve(compare_curve, compare_effects, dataset, workload, model):
    def arm(n):
        return Arm(Serving(), dataset("easy", n=64), workload.closed(n), Sampling(model.enough))

    compare_curve({n: arm(n) for n in (4, 8, 16)}, of="in flight", blocks=8).shows(
        rises(E2E, by=pct(50)), flat(ACCURACY, within=pp(30)),
    )
    compare_effects(
        Serving(prefix_caching=True), against=Serving(),
        prompts=dataset("easy", n=64), workload=workload.together(), blocks=12,
    ).shows(unchanged(ACCURACY, within=pp(40)))
"""


def test_a_finding_of_a_curve_is_measured_stored_and_replayed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = RecordingMockSource(
        lambda b, x: (1.0 + "ABCD".index(x) / 2 + b / 1000, 4), folder=pytester.path / "records"
    )
    pytester.makepyfile(test_curve=FINDING)
    args = ("-p", "no:cacheprovider", "--rllm-engine=vllm", "--rllm-model=tiny")
    with monkeypatch.context() as patched:
        mock_engines(patched, source, {"vllm": DeclaringEngine("engine 1")})
        live = ("--rllm-record=records", "--rllm-baseline=create", "--rllm-report=json:live.json")
        result = pytester.runpytest_inprocess(*args, *live)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*E2E higher, 8 against 4*", "*effect on accuracy*"])
    written = sorted(
        path.relative_to("records").as_posix() for path in Path("records").rglob("00-*")
    )
    assert written == [
        f"curve/tiny/{place}/00-{letter}.jsonl"
        for place, letters in (("0", "ABC"), ("1", "ABCD"))
        for letter in letters
    ]
    result = pytester.runpytest_inprocess(
        *args, "--rllm-replay=records", "--rllm-report=json:again.json"
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*E2E higher, 8 against 4 * holds", "*E2E rises by 50 %*: holds*"])
    told = [
        [
            (j["comparison"], j["slug"], j["verdict"], round(j["estimate"], 6))
            for judgement in json.loads(Path(name).read_text())["rows"][0]["judgements"]
            for j in judgement["verdicts"]
        ]
        for name in ("live.json", "again.json")
    ]
    assert told[0] == told[1]
    assert len(told[0]) == 2 * 3 + 1
