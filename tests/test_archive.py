"""A recorded session in one file: packed, opened, refused."""

from __future__ import annotations

import io
import lzma
import os
import tarfile
import tempfile
from pathlib import Path

import pytest
from doubles.synthetic import record, valued

from pytest_rllm.records.archive import ArchiveError, opened, pack
from pytest_rllm.records.reader import read_run

RECORDS = (
    "gate/gate-speed/0/00-A.jsonl",
    "gate/gate-speed/0/00-B.jsonl",
    "gate/gate-probe/run.jsonl",
)
ARGS = ("-p", "no:cacheprovider", "--rllm-model=tiny")


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go in these tests."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """The folder of a session: two findings' records, what is beside them, and servers' logs."""
    folder = tmp_path / "20260102-030405"
    for number, name in enumerate(RECORDS):
        record(folder / name, valued(float(number)))
    (folder / "upgrade.json").write_text('{"new": "b", "old": "a", "changes": []}')
    (folder / "gate/gate-speed/0/01-A.jsonl.spool-0").write_bytes(b"\x00cut")
    (folder / "servers").mkdir()
    (folder / "servers" / "1.log").write_text("at /home/me")
    record(folder / "servers" / "warm-up.jsonl", valued(9.0))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def tarred(archive: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    """An archive of any members, as somebody else might make it."""
    with tarfile.open(archive, "w:xz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return archive


def test_an_archive_holds_what_a_replay_reads_and_no_more(session: Path, tmp_path: Path) -> None:
    archive = tmp_path / "kept.tar.xz"
    pack(session, archive)
    with opened(archive) as folder:
        assert folder.name == "kept"
        kept = files(folder)
        assert read_run(folder / RECORDS[1]).header.notes["value"] == 1.0
    assert kept == {n: c for n, c in files(session).items() if not n.startswith("servers/")}
    assert not list(tmp_path.glob("*.part"))


def test_what_is_extracted_is_removed_even_after_an_error(
    session: Path, tmp_path: Path, temporary: Path
) -> None:
    pack(session, tmp_path / "kept.tar.xz")
    opening = opened(tmp_path / "kept.tar.xz")
    folder = opening.__enter__()
    assert temporary in folder.parents
    assert folder.is_dir()
    assert not opening.__exit__(KeyError, KeyError("meanwhile"), None)  # it is raised further
    assert not list(temporary.iterdir())


def test_a_folder_is_opened_as_it_is_and_stays(session: Path) -> None:
    with opened(session) as folder:
        assert folder == session
    assert session.is_dir()


def test_records_that_were_compressed_one_by_one_are_packed_plain(
    session: Path, tmp_path: Path
) -> None:
    before = files(session)
    for name in RECORDS:
        (session / f"{name}.xz").write_bytes(lzma.compress(before[name]))
        (session / name).unlink()
    pack(session, tmp_path / "kept.tar.xz")
    with opened(tmp_path / "kept.tar.xz") as folder:
        assert {name: files(folder)[name] for name in RECORDS} == {n: before[n] for n in RECORDS}


def test_the_same_records_make_the_same_archive(session: Path, tmp_path: Path) -> None:
    pack(session, tmp_path / "kept.tar.xz")
    first = (tmp_path / "kept.tar.xz").read_bytes()
    for path in session.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    pack(session, tmp_path / "kept.tar.xz")
    assert (tmp_path / "kept.tar.xz").read_bytes() == first
    with tarfile.open(tmp_path / "kept.tar.xz") as tar:
        members = tar.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {
        (0, 0, 0, "", "", 0o644)
    }
    assert members == sorted(members, key=lambda m: Path(m.name))


def test_a_session_as_tar_packs_it_is_opened_too(session: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "by_tar.tar.xz", "w:xz") as tar:
        tar.add(session, arcname=session.name)
    with opened(tmp_path / "by_tar.tar.xz") as folder:
        assert files(folder) == files(session)


def test_nothing_is_packed_of_a_folder_without_records(session: Path, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="servers: holds no recorded session"):
        pack(session / "servers", tmp_path / "kept.tar.xz")
    with pytest.raises(ArchiveError, match=r"the name of an archive ends in \.tar\.xz"):
        pack(session, tmp_path / "kept.zip")
    (session / f"{RECORDS[0]}.xz").write_bytes(lzma.compress(b"x" * 999)[:40])
    (session / RECORDS[0]).unlink()
    with pytest.raises(ArchiveError, match=r"00-A\.jsonl\.xz: broken .* record it anew"):
        pack(session, tmp_path / "kept.tar.xz")
    assert sorted(p.name for p in tmp_path.iterdir()) == [session.name]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_an_archive_that_breaks_off_is_refused(session: Path, tmp_path: Path, share: float) -> None:
    archive = tmp_path / "kept.tar.xz"
    pack(session, archive)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(share * len(whole))])
    refused(archive, "not a whole .tar.xz archive", "restore it")


@pytest.mark.parametrize("cut", [512, 700, 1024, 1536, 2048])
def test_a_tar_that_breaks_off_inside_a_whole_xz_is_refused(
    session: Path, tmp_path: Path, cut: int
) -> None:
    """At a header, which tarfile takes for the end, as inside one or inside a record."""
    archive = tmp_path / "kept.tar.xz"
    pack(session, archive)
    whole = lzma.decompress(archive.read_bytes())
    archive.write_bytes(lzma.compress(whole[:cut]))
    refused(archive, "not a whole .tar.xz archive", "restore it")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04" * 300)
    refused(tmp_path / "a.zip", "not a whole .tar.xz archive")
    (tmp_path / "text.tar.xz").write_bytes(lzma.compress(b"no tar\n" * 300))
    refused(tmp_path / "text.tar.xz", "not a whole .tar.xz archive")
    refused(tmp_path / "none.tar.xz", "there is no folder", "and no archive")


def test_an_archive_without_one_session_is_refused(tmp_path: Path) -> None:
    made = tmp_path / "made.tar.xz"
    refused(tarred(made, {}), "holds no recorded session", "not nothing")
    refused(tarred(made, {"s/notes.txt": b"x"}), "holds no recorded session", "not s")
    two = {f"{name}/f/c/0/00-A.jsonl": b"{}\n" for name in "st"}
    refused(tarred(made, two), "holds no recorded session", "not s, t", "tar -cJf")


@pytest.mark.parametrize("name", ["../out.jsonl", "s/../../out.jsonl", "/tmp/out.jsonl"])
def test_a_path_that_leads_out_of_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    made = tarred(tmp_path / "made.tar.xz", {"s/f/c/0/00-A.jsonl": b"{}\n", name: b"x"})
    refused(made, "refused", name, "leads out of the archive")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../out", "f"])
def test_a_link_is_refused_wherever_it_leads(tmp_path: Path, target: str) -> None:
    made = tarred(tmp_path / "made.tar.xz", {"s/f/c/0/00-A.jsonl": b"{}\n"}, {"s/link": target})
    refused(made, "refused", "s/link is a link")


def refused(archive: Path, *says: str) -> None:
    """Opening it is one sentence that names it, and leaves nothing behind."""
    with pytest.raises(ArchiveError) as error, opened(archive):
        pass
    assert str(archive) in str(error.value)
    assert "\n" not in str(error.value)
    assert [part for part in says if part not in str(error.value)] == []
    assert not list(Path(tempfile.gettempdir()).iterdir())


def test_a_broken_archive_is_a_usage_error_of_pytest(
    pytester: pytest.Pytester, session: Path, temporary: Path
) -> None:
    findings(pytester)
    pack(session, pytester.path / "kept.tar.xz")
    whole = (pytester.path / "kept.tar.xz").read_bytes()
    (pytester.path / "kept.tar.xz").write_bytes(whole[: len(whole) // 2])
    result = pytester.runpytest_inprocess(*ARGS, "--rllm-replay=kept.tar.xz")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --rllm-replay: kept.tar.xz: not a whole .tar.xz archive*"])
    assert not list(temporary.iterdir())


def test_an_archived_upgrade_is_known_as_one(
    pytester: pytest.Pytester, session: Path, temporary: Path
) -> None:
    """Its cases are selected, findings are not; workers cannot judge it."""
    findings(pytester)
    pack(session, pytester.path / "kept.tar.xz")
    result = pytester.runpytest_inprocess(*ARGS, "--rllm-replay=kept.tar.xz", "-v")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*test_gate.py::test_speed*", "*compared nothing*"])
    assert not list(temporary.iterdir())
    result = pytester.runpytest_inprocess(*ARGS, "--rllm-replay=kept.tar.xz", "-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*the upgrade gate takes one decision*leave out -n*"])
    assert not list(temporary.iterdir())


def findings(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_gate="""
        from pytest_rllm import finding, upgrade

        @upgrade("No slower.")
        def test_speed(compare_builds):
            pass

        @finding("Fast.", cite="a source")
        def test_fast(compare):
            pass
        """
    )
