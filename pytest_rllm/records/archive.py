"""One recorded session as one file, ``NAME.tar.xz``, to be kept in a repository and replayed.

An archive holds one folder, the session's: its JSON files and, per finding and case, its records.
They are compressed together, which takes two thirds of what they take one by one.
"""

from __future__ import annotations

import io
import lzma
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

SUFFIX = ".tar.xz"
_ANEW = "restore it, or make it anew from the session's folder"


class ArchiveError(ValueError):
    """An archive cannot be read or made; the message says why and what to do."""


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The folder of a recorded session: ``path`` itself, or what the archive ``path`` holds.

    An archive is extracted to a temporary folder, which is removed at the end of the context.

    Raises:
        ArchiveError: there is no such folder or archive; or the archive is broken, holds no session
            or a path that leads out of it.
    """
    if path.is_dir():
        yield path
        return
    if not path.is_file():
        raise ArchiveError(f"there is no folder {path}, and no archive (NAME{SUFFIX}) of that name")
    with tempfile.TemporaryDirectory(prefix="rllm-replay-") as temporary:
        # Messages on a record begin with its path: the archive's name is in it.
        folder = Path(temporary) / path.name
        _extract(path, folder)
        yield _session_in(folder, path)


def pack(folder: Path, archive: Path) -> None:
    """Make an archive of all that a replay of a session reads: its JSON files, its records and what
    runs that were cut short left beside them; logs of servers stay out.

    The same files make the same archive: sorted, without times and owners. Records that ``xz`` has
    compressed one by one are decompressed first.

    Args:
        folder: of the recorded session.
        archive: to be written, ``NAME.tar.xz``; its folder in the archive is called ``NAME``.

    Raises:
        ArchiveError: the folder holds no session, or a compressed record is broken.
    """
    if not archive.name.endswith(SUFFIX):
        raise ArchiveError(f"{archive}: the name of an archive ends in {SUFFIX}")
    found: dict[Path, Path] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and _is_replayed(inside):
            plain = inside.with_name(inside.name.removesuffix(".xz"))
            found.setdefault(plain, path)  # sorted: the plain record comes first, and is read
    if not any(len(inside.parts) > 1 for inside in found):
        raise ArchiveError(f"{folder}: holds no recorded session, nothing is packed")
    name = archive.name.removesuffix(SUFFIX)
    part = archive.with_name(f"{archive.name}.part")
    try:
        with lzma.open(part, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
            for inside, path in found.items():
                content = _content(path)
                member = tarfile.TarInfo(f"{name}/{inside.as_posix()}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        os.replace(part, archive)
    finally:
        part.unlink(missing_ok=True)


def _is_replayed(inside: Path) -> bool:
    """Whether a file of a session, relative to its folder, is read in a replay."""
    depth = len(inside.parts)
    return (depth == 1 and inside.suffix == ".json") or (depth >= 3 and ".jsonl" in inside.name)


def _content(path: Path) -> bytes:
    if path.suffix != ".xz":
        return path.read_bytes()
    try:
        with lzma.open(path) as file:
            return file.read()
    except (lzma.LZMAError, EOFError) as error:
        raise ArchiveError(f"{path}: broken ({error}); restore it, or record it anew") from error


def _extract(path: Path, folder: Path) -> None:
    try:
        with lzma.open(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            made: set[Path] = set()
            for member in tar:
                if member.isdir():
                    continue
                to = folder / _inside(member, path)
                if to.parent not in made:
                    to.parent.mkdir(parents=True, exist_ok=True)
                    made.add(to.parent)
                content = tar.extractfile(member)
                assert content is not None, "a plain file has content"
                to.write_bytes(content.read())
            end = file.read()
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise ArchiveError(f"{path}: not a whole {SUFFIX} archive ({error}); {_ANEW}") from error
    except OSError as error:
        raise ArchiveError(
            f"{path}: cannot be extracted to {folder} ({error.strerror}); make room there, or name "
            "another folder for temporary files in TMPDIR"
        ) from error
    # tarfile takes a member that is not whole for the end; a true end is a block of zeros.
    if not end or any(end):
        raise ArchiveError(f"{path}: not a whole {SUFFIX} archive (it breaks off); {_ANEW}")


def _inside(member: tarfile.TarInfo, path: Path) -> PurePosixPath:
    """Where a member belongs below the folder to which it is extracted. ``filter="data"`` of
    tarfile would look up every folder on the way and set owners and times, in twice the time."""
    name = PurePosixPath(member.name)
    if not member.isreg():
        wrong = "is a link or a device"
    elif name.is_absolute() or ".." in name.parts:
        wrong = "leads out of the archive"
    else:
        return name
    raise ArchiveError(
        f"{path}: refused, its {member.name} {wrong}; an archive holds the plain files of one "
        "folder: make it anew from the session's folder"
    )


def _session_in(folder: Path, path: Path) -> Path:
    """The one folder that was extracted."""
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    if len(inside) == 1 and any(_is_replayed(p.relative_to(inside[0])) for p in _files(inside[0])):
        return inside[0]
    held = ", ".join(p.name for p in inside[:5]) or "nothing"
    raise ArchiveError(
        f"{path}: holds no recorded session; one folder with its records is expected, not {held}; "
        f"make it by tar -cJf NAME{SUFFIX} -C DIR SESSION"
    )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
