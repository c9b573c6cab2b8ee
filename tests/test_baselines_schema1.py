"""Baselines of schema 1 are used as they are, and converted case by case without a loss."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from doubles.synthetic import judged, judgement

from pytest_rllm.baselines import ledger
from pytest_rllm.baselines.case import SCHEMA, Case, fresh_case, missing, unclaimed
from pytest_rllm.baselines.compare import decide
from pytest_rllm.baselines.format import BaselineError, dump
from pytest_rllm.baselines.ledger import Entry
from pytest_rllm.baselines.schema1 import SCHEMA_1, upgrade
from pytest_rllm.baselines.store import Baselines
from pytest_rllm.metrics import ACCURACY, DELTAS_PER_S, TPS
from pytest_rllm.verdicts.claims import Verdict, higher, lower, not_lower, pct, pp
from pytest_rllm.verdicts.judgement import Judgement

ROOT = Path(__file__).parent.parent
MATCH = {"hardware": "gpu", "engine": "vllm", "engine_version": "3"}
PLACE = "gpu", "vllm", "f"
FASTER = higher(TPS, by=pct(10))
RIGHT = not_lower(ACCURACY, by_more_than=pp(3))
FEWER = lower(DELTAS_PER_S, by=pct(10))


def old_case(**more: str) -> Case:
    """A case as the version with schema 1 stored it."""
    return Case(
        MATCH | more,
        {
            "new, fp8 KV vs old: TPS [%]": [30.0, 20.0, 40.0, 6],
            "new, fp8 KV vs old: deltas/s [%]": [-50.0, -60.0, -40.0, 6],
            "alone vs old: accuracy [pp]": [-10.0, -12.0, -8.0, 64],
        },
        {
            "new, fp8 KV: TPS": [0.75, 0.01],
            "old: TPS": [0.5, None],
            "new, fp8 KV: deltas/s": [0.75, 0.01],
            "old: deltas/s": [0.5, 0.02],
            "alone: accuracy": [0.75, 0.02],
            "old: accuracy": [0.5, 0.03],
        },
        ["accuracy not lower by more than 3 pp"],
        schema=SCHEMA_1,
    )


def shown(right: Verdict = "refuted") -> list[Judgement]:
    """What the test that stored :func:`old_case` shows today."""
    effect = (-0.12, -0.10, -0.08) if right == "refuted" else (-0.01, 0.0, 0.01)
    fast, few = (judged(claim, "holds", arms=("new, fp8 KV", "old")) for claim in (FASTER, FEWER))
    correct = judged(RIGHT, right, effect, arms=("alone", "old"))
    return [
        judgement((FASTER, fast), (FEWER, few), match=MATCH),
        judgement((RIGHT, correct), comparison="2", match=MATCH),
    ]


NEW = Case(
    MATCH,
    {
        "1/tps/pct": [30.0, 20.0, 40.0, 6],
        "1/deltas-s/pct": [-50.0, -60.0, -40.0, 6],
        "2/accuracy/pp": [-10.0, -12.0, -8.0, 64],
    },
    {
        "1/a/tps": [0.75, 0.01],
        "1/b/tps": [0.5, None],
        "1/a/deltas-s": [0.75, 0.01],
        "1/b/deltas-s": [0.5, 0.02],
        "2/a/accuracy": [0.75, 0.02],
        "2/b/accuracy": [0.5, 0.03],
    },
    ["2/accuracy-not-lower-3pp"],
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that the version with schema 1 wrote: two cases, and a ledger."""
    put(tmp_path, {"c": old_case(), "d": old_case()})
    entries = [
        Entry("f", "c", "new, fp8 KV vs old: TPS [%]", None, 30.0, "3"),
        Entry("f", "d", "old: TPS", None, 0.5, "3"),
        Entry("f", "c", "old: TPS", 0.4, 0.5, "3"),
        Entry("g", "c", "old: TPS", None, 0.7, "3"),
        Entry("f", "c", "gone: TPS", None, 0.1, "2"),
    ]
    ledger.append(tmp_path / "gpu", entries)
    return tmp_path


def put(root: Path, cases: dict[str, Case], finding: str = "f") -> Path:
    path = root / "gpu" / f"{finding}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(dump(finding, cases, SCHEMA_1))
    assert path.read_text().startswith('{\n "schema": 1,')
    assert '"labels"' not in path.read_text()
    return path


def words(root: Path, *asked: str) -> Baselines:
    return Baselines(root, frozenset(asked))


# ---- keys


def test_sentences_become_the_keys_of_the_claims_that_say_them() -> None:
    made = upgrade(old_case(), shown())
    assert made == NEW
    assert made.labels == {"1/a": "new, fp8 KV", "1/b": "old", "2/a": "alone", "2/b": "old"}
    assert missing(made, fresh_case(shown())) == []
    assert unclaimed(made, shown()) == []


