"""Whether the engine behind a response lives: it does when an event with content arrives.

A gateway may send comments, pings and empty events for as long as it is asked, whatever the engine
does. Texts, tokens, a finish reason and an error are content; a role is none.
"""

from __future__ import annotations

from ..records.framing import DONE, read_event
from ..records.texts import texts
from ..records.told_errors import told_error


class Life:
    """Of one response; it looks at bytes once, the newest event first, and mostly at that alone.

    Attributes:
        over: whether ``[DONE]`` was among them.
    """

    __slots__ = ("_begun", "_counted", "over")

    def __init__(self) -> None:
        self.over = False
        self._begun = b""  # of an event that is not complete
        self._counted = 0

    def look(self, data: bytes) -> bool:
        """Whether an event with content is complete with the bytes that arrived since the last
        look."""
        data = self._begun + data
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = data.rfind(b"\n\n")
        self._begun = data[end + 2 :] if end >= 0 else data
        self.over = self.over or _data(self._begun).strip() == DONE
        while end >= 0:
            start = data.rfind(b"\n\n", 0, end)
            told = _data(data[start + 2 if start >= 0 else 0 : end])
            self.over = self.over or told.strip() == DONE
            if self._carries(told):
                return True
            end = start
        return False

    def _carries(self, data: bytes) -> bool:
        if not data or data.isspace():
            return False
        try:
            content = read_event(data)
            if told_error(content):
                return True
            usage = content.get("usage") or content.get("timings") or {}
            used = usage.get("completion_tokens", usage.get("predicted_n"))
            if isinstance(used, int) and used > self._counted:
                self._counted = used
                return True
            return any(
                choice.get("finish_reason") or choice.get("token_ids") or texts(choice["delta"])
                for choice in content.get("choices") or ()
            )
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            return False


def _data(block: bytes) -> bytes:
    """The data of an event."""
    if b"\n" not in block:
        return block[5:] if block.startswith(b"data:") else b""
    lines = (line[5:] for line in block.split(b"\n") if line.startswith(b"data:"))
    return b"\n".join(lines)
