"""What a model pair is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ..checkpoints.rounded import bits_of, rounded, unpacked
from ..checkpoints.wide_keys import WideKeys, widened_copy
from ..local_data import LocalData

GGUF = ".gguf"
"""How the name of a model file of llama.cpp ends."""
LARGE_GIB = 4
"""GPU memory that no bundled pair needs more of."""
CHECKPOINTS = ("gptq-int4", "awq-int4", "int8-w8a8", "fp8-w8a8")
"""Names that findings use of quantised checkpoints; a pair may have others, too. ``w8a8``: of the
weights and of the activations; the others have activations in 16 bits."""
TIERS = (
    *("easy", "medium", "hard"),
    *("knowledge", "disciplines", "commonsense", "strategy", "code", "logic"),
)
"""Names of tiers: mathematics of growing difficulty, and domains beyond it."""


@dataclass(frozen=True)
class ModelPair:
    """A reasoning model, its plain counterpart, and what serving and asking them takes.

    Attributes:
        name: what ``--rllm-model`` and the ids of test cases call it.
        reasoning, plain, draft: a folder, a GGUF file, or a model id that the engine can load.
        reasoning_format: how the reasoning model marks its reasoning, named after the first model
            that did so (``deepseek-r1``: ``<think>`` ... ``</think>``); engines translate it.
        tiers: data set per tier, one of :data:`TIERS`: its registered name, or a file of one's own.
        short, enough, generous: output budgets in tokens: one that cuts answers off, one that
            suffices for most, one that hardly binds.
        budgets: output budgets of a curve over them, growing; empty leaves it to
            :attr:`budget_curve`.
        level_from: the one of these from which on a larger one is not expected to help; None is
            ``enough``.
        fixed_length: output tokens per request where speed is compared; fewer than a hard
            question takes, so that nothing is generated past an answer's natural end.
        examples: how many worked examples stand before a question where an optimisation is to show
            what it saves: of a large model, steps and prompts must be long for that.
        max_model_len: context length to serve with, in tokens.
        context: per role (``"reasoning"``, ``"plain"``) one of its own, where it differs.
        kv_cache_bytes: size of the KV cache at 16 bits per number, twice that where an engine
            serves in 32; None leaves it to the engine.
        kv_block_tokens: tokens per KV-cache block; None leaves it to the engine.
        gpu_memory_gib: GPU memory that a case needs, per GPU; 0 when no GPU is needed.
        gpus: number of GPUs that a case needs.
        requests: per role (``"reasoning"``, ``"plain"``) further fields of the JSON body of every
            request that is sent to it. A checkpoint with two modes is both roles, told apart by
            these fields alone.
        flags: per name of an engine further flags that its servers are started with.
        quantized: per name of a quantisation (``gptq-int4``) and role a checkpoint with such
            weights: a folder, a model id, or ``FILE.tar.xz#FOLDER``. ``rounded-2`` to
            ``rounded-8`` are made of the pair's own folders, see
            :mod:`~pytest_rllm.checkpoints.rounded`.
        files: per name of an engine and role a file that it serves instead of the checkpoint, which
            must be made of that checkpoint.
        eagle: EAGLE head for the reasoning model, a folder or a model id.
        served_name: what a server that runs already calls the model; None asks it.
        size_b: billions of parameters of the reasoning model, rounded as its makers do; None
            leaves it to ``sizes.size_of``.
        stands_for: the size, in billions of parameters, whose findings the pair is measured by;
            None for its own.
        reasoning_opened: whether the reasoning model's chat template ends a prompt with the opening
            tag of reasoning: where no field tells reasoning, an answer that was cut off before the
            closing tag is then reasoning alone.
        single_turn: whether the models learned from single questions alone: after earlier turns
            they answer next to nothing rightly, and their accuracy could not fall.
        made_for: ids of the findings that the pair is made for; others measure it only where
            ``--rllm-model`` names it. Empty: it is for all.
        wide_keys: makes the reasoning model a variant of the checkpoint that ``reasoning`` names,
            which is then the ``"original"``; None for that checkpoint as it is.
        file: the TOML file that describes the pair; None for one that no file describes.
    """

    name: str
    reasoning: str
    plain: str
    draft: str | None
    reasoning_format: str
    tiers: Mapping[str, str | LocalData] = field(hash=False)
    short: int
    enough: int
    generous: int
    fixed_length: int
    max_model_len: int
    examples: int = 0
    kv_cache_bytes: int | None = None
    kv_block_tokens: int | None = None
    gpu_memory_gib: float = 0
    gpus: int = 1
    requests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)
    quantized: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)
    eagle: str | None = None
    served_name: str | None = None
    size_b: float | None = None
    stands_for: float | None = None
    single_turn: bool = False
    reasoning_opened: bool = False
    made_for: frozenset[str] = frozenset()
    budgets: tuple[int, ...] = ()
    level_from: int | None = None
    wide_keys: WideKeys | None = None
    context: Mapping[str, int] = field(default_factory=dict, hash=False)
    file: Path | None = field(default=None, compare=False)

    @property
    def large(self) -> bool:
        """Whether the models are large ones, which take minutes to start and to answer."""
        return self.gpu_memory_gib > LARGE_GIB

    @property
    def budget_curve(self) -> tuple[int, ...]:
        """Output budgets in tokens of a curve over them, growing: those that the pair says, else
        from ``short`` on twice as large each, to ``generous``, with ``enough`` among them."""
        if self.budgets:
            return self.budgets
        doubled = (self.short * 2**k for k in range(self.generous.bit_length()))
        found = {budget for budget in doubled if budget < self.generous}
        return tuple(sorted(found | {self.enough, self.generous}))

    @property
    def two_modes(self) -> bool:
        """Whether one checkpoint is both roles and each request says which: one server serves
        both."""
        return self.reasoning == self.plain and self._fields("reasoning") != self._fields("plain")

    def context_of(self, role: str) -> int:
        """The longest sequence in tokens that a role is served with; one server of both modes has
        that of the reasoning model."""
        own = "reasoning" if self.two_modes or role == "original" else role
        return self.context.get(own, self.max_model_len)

    def _fields(self, role: str) -> Mapping[str, Any]:
        return self.requests.get("reasoning" if role == "original" else role, {})

    def asks(self, body: Mapping[str, Any], role: str) -> dict[str, Any]:
        """A request's body with the further fields of that role.

        Raises:
            ValueError: a field that the measurement sets itself.
        """
        fields = self._fields(role)
        if taken := sorted(body.keys() & fields.keys()):
            where = f"{self.file}: " if self.file else ""
            raise ValueError(
                f"{where}the requests of the {role} model set {', '.join(map(repr, taken))}, which "
                "the measurement sets itself: leave that out"
            )
        return {**body, **fields}

    @property
    def drafters(self) -> tuple[str, ...]:
        """Roles of what the pair has to draft with."""
        return tuple(role for role in ("draft", "eagle") if getattr(self, role))

    def heads(self, role: str) -> str | None:
        """``"EAGLE"`` or ``"EAGLE3"`` where what drafts is a head of that kind, None for a model of
        its own: by the architecture of a local folder, else by its name.

        Args:
            role: ``"draft"`` or ``"eagle"``.

        Raises:
            ValueError: as :meth:`path`.
        """
        path = Path(self.path(role))
        said, config = path.name, path / "config.json"
        if config.is_file():
            said = " ".join(json.loads(config.read_text("utf-8")).get("architectures") or ())
        kind = re.search("eagle-?(3?)", said.lower())
        if kind is None:
            return "EAGLE" if role == "eagle" else None
        return f"EAGLE{kind[1]}"

    def path(self, role: str) -> str:
        """The folder, file or model id behind ``"reasoning"``, ``"plain"``, ``"draft"``,
        ``"eagle"`` or ``"original"``; a variant, and one that lies in an archive
        (``FILE.tar.xz#FOLDER``), is made at the first call and kept in the cache.

        Raises:
            ValueError: the pair has no such model, a local folder is not a checkpoint, there is no
                such file, or a variant cannot be made of it.
        """
        if role == "reasoning" and self.wide_keys is not None:
            return str(widened_copy(Path(self.path("original")), self.wide_keys))
        original = None if self.wide_keys is None else self.reasoning
        path = {
            "reasoning": self.reasoning,
            "plain": self.plain,
            "draft": self.draft,
            "eagle": self.eagle,
            "original": original,
        }[role]
        if path is not None:
            path = unpacked(path)
        if path is not None and path.startswith("~"):
            path = str(Path(path).expanduser())
        if path is None:
            raise ValueError(f"the model pair {self.name!r} has no {role} model")
        if path.endswith(GGUF):
            return _file(path, f"{role} model of the pair {self.name!r}")
        looks_local = path.startswith((".", "/")) or Path(path).is_dir()
        if looks_local and not (Path(path) / "config.json").is_file():
            raise ValueError(
                f"{role} model of the pair {self.name!r}: {path} holds no config.json; "
                "give a folder with a Hugging Face checkpoint, or a model id without a leading ./"
            )
        return path

    def quantizes(self, quantization: str | None) -> bool:
        """Whether a quantisation is a checkpoint of the pair's, or made of one."""
        return quantization is not None and (
            quantization in self.quantized or bits_of(quantization) is not None
        )

    def why_not(self, quantization: str | None, role: str) -> str | None:
        """Why there is no checkpoint with such weights for a role, though the name is one of
        checkpoints; None where there is one, or where the name is an engine's own."""
        if quantization is None:
            return None
        there = self.quantized.get(quantization, {})
        known = quantization in CHECKPOINTS or quantization in self.quantized
        if known and role not in there:
            return (
                f"the pair {self.name!r} has no checkpoint of its {role} model with {quantization} "
                f"weights: name one in its TOML file, [quantized.{quantization}]"
            )
        if bits_of(quantization) and not Path(self.path(role)).is_dir():
            return (
                f"{quantization} weights are made of a folder with a checkpoint, and the {role} "
                f"model of the pair {self.name!r} is {self.path(role)}: download it, and name the "
                "folder"
            )
        return None

    def weights(self, role: str, quantization: str | None) -> tuple[str, str | None]:
        """The checkpoint that is served, and the quantisation that is left for the engine to do.

        Raises:
            ValueError: there is no such checkpoint.
        """
        if quantization is None or not self.quantizes(quantization):
            return self.path(role), quantization
        if why := self.why_not(quantization, role):
            raise ValueError(why)
        if bits := bits_of(quantization):
            folder = Path(self.path(role))
            digest = self.revision(role).partition("+")[0]
            return str(rounded(folder, bits, digest)), None
        return unpacked(self.quantized[quantization][role]), None

    def file_of(self, engine: str, role: str) -> str | None:
        """The file that an engine serves in a role instead of the checkpoint, None for none.

        Raises:
            ValueError: there is no such file.
        """
        file = self.files.get(engine, {}).get(role)
        return file and _file(file, f"{role} model of the pair {self.name!r} for {engine}")

    def revision(self, role: str, engine: str = "", quantization: str | None = None) -> str:
        """Which model answers, and how it is asked: equal when answers may be compared.

        Twelve hexadecimal digits over a local checkpoint's files, else the model id itself. Where
        requests of that role have further fields, a ``+`` and eight digits over these follow.

        Args:
            role: of the model.
            engine: which one serves it; one that serves a file of its own has its digits.
            quantization: of its weights.
        """
        path = Path(self.file_of(engine, role) or self.weights(role, quantization)[0])
        said = str(path)
        if path.exists():
            files = sorted(f for f in path.iterdir() if f.is_file()) if path.is_dir() else [path]
            said = _digest(tuple((file, file.stat().st_mtime_ns) for file in files))
        if fields := self._fields(role):
            text = json.dumps(fields, sort_keys=True)
            said += f"+{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        return said


def _file(path: str, what: str) -> str:
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"{what}: there is no file {file}")
    return str(file)


@cache
def _digest(files: tuple[tuple[Path, int], ...]) -> str:
    """Of names and contents, in the order given; read anew when a time of change differs."""
    digest = hashlib.sha256()
    for file, _ in files:
        digest.update(file.name.encode() + b"\0")
        with open(file, "rb") as content:
            while piece := content.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()[:12]
