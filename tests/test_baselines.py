"""The stored format is reviewable and strict, and changes only as its four words say."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

import pytest
from doubles.synthetic import judged, judgement
from hypothesis import given
from hypothesis import strategies as st

from pytest_rllm.baselines import ledger
from pytest_rllm.baselines.case import (
    SCHEMA,
    Case,
    described,
    fresh_case,
    missing,
    stale,
    unclaimed,
)
from pytest_rllm.baselines.compare import decide
from pytest_rllm.baselines.format import BaselineError, dump
from pytest_rllm.baselines.ledger import (
    FILE,
    SESSIONS,
    Entry,
    append,
    by_session,
    drifted,
    read,
    replace,
)
from pytest_rllm.baselines.store import WORDS, Baselines
from pytest_rllm.metrics import ACCURACY, TPS
from pytest_rllm.verdicts.claims import Claim, higher, no_worse, not_lower, pct, pp
from pytest_rllm.verdicts.judge import Judged
from pytest_rllm.verdicts.judgement import Judgement

GPU = {"hardware": "gpu-x-1x", "engine": "vllm"}
CPU = {"hardware": "cpu-x-2c", "engine": "vllm"}
F = "gpu", "vllm", "f"
"""Hardware, engine and finding of most cases here."""
FASTER = higher(TPS, by=pct(10))
RIGHT = not_lower(ACCURACY, by_more_than=pp(3))

STORED = Case(
    match={"engine": "vllm", "hardware": "cpu-x-2c"},
    effects={
        "1/tps/pct": [34.99, 22.14, 49.18, 6],
        "1/accuracy/pp": [0.0, -1.5, 1.5, 64],
    },
    levels={"1/a/accuracy": [0.6667, 0.0125]},
    deviations=["1/tps-higher-50pct", "1/tps-higher-40pct"],
    labels={"1/b": "plain", "1/a": "é"},
    machine="0123456789ab",
    reference_s={"1": 0.0152},
)
TEXT = """\
{
 "schema": 3,
 "finding": "speculative_decoding",
 "cases": {
  "draft": {
   "deviations": [],
   "machine": "",
   "effects": {
   },
   "labels": {
   },
   "levels": {
   },
   "match": {
   },
   "reference_s": {
   }
  },
  "ngram": {
   "deviations": ["1/tps-higher-40pct", "1/tps-higher-50pct"],
   "machine": "0123456789ab",
   "effects": {
    "1/accuracy/pp": [0.0, -1.5, 1.5, 64],
    "1/tps/pct": [34.99, 22.14, 49.18, 6]
   },
   "labels": {
    "1/a": "é",
    "1/b": "plain"
   },
   "levels": {
    "1/a/accuracy": [0.6667, 0.0125]
   },
   "match": {
    "engine": "vllm",
    "hardware": "cpu-x-2c"
   },
   "reference_s": {
    "1": 0.0152
   }
  }
 }
}
"""


# ---- the format


def test_a_file_is_sorted_with_its_schema_first_and_a_line_per_entry() -> None:
    assert dump("speculative_decoding", {"ngram": STORED, "draft": Case({})}) == TEXT


numbers = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=4)
cases = st.builds(
    Case,
    st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
    st.dictionaries(st.text(max_size=4), numbers, max_size=3),
    st.dictionaries(st.text(max_size=4), numbers, max_size=3),
    st.lists(st.text(max_size=4), max_size=3).map(sorted),
    st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
)


@given(st.dictionaries(st.text(max_size=4), cases, max_size=3))
def test_what_is_written_is_read_back_and_written_the_same(
    tmp_path_factory: pytest.TempPathFactory, wanted: dict[str, Case]
) -> None:
    stored = Baselines(tmp_path_factory.getbasetemp() / "baselines")
    stored._write("cpu", "vllm", "f", wanted)
    assert stored.cases("cpu", "vllm", "f") == wanted
    assert dump("f", stored.cases("cpu", "vllm", "f")) == dump("f", wanted)


def put(root: Path, text: str | bytes) -> Baselines:
    path = root / "cpu" / "vllm" / "f.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Baselines(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps({"schema": SCHEMA + 1, "cases": 7}), "schema 4, .*: update pytest-rllm"),
        (TEXT, "holds the finding 'speculative_decoding'"),
        ('{\n "schema": 2,\n "finding" "f"\n}', r"f\.json:3: broken JSON"),
        ("", r"f\.json:1: broken JSON"),
        ('{"finding": "f", "cases": {}}', "not a baseline .*'schema'"),
        ('{"schema": 2, "finding": "f"}', "not a baseline .*'cases'"),
        ('{"schema": 2, "finding": "f", "cases": []}', "not a baseline"),
        ('{"schema": 2, "finding": "f", "cases": {"a": {"mach": {}}}}', "not a baseline .*mach"),
        ('{"schema": 1, "finding": "f", "cases": {}}', "schema 1 in the place of schema 3"),
        ("[]", "not a baseline .*restore it with `git checkout`"),
        (b'{"schema": "\xff"}', "not a baseline"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_why(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(BaselineError, match=message):
        put(tmp_path, text).cases("cpu", "vllm", "f")


def test_nothing_is_stored_where_there_is_no_file(tmp_path: Path) -> None:
    assert Baselines(tmp_path).cases("cpu", "vllm", "f") == {}
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_word_names_the_four() -> None:
    with pytest.raises(BaselineError, match=r"takes create, fix, trim, update .* not creat$"):
        Baselines(Path(), frozenset({"creat", "fix"}))


# ---- what is stored of fresh verdicts


def case_of(*verdicts: tuple[Claim, Judged], **more: Any) -> Case:
    return fresh_case([judgement(*verdicts, match=CPU, **more)])


def test_effects_are_stored_in_per_cent_and_points_with_four_digits() -> None:
    ratio = judged(FASTER, "holds", (math.log(1.1), math.log(1.23456), math.log(1.5)))
    points = judged(RIGHT, "holds", (-0.012345, 0.0, 0.02))
    assert case_of((FASTER, ratio), (RIGHT, points)).effects == {
        "1/tps/pct": [23.46, 10.0, 50.0, 6],
        "1/accuracy/pp": [0.0, -1.234, 2.0, 6],
    }


def test_a_refuted_claim_is_stored_as_a_deviation() -> None:
    made = case_of((FASTER, judged(FASTER, "refuted")), (RIGHT, judged(RIGHT, "holds")))
    assert made.deviations == ["1/tps-higher-10pct"]


@pytest.mark.parametrize("match", [GPU, CPU], ids=["GPU", "CPU"])
def test_levels_are_stored_with_the_spread_of_their_blocks(match: dict[str, str]) -> None:
    shown = judgement(
        (FASTER, judged(FASTER, "holds")),
        (RIGHT, judged(RIGHT, "holds", levels=(0.666666, 0.5))),
        match=match,
        spreads={"1/b/accuracy": 0.0123456},
    )
    assert fresh_case([shown]).levels == {
        "1/a/accuracy": [0.6667, None],
        "1/b/accuracy": [0.5, 0.01235],
        "1/a/tps": [0.75, None],
        "1/b/tps": [0.5, None],
    }


def test_a_claim_on_a_tier_is_stored_under_its_name() -> None:
    claim = no_worse(ACCURACY.on("hard"), within=pp(5))
    made = case_of((claim, judged(claim, "holds")))
    assert list(made.effects) == ["1/accuracy-on-hard/pp"]
    assert "1/b/accuracy-on-hard" in made.levels


def test_nothing_is_stored_of_a_verdict_without_an_effect() -> None:
    made = case_of((FASTER, judged(FASTER, "invalid", None, None)))
    assert (made.effects, made.levels, made.deviations) == ({}, {}, [])


def test_comparisons_of_a_test_are_stored_side_by_side_with_their_arms_names() -> None:
    verdict = FASTER, judged(FASTER, "refuted")
    other = RIGHT, judged(RIGHT, "holds", arms=("new", "old"))
    made = fresh_case([judgement(verdict), judgement(verdict, other, comparison="accuracy")])
    assert sorted(made.effects) == ["1/tps/pct", "accuracy/accuracy/pp", "accuracy/tps/pct"]
    assert made.deviations == ["1/tps-higher-10pct", "accuracy/tps-higher-10pct"]
    assert made.labels == {
        "1/a": "reasoning",
        "1/b": "plain",
        "accuracy/a": "new",
        "accuracy/b": "old",
    }


def test_the_comparisons_of_a_test_match_together() -> None:
    verdict = FASTER, judged(FASTER, "holds")
    first = judgement(verdict, match=GPU | {"arms": "one two"})
    second = judgement(verdict, match=GPU | {"engine": "mock", "arms": "two three"})
    assert fresh_case([first, second]).match == {
        "hardware": "gpu-x-1x",
        "engine": "vllm+mock",
        "arms": "one two three",
    }


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("1/tbt/pct", "1/tbt/pct (new vs old)"),
        ("1/a/tbt", "1/a/tbt (new)"),
        ("1/b/tbt", "1/b/tbt (old)"),
        ("1/tbt-lower-10pct", "1/tbt-lower-10pct (new vs old)"),
        ("2/tbt/pct", "2/tbt/pct"),
        ("new vs old: TBT [%]", "new vs old: TBT [%]"),
    ],
)
def test_a_key_is_described_by_the_names_of_its_arms(key: str, text: str) -> None:
    assert described(key, {"1/a": "new", "1/b": "old"}) == text


def test_a_reworded_sentence_makes_nothing_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim, the metric's sentence in it and both arms are said in other words."""

    def shown(arms: tuple[str, str]) -> Judgement:
        verdicts = [
            (FASTER, judged(FASTER, "refuted", arms=arms)),
            (RIGHT, judged(RIGHT, "holds", (-0.01, 0.0, 0.02), arms=arms)),
        ]
        return judgement(*verdicts, match=GPU)

    before = shown(("reasoning", "plain"))
    with_words(tmp_path, "create").change(*F, "c", fresh_case([before]))
    text = Baselines(tmp_path).path(*F).read_text()

    monkeypatch.setattr(Claim, "__str__", lambda claim: f"{claim.metric.name}, better said")
    after = shown(("a model that thinks", "a model that does not"))
    assert after.verdicts[0].claim == "TPS, better said" != before.verdicts[0].claim
    fresh, stored = fresh_case([after]), Baselines(tmp_path).cases(*F)["c"]
    assert stale(stored, fresh) == []
    assert missing(stored, fresh) == []
    assert unclaimed(stored, [after]) == []
    outcome = decide([after], fresh, stored)
    assert (outcome.ending, outcome.notes) == ("xfail", [])
    assert outcome.statuses == ["known deviation", "holds"]

    for words in ([], ["create"], ["fix"], ["create", "fix", "trim"]):
        measured = with_words(tmp_path, *words)
        assert measured.change(*F, "c", fresh) == stored
        assert measured.written == []
        assert measured.path(*F).read_text() == text
    with_words(tmp_path, "update").change(*F, "c", fresh)
    (renamed,) = Baselines(tmp_path).cases(*F).values()
    assert renamed == stored
    assert renamed.labels == {"1/a": "a model that thinks", "1/b": "a model that does not"}


