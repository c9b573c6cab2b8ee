"""The mock engine: seeded answers, right as often as it is told, and faults on demand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.error import HTTPError

import pytest

from pytest_rllm.datasets.grading import grade
from pytest_rllm.datasets.prompts import Prompt, choose, load
from pytest_rllm.engines import engine_named
from pytest_rllm.engines.http import ask
from pytest_rllm.engines.mock.answers import Author, Key
from pytest_rllm.engines.mock.engine import MockEngine
from pytest_rllm.engines.mock.server import METRICS
from pytest_rllm.engines.pool import Pool
from pytest_rllm.engines.server import Server
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling
from pytest_rllm.models import PAIRS
from pytest_rllm.records.sse import Stream, parse

TINY = PAIRS["tiny"]
EASY = load("bundled-easy")[:40]
HARD = load("bundled-hard")[:40]
FREE = Sampling(1024, temperature=0)
QUICK = ("--seconds-per-token", "0", "--first-token-s", "0")

Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with Pool(tmp_path_factory.mktemp("servers")) as pool:

        def start(*flags: str, **more: object) -> Server:
            serving = Serving(flags=(*QUICK, *flags), **more)  # type: ignore[arg-type]
            return pool.serve(MockEngine(), serving, TINY)

        yield start


def answered(server: Server, prompt: Prompt, sampling: Sampling = FREE) -> Stream:
    body = server.engine.body(prompt, sampling)
    return parse([(0.0, ask(f"{server.url}/v1/chat/completions", body))])


def right(server: Server, prompts: Sequence[Prompt]) -> float:
    """Share of right answers, graded as a finding grades them."""
    grades = [
        grade(answered(server, p).deltas.text("content"), p.answer, p.kind, "stop") for p in prompts
    ]
    return grades.count("right") / len(grades)


def test_it_says_that_it_is_a_mock() -> None:
    engine = engine_named("mock")
    assert engine.version() == engine.distribution == engine.name == "mock"
    assert engine.label == "mock engine"
    assert engine.capabilities.is_mock
    assert not engine_named("vllm").capabilities.is_mock
    assert engine.on_cpu


def test_its_server_loads_nothing_but_the_standard_library() -> None:
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, pytest_rllm.engines.mock.server\n"
            "print(*sorted({name.partition('.')[0] for name in sys.modules}))",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    others = {"numpy", "scipy", "torch", "vllm", "pytest", "prometheus_client", "psutil"}
    assert not others & set(loaded)


def test_greedy_answers_are_the_same_and_others_are_drawn_anew(serve: Serve) -> None:
    server = serve()
    greedy = {answered(server, EASY[0]).deltas.text() for _ in range(3)}
    drawn = {answered(server, EASY[0], Sampling(1024)).deltas.text() for _ in range(3)}
    assert len(greedy) == 1
    assert len(drawn) == 3


@pytest.mark.parametrize(("accuracy", "low", "high"), [("0", 0, 0), ("0.5", 0.2, 0.8), ("1", 1, 1)])
def test_it_is_right_as_often_as_it_is_told(
    serve: Serve, accuracy: str, low: float, high: float
) -> None:
    assert low <= right(serve("--accuracy", accuracy), EASY) <= high


def test_the_plain_model_is_less_often_right_and_does_not_reason(serve: Serve) -> None:
    plain = serve("--accuracy", "1", model="plain")
    assert right(plain, EASY) < 1
    assert answered(plain, EASY[0]).deltas.fields == ("content",)
    assert answered(serve(), EASY[0]).deltas.fields == ("reasoning_content", "content")


def test_hard_questions_take_longer(serve: Serve) -> None:
    lengths = [
        sum(answered(serve(), prompt).usage["completion_tokens"] for prompt in prompts)
        for prompts in (EASY[:10], HARD[:10])
    ]
    assert lengths[1] > 2 * lengths[0]


def test_a_budget_cuts_an_answer_off(serve: Serve) -> None:
    stream = answered(serve(), HARD[0], Sampling(5))
    assert (stream.finish_reason, stream.usage["completion_tokens"]) == ("length", 5)
    assert answered(serve(), HARD[0]).finish_reason == "stop"


def test_another_client_may_give_it_the_answers(serve: Serve, tmp_path: Path) -> None:
    """One that does not know the mock cannot tell it the right answer with the question."""
    file = tmp_path / "answers.json"
    file.write_text(json.dumps({"How much?": 7}))
    body = {"messages": [{"role": "user", "content": "How much?"}], "temperature": 0}
    server = serve("--accuracy", "1", "--answers", str(file))
    answer = json.loads(ask(f"{server.url}/v1/chat/completions", body))
    assert answer["choices"][0]["message"]["content"] == "The answer is \\boxed{7}."


def test_the_beginning_of_a_conversation_is_found_in_its_cache(serve: Serve) -> None:
    server = serve("--seed", "5", prefix_caching=True)
    one, other = choose(TINY.tiers, "easy", n=2, shots=3)
    hits = [
        answered(server, prompt).usage["prompt_tokens_details"]["cached_tokens"]
        for prompt in (one, other, other)
    ]
    shared = sum(len(text.split()) for turn in one.before for text in turn)
    assert hits == [0, shared, shared + len(other.text.split()) - 1]


def test_a_key_that_is_not_known_is_never_met() -> None:
    said = Author(accuracy=1).write("Nobody knows.")
    assert said.answer[3] == " \\boxed{"
    key = Key(said.answer[4], "easy")
    assert Author(accuracy=1).write("Nobody knows.", key).answer[4] == key.answer
    assert Author(accuracy=0).write("Nobody knows.", key).answer[4] != key.answer


def test_the_pace_is_kept(serve: Serve) -> None:
    """Later is possible on a busy machine, earlier is not."""
    from time import monotonic

    server = serve("--seconds-per-token", "0.01", "--first-token-s", "0.1")
    begun = monotonic()
    answered(server, EASY[0], Sampling(20, fixed_length=True))
    assert monotonic() - begun >= 0.1 + 19 * 0.01


def test_quantisation_shows_in_log_probabilities_and_the_cache_in_its_capacity(
    serve: Serve,
) -> None:
    engine = MockEngine()
    body = engine.greedy_body("?", 8, log_probabilities=True)
    told = []
    for server in (serve(), serve(kv_cache_dtype="fp8"), serve(quantization="int4")):
        answer = json.loads(ask(f"{server.url}/v1/chat/completions", body))
        page = engine.read_metrics(ask(f"{server.url}/metrics").decode(), server.serving)
        told.append((engine.log_probabilities(answer), page.values["kv_capacity_tokens"]))
    assert told[0][0] != told[1][0] != told[2][0] != told[0][0]
    assert [room for _, room in told] == [6400, 12800, 6400]


# ---- faults


def test_a_share_of_the_streams_fails(serve: Serve) -> None:
    server, failed = serve("--fail-share", "0.2"), []
    for prompt in EASY[:20]:
        try:
            answered(server, prompt)
        except HTTPError as error:
            failed.append((error.code, json.loads(error.read())["error"]["message"]))
    assert failed == [(500, "a fault that --fail-share asks for")] * 4


def test_a_share_of_the_streams_is_empty(serve: Serve) -> None:
    streams = [answered(serve("--empty-share", "0.1"), prompt) for prompt in EASY[:20]]
    empty = [stream for stream in streams if not len(stream.deltas)]
    assert len(empty) == 2
    assert {(stream.finish_reason, stream.error) for stream in empty} == {("stop", None)}


def test_reasoning_may_come_in_a_field_that_nobody_knows(serve: Serve) -> None:
    stream = answered(serve("--reasoning-field", "thoughts"), EASY[0])
    assert "thoughts" in stream.fields
    assert set(stream.deltas.fields) == {"thoughts", "content"}


def test_a_metric_may_be_left_out_and_costs_no_other(serve: Serve) -> None:
    server = serve("--without-metric", METRICS["kv_use"])
    page = server.engine.read_metrics(ask(f"{server.url}/metrics").decode(), server.serving)
    assert page.missing.keys() == {"kv_use"}
    assert (
        "mock:kv_cache_used_ratio is not in /metrics of the mock engine" in page.missing["kv_use"]
    )
    assert "there are mock:" in page.missing["kv_use"]
    assert {"running", "preemptions", "generation_tokens"} <= page.values.keys()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [("/nowhere", None, 404), ("/v1/chat/completions", {"messages": []}, 400)],
)
def test_what_it_does_not_understand_is_refused(
    serve: Serve, path: str, body: dict[str, object] | None, status: int
) -> None:
    with pytest.raises(HTTPError) as caught:
        ask(serve().url + path, body)
    assert caught.value.code == status


def test_a_flag_that_is_none_says_which_there_are(serve: Serve) -> None:
    from pytest_rllm.engines.base import EngineError

    with pytest.raises(EngineError, match=r"unrecognized arguments: --no-such-flag") as caught:
        serve("--no-such-flag")
    assert "--fail-share" in str(caught.value)
