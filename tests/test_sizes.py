"""Of which models a finding is claimed: which pairs have a case of it, and why others have none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_rllm import finding, in_tier
from pytest_rllm.models import PAIRS, ModelPair
from pytest_rllm.models.sizes import Sizes, size_of
from pytest_rllm.plugin.model_params import SMOKE_OF_LARGE, cases

TINY, SEVEN = PAIRS["tiny"], PAIRS["r1-distill-qwen-7b"]


def ids(finding: str = "f", **about: object) -> set[str]:
    """Names of the pairs that have a case which is not skipped."""
    made = cases(list(PAIRS), finding=finding, **about)  # type: ignore[arg-type]
    return {str(case.id) for case in made if not any(m.name == "skip" for m in case.marks)}


def sized(folder: Path, numbers: int) -> ModelPair:
    """A pair whose reasoning model is a checkpoint of so many numbers, by its header."""
    header = json.dumps({"w": {"dtype": "BF16", "shape": [numbers], "data_offsets": [0, 0]}})
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header.encode())
    return replace(TINY, reasoning=str(folder), stands_for=None)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("7B", (7.0, 7.6), (1.5, 8.0, 14.0)),
        ("14B+", (14.0, 14.8, 70.6), (7.6, 8.0, 12.0)),
        ("7B-32B", (7.0, 14.0, 32.8), (1.5, 70.0)),
        ("1.5B", (1.5, 1.6), (7.0,)),
    ],
)
def test_a_range_of_sizes_takes_numbers_as_makers_round_them(
    text: str, inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    sizes = Sizes.of(text)
    assert all(size in sizes for size in inside)
    assert not any(size in sizes for size in outside)


@pytest.mark.parametrize("text", ["", "7", "seven", "14B-", "7B+32B", "-7B"])
def test_sizes_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"'7B', '14B\+' or '7B-32B'"):
        Sizes.of(text)


def test_a_claim_has_cases_of_pairs_of_its_size_only() -> None:
    assert ids(sizes="7B") == {SEVEN.name}
    assert {"tiny", "r1-distill-qwen-14b", "r1-distill-llama-70b"} <= ids(sizes="14B+")
    assert SEVEN.name not in ids(sizes="14B+")
    assert {TINY.name, SEVEN.name} <= ids()


def test_a_pair_that_is_named_and_has_no_case_is_skipped_with_the_reason() -> None:
    (case,) = cases([SEVEN.name], finding="f", sizes="14B+", named=True)
    (skip,) = [mark for mark in case.marks if mark.name == "skip"]
    assert "of models of 14B and above" in skip.kwargs["reason"]
    assert "has 7B" in skip.kwargs["reason"]


def test_a_pair_that_is_made_for_a_finding_is_measured_by_others_where_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    special = replace(TINY, name="special", made_for=frozenset({"f"}))
    monkeypatch.setattr("pytest_rllm.models.PAIRS", {"tiny": TINY, "special": special})
    both = ["tiny", "special"]
    assert [case.id for case in cases(both, finding="f")] == both
    assert [case.id for case in cases(both, finding="g")] == ["tiny"]
    assert [case.id for case in cases(["special"], finding="g", named=True)] == ["special"]


def test_smoke_measures_one_finding_on_short_answers_of_one_large_pair() -> None:
    def tiers(function: str, tier: str, named: bool = False) -> dict[str, str]:
        made = cases(
            ["tiny", "tiny-gpu", "r1-distill-qwen-7b", "r1-distill-qwen-14b"],
            finding="f",
            function=function,
            tier=tier,
            named=named,
        )
        marks = {case.id: [m.args[0] for m in case.marks if m.name == "rllm_tier"] for case in made}
        return {name: own[0] for name, own in marks.items() if own}

    both = ("r1-distill-qwen-7b", "r1-distill-qwen-14b")
    assert tiers("test_whole_answers", "smoke") == dict.fromkeys(both, "short")
    assert tiers("test_whole_answers", "gate") == {}
    assert tiers(SMOKE_OF_LARGE, "short") == {both[0]: "smoke"}
    assert tiers(SMOKE_OF_LARGE, "short", named=True) == dict.fromkeys(both, "smoke")
    findings = Path(__file__).parent.parent / "tests_findings" / "test_metamorphic.py"
    assert f"def {SMOKE_OF_LARGE}(" in findings.read_text()


def test_the_size_of_a_pair_is_what_is_said_then_named_then_counted(tmp_path: Path) -> None:
    counted = sized(tmp_path, 2_500_000_000)
    assert size_of(counted) == 2.5
    assert size_of(replace(counted, size_b=3)) == 3
    assert size_of(replace(counted, size_b=3, stands_for=14)) == 14
    assert size_of(replace(counted, reasoning="Qwen/Qwen3-0.6B")) == 0.6
    assert size_of(replace(counted, reasoning="org/Mixtral-8x7B-v1")) is None
    assert size_of(replace(counted, reasoning="org/model-v2")) is None


def test_a_size_that_nothing_tells_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 8)
    pair = replace(TINY, reasoning=str(tmp_path), stands_for=None)
    assert "say size_b = ..." in (Sizes.of("7B").why_not(pair) or "")


def test_a_sentence_says_its_size_and_its_tier_exists() -> None:
    with pytest.raises(ValueError, match="does not say '14B'"):
        finding("Caches help.", cite="c", sizes="14B+")
    with pytest.raises(ValueError, match=r"smoke, short, gate, fine, paper.*'long'"):
        finding("Caches help.", cite="c", tier="long")
    assert finding("Of 14B models.", cite="c", sizes="14B+").kwargs["sizes"] == "14B+"


def test_a_case_may_be_of_another_tier_than_its_finding(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_two="""
        import pytest
        from pytest_rllm import ACCURACY, Serving, finding, higher, in_tier, pp

        @finding("Thinking helps.", cite="this test")
        @pytest.mark.parametrize("n", [8, pytest.param(16, marks=in_tier("gate"))])
        def test_two(compare, dataset, workload, n):
            compare(
                Serving(), against=Serving(model="plain"), prompts=dataset("easy", n=n),
                workload=workload.closed(2),
            ).shows(higher(ACCURACY, by=pp(5)))
        """
    )
    args = ("-p", "no:cacheprovider", "--rllm-engine=mock", "--rllm-model=tiny", "--rllm-plan")
    said = pytester.runpytest_inprocess(*args).stdout.str()
    assert "two [tiny-8]" in said
    assert "not measured: two [tiny-16]: it is no part of --rllm-tier=short" in said
    assert (
        "not measured" not in pytester.runpytest_inprocess(*args, "--rllm-tier=gate").stdout.str()
    )
    with pytest.raises(ValueError, match="not 'long'"):
        in_tier("long")
