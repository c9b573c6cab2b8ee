"""llama.cpp's server: a ``llama-server`` of one's own, or the one in the package ``xllamacpp``.

Without a build it is the ``xllamacpp`` of the running interpreter, else the ``llama-server`` on
PATH. A build is the path of a ``llama-server``, an interpreter that has ``xllamacpp``, a version
(``xllamacpp==2026.9.11063``), or the URL of a server that runs.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ...cache import cache_folder
from ...datasets.prompts import Prompt
from ...experiment.serving import Serving
from ...experiment.workloads import Sampling
from ...models import ModelPair
from ...telemetry.prometheus import Page, read_series, totals, why_missing
from ..base import MODEL_NAME, Launch, Launcher
from ..capabilities import Capabilities
from ..http import ask
from ..launching import Interpreter
from ..openai import OpenAIEndpoint
from .build import (
    FOR_SERVE,
    PROGRAM,
    SERVE,
    Package,
    has_package,
    of_package,
    of_program,
    version_of,
)
from .checkpoint import TYPES, cache_bytes_per_token, differences, downloaded, gguf_of
from .log import CAUSES

if TYPE_CHECKING:
    from ..builds import Build

SLOTS = 16
"""Requests that are answered at the same time; more of them wait. The slots share one KV cache."""
PAGE_TOKENS = 256
"""The KV cache is a multiple of so many tokens."""
OWN_BYTES = 2.0
"""Bytes of a number of the KV cache in llama.cpp's own type of it, f16."""
NUMBER_BYTES = {
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}
"""Smaller types of the KV cache: bytes of a number with its share of the block's scale."""
TOKENS = {
    "read": "llamacpp:prompt_tokens_total",
    "cached": "llamacpp:prompt_tokens_cached_total",
}
"""Tokens of prompts: those that were computed, and those that were in the prompt cache."""
ALWAYS = {
    "running": ("llamacpp:requests_processing",),
    "waiting": ("llamacpp:requests_deferred",),
    "generation_tokens": ("llamacpp:tokens_predicted_total",),
    "prefill_s": ("llamacpp:prompt_seconds_total",),
    "decode_s": ("llamacpp:tokens_predicted_seconds_total",),
}
WITH_SPECULATION = {
    "drafts": ("llamacpp:spec_decode_num_drafts_total",),
    "draft_tokens": ("llamacpp:spec_decode_num_draft_tokens_total",),
    "accepted_tokens": ("llamacpp:spec_decode_num_accepted_tokens_total",),
}
"""Our name to llama.cpp's."""
OF_PROMPTS = frozenset({"prompt_tokens", "prefix_queries", "prefix_hits"})
OF_THE_CACHE = frozenset({"kv_use", "kv_capacity_tokens"})
SPECULATION = {"draft": "draft-simple", "ngram": "ngram-simple"}
"""Kinds of ``Serving.speculative`` to llama.cpp's."""
NGRAM = 3
"""Tokens that must be found again before what followed them is drafted."""
DRAFT_FLAGS = ("-md", "--model-draft", "--spec-draft-model")
SAMPLING = {
    "frequency_penalty": "frequency_penalty",
    "min_p": "min_p",
    "presence_penalty": "presence_penalty",
    "repeat_penalty": "repetition_penalty",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
}
"""Sampling parameters to what other engines call them."""
NEUTRAL = {
    "adaptive_target": -1.0,
    "dry_multiplier": 0.0,
    "dynatemp_range": 0.0,
    "mirostat": 0,
    "top_n_sigma": -1.0,
    "typical_p": 1.0,
    "xtc_probability": 0.0,
}
"""Samplers that only llama.cpp has, and the value that switches each off; told where it is on."""
SETTINGS = "LLAMA_ARG_"
"""Variables with this prefix are flags of ``llama-server``; a measured server has none of them."""


