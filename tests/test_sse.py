"""The parser returns exactly the content of the bytes, however they are cut into chunks."""

from __future__ import annotations

import gzip
import json
import re
import time
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_rllm.records.deltas import Delta, Deltas
from pytest_rllm.records.sse import Stream, events, parse

ABORTED = "finish reason 'abort'; an answer is whole with stop or length only"
DONE = b"data: [DONE]\n\n"


def event(content: Any) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"


def choice(
    delta: dict[str, Any], *, used: int | None = None, finish: str | None = None, **choice: Any
) -> bytes:
    """One event with a choice, and the running usage when it is given."""
    content: dict[str, Any] = {
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **choice}]
    }
    if used is not None:
        content["usage"] = {"prompt_tokens": 5, "completion_tokens": used}
    return event(content)


END = choice({}, finish="stop")
WHOLE = b"".join(
    [
        choice({"role": "assistant", "content": ""}, used=0),
        b": a comment to keep the line open\n\n",
        choice({"reasoning": "Größe "}, used=2),
        choice({"reasoning": "π≈3 🙂"}, used=5),
        b"event: message\nid: 7\n" + choice({"content": "So: "}, used=6),
        choice({"content": "7 €"}, used=9),
        choice({}, used=9, finish="stop"),
        event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9}}),
        DONE,
    ]
)


def at_once(*parts: bytes) -> Stream:
    return parse([(1.0, b"".join(parts))])


def cut(data: bytes, places: Iterable[int]) -> list[tuple[float, bytes]]:
    """Chunks that arrive a second apart."""
    ends = [*sorted({p for p in places if 0 < p < len(data)}), len(data)]
    return [(float(i), data[a:b]) for i, (a, b) in enumerate(zip([0, *ends], ends, strict=False))]


def without_times(stream: Stream) -> tuple[object, ...]:
    deltas = [(d.field, d.tokens, d.text) for d in stream.deltas]
    return deltas, stream.finish_reason, stream.usage, stream.fields, stream.error


def test_a_whole_stream() -> None:
    stream = at_once(WHOLE)
    assert stream.error is None
    assert stream.finish_reason == "stop"
    assert stream.usage == {"prompt_tokens": 5, "completion_tokens": 9}
    assert stream.fields == {"role", "content", "reasoning"}
    assert stream.deltas == [
        Delta(1.0, "reasoning", 2, "Größe "),
        Delta(1.0, "reasoning", 3, "π≈3 🙂"),
        Delta(1.0, "content", 1, "So: "),
        Delta(1.0, "content", 3, "7 €"),
    ]


@given(
    st.lists(st.integers(1, len(WHOLE) + 60), max_size=60),
    st.sampled_from([b"\n", b"\r\n"]),
)
@example(list(range(len(WHOLE) + 60)), b"\n")
@example(list(range(len(WHOLE) + 60)), b"\r\n")
def test_where_the_bytes_are_cut_does_not_matter(places: list[int], newline: bytes) -> None:
    chunks = cut(WHOLE.replace(b"\n", newline), places)
    assert without_times(parse(chunks)) == without_times(at_once(WHOLE))


def test_an_event_arrives_with_the_chunk_that_completes_it() -> None:
    first, second = choice({"content": "a"}), choice({"content": "b"})
    chunks = [(1.0, first[:20]), (2.0, first[20:-1]), (3.0, first[-1:] + second + END), (4.0, DONE)]
    assert [(d.at_s, d.text) for d in parse(chunks).deltas] == [(3.0, "a"), (3.0, "b")]


def test_an_event_may_span_lines_and_have_no_space_after_its_name() -> None:
    assert list(events([(0.0, b'data:{"a":\ndata: 1}\n\ndata: 2\n\n')])) == [
        (0.0, b'{"a":\n1}', b""),
        (0.0, b"2", b""),
    ]


@pytest.mark.parametrize("half", range(1, 4))
def test_half_a_character_waits_for_the_rest(half: int) -> None:
    data = choice({"content": "🙂"}) + END
    place = data.index("🙂".encode()) + half
    assert [d.text for d in parse(cut(data, [place])).deltas] == ["🙂"]


def test_tokens_are_counted_by_the_running_usage_first() -> None:
    stream = at_once(
        choice({"content": "a"}, used=3, token_ids=[1]),
        choice({"content": "b"}, used=4),
        END,
    )
    assert [d.tokens for d in stream.deltas] == [3, 1]