# ---- comparing


def test_whatever_of_the_match_differs_is_stale() -> None:
    stored, fresh = (
        Case({"engine": "a", "gone": "x", "same": "s"}),
        Case({"engine": "b", "new": "y"}),
    )
    fresh.match["same"] = "s"
    assert stale(stored, fresh) == [
        "engine is b, the baseline's is a",
        "gone is unknown, the baseline's is x",
        "new is y, the baseline's is None",
    ]
    assert stale(stored, stored) == []


def test_the_union_of_entries_is_walked() -> None:
    one = Case({}, {"e": [1, 1, 1, 1], "both": [1, 1, 1, 1]}, {"l": [1, 1]}, ["claimed", "dropped"])
    other = Case({}, {"both": [2, 2, 2, 2]}, {})
    assert missing(other, one) == ["e", "l"]
    assert missing(one, one) == []
    shown = judgement((FASTER, judged(FASTER, "refuted")))
    effect, level, claim = "1/tps/pct", "1/a/tps", "1/tps-higher-10pct"
    stored = Case({}, {effect: [1, 1, 1, 1], "e": []}, {level: [1, 1], "l": []}, [claim, "d"])
    assert unclaimed(stored, [shown]) == ["d", "e", "l"]
    assert unclaimed(Case({}, {effect: [1, 1, 1, 1]}, {}, [claim]), [shown]) == []


