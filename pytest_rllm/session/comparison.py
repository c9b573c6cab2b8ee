"""Two arms in interleaved run blocks, judged at planned looks until every claim is decided."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..baselines.machines import UNMEASURED, Machine
from ..experiment.arm import Arm
from ..records.run import Run
from ..verdicts.claims import Claim
from ..verdicts.judge import Judged, Judgement, Look, judge_family
from ..verdicts.validity import problems, sound
from .sources import Source

Pair = tuple[Run, Run]
ALPHA = 0.01
"""A difference within the margin is remarked upon from this p value on."""


@dataclass
class Comparison:
    """Two arms that are measured in blocks as far as the claims of :meth:`shows` need them.

    Attributes:
        pair: the pair of runs of a block, by its number; None where records end before it.
        sizes: numbers of blocks at which the claims are looked at, growing.
        arms: their names.
        machine: what is known of the hardware of that name.
        blocks: what was measured so far.
        voids: why blocks were left out of the judgement.
    """

    pair: Callable[[int], Pair | None]
    sizes: tuple[int, ...]
    arms: tuple[str, str]
    machine: Callable[[str], Machine]
    blocks: list[Pair] = field(default_factory=list)
    judged: list[tuple[Claim, Judged]] = field(default_factory=list)
    voids: list[str] = field(default_factory=list)

    def shows(self, *claims: Claim) -> list[Judged]:
        """Measure and judge the claims, which stand together, until each is decided or the
        comparison's maximum is reached. What they mean for the test is decided when the test
        function ends.

        A claim keeps the verdict of the look that decided it.
        """
        if not claims:
            raise ValueError("shows() needs at least one claim")
        family: list[Judged] = []
        for at, size in enumerate(self.sizes):
            if not self._measured(size):
                break  # records end here: they were decided, or cut short, at an earlier look
            kept, self.voids = sound(self.blocks, claims)
            reasons = problems(self.blocks, claims)
            spread = self.machine(self.blocks[0][0].about["match"]["hardware"]).spread
            look = Look(self.sizes, at)
            fresh = judge_family(claims, kept, self.arms, reasons, look, spread)
            family = fresh if reasons or not family else settled(family, fresh)
            if all(j.verdict != "inconclusive" for j in family):
                break
        self.judged += zip(claims, family, strict=True)
        return family

    def _measured(self, size: int) -> bool:
        """Have at least ``size`` blocks; False where that cannot be had any more."""
        while len(self.blocks) < size:
            pair = self.pair(len(self.blocks))
            if pair is None:
                return False
            self.blocks.append(pair)
        return True

    def remarks(self) -> list[str]:
        """What a reader should know of the judgement and what is no reason to fail."""
        found = list(self.voids)
        timed = [claim.metric for claim, _ in self.judged if claim.metric.timed]
        servers = {run.server for pair in self.blocks for run in pair}
        known = self.machine(self.blocks[0][0].about["match"]["hardware"])
        if timed and len(servers) > 1 and not known.sittings:
            found.append(
                f"how far two servers of one build lie apart on {known.hardware} was not measured: "
                f"{UNMEASURED:.0%} is assumed (benchmarks/calibration measures it)"
            )
        found += [
            f"{claim}: the arms do differ (p = {j.no_difference:.2g}), by less than the margin"
            for claim, j in self.judged
            if j.verdict == "holds" and j.no_difference is not None and j.no_difference < ALPHA
            if claim.verb in ("not_lower", "not_higher", "unchanged")
        ]
        return found

    def judgement(self, key: str) -> Judgement:
        """What was shown, under the comparison's key within its test case."""
        verdicts = tuple(replace(j, comparison=key) for _, j in self.judged)
        first = self.blocks[0]
        prints = " ".join(dict.fromkeys(run.about["fingerprint"] for run in first))
        return Judgement(
            key,
            tuple(claim for claim, _ in self.judged),
            verdicts,
            spreads=self._spreads(verdicts),
            match=first[0].about["match"] | {"arms": prints},
        )

    def _spreads(self, verdicts: Sequence[Judged]) -> dict[str, float]:
        """Standard error over the blocks of every judged level that has one."""
        found: dict[str, float] = {}
        if any(j.verdict == "invalid" for j in verdicts):
            return found
        kept, _ = sound(self.blocks, [claim for claim, _ in self.judged])
        for (claim, _), j in zip(self.judged, verdicts, strict=True):
            if j.levels is None or len(kept) < 2:
                continue
            numbers = [claim.metric.of_pair(*pair) for pair in kept]
            for key, values in zip(j.level_keys, zip(*numbers, strict=True), strict=True):
                found[key] = statistics.stdev(values) / math.sqrt(len(values))
        return found