def test_tokens_are_counted_by_their_ids() -> None:
    stream = at_once(
        choice({"content": "a"}, token_ids=[1, 2]),
        choice({"content": "b"}, token_ids=[3]),
        END,
    )
    assert [d.tokens for d in stream.deltas] == [2, 1]


def test_tokens_are_unknown_if_the_engine_does_not_report_them() -> None:
    stream = at_once(
        choice({"content": "a"}),
        END,
        event({"choices": [], "usage": {"completion_tokens": 1}}),
    )
    assert [d.tokens for d in stream.deltas] == [None]
    assert stream.usage == {"completion_tokens": 1}


@pytest.mark.parametrize(
    ("used", "finish", "final", "why"),
    [
        ([0, 0, 0], 9, None, "it stayed at 0 while text came"),
        ([0, 0, 0], 0, 9, "it stayed at 0 while text came"),
        ([9, 9, 9], 9, 9, "it stayed at 9 while text came"),
        ([3, 6, 6], 9, 9, "it stayed at 6 while text came"),
        ([3, 8, 5], 9, 9, "it fell from 8 to 5"),
        ([3, 6, 8], 8, 13, "it ended at 8, and the final count is 13"),
        ([3, 6, 11], 11, 9, "it ended at 11, and the final count is 9"),
        ([3, None, 8], 9, 9, "it was told with some of the deltas only"),
        ([None, None, None], 9, None, None),
        ([None, None, None], None, 9, None),
    ],
)
def test_running_usage_that_cannot_be_right_counts_nothing(
    used: list[int | None], finish: int | None, final: int | None, why: str | None
) -> None:
    """Zero until the end, the total in every chunk, falling, unlike the final count, null."""
    deltas = [{"reasoning": "so"}, {"content": "It"}, {"content": " is"}]
    stream = at_once(
        choice({"role": "assistant", "content": ""}, used=0 if used[0] is not None else None),
        *(choice(delta, used=count) for delta, count in zip(deltas, used, strict=True)),
        choice({"content": ""}, used=finish, finish="stop"),
        *([event({"choices": [], "usage": {"completion_tokens": final}})] if final else []),
        DONE,
    )
    assert stream.error is None
    assert stream.uncounted == why
    assert [(d.tokens, d.text) for d in stream.deltas] == [
        (None, "so"),
        (None, "It"),
        (None, " is"),
    ]
    assert stream.usage["completion_tokens"] == (final or finish)


def test_a_last_token_without_text_comes_with_the_final_usage() -> None:
    """SGLang and llama.cpp tell the token that ends the answer only at the end."""
    stream = at_once(
        choice({"content": "It"}, used=3),
        choice({}, used=3, finish="stop"),
        event({"choices": [], "usage": {"completion_tokens": 4}}),
        DONE,
    )
    assert stream.uncounted is None
    assert [(d.tokens, d.text) for d in stream.deltas] == [(3, "It"), (1, "")]


def test_token_ids_that_are_fewer_than_the_final_count_count_nothing() -> None:
    last = event({"choices": [], "usage": {"completion_tokens": 9}})
    stream = at_once(choice({"content": "a"}, token_ids=[1, 2]), END, last)
    assert [d.tokens for d in stream.deltas] == [None]
    assert stream.uncounted == "it ended at 2, and the final count is 9"


def test_what_broke_off_has_no_final_count_and_keeps_its_tokens() -> None:
    stream = at_once(choice({"content": "a"}, used=2), event({"error": "no"}))
    assert ([d.tokens for d in stream.deltas], stream.uncounted) == ([2], None)


def test_tokens_without_text_are_kept() -> None:
    stream = at_once(choice({"content": ""}, used=2), choice({"content": "a"}, used=3), END)
    assert [(d.field, d.tokens, d.text) for d in stream.deltas] == [
        ("", 2, ""),
        ("content", 1, "a"),
    ]


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({"role": "assistant", "content": ""}, []),
        ({"content": "a"}, [("content", 3, "a")]),
        ({"reasoning": "a", "content": None}, [("reasoning", 3, "a")]),
        ({"reasoning_content": "a"}, [("reasoning_content", 3, "a")]),
        ({"reasoning_content": "a", "reasoning": "a"}, [("reasoning", 3, "a")]),
        ({"content": "b", "reasoning": "a"}, [("reasoning", 3, "a"), ("content", 0, "b")]),
        ({"content": "<think>a</think>b"}, [("content", 3, "<think>a</think>b")]),
    ],
)
def test_deltas_of_an_event(delta: dict[str, Any], expected: list[object]) -> None:
    used = 3 if expected else 0
    stream = at_once(choice(delta, used=used), END)
    assert [(d.field, d.tokens, d.text) for d in stream.deltas] == expected
    assert stream.fields == set(delta)