# ---- changing


OLD = Case(GPU, {"kept": [1, 1, 1, 1], "gone": [1, 1, 1, 1]}, {"kept": [1, 0]}, ["a", "gone"])
NEW = Case(GPU, {"kept": [2, 2, 2, 2], "new": [2, 2, 2, 2]}, {"new": [2, 0]}, ["a", "new"])


def with_words(root: Path, *words: str) -> Baselines:
    return Baselines(root, frozenset(words))


def change(root: Path, *words: str, before: Case | None = OLD, fresh: Case = NEW) -> Case | None:
    if before is not None:
        with_words(root, "create").change(*F, "c", before)
    stored = with_words(root, *words)
    after = stored.change(*F, "c", fresh)
    assert stored.cases(*F).get("c") == after
    assert stored.written == ([] if after == before else [root / "gpu" / "vllm" / "f.json"])
    return after


@pytest.mark.parametrize("word", WORDS)
def test_a_missing_case_is_stored_by_create_only(tmp_path: Path, word: str) -> None:
    assert change(tmp_path, word, before=None) == (NEW if word == "create" else None)


@pytest.mark.parametrize(
    ("words", "effects", "levels", "deviations"),
    [
        ([], {"kept": 1, "gone": 1}, {"kept": 1}, ["a", "gone"]),
        (["update"], {"kept": 1, "gone": 1}, {"kept": 1}, ["a", "gone"]),
        (["create"], {"kept": 1, "gone": 1, "new": 2}, {"kept": 1, "new": 2}, ["a", "gone", "new"]),
        (["fix"], {"kept": 2, "gone": 1}, {"kept": 1}, ["a", "new"]),
        (["trim"], {"kept": 1}, {}, ["a"]),
        (["fix", "trim"], {"kept": 2}, {}, ["a", "new"]),
        (["create", "trim"], {"kept": 1, "new": 2}, {"new": 2}, ["a", "new"]),
        (["create", "fix", "trim"], {"kept": 2, "new": 2}, {"new": 2}, ["a", "new"]),
    ],
    ids=lambda words: ",".join(words) if isinstance(words, list) else "",
)
def test_each_word_changes_what_it_names(
    tmp_path: Path,
    words: list[str],
    effects: dict[str, int],
    levels: dict[str, int],
    deviations: list[str],
) -> None:
    after = change(tmp_path, *words)
    assert after is not None
    assert {k: v[0] for k, v in after.effects.items()} == effects
    assert {k: v[0] for k, v in after.levels.items()} == levels
    assert after.deviations == deviations


