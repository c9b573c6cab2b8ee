"""What is stored and stands for no test: named, trimmed, or why that cannot be told."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
from doubles.mock_session import DeclaringEngine, mock_engines
from doubles.mock_source import RecordingMockSource
from doubles.synthetic import MATCH

from benchmarks.statistics.same_answers import RULES, accuracy, shares
from pytest_rllm.datasets.prompts import Prompt
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, closed
from pytest_rllm.metrics import ACCURACY, EARLY_AGREEMENT
from pytest_rllm.records.header import Header
from pytest_rllm.session.comparison import compare
from pytest_rllm.verdicts.claims import Claim


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are looked for whole."""
    monkeypatch.setenv("COLUMNS", "1000")


FINDING = """
from pytest_rllm import ACCURACY, Prompt, Sampling, Serving, finding, higher, pp

QUESTIONS = [Prompt(f"q{i}", f"{i}?", "7", "easy", "math", f"q{i}") for i in range(16)]

@finding("Thinking helps.", cite="this test")
def test_NAME(compare, workload):
    compare(
        Serving(), against=Serving(model="plain"), prompts=QUESTIONS, workload=workload.closed(2),
        sampling=Sampling(64), blocks=2,
    ).shows(higher(ACCURACY, by=pp(5)))
"""
ARGS = ("-p", "no:cacheprovider", "-p", "no:randomly")
NO_TEST = "in the baselines without a test (--rllm-baseline=trim drops it): "
Session = Callable[..., pytest.RunResult]


@pytest.fixture
def session(pytester: pytest.Pytester) -> Session:
    """Two findings whose records are judged and stored, then what is asked of them."""
    questions = [Prompt(f"q{i}", f"{i}?", "7", "easy", "math", f"q{i}") for i in range(16)]
    arms = [
        Arm(Serving(model=model), questions, closed(2), Sampling(64))
        for model in ("reasoning", "plain")
    ]
    records, folder = pytester.path / "records", pytester.mkdir("findings")
    for name in ("one", "two"):
        (folder / f"test_{name}.py").write_text(FINDING.replace("NAME", name))
        where = Path(name) / "tiny" / "0"
        source = RecordingMockSource(
            lambda block, letter: (1.0, 8 * (letter == "A")), folder=records
        )
        header = Header(finding=name, case="tiny", pair="tiny")
        made = compare(source, *arms, blocks=2, where=where, header=header)
        for block in range(2):
            made.pair(block)

    def again(*args: str) -> pytest.RunResult:
        return pytester.runpytest_inprocess(*ARGS, f"--rllm-replay={records}", *args)

    assert ended(again("--rllm-baseline=create")) == {"passed": 2}
    return again


@pytest.fixture
def stored(pytester: pytest.Pytester) -> Path:
    """Where this class of machine and this engine have their baselines."""
    return pytester.path / "baselines" / MATCH["hardware"] / MATCH["engine"]


def ended(result: pytest.RunResult) -> dict[str, int]:
    """Outcomes, without the GPU cases that are not recorded."""
    left_out = ("skipped", "deselected")
    return {word: n for word, n in result.parseoutcomes().items() if word not in left_out}


def unused(result: pytest.RunResult) -> list[str]:
    return [line.removeprefix(NO_TEST) for line in result.outlines if line.startswith(NO_TEST)]


LATER = {
    "a later line": ("", "    assert False, 'later'"),
    "a teardown": (
        "import pytest\n\n@pytest.fixture(autouse=True)\ndef closing():\n    yield\n    1 / 0\n",
        "",
    ),
    "a subtest": ("", "    with subtests.test('part'):\n        assert False"),
}


