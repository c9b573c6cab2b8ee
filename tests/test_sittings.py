"""Arms whose servers cannot be up at the same time take turns, and the interval knows it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.arms import CACHING, arm, prompts
from doubles.families import CONFIGS
from doubles.mock_nvml import MockDevice, MockNvml
from doubles.mock_session import DeclaringEngine, measuring
from doubles.mock_source import MockSource, RecordingMockSource, twice
from doubles.synthetic import TIME

from pytest_rllm import pct, pp
from pytest_rllm.baselines.machines import Machine
from pytest_rllm.engines.budget import Budget
from pytest_rllm.engines.builds import Build
from pytest_rllm.engines.placement import NoRoom
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import together
from pytest_rllm.metrics import ACCURACY, E2E
from pytest_rllm.models import PAIRS, ModelPair
from pytest_rllm.records.header import SITTING, Header
from pytest_rllm.records.reader import read_run
from pytest_rllm.session.case import FindingCase
from pytest_rllm.session.comparison import CannotMeasure, Comparison, compare
from pytest_rllm.session.replay import Replay
from pytest_rllm.session.seating import TOGETHER, Seating, seated, sittings
from pytest_rllm.telemetry.gpu import Gpu
from pytest_rllm.verdicts.claims import higher, lower, unchanged
from pytest_rllm.verdicts.server_spread import ServerSpread

TURNS = Seating(((0,), (1,)), alone=True)
ARMS = arm(prompts=prompts(24)), arm(serving=CACHING, prompts=prompts(24))


@pytest.mark.parametrize(
    ("sizes", "begins"),
    [
        ((4,), (0, 2)),
        ((4, 8, 12), (0, 2, 4, 6, 8, 10)),
        ((5, 15), (0, 3, 5, 10)),
        ((1, 2), (0, 1)),
    ],
)
def test_two_sittings_up_to_each_look(sizes: Sequence[int], begins: Sequence[int]) -> None:
    assert sittings(sizes) == tuple(begins)


def compared(
    source: MockSource | Replay, seating: Seating, folder: str = "c", **more: Any
) -> Comparison:
    given: dict[str, Any] = {"blocks": (4, 8), "where": Path(folder), "header": Header()}
    return compare(source, *ARMS, seating=seating, **given | more)


def test_a_sitting_measures_several_blocks_of_one_arm_on_a_server_of_its_own() -> None:
    source = MockSource(twice)
    comparison = compared(source, TURNS, turns=4)
    comparison.shows(higher(TIME, by=pct(500)), unchanged(TIME, within=pct(1)))
    first = source.order[:8]
    assert "".join(name[3] for name in source.order) == "AABBBBAA" * 2
    assert [name[:2] for name in first] == ["00", "01", "00", "01", "02", "03", "02", "03"]
    assert [len(arms) for arms, _ in source.prepared] == [1] * 8
    assert [copy for _, copy in source.prepared] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert source.alone == [True] * 8
    assert source.turns == [], "runs of servers that are never up together are not interleaved"


def test_records_say_the_sitting_and_a_replay_judges_as_the_session_did(tmp_path: Path) -> None:
    source = RecordingMockSource(lambda b, x: (1.0 + b / 64 + (x == "A"), 3), folder=tmp_path)
    claims = [higher(E2E, by=pct(5)), unchanged(ACCURACY, within=pp(60))]
    measured = compared(source, TURNS).shows(*claims)
    notes = [[run.header.notes[SITTING] for run in pair] for pair in measured_blocks(tmp_path)]
    assert notes == [[1, 1], [1, 1], [2, 2], [2, 2]]
    assert compared(Replay(tmp_path), TOGETHER).shows(*claims).to_json() == measured.to_json()
    (remark,) = (text for text in measured.remarks if "took turns" in text)
    assert remark.startswith("the arms took turns in 4 sittings")


def measured_blocks(folder: Path) -> list[tuple[Any, Any]]:
    return [
        (read_run(folder / f"c/{i:02d}-A.jsonl"), read_run(folder / f"c/{i:02d}-B.jsonl"))
        for i in range(4)
    ]


def well_known(hardware: str, _engine: str) -> Machine:
    """Two servers that are up at the same time are equally fast here."""
    return Machine(hardware, {"time": 0.0}, 9)


def test_a_verdict_is_that_of_side_by_side_and_its_interval_is_wider() -> None:
    found = {}
    for name, seating in (("turns", TURNS), ("together", TOGETHER)):
        source = MockSource(twice)
        comparison = compared(source, seating, blocks=8, machine=well_known)
        (found[name],) = comparison.shows(lower(TIME, by=pct(20))).verdicts
    turns, together_ = found["turns"], found["together"]
    assert turns.verdict == together_.verdict == "holds"
    assert turns.estimate == pytest.approx(together_.estimate)
    assert turns.high - turns.low > together_.high - together_.low  # type: ignore[operator]


def test_what_drifts_evenly_slows_both_arms_alike() -> None:
    """Each run takes 2 % longer than the one before it: A B would show 8 %, A B B A shows none."""
    source = MockSource()
    source.value = lambda block, letter: 1.02 ** len(source.order)
    (judged,) = compared(source, TURNS, blocks=8).shows(unchanged(TIME, within=pct(30))).verdicts
    assert judged.in_percent(judged.estimate or 1) == pytest.approx(0, abs=0.1)
    low, high = judged.in_percent(judged.low or 0), judged.in_percent(judged.high or 0)
    assert low < -4 < 4 < high, "the sittings differ by 8 %, and that is what the interval tells"


def test_a_session_that_goes_on_measures_what_is_missing_of_a_sitting() -> None:
    class Resumed(MockSource):
        def kept(self, arm: Any, path: Path, header: Header) -> Any:
            early = path.name[:2] in ("00", "01") or path.name == "02-B.jsonl"
            return super().run(arm, path, header, None) if early else None  # type: ignore[arg-type]

    source, reused = Resumed(twice), list[int]()
    compared(source, TURNS, blocks=4, reused=lambda: reused.append(1)).shows(lower(TIME, by=pct(5)))
    assert [copy for _, copy in source.prepared] == [1, 1]
    assert len(reused) == 3  # of the last arm, by which whole blocks are counted


def test_a_spread_is_no_surer_than_what_is_assumed_where_nobody_measured() -> None:
    spread = ServerSpread(0.01, 8).no_surer_than(ServerSpread(0.02, 2))
    assert (spread.sd, spread.df) == (0.02, 2)
    assert ServerSpread(0.05, 1).no_surer_than(spread) == ServerSpread(0.05, 1)


# ---- who takes turns


def card(gib: float = 79.6, count: int = 1, used: float = 0.5) -> Gpu:
    devices = (MockDevice("NVIDIA H100", gib, used_gib=used) for _ in range(count))
    return Gpu(MockNvml(*devices))


def pair(gib: float) -> ModelPair:
    """Not on this machine, with so much as the need of its two servers."""
    absent = {"reasoning": "org/large", "plain": "org/large-plain", "draft": None}
    return replace(PAIRS["tiny"], gpu_memory_gib=gib, kv_cache_bytes=None, **absent)


BOTH = Serving(), CACHING


@pytest.mark.parametrize(
    ("gib", "gpus", "turns", "groups"),
    [
        (76, 1, False, ()),
        (76, 1, True, ((0,), (1,))),
        (140, 1, False, ((0,), (1,))),
        (140, 2, False, ()),
    ],
)
def test_arms_take_turns_where_one_server_fits_or_where_that_is_asked_for(
    gib: float, gpus: int, turns: bool, groups: tuple[tuple[int, ...], ...]
) -> None:
    engine, models = DeclaringEngine("engine 1"), pair(gib)
    wanted = [(engine, serving, models) for serving in BOTH]
    seating = seated(wanted, Budget(card(count=gpus)), turns=turns)
    assert (seating.groups, seating.alone) == (groups, bool(groups))


def test_arms_of_one_server_stay_together_and_more_go_in_groups() -> None:
    engine, models = DeclaringEngine("engine 1"), pair(76)
    servings = (Serving(), CACHING, Serving(), Serving(model="plain"))
    wanted = [(engine, serving, models) for serving in servings]
    assert seated(wanted, Budget(card())) == Seating(
        ((0, 1, 2), (3,)), said="3 servers, 2 at a time, on GPU 0 at 0.48 each"
    )
    assert seated(wanted[::2], Budget(card())).groups == ()


def test_servers_that_run_already_take_no_turns() -> None:
    engine = DeclaringEngine("engine 1")
    engine.build = Build("http://a", url="http://a")
    wanted = [(engine, serving, pair(76)) for serving in BOTH]
    assert seated(wanted, Budget(card()), turns=True) == Seating()


@pytest.fixture
def case(tmp_path: Path) -> Callable[..., FindingCase]:
    def made(gpu: Gpu, gib: float, **more: Any) -> FindingCase:
        source = MockSource(twice)
        session = measuring(source, tmp_path, **more)
        session.gpu = gpu
        models = pair(gib)
        session._sources[models.name] = source
        return FindingCase("f", "a", "Sentence.", "Cite.", session, models, Path("f/a"))

    return made


ASKED = {"prompts": prompts(24), "workload": together(), "blocks": 8}


def test_a_case_that_fits_nowhere_says_what_is_missing(case: Callable[..., FindingCase]) -> None:
    with pytest.raises(CannotMeasure) as caught:
        case(card(used=20.0), 140).compare(CACHING, against=Serving(), **ASKED)
    assert str(caught.value) == (
        "tiny: needs 71.0 GiB free on one GPU; GPU 0 has 59.6 of 79.6 GiB free: process 4711 holds "
        "2.0"
    )


def test_free_memory_decides_whether_a_gpu_case_can_be_measured(
    case: Callable[..., FindingCase], tmp_path: Path
) -> None:
    """Where the models are here; else what the pair says of its need, against whole GPUs."""
    name = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
    (tmp_path / "7b").mkdir()
    (tmp_path / "7b/config.json").write_text(json.dumps(CONFIGS[name]))
    of_paper = PAIRS["r1-distill-qwen-7b"]
    here = replace(of_paper, reasoning=str(tmp_path / "7b"), plain=str(tmp_path / "7b"))
    absent = replace(of_paper, reasoning="org/absent", plain="org/absent")
    mark = {"memory_gib": 44, "count": 1}

    def lacks(gpu: Gpu, models: ModelPair, need: dict[str, float] = mark) -> str | None:
        return case(gpu, 0).session.lacks(Path("f/a"), need, models)

    assert lacks(card(24.0), here) is None, "one server at a time fits"
    assert str(lacks(card(24.0), absent)).startswith("needs 1 GPU, 44 GiB each; there is")
    assert str(lacks(card(24.0), here, {"memory_gib": 40})).startswith("needs 1 GPU, 40 GiB each")
    assert lacks(card(24.0, used=10.0), here) == (
        "r1-distill-qwen-7b: needs 20.1 GiB free on one GPU; GPU 0 has 14.0 of 24.0 GiB free: "
        "process 4711 holds 2.0"
    )
    assert "free on one GPU" in str(lacks(card(79.6, used=60.0), absent))
    assert lacks(card(79.6), absent) is None


def test_a_change_of_what_servers_may_take_is_remarked() -> None:
    def noted(gib: float, *gpus: int) -> dict[str, Any]:
        return {"notes": {"value": 1.0, "placement": {"gpus": list(gpus), "gib": gib}}}

    source = MockSource(twice, about=lambda b, x: noted(39.0 if b < 4 else 30.0, 0, 1))
    remarks = compared(source, TOGETHER, blocks=8).shows(lower(TIME, by=pct(5))).remarks
    assert any("different amounts of GPU memory, 30 to 39 GiB" in text for text in remarks)
    assert "each model was spread over 2 GPUs" in remarks
    source = MockSource(twice, about=lambda b, x: noted(39.0, int(x == "A")))
    remarks = compared(source, TOGETHER, blocks=8).shows(lower(TIME, by=pct(5))).remarks
    assert not any("GPU" in text for text in remarks)


def test_a_case_takes_turns_where_one_server_fits(case: Callable[..., FindingCase]) -> None:
    one = case(card(), 140)
    one.compare(CACHING, against=Serving(), **ASKED).shows(lower(TIME, by=pct(20)))
    source: Any = one.session._sources["tiny"]
    assert "".join(name[3] for name in source.order) == "AAAABBBBBBBBAAAA"
    assert one.conclude().outcome == "pass"


def test_a_plan_says_where_servers_go_and_counts_those_of_each_sitting(
    case: Callable[..., FindingCase],
) -> None:
    one = case(card(), 140, planning=True)
    one.compare(CACHING, against=Serving(), **ASKED).shows(lower(TIME, by=pct(20)))
    text = "\n".join(one.session.costs.plan.lines(200))
    assert "tiny: taking turns on GPU 0 at 0.97" in text
    assert "2 servers are started, and up to 2 fresh ones" in text
    with pytest.raises(NoRoom):
        seated([(DeclaringEngine("e"), Serving(), pair(400))], Budget(card()))


BODY = """
from pytest_rllm import Arm, Sampling, Serving, closed, finding, higher, pct
from pytest_rllm.metrics import {0} as METRIC