def test_a_case_of_today_is_left_as_it_is() -> None:
    assert upgrade(NEW, shown()) is NEW


def test_what_nobody_says_any_more_is_kept_and_reported() -> None:
    old = old_case()
    old.effects["x vs y: TPS [%]"] = [1.0, 0.0, 2.0, 6]
    old.levels["x: TPS"] = [3.0, None]
    old.deviations.append("TPS higher by 99 %")
    made = upgrade(old, shown())
    gone = ["TPS higher by 99 %", "x vs y: TPS [%]", "x: TPS"]
    assert unclaimed(made, shown()) == gone
    found = decide(shown(), fresh_case(shown()), old)
    assert found.ending == "fail"
    assert found.notes == [
        f"in the baseline and no longer claimed: {key} (--rllm-baseline=trim drops it)"
        for key in gone
    ]


def test_a_level_stands_for_every_arm_of_its_name() -> None:
    """Schema 1 had one level for arms of one name, in one comparison or in several."""
    verdict = RIGHT, judged(RIGHT, "holds", arms=("same", "same"))
    judgements = [judgement(verdict), judgement(verdict, comparison="2")]
    old = Case({}, {}, {"same: accuracy": [0.9, 0.1]}, schema=SCHEMA_1)
    keys = ["1/a/accuracy", "1/b/accuracy", "2/a/accuracy", "2/b/accuracy"]
    assert upgrade(old, judgements).levels == {key: [0.9, 0.1] for key in keys}


@pytest.mark.parametrize(
    ("first", "known"),
    [
        ([20.0, 15.0, 25.0, 6], ["2/tps-higher-10pct"]),
        ([-20.0, -25.0, -15.0, 6], ["1/tps-higher-10pct", "2/tps-higher-10pct"]),
        ([10.0, 5.0, 15.0, 6], ["1/tps-higher-10pct", "2/tps-higher-10pct"]),
    ],
    ids=["held", "refuted", "undecided"],
)
def test_a_deviation_is_not_known_where_the_stored_effect_shows_that_the_claim_holds(
    first: list[float], known: list[str]
) -> None:
    """Schema 1 stored a claim's sentence, and two comparisons may claim the same."""
    judgements = [
        judgement((FASTER, judged(FASTER, "refuted", arms=(arm, "old"))), comparison=key)
        for key, arm in (("1", "one"), ("2", "two"))
    ]
    effects: dict[str, list[float]] = {
        "one vs old: TPS [%]": first,
        "two vs old: TPS [%]": [-50.0, -60.0, -40.0, 6],
    }
    old = Case({}, effects, {}, ["TPS higher by 10 %"], schema=SCHEMA_1)
    assert upgrade(old, judgements).deviations == known


# ---- files


def test_a_case_of_schema_1_is_used_as_it_is(root: Path) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*.*")}
    measured, fresh = words(root), fresh_case(shown())
    stored = measured.cases(*PLACE)["c"]
    assert stored == old_case()
    found = decide(shown(), fresh, stored, measured.sessions(*PLACE, "c"))
    assert found.statuses == ["holds", "holds", "known deviation"]
    assert (found.ending, found.notes) == ("xfail", [])
    assert measured.outdated() == [root / "gpu" / "f.json"]
    assert {path: path.read_bytes() for path in root.rglob("*.*")} == before


@pytest.mark.parametrize("asked", [["create"], ["trim"], ["create", "trim"]], ids=",".join)
def test_words_that_change_no_number_do_not_convert(root: Path, asked: list[str]) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*.*")}
    assert words(root, *asked).change(*PLACE, "c", fresh_case(shown())) == NEW
    assert {path: path.read_bytes() for path in root.rglob("*.*")} == before


def test_update_converts_a_case_and_its_lines_of_the_ledger(root: Path) -> None:
    measured, old, new = words(root, "update"), root / "gpu" / "f.json", words(root).path(*PLACE)
    assert measured.change(*PLACE, "c", fresh_case(shown())) == NEW
    assert measured.written == [new, old]
    assert new.read_text().startswith('{\n "schema": 3,')
    assert words(root).cases(*PLACE) == {"c": NEW, "d": old_case()}
    assert [tuple(vars(e).values())[1:5] for e in ledger.read(new.parent)] == [
        ("c", "1/tps/pct", None, 30.0),
        ("c", "1/b/tps", 0.4, 0.5),
        ("c", "gone: TPS", None, 0.1),
    ]
    assert [(e.finding, e.case) for e in ledger.read(old.parent)] == [("f", "d"), ("g", "c")]

    assert measured.change(*PLACE, "d", fresh_case(shown())) == NEW
    assert not old.exists()
    assert words(root).cases(*PLACE) == {"c": NEW, "d": NEW}
    assert [(e.finding, e.case) for e in ledger.read(old.parent)] == [("g", "c")]
    assert measured.outdated() == []
    again = words(root, "update")
    again.change(*PLACE, "d", fresh_case(shown()))
    assert again.written == []


