"""The bundled reference server: its responses, their schedule, and the times in their texts."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlparse

import pytest

from pytest_rllm.datasets.prompts import Prompt
from pytest_rllm.engines.vllm import ALWAYS, VllmEngine
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, together
from pytest_rllm.loadgen.client import Request
from pytest_rllm.loadgen.reference_server import Running, Script, running, truth
from pytest_rllm.loadgen.run import drive
from pytest_rllm.records.header import Header
from pytest_rllm.records.run import Run
from pytest_rllm.records.sse import events, parse
from pytest_rllm.records.writer import RunWriter


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running("--gap-s", "0.002", "--metrics-bytes", "80000") as server:
        yield server


def streamed(
    server: Running, path: str = "/v1/chat/completions", raw: bool = False, **more: Any
) -> list[Any]:
    """The events of one response, with the arrival of each (monotonic s)."""
    body = {
        "model": "under-test",
        "messages": [{"role": "user", "content": "how far?"}],
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        **more,
    }
    url = urlparse(server.url)
    assert url.port
    with socket.create_connection(("127.0.0.1", url.port)) as client:
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        client.sendall(head.encode() + data)
        got: list[tuple[float, bytes]] = []
        while not got or not got[-1][1].endswith(b"0\r\n\r\n"):
            data = client.recv(1 << 20)
            assert data
            got.append((time.monotonic(), data))
    if raw:
        return got
    text = b"".join(data for _, data in got).partition(b"\r\n\r\n")[2]
    plain = b""
    while text:  # the body's chunks
        size, _, text = text.partition(b"\r\n")
        plain += text[: int(size, 16)]
        assert text[int(size, 16) :].startswith(b"\r\n")
        text = text[int(size, 16) + 2 :]
    return [event.data for event in events([(0.0, plain)])]


def ask(server: Running, method: str, path: str, body: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlparse(server.url).netloc, timeout=10)
    connection.request(method, path, body)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def driven(server: Running, tmp_path: Any, timing: dict[str, Any], n: int = 4) -> Run:
    prompt = Prompt("q", "how far?", "1", "easy", "math", "t")
    body = VllmEngine().body(prompt, Sampling(10_000)) | {"timing": timing}
    with RunWriter(tmp_path / "run.jsonl", Header()) as writer:
        return drive(server.url, [Request(prompt, body)] * n, together(), writer)


def test_a_response_has_the_events_of_an_engine(server: Running) -> None:
    *chunks, last = streamed(server, timing={"reasoning": 2, "answer": 3, "tokens": 4})
    assert last == b"[DONE]"
    role, *deltas, usage = map(json.loads, chunks)
    assert {event["object"] for event in (role, *deltas, usage)} == {"chat.completion.chunk"}
    assert len({event["id"] for event in (role, *deltas, usage)}) == 1
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    fields = [next(iter(event["choices"][0]["delta"])) for event in deltas]
    assert fields == ["reasoning"] * 2 + ["content"] * 3
    assert [event["usage"]["completion_tokens"] for event in deltas] == [4, 8, 12, 16, 20]
    assert [event["choices"][0]["finish_reason"] for event in deltas] == [None] * 4 + ["length"]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 20
    assert usage["usage"]["total_tokens"] == 20 + usage["usage"]["prompt_tokens"]


def test_usage_comes_when_it_is_asked_for(server: Running) -> None:
    *chunks, last = streamed(server, timing={"answer": 3}, stream_options={"include_usage": True})
    assert last == b"[DONE]"
    assert ["usage" in json.loads(chunk) for chunk in chunks] == [False] * 4 + [True]
    assert not any(b"usage" in chunk for chunk in streamed(server, stream_options=None))


def test_completions_are_streamed_too(server: Running) -> None:
    *chunks, _, last = streamed(server, "/v1/completions", timing={"answer": 3}, prompt="how far?")
    assert last == b"[DONE]"
    contents = [json.loads(chunk) for chunk in chunks]
    assert {content["object"] for content in contents} == {"text_completion"}
    assert len(truth("".join(content["choices"][0]["text"] for content in contents))) == 3


def test_texts_are_the_times_at_which_they_were_sent(server: Running, tmp_path: Any) -> None:
    before = time.monotonic()
    run = driven(server, tmp_path, {"reasoning": 5, "answer": 20, "think_s": 1.0, "first_s": 0.05})
    after = time.monotonic()
    for sample in run.samples:
        assert sample.error is None
        at = truth("".join(delta.text for delta in sample.deltas))
        assert len(at) == 25
        assert before < at[0] and at == sorted(at) and at[-1] < after  # noqa: PT018
        assert at[5] - at[4] > 0.9, "the pause of 1 s, less what the fifth delta was late"
        # Both clocks are one with two starts, so all deltas have the same difference, but for the
        # time between sending and arrival. A time of another delta would be wrong by the pause.
        offsets = [there - delta.at_s for there, delta in zip(at, sample.deltas, strict=True)]
        assert max(offsets) - min(offsets) < 0.5
        assert sample.first_visible_s == sample.deltas[5].at_s


def test_truth_refuses_a_text_that_was_cut_short() -> None:
    assert truth("00001234.500000 00001235.000001 ") == [1234.5, 1235.000001]
    assert truth("") == []
    with pytest.raises(ValueError, match="cut short"):
        truth("00001234.500000 00001235.00")
    with pytest.raises(ValueError, match="could not convert"):
        truth("it is 16 letters")


def test_one_write_carries_several_events_and_one_time(server: Running) -> None:
    got = streamed(server, raw=True, timing={"answer": 10, "events": 4, "gap_s": 0.05})
    carried = [data.count(b'"content":"0') for _, data in got]
    assert [n for n in carried if n] == [4, 4, 2]
    chunks = streamed(server, timing={"answer": 10, "events": 4})
    stream = parse([(0.0, b"".join(b"data: " + chunk + b"\n\n" for chunk in chunks))])
    assert stream.error is None
    assert [delta.tokens for delta in stream.deltas] == [1] * 10
    at = truth("".join(delta.text for delta in stream.deltas))
    assert len(set(at)) == 3
    assert at[0] == at[3] < at[4] == at[7] < at[8]


@pytest.mark.parametrize("gaps", ["fixed", "exponential"])
def test_a_schedule_follows_from_seed_and_number(gaps: Any) -> None:
    script = Script(answer=2000, gap_s=0.01, gaps=gaps, first_s=1.0, spread_s=0.5, seed=3)
    times = script.schedule(7)
    assert times == script.schedule(7)
    assert times != script.schedule(8)
    assert times != Script(**{**vars(script), "seed": 4}).schedule(7)
    assert 1.0 <= times[0] < 1.5
    assert times == sorted(times)
    assert (times[-1] - times[0]) / 1999 == pytest.approx(0.01, rel=0.1)


def test_a_schedule_pauses_between_reasoning_and_answer() -> None:
    script = Script(reasoning=4, answer=4, first_s=1.0, gap_s=0.5, think_s=10.0, events=2)
    assert script.schedule() == [1.0, 1.5, 12.0, 12.5]
    assert Script(answer=3, first_s=1.0, gap_s=0.5, think_s=10.0).schedule() == [1.0, 1.5, 2.0]


def test_a_schedule_may_climb_a_ladder_of_rates() -> None:
    script = Script(answer=2801, first_s=0.0, gap_s=0.01, stage_s=4.0, growth=2.0)
    times = script.schedule()
    counts = [sum(begin <= at < begin + 4 for at in times) for begin in (0.0, 4.0, 8.0)]
    assert counts == pytest.approx([400, 800, 1600], abs=1)
    assert times[-1] == pytest.approx(12.0)
    climbing = Script(
        answer=2801, first_s=0.0, gap_s=0.01, gaps="exponential", stage_s=4.0, growth=2
    )
    assert climbing.schedule()[-1] == pytest.approx(12.0, rel=0.2)


def test_responses_in_step_share_a_grid(server: Running, tmp_path: Any) -> None:
    step_s = 0.1
    timing = {"answer": 8, "gap_s": step_s, "gaps": "steps", "spread_s": 2 * step_s}
    run = driven(server, tmp_path, timing)
    late = sorted(
        at % step_s for s in run.samples for at in truth("".join(delta.text for delta in s.deltas))
    )
    assert len(late) == 32
    # Without the grid the median would be half a step; a busy machine adds to 0.
    assert late[16] < step_s / 5


def test_a_request_may_set_the_number_of_tokens(server: Running) -> None:
    def deltas(**more: Any) -> tuple[int, int]:
        fields = b"".join(streamed(server, **more))
        return fields.count(b'"reasoning":"'), fields.count(b'"content":"0')

    timing = {"reasoning": 3, "answer": 4, "tokens": 2}
    assert deltas(timing=timing, max_tokens=100) == (3, 4)
    assert deltas(timing=timing, max_tokens=100, ignore_eos=True) == (3, 47)
    assert deltas(timing=timing, max_completion_tokens=4) == (2, 0)


def test_the_script_of_all_further_requests_can_be_set_and_read() -> None:
    with running("--answer", "5") as server:
        assert b"".join(streamed(server)).count(b'"content":"0') == 5
        report = json.loads(ask(server, "GET", "/timing")[1])
        assert (report["responses"], report["deltas"], report["blocked"]) == (1, 5, 0)
        assert report["script"]["answer"] == 5
        status, text = ask(server, "POST", "/timing", json.dumps({"answer": 2}))
        assert (status, json.loads(text)["deltas"]) == (200, 0)
        assert b"".join(streamed(server)).count(b'"content":"0') == 2


@pytest.mark.parametrize(
    "body", ["{", "[]", '{"stream": true, "timing": {"gap": 1}}', '{"stream": false}', '"x"']
)
def test_a_wrong_request_is_refused_with_its_reason(server: Running, body: str) -> None:
    status, text = ask(server, "POST", "/v1/chat/completions", body)
    assert status == 400
    assert json.loads(text)["error"]["message"]


@pytest.mark.parametrize(
    "wrong", [{"gap_s": -1}, {"answer": 0}, {"tokens": 0}, {"gaps": "wild"}, {"events": 0}]
)
def test_an_invalid_script_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"script|gaps|steps"):
        Script(**wrong)


def test_pages_beside_the_streams(server: Running) -> None:
    assert ask(server, "GET", "/health") == (200, "")
    assert json.loads(ask(server, "GET", "/v1/models")[1])["data"][0]["id"] == "under-test"
    assert ask(server, "GET", "/nowhere")[0] == 404
    before = VllmEngine().read_metrics(ask(server, "GET", "/metrics")[1], Serving()).values
    assert set(before) == set(ALWAYS)
    streamed(server, timing={"answer": 10, "tokens": 3})
    page = ask(server, "GET", "/metrics")[1]
    assert 79_000 < len(page) < 81_000
    after = VllmEngine().read_metrics(page, Serving()).values
    assert after["generation_tokens"] - before["generation_tokens"] == 30


def test_the_server_waits_for_a_client_that_does_not_read(server: Running) -> None:
    """The kernel accepts some MB; texts that are sent after a pause have later times."""
    url = urlparse(server.url)
    assert url.port
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", url.port))
        body = json.dumps(
            {"stream": True, "messages": [], "timing": {"answer": 40_000, "gap_s": 0}}
        )
        client.sendall(
            f"POST /v1/chat/completions x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        deadline = time.monotonic() + 30
        while not json.loads(ask(server, "GET", "/timing")[1])["blocked"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        resumed, text = time.monotonic(), b""
        while not text.endswith(b"0\r\n\r\n"):
            data = client.recv(1 << 20)
            assert data
            text += data
    assert text.count(b'"content":"0') == 40_000
    at = truth(text[text.rindex(b'"content":"0') + 11 :][:16].decode())
    assert at[0] > resumed
    assert streamed(server, timing={"answer": 2})[-1] == b"[DONE]"


def test_a_client_may_hang_up(server: Running) -> None:
    url = urlparse(server.url)
    assert url.port
    with socket.create_connection(("127.0.0.1", url.port)) as client:
        body = json.dumps({"stream": True, "messages": [], "timing": {"answer": 1000}})
        client.sendall(
            f"POST /v1/chat/completions x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        assert client.recv(4096)
    assert streamed(server, timing={"answer": 2})[-1] == b"[DONE]"
    deadline = time.monotonic() + 10
    page = "vllm:num_requests_running"
    while (
        f'{page}{{engine="0",model_name="under-test"}} 0.0' not in ask(server, "GET", "/metrics")[1]
    ):
        assert time.monotonic() < deadline


def test_it_ends_with_its_input_and_on_sigterm() -> None:
    for how in ("close", "term"):
        command = [sys.executable, "-m", "pytest_rllm.loadgen.reference_server"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin
        assert process.stdout
        assert json.loads(process.stdout.readline())["pid"] == process.pid
        if how == "close":
            process.stdin.close()
        else:
            os.kill(process.pid, signal.SIGTERM)
        assert process.wait(10) == 0
        process.stdout.close()
        process.stdin.close()


def test_its_help_names_the_command_that_starts_it() -> None:
    command = [sys.executable, "-m", "pytest_rllm.loadgen.reference_server", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert text.startswith("usage: python -m pytest_rllm.loadgen.reference_server ")


def test_it_serves_on_without_an_input() -> None:
    command = [sys.executable, "-m", "pytest_rllm.loadgen.reference_server"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert select.select([process.stdout], [], [], 30)[0]
        url = json.loads(process.stdout.readline())["url"]
        assert ask(Running(url, process.pid), "GET", "/health") == (200, "")
        process.terminate()