@pytest.mark.parametrize(
    ("words", "engine", "created"),
    [(["create"], "vllm", False), (["fix"], "sglang", False), (["create", "fix"], "sglang", True)],
    ids=["create", "fix", "create,fix"],
)
def test_nothing_new_is_stored_beside_numbers_of_another_engine(
    tmp_path: Path, words: list[str], engine: str, created: bool
) -> None:
    fresh = Case(GPU | {"engine": "sglang"}, NEW.effects, NEW.levels, NEW.deviations)
    after = change(tmp_path, *words, fresh=fresh)
    assert after is not None
    assert after.match["engine"] == engine
    assert ("new" in after.effects) is created


def test_other_cases_of_the_file_are_left_alone(tmp_path: Path) -> None:
    for case_id in ("b", "a"):
        with_words(tmp_path, "create").change(*F, case_id, OLD)
    with_words(tmp_path, "fix").change(*F, "b", NEW)
    assert with_words(tmp_path).cases(*F)["a"] == OLD


@pytest.mark.parametrize("word", ["create", "fix", "trim", "update"])
def test_a_file_in_another_representation_is_rewritten_by_update_only(
    tmp_path: Path, word: str
) -> None:
    with_words(tmp_path, "create").change(*F, "c", OLD)
    path = tmp_path / "gpu" / "vllm" / "f.json"
    canonical = path.read_text()
    path.write_text(json.dumps(json.loads(canonical)))
    stored = with_words(tmp_path, word)
    assert stored.change(*F, "c", OLD) == OLD
    assert (path.read_text() == canonical) is (word == "update")
    assert bool(stored.written) is (word == "update")


