"""What measuring took is kept per machine and engine, and tells how long the rest takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from doubles.arms import CACHING, arm, prompts
from doubles.synthetic import TIME, judged, judgement, run, sample

from pytest_rllm.experiment.arm import Arm
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, closed
from pytest_rllm.session.pace import Pace, manner
from pytest_rllm.verdicts.claims import lower, pct

FASTER = lower(TIME, by=pct(10))
ARMS = [manner(arm()), manner(arm(serving=CACHING))]
OTHERS = [manner(arm(sampling=Sampling(1024))), manner(arm(serving=CACHING))]


def note(
    pace: Pace,
    key: str,
    seconds: float,
    *,
    blocks: int = 4,
    arms: Sequence[str] = ARMS,
    started_s: float | None = None,
) -> None:
    """Note a comparison of so many blocks of two requests, each of which took that long."""
    pair = tuple(
        run(sample(tokens=100), serving=serving, server_started_in_s=started_s)
        for serving in (Serving(), CACHING)
    )
    shown = judgement((FASTER, judged(FASTER, "holds")))
    pace.note(key, arms, [pair] * blocks, seconds, shown)  # type: ignore[list-item]


def next_session(pace: Pace) -> Pace:
    """What the session after it reads."""
    return Pace(None, dict(pace.took), dict(pace.starts))


# ---- kept


def test_what_was_noted_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "machine" / "engine.json"
    pace = Pace.read(path)
    note(pace, "f/a/1", 2.0, started_s=30.0)
    pace.write()
    again = Pace.read(path)
    took = again.of("f/a/1", ARMS)
    assert took is not None
    assert (took.blocks, took.seconds, took.requests, took.output_tokens) == (4, 8.0, 2, 200)
    size, n = took.sees[FASTER.slug]
    assert (size, n) == (pytest.approx(5.13, abs=0.01), 6)  # exp(0.05) - 1
    assert (again.start_s(str(Serving())), again.start_s(str(CACHING))) == (30.0, 30.0)


def test_time_is_in_proportion_to_the_requests() -> None:
    pace = Pace()
    note(pace, "f/a/1", 2.0)
    took = pace.took["f/a/1"]
    assert (took.each_s(2), took.each_s(1), took.each_s(8)) == (2.0, 1.0, 8.0)


def another_version(text: str) -> str:
    told = json.loads(text)
    for took in told["took"].values():
        took["joules"] = took.pop("seconds")
    return json.dumps(told)


@pytest.mark.parametrize(
    "spoil",
    [
        another_version,
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "null",
        lambda text: text.replace("took", "taken"),
    ],
    ids=["another version", "cut off", "empty", "a list", "null", "another name"],
)
def test_a_file_that_is_broken_or_of_another_version_tells_nothing_and_is_replaced(
    tmp_path: Path, spoil: Callable[[str], str]
) -> None:
    path = tmp_path / "pace.json"
    pace = Pace(path)
    note(pace, "f/a/1", 2.0, started_s=30.0)
    pace.write()
    path.write_text(spoil(path.read_text()))
    again = Pace.read(path)
    assert (again.took, again.starts) == ({}, {})
    note(again, "f/b/1", 1.0)
    again.write()
    assert Pace.read(path).took.keys() == {"f/b/1"}


def test_a_file_that_is_no_text_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "pace.json").write_bytes(b"\xff\xfe\x00")
    assert Pace.read(tmp_path / "pace.json").took == {}


def test_a_folder_that_cannot_be_written_costs_no_session(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    pace = Pace.read(tmp_path / "file" / "pace.json")
    note(pace, "f/a/1", 1.0)
    pace.write()
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_session_that_measured_nothing_keeps_nothing(tmp_path: Path) -> None:
    Pace.read(tmp_path / "pace.json").write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "other",
    [
        arm(serving=CACHING),
        arm(workload=closed(4)),
        arm(sampling=Sampling(128)),
        arm(sampling=Sampling(64, fixed_length=True)),
        arm(engine="another engine"),
    ],
    ids=["serving", "workload", "budget", "length", "engine"],
)
def test_nothing_is_known_of_other_arms(other: Arm) -> None:
    pace = Pace()
    note(pace, "f/a/1", 2.0, arms=[manner(arm())] * 2)
    assert pace.of("f/a/1", [manner(arm(prompts=prompts(99)))] * 2) is not None
    assert pace.of("f/a/1", [manner(arm()), manner(other)]) is None
    assert pace.of("f/a/2", [manner(arm())] * 2) is None


def test_arms_in_turned_order_are_others() -> None:
    pace = Pace()
    note(pace, "f/a/1", 2.0)
    assert pace.of("f/a/1", ARMS[::-1]) is None


def test_a_start_that_was_never_seen_takes_as_long_as_others() -> None:
    pace = Pace()
    assert pace.start_s("reasoning") is None
    pace.starts = {"reasoning": 10.0, "plain": 20.0, "reasoning, fp8 KV": 90.0}
    assert (pace.start_s("plain"), pace.start_s("reasoning, ngram speculation (3)")) == (20, 20)


def test_a_server_that_ran_already_changes_no_start() -> None:
    pace = Pace()
    note(pace, "f/a/1", 2.0, started_s=30.0)
    note(pace, "f/a/2", 2.0, started_s=None)
    assert pace.start_s(str(Serving())) == 30.0


@pytest.mark.parametrize(
    ("blocks", "arms", "kept"),
    [(8, ARMS, 8), (12, ARMS, 12), (4, ARMS, 4), (2, ARMS, 8), (2, OTHERS, 2)],
)
def test_a_much_smaller_session_takes_the_place_of_a_larger_one_only_with_other_arms(
    blocks: int, arms: list[str], kept: int
) -> None:
    pace = Pace()
    note(pace, "f/a/1", 2.0, blocks=8)
    note(pace, "f/a/1", 1.0, blocks=blocks, arms=arms)
    assert pace.took["f/a/1"].blocks == kept


# ---- how long the rest takes


def test_nothing_is_later_than_the_last_comparison_of_the_last_case() -> None:
    pace = Pace()
    note(pace, "f/a/1", 2.0)
    assert pace.later_s("f/a", "1", []) == 0.0


def test_known_cases_and_comparisons_take_as_long_as_the_last_time() -> None:
    pace = Pace()
    for key, seconds in {"f/a/1": 1.0, "f/a/2": 2.0, "f/b/1": 4.0}.items():
        note(pace, key, seconds)
    pace = next_session(pace)
    assert pace.later_s("f/a", "1", ["f/b"]) == 4 * (2.0 + 4.0)
    assert pace.later_s("f/a", "2", ["f/b"]) == 4 * 4.0


@pytest.mark.parametrize("keys", [("speed", "accuracy"), [str(i) for i in range(1, 12)]])
def test_comparisons_come_in_the_order_in_which_they_are_measured(keys: Sequence[str]) -> None:
    pace = Pace()
    for key in keys:
        note(pace, f"f/a/{key}", 1.0)
    pace = next_session(pace)
    assert [pace.later_s("f/a", key, []) for key in keys] == [
        4.0 * i for i in reversed(range(len(keys)))
    ]


@pytest.mark.parametrize("slower", [2.0, 1.0, 0.5])
def test_a_session_that_is_slower_than_the_last_one_makes_the_rest_longer(slower: float) -> None:
    pace = Pace()
    for key, seconds in {"f/a/1": 1.0, "f/a/2": 2.0, "f/b/1": 4.0}.items():
        note(pace, key, seconds)
    pace = next_session(pace)
    usual = pace.later_s("f/a", "1", ["f/b"])
    note(pace, "f/a/1", slower * 1.0)
    assert usual is not None
    assert pace.later_s("f/a", "1", ["f/b"]) == slower * usual


def test_what_was_asked_otherwise_the_last_time_says_nothing_of_the_pace() -> None:
    pace = Pace()
    note(pace, "f/a/1", 1.0, arms=OTHERS)
    note(pace, "f/b/1", 3.0)
    pace = next_session(pace)
    usual = pace.later_s("f/a", "1", ["f/b"])
    note(pace, "f/a/1", 20.0)
    assert pace.later_s("f/a", "1", ["f/b"]) == usual


def test_smaller_blocks_are_no_faster_pace() -> None:
    pace = Pace()
    for key in ("f/a/1", "f/b/1"):
        note(pace, key, 6.0)
    pace = next_session(pace)
    pair = (run(sample()), run())
    shown = judgement((FASTER, judged(FASTER, "holds")))
    pace.note("f/a/1", ARMS, [pair] * 4, 3.0, shown)
    assert pace.later_s("f/a", "1", ["f/b"]) == 24.0


def test_cases_that_nobody_measured_are_as_long_as_those_of_this_session() -> None:
    pace = Pace()
    assert pace.later_s("f/a", "1", ["f/b"]) is None, "there is nothing to go by"
    note(pace, "f/a/1", 3.0)
    note(pace, "f/a/2", 2.0)
    assert pace.later_s("f/a", "2", ["f/b"]) == 4 * 5.0
    assert pace.later_s("f/a", "2", ["f/b", "f/c"]) == 2 * 4 * 5.0
