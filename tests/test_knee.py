"""The search for the highest rate that an engine answers in time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from doubles.arms import arm, prompts
from doubles.mock_session import DeclaringEngine, measuring
from doubles.mock_source import MockSource
from doubles.synthetic import record, run, sample
from hypothesis import given
from hypothesis import strategies as st

from pytest_rllm.experiment.arm import Arm
from pytest_rllm.models import PAIRS
from pytest_rllm.records.header import Header
from pytest_rllm.records.reader import read_run
from pytest_rllm.records.run import Run
from pytest_rllm.session.case import FindingCase
from pytest_rllm.session.comparison import CannotMeasure
from pytest_rllm.session.knee import ALONE, BISECTIONS, DOUBLINGS, Knee, NoKnee, find, knee_of
from pytest_rllm.session.replay import Replay
from pytest_rllm.session.sources import Place

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


def case_of(source: MockSource, folder: Path, name: str = "a", **more: object) -> FindingCase:
    session = measuring(source, folder, DeclaringEngine("engine 1"), **more)
    return FindingCase(
        "f", name, "A sentence.", "a source", session, PAIRS["tiny"], Path("f", name)
    )


ASKED = arm(prompts=prompts(60))


def test_a_knee_is_measured_once_for_all_cases(tmp_path: Path) -> None:
    source = QueueSource(folder=tmp_path)
    case = case_of(source, tmp_path)
    found = knee_of(case, ASKED)
    assert source.order[0] == "alone.jsonl"
    assert found.ttft_s == pytest.approx(1.0), "ten times the 0.1 s that it takes alone"
    assert 4 < found.rate < 9, "a queue of sixty that is answered at 6 per second"
    assert found.tried[found.rate] > 0.85 * min(found.rate, 6)
    assert max(found.tried.values()) < 6.5, "goodput stops growing with the offered rate"
    (told,) = case.session.messages
    assert told.startswith(f"knee of tiny (reasoning): {found.rate:g} requests/s, the first token")
    runs = list(source.order)
    other = case_of(source, tmp_path, "b")
    other.session.messages = case.session.messages
    assert knee_of(other, ASKED) == found
    assert source.order == runs, "another case measures nothing again"
    assert len(case.session.messages) == 1


def test_a_stopped_search_goes_on_and_is_replayed(tmp_path: Path) -> None:
    whole = QueueSource(folder=tmp_path / "whole")
    found = knee_of(case_of(whole, tmp_path / "whole"), ASKED)
    stopped = QueueSource(folder=tmp_path, died_after=3)
    with pytest.raises(RuntimeError, match="stopped"):
        knee_of(case_of(stopped, tmp_path), ASKED)
    later = QueueSource(folder=tmp_path)
    assert knee_of(case_of(later, tmp_path), ASKED) == found
    assert stopped.order + later.order == whole.order
    replay: list[MockSource] = [Replay(tmp_path)]  # type: ignore[list-item]
    assert knee_of(case_of(replay[0], tmp_path), ASKED) == found


@pytest.mark.parametrize(
    ("capacity", "said"), [(1e6, "every rate from 16 to 4000/s"), (0.003, "no rate from 16 to ")]
)
def test_without_a_knee_nothing_is_measured(tmp_path: Path, capacity: float, said: str) -> None:
    source = QueueSource(folder=tmp_path, capacity=capacity)
    with pytest.raises(CannotMeasure, match=f"{said}.*there is no knee to measure at; ask more"):
        knee_of(case_of(source, tmp_path), ASKED)


def test_a_plan_says_what_the_search_would_take(tmp_path: Path) -> None:
    source = QueueSource(folder=tmp_path)
    case = case_of(source, tmp_path, planning=True)
    assert knee_of(case, ASKED) == Knee(1.0, 1.0)
    assert knee_of(case, ASKED) == Knee(1.0, 1.0)
    assert source.order == []
    (told,) = case.session.costs.plan.checks
    assert told == (
        f"the knee of tiny (reasoning) is searched first: {ALONE} requests one at a time, then 60 "
        f"at each of some 5 rates, {1 + DOUBLINGS + BISECTIONS} at most"
    )