@pytest.mark.parametrize("what", LATER)
def test_only_what_passed_as_a_whole_is_stored(
    session: Session, stored: Path, pytester: pytest.Pytester, what: str
) -> None:
    (stored / "one.json").unlink()
    before, after = LATER[what]
    path = pytester.path / "findings" / "test_one.py"
    sound = path.read_text()
    body = sound.replace("(compare, workload)", "(compare, workload, subtests)") + f"\n{after}\n"
    path.write_text(f"{before}\n{body}")
    assert session("--rllm-baseline=create").ret == pytest.ExitCode.TESTS_FAILED
    assert not (stored / "one.json").exists()
    path.write_text(sound)
    assert session("--rllm-baseline=create").ret == pytest.ExitCode.OK
    assert (stored / "one.json").exists()


def test_a_finding_that_is_gone_is_named_and_trimmed(
    session: Session, stored: Path, pytester: pytest.Pytester
) -> None:
    (pytester.path / "findings" / "test_two.py").unlink()
    for args in ((), (".",), ("findings",), (str(pytester.path / "findings"),)):
        assert unused(session(*args)) == ["two [tiny] of mock"]
    result = session("--rllm-baseline=trim")
    assert unused(result) == []
    result.stdout.fnmatch_lines([f"baseline removed: {stored / 'two.json'}"])
    assert sorted(path.name for path in stored.glob("*.json")) == ["one.json"]
    assert unused(session()) == []


@pytest.mark.parametrize(
    "args",
    [
        ("findings/test_one.py",),
        ("findings/test_one.py::test_one[tiny]",),
        ("-k", "one"),
        ("--deselect", "findings/test_two.py::test_two[tiny]"),
        ("--ignore", "findings/test_two.py"),
        ("--ignore-glob", "*_two.py"),
        ("--rllm-model", "tiny", "findings/test_one.py"),
        ("-o", "rllm_model=tiny", "--ignore", "findings/test_two.py"),
    ],
    ids=" ".join,
)
def test_what_was_not_asked_for_is_not_unused(
    session: Session, stored: Path, args: tuple[str, ...]
) -> None:
    result = session("--rllm-baseline=trim", *args)
    assert ended(result) == {"passed": 1}
    assert unused(result) == []
    assert (stored / "two.json").exists()


def test_a_folder_below_the_root_is_not_all(
    session: Session, stored: Path, pytester: pytest.Pytester
) -> None:
    folder = pytester.mkdir("some")
    (pytester.path / "findings" / "test_one.py").rename(folder / "test_one.py")
    result = session("--rllm-baseline=trim", "some")
    assert ended(result) == {"passed": 1}
    assert unused(result) == []
    assert (stored / "two.json").exists()
    (pytester.path / "findings" / "test_two.py").unlink()
    assert unused(session("some")) == ["two [tiny] of mock"]


def test_a_folder_is_all_where_the_ini_file_says_so(
    session: Session, stored: Path, pytester: pytest.Pytester
) -> None:
    (pytester.mkdir("other") / "test_three.py").write_text("def test_three(): pass")
    (pytester.path / "findings" / "test_two.py").unlink()
    assert unused(session("findings")) == []
    pytester.makeini("[pytest]\ntestpaths = findings")
    assert unused(session("findings")) == ["two [tiny] of mock"]
    assert unused(session()) == ["two [tiny] of mock"]
    pytester.makeini("[pytest]\ntestpaths = findings other")
    assert unused(session("findings")) == []
    assert unused(session()) == ["two [tiny] of mock"]


SHARDS = {
    "in silence": "items[:] = [item for item in items if 'two' not in item.name]",
    "by the hook": (
        "config.hook.pytest_deselected(items=[i for i in items if 'two' in i.name]); "
        "items[:] = [item for item in items if 'two' not in item.name]"
    ),
}


@pytest.mark.parametrize("how", SHARDS)
@pytest.mark.parametrize("when", ["tryfirst", "trylast"])
def test_what_a_hook_takes_out_is_not_gone(
    session: Session, stored: Path, pytester: pytest.Pytester, how: str, when: str
) -> None:
    pytester.makeconftest(
        f"""
        import pytest

        @pytest.hookimpl({when}=True)
        def pytest_collection_modifyitems(config, items):
            {SHARDS[how]}
        """
    )
    (pytester.path / "findings" / "test_gone.py").write_text(FINDING.replace("NAME", "gone"))
    result = session("--rllm-baseline=trim", "--deselect", "nothing")
    assert unused(result) == []
    (pytester.path / "findings" / "test_gone.py").unlink()
    result = session("--rllm-baseline=trim")
    assert ended(result) == {"passed": 1}
    assert unused(result) == []
    assert (stored / "two.json").exists()


