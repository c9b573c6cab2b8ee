"""The times and tokens of a sample, and records that return what was written to them."""

from __future__ import annotations

import json
import lzma
import resource
import signal
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from doubles.synthetic import sample
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_rllm.datasets.prompts import Prompt
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.records import spool
from pytest_rllm.records.deltas import MOST_TOKENS, Delta, Deltas
from pytest_rllm.records.header import SCHEMA, Header
from pytest_rllm.records.reader import packed, read_run, recorded
from pytest_rllm.records.run import RecordError, Sample
from pytest_rllm.records.spool import Spool, SpoolError
from pytest_rllm.records.writer import RunWriter

PROMPT = Prompt("q0", "How many?", "7", "easy", "math", "t0", 2)


def sample_of(*deltas: tuple[str, int | None, str]) -> Sample:
    """A sample whose deltas (field, tokens, text) arrive at 1, 2, 3 ... seconds."""
    return sample(deltas=[Delta(float(i), *delta) for i, delta in enumerate(deltas, 1)])


STYLES = {
    "reasoning": (("reasoning", 2, "so"), ("reasoning", 3, "..."), ("content", 1, "7")),
    "reasoning_content": (
        ("reasoning_content", 5, "so"),
        ("content", 0, "\n"),
        ("content", 1, "7"),
    ),
    "inline": (("content", 4, "<think>so"), ("content", 1, "</think>\n"), ("content", 1, "7")),
    "inline, split": (("content", 4, "<think>so</th"), ("content", 1, "ink>"), ("content", 1, "7")),
    "inline, begun by the prompt": (
        ("content", 4, "so</"),
        ("content", 1, "think>\n\n"),
        ("content", 1, "7"),
    ),
}


@pytest.mark.parametrize("deltas", STYLES.values(), ids=STYLES)
def test_the_first_visible_token_comes_after_the_reasoning(
    deltas: tuple[tuple[str, int, str], ...],
) -> None:
    found = sample_of(*deltas)
    assert (found.first_token_s, found.first_visible_s) == (1.0, 3.0)
    assert found.answer.strip() == "7"
    assert found.reasoned
    assert (found.reasoning_tokens, found.output_tokens) == (5, 6)


def test_a_delta_may_end_the_reasoning_and_begin_the_answer() -> None:
    found = sample_of(("content", 4, "<think>so</thi"), ("content", 2, "nk>7"), ("content", 1, "5"))
    assert (found.answer, found.first_visible_s) == ("75", 2.0)
    assert found.reasoning_tokens is None, "two tokens are of both, and nobody tells how"


def test_an_answer_without_reasoning_is_visible_at_once() -> None:
    found = sample_of(("content", 1, "7"), ("content", 1, "</b>"))
    assert (found.first_token_s, found.first_visible_s) == (1.0, 1.0)
    assert not found.reasoned
    assert (found.reasoning_tokens, found.answer) == (0, "7</b>")


@pytest.mark.parametrize(
    "deltas",
    [
        [("reasoning", 2, "so"), ("reasoning", 1, "...")],
        [("reasoning", 2, "so"), ("content", 1, " \n")],
        [("content", 2, "<think>so"), ("content", 1, "...")],
    ],
)
def test_reasoning_that_never_ended_shows_nothing(deltas: list[tuple[str, int, str]]) -> None:
    found = sample_of(*deltas)
    assert found.first_visible_s is None
    assert (found.answer.strip(), found.reasoning_tokens, found.reasoned) == ("", 3, True)


def test_tokens_without_text_are_the_first_tokens() -> None:
    assert sample_of(("", 1, ""), ("content", 1, "7")).first_token_s == 1.0
    assert sample_of(("content", 0, ""), ("content", 1, "7")).first_token_s == 2.0


def test_reasoning_that_arrives_with_the_answer_is_still_reasoning() -> None:
    found = sample(deltas=[Delta(1.0, "reasoning", 4, "so"), Delta(1.0, "content", 2, "7")])
    assert found.reasoning_tokens == 4


def test_tokens_that_the_engine_did_not_count_are_unknown() -> None:
    found = sample_of(("reasoning", None, "so"), ("content", 1, "7"))
    found.usage = {}
    assert (found.output_tokens, found.reasoning_tokens) == (None, None)
    found.usage = {"completion_tokens": 9}
    assert found.output_tokens == 9


def test_tokens_per_delta_add_up_where_the_engine_gives_no_total() -> None:
    found = sample_of(("reasoning", 4, "so"), ("content", 3, "7"))
    found.usage = {}
    assert found.output_tokens == 7


def test_a_sample_without_deltas_has_no_token_times() -> None:
    found = sample(deltas=[], error="refused")
    assert (found.first_token_s, found.first_visible_s, found.answer) == (None, None, "")
    assert not found.reasoned