def test_cases_that_no_longer_exist_are_trimmed(tmp_path: Path) -> None:
    stored = with_words(tmp_path, "create")
    for case_id in ("a", "b", "c"):
        stored.change(*F, case_id, OLD)
        stored.change("gpu", "vllm", "other", case_id, OLD)
        stored.change("gpu", "vllm", "gone", case_id, OLD)
        stored.change("elsewhere", "vllm", "gone", case_id, OLD)
    measured = with_words(tmp_path, "trim")
    measured.cases(*F)
    measured.trim({"f": {"b", "new"}, "other": {"a", "b", "c"}})
    assert list(measured.cases(*F)) == ["b"]
    assert list(measured.cases("gpu", "vllm", "other")) == ["a", "b", "c"]
    assert list(measured.cases("elsewhere", "vllm", "gone")) == ["a", "b", "c"]
    assert measured.written == [
        tmp_path / "gpu" / "vllm" / "f.json",
        tmp_path / "gpu" / "vllm" / "gone.json",
    ]
    assert [path.exists() for path in measured.written] == [True, False]


@pytest.mark.parametrize("fails", [False, True])
def test_a_write_leaves_the_old_file_or_the_new_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    with_words(tmp_path, "create").change(*F, "c", OLD)
    path = tmp_path / "gpu" / "vllm" / "f.json"
    before, mode = path.read_text(), path.stat().st_mode
    stored = with_words(tmp_path, "fix")
    if fails:

        def full(*_: object) -> None:
            raise OSError("disk full")

        monkeypatch.setattr(os, "replace", full)
        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="disk full"):
            stored.change(*F, "c", NEW)
    else:
        stored.change(*F, "c", NEW)
    assert sorted(p.name for p in path.parent.iterdir()) == ["f.json", "ledger.jsonl"]
    assert (path.read_text() == before) is fails
    assert path.stat().st_mode == mode
    assert mode & 0o044  # others may read what is committed


@pytest.mark.parametrize("words", [["create"], ["create", "fix", "trim", "update"]], ids=",".join)
def test_engines_have_files_of_their_own(tmp_path: Path, words: list[str]) -> None:
    other = Case(GPU | {"engine": "mock"}, {"kept": [3, 3, 3, 3]})
    with_words(tmp_path, "create").change(*F, "c", OLD)
    stored = with_words(tmp_path, *words)
    assert stored.change("gpu", "mock", "f", "c", other) == other
    assert stored.path("gpu", "mock", "f") == tmp_path / "gpu" / "mock" / "f.json"
    assert stored.cases(*F) == {"c": OLD}
    assert stored.cases("gpu", "mock", "f") == {"c": other}
    stored.trim({})
    assert not list(tmp_path.glob("*/*/*.json")), "the files of both were asked for"


