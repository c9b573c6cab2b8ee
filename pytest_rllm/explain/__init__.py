"""``python -m pytest_rllm explain``: what is understood of a file that a server or a run left."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name

from .explained import Explained, NotUnderstood

HELP = (
    "say what is understood of a captured stream (.sse), of a metrics page (.txt) or of a run's "
    "record (.jsonl, .jsonl.xz)"
)
COUNTS, FAILED, NOT_UNDERSTOOD = 0, 1, 2
"""Exit status: the request would count, it would count as failed, the file is not understood."""
READERS = {
    ".sse": "pytest_rllm.explain.stream:explain",
    ".txt": "pytest_rllm.explain.page:explain",
    ".jsonl": "pytest_rllm.explain.record:explain",
    ".jsonl.xz": "pytest_rllm.explain.record:explain",
}
"""End of a file's name to what reads such files: it takes the path and the arguments."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        help="the body of one streamed response, as `curl -N` writes it, named .sse; a metrics "
        "page, named .txt; or the record of a run. Exit status 0: it would count; 1: as failed; "
        "2: the file is not understood",
    )
    parser.add_argument("--json", action="store_true", help="the same as JSON, for programs")
    parser.add_argument(
        "--reasoning-opened",
        action="store_true",
        help="of a capture: the chat template ends a prompt with the opening tag of reasoning, so "
        "the answer begins inside of it",
    )
    parser.add_argument(
        "--request",
        metavar="QUESTION",
        help="of a record: tell the answers to this question delta by delta",
    )


def run(given: argparse.Namespace) -> int:
    """Explain a file; returns the exit status."""
    try:
        explained = _reader(given.file)(given.file, given)
    except NotUnderstood as error:
        print(f"not understood: {given.file}: {error}", file=sys.stderr)
        return NOT_UNDERSTOOD
    if given.json:
        # Half of a surrogate pair, which an engine may send, is no UTF-8.
        print(json.dumps({"file": str(given.file), **explained.content}, indent=1))
    else:
        text = "\n".join([f"{given.file}: {explained.title}", *explained.lines])
        print(text.encode("utf-8", "replace").decode())
    return COUNTS if explained.counts else FAILED


def _reader(file: Path) -> Callable[[Path, argparse.Namespace], Explained]:
    for end, target in READERS.items():
        if file.name.endswith(end):
            reader: Callable[[Path, argparse.Namespace], Explained] = resolve_name(target)
            return reader
    raise NotUnderstood(f"only files named {', '.join(READERS)} are known here")