# ---- records

times = st.integers(0, 10**10).map(lambda microseconds: microseconds / 10**6)
counts = st.none() | st.integers(0, MOST_TOKENS)
texts = st.text(st.characters(exclude_categories=[]), max_size=8)
samples = st.builds(
    Sample,
    prompt=st.builds(
        Prompt, texts, texts, texts, texts, st.sampled_from(["math", "word"]), texts, st.integers()
    ),
    intended_s=times,
    sent_s=times,
    ended_s=times,
    deltas=st.lists(
        st.builds(Delta, times, st.sampled_from(["content", ""]), counts, texts),
        max_size=3,
    ),
    usage=st.dictionaries(texts, st.integers(), max_size=2),
    finish_reason=st.sampled_from([None, "stop"]),
    error=st.none() | texts,
)


@given(
    st.lists(samples, max_size=3),
    st.lists(st.tuples(times, st.dictionaries(texts, st.floats(allow_nan=False))), max_size=3),
)
@example([sample(answer="one\u2028two\x85three\r\nfour \ud83d")], [])
def test_a_record_returns_the_run_that_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    wanted: list[Sample],
    points: list[tuple[float, dict[str, float]]],
) -> None:
    path = tmp_path_factory.getbasetemp() / "records" / "run.jsonl"
    with RunWriter(path, Header(arm="A", serving=Serving(flags=("--x",)))) as writer:
        for one in wanted:
            writer.sample(one)
        for at_s, values in points:
            writer.point(at_s, values)
        written = writer.close({"planned": 3, "telemetry_errors": {"é": 1}})
    assert read_run(path) == written
    assert written.samples == wanted


def record(folder: Path, n: int = 2, *, ended: bool = True, **header: Any) -> Path:
    path = folder / "run.jsonl"
    with RunWriter(path, Header(arm="A", **header)) as writer:
        for i in range(n):
            writer.sample(sample(f"q{i}", "7 é"))
        if ended:
            writer.close({"planned": n})
    return path


def test_each_line_is_in_the_file_as_soon_as_it_is_written(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run.jsonl", Header(arm="A")) as writer:
        writer.sample(sample())
        writer.point(0.5, {"running": 3})
        run = read_run(writer.path)
    assert run.samples == [sample()]
    assert run.series == {"running": ([0.5], [3])}
    assert run.closing is None


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / "run.jsonl").symlink_to("/dev/full")
    with pytest.raises(RecordError, match=r"run\.jsonl: cannot be written \(No space left on dev"):
        RunWriter(tmp_path / "run.jsonl", Header())


