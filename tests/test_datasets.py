"""Data sets: loaded in the form that their owners publish, pinned, and chosen in a fixed order."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pytest_rllm import registry
from pytest_rllm.datasets import hub
from pytest_rllm.datasets import prompts as datasets
from pytest_rllm.datasets.grading import grade
from pytest_rllm.datasets.hub import BOXED, COMPLETE
from pytest_rllm.datasets.prompts import (
    DataMissing,
    Prompt,
    TooFewQuestions,
    choose,
    data_revisions,
    dataset,
    interleaved,
    load,
    revision,
)
from pytest_rllm.datasets.sandbox import key_of

GPQA_ROW = {
    "Question": "Which one? ",
    "Correct Answer": " this ",
    "Incorrect Answer 1": "that",
    "Incorrect Answer 2": "those",
    "Incorrect Answer 3": "none",
    "Subdomain": "logic",
}
ROWS: dict[str, list[dict[str, Any]]] = {
    "gsm8k": [
        {"question": "How many?", "answer": "He has 3 and 4.\n#### 1,207"},
        {"question": "How much?", "answer": "Nothing #### -3"},
    ],
    "math500": [
        {
            "problem": "Add.",
            "solution": r"\boxed{\frac{1}{2}}",
            "answer": r"\frac{1}{2}",
            "subject": "Algebra",
            "level": 2,
            "unique_id": "test/algebra/1.json",
        }
    ],
    "aime2024": [
        {
            "id": 60,
            "problem": "Hard.",
            "solution": "...",
            "answer": "204",
            "url": "",
            "year": "2024",
        }
    ],
    "gpqa": [GPQA_ROW | {"Question": f"Which one of {i}?"} for i in range(12)],
    "supergpqa": [
        {
            "uuid": "0a1b",
            "question": "Which of these is a made-up word? ",
            "options": ["glim", "house", "tree"],
            "answer": "glim",
            "answer_letter": "A",
            "discipline": "Invention",
            "field": "Words",
            "subfield": "Nouns",
            "difficulty": "easy",
            "is_calculation": False,
        }
    ],
    "commonsenseqa": [
        {
            "id": "c7",
            "question": "Where is an invented lamp kept?",
            "question_concept": "lamp",
            "choices": {"label": list("ABCDE"), "text": ["sea", "room", "sky", "sun", "sand"]},
            "answerKey": "B",
        }
    ],
    "strategyqa": [
        {
            "qid": "q1",
            "term": "glim",
            "description": "an invented word",
            "question": "Could a glim be sung?",
            "answer": True,
            "facts": "A glim is a word.",
        },
        {
            "qid": "q2",
            "term": "glim",
            "description": "an invented word",
            "question": "Is a glim heavy?",
            "answer": False,
            "facts": "A glim is a word.",
        },
    ],
    "babi": [
        {
            "passage": "Zed went to the glimhouse.\nZed sat down.\n",
            "question": "Where is Zed?",
            "answer": "glimhouse",
            "task": 1,
        }
    ],
    "humaneval": [
        {
            "task_id": "HumanEval/900",
            "prompt": 'def half(n):\n    """Half of n."""\n',
            "canonical_solution": "    return n // 2\n",
            "test": "def check(candidate):\n    assert candidate(4) == 2\n",
            "entry_point": "half",
        }
    ],
}
WANTED = {
    "gsm8k": Prompt("gsm8k-0", "How many?" + BOXED, "1207", "easy", "math", "gsm8k-0"),
    "math500": Prompt(
        "test/algebra/1.json",
        "Add." + BOXED,
        r"\frac{1}{2}",
        "medium",
        "math",
        "test/algebra/1.json",
    ),
    "aime2024": Prompt("aime-60", "Hard." + BOXED, "204", "hard", "math", "aime-60"),
    "supergpqa": Prompt(
        "supergpqa-0a1b",
        f"Which of these is a made-up word?\nA. glim\nB. house\nC. tree{BOXED} Answer with the "
        "letter.",
        "A",
        "knowledge",
        "word",
        "supergpqa-0a1b",
    ),
    "commonsenseqa": Prompt(
        "commonsenseqa-c7",
        "Where is an invented lamp kept?\nA. sea\nB. room\nC. sky\nD. sun\nE. sand"
        f"{BOXED} Answer with the letter.",
        "B",
        "commonsense",
        "word",
        "commonsenseqa-c7",
    ),
    "strategyqa": Prompt(
        "strategyqa-q1",
        f"Could a glim be sung?{BOXED} Answer with yes or no.",
        "yes",
        "commonsense",
        "word",
        "strategyqa-q1",
    ),
    "babi": Prompt(
        "babi-1-0",
        f"Zed went to the glimhouse.\nZed sat down.\nWhere is Zed?{BOXED} Answer in one word.",
        "glimhouse",
        "logic",
        "word",
        "babi-1-Zed went to the glimhouse.",
    ),
    "humaneval": Prompt(
        "HumanEval/900",
        f'{COMPLETE}\n\n```python\ndef half(n):\n    """Half of n."""\n```',
        key_of(
            'def half(n):\n    """Half of n."""\n',
            "def check(candidate):\n    assert candidate(4) == 2\n",
            "half",
        ),
        "code",
        "code",
        "HumanEval/900",
    ),
}
TIERS = {tier: f"bundled-{tier}" for tier in ("easy", "medium", "hard", "knowledge")}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for ``--rllm-data``, with the library's cache beside it and no network."""
    import datasets as library
    import huggingface_hub

    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(library.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def write(folder: Path, name: str, rows: Iterable[dict[str, Any]]) -> None:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", WANTED)
def test_a_published_row_becomes_a_prompt(folder: Path, name: str, suffix: str) -> None:
    import datasets as library

    if suffix == "jsonl":
        write(folder, name, ROWS[name])
    else:
        library.Dataset.from_list(ROWS[name]).to_parquet(str(folder / f"{name}.parquet"))
    prompts = load(name, folder)
    assert prompts[0] == WANTED[name]
    assert len(prompts) == len(ROWS[name])
    content = (folder / f"{name}.{suffix}").read_bytes()
    assert data_revisions([name, "bundled-easy"], folder) == {
        name: f"sha256:{hashlib.sha256(content).hexdigest()}"
    }


def test_the_answers_of_strategyqa_are_yes_and_no(folder: Path) -> None:
    write(folder, "strategyqa", ROWS["strategyqa"])
    assert [prompt.answer for prompt in load("strategyqa", folder)] == ["yes", "no"]


@pytest.mark.parametrize("name", ["supergpqa", "babi"])
def test_questions_that_are_sorted_by_subject_are_shuffled_alike_at_every_load(
    folder: Path, name: str
) -> None:
    named = {"supergpqa": "uuid", "babi": "task"}[name]
    write(folder, name, [ROWS[name][0] | {named: i} for i in range(40)])
    asked = [prompt.id for prompt in load(name, folder)]
    datasets._load.cache_clear()
    assert asked == [prompt.id for prompt in load(name, folder)]
    assert len({key.split("-")[1] for key in asked[:10]} & set(map(str, range(10)))) < 8


def test_the_commit_of_the_hub_names_the_folder_of_its_cache() -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"

    class Loaded:
        cache_files: ClassVar = [{"filename": f"/cache/org___set/main/0.0.0/{commit}/test.arrow"}]

    assert hub._commit(Loaded()) == commit
    Loaded.cache_files = [{"filename": "/cache/json/default-1/test.arrow"}]
    assert hub._commit(Loaded()) is None


def test_an_answer_of_gsm8k_follows_its_last_mark(folder: Path) -> None:
    write(folder, "gsm8k", [{"question": "?", "answer": "#### is a mark #### -3 "}])
    assert load("gsm8k", folder)[0].answer == "-3"


def test_options_of_gpqa_are_in_a_seeded_order_and_keyed_by_letter(folder: Path) -> None:
    write(folder, "gpqa", ROWS["gpqa"])
    prompts = load("gpqa", folder)
    for prompt in prompts:
        question, *options, asked = prompt.text.split("\n")
        assert question.startswith("Which one of")
        assert [option[:3] for option in options] == ["A. ", "B. ", "C. ", "D. "]
        assert {option[3:] for option in options} == {"this", "that", "those", "none"}
        assert f"{prompt.answer}. this" in options
        assert r"\boxed{}" in asked
    assert {prompt.answer for prompt in prompts} == set("ABCD")
    datasets._load.cache_clear()
    assert load("gpqa", folder) == prompts
    assert {(p.tier, p.kind) for p in prompts} == {("knowledge", "word")}


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("gsm8k", "answer"),
        ("math500", "unique_id"),
        ("aime2024", "problem"),
        ("gpqa", "Incorrect Answer 2"),
        ("supergpqa", "options"),
        ("commonsenseqa", "choices"),
        ("strategyqa", "qid"),
        ("babi", "passage"),
        ("humaneval", "entry_point"),
    ],
)
def test_a_missing_column_is_named_with_the_existing_ones(
    folder: Path, name: str, column: str
) -> None:
    rows = [{k: v for k, v in row.items() if k != column} for row in ROWS[name]]
    write(folder, name, rows)
    with pytest.raises(ValueError, match=f"{name}.*without '{column}'; its columns are ") as told:
        load(name, folder)
    assert all(key in str(told.value) for key in rows[0])


