"""What measuring took on this machine the last time: how long, how many tokens, how precise.

Kept in the cache folder, per machine and engine; plans and the minutes left are told from it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median

from ..experiment.arm import Arm
from ..records.files import write_whole
from ..records.run import Run
from ..verdicts.judgement import Judgement


@dataclass
class Took:
    """What one comparison took.

    Attributes:
        arms: how they were served and asked, in words; of other arms nothing is known from it.
        blocks: pairs of runs.
        seconds: of these, servers' starts not included.
        requests, output_tokens: of one pair of runs, on average.
        sees: per claim's slug its detectable effect (per cent or points) and its replicates.
    """

    arms: list[str]
    blocks: int
    seconds: float
    requests: float
    output_tokens: float
    sees: dict[str, tuple[float, int]] = field(default_factory=dict)

    @property
    def amount(self) -> float:
        """Requests of all blocks."""
        return self.requests * self.blocks

    def each_s(self, requests: float) -> float:
        """Seconds of one pair of runs of so many requests."""
        return self.seconds / self.blocks * requests / self.requests


def manner(arm: Arm) -> str:
    """How an arm is served and asked, in words; not how many questions."""
    served = f"{arm.engine}: {arm.serving}" if arm.engine else str(arm.serving)
    return f"{served}; {arm.workload}; {arm.sampling}"


@dataclass
class Pace:
    """All that is known of one engine on this machine.

    Attributes:
        path: of the file; None keeps nothing.
        took: per comparison, by ``finding/case/comparison``.
        starts: seconds that the last servers took to start, by the serving in words.
    """

    path: Path | None = None
    took: dict[str, Took] = field(default_factory=dict)
    starts: dict[str, float] = field(default_factory=dict)
    _before: dict[str, float] = field(default_factory=dict, init=False)
    """Seconds per block that earlier sessions took, of the comparisons that this one measured."""
    _now: dict[str, float] = field(default_factory=dict, init=False)
    """What they take in this one."""

    @classmethod
    def read(cls, path: Path) -> Pace:
        """What the file holds; nothing when there is none, or when another version wrote it."""
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            told = json.loads(path.read_text(encoding="utf-8"))
            took = {key: Took(**one) for key, one in told["took"].items()}
            return cls(path, took, {key: float(s) for key, s in told["starts"].items()})
        return cls(path)

    def write(self) -> None:
        """Keep it; a cache that cannot be written is no reason to fail."""
        if self.path is None or not (self.took or self.starts):
            return
        text = json.dumps(
            {"took": {key: asdict(one) for key, one in self.took.items()}, "starts": self.starts},
            indent=1,
        )
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, text + "\n")

    def note(
        self,
        key: str,
        arms: Sequence[str],
        blocks: Sequence[Sequence[Run]],
        seconds: float,
        judgement: Judgement,
    ) -> None:
        """Remember a comparison.

        Args:
            key: ``finding/case/comparison``.
            arms: how they were served and asked, see :func:`manner`.
            blocks: all blocks of it.
            seconds: that one block took, on average.
            judgement: what it showed.
        """
        before = self.took.get(key)
        samples = [sample for pair in blocks for run in pair for sample in run.samples]
        took = Took(
            list(arms),
            len(blocks),
            round(seconds * len(blocks), 2),
            len(samples) / len(blocks),
            sum(sample.output_tokens or 0 for sample in samples) / len(blocks),
            {
                j.slug: (round(abs(j.in_percent(j.detectable)), 2), j.n)
                for j in judgement.verdicts
                if j.detectable is not None and j.detectable < 1e6
            },
        )
        same = before is not None and before.arms == took.arms
        self._before[key] = before.each_s(took.requests) if before and same else 0.0
        self._now[key] = took.each_s(took.requests)
        # A small session tells less of a large one than a large one of a small one.
        if before is None or not same or took.amount >= before.amount / 2:
            self.took[key] = took
        for pair in blocks:
            for run in pair:
                if run.header.server_started_in_s is not None:
                    self.starts[str(run.header.serving)] = run.header.server_started_in_s

    def of(self, key: str, arms: Sequence[str]) -> Took | None:
        """What a comparison took; None where it was not measured, or with other arms."""
        found = self.took.get(key)
        return found if found is not None and found.arms == list(arms) else None

    def start_s(self, serving: str) -> float | None:
        """Seconds that a server of that serving takes to start, else those of others."""
        return self.starts.get(serving) or (median(self.starts.values()) if self.starts else None)

    def later_s(self, case: str, comparison: str, later: Sequence[str]) -> float | None:
        """Estimated seconds of what comes after a comparison, at the pace of this session so far.

        Args:
            case: ``finding/case`` of the comparison.
            comparison: its key within the case.
            later: the cases after it. One that was never measured here is taken to be as long as
                those that this session has measured; None when there is none of them either.
        """
        known: dict[str, dict[str, float]] = {}
        for key, took in self.took.items():
            of, _, part = key.rpartition("/")
            known.setdefault(of, {})[part] = took.seconds
        parts = list(known.get(case, {}))  # in the order in which they are measured
        after = parts[parts.index(comparison) + 1 :] if comparison in parts else []
        rest = [known[case][part] for part in after]
        new = [key.rpartition("/")[0] for key in self._before]
        usual = fmean(sum(known[of].values()) for of in dict.fromkeys(new)) if new else None
        lengths = [sum(known[of].values()) if of in known else usual for of in later]
        if any(length is None for length in lengths):
            return None
        again = {key: before for key, before in self._before.items() if before}
        now = sum(self._now[key] for key in again)
        scale = now / sum(again.values()) if again else 1.0
        return scale * (sum(rest) + sum(length for length in lengths if length is not None))