@pytest.mark.parametrize(
    ("rest", "error"),
    [
        (
            [event({"error": {"message": "out of memory", "code": 500}})],
            "error in the stream: out of memory",
        ),
        ([event({"error": "out of memory"})], "error in the stream: out of memory"),
        ([b"data: {'a': 1}\n\n"], r"malformed event b\"\{'a': 1\}\": Expecting"),
        ([b'data: {"a": "\xff"}\n\n'], "malformed event"),
        ([b"data: 7\n\n"], "malformed event b'7': the event is not an object"),
        ([event({"choices": [{"delta": ["a"]}]})], "the delta is not an object"),
        ([choice({"content": ["a"]})], "content is not a text"),
        ([choice({}, finish=7)], "the finish reason is not a text"),  # type: ignore[arg-type]
        ([choice({"content": "b"}, used=2**31)], "more tokens than any response can have"),
        (
            [event({"choices": [], "usage": {"completion_tokens": 10**400}})],
            "more tokens than any response can have",
        ),
        ([b"data: " + b"9" * 5000 + b"\n\n"], "malformed event .* integer string conversion"),
        ([b"data: " + b"[" * 100_000 + b"\n\n"], "malformed event"),
        (
            [END[:-1]],
            "the stream ended without a finish reason and without .DONE.: it was closed early",
        ),
        ([DONE], "the stream ended without a finish reason$"),
    ],
    ids=[
        "an error object",
        "an error text",
        "no JSON",
        "no UTF-8",
        "a number",
        "a list for a delta",
        "a list for a text",
        "a number for a finish reason",
        "a delta of too many tokens",
        "too many tokens in all",
        "too long a number",
        "too deep",
        "an event cut short",
        "no finish reason",
    ],
)
def test_what_arrived_before_an_error_is_kept(rest: Sequence[bytes], error: str) -> None:
    stream = at_once(choice({"content": "a"}), *rest)
    assert stream.error is not None
    assert re.search(error, stream.error), stream.error
    assert [d.text for d in stream.deltas] == ["a"]


def test_nothing_after_an_error_is_read() -> None:
    stream = at_once(event({"error": "no"}), choice({"content": "a"}), END, DONE)
    assert (stream.deltas, stream.finish_reason, stream.error) == (
        [],
        None,
        "error in the stream: no",
    )


def test_a_finished_answer_needs_no_done() -> None:
    assert at_once(choice({"content": "a"}), END).error is None


def test_an_empty_response_was_closed_early() -> None:
    assert parse([]).error == (
        "the stream ended without a finish reason and without [DONE]: it was closed early"
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
choices = st.fixed_dictionaries(
    {},
    optional={
        "delta": json_values
        | st.dictionaries(st.sampled_from(["content", "reasoning", "x"]), json_values),
        "finish_reason": json_values,
        "token_ids": json_values,
    },
)
hostile = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(choices | json_values, max_size=3) | json_values,
        "usage": json_values | st.dictionaries(st.just("completion_tokens"), json_values),
        "error": json_values,
    },
)


JUNK = [
    b"data: ",
    b"\n\n",
    b"\n",
    b"\r",
    b"\r\n",
    b":",
    b"[DONE]",
    b"\xf0\x9f",
    b"\xed\xa0\xbd",
    END,
]
junk = st.lists(st.binary(max_size=40) | st.sampled_from(JUNK), max_size=12).map(b"".join)
streams = st.tuples(junk, st.sampled_from([b"", WHOLE, WHOLE[:200]]), junk).map(b"".join)


@given(streams, st.lists(st.integers(1, len(WHOLE)), max_size=60))
@example(b"data: 1\r", [8])
@example(b"data: 1\n\r\n\r\ndata: 2\r\r", [8, 9, 10, 11, 12])
def test_where_junk_is_cut_does_not_matter(data: bytes, places: list[int]) -> None:
    for chunks in (cut(data, places), cut(data, range(len(data)))):
        assert [e[1:] for e in events(chunks)] == [e[1:] for e in events([(0.0, data)])]
        assert without_times(parse(chunks)) == without_times(at_once(data))


