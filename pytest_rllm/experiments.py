"""Measures two arms in interleaved blocks, or reads their records, and judges claims on them."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from . import datasets, environment
from .baselines import effect_key, level_key
from .claims import Claim, Judged, judge
from .datasets import Prompt
from .engines.base import MODEL_NAME, Engine, EngineError
from .engines.pool import Pool, Server, ask
from .loadgen import Request, Scrape, drive
from .models import ModelPair
from .monitors import Gpu
from .samples import RecordError, Run, RunWriter, read_run
from .serving import Serving
from .validity import problems
from .workloads import Sampling, Workload

WARM_UP_REQUESTS = 4
WARM_UP_TOKENS = 32
SIGNATURE_PROMPT = "Work modulo 100. a=47; b=a+35; c=b-18; d=c*3; e=d+b. Find e."
SIGNATURE_TOKENS = 48


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: how it is served, what it is asked, when, and how sampled."""

    serving: Serving
    prompts: Sequence[Prompt] = field(repr=False)
    workload: Workload
    sampling: Sampling

    @property
    def fingerprint(self) -> str:
        """Equal for arms that measure the same thing; what a replay must find in its record."""
        said = {
            "serving": asdict(self.serving),
            "prompts": datasets.revision(self.prompts),
            "workload": asdict(self.workload),
            "sampling": asdict(self.sampling),
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

    def about(self) -> dict[str, Any]:
        """What the header of a record says of the arm."""
        return {
            "fingerprint": self.fingerprint,
            "serving": asdict(self.serving),
            "workload": str(self.workload),
            "sampling": asdict(self.sampling),
            "repeats": len({p.id for p in self.prompts}) < len(self.prompts),
        }

    def block(self, i: int, blocks: int) -> Arm:
        """The ``i``-th of ``blocks`` parts: every prompt is in one, arrivals have their own seed.

        Neighbours stay together, so that interleaved tiers are mixed alike in every block; the
        repeats of a question are in one block, one round after the other.
        """
        ids = list(dict.fromkeys(prompt.id for prompt in self.prompts))
        mine = set(ids[i * len(ids) // blocks : (i + 1) * len(ids) // blocks])
        prompts = [prompt for prompt in self.prompts if prompt.id in mine]
        return replace(self, prompts=prompts, workload=self.workload.seeded(i))


class Source(Protocol):
    """Where runs come from: an engine, or records."""

    def run(self, arm: Arm, path: Path, about: dict[str, Any]) -> Run: ...

    def prepare(self, arms: Sequence[Arm]) -> None: ...


class Say(Protocol):
    """Told what is going on, and how much of the comparison is done (0 to 1) when that is known."""

    def __call__(self, text: str, done: float | None = None) -> None: ...


@dataclass
class Live:
    """Measures on running servers and records every run under ``folder``."""

    engine: Engine
    pair: ModelPair
    pool: Pool
    gpu: Gpu
    folder: Path
    say: Say
    _signatures: dict[int, list[float]] = field(default_factory=dict)
    _up: dict[Serving, Server] = field(default_factory=dict)

    def prepare(self, arms: Sequence[Arm]) -> None:
        """Have the arms' servers up, each warmed by a block that is thrown away."""
        first: Server | None = None
        for arm in arms:
            server = self.pool.serve(arm.serving, self.pair, beside=first)
            first = first or server
            self._up[arm.serving] = server
            if server.number not in self._signatures:
                self._signatures[server.number] = self._signature(server)
            prompts = [replace(p, text=f"Warm-up. {p.text}") for p in arm.prompts]
            sampling = replace(arm.sampling, max_tokens=WARM_UP_TOKENS)
            warm = replace(arm, prompts=prompts[:WARM_UP_REQUESTS], sampling=sampling)
            self._drive(server, warm, self.folder / "warm-up.jsonl", {})

    def run(self, arm: Arm, path: Path, about: dict[str, Any]) -> Run:
        """One block on the server that :meth:`prepare` made ready.

        Raises:
            EngineError: the server died meanwhile; the samples so far are in the record.
        """
        server = self._up[arm.serving]
        about |= {
            "server": server.number,
            "server_started_in_s": round(server.started_in_s, 1),
            "signature": self._signatures[server.number],
            "match": self.match,
            "versions": environment.versions(),
        }
        record = self.folder / path
        run = self._drive(server, arm, record, about)
        if any(s.error for s in run.samples) and not server.answers(self.engine.health_path):
            server.stop()
            raise EngineError(
                f"{self.engine.name} died in the middle of a run, status "
                f"{server.process.returncode}; {len(run.samples)} requests so far, finished or "
                f"not, are in {record}\n{server.last_words()}"
            )
        return run

    @cached_property
    def match(self) -> dict[str, str]:
        """What must be equal for a stored baseline to speak of the same thing."""
        roles = ("reasoning", "plain") + (("draft",) if self.pair.draft else ())
        return {
            "engine": self.engine.name,
            "engine_version": self.engine.version(),
            "hardware": environment.hardware_id(self.gpu, on_cpu=self.engine.on_cpu),
            "models": " ".join(self.pair.revision(role) for role in roles),
        }

    def _drive(self, server: Server, arm: Arm, record: Path, about: dict[str, Any]) -> Run:
        requests = [Request(p, self.engine.body(p, arm.sampling)) for p in arm.prompts]
        scrape = None
        if self.engine.metrics_path:
            scrape = Scrape(
                server.url + self.engine.metrics_path,
                lambda page: self.engine.read_metrics(page, arm.serving),
            )
        what = f"{about.get('where', 'warming up')}: {arm.serving}"
        begun, share = about.get("progress", (None, 0.0))

        def progress(ended: int, planned: int) -> None:
            done = None if begun is None else begun + share * ended / planned
            self.say(f"{what}, {ended} of {planned} answers", done)

        with RunWriter(record, about) as writer:
            return drive(
                server.url,
                requests,
                arm.workload,
                writer,
                scrape=scrape,
                monitor=None if self.gpu.why_not else self.gpu.read,
                progress=progress,
            )

    def _signature(self, server: Server) -> list[float]:
        """Log probabilities of a greedy answer's first tokens: the numerics of this serving."""
        body = {
            "model": MODEL_NAME,
            "messages": [{"role": "user", "content": SIGNATURE_PROMPT}],
            "temperature": 0,
            "max_tokens": SIGNATURE_TOKENS,
            "ignore_eos": True,
            "logprobs": True,
        }
        answer = json.loads(ask(f"{server.url}/v1/chat/completions", body))
        return [token["logprob"] for token in answer["choices"][0]["logprobs"]["content"]]


@dataclass
class Replay:
    """Reads the runs of an earlier session instead of measuring."""

    folder: Path

    def prepare(self, arms: Sequence[Arm]) -> None:
        """Nothing to start."""

    def run(self, arm: Arm, path: Path, about: dict[str, Any]) -> Run:  # noqa: ARG002
        """The recorded run at the same place.

        Raises:
            RecordError: none, or one of something else.
        """
        run = read_run(self.folder / path)
        for key in ("fingerprint", "pair", "blocks"):
            if run.about.get(key) != about[key]:
                raise RecordError(
                    f"{self.folder / path}: recorded with {key} {run.about.get(key)!r}, the test "
                    f"asks for {about[key]!r}; margins may change, what is measured may not: "
                    "record it anew"
                )
        return run


@dataclass
class Comparison:
    """Two arms measured in blocks, to be judged by :meth:`shows`."""

    blocks: list[tuple[Run, Run]]
    arms: tuple[str, str]
    judged: list[tuple[Claim, Judged]] = field(default_factory=list)

    def shows(self, *claims: Claim) -> list[Judged]:
        """Judge all claims. What they mean for the test is decided when the test function ends."""
        if not claims:
            raise ValueError("shows() needs at least one claim")
        reasons = problems(self.blocks, claims)
        judged = [judge(claim, self.blocks, self.arms, reasons) for claim in claims]
        self.judged += zip(claims, judged, strict=True)
        return judged

    def stored_as(self) -> set[str]:
        """Under which names the judged effects are stored."""
        return {effect_key(j) for _, j in self.judged}

    def spreads(self) -> dict[str, float]:
        """Standard error over the blocks of every judged level that has one."""
        found = {}
        for claim, j in self.judged:
            if j.levels is None or len(self.blocks) < 2:
                continue
            for arm, name in enumerate(self.arms):
                values = [claim.metric.of_run(pair[arm]) for pair in self.blocks]
                error = statistics.stdev(values) / math.sqrt(len(values))
                found[level_key(name, j)] = error
        return found


def compare(
    source: Source, first: Arm, second: Arm, *, blocks: int, where: Path, about: dict[str, Any]
) -> Comparison:
    """Measure two arms in ``blocks`` pairs of runs, in the order ABBA ABBA ...

    Args:
        source: an engine or records.
        blocks: pairs of runs; the replicate of everything timed.
        where: folder of the records, relative to the source's.
        about: what the records' headers say of the test (finding, case, pair).
    """
    if blocks < 1:
        raise ValueError(f"a comparison needs at least one block, not {blocks}")
    for arm in (first, second):
        questions = len({prompt.id for prompt in arm.prompts})
        if questions < blocks:
            raise ValueError(f"{questions} questions cannot fill {blocks} blocks")
    arms = {"A": first, "B": second}
    names = _names(first, second)
    source.prepare([first, second])
    done: list[dict[str, Run]] = []
    for i in range(blocks):
        runs: dict[str, Run] = {}
        for letter in "AB" if i % 2 == 0 else "BA":
            arm = arms[letter].block(i, blocks)
            header = (
                about
                | arm.about()
                | {
                    "arm": names[letter],
                    "where": f"{about['finding']} [{about['case']}] block {i + 1}/{blocks}",
                    "progress": ((len(done) + len(runs) / 2) / blocks, 0.5 / blocks),
                    "blocks": blocks,
                }
            )
            runs[letter] = source.run(arm, where / f"{i:02d}-{letter}.jsonl", header)
        done.append(runs)
    return Comparison([(runs["A"], runs["B"]) for runs in done], (names["A"], names["B"]))


def _names(first: Arm, second: Arm) -> dict[str, str]:
    """What tells the arms apart: serving and tiers always, load and budget where they differ."""
    names = {}
    for letter, arm, other in (("A", first, second), ("B", second, first)):
        words = [f"{arm.serving} on {'+'.join(dict.fromkeys(p.tier for p in arm.prompts))}"]
        if arm.workload != other.workload:
            words.append(str(arm.workload))
        if arm.sampling != other.sampling:
            words.append(f"up to {arm.sampling.max_tokens} tokens")
        names[letter] = ", ".join(words)
    return names
