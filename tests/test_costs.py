"""What a session will cost: tiers, the pace of this machine, and the plan."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles.synthetic import judged, judgement, run, sample

from pytest_rllm.datasets.prompts import choose
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.tiers import FEWEST, TIERS
from pytest_rllm.experiment.workloads import Sampling, closed
from pytest_rllm.metrics import TBT
from pytest_rllm.models import PAIRS
from pytest_rllm.session.pace import Pace, manner
from pytest_rllm.session.plan import Plan, Planned
from pytest_rllm.verdicts.claims import lower, pct
from pytest_rllm.verdicts.intervals import Effects

SMOKE, GATE, PAPER = (TIERS[name] for name in ("smoke", "gate", "paper"))
FASTER = lower(TBT, by=pct(10))
FINDING = """
from pytest_rllm import ACCURACY, Sampling, Serving, finding, higher, pp

@finding("A reasoning model is more often right.", cite="none")
def test_right(compare, dataset, workload):
    compare(
        Serving(), against=Serving(model="plain"), prompts=dataset("hard", n=48),
        workload=workload.closed(4), sampling=Sampling(64, fixed_length=True), blocks=(8, 16),
    ).shows(higher(ACCURACY, by=pp(10)))
    compare(
        Serving(prefix_caching=True), against=Serving(), prompts=dataset("hard", n=48),
        workload=workload.closed(4), sampling=Sampling(64), restarts=True, blocks=(8, 12, 16),
    ).shows(higher(ACCURACY, by=pp(10)))
