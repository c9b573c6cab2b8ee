"""What cases need is looked up for all of them before anything starts, and downloaded first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets as library  # noqa: F401 - in-process runs of pytest cannot load it twice
import pytest
from doubles.arms import arm
from doubles.mock_hub import GIB, MockHub
from doubles.mock_session import DeclaringEngine, measuring, mock_engines
from doubles.mock_source import MockSource, twice
from huggingface_hub import constants

from pytest_rllm.datasets import hub as published
from pytest_rllm.datasets.prompts import DataMissing
from pytest_rllm.engines import engine_named
from pytest_rllm.engines.builds import Build
from pytest_rllm.engines.openai import OpenAIEndpoint
from pytest_rllm.engines.pool import Pool
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.models import PAIRS
from pytest_rllm.plugin.findings import JUDGES
from pytest_rllm.plugin.tools import asking, tools
from pytest_rllm.session import needs as module
from pytest_rllm.session.case import FindingCase
from pytest_rllm.session.comparison import CannotMeasure
from pytest_rllm.session.needs import Needs, models_of
from pytest_rllm.telemetry.gpu import Gpu

ENGINE = DeclaringEngine("engine 1")
SEVEN, QWEN3 = PAIRS["r1-distill-qwen-7b"], PAIRS["qwen3-8b"]
PLAIN = Serving(model="plain")


# ---- which models


@pytest.mark.parametrize(
    ("pair", "serving", "models"),
    [
        (SEVEN, Serving(), ["deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"]),
        (SEVEN, Serving(prefix_caching=True), ["deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"]),
        (SEVEN, PLAIN, ["Qwen/Qwen2.5-7B-Instruct"]),
        (QWEN3, PLAIN, ["Qwen/Qwen3-8B"]),
        (
            SEVEN,
            Serving(quantization="fp8-w8a8"),
            ["RedHatAI/DeepSeek-R1-Distill-Qwen-7B-FP8-dynamic"],
        ),
        (SEVEN, Serving(quantization="fp8"), ["deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"]),
        (
            SEVEN,
            Serving(speculative="eagle"),
            [
                "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
                "thoughtworks/DeepSeek-R1-Distill-Qwen-7B-Eagle3",
            ],
        ),
        (PAIRS["tiny"], Serving(speculative="draft"), []),
        (PAIRS["tiny-logic"], PLAIN, []),
    ],
)
def test_a_server_loads_what_its_serving_names(
    pair: Any, serving: Serving, models: list[str]
) -> None:
    assert models_of(ENGINE, pair, serving) == models


def test_no_model_is_needed_of_a_server_that_runs_already_or_of_a_mock() -> None:
    there = OpenAIEndpoint(Build("http://x", url="http://x"))
    assert models_of(there, SEVEN, Serving()) == []
    assert models_of(engine_named("mock"), SEVEN, Serving()) == []


# ---- what is found of them


def needing(hub: MockHub, *models: str) -> Needs:
    needs = Needs(hub)
    needs.note("a [x]", models)
    needs.note("b [x]", models[:1])
    return needs


def test_what_is_not_here_is_told_with_sizes_and_room() -> None:
    hub = MockHub(here={"org/here"}, sizes={"org/big": 14.2, "org/small": 0.5}, free=100)
    needs = needing(hub, "org/big", "org/here", "org/small")
    assert needs.look_up()
    assert not needs.fit()
    assert hub.asked == ["org/big", "org/small"], "what is here is asked of nobody"
    assert needs.lines() == [
        "downloads before anything is measured: 2 models, 14.7 GiB; 100.0 GiB are free in "
        "/mock/hub",
        "to be downloaded: org/big, 14.2 GiB, 2 cases",
        "to be downloaded: org/small, 0.5 GiB, 1 case",
    ]
    assert not needs.look_up(), "all is known"


def test_nothing_is_told_and_asked_where_all_is_here() -> None:
    hub = MockHub(here={"org/here"})
    needs = needing(hub, "org/here")
    assert not needs.look_up()
    assert needs.lines() == []
    assert (hub.asked, needs.lacking(["org/here"])) == ([], None)


def test_what_the_disk_has_no_room_for_is_left_out_and_smaller_ones_are_not() -> None:
    hub = MockHub(sizes={"org/big": 14.2, "org/huge": 131.4, "org/small": 0.5}, free=20)
    needs = needing(hub, "org/big", "org/huge", "org/small")
    needs.look_up()
    assert needs.fit()
    assert needs.lacking(["org/small", "org/huge"]) == (
        "org/huge takes 131.4 GiB of disk, and 5.8 are left in /mock/hub: make room, or set "
        "HF_HOME to a folder on a larger disk"
    )
    assert needs.lacking(["org/big", "org/small"]) is None
    assert not needs.fit()


def test_downloads_say_how_far_they_are_and_one_that_breaks_off_costs_its_own_cases_only() -> None:
    hub = MockHub(sizes={"org/big": 14.0, "org/small": 0.5}, breaks={"org/big"})
    needs = needing(hub, "org/big", "org/small", "org/mispelt")
    needs.look_up()
    said: list[tuple[str, float | None]] = []
    needs.fetch(lambda text, done=None: said.append((text, done)))
    assert hub.fetched == ["org/big", "org/small"]
    assert said[:2] == [
        ("download 1 of 2: org/big, 0.0 of 14.0 GiB", 0.0),
        ("download 1 of 2: org/big, 7.0 of 14.0 GiB", 0.5),
    ]
    assert "the mock hub broke off" in str(needs.lacking(["org/big"]))
    assert "no model org/mispelt" in str(needs.lacking(["org/mispelt"]))
    assert needs.lacking(["org/small"]) is None
    assert needs.lines() == []


def test_a_hub_that_is_silent_is_asked_once() -> None:
    class Silent(MockHub):
        def missing_bytes(self, model: str) -> int:
            self.asked.append(model)
            raise module.NoAnswer(model, "could not be downloaded (no network)")

    hub = Silent()
    needs = needing(hub, "org/one", "org/two")
    needs.look_up()
    assert hub.asked == ["org/one"]
    assert needs.lacking(["org/two"]) == (
        "org/two is not in the hub's cache on this machine, and could not be downloaded "
        "(no network)"
    )


# ---- through the plugin


ARGS = ("-p", "no:cacheprovider", "-p", "no:randomly", "--rllm-engine=mock")
FINDINGS = """
import pytest
from pytest_rllm import ACCURACY, Sampling, Serving, finding, higher, pp

