"""Two runs that take turns: A B B A, each turn a closed loop of its own, on one clock."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.arms import arm, prompts
from doubles.scripted_load import HEADER, LONG, NAMES, requests, tokens
from doubles.scripted_server import AnswerScript, ScriptedServer
from doubles.synthetic import run, sample

from pytest_rllm.experiment.turns import turns_of
from pytest_rllm.experiment.workloads import Sampling, Workload, closed, gamma, poisson, together
from pytest_rllm.loadgen.pages import Scrape
from pytest_rllm.loadgen.run import Side, drive_in_turns
from pytest_rllm.metrics import RUN_TIME, TPS, counted
from pytest_rllm.records.reader import read_run
from pytest_rllm.records.run import Run
from pytest_rllm.records.spool import leftover_spools
from pytest_rllm.records.writer import RunWriter

FAST = AnswerScript(first_s=0.01, gap_s=0.002)
FIXED = Sampling(32, fixed_length=True)
TWO = closed(2)


def driven(
    folder: Path,
    urls: tuple[str, str],
    turns: int,
    names: list[str] = NAMES,
    workload: Workload = TWO,
    scrape: bool = False,
    **more: Any,
) -> tuple[list[Run], list[Path]]:
    """Two runs of the same requests on two servers, and where they are recorded."""
    paths = [folder / f"{side}.jsonl" for side in "AB"]
    sides = []
    for url, path in zip(urls, paths, strict=True):
        page = Scrape(f"{url}/metrics", tokens, every_s=0.01) if scrape else None
        writer = RunWriter(path, HEADER)
        sides.append(Side(url, requests(names), workload, writer, page))
    with sides[0].writer, sides[1].writer:
        return drive_in_turns(sides, turns, **more), paths


@pytest.fixture
def urls() -> Any:
    with ScriptedServer(FAST) as first, ScriptedServer(FAST) as second:
        yield first.url, second.url


def turns_in_order(runs: list[Run]) -> list[tuple[float, float, str]]:
    closings = [run.closing for run in runs]
    assert all(closings)
    return sorted(
        (*turn, side) for side, c in zip("AB", closings, strict=True) for turn in c["turns"]
    )


@pytest.mark.parametrize("turns", [1, 2, 4, 5])
def test_one_side_waits_while_the_other_takes_its_turn(
    tmp_path: Path, urls: tuple[str, str], turns: int
) -> None:
    runs, paths = driven(tmp_path, urls, turns)
    found = turns_in_order(runs)
    assert "".join(side for _, _, side in found) == ("ABBA" * 3)[: 2 * turns]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(found))
    for side, made, path in zip("AB", runs, paths, strict=True):
        mine = [turn for turn in found if turn[2] == side]
        spans = sorted((s.intended_s, s.ended_s) for s in made.samples)
        assert len(spans) == len(NAMES)
        for begun, ended in spans:
            assert any(begin - 1e-6 <= begun and ended <= end + 1e-6 for begin, end, _ in mine)
        assert read_run(path).closing == made.closing
        assert leftover_spools(path) == []


def test_every_request_is_sent_once_in_its_order_and_no_more_at_once_than_asked(
    tmp_path: Path, urls: tuple[str, str]
) -> None:
    runs, _ = driven(tmp_path, urls, 3)
    for made in runs:
        sent = sorted(made.samples, key=lambda s: s.sent_s)
        assert sorted(s.prompt.id for s in sent) == sorted(NAMES)
        for turn in range(3):
            asked = {s.prompt.id for s in sent[4 * turn : 4 * turn + 4]}
            assert asked == set(NAMES[4 * turn : 4 * turn + 4])
        for each in sent:
            others = [s for s in sent if s.sent_s <= each.sent_s < s.ended_s]
            assert len(others) <= 2


def test_a_run_lasts_as_long_as_its_own_turns(tmp_path: Path) -> None:
    slow = AnswerScript(first_s=0.15, gap_s=0.002)
    with ScriptedServer(FAST) as first, ScriptedServer(slow) as second:
        (quick, held), _ = driven(tmp_path, (first.url, second.url), 2)
    assert quick.closing is not None
    assert quick.duration_s == pytest.approx(sum(e - b for b, e in quick.closing["turns"]))
    assert quick.duration_s == pytest.approx(quick.closing["wall_s"], abs=1e-5)
    assert RUN_TIME.of_run(quick) < RUN_TIME.of_run(held) / 2, "the other one's turns are not its"
    assert TPS.of_run(quick) > 2 * TPS.of_run(held)
    whole = max(s.ended_s for s in quick.samples)
    assert whole > quick.duration_s + held.duration_s / 2


def test_a_run_that_took_no_turns_lasts_from_its_first_request_to_its_last_answer() -> None:
    assert run(sample("a"), sample("b")).duration_s == 1.0


def test_a_server_that_waits_is_left_alone(tmp_path: Path) -> None:
    with ScriptedServer(FAST) as first, ScriptedServer(LONG) as second:
        (quick, _), _ = driven(tmp_path, (first.url, second.url), 2, NAMES[:4], scrape=True)
    times, _ = quick.series["tokens"]
    (_, end_1), (begin_2, _) = quick.closing["turns"]  # type: ignore[index]
    assert begin_2 - end_1 > 1.0, "the other side took long"
    assert len([t for t in times if end_1 + 0.1 < t < begin_2]) == 0
    assert counted(quick, "tokens") > 0, "both ends of the run were read"


def test_what_is_monitored_is_in_both_records(tmp_path: Path, urls: tuple[str, str]) -> None:
    (first, second), _ = driven(tmp_path, urls, 2, monitor=lambda: {"host": 1.0})
    assert first.series["host"] == second.series["host"]
    assert first.series["host"][0]


def test_progress_counts_both_sides(tmp_path: Path, urls: tuple[str, str]) -> None:
    told: list[tuple[int, int]] = []
    driven(tmp_path, urls, 2, progress=lambda *now: told.append(now))
    assert told == [(i, 2 * len(NAMES)) for i in range(1, 2 * len(NAMES) + 1)]


def test_a_failed_request_is_a_sample_with_an_error_and_the_turns_go_on(
    tmp_path: Path, urls: tuple[str, str]
) -> None:
    with ScriptedServer(FAST) as server:
        url = server.url
    (dead, alive), _ = driven(tmp_path, (url, urls[1]), 2)
    assert all(s.error for s in dead.samples)
    assert len(dead.samples) == len(alive.samples) == len(NAMES)
    assert not any(s.error for s in alive.samples)


@pytest.mark.parametrize(
    ("workload", "turns"), [(together(), 2), (gamma(5, 1), 2), (closed(2), len(NAMES) + 1)], ids=str
)
def test_only_a_closed_loop_of_enough_requests_takes_turns(
    tmp_path: Path, urls: tuple[str, str], workload: Workload, turns: int
) -> None:
    with pytest.raises(ValueError, match=f"{turns} turns need a closed loop of as many requests"):
        driven(tmp_path, urls, turns, workload=workload)


# ---- how many


@pytest.mark.parametrize(
    ("questions", "in_flight", "blocks", "turns"),
    [
        (16, 4, 1, 4),
        (16, 4, 2, 2),
        (16, 4, 4, 1),
        (20, 4, 1, 4),  # five waves: one turn more for one side than for the other
        (30, 16, 1, 2),  # 15 of 16 lanes are filled
        (24, 16, 1, 1),
        (16, 1, 1, 16),
        (480, 4, 30, 4),
    ],
)
def test_a_turn_is_a_wave_of_requests(
    questions: int, in_flight: int, blocks: int, turns: int
) -> None:
    of = arm(prompts=prompts(questions), workload=closed(in_flight), sampling=FIXED)
    assert turns_of(of, of, blocks) == turns


def test_a_conversation_is_in_one_block_and_in_one_turn() -> None:
    asked = [replace(p, conversation=f"c{i // 5}") for i, p in enumerate(prompts(80))]
    of = arm(prompts=asked, workload=closed(4), sampling=FIXED)
    assert (of.units, of.lanes, of.streams) == (16, 16, 4)
    assert turns_of(of, of, 1) == 4
    for blocks in (2, 3, 16):
        parts = [of.block(i, blocks).prompts for i in range(blocks)]
        assert [p for part in parts for p in part] == asked
        assert all(len(part) % 5 == 0 for part in parts)


def test_the_arm_with_more_in_flight_says_how_large_a_turn_is() -> None:
    few, many = (arm(prompts=prompts(64), workload=closed(n), sampling=FIXED) for n in (4, 16))
    assert turns_of(few, many, 1) == turns_of(many, few, 1) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"workload": together()},
        {"workload": gamma(5, 2)},
        {"sampling": Sampling(32)},
        {"cut": prompts(4, "hard")},
    ],
    ids=["a batch", "an open loop", "answers of their own length", "requests that are aborted"],
)
def test_what_needs_a_steady_state_or_has_answers_of_its_own_length_takes_no_turns(
    change: dict[str, Any],
) -> None:
    usual = arm(prompts=prompts(64), workload=closed(4), sampling=FIXED)
    other = replace(usual, **change)
    assert turns_of(usual, usual, 1) == 16
    assert turns_of(usual, other, 1) == turns_of(other, usual, 1) == 1


# ---- schedules are seeded, ascending, and have the rate and burstiness that were asked for


def test_together_starts_all_at_once() -> None:
    assert together().starts(3) == [0.0, 0.0, 0.0]


def test_the_starts_of_a_closed_loop_depend_on_the_answers() -> None:
    assert closed(4).starts(10) is None


@pytest.mark.parametrize("n", [0, 1, 5])
def test_an_open_loop_starts_at_zero_and_ascends(n: int) -> None:
    starts = poisson(2.0).starts(n)
    assert starts is not None
    assert len(starts) == n
    assert starts == sorted(starts)
    assert starts[:1] == [0.0][:n]


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("rate", [0.5, 20.0])
def test_gaps_have_the_mean_and_the_variation_asked_for(rate: float, cv: float) -> None:
    gaps = np.diff(gamma(rate, cv, seed=3).starts(20_000) or [])
    assert gaps.mean() == pytest.approx(1 / rate, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)


def test_poisson_is_gamma_with_exponential_gaps() -> None:
    assert poisson(3.0, seed=7) == gamma(3.0, 1.0, seed=7)


def test_one_seed_gives_one_schedule() -> None:
    load = gamma(5.0, 2.0, seed=1)
    assert load.starts(20) == gamma(5.0, 2.0, seed=1).starts(20)
    assert load.starts(20) != load.seeded(2).starts(20)
    assert load.seeded(2).seeded(1) == load


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (together(), "together"),
        (closed(8), "8 in flight"),
        (poisson(2.5), "2.5/s, cv 1"),
        (gamma(2, 0.5), "2/s, cv 0.5"),
    ],
)
def test_a_workload_in_words(load: Workload, words: str) -> None:
    assert str(load) == words
    assert str(load.seeded(9)) == words


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: closed(0), "at least 1 request in flight, not 0"),
        (lambda: poisson(0), "above 0, not 0 and 1"),
        (lambda: gamma(1, 0), "above 0, not 1 and 0"),
        (lambda: gamma(math.inf, 1), "finite numbers above 0, not inf and 1"),
        (lambda: gamma(1, math.nan), "finite numbers above 0, not 1 and nan"),
        (lambda: Sampling(0), "max_tokens is at least 1, not 0"),
        (lambda: Sampling(1, temperature=-0.1), "temperature >= 0 .* not -0.1"),
        (lambda: Sampling(1, temperature=math.nan), "temperature >= 0 .* not nan"),
        (lambda: Sampling(1, top_p=0), "0 < top_p <= 1, not 0.6 and 0$"),
        (lambda: Sampling(1, top_p=1.1), "0 < top_p <= 1, not 0.6 and 1.1"),
    ],
)
def test_impossible_loads_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_sampling_is_the_papers_by_default() -> None:
    assert Sampling(9) == Sampling(9, temperature=0.6, top_p=0.95, fixed_length=False)
    assert Sampling(9, temperature=0, top_p=1)