def test_what_another_engine_stored_is_not_trimmed(tmp_path: Path) -> None:
    with_words(tmp_path, "create").change(*F, "c", OLD)
    stored = with_words(tmp_path, "trim")
    assert stored.cases("gpu", "mock", "f") == {}
    assert stored.unused({}) == []
    stored.trim({})
    assert Baselines(tmp_path).cases(*F) == {"c": OLD}


# ---- the ledger


def test_every_number_that_is_stored_or_changed_is_in_the_ledger(tmp_path: Path) -> None:
    change(tmp_path, "create", "fix", fresh=NEW)
    told = [(e.case, e.key, e.was, e.now) for e in ledger.read(tmp_path / "gpu" / "vllm")]
    assert told == [
        *[("c", key, None, 1) for key in ("gone", "kept", "kept")],
        ("c", "kept", 1, 2),
        ("c", "new", None, 2),
        ("c", "new", None, 2),
    ]


@pytest.mark.parametrize("word", ["trim", "update"])
def test_what_changes_no_number_is_not_in_the_ledger(tmp_path: Path, word: str) -> None:
    with_words(tmp_path, "create").change(*F, "c", OLD)
    before = ledger.read(tmp_path / "gpu" / "vllm")
    with_words(tmp_path, word).change(*F, "c", NEW)
    with_words(tmp_path, "fix").change(*F, "c", OLD)
    assert ledger.read(tmp_path / "gpu" / "vllm") == before


def test_what_could_not_be_written_is_not_in_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_words(tmp_path, "create").change(*F, "c", OLD)
    before = ledger.read(tmp_path / "gpu" / "vllm")

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        with_words(tmp_path, "fix").change(*F, "c", NEW)
    assert ledger.read(tmp_path / "gpu" / "vllm") == before


def stored_in_sessions(root: Path, *levels: float) -> Baselines:
    """A case whose level was stored so many times."""
    words = ["create", *["fix"] * (len(levels) - 1)]
    for word, level in zip(words, levels, strict=True):
        last = with_words(root, word)
        last.change(*F, "c", Case(GPU, {}, {"1/b/tps": [level, 0.0]}))
    return last


def test_four_sessions_tell_how_far_a_level_moves_between_them(tmp_path: Path) -> None:
    assert stored_in_sessions(tmp_path, 10, 12, 11).sessions(*F, "c") == {}
    assert with_words(tmp_path).sessions("gpu", "vllm", "other", "c") == {}
    (tmp_path / "gpu" / "vllm" / "ledger.jsonl").unlink()
    (tmp_path / "gpu" / "vllm" / "f.json").unlink()
    told = stored_in_sessions(tmp_path, 10, 12, 11, 13).sessions(*F, "c")
    assert told == {"1/b/tps": [10, 12, 11, 13]}


def test_accepted_changes_are_told_with_what_they_add_up_to(tmp_path: Path) -> None:
    assert stored_in_sessions(tmp_path, 10, 12, 13).drifted() == [
        "f [c] 1/b/tps: 10 at first, 13 after 2 accepted change(s)"
    ]
    assert with_words(tmp_path).drifted() == [], "nothing was accepted in this session"


def test_a_broken_ledger_is_a_named_error(tmp_path: Path) -> None:
    stored = stored_in_sessions(tmp_path, 10, 12)
    (tmp_path / "gpu" / "vllm" / "ledger.jsonl").write_text('{"finding": 1}\n')
    with pytest.raises(BaselineError, match=r"ledger\.jsonl:1: broken line"):
        stored.sessions(*F, "c")


# ---- cases that no test stands for


