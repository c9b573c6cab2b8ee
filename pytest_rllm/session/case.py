"""One test case: the comparisons it made, and how it ends when its function has returned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..baselines import store as baselines
from ..baselines.compare import Outcome, decide, decide_upgrade
from ..baselines.store import Case
from ..datasets.prompts import Prompt
from ..experiment.arm import Arm
from ..experiment.serving import Serving
from ..experiment.workloads import Sampling, Workload
from ..models import ModelPair
from ..records.run import Run
from ..reports.row import Row
from .comparison import Comparison, compare
from .session import Bench

BLOCKS = 8
"""Pairs of run blocks when a finding does not say: fewer cannot refute one of several claims."""
LOOKS = (12, 24, 36, 48, 60)
"""Numbers of blocks at which two builds are looked at."""


class ClaimsNothing(Exception):
    """A finding's body ended without a claim on everything that it compared."""


@dataclass
class Trial:
    """What the fixtures ``compare`` and ``measure`` do for one test case.

    ``folder`` is where its records lie, relative to the session's.
    """

    finding: str
    case: str
    sentence: str
    cite: str
    bench: Bench
    pair: ModelPair
    folder: Path
    comparisons: list[Comparison] = field(default_factory=list)

    def compare(
        self,
        first: Serving | Arm,
        *,
        against: Serving | Arm,
        prompts: Sequence[Prompt] | None = None,
        workload: Workload | None = None,
        sampling: Sampling | None = None,
        blocks: int | Sequence[int] = BLOCKS,
        restarts: bool = False,
    ) -> Comparison:
        """Measure two arms, interleaved; judge them with ``.shows(...)``.

        Args:
            first, against: the arms: whole ones, or servings that share all else.
            prompts: what is asked, split over the blocks; needed with servings.
            workload: when it is asked; needed with servings.
            sampling: the paper's, with the pair's generous budget, by default.
            blocks: pairs of runs, the replicate of everything timed; or growing numbers of them at
                which the claims are looked at: no more is measured than they need.
            restarts: measure every look but the first on fresh servers: two servers of one build
                differ a little for as long as they live.
        """
        first, second = (
            arm if isinstance(arm, Arm) else self._arm(arm, prompts, workload, sampling)
            for arm in (first, against)
        )
        return self._compared(first, second, blocks, restarts=restarts)

    def compare_builds(
        self,
        serving: Serving,
        *,
        prompts: Sequence[Prompt],
        workload: Workload,
        sampling: Sampling | None = None,
        blocks: Sequence[int] = LOOKS,
    ) -> Comparison:
        """The installed engine against the other build, both serving and asked alike.

        Args:
            serving: how both serve.
            prompts, workload, sampling: what both are asked, when and how.
            blocks: growing numbers of pairs of runs at which the claims are looked at; each look
                but the first is measured on fresh servers.
        """
        arm = self._arm(serving, prompts, workload, sampling)
        new, old = (replace(arm, build=name) for name in self.bench.builds_compared())
        return self._compared(new, old, blocks, restarts=True)

    def _compared(
        self, first: Arm, second: Arm, blocks: int | Sequence[int], *, restarts: bool = False
    ) -> Comparison:
        comparison = compare(
            self.bench.source(self.pair),
            first,
            second,
            blocks=blocks,
            where=self.folder / str(len(self.comparisons)),
            about=self._about(),
            restarts=restarts,
            machine=self.bench.machine,
        )
        self.comparisons.append(comparison)
        return comparison

    def measure(self, arm: Arm, name: str = "run") -> Run:
        """One run of an arm, recorded under ``name``; what no claim is judged on."""
        source = self.bench.source(self.pair)
        source.prepare([arm])
        about = self._about() | arm.about() | {"arm": name, "where": self.finding, "blocks": 1}
        return source.run(arm, self.folder / f"{name}.jsonl", about)

    def conclude(self) -> Row:
        """Decide how the case ends; stores what the baseline words allow.

        Raises:
            ClaimsNothing: no comparison was made, or nothing was claimed of one.
        """
        if not self.comparisons:
            raise ClaimsNothing("the finding compared nothing: call compare(...).shows(...)")
        if any(not comparison.judged for comparison in self.comparisons):
            raise ClaimsNothing("compare(...) without .shows(...): nothing was claimed of it")
        claims = [pair for comparison in self.comparisons for pair in comparison.judged]
        if self.bench.builds is not None:
            return self._row(decide_upgrade(claims), [j.to_json() for _, j in claims])
        keys = [(i, k) for i, c in enumerate(self.comparisons) for k in c.stored_as()]
        if len({key for _, key in keys}) != len(set(keys)):
            raise ClaimsNothing(
                "two comparisons of the finding have the same arms and metric: one would hide the "
                "other in its baseline; compare different arms, or parametrize the test"
            )
        spreads: dict[str, float] = {}
        if not any(j.verdict == "invalid" for _, j in claims):
            for comparison in self.comparisons:
                spreads |= comparison.spreads()
        fresh = baselines.fresh_case(self._match(), [j for _, j in claims], spreads)
        stored = self._stored(
            fresh, storable=all(j.verdict in ("holds", "refuted") for _, j in claims)
        )
        sessions = self.bench.baselines.sessions(fresh.match["hardware"], self.finding, self.case)
        outcome = decide(claims, fresh, stored, sessions)
        return self._row(outcome, [j.to_json() for _, j in claims])

    def _stored(self, fresh: Case, *, storable: bool) -> Case | None:
        hardware = fresh.match["hardware"]
        if storable and self.bench.baselines.words:
            return self.bench.baselines.change(hardware, self.finding, self.case, fresh)
        return self.bench.baselines.cases(hardware, self.finding).get(self.case)

    def _match(self) -> dict[str, str]:
        """What a baseline must agree on: what served, and what exactly was measured."""
        first = self.comparisons[0].blocks[0][0].about
        match: dict[str, str] = dict(first["match"])
        prints = [r.about["fingerprint"] for c in self.comparisons for r in c.blocks[0]]
        return match | {"arms": " ".join(dict.fromkeys(prints))}

    def _arm(
        self,
        serving: Serving,
        prompts: Sequence[Prompt] | None,
        workload: Workload | None,
        sampling: Sampling | None,
    ) -> Arm:
        if prompts is None or workload is None:
            raise TypeError("compare(Serving, ...) needs prompts= and workload=")
        return Arm(serving, prompts, workload, sampling or Sampling(self.pair.generous))

    def _about(self) -> dict[str, Any]:
        return {"finding": self.finding, "case": self.case, "pair": self.pair.name}

    def _row(self, outcome: Outcome, judged: list[dict[str, Any]]) -> Row:
        return Row(
            finding=self.finding,
            case=self.case,
            sentence=self.sentence,
            cite=self.cite,
            ending=outcome.ending,
            claims=judged,
            standings=outcome.standings,
            notes=outcome.notes,
            records=str(self.bench.shown_records / self.folder),
            remarks=[remark for c in self.comparisons for remark in c.remarks()],
        )