def measured(compare, dataset, workload, first, against=Serving(), tier="easy", n=8):
    compare(
        first, against=against, prompts=dataset(tier, n=n), workload=workload.closed(4),
        sampling=Sampling(8), blocks=(2, 4),
    ).shows(higher(ACCURACY, by=pp(10)))

@finding("One.", cite="none")
def test_plain(compare, dataset, workload, model):
    measured(compare, dataset, workload, Serving(), Serving(model="plain"))

@finding("Two.", cite="none")
@pytest.mark.parametrize("kind", ["draft", "ngram"])
def test_drafts(compare, dataset, workload, model, kind):
    measured(compare, dataset, workload, Serving(speculative=kind))

@finding("Three.", cite="none")
def test_knowledge(compare, dataset, workload, model):
    measured(compare, dataset, workload, Serving(prefix_caching=True), tier="knowledge")

@finding("Four.", cite="none")
def test_many(compare, dataset, workload, model):
    measured(compare, dataset, workload, Serving(prefix_caching=True), tier="hard", n=9)
"""
OWN = """
@pytest.fixture
def served():
    return Serving(prefix_caching=True)

@pytest.fixture
def own(compare, dataset, workload, served):
    return lambda: measured(compare, dataset, workload, served)

@finding("Five.", cite="none")
def test_own(model, compare, own):
    own()

@finding("Six.", cite="none")
def test_elsewhere(compare, dataset, workload, model, tmp_path):
    measured(compare, dataset, workload, Serving(prefix_caching=True))
"""
UPGRADE = """
from pytest_rllm import ACCURACY, Serving, no_worse, pp, upgrade

@upgrade("Both builds are right as often.")
def test_right(compare_builds, dataset, workload):
    compare_builds(
        Serving(), prompts=dataset("easy", n=60), workload=workload.closed(4)
    ).shows(no_worse(ACCURACY, within=pp(5)))
