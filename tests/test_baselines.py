"""The stored format is reviewable and strict, and changes only as its four words say."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from doubles.synthetic import judged
from hypothesis import given
from hypothesis import strategies as st

from pytest_rllm.baselines import ledger
from pytest_rllm.baselines.store import (
    SCHEMA,
    WORDS,
    BaselineError,
    Baselines,
    Case,
    drifts,
    dump,
    fresh_case,
    missing,
    stale,
    unclaimed,
)
from pytest_rllm.metrics import ACCURACY, TPS
from pytest_rllm.verdicts.claims import Claim, higher, lower, no_worse, not_lower, pct, pp

GPU = {"hardware": "gpu-x-1x", "engine": "vllm"}
CPU = {"hardware": "cpu-x-2c", "engine": "vllm"}
FASTER = higher(TPS, by=pct(10))
RIGHT = not_lower(ACCURACY, by_more_than=pp(3))

STORED = Case(
    match={"engine": "vllm", "hardware": "cpu-x-2c"},
    effects={
        "b vs a: TPS [%]": [34.99, 22.14, 49.18, 6],
        "a vs b: accuracy [pp]": [0.0, -1.5, 1.5, 64],
    },
    levels={"é: accuracy": [0.6667, 0.0125]},
    deviations=["TPS higher by 50 %", "TPS higher by 40 %"],
)
TEXT = """\
{
 "schema": 1,
 "finding": "speculative_decoding",
 "cases": {
  "draft": {
   "deviations": [],
   "effects": {
   },
   "levels": {
   },
   "match": {
   }
  },
  "ngram": {
   "deviations": ["TPS higher by 40 %", "TPS higher by 50 %"],
   "effects": {
    "a vs b: accuracy [pp]": [0.0, -1.5, 1.5, 64],
    "b vs a: TPS [%]": [34.99, 22.14, 49.18, 6]
   },
   "levels": {
    "é: accuracy": [0.6667, 0.0125]
   },
   "match": {
    "engine": "vllm",
    "hardware": "cpu-x-2c"
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
)


@given(st.dictionaries(st.text(max_size=4), cases, max_size=3))
def test_what_is_written_is_read_back_and_written_the_same(
    tmp_path_factory: pytest.TempPathFactory, wanted: dict[str, Case]
) -> None:
    stored = Baselines(tmp_path_factory.getbasetemp() / "baselines")
    stored._write("cpu", "f", wanted)
    assert stored.cases("cpu", "f") == wanted
    assert dump("f", stored.cases("cpu", "f")) == dump("f", wanted)


def put(root: Path, text: str | bytes) -> Baselines:
    path = root / "cpu" / "f.json"
    path.parent.mkdir()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Baselines(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps({"schema": SCHEMA + 1, "cases": 7}), "schema 2, .*: update pytest-rllm"),
        (TEXT, "holds the finding 'speculative_decoding'"),
        ('{\n "schema": 1,\n "finding" "f"\n}', r"f\.json:3: broken JSON"),
        ("", r"f\.json:1: broken JSON"),
        ('{"finding": "f", "cases": {}}', "not a baseline .*'schema'"),
        ('{"schema": 1, "finding": "f"}', "not a baseline .*'cases'"),
        ('{"schema": 1, "finding": "f", "cases": []}', "not a baseline"),
        ('{"schema": 1, "finding": "f", "cases": {"a": {"mach": {}}}}', "not a baseline .*mach"),
        ("[]", "not a baseline"),
        (b'{"schema": "\xff"}', "not a baseline"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_why(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(BaselineError, match=message):
        put(tmp_path, text).cases("cpu", "f")


def test_nothing_is_stored_where_there_is_no_file(tmp_path: Path) -> None:
    assert Baselines(tmp_path).cases("cpu", "f") == {}
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_word_names_the_four() -> None:
    with pytest.raises(BaselineError, match=r"takes create, fix, trim, update .* not creat$"):
        Baselines(Path(), frozenset({"creat", "fix"}))


# ---- what is stored of fresh verdicts


def test_effects_are_stored_in_per_cent_and_points_with_four_digits() -> None:
    ratio = judged(FASTER, "holds", (math.log(1.1), math.log(1.23456), math.log(1.5)))
    points = judged(RIGHT, "holds", (-0.012345, 0.0, 0.02))
    assert fresh_case(CPU, [ratio, points], {}).effects == {
        "reasoning vs plain: TPS [%]": [23.46, 10.0, 50.0, 6],
        "reasoning vs plain: accuracy [pp]": [0.0, -1.234, 2.0, 6],
    }


def test_a_refuted_claim_is_stored_as_a_deviation() -> None:
    made = fresh_case(CPU, [judged(FASTER, "refuted"), judged(RIGHT, "holds")], {})
    assert made.deviations == ["TPS higher by 10 %"]


@pytest.mark.parametrize("match", [GPU, CPU], ids=["GPU", "CPU"])
def test_levels_are_stored_with_the_spread_of_their_blocks(match: dict[str, str]) -> None:
    verdicts = [judged(FASTER, "holds"), judged(RIGHT, "holds", levels=(0.666666, 0.5))]
    assert fresh_case(match, verdicts, {"plain: accuracy": 0.0123456}).levels == {
        "reasoning: accuracy": [0.6667, None],
        "plain: accuracy": [0.5, 0.01235],
        "reasoning: TPS": [0.75, None],
        "plain: TPS": [0.5, None],
    }


def test_a_claim_on_a_tier_is_stored_under_its_name() -> None:
    made = fresh_case(CPU, [judged(no_worse(ACCURACY.on("hard"), within=pp(5)), "holds")], {})
    assert "reasoning vs plain: accuracy on hard [pp]" in made.effects
    assert "plain: accuracy on hard" in made.levels


def test_nothing_is_stored_of_a_verdict_without_an_effect() -> None:
    made = fresh_case(CPU, [judged(FASTER, "invalid", None, None)], {})
    assert (made.effects, made.levels, made.deviations) == ({}, {}, [])


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
    j = judged(FASTER, "refuted")
    arms = "reasoning vs plain: TPS [%]", "reasoning: TPS"
    stored = Case({}, {arms[0]: [1, 1, 1, 1], "e": []}, {arms[1]: [1, 1], "l": []}, [j.claim, "d"])
    assert unclaimed(stored, [j]) == ["d", "e", "l"]
    assert unclaimed(Case({}, {arms[0]: [1, 1, 1, 1]}, {}, [j.claim]), [j]) == []


@pytest.mark.parametrize(
    ("claim", "was", "now", "spread", "drifted"),
    [
        # Times move by 10 % between sessions, as long as nothing is known: 3 * 10 are 30.
        (lower(TPS, by=pct(10)), 100.0, 129.0, 0.0, False),
        (lower(TPS, by=pct(10)), 100.0, 131.0, 0.0, True),
        (lower(TPS, by=pct(10)), 100.0, 69.0, 0.0, True),
        (lower(TPS, by=pct(40)), 100.0, 139.0, 0.0, False),
        (lower(TPS, by=pct(10)), 100.0, 151.0, 10.0, False),  # 3 * hypot(10, 10, 10) is 52
        (lower(TPS, by=pct(10)), 100.0, 153.0, 10.0, True),
        (RIGHT, 0.50, 0.52, 0.0, False),
        (RIGHT, 0.50, 0.54, 0.0, True),
        (RIGHT, 0.50, 0.54, 0.01, False),  # 3 * hypot(0.01, 0.01) is 0.042
    ],
)
def test_a_level_drifts_beyond_its_margin_and_its_spread(
    claim: Claim, was: float, now: float, spread: float, drifted: bool
) -> None:
    key = f"plain: {claim.metric}"
    stored, fresh = (Case(GPU, levels={key: [level, spread]}) for level in (was, now))
    told = drifts(stored, fresh, [(claim, judged(claim, "holds"))] * 2)
    assert [t.partition(",")[0] for t in told] == (
        [f"{key} went from {was:g} to {now:g}"] if drifted else []
    )


@pytest.mark.parametrize(("spread", "drifted"), [(1.0, True), (7.0, False)])
def test_what_sessions_have_shown_replaces_what_is_assumed(spread: float, drifted: bool) -> None:
    claim = lower(TPS, by=pct(10))
    stored, fresh = (Case(GPU, levels={"plain: TPS": [level, 0.0]}) for level in (100.0, 120.0))
    told = drifts(stored, fresh, [(claim, judged(claim, "holds"))], {"plain: TPS": spread})
    assert bool(told) is drifted


# ---- changing


OLD = Case(GPU, {"kept": [1, 1, 1, 1], "gone": [1, 1, 1, 1]}, {"kept": [1, 0]}, ["a", "gone"])
NEW = Case(GPU, {"kept": [2, 2, 2, 2], "new": [2, 2, 2, 2]}, {"new": [2, 0]}, ["a", "new"])


def with_words(root: Path, *words: str) -> Baselines:
    return Baselines(root, frozenset(words))


def change(root: Path, *words: str, before: Case | None = OLD, fresh: Case = NEW) -> Case | None:
    if before is not None:
        with_words(root, "create").change("gpu", "f", "c", before)
    stored = with_words(root, *words)
    after = stored.change("gpu", "f", "c", fresh)
    assert stored.cases("gpu", "f").get("c") == after
    assert stored.written == ([] if after == before else [root / "gpu" / "f.json"])
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
        with_words(tmp_path, "create").change("gpu", "f", case_id, OLD)
    with_words(tmp_path, "fix").change("gpu", "f", "b", NEW)
    assert with_words(tmp_path).cases("gpu", "f")["a"] == OLD


@pytest.mark.parametrize("word", ["create", "fix", "trim", "update"])
def test_a_file_in_another_representation_is_rewritten_by_update_only(
    tmp_path: Path, word: str
) -> None:
    with_words(tmp_path, "create").change("gpu", "f", "c", OLD)
    path = tmp_path / "gpu" / "f.json"
    canonical = path.read_text()
    path.write_text(json.dumps(json.loads(canonical)))
    stored = with_words(tmp_path, word)
    assert stored.change("gpu", "f", "c", OLD) == OLD
    assert (path.read_text() == canonical) is (word == "update")
    assert bool(stored.written) is (word == "update")


def test_cases_that_no_longer_exist_are_trimmed(tmp_path: Path) -> None:
    stored = with_words(tmp_path, "create")
    for case_id in ("a", "b", "c"):
        stored.change("gpu", "f", case_id, OLD)
        stored.change("gpu", "other", case_id, OLD)
        stored.change("gpu", "gone", case_id, OLD)
        stored.change("elsewhere", "gone", case_id, OLD)
    measured = with_words(tmp_path, "trim")
    measured.cases("gpu", "f")
    measured.trim({"f": {"b", "new"}, "other": {"a", "b", "c"}})
    assert list(measured.cases("gpu", "f")) == ["b"]
    assert list(measured.cases("gpu", "other")) == ["a", "b", "c"]
    assert list(measured.cases("elsewhere", "gone")) == ["a", "b", "c"]
    assert measured.written == [tmp_path / "gpu" / "f.json", tmp_path / "gpu" / "gone.json"]
    assert [path.exists() for path in measured.written] == [True, False]


@pytest.mark.parametrize("fails", [False, True])
def test_a_write_leaves_the_old_file_or_the_new_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    with_words(tmp_path, "create").change("gpu", "f", "c", OLD)
    path = tmp_path / "gpu" / "f.json"
    before, mode = path.read_text(), path.stat().st_mode
    stored = with_words(tmp_path, "fix")
    if fails:

        def full(*_: object) -> None:
            raise OSError("disk full")

        monkeypatch.setattr(os, "replace", full)
        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="disk full"):
            stored.change("gpu", "f", "c", NEW)
    else:
        stored.change("gpu", "f", "c", NEW)
    assert sorted(p.name for p in path.parent.iterdir()) == ["f.json", "ledger.jsonl"]
    assert (path.read_text() == before) is fails
    assert path.stat().st_mode == mode
    assert mode & 0o044  # others may read what is committed


# ---- the ledger


def test_every_number_that_is_stored_or_changed_is_in_the_ledger(tmp_path: Path) -> None:
    change(tmp_path, "create", "fix", fresh=NEW)
    told = [(e.case, e.key, e.was, e.now) for e in ledger.read(tmp_path / "gpu")]
    assert told == [
        *[("c", key, None, 1) for key in ("gone", "kept", "kept")],
        ("c", "kept", 1, 2),
        ("c", "new", None, 2),
        ("c", "new", None, 2),
    ]


@pytest.mark.parametrize("word", ["trim", "update"])
def test_what_changes_no_number_is_not_in_the_ledger(tmp_path: Path, word: str) -> None:
    with_words(tmp_path, "create").change("gpu", "f", "c", OLD)
    before = ledger.read(tmp_path / "gpu")
    with_words(tmp_path, word).change("gpu", "f", "c", NEW)
    with_words(tmp_path, "fix").change("gpu", "f", "c", OLD)
    assert ledger.read(tmp_path / "gpu") == before


def test_what_could_not_be_written_is_not_in_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_words(tmp_path, "create").change("gpu", "f", "c", OLD)
    before = ledger.read(tmp_path / "gpu")

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        with_words(tmp_path, "fix").change("gpu", "f", "c", NEW)
    assert ledger.read(tmp_path / "gpu") == before


def stored_in_sessions(root: Path, *levels: float) -> Baselines:
    """A case whose level was stored so many times."""
    words = ["create", *["fix"] * (len(levels) - 1)]
    for word, level in zip(words, levels, strict=True):
        last = with_words(root, word)
        last.change("gpu", "f", "c", Case(GPU, {}, {"plain: TPS": [level, 0.0]}))
    return last


def test_four_sessions_tell_how_far_a_level_moves_between_them(tmp_path: Path) -> None:
    assert stored_in_sessions(tmp_path, 10, 12, 11).sessions("gpu", "f", "c") == {}
    assert with_words(tmp_path).sessions("gpu", "other", "c") == {}
    (tmp_path / "gpu" / "ledger.jsonl").unlink()
    (tmp_path / "gpu" / "f.json").unlink()
    told = stored_in_sessions(tmp_path, 10, 12, 11, 13).sessions("gpu", "f", "c")
    assert told == {"plain: TPS": pytest.approx(math.sqrt(5 / 3))}


def test_accepted_changes_are_told_with_what_they_add_up_to(tmp_path: Path) -> None:
    assert stored_in_sessions(tmp_path, 10, 12, 13).drifted() == [
        "f [c] plain: TPS: 10 at first, 13 after 2 accepted change(s)"
    ]
    assert with_words(tmp_path).drifted() == [], "nothing was accepted in this session"


def test_a_broken_ledger_is_a_named_error(tmp_path: Path) -> None:
    stored = stored_in_sessions(tmp_path, 10, 12)
    (tmp_path / "gpu" / "ledger.jsonl").write_text('{"finding": 1}\n')
    with pytest.raises(BaselineError, match=r"ledger\.jsonl:1: broken line"):
        stored.sessions("gpu", "f", "c")


# ---- cases that no test stands for


def test_cases_that_no_test_stands_for_are_named(tmp_path: Path) -> None:
    stored = with_words(tmp_path, "create")
    for finding, case_id in (("f", "a"), ("f", "b"), ("old", "c")):
        stored.change("gpu", finding, case_id, OLD)
        stored.change("elsewhere", finding, case_id, OLD)
    (tmp_path / "gpu" / "machine.json").write_text("{}")
    measured = with_words(tmp_path)
    measured.cases("gpu", "f")
    assert measured.unused({"f": {"a", "new"}}) == ["f [b]", "old [c]"]
