"""What a data set of few questions does to a comparison."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.statistics.few_questions import LOOKS, SIZES, arm, asked, by_block, holds, seen_at
from pytest_rllm import (
    ACCURACY,
    FAILED,
    OUTPUT_TOKENS,
    TBT,
    higher,
    no_worse,
    not_lower,
    pct,
    pp,
    unchanged,
)
from pytest_rllm.datasets.prompts import Prompt, Prompts, choose
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, closed
from pytest_rllm.models import PAIRS
from pytest_rllm.session.amount import cannot_answer, no_room, too_few_questions
from pytest_rllm.verdicts.claims import Claim
from pytest_rllm.verdicts.judge import Look

LAST = Look(LOOKS, len(LOOKS) - 1).confidence()


def test_every_look_sees_each_tier_in_proportion() -> None:
    """Before, all 30 hard questions were spent in the first blocks: 10 % of the first look's."""
    blocks = by_block(arm(asked(SIZES)))
    whole = seen_at(blocks, LOOKS[-1])
    for tier in SIZES:
        in_all = whole[tier] / whole.total()
        for look in LOOKS:
            seen = seen_at(blocks, look)
            assert seen[tier] / seen.total() == pytest.approx(in_all, abs=0.002)
        assert max(b[tier] for b in blocks) - min(b[tier] for b in blocks) <= 2


def questions(n: int, *, tier: str = "hard", per_template: int = 1) -> Prompts:
    return Prompts(
        Prompt(f"{tier}{i}", "?", "7", tier, "math", f"{tier}{i // per_template}") for i in range(n)
    )


def why(claim: Claim, prompts: Prompts, other: Prompts | None = None) -> str | None:
    return too_few_questions(claim, (arm(prompts), arm(other or prompts)), LAST)


def test_the_number_that_would_do_is_the_one_from_which_the_claim_holds() -> None:
    of_tier = no_worse(ACCURACY.on("hard"), within=pp(5))
    assert why(of_tier, questions(30)) == (
        "30 independent questions of tier hard are too few for it to hold: if no answer changes, "
        "13.1 pp may still change unseen; 83 questions would do"
    )
    assert (holds(82, 0.0, 1), holds(83, 0.0, 1)) == (0.0, 1.0)
    assert why(of_tier, questions(82)) is not None
    assert why(of_tier, questions(83)) is None
    assert why(of_tier, Prompts([*questions(30), *questions(500, tier="easy")])) is not None
    assert why(of_tier, questions(100, per_template=2)) is not None


@pytest.mark.parametrize(
    "claim",
    [
        no_worse(ACCURACY, within=pp(12)),  # 13.1 points would be too few, 33 questions do
        higher(ACCURACY, by=pp(5)),  # it holds when something changes
        no_worse(TBT, within=pct(5)),  # of times, blocks are the replicates
        unchanged(OUTPUT_TOKENS, within=pct(5)),  # a ratio
        not_lower(ACCURACY, by_more_than=pp(0)),  # it holds when answers become better
        no_worse(FAILED.on("easy"), within=pp(1)),  # none is asked: the judge says so
    ],
    ids=str,
)
def test_claims_that_need_no_certain_number_are_measured(claim: Claim) -> None:
    assert why(claim, questions(34)) is None


def test_arms_that_were_asked_different_questions_are_judged_by_blocks() -> None:
    claim = no_worse(ACCURACY, within=pp(5))
    assert why(claim, questions(30), questions(31)) is None


TINY = PAIRS["tiny"]


def with_examples(shots: int, max_tokens: int = 1024) -> Arm:
    prompts = choose(TINY.tiers, "medium", n=20, shots=shots)
    return Arm(Serving(), prompts, closed(2), Sampling(max_tokens))


def test_examples_that_leave_no_room_for_an_answer_are_refused_before_anything_is_started() -> None:
    assert no_room(with_examples(4), TINY) is None
    assert no_room(with_examples(8, TINY.enough), TINY) is None
    told = no_room(with_examples(8), TINY)
    assert told is not None
    assert "with the 8 turns before it, and the context of the reasoning model of the pair " in told
    assert "'tiny', 1536 tokens, has room for 512 beside an answer of 1024" in told


def test_a_question_and_its_answer_must_fit_into_the_context_of_the_role_that_is_asked() -> None:
    assert no_room(with_examples(0, 1024), TINY) is None
    told = no_room(with_examples(0, 1530), TINY)
    assert "has room for 6 beside an answer of 1530: ask for shorter answers" in str(told)
    short = replace(TINY, context={"plain": 512})
    assert no_room(with_examples(0, 1024), short) is None, "the reasoning model has the pair's"
    plain = replace(with_examples(0, 1024), serving=Serving(model="plain"))
    assert no_room(plain, short) == (
        "an answer may take 1,024 tokens, and the plain model of the pair 'tiny' has a context of "
        "512: ask for shorter answers (its budgets), or name a model with a longer context"
    )
    assert no_room(replace(plain, sampling=Sampling(256)), short) is None


def test_room_is_not_guessed_without_the_models_tokenizer() -> None:
    elsewhere = replace(TINY, reasoning="nobody/a-model-that-is-not-here")
    assert no_room(with_examples(8), elsewhere) is None


def test_nothing_is_claimed_of_the_accuracy_of_models_that_know_single_questions_only() -> None:
    arms = (with_examples(2), with_examples(2))
    assert "'tiny' learned from single questions alone" in str(cannot_answer(ACCURACY, arms, TINY))
    assert cannot_answer(ACCURACY.on("medium"), arms, TINY)
    assert cannot_answer(TBT, arms, TINY) is None
    assert cannot_answer(ACCURACY, arms, replace(TINY, single_turn=False)) is None
    assert cannot_answer(ACCURACY, (with_examples(0),) * 2, TINY) is None
