"""Why a server ended before it was healthy, as far as what it printed tells it."""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST = 300
"""Characters of a cause in a message."""
_RAISED = re.compile(r"(?:^|\s)((?:\w+\.)*\w*(?:Error|Exception)): (.+)$")
"""The last line of a traceback, whatever a logger writes before it."""
_FLAGS = re.compile(r"unrecognized arguments?: (.+)$")
_REFUSED = re.compile(r"(?:^|\s)error: (.+)$")


def cause(lines: Sequence[str]) -> str:
    """Why it ended and what to do, to append to a message; empty where its lines do not tell.

    What keeps an engine from being imported counts before what followed from it, then flags that it
    does not know, then the last error.

    Args:
        lines: that it printed.
    """
    raised = [match for line in lines if (match := _RAISED.search(line))]
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


def _text(match: re.Match[str]) -> str:
    return _short(f"{match[1]}: {match[2]}")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