def test_a_local_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "aime2024.jsonl").write_text("{no json")
    with pytest.raises(ValueError, match=r"'aime2024': .*aime2024\.jsonl could not be") as told:
        load("aime2024", folder)
    assert not isinstance(told.value, DataMissing)


@pytest.mark.parametrize("name", ROWS)
def test_a_data_set_that_cannot_be_had_says_what_to_do(folder: Path, name: str) -> None:
    with pytest.raises(
        DataMissing,
        match=rf"'{name}' \(.* on the Hugging Face hub\) could not be loaded: .*download it once "
        rf".*put {name}\.jsonl or {name}\.parquet.*--rllm-data",
    ):
        load(name, folder)


def test_a_gated_data_set_says_where_its_terms_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets as library

    def refused(*_: object, **__: object) -> None:
        raise library.exceptions.DatasetNotFoundError("Dataset 'X' is a gated dataset on the Hub.")

    monkeypatch.setattr(library, "load_dataset", refused)
    with pytest.raises(DataMissing, match=r"accept its terms at https://.*Idavidrein/gpqa and log"):
        load("gpqa", folder)


def test_an_unknown_data_set_is_refused_with_the_existing_names() -> None:
    with pytest.raises(
        ValueError, match="unknown data set 'gsm9k'; there are aime2024, babi, bundled-"
    ):
        load("gsm9k")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, list[Prompt]], None]]:
    """Registers prompts under a name for one test."""
    monkeypatch.setattr(datasets, "_LOADERS", dict(datasets._LOADERS))

    def register(name: str, prompts: list[Prompt]) -> None:
        dataset(name)(lambda _folder: prompts)

    yield register
    datasets._load.cache_clear()