class LlamaCppEngine(OpenAIEndpoint, Launcher):
    """llama.cpp's server in its own process.

    What it does not tell: preemptions, because there are none: where the KV cache that all slots
    share is full, requests fail. A server that runs already does not tell how many tokens its KV
    cache holds, so of such a one no KV use is measured.
    """

    name: ClassVar[str] = "llamacpp"
    health_path: ClassVar[str] = "/health"
    metrics_path: ClassVar[str | None] = "/metrics"
    more_pages: ClassVar[tuple[str, ...]] = ("/slots",)
    closes_connections: ClassVar[bool] = True
    example_build: ClassVar[str] = "xllamacpp==2026.9.11063"
    causes = CAUSES
    packages: ClassVar[frozenset[str]] = frozenset({"xllamacpp"})
    program: ClassVar[str | None] = PROGRAM

    def __init__(self, build: Build | None = None) -> None:
        super().__init__(build)
        self._cells: int | None = None
        self._program = build and build.program
        self._python = Interpreter.of(build)
        if build is None and not has_package():
            self._program = shutil.which(PROGRAM)

    # ---- which one it is

    @property
    def distribution(self) -> str:
        return PROGRAM if self.url else self._package.distribution

    def version(self) -> str:
        """Of ``xllamacpp`` its version, of ``llama-server`` its build, as ``b5549-abc1234``."""
        if self.url:
            return self.told("/props", lambda said: said["build_info"])
        return self._package.version

    @classmethod
    def is_program(cls, path: Path) -> bool:
        """Whether a file says of itself what ``llama-server --version`` does."""
        return version_of(path) is not None

    @property
    def on_cpu(self) -> bool:
        return self.url is None and self._package.on_cpu

    @cached_property
    def _package(self) -> Package:
        if self._program:
            return of_program(self._program)
        return of_package(self._python)

    # ---- what it can do

    @property
    def declared(self) -> Capabilities:
        of_all = {*ALWAYS, *OF_PROMPTS, *WITH_SPECULATION}
        kinds = SPECULATION if self.url else self._speculative
        return Capabilities(
            models=frozenset({"reasoning", "plain"}),
            series=frozenset(of_all if self.url else of_all | OF_THE_CACHE),
            reasoning=True,
            fixed_length=True,
            token_counts=True,
            log_probabilities=True,
            seeds=True,
            prefix_caching=True,
            speculative=frozenset(kinds),
            kv_cache_dtype=True,
            quantization=True,
            kv_cache_dtypes=() if self.url else self._small_types,
            quantizations=TYPES,
            flags=True,
        )

    @property
    def _speculative(self) -> list[str]:
        return [ours for ours, theirs in SPECULATION.items() if theirs in self._package.speculation]

    @property
    def _small_types(self) -> tuple[str, ...]:
        """Types of the KV cache that are smaller than its own."""
        return tuple(kind for kind in NUMBER_BYTES if kind in self._package.types)

    def cannot(self, serving: Serving, sampling: Sampling | None = None) -> str | None:
        if self.url is None:
            if unknown := self.declared.unknown(serving):
                return f"llama.cpp has {unknown}; serve one of these"
            lacks = sorted(_long(self._flags(serving)) - self._package.flags)
            if lacks:
                return (
                    f"{self.label} lacks {', '.join(lacks)}, which '{serving}' needs: take a newer "
                    "build"
                )
        return super().cannot(serving, sampling)

    # ---- how to ask it

    def body(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        body = super().body(prompt, sampling)
        body |= {"timings_per_token": True, "ignore_eos": sampling.fixed_length}
        # One that we start is told so when it is started.
        return body | ({"cache_prompt": self.serves.prefix_caching} if self.url else {})

    def greedy_body(
        self, text: str, tokens: int, *, log_probabilities: bool = False
    ) -> dict[str, Any]:
        body = super().greedy_body(text, tokens, log_probabilities=log_probabilities)
        body |= {"ignore_eos": True, "cache_prompt": False}
        # Without it each token comes with twenty others.
        return body | ({"top_logprobs": 1} if log_probabilities else {})

    # ---- what it tells

    def sampling_defaults(self, url: str, context: int) -> dict[str, Any] | None:  # noqa: ARG002
        """As ``GET /props`` says, under the names that other engines have for them."""
        told = json.loads(ask(f"{url}/props"))["default_generation_settings"]["params"]
        found = {ours: _rounded(told[theirs]) for theirs, ours in SAMPLING.items()}
        for name, off in NEUTRAL.items():
            if name in told and _rounded(told[name]) != off:
                found[name] = _rounded(told[name])
        if told.get("max_tokens", -1) >= 0:
            found["max_tokens"] = told["max_tokens"]
        return found

    def read_metrics(self, page: str, serving: Serving) -> Page:
        """Series of ``/metrics`` and, of the KV cache, of ``/slots``.

        A slot counts with all tokens of the request that it answers. Prompt tokens are those that
        were computed and those that were cached, as other engines count them.
        """
        wanted = ALWAYS | (WITH_SPECULATION if serving.speculative else {})
        where = f"{self.metrics_path} of {self.name}"
        found = read_series(page, wanted, where, "llamacpp:")
        prompts = totals(page, set(TOKENS.values()))
        absent = [theirs for theirs in TOKENS.values() if theirs not in prompts]
        if absent:
            for ours in OF_PROMPTS:
                found.missing[ours] = why_missing(ours, absent[:1], page, where, "llamacpp:")
        else:
            read, cached = prompts[TOKENS["read"]], prompts[TOKENS["cached"]]
            found.values.update(prompt_tokens=read + cached, prefix_hits=cached)
            found.values["prefix_queries"] = read + cached if serving.prefix_caching else 0.0
        if self.url is None:
            self._read_slots(_slots(page), found)
        return found

    def _read_slots(self, slots: Sequence[Mapping[str, Any]] | None, found: Page) -> None:
        if slots is None:
            for ours in OF_THE_CACHE:
                found.missing[ours] = (
                    f"{ours}: GET {self.more_pages[0]} of {self.name} told no slots"
                )
            return
        # Without a size of its own the cache is as long as the longest sequence of a slot.
        room = float(self._cells or max(int(slot["n_ctx"]) for slot in slots))
        found.values["kv_capacity_tokens"] = room
        found.values["kv_use"] = min(1.0, sum(map(_held, slots)) / room)

    def switched_on(self, page: str) -> list[str]:
        """Speculation, as the slots say; each request says whether it uses the prompt cache."""
        return ["speculation"] * any(slot.get("speculative") for slot in _slots(page) or ())

    # ---- how to start it

    def launch(self, serving: Serving, pair: ModelPair, port: int) -> Launch:
        own = (*pair.flags.get(self.name, ()), *serving.flags)
        if set(own) & set(DRAFT_FLAGS) and "--spec-type" not in own and not serving.speculative:
            raise ValueError(
                "a draft model without --spec-type is loaded and never asked: add --spec-type "
                "draft-simple, or leave it out"
            )
        where = ["--alias", MODEL_NAME, "--host", "127.0.0.1", "--port", str(port)]
        model = ["--model", str(self._file(pair, serving.model, serving.quantization))]
        if serving.speculative == "draft":
            model += ["--spec-draft-model", str(self._file(pair, "draft", None))]
        cells = self._tokens_of_cache(serving, pair)
        context = [] if cells is None else ["--ctx-size", str(cells)]
        # A file of ours tells its sampling defaults; without any, llama.cpp would sample from the
        # 40 likeliest tokens, whatever else a request asks for.
        made = Path(model[1]).is_relative_to(cache_folder())
        sampled = [] if made else ["--top-k", "0", "--min-p", "0"]
        flags = [*model, *where, *context, *self._flags(serving), *sampled, *own]
        env: dict[str, str | None] = {n: None for n in os.environ if n.startswith(SETTINGS)}
        if self._program:
            return Launch([self._program, *flags], env)
        env |= {**FOR_SERVE, **self._python.variables}
        return Launch([self._python.path, SERVE, *flags], env)

    def _flags(self, serving: Serving) -> list[str]:
        """All flags but those that name files, the address and the size of the KV cache."""
        flags = ["--parallel", str(SLOTS), "--kv-unified", "--metrics", "--slots", "--jinja"]
        flags += ["--reasoning-format", "deepseek" if serving.reasons else "none"]
        flags += ["--cache-prompt"] if serving.prefix_caching else ["--no-cache-prompt"]
        if not serving.prefix_caching:
            flags += ["--cache-ram", "0"]
        if serving.kv_cache_dtype:
            kind = serving.kv_cache_dtype
            flags += ["--flash-attn", "on", "--cache-type-k", kind, "--cache-type-v", kind]
        if serving.speculative:
            flags += ["--spec-type", SPECULATION[serving.speculative]]
            drafted = str(serving.speculative_tokens)
            if serving.speculative == "draft":
                flags += ["--spec-draft-n-max", drafted]
            else:
                flags += ["--spec-ngram-simple-size-n", str(NGRAM)]
                flags += ["--spec-ngram-simple-size-m", drafted]
        if self.on_cpu:
            # As many as the servers of other engines have: more would fight for the cores.
            flags += ["--threads", "1", "--threads-batch", "1"]
        return flags

    def _file(self, pair: ModelPair, role: str, quantization: str | None) -> Path:
        """The GGUF file of a role: the one that is given, or one that is made of the checkpoint.

        Raises:
            ValueError: it is of another model, or the checkpoint cannot be converted.
        """
        given = pair.file_of(self.name, role)
        served, kind = pair.weights(role, quantization)
        path = Path(served)
        if given is None and path.is_file():
            given = str(path)
        if given is None:
            folder = path if path.is_dir() else downloaded(served)
            own = None if kind else quantization
            digest = pair.revision(role, quantization=own).partition("+")[0]
            return gguf_of(folder, re.sub(r"\W", "-", digest), kind)
        if quantization is not None:
            raise ValueError(
                f"{given} has the weights that it has: leave out the quantization "
                f"{quantization}, or the file"
            )
        apart = differences(Path(given), path) if path.is_dir() else []
        if apart:
            raise ValueError(
                f"{given} is a file of another model than {path}: {', '.join(apart)}; give one "
                "that was made of that checkpoint"
            )
        return Path(given)

    def _tokens_of_cache(self, serving: Serving, pair: ModelPair) -> int | None:
        """Tokens that the KV cache of the pair's size has room for; None where it has no size."""
        if pair.kv_cache_bytes is None:
            return None
        number = NUMBER_BYTES[serving.kv_cache_dtype] if serving.kv_cache_dtype else OWN_BYTES
        each = cache_bytes_per_token(self._file(pair, serving.model, serving.quantization), number)
        return max(1, int(pair.kv_cache_bytes / each) // PAGE_TOKENS) * PAGE_TOKENS

    def started(self, serving: Serving, pair: ModelPair) -> Self:
        """Knows how many tokens the KV cache was made for: no page tells it."""
        knowing = copy.copy(self)
        knowing._cells = self._tokens_of_cache(serving, pair)
        return knowing


def _slots(page: str) -> list[dict[str, Any]] | None:
    """The list that ``/slots`` told, on its own line among the metrics; None where it did not."""
    for line in page.splitlines():
        if line.startswith("["):
            told: list[dict[str, Any]] = json.loads(line)
            return told or None
    return None


def _held(slot: Mapping[str, Any]) -> int:
    """Tokens in the KV cache of the request that a slot answers; 0 where it answers none."""
    if not slot.get("is_processing"):
        return 0
    token = slot.get("next_token") or {}
    token = token[0] if isinstance(token, list) else token
    read = slot.get("n_prompt_tokens_processed", 0) + slot.get("n_prompt_tokens_cache", 0)
    # Some versions count the answer among the tokens of the prompt, and some do not.
    return max(int(slot.get("n_prompt_tokens", 0)), int(read + token.get("n_decoded", 0)))


def _rounded(value: float) -> float | int:
    """Numbers come in 32 bits: 0.6 is told as 0.6000000238."""
    return round(value, 6) if isinstance(value, float) else value


def _long(flags: Sequence[str]) -> set[str]:
    return {flag for flag in flags if flag.startswith("--")}
