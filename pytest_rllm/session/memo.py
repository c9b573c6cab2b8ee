"""What a session's folder says beside its runs: without it, a replay would say less than was said
when it was measured."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

FILE = "session.json"


@dataclass
class Memo:
    """Which engines there were, and what was not measured and why.

    Attributes:
        labels: what people call an engine, by how arms name it.
        series: our names of what its metrics page tells, by how arms name the engine.
        kv_types: names of the types that it offers for the KV cache, by how arms name the engine.
        not_measured: the reason by place: ``finding/case`` of a whole case, with the number of the
            comparison or the name of the run where the rest of the case could be measured.
    """

    labels: dict[str, str] = field(default_factory=dict)
    series: dict[str, list[str]] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)
    kv_types: dict[str, list[str]] = field(default_factory=dict)

    def add_engine(
        self, text: str, label: str, series: Iterable[str], kv_types: Iterable[str] = ()
    ) -> None:
        """Remember an engine that arms name by ``text``."""
        self.labels[text], self.series[text] = label, sorted(series)
        if offered := list(kv_types):
            self.kv_types[text] = offered

    def write(self, folder: Path) -> None:
        """Keep it beside the records."""
        folder.mkdir(parents=True, exist_ok=True)
        told = asdict(self)
        if not self.kv_types:
            del told["kv_types"]  # as older sessions have it
        text = json.dumps(told, indent=1, ensure_ascii=False)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> Memo:
        """What a session's folder holds; nothing of sessions that wrote none.

        Raises:
            ValueError: the file is broken.
        """
        path = folder / FILE
        if not path.is_file():
            return Memo()
        try:
            memo = Memo(**json.loads(path.read_text(encoding="utf-8")))
            if not all(isinstance(part, dict) for part in vars(memo).values()):
                raise TypeError("labels, series, not_measured and kv_types are objects")
            return memo
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: broken ({error}); record the session anew") from error
