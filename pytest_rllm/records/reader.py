"""Read the record of a run: plain or compressed, complete or cut short."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ..datasets.prompts import Prompt
from . import spool
from .deltas import Deltas
from .header import OPENED, SCHEMA, Header
from .run import RecordError, Run, Sample
from .sse import Stream, parse

PACKED = ".xz"
"""How the name of a compressed record ends."""


def read_run(path: Path) -> Run:
    """Read a record, or the file that ``xz`` made of it (``.jsonl.xz``).

    A record that was cut short is read up to that point and has no ``closing``. If the process
    died while it measured, the samples are read from the spools that it left.

    Raises:
        RecordError: there is no record, its schema is newer, or a line other than the last is
            broken.
    """
    try:
        with _opened(path) as lines:
            return _read(path, lines)
    except (lzma.LZMAError, EOFError) as error:
        raise RecordError(
            f"{path if path.suffix == PACKED else packed(path)}: broken as an xz file ({error}); "
            "record it anew, or restore it with `git checkout`"
        ) from error
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); was it recorded?") from error


def _read(path: Path, lines: Iterable[bytes]) -> Run:
    run: Run | None = None
    opened = False
    for number, line in enumerate(lines, 1):
        try:
            content = json.loads(line)
            kind = content.pop("kind")
            if run is None:
                if kind != "run":
                    raise RecordError(
                        f"{path}: the first line is not the header of a run; is it a record?"
                    )
                schema = content.pop("schema")
                if schema > SCHEMA:
                    raise RecordError(
                        f"{path}: recorded with schema {schema}, this version reads up to "
                        f"{SCHEMA}; update pytest-rllm"
                    )
                run = Run(Header.from_json(content, schema))
                opened = bool(run.header.notes.get(OPENED))
            elif kind == "sample":
                run.samples.append(_from_json(content, opened=opened))
            elif kind == "point":
                run.add_point(content["at_s"], content["values"])
            elif kind == "end":
                content.pop("samples")
                run.closing = content
            else:
                raise KeyError(f"unknown kind {kind!r}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, RecordError):
                raise
            if not line.endswith(b"\n") and run is not None:
                break  # the process died while it wrote this line, the last one
            raise RecordError(f"{path}:{number}: broken line ({error}); record it anew") from error
    if run is None:
        raise RecordError(f"{path}: empty; record it anew")
    if run.closing is None and (spools := spool.leftover_spools(path)):
        run.samples = [s for s, note, _ in parse_spools(spools) if note["cut"] is None]
        for sample in run.samples:
            sample.opened = opened
    return run


def parse_spools(
    spools: Sequence[spool.Spooled],
) -> Iterator[tuple[Sample, dict[str, Any], Stream]]:
    """Parse the spools of all client processes of one run.

    Returns:
        Each ended request as a sample, with the note of its end and its parsed response, in the
        order in which they ended.
    """
    ends = [(note["ended_s"], i, n) for i, s in enumerate(spools) for n, note in enumerate(s.ends)]
    for _, i, n in sorted(ends):
        note, start = spools[i].ends[n], spools[i].start or 0.0
        # The error of a refused request quotes the body of its response.
        chunks = [] if note["refused"] else spools[i].chunks(note["number"])
        stream = parse(
            [(at - start, data) for at, data in chunks],
            note["error"],
            tools=note.get("tools", False),
        )
        yield _sample(note, stream), note, stream


def _sample(note: Mapping[str, Any], stream: Stream) -> Sample:
    # What a server sends after [DONE] is none of the answer.
    over = stream.done_s if stream.error is None else None
    return Sample(
        prompt=Prompt.of_row(note["prompt"]),
        intended_s=note["intended_s"],
        sent_s=note["sent_s"],
        ended_s=note["ended_s"] if over is None else over,
        deltas=stream.deltas,
        usage=stream.usage,
        finish_reason=stream.finish_reason,
        error=stream.error,
        contradiction=stream.contradiction,
        remarks=stream.remarks,
    )


def packed(path: Path) -> Path:
    """Where ``xz`` puts a compressed record: a fifth of the size, for a repository."""
    return path.with_name(path.name + PACKED)


def recorded(path: Path) -> bool:
    """Whether there is a record, compressed or not."""
    return path.is_file() or packed(path).is_file()


def _opened(path: Path) -> IO[bytes]:
    """Open as bytes: text mode knows more line ends than \\n, and fails inside a character."""
    if path.suffix == PACKED:
        return lzma.open(path)
    if not path.is_file() and packed(path).is_file():
        return lzma.open(packed(path))
    return path.open("rb")


def _from_json(content: dict[str, Any], *, opened: bool) -> Sample:
    prompt = Prompt.of_row(content.pop("prompt"))
    deltas = Deltas.of_rows(content.pop("deltas"))
    return Sample(prompt=prompt, deltas=deltas, **content, opened=opened)
