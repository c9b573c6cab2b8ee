"""Answers agree with another arm's as far as a repetition of that arm does, or they do not."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.arms import prompts
from doubles.mock_session import DeclaringEngine, measuring, mock_engines
from doubles.mock_source import MockSource, RecordingMockSource
from doubles.synthetic import run, sample

from pytest_rllm.experiment.arm import Arm
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, closed
from pytest_rllm.metrics import ACCURACY, AGREEMENT, E2E, EARLY_AGREEMENT
from pytest_rllm.models import PAIRS
from pytest_rllm.records.deltas import Delta, Deltas
from pytest_rllm.records.header import Header
from pytest_rllm.records.run import Run
from pytest_rllm.session.case import FindingCase
from pytest_rllm.session.contrasts import Contrasts
from pytest_rllm.session.repetition import compare_repeated
from pytest_rllm.session.sources import Place
from pytest_rllm.verdicts.claims import Claim, Verdict, not_lower, pct, pp, unchanged
from pytest_rllm.verdicts.contrasts import agreement_in, versus
from pytest_rllm.verdicts.effects import Effects
from pytest_rllm.verdicts.judge import Look
from pytest_rllm.verdicts.validity import check

FINDING = Path(__file__).parent.parent / "tests_findings" / "test_metamorphic.py"
CACHING = Serving(prefix_caching=True)
AS_REPEATED = not_lower(EARLY_AGREEMENT, by_more_than=pp(10))
Text = Callable[[str, int], str]


@dataclass
class Writing(MockSource):
    """Starts no server: answers with a text, from the arm's letter and the question's number, that
    ran into its budget."""

    text: Text = field(kw_only=True)

    def run(self, arm: Arm, path: Path, header: Header, place: Place) -> Run:
        made = super().run(arm, path, header, place)
        for each in made.samples:
            number = int(each.prompt.id.lstrip("abcdefghijklmnopqrstuvwxyz"))
            text = self.text(path.name[3], number)
            each.deltas = Deltas(
                [Delta(0.25, "reasoning", 1, "hm"), Delta(0.5, "content", 9, text)]
            )
            each.finish_reason = "length"
        return made


def case_of(source: Any, folder: Path) -> FindingCase:
    session = measuring(source, folder, DeclaringEngine("engine"))
    return FindingCase("f", "c", "A sentence.", "a source", session, PAIRS["tiny"], Path("f/c"))


def differing(first: int, again: int) -> Text:
    """So many of ten answers differ from the second arm's, in the first arm and in the repetition;
    not the same ones."""

    def text(letter: str, number: int) -> str:
        place = number * 7 % 10
        apart = {"A": place < first, "B": False, "C": 9 - place < again}[letter]
        return f"{letter if apart else 'x'} {number}"

    return text


def repeated(folder: Path, text: Text, *claims: Claim, n: int = 400) -> Contrasts:
    source = Writing(text=text, about=lambda block, letter: {"server": 1 + (letter != "A")})
    base = Arm(Serving(), prompts(n), closed(8), Sampling(256, temperature=0))
    again = replace(base, workload=closed(4))
    first = replace(base, serving=CACHING)
    made = compare_repeated(case_of(source, folder), first, against=base, again=again)
    made.shows(*claims or (AS_REPEATED,))
    return made


@pytest.mark.parametrize(
    ("first", "again", "verdict"),
    [
        (0, 0, "holds"),
        (3, 3, "holds"),  # 30 % part by rounding, and as many in the repetition
        (2, 4, "holds"),
        (9, 3, "refuted"),
        (9, 0, "refuted"),
        (5, 2, "refuted"),
    ],
)
def test_what_agrees_as_far_as_a_repetition_holds(
    tmp_path: Path, first: int, again: int, verdict: Verdict
) -> None:
    (judgement,) = repeated(tmp_path, differing(first, again)).judgements
    (judged,) = judgement.verdicts
    assert (judged.verdict, judged.why) == (verdict, None)
    assert judged.levels == pytest.approx((1 - first / 10, 1 - again / 10), abs=0.05)
    assert judged.claim == "early agreement not lower by more than 10 pp"
    assert judged.replicate == "questions"
    assert judgement.reasons == ()


def test_both_agreements_are_told(tmp_path: Path) -> None:
    (judgement,) = repeated(tmp_path, differing(3, 2)).judgements
    levels = judgement.verdicts[0].levels
    assert levels
    assert judgement.remarks[-1] == (
        f"early agreement: {100 * levels[0]:.1f} %, and {100 * levels[1]:.1f} % when the second "
        "arm is asked again"
    )
    assert judgement.arms == (
        "reasoning, prefix caching on easy, 8 in flight against reasoning on easy, 8 in flight",
        "reasoning on easy, 4 in flight against reasoning on easy, 8 in flight",
    )


def test_the_repetition_is_on_the_server_that_it_repeats(tmp_path: Path) -> None:
    made = repeated(tmp_path, differing(0, 0))
    source: Any = made.groups[0].source
    assert [str(arm.serving) for arm in source.prepared[0][0]] == [
        "reasoning, prefix caching",
        "reasoning",
        "reasoning",
    ]
    assert "".join(name[3] for name in source.order[:6]) == "ABCCBA"


def test_only_agreement_is_claimed_of_a_repetition(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="accuracy is no agreement of two runs"):
        repeated(tmp_path, differing(0, 0), not_lower(ACCURACY, by_more_than=pp(5)))
    with pytest.raises(ValueError, match="E2E is no agreement of two runs"):
        repeated(tmp_path, differing(0, 0), unchanged(E2E, within=pct(5)))


@pytest.mark.parametrize(
    "other", [{"serving": CACHING}, {"prompts": prompts(8)}, {"engine": "openai@http://h:1"}]
)
def test_a_repetition_is_of_the_second_arm(tmp_path: Path, other: dict[str, Any]) -> None:
    base = Arm(Serving(), prompts(16), closed(8), Sampling(256, temperature=0))
    with pytest.raises(ValueError, match="a repetition is served as the arm that it repeats"):
        compare_repeated(
            case_of(Writing(text=differing(0, 0)), tmp_path),
            replace(base, serving=CACHING),
            against=base,
            again=replace(base, **other),
        )


def texts(*answers: str, end: str = "stop", arm: str = "A") -> Run:
    return run(
        *(sample(f"q{i}", text, finish_reason=end) for i, text in enumerate(answers)), arm=arm
    )


def test_agreement_within_two_runs_is_that_of_the_two() -> None:
    both = versus(texts("1", "2"), texts("1", "3", arm="B"))
    assert agreement_in(EARLY_AGREEMENT).of_questions(both) == {"q0": 1.0, "q1": 0.0}
    assert agreement_in(AGREEMENT) is agreement_in(AGREEMENT)


@pytest.mark.parametrize(
    ("claim", "invalid"),
    [
        (not_lower(EARLY_AGREEMENT, by_more_than=pp(5)), False),
        (not_lower(AGREEMENT, by_more_than=pp(5)), True),
        (not_lower(ACCURACY, by_more_than=pp(5)), True),
    ],
)
def test_beginnings_can_be_compared_of_answers_that_were_cut_short(
    claim: Claim, invalid: bool
) -> None:
    pair = texts("1", "2", end="length"), texts("1", "2", end="length", arm="B")
    found = [reason.text for reason in check([pair], [claim]).reasons]
    assert any("ran into the budget" in text for text in found) is invalid


def test_beginnings_of_failed_requests_cannot_be_compared() -> None:
    first, second = texts("1", "2"), texts("1", "2", arm="B")
    first.samples[0].error = "HTTP 500"
    claim = not_lower(EARLY_AGREEMENT, by_more_than=pp(5))
    (reason,) = check([(first, second)], [claim]).reasons
    assert "requests failed" in reason.text


# ---- the margin on a GPU


def judged_of(parts: float, parts_again: float, seed: int) -> Verdict:
    """How 400 questions are judged, of which those shares part from the second arm's answers, and
    hard ones more often than easy ones."""
    rng, sizes = np.random.default_rng(seed), (4, 8, 12, 16)
    hard = 2 * rng.random(400)
    first, again = (rng.random(400) > hard * share for share in (parts, parts_again))
    verdict: Verdict = "inconclusive"
    for at, size in enumerate(sizes):
        n = 400 * size // sizes[-1]
        values = [float(a) - float(b) for a, b in zip(first[:n], again[:n], strict=True)]
        effect = Effects(values, "share", list(range(n)), 1.0)
        verdict = AS_REPEATED.of(effect.interval(Look(sizes, at).confidence()))
        if verdict != "inconclusive":
            break
    return verdict


@pytest.mark.parametrize(
    ("parts", "parts_again", "verdict"),
    [(0.1, 0.1, "holds"), (0.4, 0.4, "holds"), (0.7, 0.4, "refuted"), (0.95, 0.1, "refuted")],
)
def test_rounding_refutes_nothing_and_spoilt_answers_do(
    parts: float, parts_again: float, verdict: Verdict
) -> None:
    found = [judged_of(parts, parts_again, seed) for seed in range(40)]
    assert found.count(verdict) > 30
    assert {*found} <= {verdict, "inconclusive"}


# ---- the findings


def greedy_arm(pair: str, **asked: Any) -> Arm:
    """What the finding's fixture makes for a pair."""
    module = runpy.run_path(str(FINDING))

    def dataset(*tiers: str, n: int, **how: Any) -> Sequence[Any]:
        return prompts(n)

    class Workload:
        closed = staticmethod(closed)

    arm: Arm = module["greedy"].__wrapped__(dataset, Workload, PAIRS[pair])(**asked)
    return arm