def test_a_file_that_a_conftest_ignores_is_not_gone(
    session: Session, stored: Path, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest("collect_ignore_glob = ['*two.py']")
    result = session("--rllm-baseline=trim")
    assert ended(result) == {"passed": 1}
    assert unused(result) == []
    assert (stored / "two.json").exists()


@pytest.mark.parametrize("args", [("--lf",), ("-x",), ("--maxfail=1",), ("--sw",)], ids=" ".join)
def test_what_was_not_run_after_a_failure_is_not_gone(
    session: Session, stored: Path, pytester: pytest.Pytester, args: tuple[str, ...]
) -> None:
    failing = pytester.path / "findings" / "test_fails.py"
    failing.write_text("def test_fails(): assert False")
    session("-p", "cacheprovider")
    result = session("-p", "cacheprovider", "--rllm-baseline=trim", *args)
    assert result.ret != 0
    assert unused(result) == []
    assert (stored / "one.json").exists()
    assert (stored / "two.json").exists()


def test_a_file_that_cannot_be_collected_is_not_gone(
    session: Session, stored: Path, pytester: pytest.Pytester
) -> None:
    (pytester.path / "findings" / "test_two.py").write_text("import nothing_of_that_name\n")
    result = session("--rllm-baseline=trim", "--continue-on-collection-errors")
    assert ended(result) == {"passed": 1, "errors": 1}
    assert unused(result) == []
    assert (stored / "two.json").exists()


@pytest.mark.parametrize("words", [(), ("--rllm-baseline=trim",)], ids=["none", "trim"])
def test_a_broken_file_of_another_finding_is_named_and_fails(
    session: Session, stored: Path, words: tuple[str, ...]
) -> None:
    (stored / "other.json").write_text('{\n "schema": 1,')
    before = (stored / "one.json").read_text()
    result = session(*words)
    assert ended(result) == {"passed": 2}
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "  accuracy higher by 5 pp * holds",
            "the stored baselines could not be checked: *other.json:2: broken JSON *; fix "
            "the file, or restore it with `git checkout`",
        ]
    )
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert (stored / "one.json").read_text() == before


def test_a_broken_ledger_is_named_when_something_is_stored(session: Session, stored: Path) -> None:
    (stored / "one.json").unlink()
    (stored / "ledger.jsonl").write_text('{"finding": 1}\n')
    result = session("--rllm-baseline=create")
    assert ended(result) == {"errors": 2}
    result.stdout.fnmatch_lines(
        ["ERROR *ledger.jsonl:1: broken line*; fix the file, or restore it *"]
    )
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_a_file_of_schema_1_is_used_and_converted_by_update(session: Session, stored: Path) -> None:
    today = (stored / "one.json").read_text()
    case = json.loads(today)["cases"]["tiny"]
    effect, (first, second) = case["effects"]["1/accuracy/pp"], case["labels"].values()
    old = case | {
        "effects": {f"{first} vs {second}: accuracy [pp]": effect},
        "levels": {
            f"{first}: accuracy": case["levels"]["1/a/accuracy"],
            f"{second}: accuracy": case["levels"]["1/b/accuracy"],
        },
    }
    for later in ("labels", "machine", "reference_s"):
        del old[later]
    path = stored.parent / "one.json"
    path.write_text(json.dumps({"schema": 1, "finding": "one", "cases": {"tiny": old}}))
    (stored / "one.json").unlink()
    result = session()
    assert ended(result) == {"passed": 2}
    result.stdout.fnmatch_lines(
        [
            "  accuracy higher by 5 pp * holds",
            f"baseline of schema 1 (--rllm-baseline=update converts it): {path}",
        ]
    )
    assert unused(result) == []
    result = session("--rllm-baseline=update")
    assert ended(result) == {"passed": 2}
    result.stdout.fnmatch_lines(
        [f"baseline written: {stored / 'one.json'}", f"baseline removed: {path}"]
    )
    result.stdout.no_fnmatch_line("baseline of schema 1*")
    assert (stored / "one.json").read_text() == today


