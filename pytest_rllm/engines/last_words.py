"""What the log of a server tells that is starting, or did not start: what it does, and why not."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .causes import CAUSES, Cause

LONGEST = 300
"""Characters of a cause in a message."""
STEP = 60
"""Characters of a step in a line of progress."""
_RAISED = re.compile(r"(?:^|\s)((?:\w+\.)*\w*(?:Error|Exception)): (.+)$")
"""The last line of a traceback, whatever a logger writes before it."""
_POINTER = re.compile(r"(?i)\bsee (?:\w+ )*(?:stack trace|root cause|traceback)")
"""An error that only says that there was one before."""
_ERROR = re.compile(r"\bERROR\b|Traceback \(most recent call last\)|(?:^|\s)error: |^[\d.]+ E ")
"""A line that a logger marks as an error, or the first one of a traceback."""
_WARNING = re.compile(r"\bWARNING\b|\bWarning: |^[\d.]+ W ")
"""A line that a logger marks as a warning. What NCCL marks WARN is an error."""
_FLAGS = re.compile(r"unrecognized arguments?: (.+)$")
_REFUSED = re.compile(r"(?:^|\s)error: (.+)$")
_BAR = re.compile(r"(?P<what>[^|]+?):?\s+\d+%[^|]*\|[^|]*?\|?\s*(?P<done>\d+/\d+)")
"""A bar of progress as tqdm draws it."""
_HEAD = re.compile(
    r"^(?:\([^()]*pid=\d+\)|\[[^\[\]]*\]|(?:DEBUG|INFO|WARN(?:ING)?|ERROR):?(?= )"
    r"|[\d.:-]+(?: [\d.:]+)?(?: [A-Z])?(?= )|\s)+"
)
"""What loggers write before a message: process, level, time, place."""


def cause(lines: Sequence[str], known: Sequence[Cause] = ()) -> str:
    """Why it ended and what to do, to append to a message; empty where its lines do not tell.

    Causes that are known count first. Of the others, what keeps an engine from being imported
    counts before what followed from it, then flags that it does not know, then the last error that
    is no hint at an earlier one.

    Args:
        lines: that it printed.
        known: causes in the engine's own words, which count before those of all engines.
    """
    serious = [line for line in lines if not _WARNING.search(line)]
    for one in (*known, *CAUSES):
        if says := one.of(serious):
            return f": {says}"
    raised = _raised(lines)
    imports = [m for m in raised if m[1] in ("ImportError", "ModuleNotFoundError")]
    if imports:
        return (
            f": it does not import ({_text(imports[-1])}): install it anew with all that it needs, "
            "or take another build"
        )
    for line in reversed(lines):
        if match := _FLAGS.search(line):
            names = [word for word in match[1].split() if word.startswith("-")]
            return (
                f": it does not know {_short(', '.join(names) or match[1])}: take a build that "
                "does, such as a newer one, or leave out what needs it"
            )
        if match := _REFUSED.search(line):
            return f": {_short(match[1])}"
    return f": {_text(raised[-1])}" if raised else ""


def first_error(lines: Sequence[str]) -> list[int]:
    """Where the first error stands: the line that begins it, and the one that names it.

    An engine of several processes ends with an error that only points at an earlier one, which may
    be dozens of lines above.

    Args:
        lines: that it printed.

    Returns:
        Indices of lines, growing, two at most; none where no line is an error.
    """
    serious = [(i, line) for i, line in enumerate(lines) if not _WARNING.search(line)]
    begun = next((i for i, line in serious if _ERROR.search(line) or _raised([line])), None)
    if begun is None:
        return []
    named = next((i for i in range(begun, len(lines)) if _raised(lines[i : i + 1])), begun)
    return sorted({begun, named})


def step(lines: Sequence[str]) -> str:
    """What a server that starts does now, by its last line: a bar of progress becomes what it
    counts and how far it is, as in ``loading safetensors checkpoint shards 2/4``; empty where there
    is no line.

    Args:
        lines: that it printed.
    """
    for line in reversed(lines):
        text = " ".join(_HEAD.sub("", line).split())
        if bar := _BAR.search(text):
            text = f"{bar['what']} {bar['done']}"
        if any(sign.isalnum() for sign in text):
            text = text[0].lower() + text[1:] if text[1:2].islower() else text
            return text if len(text) <= STEP else f"{text[: STEP - 4]} ..."
    return ""


def _raised(lines: Sequence[str]) -> list[re.Match[str]]:
    found = [match for line in lines if (match := _RAISED.search(line))]
    return [match for match in found if not _POINTER.search(match[2])]


def _text(match: re.Match[str]) -> str:
    return _short(f"{match[1]}: {match[2]}")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