"""
PAIR = """
reasoning = "org/thinker"
plain = "org/talker"
draft = "org/drafter"
context_length = 4096
[budgets]
short = 64
enough = 512
generous = 1024
fixed_length = 128
[tiers]
easy.dataset = "bundled-easy"
hard = { file = "hard.jsonl", question = "q", answer = "a" }
knowledge.dataset = "gpqa"
"""
ROWS = "\n".join(f'{{"q": "What is {i} + 1?", "a": "{i + 1}"}}' for i in range(5))


@pytest.fixture
def hub(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MockHub:
    """The mock hub that sessions ask, and a folder with findings and a pair of model ids."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("RLLM_CACHE", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    (pytester.path / "test_asked.py").write_text(FINDINGS)
    (pytester.path / "mine.toml").write_text(PAIR)
    (pytester.path / "hard.jsonl").write_text(ROWS)
    hub = MockHub(sizes={"org/thinker": 3.5, "org/talker": 2.5})
    monkeypatch.setattr(module, "Hub", lambda: hub)
    mock_engines(monkeypatch, MockSource(twice), {"mock": ENGINE})
    monkeypatch.setattr(Pool, "__init__", lambda *_, **__: pytest.fail("a server is asked for"))

    def gated(*_: object, **__: object) -> None:
        hub.data.append("gpqa")
        raise DataMissing("data set 'gpqa' is gated: accept its terms", "gpqa")

    monkeypatch.setattr(published, "_rows", gated)
    return hub


LEFT_OUT = [
    "not measured: asked ?drafts-mine-draft?: there is no model org/drafter on the mock hub",
    "not measured: asked ?knowledge-mine?: data set 'gpqa' is gated: accept its terms",
    "not measured: asked ?many-mine?: 9 questions of *hard.jsonl* were asked for, it has 5: *",
]
DOWNLOADS = [
    "downloads before anything is measured: 2 models, 6.0 GiB; 1000.0 GiB are free in /mock/hub",
    "to be downloaded: org/thinker, 3.5 GiB, 2 cases",
    "to be downloaded: org/talker, 2.5 GiB, 1 case",
]


def test_a_session_says_what_is_missing_downloads_the_rest_and_skips_exactly_these_cases(
    pytester: pytest.Pytester, hub: MockHub
) -> None:
    result = pytester.runpytest_inprocess(*ARGS, "--rllm-model=mine.toml", "-rs")
    result.stdout.fnmatch_lines(["collected 5 items", *DOWNLOADS, *LEFT_OUT, "test_asked.py *"])
    assert hub.fetched == ["org/thinker", "org/talker"]
    assert sorted(set(hub.asked)) == ["org/drafter", "org/talker", "org/thinker"]
    assert (len(hub.asked), hub.data) == (3, ["gpqa"]), "each is asked for once"
    shown = result.stdout.str()
    for title in ("drafts-mine-draft", "knowledge-mine", "many-mine"):
        assert f"asked [{title}]" in shown
    result.stdout.fnmatch_lines(["3 skip, *"])
    shown = shown.partition("= findings =")[2]
    for title in ("drafts-mine-ngram", "plain-mine"):
        assert f"asked [{title}]\n  accuracy" in shown, "the others are measured"


def test_a_plan_says_the_same_and_downloads_nothing(
    pytester: pytest.Pytester, hub: MockHub
) -> None:
    result = pytester.runpytest_inprocess(*ARGS, "--rllm-model=mine.toml", "--rllm-plan")
    result.stdout.fnmatch_lines([*LEFT_OUT, *DOWNLOADS])
    assert hub.fetched == []
    assert result.parseoutcomes() == {"planned": 5}


@pytest.mark.parametrize("args", [["--rllm-model=tiny"], ["--rllm-model=mine.toml", "--co"]])
def test_nothing_is_asked_for_the_bundled_pair_or_where_tests_are_only_listed(
    pytester: pytest.Pytester, hub: MockHub, args: list[str]
) -> None:
    hub.holds = lambda _: pytest.fail("the hub's cache is asked")  # type: ignore[method-assign]
    result = pytester.runpytest_inprocess(*ARGS, *args, "-k", "plain")
    result.stdout.no_fnmatch_line("*download*")
    result.stdout.fnmatch_lines(["*accuracy higher by 10 pp*" if "--co" not in args else "*plain*"])


