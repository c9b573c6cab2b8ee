"""Streams that went wrong somewhere: what is understood of each body in tests/faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_rllm.__main__ import main
from pytest_rllm.datasets.prompts import Prompt
from pytest_rllm.records.header import Header
from pytest_rllm.records.run import Sample
from pytest_rllm.records.sse import parse
from pytest_rllm.records.writer import RunWriter

BODIES: dict[str, str] = json.loads(
    (Path(__file__).parent / "faults" / "streams.json").read_text("utf-8")
)


@dataclass(frozen=True)
class Expected:
    """What should come of one body; tokens are None where they are unknown."""

    output: int | None
    reasoning: int | None
    visible: int | None
    answer: str = "It is 7"
    thoughts: str = "Let me see. 3+4."
    finish: str | None = "stop"
    cause: str | None = None
    per_delta: tuple[int | None, ...] = ()
    remarks: tuple[str, ...] = ()
    more: tuple[str, ...] = ()


USUAL = Expected(9, 6, 3, per_delta=(3, 3, 2, 1))
WHOLE_ONLY = "an answer is whole with stop or length only"
ZERO = (
    "its running usage cannot be right in 1 of 1 answers, the first: it stayed at 0 while text came"
)


def failed(cause: str) -> Expected:
    return Expected(0, 0, 0, "", "", None, cause)


EXPECTED = {
    "s01_empty_data_keepalive": USUAL,
    "s02_control_only_events": USUAL,
    "s03_llamacpp_error_field": failed("error in the stream: prompt of 9000 tokens does not fit"),
    "s04_finish_reason_abort": Expected(
        *(7, 6, 1, "It"),
        finish="abort",
        cause=f"finish reason 'abort'; {WHOLE_ONLY}",
        per_delta=(3, 3, 1),
    ),
    "s04b_finish_reason_error": Expected(
        *(7, 6, 1, "It"),
        finish="error",
        cause=f"finish reason 'error'; {WHOLE_ONLY}",
        per_delta=(3, 3, 1),
    ),
    "s05_done_without_space": USUAL,
    "s06_content_is_a_list_of_parts": Expected(9, None, None, per_delta=(None,) * 4),
    "s07_reasoning_details_only": Expected(9, 6, 3, per_delta=(None,) * 4),
    "s07c_reasoning_and_details": Expected(9, None, None, per_delta=(None,) * 3),
    "s08_usage_inside_the_choice": Expected(9, None, None, per_delta=(None,) * 3),
    "s09_usage_on_the_finish_delta": Expected(9, None, None, per_delta=(None,) * 3),
    "s10_usage_zero_until_the_end": Expected(
        9, None, None, per_delta=(None,) * 4, more=(f"TBT unknown: {ZERO}",)
    ),
    "s10c_usage_zero_until_usage_only_chunk": Expected(
        9, None, None, per_delta=(None,) * 4, more=(f"TBT unknown: {ZERO}",)
    ),
    "s11_no_usage_at_all": Expected(None, None, None, per_delta=(None, None)),
    "s12_raw_line_separators_in_json": Expected(
        9, 6, 3, "a\u2028b\u2029c\x85d 7", per_delta=(3, 3, 2, 1)
    ),
    "s14_error_event_before_first_token": failed(
        "error in the stream: prompt too long for this model"
    ),
    "s14b_error_object_without_error_key": failed("error in the stream: prompt too long"),
    "s14c_error_is_a_text_with_type": failed("error in the stream: generation broke off"),
    "s16_role_event_long_before": Expected(2, 1, 1, "7", "Okay", per_delta=(1, 1)),
    "s17_content_empty_string_while_reasoning": USUAL,
    "s20_last_event_without_blank_line": Expected(9, 6, 3, per_delta=(3, 3, 3)),
    "s21_choices_null_usage": Expected(9, 6, 3, per_delta=(3, 3, 3)),
    "s21b_no_choices_key": Expected(9, 6, 3, per_delta=(3, 3, 3)),
    "s23_byte_order_mark": Expected(9, 3, 6, thoughts="Let me see.", per_delta=(3, 5, 1)),
    "s24_reasoning_and_content_in_one_delta": Expected(9, None, None, per_delta=(3, 5, 0, 1)),
    "s25_crlf_and_comments": USUAL,
    "s26_two_choices_interleaved": Expected(
        *(2, 0, 2, "A1", "", None),
        "the stream holds choice 1, and only choice 0 is asked for: its tokens cannot be told from "
        "those of the others (ask for n = 1)",
        per_delta=(1,),
    ),
    "s27_content_after_finish": Expected(
        *(9, 6, 3, "It is"),
        per_delta=(3, 3, 2),
        remarks=("text after the finish reason is left out: ' 7'",),
    ),
    "s28_finish_reason_in_content_chunk": USUAL,
    "s29_tool_call_deltas": Expected(9, 6, 0, "", finish="tool_calls", per_delta=(3, 3, 2, 1)),
    "s32_finish_reason_content_filter": Expected(
        *(6, 6, 0, ""),
        finish="content_filter",
        cause=f"finish reason 'content_filter'; {WHOLE_ONLY}",
        per_delta=(3, 3),
    ),
    "s33_json_error_body_at_200": failed(
        "the server answered in JSON, not by a stream of events: model is loading"
    ),
    "s34_inline_reasoning_without_opening_tag_cut": Expected(
        *(11, 11, 0, "", "", "length"),
        per_delta=(3, 6, 2),
        more=("outcome: finished, cut off at its limit of tokens, no visible answer",),
    ),
    "s35_answer_mentions_the_tag": Expected(
        14, 6, 8, "Put it before </think> so: \\boxed{7}", per_delta=(3, 3, 3, 5)
    ),
    "s41_tokens_and_no_text": Expected(
        *(12, None, None, "", ""),
        per_delta=(3, 4, 5),
        more=("outcome: finished, no visible answer, though it ended with stop",),
    ),
    "s42_usage_null_until_the_end": Expected(
        9, None, None, thoughts="Let me see.", per_delta=(None, None)
    ),
    "s44_id_on_every_event_then_comment_and_blank_lines": Expected(
        4, 3, 1, "7", "Let me see.", per_delta=(3, 1)
    ),
    "s46_double_finish": Expected(
        *(7, 6, 1, "7"),
        per_delta=(3, 3, 1),
        remarks=("finish reason 'length' after 'stop': the first one counts",),
    ),
    "s47_done_twice": Expected(7, 6, 1, "7", per_delta=(3, 3, 1)),
    "s48_timings_and_nan": Expected(7, 6, 1, "7", per_delta=(3, 3, 1)),
    "s49_logprobs_minus_infinity": Expected(7, 6, 1, "7", per_delta=(3, 3, 1)),
    "s50_data_lines_with_single_newlines": failed(
        "6 data lines without a blank line between them are one event, which cannot be read: the "
        "server leaves out the blank lines that end events"
    ),
}
EXPECTED["s11_no_usage_at_all"] = Expected(
    None, None, None, thoughts="Let me see.", per_delta=(None, None)
)
OPENED = ("s34_inline_reasoning_without_opening_tag_cut",)
"""Those whose chat template opens the reasoning."""


Explain = Callable[..., tuple[int, str]]


@pytest.fixture
def explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Explain:
    """Run the command on a body; gives the exit status and what it printed."""

    def explaining(name: str, *options: str) -> tuple[int, str]:
        file = tmp_path / f"{name}.sse"
        file.write_bytes(BODIES[name].encode())
        opened = ["--reasoning-opened"] if name in OPENED else []
        status = main(["explain", str(file), *opened, *options])
        return status, capsys.readouterr().out

    return explaining


def test_every_body_is_expected() -> None:
    assert BODIES.keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_understood_of_a_stream(name: str, explain: Explain) -> None:
    expected = EXPECTED[name]
    status, out = explain(name, "--json")
    said: dict[str, Any] = json.loads(out)
    assert said["outcome"] == ("failed" if expected.cause else "finished")
    assert status == (1 if expected.cause else 0)
    assert said["cause"] == expected.cause
    assert said["finish_reason"] == expected.finish
    assert (said["output_tokens"], said["reasoning_tokens"], said["visible_tokens"]) == (
        *(expected.output, expected.reasoning, expected.visible),
    )
    assert said["answer"] == expected.answer
    assert [delta["tokens"] for delta in said["deltas"]] == list(expected.per_delta)
    thoughts = [d["text"] for d in said["deltas"] if d["field"] in ("reasoning", "thinking")]
    others = [d["text"] for d in said["deltas"] if d["field"].startswith("reasoning_")]
    assert "".join(thoughts or others) == expected.thoughts
    assert not (thoughts and others), "the same reasoning was read twice"
    assert said["remarks"] == list(expected.remarks)
    assert said["contradiction"] is None


@pytest.mark.parametrize("name", EXPECTED)
def test_what_people_read_of_a_stream(name: str, explain: Explain) -> None:
    expected = EXPECTED[name]
    status, out = explain(name)
    assert status == (1 if expected.cause else 0)
    lines = out.splitlines()
    assert lines[-1].startswith(f"outcome: failed: {expected.cause}" if status else "outcome: fin")
    for remark in expected.remarks:
        assert f"note: {remark}" in lines
    for more in expected.more:
        start, _, end = more.partition(": ")
        assert any(start in line and line.endswith(end) for line in lines), out


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("page.html", b"<html>", "only files named .sse, .txt, .jsonl, .jsonl.xz are known here"),
        ("run.jsonl", b"{}\n", "broken line"),
        ("run.jsonl", b"", "empty; record it anew"),
        ("run.jsonl.xz", b"no xz", "broken as an xz file"),
        ("absent.sse", None, "cannot be read"),
    ],
)
def test_what_is_not_understood(
    name: str,
    content: bytes | None,
    why: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(["explain", str(tmp_path / name)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"not understood: {tmp_path / name}: ")
    assert why in told


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A record of three requests: one whole, one whose text came after its end, one that failed."""
    path = tmp_path / "run.jsonl"
    with RunWriter(path, Header(arm="A")) as writer:
        for at, name in enumerate(("s01_empty", "s27_content", "s04_finish")):
            body = next(text for key, text in BODIES.items() if key.startswith(name))
            events = body.encode().split(b"\n\n")
            stream = parse([(at + i / 10, event + b"\n\n") for i, event in enumerate(events)])
            prompt = Prompt(f"q{at}", "", "7", "easy", "word", f"q{at}")
            writer.sample(
                Sample(
                    *(prompt, float(at), float(at), at + 1.0, stream.deltas),
                    usage=stream.usage,
                    finish_reason=stream.finish_reason,
                    error=stream.error,
                    remarks=stream.remarks,
                )
            )
        writer.close({"planned": 3})
    return path


def test_a_record_is_told_request_by_request(
    record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(record)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("the record of 3 requests of A")
    assert lines[1].startswith("  q0: finished; output 9, reasoning 6, visible 3; TTFT 0.1 s, ")
    assert lines[3] == "    note: text after the finish reason is left out: ' 7'"
    assert lines[4].startswith("  q2: failed: finish reason 'abort'")
    assert lines[-1] == "2 would count, 1 would count as failed"


def test_one_answer_of_a_record_is_told_in_full(
    record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(record), "--request", "q0", "--json"]) == 0
    (said,) = json.loads(capsys.readouterr().out)["requests"]
    assert [delta["at_s"] for delta in said["deltas"]] == [0.1, 0.2, 0.5, 0.6]
    assert said["times"] == {"TTFT": 0.1, "TTFVT": 0.5, "TBT": 0.083333, "E2E": 1.0}
    assert main(["explain", str(record), "--request", "q9"]) == 2
