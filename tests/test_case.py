"""What one test case may and may not do with its comparisons."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from doubles.arms import CACHING, arm, prompts
from doubles.mock_session import DeclaringEngine, measuring
from doubles.mock_source import MockSource, twice
from doubles.synthetic import MATCH, SHARE, TIME, VALUE, record, run, sample
from hypothesis import given
from hypothesis import strategies as st

from pytest_rllm.baselines.machines import Machine
from pytest_rllm.baselines.store import Baselines
from pytest_rllm.datasets.prompts import choose
from pytest_rllm.engines.capabilities import Capabilities
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, closed, together
from pytest_rllm.metrics import ACCURACY, E2E
from pytest_rllm.models import PAIRS
from pytest_rllm.records.header import Header
from pytest_rllm.records.reader import read_run
from pytest_rllm.records.run import Run
from pytest_rllm.reports.progress import Progress
from pytest_rllm.session.case import LOOKS, UPGRADE_LOOKS, ClaimsNothing, FindingCase
from pytest_rllm.session.comparison import CannotMeasure, unmeasured
from pytest_rllm.session.knee import ALONE, BISECTIONS, DOUBLINGS, Knee, NoKnee, find, knee_of
from pytest_rllm.session.replay import Replay
from pytest_rllm.session.session import Session
from pytest_rllm.session.sources import Place
from pytest_rllm.verdicts.claims import Claim, higher, lower, no_worse, not_lower, pct, pp

NEW, OLD = "vllm 2", "vllm 1"


@pytest.fixture
def source() -> MockSource:
    return MockSource()


@pytest.fixture
def case(tmp_path: Path, source: MockSource) -> FindingCase:
    """A test case in a session that measures nothing."""
    session = measuring(source, tmp_path, DeclaringEngine(NEW), DeclaringEngine(OLD))
    return FindingCase("f", "c", "A sentence.", "a source", session, PAIRS["tiny"], Path("f/c"))


@pytest.fixture
def gate(case: FindingCase) -> FindingCase:
    """A test case in a session that compares two builds."""
    case.session.engines.against = OLD
    return case


def test_measure_runs_one_arm_under_its_name(case: FindingCase, source: MockSource) -> None:
    run = case.measure(arm(), "00-alone")
    assert source.order == ["00-alone.jsonl"]
    assert run.header.arm == "00-alone"
    assert run.header.finding == "f"
    assert len(run.samples) == 12


def test_servings_share_all_else_and_the_pairs_generous_budget(
    case: FindingCase, source: MockSource
) -> None:
    comparison = case.compare(Serving(), against=CACHING, prompts=prompts(12), workload=together())
    comparison.shows(higher(E2E, by=pct(5)))
    (first, second), _ = source.prepared[0]
    assert first.sampling == second.sampling
    assert first.sampling.max_tokens == PAIRS["tiny"].generous
    assert first.prompts == second.prompts


def test_a_finding_that_does_not_say_has_blocks_enough_to_refute_one_of_two_claims(
    case: FindingCase, source: MockSource
) -> None:
    source.value = twice
    comparison = case.compare(arm(), against=arm(serving=CACHING))
    found = comparison.shows(higher(TIME, by=pct(5)), lower(SHARE, by=pp(5)))
    assert [(j.verdict, j.n) for j in found.verdicts] == [
        ("refuted", LOOKS[1]),
        ("holds", LOOKS[1]),
    ]
    row = case.conclude()
    assert (row.outcome, row.statuses) == ("fail", ("refuted", "holds (paper)"))
    assert row.judgements[0].remarks == ()


def test_a_row_tells_what_a_reader_should_know(case: FindingCase, source: MockSource) -> None:
    source.value = twice
    source.about = lambda block, letter: {"anchor_s": 9.0 if block == 7 else 0.1}
    case.session.machine = unmeasured  # type: ignore[method-assign]
    case.compare(arm(), against=arm(serving=CACHING)).shows(lower(TIME, by=pct(5)))
    row = case.conclude()
    void, spread = row.judgements[0].remarks
    assert void == "block 8 is void: its anchor probe took 9000 ms, 100 ms is usual"
    assert "was not measured for time of mock on cpu-synthetic-2c: 2% is assumed" in spread
    assert row.explanations()[-2:] == [void, spread]


def test_servings_need_prompts_and_a_workload(case: FindingCase) -> None:
    with pytest.raises(TypeError, match="needs prompts= and workload="):
        case.compare(Serving(), against=CACHING)


def test_two_comparisons_of_the_same_arms_are_stored_side_by_side(
    case: FindingCase, source: MockSource, tmp_path: Path
) -> None:
    source.value = twice
    case.session.baselines = Baselines(tmp_path, frozenset({"create"}))
    for _ in range(2):
        comparison = case.compare(arm(), against=arm(serving=CACHING))
        comparison.shows(lower(SHARE, by=pp(5)))
    assert case.conclude().outcome == "pass"
    case.session.end_test(passed=True)
    stored = Baselines(tmp_path).cases(MATCH["hardware"], MATCH["engine"], "f")["c"]
    assert sorted(stored.effects) == ["1/share/pp", "2/share/pp"]
    assert sorted(stored.levels) == ["1/a/share", "1/b/share", "2/a/share", "2/b/share"]


@pytest.mark.parametrize("claimed", [True, False])
def test_a_comparison_of_which_nothing_is_claimed_is_refused(
    case: FindingCase, claimed: bool
) -> None:
    first, _ = (case.compare(arm(), against=arm(serving=CACHING)) for _ in range(2))
    if claimed:
        first.shows(higher(E2E, by=pct(5)))
    with pytest.raises(ClaimsNothing, match=r"without .shows\(...\): nothing was claimed of it"):
        case.conclude()


# ---- two builds


def compared(gate: FindingCase, **more: Any) -> Any:
    return gate.compare_builds(CACHING, prompts=prompts(60), workload=together(), **more)


def test_builds_serve_and_are_asked_alike(gate: FindingCase, source: MockSource) -> None:
    found = compared(gate, sampling=Sampling(7)).shows(no_worse(SHARE, within=pp(5)))
    assert found.arms == tuple(
        f"{build}: reasoning, prefix caching on easy" for build in (NEW, OLD)
    )
    (new, old), copy = source.prepared[0]
    assert (new.engine, old.engine, copy) == (NEW, OLD, 0)
    assert new.fingerprint == old.fingerprint
    assert new.sampling == old.sampling == Sampling(7)


def on_the_margin(block: int, letter: str) -> float:
    """Five points less, give or take three."""
    return 0.95 + (block % 5 - 2) / 64 if letter == "A" else 1.0


def test_builds_are_looked_at_until_they_are_told_apart(
    gate: FindingCase, source: MockSource
) -> None:
    source.value = twice
    compared(gate).shows(no_worse(SHARE, within=pp(5)))
    assert len(source.order) == 2 * UPGRADE_LOOKS[0]
    source.value = on_the_margin
    compared(gate).shows(no_worse(SHARE, within=pp(5)))
    assert len(source.order) == 2 * UPGRADE_LOOKS[0] + 2 * UPGRADE_LOOKS[-1]
    assert [copy for _, copy in source.prepared] == [0, 0], "nothing of it depends on time"


@pytest.mark.parametrize(
    ("spread", "copies"), [(0.0, [0]), (0.015, [0, 1, 0]), (0.025, [0, 1, 2, 3])], ids=str
)
def test_builds_are_timed_on_as_many_servers_as_their_spread_demands(
    gate: FindingCase, source: MockSource, spread: float, copies: list[int]
) -> None:
    source.value = on_the_margin
    known = Machine("any", {"time": spread}, 30)
    gate.session.machine = lambda *_: known  # type: ignore[method-assign]
    compared(gate).shows(no_worse(TIME, within=pct(5)), no_worse(SHARE, within=pp(5)))
    assert [copy for _, copy in source.prepared] == copies


@pytest.mark.parametrize(
    ("questions", "looks"), [(60, LOOKS), (14, LOOKS[:3]), (9, LOOKS[:2]), (4, LOOKS[:1])], ids=str
)
def test_a_finding_that_does_not_say_has_the_looks_that_its_questions_can_fill(
    case: FindingCase, source: MockSource, questions: int, looks: tuple[int, ...]
) -> None:
    source.value = on_the_margin
    arms = (arm(serving=serving, prompts=prompts(questions)) for serving in (CACHING, Serving()))
    comparison = case.compare(next(arms), against=next(arms))
    assert comparison.sizes == looks
    comparison.shows(not_lower(SHARE, by_more_than=pp(5)))
    assert len(source.order) == 2 * looks[-1]


def test_speed_at_a_fixed_length_is_compared_in_turns(
    case: FindingCase, source: MockSource
) -> None:
    source.value = twice
    asked = {"prompts": prompts(128), "workload": closed(2)}
    for sampling in (Sampling(8, fixed_length=True), Sampling(8)):
        arms = (
            arm(serving=serving, sampling=sampling, **asked) for serving in (CACHING, Serving())
        )
        case.compare(next(arms), against=next(arms)).shows(lower(TIME, by=pct(10)))
    assert source.turns == [4] * LOOKS[1], "8 requests of a block, 2 at a time; free answers: none"


@pytest.mark.parametrize(
    ("worse", "outcome", "status"),
    [
        (0.05, "fail", "regression"),
        (0.0, "inconclusive", "inconclusive"),
        (-0.049, "pass", "no regression"),
    ],
)
def test_no_baseline_has_a_say_between_builds(
    gate: FindingCase, source: MockSource, tmp_path: Path, worse: float, outcome: str, status: str
) -> None:
    path = Baselines(tmp_path).path(MATCH["hardware"], MATCH["engine"], "f")
    path.parent.mkdir(parents=True)
    path.write_text("broken")
    source.value = lambda i, letter: on_the_margin(i, letter) - worse * (letter == "A")
    compared(gate).shows(no_worse(SHARE, within=pp(5)))
    row = gate.conclude()
    assert (row.outcome, row.statuses, row.notes) == (outcome, (status,), ())
    assert row.records == str(tmp_path / "f/c")


def test_a_session_without_two_builds_says_what_is_needed(tmp_path: Path) -> None:
    session = Session("vllm", tmp_path, False, Baselines(tmp_path), "fail", None, Progress(None))
    case = FindingCase("f", "c", "A sentence.", "a source", session, PAIRS["tiny"], Path("f/c"))
    with pytest.raises(ValueError, match="needs a build to compare with: --rllm-against BUILD"):
        case.compare_builds(Serving(), prompts=prompts(60), workload=together())


# ---- what an engine cannot do

FLAGGED = Serving(flags=("--x",))
KV = replace(VALUE, name="kv", series=("kv_use",))
BARE = Capabilities(models=frozenset({"reasoning"}), fixed_length=True)
NO_CACHE = "the engine 'declaring' cannot serve prefix caching"
NOT_TOLD = "bare does not tell kv_use"


def test_a_claim_on_two_builds_for_which_there_are_too_few_questions_is_left_out_and_named(
    gate: FindingCase, source: MockSource
) -> None:
    source.value = twice
    right = no_worse(ACCURACY, within=pp(5))
    asked = {"prompts": prompts(12), "workload": together(), "blocks": (8, 12)}
    comparison = gate.compare_builds(CACHING, **asked)  # type: ignore[arg-type]
    found = comparison.shows(higher(TIME, by=pct(5)), right)
    assert [judged.metric for judged in found.verdicts] == ["time"]
    (said,) = found.not_measured
    assert said.startswith(f"{right} is not measured: 12 independent questions are too few")
    assert said.endswith("79 questions would do")
    alone = gate.compare_builds(CACHING, **asked)  # type: ignore[arg-type]
    assert alone.shows(right).verdicts == ()
    assert str(alone.set_aside).startswith("12 independent questions are too few")
    assert len(source.prepared) == 1


def test_two_servings_may_differ_enough_for_few_questions(
    case: FindingCase, source: MockSource
) -> None:
    comparison = case.compare(arm(), against=arm(serving=CACHING), blocks=(8, 12))
    found = comparison.shows(not_lower(ACCURACY, by_more_than=pp(1)))
    assert [judged.metric for judged in found.verdicts] == ["accuracy"]


@pytest.fixture
def bare(tmp_path: Path, source: MockSource) -> FindingCase:
    """A test case whose engine can do little; another engine can do everything."""
    source.value = twice
    session = measuring(source, tmp_path, DeclaringEngine("bare", BARE), DeclaringEngine("able"))
    return FindingCase("f", "c", "A sentence.", "a source", session, PAIRS["tiny"], Path("f/c"))


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (arm(serving=CACHING), arm(), NO_CACHE),
        (arm(), arm(serving=CACHING), NO_CACHE),
        (arm(engine="able"), arm(serving=CACHING), NO_CACHE),
        (arm(serving=Serving(model="plain")), arm(), "cannot serve the plain model"),
        (arm(serving=Serving(flags=("--x", "1"))), arm(), "cannot serve the flags --x 1"),
    ],
)
def test_what_an_engine_cannot_do_is_known_before_anything_is_started(
    bare: FindingCase, source: MockSource, first: Arm, second: Arm, why: str
) -> None:
    with pytest.raises(CannotMeasure, match=why) as lacking:
        bare.compare(first, against=second)
    assert source.prepared == []
    row = bare.conclude(not_measured=str(lacking.value))
    assert (row.outcome, row.judgements, row.statuses) == ("skip", (), ())
    assert row.notes == (str(lacking.value),)


def test_an_arm_on_an_engine_that_can_is_measured(bare: FindingCase, source: MockSource) -> None:
    caching = arm(engine="able", serving=CACHING)
    bare.compare(caching, against=arm(engine="able")).shows(lower(TIME, by=pct(5)))
    assert bare.conclude().outcome == "pass"


def test_one_run_of_what_an_engine_cannot_do_is_not_measured(
    bare: FindingCase, source: MockSource
) -> None:
    with pytest.raises(CannotMeasure, match=NO_CACHE):
        bare.measure(arm(serving=CACHING))
    assert source.prepared == []


def test_a_claim_on_what_an_engine_does_not_tell_is_left_out_and_named(
    bare: FindingCase, source: MockSource
) -> None:
    claims = lower(TIME, by=pct(5)), lower(KV, by=pct(5))
    found = bare.compare(arm(), against=arm(engine="able")).shows(*claims)
    assert [judged.metric for judged in found.verdicts] == ["time"]
    assert found.not_measured == (f"kv lower by 5 % is not measured: {NOT_TOLD}",)
    row = bare.conclude()
    assert (row.outcome, row.statuses) == ("pass", ("holds (paper)",))
    assert row.explanations()[-1] == row.not_measured[0] == found.not_measured[0]


def test_what_no_claim_is_left_of_is_not_started(bare: FindingCase, source: MockSource) -> None:
    comparison = bare.compare(arm(), against=arm(engine="able"))
    with pytest.raises(CannotMeasure) as lacking:
        comparison.shows(lower(KV, by=pct(5)), higher(KV, by=pct(5)))
    assert str(lacking.value) == NOT_TOLD
    assert source.prepared == []
    assert bare.conclude(not_measured=str(lacking.value)).outcome == "skip"


@pytest.mark.parametrize(
    ("claim", "outcome"), [(lower(TIME, by=pct(5)), "skip"), (higher(TIME, by=pct(5)), "fail")]
)
@pytest.mark.parametrize("later", ["an arm", "its claims"])
def test_a_case_of_which_a_part_cannot_be_measured_says_both(
    bare: FindingCase, claim: Claim, outcome: str, later: str
) -> None:
    bare.compare(arm(), against=arm(engine="able")).shows(claim)
    against = arm(serving=CACHING) if later == "an arm" else arm(engine="able")
    with pytest.raises(CannotMeasure) as lacking:
        bare.compare(arm(), against=against).shows(lower(KV, by=pct(5)))
    row = bare.conclude(not_measured=str(lacking.value))
    assert row.outcome == outcome
    assert len(row.judgements) == 1
    assert row.statuses == ("holds (paper)" if outcome == "skip" else "refuted",)
    assert row.notes == (f"only a part was measured: {lacking.value}",)


def test_a_part_is_compared_with_its_part_of_the_baseline_and_nothing_is_stored(
    bare: FindingCase, source: MockSource, tmp_path: Path
) -> None:
    """What could not be measured here is neither missing, nor stale, nor trimmed."""
    session = bare.session
    session.baselines = Baselines(tmp_path, frozenset({"create"}))
    whole = replace(bare, comparisons=[])
    whole.compare(arm(engine="able"), against=arm(engine="able", serving=CACHING)).shows(
        lower(SHARE, by=pp(5)), lower(KV, by=pct(5))
    )
    whole.compare(arm(engine="able"), against=arm(engine="able", serving=FLAGGED)).shows(
        lower(SHARE, by=pp(5))
    )
    assert whole.conclude().outcome == "pass"
    session.end_test(passed=True)
    (path,) = session.baselines.written
    before = path.read_text()

    session.baselines = Baselines(tmp_path, frozenset({"fix", "trim", "create"}))
    one = arm(serving=CACHING)
    part = replace(bare, comparisons=[])
    session.engines.made["bare"] = DeclaringEngine("bare", replace(BARE, prefix_caching=True))
    part.compare(arm(), against=one).shows(lower(SHARE, by=pp(5)), lower(KV, by=pct(5)))
    with pytest.raises(CannotMeasure) as lacking:
        part.compare(arm(), against=arm(serving=FLAGGED))
    row = part.conclude(not_measured=str(lacking.value))
    assert (row.outcome, row.statuses) == ("skip", ("holds",))
    assert row.notes == (f"only a part was measured: {lacking.value}",)
    assert path.read_text() == before
    assert session.messages == [
        "--rllm-baseline stores nothing of f [c]: only a part of it was measured"
    ]


# ---- a mock engine


@pytest.mark.parametrize("arms", ["both", "first", "second"])
@pytest.mark.parametrize("words", [(), ("create",), ("create", "fix", "trim", "update")], ids=len)
def test_a_mock_engines_numbers_are_never_stored_and_the_user_is_told(
    case: FindingCase, source: MockSource, tmp_path: Path, arms: str, words: tuple[str, ...]
) -> None:
    mocks = {"both": "AB", "first": "A", "second": "B"}[arms]
    source.value = twice
    source.about = lambda block, letter: (
        {"match": MATCH | {"engine_version": "mock 1"}} if letter in mocks else {}
    )
    case.session.baselines = Baselines(tmp_path, frozenset(words))
    case.compare(arm(), against=arm(engine=OLD)).shows(lower(SHARE, by=pp(5)))
    assert case.conclude().outcome == "pass"
    assert not list(tmp_path.rglob("f.json"))
    assert case.session.baselines.written == []
    assert case.session.messages == [
        "--rllm-baseline stores nothing of f [c]: a mock engine measured it, and its numbers are "
        "of no real engine"
    ] * bool(words)


# ---- the knee

WITHIN = 2 ** (1 / 2**BISECTIONS) * 1.06
"""How far below the knee a search may end: rates have two digits."""


@given(st.floats(0.02, 400), st.sampled_from([0.5, 1.0, 2.0]))
def test_the_knee_is_found_to_a_fifth(knee: float, start: float) -> None:
    asked: list[float] = []

    def keeps_up(rate: float) -> bool:
        asked.append(rate)
        return rate <= knee

    if not start / 2**DOUBLINGS * 1.1 < knee < start * 2**DOUBLINGS / 1.1:
        return
    found = find(keeps_up, start)
    assert found <= knee < found * WITHIN
    assert len(set(asked)) == len(asked) <= 1 + DOUBLINGS + BISECTIONS, "no rate is measured twice"


@pytest.mark.parametrize(("keeps", "said"), [(True, "every rate"), (False, "no rate")])
def test_a_search_without_end_says_so(keeps: bool, said: str) -> None:
    with pytest.raises(NoKnee, match=said):
        find(lambda _rate: keeps, 1.0)


@dataclass
class QueueSource(MockSource):
    """A mock engine that answers ``capacity`` requests per second, in the order in which they come.

    Requests of an open load that find it busy wait; alone one takes 0.1 s to its first token and
    0.5 s in all. Runs are recorded in ``folder``.
    """

    capacity: float = 6.0
    folder: Path = Path()
    died_after: int = 99

    def kept(self, arm: Arm, path: Path, header: Header) -> Run | None:
        file = self.folder / path
        return read_run(file) if file.is_file() else None

    def run(self, arm: Arm, path: Path, header: Header, place: Place) -> Run:
        if len(self.order) == self.died_after:
            raise RuntimeError("the session was stopped")
        self.order.append(path.name)
        starts = arm.workload.starts(len(arm.prompts)) or [0.5 * i for i in range(len(arm.prompts))]
        free, samples = 0.0, []
        for prompt, start in zip(arm.prompts, starts, strict=True):
            taken = start if arm.workload.kind == "closed" else max(start, free)
            free = taken + 1 / self.capacity
            times = {"intended_s": start, "first_s": taken + 0.1, "ended_s": taken + 0.5}
            samples.append(sample(prompt.id, **times))
        made = run(*samples)
        made.header = header
        record(self.folder / path, made)
        return read_run(self.folder / path)


def searching(source: MockSource, folder: Path, name: str = "a", **more: object) -> FindingCase:
    session = measuring(source, folder, DeclaringEngine("engine 1"), **more)
    return FindingCase(
        "f", name, "A sentence.", "a source", session, PAIRS["tiny"], Path("f", name)
    )


QUESTIONS = arm(prompts=prompts(60))


def test_a_knee_is_measured_once_for_all_cases(tmp_path: Path) -> None:
    source = QueueSource(folder=tmp_path)
    case = searching(source, tmp_path)
    found = knee_of(case, QUESTIONS)
    assert source.order[0] == "alone.jsonl"
    assert found.ttft_s == pytest.approx(1.0), "ten times the 0.1 s that it takes alone"
    assert 4 < found.rate < 9, "a queue of sixty that is answered at 6 per second"
    assert found.tried[found.rate] > 0.85 * min(found.rate, 6)
    assert max(found.tried.values()) < 6.5, "goodput stops growing with the offered rate"
    (told,) = case.session.messages
    assert told.startswith(f"knee of tiny (reasoning, up to 64 tokens): {found.rate:g} requests/s")
    runs = list(source.order)
    other = searching(source, tmp_path, "b")
    other.session.messages = case.session.messages
    assert knee_of(other, QUESTIONS) == found
    assert source.order == runs, "another case measures nothing again"
    assert len(case.session.messages) == 1


def test_a_stopped_search_goes_on_and_is_replayed(tmp_path: Path) -> None:
    whole = QueueSource(folder=tmp_path / "whole")
    found = knee_of(searching(whole, tmp_path / "whole"), QUESTIONS)
    stopped = QueueSource(folder=tmp_path, died_after=3)
    with pytest.raises(RuntimeError, match="stopped"):
        knee_of(searching(stopped, tmp_path), QUESTIONS)
    later = QueueSource(folder=tmp_path)
    assert knee_of(searching(later, tmp_path), QUESTIONS) == found
    assert stopped.order + later.order == whole.order
    replay: list[MockSource] = [Replay(tmp_path)]  # type: ignore[list-item]
    assert knee_of(searching(replay[0], tmp_path), QUESTIONS) == found


@pytest.mark.parametrize(
    ("capacity", "said"), [(1e6, "every rate from 16 to 4000/s"), (0.003, "no rate from 16 to ")]
)
def test_without_a_knee_nothing_is_measured(tmp_path: Path, capacity: float, said: str) -> None:
    source = QueueSource(folder=tmp_path, capacity=capacity)
    with pytest.raises(CannotMeasure, match=f"{said}.*there is no knee to measure at; ask more"):
        knee_of(searching(source, tmp_path), QUESTIONS)


def test_a_plan_says_what_the_search_would_take(tmp_path: Path) -> None:
    source = QueueSource(folder=tmp_path)
    case = searching(source, tmp_path, planning=True)
    assert knee_of(case, QUESTIONS) == Knee(1.0, 1.0)
    assert knee_of(case, QUESTIONS) == Knee(1.0, 1.0)
    assert source.order == []
    (told,) = case.session.costs.plan.checks
    assert told == (
        "the knee of tiny (reasoning, up to 64 tokens) is searched first: "
        f"{ALONE} requests one at a time, then 60 at each of some 5 rates, "
        f"{1 + DOUBLINGS + BISECTIONS} at most"
    )


def test_a_plan_notes_no_search_for_a_case_that_its_tier_leaves_out(tmp_path: Path) -> None:
    case = searching(QueueSource(folder=tmp_path), tmp_path, planning=True)
    case.tier = "gate"
    with pytest.raises(CannotMeasure, match="--rllm-tier=gate measures it"):
        knee_of(case, QUESTIONS)
    assert case.session.costs.plan.checks == []


def test_what_does_not_fit_into_the_context_is_not_measured(
    bare: FindingCase, source: MockSource
) -> None:
    asked = choose(PAIRS["tiny"].tiers, "medium", n=20, shots=8)
    long = replace(arm(prompts=asked), sampling=Sampling(1024))
    for measured in (lambda: bare.measure(long), lambda: bare.compare(long, against=long)):
        with pytest.raises(CannotMeasure, match="1536 tokens, has room for 512 beside an answer"):
            measured()
    assert source.prepared == []


def test_no_accuracy_is_claimed_of_models_that_could_not_lose_any(bare: FindingCase) -> None:
    asked = choose(PAIRS["tiny"].tiers, "medium", n=20, shots=2)
    one, other = (arm(prompts=asked, engine=engine) for engine in ("", "able"))
    found = bare.compare(one, against=other).shows(
        lower(TIME, by=pct(5)), not_lower(ACCURACY, by_more_than=pp(5))
    )
    assert [judged.metric for judged in found.verdicts] == ["time"]
    (told,) = found.not_measured
    assert "learned from single questions alone" in told