def test_the_last_line_takes_the_old_ledger_with_it(tmp_path: Path) -> None:
    old = put(tmp_path, {"c": old_case()})
    ledger.append(old.parent, [Entry("f", "c", "old: TPS", None, 0.5, "3")])
    words(tmp_path, "update").change(*PLACE, "c", fresh_case(shown()))
    assert [path.name for path in old.parent.iterdir()] == ["vllm"]


def test_fix_stores_new_numbers_in_the_new_place_only(root: Path) -> None:
    after = words(root, "fix").change(*PLACE, "c", fresh_case(shown()))
    assert after is not None
    assert after.effects.keys() == NEW.effects.keys()
    assert after.effects["1/tps/pct"] == fresh_case(shown()).effects["1/tps/pct"]
    assert words(root).cases(*PLACE) == {"c": after, "d": old_case()}
    (was,) = [e.was for e in ledger.read(root / "gpu" / "vllm") if e.was and e.key == "1/tps/pct"]
    assert was == 30.0


def test_what_schema_1_stored_of_another_engine_is_not_touched(root: Path) -> None:
    put(root, {"c": old_case(), "d": old_case(engine="mock")})
    assert words(root).cases(*PLACE) == {"c": old_case()}
    assert words(root).cases("gpu", "mock", "f") == {"d": old_case(engine="mock")}
    measured = words(root, "update", "trim")
    measured.change(*PLACE, "c", fresh_case(shown()))
    measured.trim({})
    assert words(root).cases(*PLACE) == {}
    assert words(root).cases("gpu", "mock", "f") == {"d": old_case(engine="mock")}


def test_cases_that_no_longer_exist_are_named_and_trimmed(root: Path) -> None:
    gone = put(root, {"c": old_case()}, "gone")
    measured = words(root, "trim")
    measured.cases(*PLACE)
    assert measured.unused({"f": {"c"}}) == ["f [d] of vllm", "gone [c] of vllm"]
    measured.trim({"f": {"c"}})
    assert measured.written == [root / "gpu" / "f.json", gone]
    assert not gone.exists()
    assert words(root).cases(*PLACE) == {"c": old_case()}


def test_what_sessions_of_schema_1_have_shown_says_what_a_drift_is(root: Path) -> None:
    """Of answers: whose the times of schema 1 are is not known, so they decide nothing."""
    stored, fresh = words(root), fresh_case(shown())
    fresh.machine = ""
    fresh.levels |= {"1/b/tps": [0.9, None], "2/b/accuracy": [0.65, None]}
    case = stored.cases(*PLACE)["c"]
    (note,) = decide(shown(), fresh, case, stored.sessions(*PLACE, "c")).notes
    assert note.startswith("drift: 2/b/accuracy (old) went from 0.5 to 0.65")
    wide = [Entry("f", "c", "old: accuracy", 0.5, 0.4 + i / 10, "3") for i in range(4)]
    ledger.replace(root / "gpu", wide)
    assert decide(shown(), fresh, case, stored.sessions(*PLACE, "c")).notes == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"gpu.f\.json:1: broken JSON .*restore it with `git checkout`"),
        ('{"schema": 1, "finding": "g", "cases": {}}', r"gpu.f\.json: holds the finding 'g'"),
        ('{"schema": 2, "finding": "f", "cases": {}}', "schema 2 in the place of schema 1.*move"),
        ('{"schema": 4}', "schema 4, .*: update pytest-rllm"),
    ],
)
def test_an_old_file_that_cannot_be_used_says_where_and_why(
    root: Path, text: str, message: str
) -> None:
    (root / "gpu" / "f.json").write_text(text)
    with pytest.raises(BaselineError, match=message):
        words(root).cases(*PLACE)


# ---- this repository's own files


def test_no_key_of_the_repositorys_baselines_is_a_sentence() -> None:
    files = [*ROOT.glob("baselines/*/*/*.json"), *ROOT.glob("baselines/*/*/ledger.jsonl")]
    assert len(files) > 2
    key = re.compile(r"[a-z0-9-]+(:[0-9.]+-vs-[0-9.]+)?(/[a-z0-9-]+){1,2}")
    for path in files:
        if path.suffix == ".jsonl":
            found = [entry.key for entry in ledger.read(path.parent)]
        elif path.name == "machine.json":
            continue
        else:
            content = json.loads(path.read_text())
            assert content["schema"] == SCHEMA
            found = [
                name
                for case in content["cases"].values()
                for part in ("effects", "levels", "deviations")
                for name in case[part]
            ]
        assert found
        assert [name for name in found if not key.fullmatch(name)] == []
