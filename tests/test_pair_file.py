"""A pair of one's own from a TOML file: what it says, and what is wrong with it, on which line."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_rllm import registry
from pytest_rllm.datasets.prompts import load
from pytest_rllm.local_data import LocalData
from pytest_rllm.models import ModelPair, PairFileError, pair_named
from pytest_rllm.models.pair_file import BUDGETS, ENGINE, KEYS, NEEDS, REQUESTS, TIER
from pytest_rllm.models.toml_lines import line_of
from pytest_rllm.plugin.pair_check import check

WHOLE = """\
# A pair of my own: reasoning = "none"
name = "mine"
reasoning = "thinker"
plain = "org/talker"
draft = "./drafter"
context_length = 1536
kv_cache_bytes = 26_214_400
kv_block_tokens = 32
served_name = "my-model"

[budgets]
short = 64
enough = 512
generous = 1024
fixed_length = 128

[needs]
gpu_memory_gib = 7.5
gpus = 2

[tiers]
easy.dataset = "gsm8k"

[tiers.medium]
file = "questions.jsonl"
question = "prompt_text"
answer = "gold"

[tiers.knowledge]
file = "sub/facts.parquet"
answer = "answer"
id = "key"
template = "passage"
prompt = "{passage}\\n{asked}\\nAnswer in \\\\boxed{{}}."

[requests.reasoning]
chat_template_kwargs = { enable_thinking = true }

[engines.vllm]
flags = [
    "--dtype",
    "float32",
]
"""
LINES = WHOLE.splitlines()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two checkpoints and two files of questions, and not the current one."""
    there = tmp_path / "there"
    for name in ("thinker", "drafter"):
        (there / name).mkdir(parents=True)
        (there / name / "config.json").write_text("{}")
    (there / "sub").mkdir()
    (there / "questions.jsonl").touch()
    (there / "sub" / "facts.parquet").touch()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return there


