"""Result files of other benchmarking tools: one file per tool, and one line in the table below.

A file becomes run records of ours (``samples``), one per run in it, with what was measured and
nothing else. What the tool did not keep is refused by name, see ``foreign.kept``.
"""

from __future__ import annotations

import json
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from .foreign import Foreign, Importer
from .foreign import ImportRefused as ImportRefused

TOOLS = {
    "GuideLLM": "pytest_rllm.importers.guidellm:IMPORTER",
    "AIPerf": "pytest_rllm.importers.aiperf:IMPORTER",
    "vllm bench serve": "pytest_rllm.importers.vllm_bench:IMPORTER",
}
"""Name of a tool to its importer, imported when a file is read."""


def importers() -> list[Importer]:
    """All importers, in the order of the table."""
    return [resolve_name(target) for target in TOOLS.values()]


def read(path: Path) -> list[Foreign]:
    """The runs in a result file, whichever tool wrote it; its name does not matter.

    Raises:
        ImportRefused: no file of a known tool, one that is broken or cut short, or one that holds
            too little for a record; the message says what to pass instead.
    """
    documents = _documents(path)
    for importer in importers():
        if not importer.recognises(documents):
            continue
        try:
            return importer.read(documents, path)
        except ImportRefused as refusal:
            raise ImportRefused(f"{path}: {refusal}") from refusal
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ImportRefused(
                f"{path}: a file of {importer.name} that reads unlike those of the versions known "
                f"here ({importer.known}): {type(error).__name__}: {error}"
            ) from error
    raise ImportRefused(f"{path}: of no tool that is known here; {_wanted()}")


def _documents(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file: one, or one after the other (JSON lines among them)."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ImportRefused(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ImportRefused(f"{path}: not a text; {_wanted()}") from error
    documents: list[dict[str, Any]] = []
    at, decoder = _skip(text, 0), json.JSONDecoder()
    while at < len(text):
        try:
            document, end = decoder.raw_decode(text, at)
        except ValueError as error:
            if not documents and text[at] != "{":
                raise ImportRefused(f"{path}: no JSON; {_wanted()}") from error
            line = text.count("\n", 0, at) + 1
            raise ImportRefused(
                f"{path}: broken from line {line} on ({error}): cut short? Export it again"
            ) from error
        if not isinstance(document, dict):
            raise ImportRefused(f"{path}: of no tool that is known here; {_wanted()}")
        documents.append(document)
        at = _skip(text, end)
    if not documents:
        raise ImportRefused(f"{path}: empty; {_wanted()}")
    return documents


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _wanted() -> str:
    return "pass " + ", or ".join(importer.wanted for importer in importers())