def compare(
    source: Source,
    first: Arm,
    second: Arm,
    *,
    blocks: int | Sequence[int],
    where: Path,
    about: dict[str, Any],
    restarts: bool = False,
    machine: Callable[[str], Machine] = Machine,
) -> Comparison:
    """Two arms to be measured in pairs of runs, in the order ABBA ABBA ...

    Args:
        source: an engine or records.
        blocks: pairs of runs, the replicate of everything timed; or the growing numbers of them at
            which claims are looked at, until they are decided or the last is reached.
        where: folder of the records, relative to the source's.
        about: what the records' headers say of the test (finding, case, pair).
        restarts: serve every look but the first from fresh servers, started in turned order.
        machine: what is known of the hardware of a name; nothing by default.
    """
    sizes = (blocks,) if isinstance(blocks, int) else tuple(blocks)
    if not sizes or sizes[0] < 1 or list(sizes) != sorted(set(sizes)):
        raise ValueError(f"a comparison needs growing numbers of blocks from 1 on, not {blocks}")
    most = sizes[-1]
    for arm in (first, second):
        questions = len({prompt.id for prompt in arm.prompts})
        if questions < most:
            raise ValueError(f"{questions} questions cannot fill {most} blocks")
    arms = {"A": first, "B": second}
    names = _names(first, second)
    ready: list[bool] = []

    def pair(i: int) -> Pair | None:
        paths = {letter: where / f"{i:02d}-{letter}.jsonl" for letter in "AB"}
        if i >= sizes[0] and not all(source.has(path) for path in paths.values()):
            return None
        if not ready or (restarts and i in sizes):
            order = [first, second] if len(ready) % 2 == 0 else [second, first]
            source.prepare(order, fresh=bool(ready))
            ready.append(True)
        runs: dict[str, Run] = {}
        for letter in "AB" if i % 2 == 0 else "BA":
            arm = arms[letter].block(i, most)
            header = (
                about
                | arm.about()
                | {
                    "arm": names[letter],
                    "where": f"{about['finding']} [{about['case']}] block {i + 1}/{most}",
                    "progress": ((i + len(runs) / 2) / most, 0.5 / most),
                    "blocks": most,
                }
            )
            runs[letter] = source.run(arm, paths[letter], header)
        return runs["A"], runs["B"]

    return Comparison(pair, sizes, (names["A"], names["B"]), machine)


def settled(before: Sequence[Judged], fresh: Sequence[Judged]) -> list[Judged]:
    """Verdicts that are reached stay; the others are those of the present look."""
    return [
        old if old.verdict in ("holds", "refuted") else new
        for old, new in zip(before, fresh, strict=True)
    ]


def _names(first: Arm, second: Arm) -> dict[str, str]:
    """What tells the arms apart: serving and tiers always, the rest where it differs."""
    names = {}
    for letter, arm, other in (("A", first, second), ("B", second, first)):
        words = [f"{arm.serving} on {'+'.join(dict.fromkeys(p.tier for p in arm.prompts))}"]
        if arm.build != other.build:
            words[0] = f"{arm.build}: {words[0]}"
        if arm.workload != other.workload:
            words.append(str(arm.workload))
        if arm.sampling != other.sampling:
            words.append(f"up to {arm.sampling.max_tokens} tokens")
        if len(arm.cut) != len(other.cut):
            words.append(f"{len(arm.cut)} more aborted")
        names[letter] = ", ".join(words)
    return names