@given(junk)
def test_junk_after_good_events_is_an_error_and_the_events_are_kept(after: bytes) -> None:
    good = choice({"reasoning": "so"}, used=2) + choice({"content": "7"}, used=3)
    stream = at_once(good, after)
    assert stream.deltas[:2] == [Delta(1.0, "reasoning", 2, "so"), Delta(1.0, "content", 1, "7")]
    assert stream.error is not None or END in after


@given(junk)
def test_any_stream_can_be_recorded_and_read(data: bytes) -> None:
    deltas = at_once(choice({"content": "a"}), data).deltas
    assert Deltas.of_rows(json.loads(json.dumps(list(deltas.rows())))) == deltas


def test_the_time_to_parse_a_large_delta_is_linear_in_its_bytes() -> None:
    """In one read of 10 MB, or in some 20 000: not the square of them."""
    text = "x" * 10_000_000
    data = choice({"content": text}, used=1) + END
    took = []
    for size in (len(data), 512):
        chunks = [(0.0, data[i : i + size]) for i in range(0, len(data), size)]
        began = time.process_time()
        stream = parse(chunks)
        took.append(time.process_time() - began)
        assert (stream.error, len(stream.deltas), stream.deltas.text()) == (None, 1, text)
    assert took[1] < 10 * took[0] + 0.5  # the square of them is 100 GB to copy


@given(st.lists(st.sampled_from(["\ud83d", "\ude42", "é", "🙂"]), min_size=1, max_size=4))
def test_half_of_a_surrogate_pair_is_kept(halves: list[str]) -> None:
    sent = b"".join(
        b"data: " + json.dumps({"choices": [{"delta": {"content": half}}]}).encode() + b"\n\n"
        for half in halves
    )
    assert [d.text for d in at_once(sent, END).deltas] == halves


@given(st.lists(hostile, max_size=4))
def test_no_json_makes_the_parser_raise(contents: list[Any]) -> None:
    stream = at_once(*map(event, contents))
    assert all(isinstance(name, str) for name in stream.fields)
    for delta in stream.deltas:
        assert isinstance(delta.text, str)
        assert delta.tokens is None or delta.tokens >= 0


# ---- requests that the engine gave up


@pytest.mark.parametrize(
    "rest",
    [
        [choice({}, finish="abort"), DONE],
        [choice({}, finish="abort")],
        [
            choice({"content": ""}, used=3, finish="abort"),
            event({"choices": [], "usage": {}}),
            DONE,
        ],
    ],
    ids=["done", "closed", "usage"],
)
def test_a_request_that_the_engine_aborted_has_failed(rest: list[bytes]) -> None:
    stream = at_once(choice({"content": "So: "}, used=3), *rest)
    assert stream.error == ABORTED
    assert stream.finish_reason == "abort"
    assert stream.deltas == [Delta(1.0, "content", 3, "So: ")], "what had arrived is kept"


def test_an_abort_is_named_before_the_connection_that_broke_after_it() -> None:
    stream = parse([(1.0, choice({}, finish="abort"))], "ConnectionResetError")
    assert stream.error == ABORTED


def test_only_known_ends_are_of_whole_answers() -> None:
    for reason in ("stop", "length"):
        assert at_once(choice({"content": "7"}), choice({}, finish=reason), DONE).error is None
    for reason in ("repetition", "eos_token", "content_filter", "function_call", "error", "Stop"):
        error = at_once(choice({"content": "7"}), choice({}, finish=reason), DONE).error
        assert error == f"finish reason {reason!r}; an answer is whole with stop or length only"


CALL = {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}


@pytest.mark.parametrize(
    ("delta", "tools", "error"),
    [
        (CALL, True, None),
        (CALL, None, None),
        (CALL, False, "finish reason 'tool_calls'; no tools were offered"),
        ({"content": "7"}, True, None),
        ({"content": "7"}, None, "finish reason 'tool_calls', and no tool was called"),
    ],
)
def test_calls_of_tools_end_answers_where_tools_were_offered(
    delta: dict[str, Any], tools: bool | None, error: str | None
) -> None:
    data = choice(delta) + choice({}, finish="tool_calls") + DONE
    assert parse([(0.0, data)], tools=tools).error == error