def test_cases_that_no_test_stands_for_are_named(tmp_path: Path) -> None:
    stored = with_words(tmp_path, "create")
    for finding, case_id in (("f", "a"), ("f", "b"), ("old", "c")):
        stored.change("gpu", "vllm", finding, case_id, OLD)
        stored.change("elsewhere", "vllm", finding, case_id, OLD)
    (tmp_path / "gpu" / "vllm" / "machine.json").write_text("{}")
    measured = with_words(tmp_path)
    measured.cases(*F)
    assert measured.unused({"f": {"a", "new"}}) == ["f [b] of vllm", "old [c] of vllm"]


# ---- the ledger keeps every accepted number, and tells what changes add up to


def entries(*values: float, key: str = "1/a/tps", case: str = "tiny") -> list[Entry]:
    """A number as it was stored, one session after the other."""
    befores = [None, *values]
    return [Entry("f", case, key, was, now, "1") for was, now in zip(befores, values, strict=False)]


def test_what_is_added_is_read_back_in_its_order(tmp_path: Path) -> None:
    assert read(tmp_path / "hardware") == []
    append(tmp_path / "hardware", [])
    assert not (tmp_path / "hardware").exists()
    first, second = entries(1.0, 1.5), entries(2.0, case="huge")
    append(tmp_path / "hardware", first)
    append(tmp_path / "hardware", second)
    assert read(tmp_path / "hardware") == first + second
    text = (tmp_path / "hardware" / FILE).read_text()
    assert len(text.splitlines()) == 3
    assert '"key": "1/a/tps"' in text


def test_lines_are_replaced_whole_and_an_empty_ledger_is_no_file(tmp_path: Path) -> None:
    first, second = entries(1.0, 1.5), entries(2.0, case="é")
    append(tmp_path, first + second)
    replace(tmp_path, second)
    assert read(tmp_path) == second
    assert "é" in (tmp_path / FILE).read_text()
    replace(tmp_path, [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broken", ["{", "[]", '{"finding": "f"}', '{"odd": 1}', '"text"', ""])
def test_a_broken_line_is_named(tmp_path: Path, broken: str) -> None:
    append(tmp_path, entries(1.0))
    with open(tmp_path / FILE, "a") as file:
        file.write(f"{broken}\n")
    with pytest.raises(ValueError, match=rf"{FILE}:2: broken line .* `git checkout`"):
        read(tmp_path)


def test_few_sessions_tell_no_spread() -> None:
    few = entries(*range(SESSIONS - 1), key="few")
    values = [10.0, 11.0, 9.0, 12.0, 10.0]
    many = entries(*values, key="many")
    other = entries(*values, key="many", case="other")
    assert by_session(few + many, "f", "tiny", "", "1") == {"many": values}
    assert by_session(few + many + other, "f", "other", "", "1").keys() == {"many"}
    assert by_session(many, "g", "tiny", "", "1") == {}


def test_sessions_of_another_machine_or_engine_version_are_no_scatter() -> None:
    before = entries(10.0, 11.0, 9.0, 12.0)
    accepted = [replaced(entry, engine_version="2", now=entry.now * 2) for entry in before]
    elsewhere = [replaced(entry, machine="other") for entry in before]
    entries_of_all = before + elsewhere + accepted
    assert by_session(entries_of_all, "f", "tiny", "", "2") == {"1/a/tps": [20, 22, 18, 24]}
    assert by_session(entries_of_all, "f", "tiny", "other", "1") == {"1/a/tps": [10, 11, 9, 12]}


def test_what_changes_add_up_to_is_said_of_each_number() -> None:
    creeping = entries(10.0, 10.4, 10.8, 11.2)
    back = entries(1.0, 2.0, 1.0, key="back")
    assert drifted(creeping + back + entries(5.0, key="once")) == [
        "f [tiny] 1/a/tps: 10 at first, 11.2 after 3 accepted change(s)"
    ]