def test_on_a_cpu_the_findings_ask_what_stored_baselines_were_measured_with() -> None:
    arm = greedy_arm("tiny")
    assert (len(arm.prompts), arm.sampling) == (160, Sampling(1024, temperature=0))
    assert len(greedy_arm("tiny", n=400).prompts) == 400


def test_on_a_gpu_they_ask_for_beginnings_of_more_answers() -> None:
    arm = greedy_arm("r1-distill-qwen-7b")
    assert (len(arm.prompts), arm.sampling) == (400, Sampling(256, temperature=0))


REPEATED = """
from dataclasses import replace
from pytest_rllm import *

@finding("It repeats itself.", cite="nobody")
def test_again(compare_repeated, dataset, workload):
    base = Arm(Serving(), dataset("easy", n=64), workload.closed(8), Sampling(64, temperature=0))
    compare_repeated(
        replace(base, serving=Serving(prefix_caching=True)),
        against=base,
        again=replace(base, workload=workload.closed(4)),
    ).shows(not_lower(EARLY_AGREEMENT, by_more_than=pp(20)))
"""


def test_a_finding_on_a_repetition_is_planned_measured_and_replayed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    source = RecordingMockSource(lambda b, x: (1.0, 4), folder=pytester.path / "records")
    pytester.makepyfile(test_again=REPEATED)
    args = ("-p", "no:cacheprovider", "--rllm-engine=vllm", "--rllm-model=tiny")
    with monkeypatch.context() as patched:
        mock_engines(patched, source, {"vllm": DeclaringEngine("engine 1")})
        planned = pytester.runpytest_inprocess(*args, "--rllm-plan")
        result = pytester.runpytest_inprocess(*args, "--rllm-record=records")
    planned.stdout.fnmatch_lines(["  early agreement may fall by 20 pp * 4..16 *"])
    result.assert_outcomes(passed=1)
    said = "*early agreement: 100.0 %, and 100.0 % when the second arm is asked again*"
    result = pytester.runpytest_inprocess(*args, "--rllm-replay=records", "-vv")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["  early agreement may fall by 20 pp * holds*", said])
