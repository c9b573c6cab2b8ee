"""How much each tier measures of a comparison, and of how many questions."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles.arms import CACHING, arm, prompts
from doubles.mock_session import measuring
from doubles.mock_source import MockSource, twice
from doubles.synthetic import TIME, valued
from hypothesis import given
from hypothesis import strategies as st

from pytest_rllm.datasets.prompts import Prompts, choose
from pytest_rllm.experiment.tiers import FEWEST, TIERS, Name, Tier
from pytest_rllm.local_data import LocalData
from pytest_rllm.models import PAIRS
from pytest_rllm.session.case import FindingCase
from pytest_rllm.session.comparison import CannotMeasure
from pytest_rllm.verdicts.claims import Claim, higher, lower, not_higher, not_lower, pct, unchanged
from pytest_rllm.verdicts.judge import judge
from pytest_rllm.verdicts.tails import NO_HARM

SMOKE, SHORT, GATE, FINE, PAPER = TIERS.values()
TIERS_OF_TINY = PAIRS["tiny"].tiers
CLAIMS = (
    lower(TIME, by=pct(10)),
    higher(TIME, by=pct(10)),
    not_lower(TIME, by_more_than=pct(10)),
    not_higher(TIME, by_more_than=pct(10)),
    unchanged(TIME, within=pct(10)),
)

# ---- looks and parts


@pytest.mark.parametrize(
    ("tier", "planned", "times", "looks"),
    [
        (SHORT, (8,), 1, (8,)),
        (GATE, (8,), 1, (8,)),
        (GATE, (12, 24, 36), 1, (12, 24, 36)),
        (FINE, (8,), 4, (32,)),
        (FINE, (12, 24, 36), 4, (48, 96, 144)),
        (FINE, (12, 24), 3, (36, 72)),
        (FINE, (12, 24), 1, (12, 24)),
        (SMOKE, (8,), 1, (FEWEST,)),
        (SMOKE, (12, 24, 36), 1, (FEWEST,)),
        (SMOKE, (4,), 1, (4,)),
    ],
)
def test_a_tier_looks_at_as_many_blocks_as_it_can_afford(
    tier: Tier, planned: tuple[int, ...], times: int, looks: tuple[int, ...]
) -> None:
    assert tier.looks(planned, times) == looks


@pytest.mark.parametrize(
    ("tier", "planned", "times", "questions", "parts"),
    [
        (GATE, (8,), 1, 480, 8),
        (GATE, (12, 24), 1, 480, 24),
        (FINE, (12, 24), 4, 480, 96),
        (FINE, (12, 24), 2, 480, 48),
        (SMOKE, (8,), 1, 480, 24),
        (SMOKE, (12, 24), 1, 480, 24),
        (SMOKE, (8,), 1, 20, 20),
        (SMOKE, (8,), 1, 4, FEWEST),
    ],
)
def test_prompts_are_split_so_that_every_look_has_its_blocks(
    tier: Tier, planned: tuple[int, ...], times: int, questions: int, parts: int
) -> None:
    assert tier.parts(planned, times, questions) == parts


def test_smoke_asks_large_models_an_eighth_of_what_a_test_plans() -> None:
    planned = (4, 8, 12, 16)
    parts = SMOKE.parts(planned, 1, 400, large=True)
    assert 400 * SMOKE.looks(planned, 1)[-1] / parts == 400 / 8
    assert SHORT.parts(planned, 1, 400, large=True) == SHORT.parts(planned, 1, 400)
    assert PAIRS["r1-distill-qwen-7b"].large
    assert not PAIRS["tiny-gpu"].large


@given(
    st.sampled_from([*TIERS.values()]),
    st.lists(st.integers(1, 60), min_size=1, max_size=4, unique=True).map(sorted),
    st.integers(1, 6),
    st.integers(0, 500),
)
def test_no_block_is_larger_than_its_test_plans_it_and_none_is_empty(
    tier: Tier, planned: list[int], times: int, more: int
) -> None:
    times = min(times, tier.times)  # as `choose` has it
    questions = (planned[-1] + more) * times
    parts = tier.parts(planned, times, questions)
    assert tier.looks(planned, times)[-1] <= parts <= questions
    assert questions / parts <= (planned[-1] + more) / planned[-1]


@given(
    st.sampled_from(CLAIMS),
    st.lists(st.floats(0.001, 1000), min_size=1, max_size=FEWEST - 1),
)
def test_fewer_blocks_than_smoke_has_decide_nothing_about_times(
    claim: Claim, values: list[float]
) -> None:
    blocks = [(valued(value), valued(1.0, arm="B")) for value in values]
    assert judge(claim, blocks, ("a", "b")).verdict in ("inconclusive", "invalid")


@pytest.mark.parametrize("claim", CLAIMS, ids=str)
def test_as_many_blocks_as_smoke_has_decide_when_the_effect_is_clear(claim: Claim) -> None:
    """But for that nothing is worse: six blocks cannot show that few are far worse."""

    def verdict(about: float) -> str:
        values = [about * (1 + i / 1000) for i in range(FEWEST)]
        blocks = [(valued(value), valued(1.0, arm="B")) for value in values]
        return judge(claim, blocks, ("a", "b")).verdict

    shown = "inconclusive" if claim.verb in NO_HARM else "holds"
    assert {verdict(about) for about in (0.5, 1.0, 2.0)} == {shown, "refuted"}


# ---- in a test case


def case_of(folder: Path, tier: Tier, source: MockSource, *, since: Name) -> FindingCase:
    """A case of a finding that says of which tier on it is measured."""
    session = measuring(source, folder, tier=tier)
    return FindingCase("f", "c", "A.", "a source", session, PAIRS["tiny"], Path("f/c"), since)


def asked(n: int, times: int = 1) -> Prompts:
    """So many times n questions, as `choose` returns them."""
    found = Prompts(prompts(n * times))
    found.times = times
    return found


def test_smoke_measures_six_blocks_of_a_third_of_the_questions(tmp_path: Path) -> None:
    source = MockSource(twice)
    case = case_of(tmp_path, SMOKE, source, since="smoke")
    comparison = case.compare(arm(prompts=asked(48)), against=arm(prompts=asked(48)), blocks=8)
    (found,) = comparison.shows(lower(TIME, by=pct(10))).verdicts
    assert (found.verdict, found.n) == ("holds", FEWEST)
    assert {len(run.samples) for pair in comparison.blocks for run in pair} == {48 // 8 // 3}


@pytest.mark.parametrize(
    ("tier", "since", "measured"),
    [
        (SMOKE, "smoke", True),
        (SMOKE, "short", False),
        (SHORT, "smoke", True),
        (SHORT, "gate", False),
        (GATE, "gate", True),
        (GATE, "fine", False),
        (PAPER, "gate", True),
    ],
)
def test_a_tier_leaves_out_what_larger_ones_measure_and_says_which(
    tmp_path: Path, tier: Tier, since: Name, measured: bool
) -> None:
    source = MockSource(twice)
    case = case_of(tmp_path, tier, source, since=since)
    arms = arm(prompts=asked(48)), arm(serving=CACHING, prompts=asked(48))
    if measured:
        case.compare(arms[0], against=arms[1]).shows(lower(TIME, by=pct(10)))
    else:
        left_out = rf"no part of --rllm-tier={tier.name}; --rllm-tier={since} measures it"
        with pytest.raises(CannotMeasure, match=left_out):
            case.compare(arms[0], against=arms[1])
    assert bool(source.prepared) is measured


@pytest.mark.parametrize(("times", "blocks"), [((1, 1), 8), ((4, 4), 32), ((4, 2), 16)])
def test_fine_measures_as_many_more_blocks_as_both_arms_have_questions(
    tmp_path: Path, times: tuple[int, int], blocks: int
) -> None:
    case = case_of(tmp_path, FINE, MockSource(twice), since="short")
    first, second = (arm(prompts=asked(8, each)) for each in times)
    (found,) = case.compare(first, against=second, blocks=8).shows(lower(TIME, by=pct(10))).verdicts
    assert found.n == blocks


# ---- questions


@given(
    st.permutations(list(TIERS_OF_TINY)),
    st.integers(1, 4),
    st.integers(0, 20),
    st.integers(1, 6),
    st.integers(1, 3),
)
def test_more_questions_begin_with_the_usual_ones_and_each_tier_has_as_many_times_more(
    names: list[str], of: int, more: int, times: int, repeats: int
) -> None:
    names, n = names[:of], of + more
    once, many = (
        choose(TIERS_OF_TINY, *names, n=n, repeats=repeats, times=each) for each in (1, times)
    )
    assert (once.times, many.times) == (1, times)
    assert many[:n] == once[:n]
    assert len(many) == times * len(once)
    for name in names:
        shares = [len({p.id for p in found if p.tier == name}) for found in (once, many)]
        assert shares[1] == times * shares[0] > 0


@pytest.mark.parametrize(("n", "times"), [(3, 4), (5, 2), (6, 2), (7, 1), (12, 1)])
def test_there_are_only_as_many_questions_as_the_smallest_data_set_has(
    tmp_path: Path, n: int, times: int
) -> None:
    path = tmp_path / "twelve.jsonl"
    path.write_text("".join(f'{{"q": "{i}?", "a": "{i}"}}\n' for i in range(12)))
    small = LocalData(path, tier="hard", answer="a", question="q")
    alone = choose({"hard": small}, "hard", n=n, times=4)
    assert (alone.times, len(alone)) == (times, n * times)
    beside = choose({"easy": "bundled-easy", "hard": small}, "easy", "hard", n=2 * n, times=4)
    assert (beside.times, len(beside)) == (times, 2 * n * times)


def test_where_all_questions_of_a_small_data_set_are_taken_none_is_asked_twice(
    tmp_path: Path,
) -> None:
    path = tmp_path / "two.jsonl"
    path.write_text('{"q": "1?", "a": "1"}\n{"q": "2?", "a": "2"}\n')
    small = LocalData(path, tier="hard", answer="a", question="q")
    found = choose({"hard": small}, "hard", n=5, times=4, at_most=True)
    assert (found.times, [prompt.answer for prompt in found]) == (1, ["1", "2"])