def test_the_gate_needs_the_models_of_what_it_starts(
    pytester: pytest.Pytester, hub: MockHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = DeclaringEngine("old 1")
    there.build = Build("http://old", url="http://old")
    mock_engines(monkeypatch, MockSource(twice), {"mock": ENGINE, "mock@http://old": there})
    (pytester.path / "test_asked.py").write_text(UPGRADE)
    args = (*ARGS, "--rllm-against=mock@http://old", "--rllm-model=mine.toml", "--rllm-plan")
    result = pytester.runpytest_inprocess(*args, "--rllm-model-name=m")
    result.stdout.fnmatch_lines(["to be downloaded: org/thinker, 3.5 GiB, 1 case"])
    assert hub.asked == ["org/thinker"]


def test_gpu_cases_that_this_machine_cannot_measure_are_not_looked_up(
    pytester: pytest.Pytester, hub: MockHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gpu, "why_not", "no NVIDIA GPU: none here")
    result = pytester.runpytest_inprocess(*ARGS, "--rllm-model=r1-distill-qwen-7b", "--rllm-plan")
    result.stdout.fnmatch_lines(["not measured: * cases: no NVIDIA GPU: none here"])
    assert hub.asked == []


def test_fixtures_of_a_findings_module_are_rehearsed_too(
    pytester: pytest.Pytester, hub: MockHub
) -> None:
    (pytester.path / "test_asked.py").write_text(FINDINGS + OWN)
    args = (*ARGS, "--rllm-model=mine.toml", "--rllm-plan", "-k", "test_own")
    result = pytester.runpytest_inprocess(*args)
    result.stdout.fnmatch_lines(["to be downloaded: org/thinker*"])
    result.stdout.no_fnmatch_line("*org/talker*")


def test_a_case_with_fixtures_from_elsewhere_needs_both_models_of_its_pair(
    pytester: pytest.Pytester, hub: MockHub
) -> None:
    (pytester.path / "test_asked.py").write_text(FINDINGS + OWN)
    args = (*ARGS, "--rllm-model=mine.toml", "--rllm-plan", "-k", "test_elsewhere")
    result = pytester.runpytest_inprocess(*args)
    result.stdout.fnmatch_lines(["to be downloaded: org/thinker*", "to be downloaded: org/talker*"])


def test_a_replay_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline: list[bool] = []

    def rows(*_: object, **__: object) -> None:
        offline.append(constants.HF_HUB_OFFLINE)
        raise DataMissing("data set 'gpqa' is not here", "gpqa")

    monkeypatch.setattr(published, "_rows", rows)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for replaying in (True, False):
        session = measuring(MockSource(twice), tmp_path, replaying=replaying)
        for _ in range(2):
            with pytest.raises(CannotMeasure, match="'gpqa' is not here"):
                asking(session, SEVEN)("knowledge", n=2)
        if replaying:
            assert session.engines.models_of(arm(), SEVEN) == []
    assert offline == [True, False]
    assert constants.HF_HUB_OFFLINE is False


def test_nothing_is_looked_up_for_cases_that_the_tier_leaves_out(
    pytester: pytest.Pytester, hub: MockHub
) -> None:
    args = (*ARGS, "--rllm-model=mine.toml", "--rllm-plan", "--rllm-tier=smoke")
    result = pytester.runpytest_inprocess(*args)
    result.stdout.fnmatch_lines(["not measured: * no part of --rllm-tier=smoke;*"])
    assert hub.asked == []


def test_a_rehearsal_has_everything_that_a_findings_body_may_use(tmp_path: Path) -> None:
    session = measuring(MockSource(twice), tmp_path)
    case = FindingCase("f", "a", "One.", "none", session, PAIRS["tiny"], Path("f/a"))
    assert tools(case).keys() >= {*JUDGES} - {"contract"}
    others = {"dataset", "engine", "gpu", "knee", "measure", "model", "workload"}
    assert tools(case).keys() >= others


def test_a_wish_is_told_in_gib() -> None:
    needs = Needs(MockHub(sizes={"org/one": 1.0}))
    needs.note("a [x]", ["org/one"])
    needs.look_up()
    assert needs.missing == {"org/one": GIB}
    assert replace(needs, wanted={}).lines() == []
