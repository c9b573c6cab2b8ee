"""Spools are read up to the last complete frame."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_rllm.records import spool
from pytest_rllm.records.spool import Spool, SpoolError

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
