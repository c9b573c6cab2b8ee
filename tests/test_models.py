"""Model pairs: found by name or made from paths, and refused before a server is started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_rllm.datasets.prompts import datasets_known
from pytest_rllm.models import PAIRS, TIERS, ModelPair, pair_named
from pytest_rllm.models.sizes import size_of
from pytest_rllm.plugin.model_params import cases


def checkpoint(folder: Path, name: str, weights: bytes = b"w") -> str:
    path = folder / name
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(weights)
    return str(path)


def made(folder: Path, draft: bool = True) -> ModelPair:
    names = ["thinker", "talker", *(["drafter"] if draft else [])]
    return pair_named(":".join(checkpoint(folder, name) for name in names))


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_has_its_name_and_budgets_that_grow(name: str) -> None:
    pair = pair_named(name)
    assert pair.name == name
    assert pair.short < pair.enough < pair.generous < pair.max_model_len
    assert set(pair.tiers) <= set(TIERS)
    assert pair.made_for or {"easy", "medium", "hard", "knowledge"} <= set(pair.tiers)
    assert set(pair.tiers.values()) <= set(datasets_known())


@pytest.mark.parametrize("name", PAIRS)
def test_a_curve_over_budgets_is_level_from_one_of_them_on(name: str) -> None:
    pair = pair_named(name)
    budgets, level = pair.budget_curve, pair.level_from or pair.enough
    assert list(budgets) == sorted(set(budgets))
    assert budgets[0] < level < budgets[-1] == pair.generous
    assert level in budgets


def test_budgets_of_a_curve_are_doubled_where_a_pair_does_not_say_them() -> None:
    pair = pair_named("tiny")
    assert pair.budget_curve == (64, 128, 256, 512, 1024)
    own = replace(pair, short=256, enough=3000, generous=5000)
    assert own.budget_curve == (256, 512, 1024, 2048, 3000, 4096, 5000)


def test_only_models_of_one_vocabulary_draft_for_each_other() -> None:
    """R1-Distill-Qwen-1.5B has fewer tokens than its larger siblings: engines refuse it."""
    drafted = {name for name, pair in PAIRS.items() if pair.draft}
    assert drafted == {name for name in PAIRS if name.startswith("tiny")} - {
        "tiny-small",
        "tiny-logic",
    }


def test_heads_are_named_for_the_model_that_they_were_trained_on() -> None:
    for pair in PAIRS.values():
        if pair.eagle is not None:
            assert Path(pair.reasoning).name.lower() in pair.eagle.lower()
            assert pair.heads("eagle") == "EAGLE3"
    assert PAIRS["r1-distill-llama-70b"].eagle is None
    assert pair_named("org/thinker:org/talker").eagle is None, "it is no head of that model"


def test_the_pair_for_logic_is_unpacked_and_is_for_that_finding_only() -> None:
    pair = pair_named("tiny-logic")
    for role, opens in (("reasoning", True), ("plain", False)):
        folder = Path(pair.path(role))
        assert f"tiny-logic-{role}" == folder.name
        assert ("<think>" in (folder / "chat_template.jinja").read_text()[-60:]) is opens
    counted = size_of(replace(pair, reasoning=str(folder), size_b=None))
    assert pair.size_b == pytest.approx(counted, rel=0.01)
    names = ["tiny", "tiny-logic"]
    assert [case.id for case in cases(names, finding="domains")] == names
    assert [case.id for case in cases(names, finding="kv-quant")] == ["tiny"]


def test_an_unknown_pair_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'tinny'; there are tiny, .*REASONING:PLAIN:DRAFT"):
        pair_named("tinny")


def test_a_pair_may_be_made_from_folders(tmp_path: Path) -> None:
    pair = made(tmp_path)
    assert pair.name == "thinker-talker"
    assert pair.path("reasoning") == str(tmp_path / "thinker")
    assert pair.path("plain") == str(tmp_path / "talker")
    assert pair.path("draft") == str(tmp_path / "drafter")


def test_a_pair_may_be_made_from_model_ids() -> None:
    pair = pair_named("org/thinker:org/talker")
    assert (pair.name, pair.path("reasoning")) == ("thinker-talker", "org/thinker")
    assert pair.revision("plain") == "org/talker"
    assert pair.gpu_memory_gib > 0


def test_a_pair_without_a_draft_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'thinker-talker' has no draft model"):
        made(tmp_path, draft=False).path("draft")


@pytest.mark.parametrize("name", ["./absent", "~/absent", "/absent"])
def test_a_folder_that_is_no_checkpoint_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"reasoning model .*absent holds no config\.json"):
        pair_named(f"{name}:org/talker").path("reasoning")


def test_a_revision_changes_with_any_file_of_a_checkpoint(tmp_path: Path) -> None:
    pair = made(tmp_path)
    first = pair.revision("reasoning")
    assert len(first) == 12
    assert first == pair.revision("plain") == pair.revision("reasoning")
    (tmp_path / "thinker" / "config.json").write_text('{"a": 1}')
    second = pair.revision("reasoning")
    (tmp_path / "thinker" / "chat_template.jinja").write_text("")
    assert len({first, second, pair.revision("reasoning")}) == 3


def test_the_bundled_pair_is_the_one_that_baselines_were_stored_of() -> None:
    """Another text would make every stored number stale."""
    pair = pair_named("tiny")
    revisions = [pair.revision(role) for role in ("reasoning", "plain", "draft")]
    assert revisions == ["9d4fef96c78b", "29c56307c43b", "5ea8bb0e5eee"]
    assert not pair.two_modes
    assert pair.asks({"model": "m"}, "plain") == {"model": "m"}


def test_the_modes_of_one_checkpoint_are_told_apart_by_requests() -> None:
    both = pair_named("qwen3-8b")
    assert both.two_modes
    for role, thinks in (("reasoning", True), ("plain", False)):
        assert both.asks({}, role)["chat_template_kwargs"] == {"enable_thinking": thinks}


def test_a_case_is_marked_with_what_it_needs() -> None:
    tiny, large = cases(["tiny", "r1-distill-qwen-32b"], finding="f")
    assert (tiny.id, tiny.values, list(tiny.marks)) == ("tiny", ("tiny",), [])
    (mark,) = large.marks
    assert (mark.name, mark.kwargs) == ("gpu", {"memory_gib": 76, "count": 2})