def test_a_run_lasts_from_its_first_intended_start_to_its_last_end(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run.jsonl", Header()) as writer:
        assert read_run(writer.path).duration_s == 0
        writer.sample(sample(intended_s=2, late_s=0.5, ended_s=9))
        writer.sample(sample(intended_s=3, ended_s=7))
    assert read_run(writer.path).duration_s == 7


def test_a_record_cut_short_anywhere_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = record(tmp_path, ended=False)
    whole = path.read_bytes()
    ends = [i for i, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(ends[0] + 1, len(whole)):
        path.write_bytes(whole[:length])
        run = read_run(path)
        assert run.closing is None
        assert len(run.samples) == sum(length >= end for end in ends[1:])


@pytest.mark.parametrize("broken", ['{"kind":"sample"', '{"kind":"sample"}', '{"kind":"odd"}', "7"])
def test_a_broken_line_names_its_file_and_number(tmp_path: Path, broken: str) -> None:
    path = record(tmp_path)
    lines = path.read_text().splitlines()
    lines[2] = broken
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(RecordError, match=r"run\.jsonl:3: broken line .*; record it anew"):
        read_run(path)


def test_a_broken_last_line_that_was_written_whole_is_an_error(tmp_path: Path) -> None:
    path = record(tmp_path, ended=False)
    path.write_text(path.read_text() + '{"kind":"sam\n')
    with pytest.raises(RecordError, match=r"run\.jsonl:4: broken line"):
        read_run(path)


def test_a_newer_record_says_what_to_update(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(json.dumps({"kind": "run", "schema": SCHEMA + 1}) + "\n")
    with pytest.raises(RecordError, match=rf"schema {SCHEMA + 1}, .* update pytest-rllm"):
        read_run(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty; record it anew"),
        ('{"kind":"sample"}\n', "the first line is not the header of a run; is it a record?"),
        ('{"kind":"run"}\n', "run.jsonl:1: broken line"),
        ('{"kind":"run","sch', "run.jsonl:1: broken line"),
    ],
)
def test_a_file_that_is_not_a_record_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    with pytest.raises(RecordError, match=message):
        read_run(path)


@pytest.mark.parametrize("deltas", ["null", "7", "[[1.0]]", '[[1.0,"content",1.5,"a"]]'])
def test_invalid_deltas_are_a_broken_line(tmp_path: Path, deltas: str) -> None:
    path = record(tmp_path, 1)
    whole = path.read_text()
    at = whole.index('"deltas":') + len('"deltas":')
    path.write_text(whole[:at] + deltas + "}\n")
    with pytest.raises(RecordError, match=r"run\.jsonl:2: broken line .*; record it anew"):
        read_run(path)


def test_a_list_of_deltas_is_converted_to_columns() -> None:
    one = Delta(1.0, "content", 1, "7")
    assert isinstance(sample(deltas=[one]).deltas, Deltas)
    assert sample(deltas=[one]) == sample(deltas=Deltas([one]))


def test_reading_needs_little_more_memory_than_the_run(tmp_path: Path) -> None:
    """Neither the file nor an object per delta is kept."""
    n, each = 50, 1_000
    with RunWriter(tmp_path / "run.jsonl", Header()) as writer:
        said = Deltas(Delta(i / 7, "content", 1, f" word{i}") for i in range(each))
        for i in range(n):
            writer.sample(sample(f"q{i}", deltas=said))
    del writer
    tracemalloc.start()
    run = read_run(tmp_path / "run.jsonl")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [len(one.deltas) for one in run.samples] == [each] * n
    assert peak < 64 * n * each


def test_a_missing_record_asks_whether_it_was_recorded(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"none\.jsonl: cannot be read .*; was it recorded\?"):
        read_run(tmp_path / "none.jsonl")


def test_a_compressed_record_is_read_the_same(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with RunWriter(path, Header(arm="A")) as writer:
        writer.sample(sample_of(*STYLES["reasoning"]))
        written = writer.close({"planned": 1})
    packed(path).write_bytes(lzma.compress(path.read_bytes()))
    path.unlink()
    assert recorded(path)
    assert read_run(path) == written
    packed(path).write_bytes(packed(path).read_bytes()[:-9])
    with pytest.raises(RecordError, match=r"run\.jsonl\.xz: broken .* record it anew"):
        read_run(path)
    packed(path).unlink()
    assert not recorded(path)


# ---- spools are read up to the last complete frame

CHUNKS = st.lists(st.tuples(st.floats(0, 1e6), st.binary(max_size=40)), min_size=1, max_size=6)


@given(st.lists(st.tuples(st.integers(0, 3), CHUNKS), max_size=12))
def test_reads_are_returned_per_request_in_order(
    tmp_path_factory: pytest.TempPathFactory, written
) -> None:
    path = tmp_path_factory.mktemp("spool") / "run.jsonl.spool-0"
    with Spool(path) as into:
        for number, chunks in written:
            into.reads(number, *zip(*chunks, strict=True))
    found = spool.read(path)
    for number in range(4):
        assert found.chunks(number) == [c for n, chunks in written if n == number for c in chunks]


def write_all(path: Path) -> None:
    with Spool(path) as into:
        into.note("start", at=5.0)
        into.reads(0, [5.1, 5.2], [b"a", b"bc"])
        into.page(5.3, b"page \xff")
        into.note("reading", at=5.4, values={"x": 1.0})
        into.note("end", number=0, ended_s=0.2)


def test_a_spool_cut_at_any_byte_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "whole"
    write_all(path)
    data = path.read_bytes()
    whole = spool.read(path)
    assert (whole.start, whole.chunks(0)) == (5.0, [(5.1, b"a"), (5.2, b"bc")])
    assert list(whole.pages()) == [(5.3, b"page \xff")]
    assert whole.readings == [{"at": 5.4, "values": {"x": 1.0}}]
    assert whole.ends == [{"number": 0, "ended_s": 0.2}]
    seen = []
    for size in range(len(data)):
        path.write_bytes(data[:size])
        found = spool.read(path)
        assert found.ends == []
        seen.append(
            (found.start is not None)
            + len(found.chunks(0))
            + len(list(found.pages()))
            + len(found.readings)
        )
    assert seen == sorted(seen)
    assert seen[-1] == 5


def test_after_a_failed_write_nothing_more_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "spool"
    try:
        with Spool(path) as into:
            into.note("start", at=0.0)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
            into.reads(0, [1.0], [b"x" * 10_000])
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            into.note("end", number=0)
            with pytest.raises(SpoolError, match=r"spool: cannot be written \(File too large\); "):
                into.check()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    found = spool.read(path)
    assert (found.start, found.ends, found.chunks(0)) == (0.0, [], [])