@finding("Long answers take longer.", cite="nobody")
def test_f(compare, dataset):
    asked = dataset("easy", n=32)
    long, short = (
        Arm(Serving(prefix_caching=tokens > 32), asked, closed(4),
            Sampling(tokens, fixed_length=True))
        for tokens in (96, 32)
    )
    compare(long, against=short, blocks=8).shows(higher(METRIC, by=pct(20)))
"""


@pytest.mark.parametrize(
    ("engine", "metric"),
    [
        # A busy machine would make times unusable; E2E was compared once on an idle one.
        ("mock", "OUTPUT_TOKENS"),
        pytest.param("vllm", "OUTPUT_TOKENS", marks=pytest.mark.engine),
    ],
)
def test_two_arms_that_take_turns_on_a_cpu_give_the_verdict_of_side_by_side(
    pytester: pytest.Pytester, engine: str, metric: str
) -> None:
    """One server at a time, and both at once."""
    pytester.makepyfile(test_f=BODY.format(metric))
    asked = (f"--rllm-engine={engine}", "--rllm-model=tiny", "-p", "no:cacheprovider")
    together_ = pytester.runpytest_inprocess(*asked, "--rllm-record=together")
    together_.assert_outcomes(passed=1)
    turns = pytester.runpytest_inprocess(*asked, "--rllm-record=turns", "--rllm-turns")
    turns.assert_outcomes(passed=1)
    turns.stdout.fnmatch_lines(["*took turns in 2 sittings*"])
    headers = [
        read_run(path).header for path in sorted(pytester.path.glob("turns/f/**/*-[AB].jsonl"))
    ]
    assert [header.notes[SITTING] for header in headers] == [1] * 8 + [2] * 8
    assert len({header.server for header in headers}) == 4
    replayed = pytester.runpytest_inprocess(*asked, "--rllm-replay=turns")
    replayed.assert_outcomes(passed=1)