def test_a_finish_reason_with_its_sentence() -> None:
    stream = at_once(choice({}, finish={"type": "abort", "message": "out of memory"}))  # type: ignore[arg-type]
    assert (stream.finish_reason, stream.error) == (
        "abort",
        "finish reason 'abort': out of memory; an answer is whole with stop or length only",
    )


# ---- other ways to say the same


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_byte_order_mark_is_skipped_however_it_is_cut(size: int) -> None:
    data = b"\xef\xbb\xbf" + WHOLE
    chunks = [(0.0, data[i : i + size]) for i in range(0, len(data), size)]
    assert without_times(parse(chunks)) == without_times(at_once(WHOLE))


@pytest.mark.parametrize(
    "nothing",
    [
        b"data:\n\n",
        b"data\n\n",
        b"data: \ndata:\n\n",
        b"retry: 3\n\n",
        b"id: 4\n\n",
        b"event: ping\n\n",
        b"event: ping\ndata:\n\n",
        b": ping\n\n",
        b"\n\n\n",
    ],
)
def test_events_without_data_are_none(nothing: bytes) -> None:
    events_of_it = WHOLE.split(b"\n\n")
    data = nothing + (b"\n\n" + nothing).join(events_of_it)
    assert without_times(at_once(data)) == without_times(at_once(WHOLE))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'error: {"message": "no room"}\n\n', "error in the stream: no room"),
        (b"error: no room", "error in the stream: no room"),
        (b'event: error\ndata: {"detail": "no room"}\n\n', "error in the stream: no room"),
        (b"event: error\ndata: no room\n\n", "error in the stream: no room"),
        (event({"object": "error", "message": "no room"}), "error in the stream: no room"),
        (event({"type": "error", "error": {"message": "no room"}}), "error in the stream: no room"),
        (event({"error": {"error": {"message": "no room"}}}), "error in the stream: no room"),
        (event({"errors": [{"message": "no room"}]}), "error in the stream: no room"),
        (event({"code": 400, "message": "no room"}), "error in the stream: no room"),
        (choice({}, error={"message": "no room"}), "error in the stream: no room"),
        (choice({}, finish="error") + event({"error": "no room"}), "error in the stream: no room"),
        (b'{"error": {"message": "no room"}}', "the server answered in JSON, .*: no room"),
        (b'{"detail": "no room"}\n', "the server answered in JSON, .*: no room"),
        (
            b'{\n "error": {\n  "message": "no room"}\n}\n\n',
            "the server answered in JSON, .*: no room",
        ),
        (b'{"choices": [{"message": {"content": "7"}}]}', "the server answered in JSON, .*'.*7"),
        (b"<html>no room</html>\n\n", "the response holds what is no event: '<html>no room"),
        (b"Internal Server Error", "the response holds what is no event: 'Internal Server Error'"),
        (gzip.compress(WHOLE), r"the server compresses its answers \(gzip\)"),
        (zlib.compress(WHOLE), r"the server compresses its answers \(deflate\)"),
        (
            event({"choices": [{"message": {"content": "7"}, "finish_reason": "stop"}]}),
            "malformed event .*: the choice holds a whole answer and no delta: it was not streamed",
        ),
        (
            choice({"content": "a"}).replace(b"\n\n", b"\n") + END,
            "2 data lines without a blank line between them are one event",
        ),
        (choice({"content": "a"}, index=1) + END, "the stream holds choice 1, and only choice 0"),
    ],
)
def test_an_error_keeps_its_cause(body: bytes, error: str) -> None:
    """However it is told, and also where the connection broke after it."""
    for failure in (None, "closed early: the connection ended in the middle of the response"):
        stream = parse([(0.0, body)], failure)
        assert stream.error is not None
        if failure is None or "event:" not in error:
            assert re.match(error, stream.error), stream.error
            assert "closed early" not in stream.error


@pytest.mark.parametrize(
    "after",
    [
        DONE,
        b": ping\n\n" * 3,
        END,
        choice({"content": " more"}),
        event({"error": "too late"}),
        b"junk",
    ],
)
def test_a_response_is_over_with_done(after: bytes) -> None:
    """Whatever follows it, and however the connection ends."""
    at_done = [(1.0, WHOLE)]
    for failure in (None, "closed early", "stalled: nothing arrived for 2 s"):
        stream = parse([*at_done, (2.0, after)], failure)
        assert without_times(stream) == without_times(parse(at_done))
        assert (stream.error, stream.done_s) == (None, 1.0)