def written(folder: Path, text: str = WHOLE, name: str = "my_pair.toml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def changed(old: str, new: str) -> str:
    assert WHOLE.count(old) == 1, old
    return WHOLE.replace(old, new)


def test_a_file_says_all_of_a_pair_relative_to_itself(folder: Path) -> None:
    pair = pair_named(written(folder))
    assert (pair.name, pair.reasoning_format) == ("mine", "deepseek-r1")
    assert pair.path("reasoning") == str(folder / "thinker")
    assert pair.path("plain") == "org/talker"
    assert pair.path("draft") == str(folder / "drafter")
    assert (pair.short, pair.enough, pair.generous, pair.fixed_length) == (64, 512, 1024, 128)
    assert (pair.max_model_len, pair.kv_cache_bytes, pair.kv_block_tokens) == (1536, 26214400, 32)
    assert (pair.gpu_memory_gib, pair.gpus, pair.served_name) == (7.5, 2, "my-model")
    assert pair.requests == {"reasoning": {"chat_template_kwargs": {"enable_thinking": True}}}
    assert pair.flags == {"vllm": ("--dtype", "float32")}
    assert pair.tiers == {
        "easy": "gsm8k",
        "medium": LocalData(folder / "questions.jsonl", "medium", "gold", "prompt_text"),
        "knowledge": LocalData(
            folder / "sub" / "facts.parquet",
            "knowledge",
            "answer",
            None,
            id="key",
            template="passage",
            kind="word",
            prompt="{passage}\n{asked}\nAnswer in \\boxed{{}}.",
        ),
    }
    assert not pair.two_modes


def test_a_pair_is_called_as_its_file_and_needs_a_cpu_by_default(folder: Path) -> None:
    text = changed('name = "mine"\n', "").replace("[needs]\ngpu_memory_gib = 7.5\ngpus = 2\n", "")
    pair = pair_named(written(folder, text))
    assert (pair.name, pair.gpu_memory_gib, pair.gpus) == ("my_pair", 0, 1)


def test_a_pair_may_have_learned_from_single_questions_alone(folder: Path) -> None:
    says = "single_turn = true\n[budgets]"
    assert pair_named(written(folder, changed("[budgets]", says))).single_turn
    assert not pair_named(written(folder)).single_turn
    with pytest.raises(PairFileError, match=r":11: single_turn = 1; expected true or false: true "):
        pair_named(written(folder, changed("[budgets]", says.replace("true", "1"))))


def test_a_role_may_have_a_context_of_its_own(folder: Path) -> None:
    pair = pair_named(written(folder, WHOLE + "[context]\nplain = 1100\n"))
    assert [pair.context_of(role) for role in ("reasoning", "original", "plain")] == [
        *(1536, 1536, 1100)
    ]
    assert pair_named(written(folder)).context_of("plain") == 1536
    both = changed('"org/talker"', '"./thinker"') + "[context]\nplain = 1100\n"
    with pytest.raises(PairFileError, match=r"one server: say context_length, without \[context\]"):
        pair_named(written(folder, both))


def test_one_checkpoint_with_two_modes_is_both_roles(folder: Path) -> None:
    text = changed('"org/talker"', '"./thinker"')
    pair = pair_named(written(folder, text))
    assert pair.two_modes
    assert pair.reasoning_format == "qwen3", "its parser must know answers without reasoning"
    revisions = [pair.revision(role) for role in ("reasoning", "plain")]
    assert re.fullmatch(r"([0-9a-f]{12})\+[0-9a-f]{8} \1", " ".join(revisions))
    other = pair_named(written(folder, text.replace("= true }", "= false }")))
    assert other.revision("reasoning") != revisions[0], "other fields are another measurement"


# ---- what is wrong, and where

WRONG: dict[str, tuple[str, str, str]] = {
    "a table that is not closed": ("[budgets]", "[budgets", r":11: no valid TOML: Expected ']'"),
    "a text that is not closed": ('"--dtype"', '"--dtype', r":41: no valid TOML: Illegal"),
    "an unknown key": (
        "kv_block_tokens",
        "kv_block_token",
        r":8: unknown key 'kv_block_token' in the pair: did you mean 'kv_block_tokens'\? There are",
    ),
    "an unknown key of a table": (
        'answer = "gold"',
        'anser = "gold"',
        r":27: unknown key 'anser' in \[tiers.medium\]: did you mean 'answer'\?",
    ),
    "an unknown key like no other": (
        "gpus = 2",
        "zzz = 2",
        r":19: unknown key 'zzz' in \[needs\]: there are gpu_memory_gib, gpus",
    ),
    "an unknown tier": (
        "easy.dataset",
        "eazy.dataset",
        r":22: unknown key 'eazy' in \[tiers\]: did you mean 'easy'\? There are easy, medium, hard",
    ),
    "a file of programs": (
        "[tiers.medium]",
        "[tiers.code]",
        r":25: programs need their tests: expected dataset = 'humaneval'",
    ),
    "a missing key": ('plain = "org/talker"\n', "", r":1: the pair has no 'plain'; expected a fol"),
    "a missing key of a table": (
        "enough = 512\n",
        "",
        r":11: \[budgets\] has no 'enough'; expected a number of tokens that suffices",
    ),
    "a missing column": ('answer = "gold"\n', "", r":24: \[tiers.medium\] has no 'answer'; expec"),
    "no tiers": ("easy.dataset", "easy.datasets", r":22: unknown key 'datasets'"),
    "a text for a number": (
        "short = 64",
        'short = "64"',
        r":12: short = '64'; expected a whole number above 0: a number of tokens that cuts",
    ),
    "a truth for a number": ("gpus = 2", "gpus = true", r":19: gpus = True; expected a whole num"),
    "a number below 0": ("= 7.5", "= -1", r":18: gpu_memory_gib = -1; expected a number from 0 on"),
    "a number that is none": ("= 7.5", "= inf", r":18: gpu_memory_gib = inf; expected a number"),
    "a number for a text": ('name = "mine"', "name = 3", r":2: name = 3; expected a text"),
    "a number for a table": (
        '[engines.vllm]\nflags = [\n    "--dtype",\n    "float32",\n]',
        "[engines]\nvllm = 3",
        r":40: vllm = 3; expected a table",
    ),
    "a number among texts": (
        '"float32",\n',
        "32,\n",
        r":40: flags = \['--dtype', 32\]; expected a",
    ),
    "a name that is no test id": ('"mine"', '"my [pair]"', r":2: the pair cannot be called 'my \["),
    "a missing folder": (
        '"./drafter"',
        '"./draughter"',
        r":5: draft: the folder \S+there/draughter does not exist; expected a folder with a check",
    ),
    "a folder without a checkpoint": ('"./drafter"', '"sub"', r":5: draft: .* no config\.json"),
    "no model id": (
        '"thinker"',
        '"thinkker"',
        r":3: reasoning: there is no folder \S+there/thinkker, and 'thinkker' is no model id; exp",
    ),
    "a missing file": (
        '"questions.jsonl"',
        '"question.jsonl"',
        r":25: there is no file \S+there/question\.jsonl; expected a file \.jsonl or \.parquet",
    ),
    "a file of another kind": ('"questions.jsonl"', '"my_pair.toml"', r":25: my_pair\.toml is nei"),
    "two kinds of data": (
        'question = "prompt_text"',
        'dataset = "gsm8k"',
        r":24: the tier 'medium' needs either dataset = \.\.\. or file = \.\.\.",
    ),
    "a column of a data set": (
        'easy.dataset = "gsm8k"',
        'easy.dataset = "gsm8k"\neasy.question = "q"',
        r":23: 'question' is for a file, and a data set has no columns",
    ),
    "another grading": (
        'answer = "gold"',
        'answer = "gold"\nkind = "maths"',
        r":28: kind = 'maths'",
    ),
    "a brace without a name": (
        "boxed{{}}",
        "boxed{}",
        r":34: prompt: expected the name of a column",
    ),
    "a brace that closes nothing": ("boxed{{}}", "boxed}", r":34: prompt: Single '}' encountered"),
    "a prompt without a column": (
        "{passage}\\n{asked}\\n",
        "",
        r":34: prompt names no column in braces; expected the text that is sent",
    ),
    "a prompt with a format": ("{asked}", "{asked:>9}", r":34: prompt: expected .* without ':'"),
    "budgets that do not grow": (
        "enough = 512",
        "enough = 64",
        r":13: enough = 64 is not above short = 64; expected growing budgets",
    ),
    "a budget without room for the question": (
        "generous = 1024",
        "generous = 1536",
        r":14: generous = 1536 leaves no room for the question in context_length = 1536",
    ),
    "a field that is ours": (
        "chat_template_kwargs = {",
        "max_tokens = 3\nchat_template_kwargs = {",
        r":37: 'max_tokens' is set by the measurement itself",
    ),
    "a field that is no JSON": (
        "{ enable_thinking = true }",
        "2020-01-01",
        r":37: 'chat_template_kwargs' cannot be sent as JSON",
    ),
    "an unknown role": ("[requests.reasoning]", "[requests.draft]", r":36: unknown key 'draft'"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_with_its_line(folder: Path, what: str) -> None:
    old, new, message = WRONG[what]
    file = written(folder, changed(old, new))
    with pytest.raises(PairFileError, match=re.escape(file) + message):
        pair_named(file)


def test_one_checkpoint_that_is_asked_alike_in_both_roles_is_refused(folder: Path) -> None:
    text = changed('"org/talker"', '"thinker"').replace("{ enable_thinking = true }", "{}")
    plain = "[requests]\nplain.chat_template_kwargs = {}\nreasoning.chat_template_kwargs = {}\n"
    file = written(folder, re.sub(r"\[requests.reasoning\]\n.*\n", plain, text))
    with pytest.raises(PairFileError, match=r":4: reasoning and plain are one checkpoint and are"):
        pair_named(file)


def test_a_file_that_cannot_be_read_is_told(folder: Path) -> None:
    with pytest.raises(PairFileError, match=r"absent\.toml: cannot be read \(No such file"):
        pair_named("absent.toml")
    (folder / "latin.toml").write_bytes(b'name = "a"\nplain = "\xe4"\n')
    with pytest.raises(PairFileError, match=r"latin\.toml:2: not UTF-8"):
        pair_named(str(folder / "latin.toml"))


def test_a_file_cannot_take_the_name_of_a_known_pair(folder: Path) -> None:
    with pytest.raises(PairFileError, match=r"my_pair\.toml:2: there is a pair 'tiny' already"):
        pair_named(written(folder, changed('"mine"', '"tiny"')))
    text = changed('name = "mine"\n', "")
    with pytest.raises(PairFileError, match=r"tiny\.toml:1: there is a pair 'tiny' already"):
        pair_named(written(folder, text, "tiny.toml"))


# ---- lines of keys

ODD = '''\
a = """
b = 1
[c]
"""
"b" = [  # c = 3
  1, # d = 4
  2,
]

[c.d]
x.y = 1
# [e]
e = { f = 1, g = 2 }
[[h]]
i = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("a", 1),
        ("b", 5),
        ("c", 10),
        ("c.d", 10),
        ("c.d.x", 11),
        ("c.d.x.y", 11),
        ("c.d.e", 13),
        ("c.d.e.g", 13),
        ("h", 14),
        ("absent", 1),
        ("c.d.absent", 10),
        ("c.d.x.absent", 11),
    ],
)
def test_a_key_is_found_however_it_is_written(path: str, line: int) -> None:
    assert line_of(ODD, path.split(".")) == line
    assert line_of(ODD.replace("\n", "\r\n"), path.split(".")) == line


# ---- from another package


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Installs a package whose entry point is the path of a TOML file."""

    def install(name: str, file: str) -> None:
        (tmp_path / "other_pair_files.py").write_text(
            f"from pathlib import Path\nPAIR = Path({file!r})\n"
        )
        info = tmp_path / "other_pair_files-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: other-pair-files\nVersion: 1\n"
        )
        (info / "entry_points.txt").write_text(
            f"[pytest_rllm.pairs]\n{name} = other_pair_files:PAIR\n"
        )
        registry._entries.cache_clear()

    monkeypatch.syspath_prepend(str(tmp_path))
    registry._entries.cache_clear()
    yield install
    registry._entries.cache_clear()
    sys.modules.pop("other_pair_files", None)


def test_another_package_gives_a_pair_as_a_file(
    folder: Path, installed: Callable[[str, str], None]
) -> None:
    installed("mine", written(folder))
    pair = pair_named("mine")
    assert (pair.name, pair.path("reasoning")) == ("mine", str(folder / "thinker"))


def test_a_file_of_another_package_has_the_name_of_its_entry_point(
    folder: Path, installed: Callable[[str, str], None]
) -> None:
    installed("theirs", written(folder))
    with pytest.raises(ValueError, match=r"'theirs' .* or the Path of a TOML file"):
        pair_named("theirs")


# ---- what the README shows

README = Path(__file__).parent.parent / "README.md"
SHOWN = re.findall(r"```toml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def shown(tmp_path: Path) -> list[ModelPair]:
    """The pairs of the README, beside the file of questions that one of them names."""
    (tmp_path / "questions.jsonl").write_text('{"prompt_text": "1 + 1?", "gold": 2}\n')
    pairs = []
    for number, text in enumerate(SHOWN):
        (tmp_path / f"pair{number}.toml").write_text(text)
        pairs.append(pair_named(str(tmp_path / f"pair{number}.toml")))
    return pairs


def test_the_readme_shows_a_pair_of_two_checkpoints_and_one_with_two_modes(
    shown: list[ModelPair],
) -> None:
    two, one = shown
    assert (two.two_modes, one.two_modes) == (False, True)
    assert (two.gpu_memory_gib, one.gpu_memory_gib) == (0, 0), "both are for a CPU"
    assert (two.reasoning_format, one.reasoning_format) == ("deepseek-r1", "qwen3")
    assert load(two.tiers["medium"])[0].text == "1 + 1?\nPut your final answer within \\boxed{}."
    assert {type(data) for data in one.tiers.values()} == {str}
    for pair in shown:
        check(pair)


def test_the_rooms_in_the_readmes_comments_are_those_of_the_sizes(shown: list[ModelPair]) -> None:
    rooms = re.findall(r"room for ([\d ]+) tokens of ([\d ]+) bytes", "".join(SHOWN))
    assert len(rooms) == len(shown)
    for pair, (tokens, size) in zip(shown, rooms, strict=True):
        assert pair.kv_cache_bytes is not None
        assert int(tokens.replace(" ", "")) == pair.kv_cache_bytes // int(size.replace(" ", ""))


def test_the_readme_names_every_key() -> None:
    text = README.read_text(encoding="utf-8")
    for key in {*KEYS, *BUDGETS, *NEEDS, *REQUESTS, *ENGINE, *TIER}:
        assert re.search(rf"\b{key}\b", text), f"the README does not say what {key!r} means"
