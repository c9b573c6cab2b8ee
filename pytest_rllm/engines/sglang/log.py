"""What the log of SGLang says where a server did not start, in SGLang's own words."""

from __future__ import annotations

from ..causes import LONGER_THAN_MADE_FOR, NO_ROOM_FOR_CACHE, Cause

CAUSES: tuple[Cause, ...] = (
    Cause(r"Not enough memory\. Please try to increase", NO_ROOM_FOR_CACHE),
    Cause(
        r"(?:User-specified|Target model's) context_length \((?P<asked>\d+)\) is greater than the "
        r"derived context_length \((?P<made>\d+)\)",
        LONGER_THAN_MADE_FOR,
    ),
)
"""The first that the log shows counts."""