"""


# ---- tiers


def test_a_tier_says_how_many_blocks_there_are() -> None:
    assert GATE.looks((12, 24), 1) == (12, 24)
    assert PAPER.looks((12, 24), 4) == (48, 96)
    assert PAPER.looks((12, 24), 2) == (24, 48), "the data set has no more questions"
    assert SMOKE.looks((12, 24), 1) == (FEWEST,)
    assert (GATE.parts((12, 24), 1, 500), PAPER.parts((12, 24), 4, 500)) == (24, 96)
    assert (SMOKE.parts((8,), 1, 192), SMOKE.parts((8,), 1, 20)) == (24, 20)


def test_so_few_blocks_as_smoke_has_can_decide_and_fewer_cannot() -> None:
    values = [-0.5 - i / 100 for i in range(FEWEST)]
    assert FASTER.of(Effects(values, "location").interval()) == "holds"
    assert FASTER.of(Effects(values[1:], "location").interval()) == "inconclusive"


def test_smoke_measures_the_findings_that_say_so_alone() -> None:
    assert "no part of --rllm-tier=smoke" in (SMOKE.leaves_out(smoke=False) or "")
    for tier in TIERS.values():
        assert tier.leaves_out(smoke=True) is None
    assert GATE.leaves_out(smoke=False) is PAPER.leaves_out(smoke=False) is None


def test_four_times_the_questions_begin_with_those_of_once() -> None:
    tiers = PAIRS["tiny"].tiers
    once, more = (choose(tiers, "easy", "hard", n=10, times=times) for times in (1, 4))
    assert (once.times, more.times) == (1, 4)
    assert more[:10] == once
    assert len({prompt.id for prompt in more}) == 40
    many = choose(tiers, "easy", n=900, times=4)
    assert (many.times, len(many)) == (2, 1800)


# ---- the pace of this machine


def arm(n: int = 8, **serving: object) -> Arm:
    prompts = choose(PAIRS["tiny"].tiers, "easy", n=n)
    return Arm(Serving(**serving), prompts, closed(2), Sampling(16))  # type: ignore[arg-type]


def noted(pace: Pace, key: str, seconds: float, *, blocks: int = 4, requests: int = 2) -> None:
    """Note a comparison of so many blocks, each of which took that long."""
    pair = tuple(run(*(sample(f"q{i}") for i in range(requests))) for _ in "AB")
    shown = judgement((FASTER, judged(FASTER, "holds")))
    pace.note(key, [manner(arm())] * 2, [pair] * blocks, seconds, shown)  # type: ignore[list-item]


def test_a_pace_is_kept_and_other_arms_have_another(tmp_path: Path) -> None:
    pace = Pace(tmp_path / "deep" / "pace.json")
    noted(pace, "f/a/1", 2.0)
    pace.write()
    again = Pace.read(tmp_path / "deep" / "pace.json")
    took = again.of("f/a/1", [manner(arm())] * 2)
    assert took is not None
    assert (took.blocks, took.seconds, took.each_s(8), took.each_s(4)) == (4, 8.0, 4.0, 2.0)
    assert again.of("f/a/1", [manner(arm(prefix_caching=True)), manner(arm())]) is None
    assert again.of("f/b/1", [manner(arm())] * 2) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"took": {"a": {"x": 1}}, "starts": {}}'])
def test_a_file_that_cannot_be_used_tells_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "pace.json").write_text(text)
    assert Pace.read(tmp_path / "pace.json").took == {}
    (tmp_path / "file").touch()
    unwritable = Pace(tmp_path / "file" / "pace.json")
    noted(unwritable, "f/a/1", 1.0)
    unwritable.write()


def test_what_comes_later_is_estimated_at_the_pace_of_this_session() -> None:
    pace = Pace()
    for key in ("f/a/1", "f/a/2", "f/b/1"):
        noted(pace, key, 2.0)
    pace = Pace(None, pace.took)  # the next session
    assert pace.later_s("f/a", "1", ["f/b"]) == 16.0
    noted(pace, "f/a/1", 4.0)  # it is half as fast
    assert pace.later_s("f/a", "1", ["f/b"]) == 32.0
    assert pace.later_s("f/a", "2", ["f/b"]) == 16.0
    assert pace.later_s("f/a", "2", []) == 0.0


def test_a_case_that_was_never_measured_is_as_long_as_the_others_of_this_session() -> None:
    pace = Pace()
    assert pace.later_s("f/a", "1", ["f/b"]) is None
    noted(pace, "f/a/1", 3.0)
    assert pace.later_s("f/a", "1", ["f/b", "f/c"]) == 24.0


def test_a_small_session_is_not_kept_in_the_place_of_a_large_one() -> None:
    pace = Pace()
    noted(pace, "f/a/1", 2.0, blocks=8)
    noted(pace, "f/a/1", 1.0, blocks=2)
    assert pace.took["f/a/1"].blocks == 8
    noted(pace, "f/a/1", 1.0, blocks=6)
    assert pace.took["f/a/1"].blocks == 6


# ---- the plan


def planned(sizes: tuple[int, ...] = (4, 8), *, stored: bool = False) -> Planned:
    one = Planned("f [a]", "f/a/1", (arm(16), arm(16)), PAIRS["tiny"], sizes, sizes[-1], True)
    if stored:
        one.stored = {"1/tbt/pct": [-20.0, -30.0, -10.0, 16]}
    one.shows(FASTER)
    return one


def seen(plan: Plan) -> str:
    """Which effect the only claim could see."""
    line = next(line for line in plan.lines(100) if "TBT lower" in line)
    return [cell for cell in line.split("  ") if cell.strip()][1].strip()


def test_what_a_claim_could_see_follows_the_root_of_its_blocks() -> None:
    assert seen(Plan(Pace(), [planned()])) == "unknown"
    small, large = (Plan(Pace(), [planned(sizes, stored=True)]) for sizes in ((4,), (16,)))
    assert (seen(small), seen(large)) == ("28.6 %", "14.3 %")  # 1.43 times half the interval


def test_minutes_are_unknown_until_a_session_has_told_them() -> None:
    pace = Pace()
    assert "minutes: unknown; 1 of the 1 comparisons" in " ".join(
        Plan(pace, [planned()]).lines(100)
    )
    noted(pace, "f/a/1", 60.0)
    pace.starts = {"reasoning": 30.0}
    told = " ".join(Plan(pace, [planned()]).lines(100))
    # A start; 4 blocks of 4 requests, of which one took a minute; or 8, and a fresh server.
    assert "minutes: about 4, at most 9, at the pace of this machine's last sessions" in told


def test_a_plan_starts_nothing(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLLM_CACHE", str(pytester.path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    (pytester.path / "test_right.py").write_text(FINDING)
    before = set(pytester.path.rglob("*"))
    args = ("-p", "no:cacheprovider", "--rllm-engine=mock", "--rllm-plan")
    result = pytester.runpytest_inprocess(*args, "--rllm-model=tiny,r1-distill-qwen-7b")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "right ?tiny?",
            "  accuracy higher by 10 pp * 8..16 * 48..96 * 3k..6k * unknown",
            "  accuracy higher by 10 pp * 8..16 * 48..96 * < 3k..6k * unknown",
            "1 cases, 2 comparisons; 3 servers are started, and up to 4 fresh ones *",
            "GPU memory: none is needed",
            "not measured: *r1-distill-qwen-7b*: no *GPU*",
            "*1 planned*",
        ]
    )
    made = {path for path in set(pytester.path.rglob("*")) - before if path.is_file()}
    assert [path for path in made if "__pycache__" not in path.parts] == []


def test_the_session_that_follows_tells_the_next_plan_its_minutes(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLLM_CACHE", str(pytester.path / "cache"))
    (pytester.path / "test_right.py").write_text(FINDING)
    args = ("-p", "no:cacheprovider", "--rllm-engine=mock", "--rllm-model=tiny")
    pytester.runpytest_inprocess(*args)
    plan = pytester.runpytest_inprocess(*args, "--rllm-plan", "--rllm-tier=paper")
    assert "minutes: about " in plan.stdout.str()
    assert "192..384" in plan.stdout.str(), "four times as many requests"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--rllm-plan", "--rllm-replay=x"), "*--rllm-replay measures none*"),
        (("--rllm-tier=huge",), "*--rllm-tier: smoke, gate, paper, not 'huge'*"),
        (("--rllm-tier=smoke", "--rllm-against=mock@http://x"), "*too little to decide*"),
    ],
)
def test_options_that_cannot_be_together_are_refused(
    pytester: pytest.Pytester, args: tuple[str, ...], said: str
) -> None:
    (pytester.path / "test_right.py").write_text(FINDING)
    (pytester.path / "x").mkdir()
    result = pytester.runpytest_inprocess(*args, "--rllm-engine=mock", "--rllm-model=tiny")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])
