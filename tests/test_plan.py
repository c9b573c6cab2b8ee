"""A plan says what a session would measure and cost, and starts nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.arms import CACHING, arm, prompts
from doubles.mock_session import DeclaringEngine, mock_engines
from doubles.mock_source import MockSource
from doubles.synthetic import SHARE, TIME, judged, judgement, sample
from doubles.synthetic import run as run_of

from pytest_rllm.baselines.case import fresh_case
from pytest_rllm.baselines.store import Baselines
from pytest_rllm.engines.pool import Pool
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling
from pytest_rllm.metrics import ACCURACY
from pytest_rllm.metrics.base import Metric
from pytest_rllm.models import PAIRS
from pytest_rllm.records.run import Run
from pytest_rllm.session.comparison import CannotMeasure
from pytest_rllm.session.pace import Pace, Took, manner
from pytest_rllm.session.plan import Plan, Planned
from pytest_rllm.telemetry.gpu import Gpu
from pytest_rllm.telemetry.hardware import hardware_id
from pytest_rllm.verdicts.claims import Claim, higher, lower, pct, pp
from pytest_rllm.verdicts.judgement import judge_blocks

FASTER = lower(TIME, by=pct(10))
RIGHT = higher(ACCURACY, by=pp(10))
ARMS = arm(prompts=prompts(32)), arm(serving=CACHING, prompts=prompts(32))
KEY = "f/a/1"
ARGS = ("-p", "no:cacheprovider", "-p", "no:randomly")
FINDING = """
from pytest_rllm import ACCURACY, E2E, Sampling, Serving, finding, higher, pct, pp

QUICK = ("--seconds-per-token", "0", "--first-token-s", "0")

@finding("A reasoning model is more often right.", cite="none")
def test_right(compare, dataset, workload):
    compare(
        Serving(flags=QUICK), against=Serving(model="plain", flags=QUICK),
        prompts=dataset("easy", n=8), workload=workload.closed(4),
        sampling=Sampling(8, fixed_length=True), blocks=(2, 4),
    ).shows(higher(ACCURACY, by=pp(10)), higher(E2E, by=pct(10)))
"""
UPGRADE = """
from pytest_rllm import ACCURACY, Serving, no_worse, pp, upgrade

@upgrade("Both builds are right as often.")
def test_right(compare_builds, dataset, workload):
    compare_builds(
        Serving(), prompts=dataset("easy", n=60), workload=workload.closed(4)
    ).shows(no_worse(ACCURACY, within=pp(5)))