def test_reworded_sentences_leave_a_baseline_as_it_is(
    session: Session, stored: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test's sentence, the claim's and the names of the arms are all said in other words."""
    path, before = pytester.path / "findings" / "test_one.py", (stored / "one.json").read_text()
    text = path.read_text()
    path.write_text(re.sub(r'@finding\("[^"]*"', '@finding("Said in other words."', text))
    assert path.read_text() != text
    monkeypatch.setattr(Claim, "__str__", lambda claim: f"{claim.metric} is better")
    monkeypatch.setattr(Serving, "__str__", lambda serving: f"the {serving.model} model")
    result = session("-vv")
    assert ended(result) == {"passed": 2}
    result.stdout.fnmatch_lines(["  accuracy is better * holds"])
    assert "the plain model" not in before
    for words, label in (("create,fix,trim", False), ("update", True)):
        assert ended(session(f"--rllm-baseline={words}")) == {"passed": 2}
        assert ("the plain model" in (stored / "one.json").read_text()) is label
    assert ended(session()) == {"passed": 2}


def test_numbers_of_a_mock_engine_are_not_stored_and_the_session_says_so(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = RecordingMockSource(
        lambda block, letter: (1.0, 8 * (letter == "A")),
        about=lambda block, letter: {"match": MATCH | {"engine_version": "mock 1"}},
        folder=pytester.path / "records",
    )
    with monkeypatch.context() as patched:
        mock_engines(patched, source, {"vllm": DeclaringEngine("a mock")})
        pytester.makepyfile(test_one=FINDING.replace("NAME", "one"))
        words, model = "--rllm-baseline=create", "--rllm-model=tiny"
        live = pytester.runpytest_inprocess(*ARGS, words, model, "--rllm-record=records")
    replay = pytester.runpytest_inprocess(*ARGS, words, model, "--rllm-replay=records")
    for result in (live, replay):
        assert ended(result) == {"passed": 1}
        result.stdout.fnmatch_lines(
            ["--rllm-baseline stores nothing of one ?tiny?: a mock engine measured it, *"]
        )
    assert not list(pytester.path.rglob("one.json"))


# ---- the claims of the metamorphic checks can tell a right engine from a broken one

FINDINGS = Path(__file__).parent.parent / "tests_findings" / "test_metamorphic.py"


@pytest.fixture(scope="module")
def margins() -> dict[str, float]:
    """In points, by the metric's name."""
    return {one.metric.name: one.margin.size for one in runpy.run_path(str(FINDINGS))["SAME"]}


def test_the_finding_claims_what_was_simulated(margins: dict[str, float]) -> None:
    assert margins.keys() == {ACCURACY.name, EARLY_AGREEMENT.name}


@pytest.mark.parametrize("length", [150, 1000, 4000])
def test_rounding_in_long_answers_refutes_nothing_and_spoilt_requests_do(length: int) -> None:
    rule = RULES["first 500 characters"]
    held, refuted = shares(rule, (length, 1e-4, 0.0), 200)
    assert held > 0.5
    assert refuted == 0
    assert shares(rule, (length, 1e-4, 0.15), 200)[1] > 0.95


def test_accuracy_holds_though_some_answers_change(margins: dict[str, float]) -> None:
    """Within 3 points it held in 54 % of such sessions."""
    assert accuracy(160, margins[ACCURACY.name], 0.01, 0.0, 400)[0] > 0.85
    assert accuracy(160, margins[ACCURACY.name], 0.01, 0.12, 400)[1] > 0.7