def numbered(tier: str, n: int) -> list[Prompt]:
    return [Prompt(f"{tier}-{i}", f"{i}?", str(i), tier, "math", f"{tier}-{i}") for i in range(n)]


def test_two_data_sets_cannot_have_one_name(
    registered: Callable[[str, list[Prompt]], None],
) -> None:
    registered("mine", numbered("easy", 2))
    assert load("mine") == tuple(numbered("easy", 2))
    with pytest.raises(ValueError, match="two data sets are called 'mine'"):
        registered("mine", [])


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts packages that declare a data set by an entry point on the path, as pip would."""

    def install(package: str, name: str, code: str = "", function: str = "load") -> None:
        (tmp_path / f"{package}.py").write_text(code)
        info = tmp_path / f"{package}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(
            f"[pytest_rllm.datasets]\n{name} = {package}:{function}\n"
        )

    monkeypatch.syspath_prepend(tmp_path)
    registry._entries.cache_clear()
    yield install
    registry._entries.cache_clear()


OTHERS = """
from pytest_rllm.datasets.prompts import Prompt

def load(folder):
    yield Prompt("a", f"in {folder}?", "7", "easy", "math", "a")

def text(folder):
    yield "How many?"
"""


def test_another_package_adds_a_data_set_by_an_entry_point(
    installed: Callable[..., None], tmp_path: Path
) -> None:
    installed("others_one", "theirs", OTHERS)
    assert load("theirs", tmp_path) == (Prompt("a", f"in {tmp_path}?", "7", "easy", "math", "a"),)
    assert choose({"easy": "theirs"}, "easy", n=1, folder=tmp_path)[0].id == "a"
    with pytest.raises(ValueError, match=r"there are aime2024, .*, theirs$"):
        load("their")


@pytest.mark.parametrize(
    ("code", "function", "message"),
    [
        (
            "import there_is_no_such_module",
            "load",
            r"others_two cannot be imported.*No module named",
        ),
        ("", "load", r"of the package others_two cannot be imported.*uninstall that package"),
        (OTHERS, "text", "'theirs two' yields str, not Prompt"),
    ],
    ids=["broken", "without the function", "no prompts"],
)
def test_a_broken_data_set_of_another_package_is_named(
    installed: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    function: str,
    message: str,
) -> None:
    monkeypatch.delitem(sys.modules, "others_two", raising=False)
    installed("others_two", "theirs two", code, function)
    with pytest.raises(ValueError, match=message):
        load("theirs two")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gsm8k", "'gsm8k' is given by pytest-rllm and by another package: rename it"),
        ("theirs three", "'theirs three' is given by others_four and by others_three.* rename it"),
    ],
)
def test_an_entry_point_cannot_take_the_name_of_another_data_set(
    installed: Callable[..., None], name: str, message: str
) -> None:
    datasets._load.cache_clear()
    installed("others_three", name, OTHERS)
    installed("others_four", "theirs three", OTHERS)
    with pytest.raises(ValueError, match=message):
        load(name)


def test_an_id_may_occur_once_in_a_data_set(
    registered: Callable[[str, list[Prompt]], None],
) -> None:
    registered("twice", numbered("easy", 2) * 2)
    with pytest.raises(ValueError, match="'twice' holds one id twice"):
        load("twice")


@pytest.mark.parametrize("tier", TIERS)
def test_bundled_questions_have_a_key_and_a_template(tier: str) -> None:
    prompts = load(f"bundled-{tier}")
    assert len(prompts) == 2000
    assert {p.kind for p in prompts} == {"word" if tier == "knowledge" else "math"}
    assert all(p.answer and p.tier == tier and p.repeat == 0 for p in prompts)
    clusters = len({p.template for p in prompts})
    assert 1 < clusters < 2000 if tier == "knowledge" else clusters == 2000


@pytest.mark.parametrize(
    ("tiers", "n", "ids"),
    [
        (["easy"], 2, ["easy-0", "easy-1"]),
        (["easy", "hard"], 4, ["easy-0", "hard-0", "easy-1", "hard-1"]),
        (["hard", "easy"], 3, ["hard-0", "easy-0", "hard-1"]),
    ],
)
def test_tiers_are_interleaved_in_equal_shares(
    registered: Callable[[str, list[Prompt]], None], tiers: list[str], n: int, ids: list[str]
) -> None:
    table = {"easy": "mine-easy", "hard": "mine-hard"}
    for tier, name in table.items():
        registered(name, numbered(tier, 3))
    assert [p.id for p in choose(table, *tiers, n=n)] == ids


@pytest.mark.parametrize("tiers", [1, 2, 3, 4, 5])
def test_equal_shares_take_turns(tiers: int) -> None:
    """Fingerprints of arms that were stored depend on it."""
    for n in (*range(tiers, 40), 160, 192, 480, 2880):
        shares = [numbered(f"{i}", n // tiers + (i < n % tiers)) for i in range(tiers)]
        turns = [prompt for row in zip_longest(*shares) for prompt in row if prompt is not None]
        assert interleaved(shares) == turns


def test_all_questions_come_once_before_the_next_repeat() -> None:
    once = choose(TIERS, "easy", "hard", n=4)
    thrice = choose(TIERS, "easy", "hard", n=4, repeats=3)
    assert thrice == [replace(p, repeat=k) for k in range(3) for p in once]


def test_a_data_set_with_too_few_questions_is_asked_more_often_where_that_is_wanted(
    registered: Callable[[str, list[Prompt]], None],
) -> None:
    registered("mine-easy", numbered("easy", 6))
    registered("mine-hard", numbered("hard", 2))
    table = {tier: f"mine-{tier}" for tier in ("easy", "hard")}
    hard = choose(table, "hard", n=5, fill=True)
    assert [(p.id, p.repeat) for p in hard] == [(f"hard-{i}", k) for k in (0, 1) for i in (0, 1)]
    both = choose(table, "easy", "hard", n=12, repeats=2, fill=True)
    asked = Counter(p.id for p in both)
    assert asked == {f"easy-{i}": 2 for i in range(6)} | {f"hard-{i}": 6 for i in range(2)}
    assert len({(p.id, p.repeat) for p in both}) == len(both) == 24
    assert choose(table, "easy", n=4, fill=True) == choose(table, "easy", n=4)
    with pytest.raises(ValueError, match="leave out fill or turns"):
        choose(table, "easy", n=4, turns=2, fill=True)


def test_a_data_set_may_give_all_it_has(
    registered: Callable[[str, list[Prompt]], None],
) -> None:
    registered("mine-easy", numbered("easy", 3))
    registered("mine-hard", numbered("hard", 1))
    table = {tier: f"mine-{tier}" for tier in ("easy", "hard")}
    asked = choose(table, "easy", "hard", n=6, repeats=2, at_most=True)
    once = ["easy-0", "easy-1", "hard-0", "easy-2"]
    assert [(p.id, p.repeat) for p in asked] == [(i, k) for k in range(2) for i in once]
    assert choose(table, "easy", n=2, at_most=True) == choose(table, "easy", n=2)
    with pytest.raises(ValueError, match="3 questions of 'mine-hard' were asked for, it has 1"):
        choose(table, "easy", "hard", n=6)


@pytest.mark.parametrize(
    ("tiers", "n", "repeats", "message"),
    [
        (["esay"], 3, 1, "unknown tier 'esay'; there are easy, medium, hard, knowledge"),
        (["easy"], 2001, 1, "2001 questions of 'bundled-easy' were asked for, it has 2000"),
        (["easy", "hard"], 1, 1, "at least one question of each tier"),
        ([], 5, 1, "at least one question of each tier"),
        (["easy"], 0, 1, "at least one question of each tier"),
        (["easy"], 5, 0, "repeats=0"),
        (["easy", "easy"], 4, 1, "named twice"),
    ],
)
def test_impossible_choices_are_refused_with_the_reason(
    tiers: list[str], n: int, repeats: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        choose(TIERS, *tiers, n=n, repeats=repeats)


def test_the_revision_depends_on_everything_that_is_asked() -> None:
    prompts = numbered("easy", 3)
    pinned = revision(prompts)
    assert len(pinned) == 12
    assert pinned == revision(tuple(numbered("easy", 3)))
    others = [
        prompts[:2],
        prompts[::-1],
        [replace(prompts[0], text="0 ?"), *prompts[1:]],
        [replace(prompts[0], answer="1"), *prompts[1:]],
        [replace(prompts[0], repeat=1), *prompts[1:]],
        [replace(prompts[0], kind="word"), *prompts[1:]],
    ]
    assert len({pinned, *map(revision, others)}) == len(others) + 1


def test_examples_are_the_same_before_every_question_and_none_of_them_is_asked() -> None:
    prompts = choose(TIERS, "easy", "medium", n=40, repeats=2, shots=8)
    (before,) = {prompt.before for prompt in prompts}
    assert len(before) == 8
    by_text = {p.text: p for tier in ("easy", "medium") for p in load(TIERS[tier])}
    examples = [by_text[turn.question] for turn in before]
    assert [example.tier for example in examples] == ["easy", "medium"] * 4
    assert not {example.id for example in examples} & {prompt.id for prompt in prompts}
    for example, turn in zip(examples, before, strict=True):
        assert grade(turn.answer, example.answer, example.kind, "stop") == "right"
    plain = choose(TIERS, "easy", "medium", n=40, repeats=2)
    assert [replace(prompt, before=()) for prompt in prompts] == plain
    assert choose(TIERS, "easy", "medium", n=40, repeats=2, shots=8) == prompts


def test_what_is_sent_begins_with_the_examples() -> None:
    one, other = (p.messages for p in choose(TIERS, "medium", n=2, shots=3))
    assert [message["role"] for message in one] == ["user", "assistant"] * 3 + ["user"]
    assert json.dumps(one[:-1]) == json.dumps(other[:-1])
    assert one[-1] != other[-1]


def test_examples_are_kept_from_what_a_data_set_gives_at_most(
    registered: Callable[[str, list[Prompt]], None],
) -> None:
    registered(
        "ten", [Prompt(f"q{i}", f"{i}?", f"{i}", "hard", "math", f"q{i}") for i in range(10)]
    )
    tiers = {"hard": "ten"}
    assert len(choose(tiers, "hard", n=6, shots=4)) == 6
    with pytest.raises(TooFewQuestions, match="7 questions of 'ten', and 4 others as examples, "):
        choose(tiers, "hard", n=7, shots=4)
    assert len(choose(tiers, "hard", n=7, shots=4, at_most=True)) == 6
    assert len(choose(tiers, "hard", n=3, shots=4, times=4)) == 6
    with pytest.raises(TooFewQuestions):
        choose(tiers, "hard", n=7, shots=10, at_most=True)


def test_a_prompt_survives_its_record_and_older_ones_are_read() -> None:
    usual, with_examples = choose(TIERS, "easy", n=1)[0], choose(TIERS, "easy", n=1, shots=2)[0]
    assert Prompt.of_row(json.loads(json.dumps(with_examples.to_row()))) == with_examples
    assert Prompt.of_row(json.loads(json.dumps(usual.to_row()))) == usual
    assert usual.to_row() == list(astuple(usual))[:7], "as in records of before"


def test_the_revision_tells_examples_apart_and_is_as_before_without_any() -> None:
    assert revision(choose(TIERS, "easy", n=3)) == "c666e3251e74"
    found = {revision(choose(TIERS, "easy", n=3, shots=shots)) for shots in range(4)}
    assert len(found) == 4


def test_a_conversation_grows_by_the_right_answer_to_each_question() -> None:
    prompts = choose(TIERS, "medium", n=10, turns=4, shots=2)
    assert [len(prompt.before) for prompt in prompts] == [2, 3, 4, 5] * 2 + [2, 3]
    for earlier, later in itertools.pairwise(prompts):
        if later.conversation == earlier.conversation:
            assert later.before[:-1] == earlier.before
            assert later.before[-1].question == earlier.text
            given = later.before[-1].answer
            assert grade(given, earlier.answer, earlier.kind, "stop") == "right"
    assert len({prompt.conversation for prompt in prompts}) == 3
    assert len({prompt.template for prompt in prompts}) == 3, "turns are no independent questions"
    alone = choose(TIERS, "medium", n=10)
    assert [(p.id, p.text, p.answer) for p in prompts] == [(p.id, p.text, p.answer) for p in alone]
    assert all(Prompt.of_row(json.loads(json.dumps(p.to_row()))) == p for p in prompts)


def test_whether_questions_are_a_conversation_is_part_of_their_revision() -> None:
    prompts = choose(TIERS, "medium", n=10, turns=4)
    apart = [replace(prompt, conversation="") for prompt in prompts]
    assert len({revision(prompts), revision(apart), revision(choose(TIERS, "medium", n=10))}) == 3