"""


def planned(
    *claims: Claim,
    arms: tuple[Arm, Arm] = ARMS,
    sizes: tuple[int, ...] = (8,),
    parts: int | None = None,
    copies: int = 1,
    key: str = KEY,
    pair: str = "tiny",
    **more: Any,
) -> Planned:
    """A comparison of 32 questions in each arm that would be measured."""
    case = key.rpartition("/")[0]
    one = Planned(case, key, arms, PAIRS[pair], sizes, parts or sizes[-1], lambda _: copies, **more)
    one.shows(*claims or (FASTER,))
    return one


def took(seconds: float = 80.0, blocks: int = 8, **more: Any) -> Took:
    """That comparison as the last session measured it."""
    about: dict[str, Any] = {"requests": 8, "output_tokens": 160}
    return Took([manner(each) for each in ARMS], blocks, seconds, **about | more)


def text(*comparisons: Planned, pace: Pace | None = None) -> str:
    """The plan in one line."""
    return "\n".join(Plan(pace or Pace(), list(comparisons)).lines(1000))


def cells(plan: str, claim: Claim) -> list[str]:
    """What the plan says of a claim: what it sees, blocks, requests, tokens, minutes."""
    (line,) = (line for line in plan.splitlines() if line.strip().startswith(str(claim)))
    return [cell.strip() for cell in line.split("  ") if cell.strip()][1:]


# ---- what it costs


def test_a_comparison_costs_what_its_first_and_its_last_look_cost() -> None:
    fixed = tuple(replace(each, sampling=Sampling(500, fixed_length=True)) for each in ARMS)
    plan = text(planned(FASTER, arms=fixed, sizes=(4, 8)))  # type: ignore[arg-type]
    assert cells(plan, FASTER) == ["unknown", "4..8", "32..64", "16k..32k", "unknown"]


def test_aborted_requests_count_and_repeated_questions_too() -> None:
    first = arm(prompts=prompts(16, repeats=2), cut=prompts(8))
    plan = text(planned(FASTER, arms=(first, first)))
    assert cells(plan, FASTER)[2] == str(2 * (2 * 16 + 8))


def test_a_free_answer_takes_at_most_its_budget_until_a_session_has_seen_more() -> None:
    assert cells(text(planned(FASTER)), FASTER)[3] == "< 4k"  # 64 answers of up to 64 tokens
    seen = text(planned(FASTER), pace=Pace(None, {KEY: took(output_tokens=300)}))
    assert cells(seen, FASTER)[3] == "2k"  # 8 blocks of 300 tokens


def test_the_cost_of_a_comparison_is_told_once_however_many_claims_it_has() -> None:
    plan = text(planned(FASTER, RIGHT))
    assert (len(cells(plan, FASTER)), len(cells(plan, RIGHT))) == (5, 1)


def test_servers_are_started_once_and_as_many_of_a_kind_as_one_comparison_needs() -> None:
    plan = text(
        planned(sizes=(4, 8, 12), copies=3),
        planned(key="f/b/1", arms=(ARMS[0], arm(serving=Serving(model="plain")))),
        planned(key="f/c/1", sizes=(4, 8, 12), copies=2),
    )
    assert "3 comparisons; 3 servers are started, and up to 4 fresh ones" in plan


@pytest.mark.parametrize(
    ("copies", "after"), [(1, [1, 1, 1]), (2, [1, 2, 2]), (3, [1, 2, 3]), (9, [1, 2, 3])]
)
def test_looks_are_spread_over_the_servers_of_one_kind(copies: int, after: list[int]) -> None:
    one = planned(sizes=(4, 8, 12), copies=copies)
    assert [one.copies_after(size) for size in one.sizes] == after


def test_a_checkpoint_with_two_modes_is_one_server() -> None:
    pair = replace(PAIRS["tiny"], plain=PAIRS["tiny"].reasoning, requests={"plain": {"think": 0}})
    assert pair.two_modes
    one = planned(arms=(arm(), arm(serving=Serving(model="plain"))))
    one.pair = pair
    assert re.search("; 1 servers? ", text(one))


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (("tiny",), ["GPU memory: none is needed"]),
        (("tiny", "tiny-gpu"), ["GPU memory for tiny-gpu: 4 GiB on each of 1 GPU(s)"]),
        (
            ("r1-distill-qwen-32b", "r1-distill-qwen-7b", "r1-distill-qwen-7b"),
            [
                "GPU memory for r1-distill-qwen-32b: 76 GiB on each of 2 GPU(s)",
                "GPU memory for r1-distill-qwen-7b: 44 GiB on each of 1 GPU(s)",
            ],
        ),
    ],
)
def test_each_pair_says_once_which_gpu_memory_it_needs(
    pairs: tuple[str, ...], said: list[str]
) -> None:
    plan = text(*(planned(pair=pair, key=f"f/{i}/1") for i, pair in enumerate(pairs)))
    assert [line for line in plan.splitlines() if line.startswith("GPU memory")] == said


def test_what_is_left_out_is_told_with_its_reason_once() -> None:
    plan = Plan(Pace(), [planned()])
    plan.not_measured = {"f [a]": "no GPU", "f [b]": "no GPU", "g [a]": "no draft model"}
    assert plan.lines(1000)[-2:] == [
        "not measured: 2 cases: no GPU",
        "not measured: g [a]: no draft model",
    ]


def test_what_nothing_can_be_said_of_is_left_out_of_the_plan() -> None:
    plan = Plan(Pace())

    def untold(metric: Metric) -> str | None:
        return "no telemetry" if metric == TIME else None

    about: dict[str, Any] = {"untold": untold, "claimed": plan.comparisons.append}
    one = planned(FASTER, RIGHT, **about)
    assert plan.comparisons == [one]
    assert one.claims == (RIGHT,)
    with pytest.raises(CannotMeasure, match="no telemetry"):
        planned(FASTER, **about)
    assert plan.comparisons == [one]


def test_a_plan_fits_the_terminal() -> None:
    plan = Plan(Pace(), [planned(FASTER, RIGHT, sizes=(12, 24, 36)), planned(key="f/b/1")])
    plan.not_measured = {"f [c]": "a reason " * 20}
    for width in (80, 100):
        lines = plan.lines(width, ["about the session " * 10])
        assert [line for line in lines if len(line) > width] == []


# ---- minutes


def test_minutes_are_unknown_as_long_as_one_comparison_was_never_measured() -> None:
    other = planned(key="f/b/1")
    pace = Pace(None, {KEY: took()}, {"reasoning": 6.0})
    assert "minutes: unknown; 1 of the 2 comparisons were never" in text(
        planned(), other, pace=pace
    )
    assert "minutes: about" in text(planned(), pace=pace)


def test_minutes_of_other_arms_are_unknown() -> None:
    other = ARMS[0], arm(serving=Serving(quantization="int8"), prompts=prompts(32))
    pace = Pace(None, {KEY: took()}, {"reasoning": 6.0})
    assert "minutes: unknown" in text(planned(arms=other), pace=pace)


@pytest.mark.parametrize(
    ("blocks", "about", "at_most"), [(4, 8, 16), (5, 16, 16), (8, 16, 16), (60, 8, 16)]
)
def test_minutes_are_those_of_the_look_that_decided_the_last_time(
    blocks: int, about: int, at_most: int
) -> None:
    pace = Pace(None, {KEY: took(120.0 * blocks, blocks)}, {"reasoning": 0.0})
    plan = text(planned(sizes=(4, 8)), pace=pace)
    assert f"minutes: about {about}, at most {at_most}, at the pace" in plan
    assert cells(plan, FASTER)[4] == "8.0..16.0"


def test_minutes_grow_with_the_questions() -> None:
    more = tuple(replace(each, prompts=prompts(128)) for each in ARMS)
    pace = Pace(None, {KEY: took(480.0)}, {"reasoning": 0.0})
    once, four = (text(planned(arms=arms), pace=pace) for arms in (ARMS, more))  # type: ignore[arg-type]
    assert "minutes: about 8, at most 8" in once
    assert "minutes: about 32, at most 32" in four


def test_minutes_count_the_starts_of_servers() -> None:
    pace = Pace(None, {KEY: took(0.0, 4)}, {str(each.serving): 120.0 for each in ARMS})
    one = planned(sizes=(4, 8, 12), copies=3)
    assert "minutes: about 4, at most 12, at the pace" in text(one, pace=pace)


# ---- what it sees


@pytest.mark.parametrize("known", ["last session", "baseline"])
@pytest.mark.parametrize(
    ("claim", "replicates"),
    [(FASTER, 8), (RIGHT, 32), (lower(SHARE, by=pct(10)), 8)],
    ids=["times", "answers", "shares of a run"],
)
def test_what_a_claim_sees_shrinks_with_the_root_of_its_replicates(
    claim: Claim, replicates: int, known: str
) -> None:
    def seen(arms: tuple[Arm, Arm], blocks: int) -> float:
        pace, stored = Pace(), {}
        if known == "baseline":
            kind = "pct" if claim.margin.scale == "percent" else "pp"
            stored = {f"1/{claim.metric.slug}/{kind}": [-20.0, -30.0, -10.0, replicates]}
        else:
            pace = Pace(None, {KEY: took(sees={claim.slug: (16.0, replicates)})})
        plan = text(planned(claim, arms=arms, sizes=(blocks,), stored=stored), pace=pace)
        return float(cells(plan, claim)[0].split()[0])

    once = seen(ARMS, 8)
    four = tuple(replace(each, prompts=prompts(128)) for each in ARMS)
    assert once > 10
    assert seen(four, 32) == pytest.approx(once / 2, abs=0.1)  # type: ignore[arg-type]


def test_a_first_look_at_fewer_blocks_sees_less() -> None:
    pace = Pace(None, {KEY: took(blocks=16, sees={FASTER.slug: (8.0, 16)})})
    plan = text(planned(FASTER, sizes=(4, 16)), pace=pace)
    assert cells(plan, FASTER)[0] == "16.0 %"


def test_nothing_is_known_of_another_claim_or_of_another_comparison() -> None:
    pace = Pace(None, {KEY: took(sees={FASTER.slug: (8.0, 8)})})
    stored = {"2/time/pct": [-20.0, -30.0, -10.0, 8], "1/time/pp": [-20.0, -30.0, -10.0, 8]}
    assert cells(text(planned(RIGHT), pace=pace), RIGHT)[0] == "unknown"
    assert cells(text(planned(FASTER, stored=stored)), FASTER)[0] == "unknown"


def blocks_of(first: Arm, second: Arm, n: int) -> list[tuple[Run, Run]]:
    """What n blocks of these arms may have answered: some questions of each wrong."""

    def answered(one: Arm, letter: str, i: int, wrong: int) -> Run:
        asked = enumerate(one.block(i, n).prompts)
        texts = ((p.id, r"\boxed{8}" if k < wrong else r"\boxed{7}") for k, p in asked)
        return run_of(*(sample(*each) for each in texts), arm=letter)

    return [(answered(first, "A", i, i % 4), answered(second, "B", i, 3 * i % 5)) for i in range(n)]


@pytest.mark.parametrize("asked", ["the same questions", "different questions"])
def test_the_same_session_again_sees_what_it_saw(asked: str) -> None:
    other = prompts(128)[64:] if asked == "different questions" else prompts(64)
    arms = arm(prompts=prompts(64)), arm(serving=CACHING, prompts=other)
    pace = Pace()
    blocks = blocks_of(*arms, 8)
    judgement = judge_blocks([RIGHT], blocks)
    (found,) = judgement.verdicts
    assert found.detectable is not None
    pace.note(KEY, [manner(each) for each in arms], blocks, 1.0, judgement)
    plan = text(planned(RIGHT, arms=arms), pace=pace)
    seen, unit = cells(plan, RIGHT)[0].split()
    assert (float(seen), unit) == (pytest.approx(100 * found.detectable, abs=0.06), "pp")


# ---- through the plugin


def contents(folder: Path) -> dict[str, bytes]:
    """All files, but for what Python compiled."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