def test_the_usage_after_a_whole_answer_counts_without_its_blank_line() -> None:
    last = event({"choices": [], "usage": {"completion_tokens": 9}})
    assert at_once(choice({"content": "7"}), END, last[:-2]).usage == {"completion_tokens": 9}
    assert at_once(choice({"content": "7"}), END, last[:-9]).usage == {}


@pytest.mark.parametrize(
    ("delta", "expected", "remark"),
    [
        ({"thinking": "so"}, [("thinking", "so")], None),
        (
            {"reasoning_details": [{"text": "so"}, {"text": " on"}]},
            [("reasoning_details", "so on")],
            None,
        ),
        ({"reasoning_details": [{"type": "encrypted", "data": "x"}], "content": ""}, [], None),
        ({"content": [{"type": "reasoning", "text": "so"}]}, [("thinking", "so")], None),
        (
            {"content": [{"type": "text", "text": "7"}, {"type": "thinking", "thinking": "so"}]},
            [("thinking", "so"), ("content", "7")],
            None,
        ),
        ({"content": [{"type": "reference", "reference_ids": [1]}]}, [], None),
        (
            {"content": [{"type": "poem", "text": "so"}]},
            [("content.poem", "so")],
            "delta.content.poem",
        ),
        ({"thought": "so", "content": ""}, [("thought", "so")], "delta.thought"),
        ({"analysis": [{"text": "so"}]}, [("analysis", "so")], "delta.analysis"),
        ({"role": "assistant", "name": "x", "stop_reason": "y", "content": ""}, [], None),
        ({"content": "7", "sender": "engine"}, [("content", "7")], None),
        ({"function_call": {"name": "f", "arguments": "{}"}}, [("tool_calls", "f{}")], None),
    ],
)
def test_texts_are_read_where_documented_or_named(
    delta: dict[str, Any], expected: list[tuple[str, str]], remark: str | None
) -> None:
    stream = at_once(choice(delta), END)
    assert [(d.field, d.text) for d in stream.deltas] == expected
    assert [r for r in stream.remarks if "not known" in r] == stream.remarks
    assert (remark is None and not stream.remarks) or f"text in {remark}, " in stream.remarks[0]


def test_reasoning_that_is_told_once_more_at_the_end_is_left_out() -> None:
    stream = at_once(
        choice({"reasoning": "so"}),
        choice({"reasoning": " on"}),
        choice({"content": "7", "reasoning_details": [{"text": "so on"}]}),
        END,
    )
    assert [d.text for d in stream.deltas] == ["so", " on", "7"]
    assert stream.remarks == ["delta.reasoning_details repeats the reasoning and is left out"]


@pytest.mark.parametrize(
    ("usage", "tokens", "remark"),
    [
        ({"prompt_tokens": 5}, None, None),
        ({"completion_tokens": 9.0}, 9, None),
        ({"completion_tokens": -1}, None, "a usage with '-1' completion tokens is not believed"),
        (
            {"completion_tokens": "9"},
            None,
            "a usage with \"'9'\" completion tokens is not believed",
        ),
        (
            {"completion_tokens": True},
            None,
            "a usage with 'True' completion tokens is not believed",
        ),
        ([9], None, "a usage that is no object is not read: '[9]'"),
    ],
)
def test_a_usage_of_another_shape_counts_nothing(
    usage: object, tokens: int | None, remark: str | None
) -> None:
    stream = at_once(choice({"content": "7"}), END, event({"choices": [], "usage": usage}), DONE)
    assert stream.error is None
    assert stream.usage.get("completion_tokens") == tokens
    assert stream.remarks == ([] if remark is None else [remark])


@pytest.mark.parametrize("shape", [None, 5, "x", {"a": 1}, [None]])
def test_ids_and_log_probabilities_of_any_shape_are_no_failure(shape: object) -> None:
    stream = at_once(choice({"content": "7"}, token_ids=shape, logprobs=shape), END)
    assert (stream.error, stream.deltas.text()) == (None, "7")


def test_a_final_count_far_from_what_was_streamed_is_a_contradiction() -> None:
    """Tried: answers that a proxy cut after some events while the usage counted on."""
    last = event({"choices": [], "usage": {"completion_tokens": 400}})
    stream = at_once(choice({"content": "7"}, used=12), choice({}, used=12, finish="length"), last)
    assert (
        stream.contradiction == "12 tokens were counted while it was streamed, and 400 at its end"
    )