@pytest.fixture
def project(
    pytester: pytest.Pytester,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with a finding, and a case stored for this machine that no test stands for."""
    monkeypatch.setenv("RLLM_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("CI", raising=False)
    (pytester.path / "test_right.py").write_text(FINDING)
    stored = Baselines(pytester.path / "baselines", frozenset({"create"}))
    shown = judgement((RIGHT, judged(RIGHT, "holds")))
    stored.change(hardware_id(Gpu(), on_cpu=True), "mock", "right", "gone", fresh_case([shown]))
    return pytester.path


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--rllm-tier=paper",),
        ("--rllm-tier=smoke",),
        ("--rllm-baseline=create,fix,trim",),
        ("--rllm-record=records",),
    ],
    ids=" ".join,
)
def test_a_plan_starts_and_changes_nothing(
    pytester: pytest.Pytester,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...],
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a server is asked for")

    monkeypatch.setattr(Pool, "__init__", refused)
    before = contents(project)
    result = pytester.runpytest_inprocess(*ARGS, "--rllm-engine=mock", "--rllm-plan", *args)
    assert result.ret == pytest.ExitCode.OK
    assert result.parseoutcomes()["planned"] == 1
    assert contents(project) == before


def test_a_plan_of_two_builds_starts_nothing_decides_nothing_and_ends_well(
    pytester: pytest.Pytester, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = {"mock": DeclaringEngine("new 2"), "mock@http://old": DeclaringEngine("old 1")}
    mock_engines(monkeypatch, MockSource(), engines)
    (project / "test_right.py").write_text(UPGRADE)
    before = contents(project)
    result = pytester.runpytest_inprocess(
        *ARGS, "--rllm-engine=mock", "--rllm-against=mock@http://old", "--rllm-plan"
    )
    assert result.parseoutcomes()["planned"] == 1
    result.stdout.fnmatch_lines(["*15..60*", "*2 servers are started*"])
    result.stdout.no_fnmatch_line("*CANNOT TELL*")
    assert contents(project) == before
    assert result.ret == pytest.ExitCode.OK


def test_the_session_after_a_plan_tells_the_next_one_its_minutes(
    pytester: pytest.Pytester, project: Path
) -> None:
    args = (*ARGS, "--rllm-engine=mock", "--rllm-model=tiny")
    first = pytester.runpytest_inprocess(*args, "--rllm-plan")
    first.stdout.fnmatch_lines(
        [
            "right ?tiny?",
            "  accuracy higher by 10 pp  unknown  2..4 * 8..16 * 64..128  unknown",
            "  E2E higher by 10 %        unknown",
            "mock engine on cpu-*; nothing was started",
            "1 case*, 1 comparison*; 2 servers are started*",
            "minutes: unknown; 1 of the 1 comparison* measured on this machine*",
            "GPU memory: none is needed",
            "*= 1 planned in *",
        ]
    )
    pytester.runpytest_inprocess(*args)
    again = pytester.runpytest_inprocess(*args, "--rllm-plan")
    again.stdout.fnmatch_lines(
        [
            "  accuracy higher by 10 pp  *[0-9] pp  2..4 * 8..16 * 64..128  *0.*",
            "minutes: about *, at most *, at the pace of this machine's last sessions",
        ]
    )
    fine = pytester.runpytest_inprocess(*args, "--rllm-plan", "--rllm-tier=fine")
    fine.stdout.fnmatch_lines(["  accuracy higher by 10 pp * 8..16 * 32..64 * 256..512 *"])
    # a hundred questions, three answers to each, in both arms; half of the blocks at the first look
    paper = pytester.runpytest_inprocess(*args, "--rllm-plan", "--rllm-tier=paper")
    paper.stdout.fnmatch_lines(["  accuracy higher by 10 pp * 2..4 * 300..600 *"])


def test_gpu_cases_are_left_out_by_their_titles_with_one_reason(
    pytester: pytest.Pytester, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gpu, "why_not", "no NVIDIA GPU: none here")
    args = (*ARGS, "--rllm-engine=mock", "--rllm-plan")
    both = "--rllm-model=tiny,r1-distill-qwen-7b,r1-distill-qwen-14b"
    result = pytester.runpytest_inprocess(*args, both)
    assert result.stdout.str().count("no NVIDIA GPU") == 1
    result.stdout.fnmatch_lines(["not measured: 2 cases: no NVIDIA GPU: none here"])
    result = pytester.runpytest_inprocess(*args, "--rllm-model=tiny,r1-distill-qwen-7b")
    result.stdout.fnmatch_lines(["not measured: right ?r1-distill-qwen-7b?: no NVIDIA GPU*"])


def test_a_plan_of_a_replay_is_refused(pytester: pytest.Pytester, project: Path) -> None:
    (project / "records").mkdir()
    result = pytester.runpytest_inprocess(
        *ARGS, "--rllm-engine=mock", "--rllm-plan", "--rllm-replay=records"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--rllm-plan tells what measuring costs*--rllm-replay*"])


def test_the_cases_of_a_pair_which_share_servers_run_one_after_the_other(
    pytester: pytest.Pytester, project: Path
) -> None:
    (project / "test_left.py").write_text(FINDING.replace("test_right", "test_left"))
    pairs = "--rllm-model=r1-distill-qwen-14b,tiny,r1-distill-qwen-7b"
    result = pytester.runpytest_inprocess(*ARGS, "--collect-only", "-q", pairs)
    collected = re.findall(r"^test_(left|right)\.py::\w+\[(.*)\]$", result.stdout.str(), re.M)
    assert [pair for _, pair in collected] == [
        pair for pair in ("r1-distill-qwen-14b", "tiny", "r1-distill-qwen-7b") for _ in range(2)
    ]
