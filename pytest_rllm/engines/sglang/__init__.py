"""SGLang, for GPU and CPU from the same code: package ``sglang``, 0.5.7 and later.

Seen running: 0.5.23 on a CPU without SGLang's compiled kernels. Everything else was read in the
source of 0.5.23 and of releases down to 0.4.6, and has not been tried here: GPUs, speculation,
priorities of requests (read in its documents), quantised weights, KV caches of other types, a CPU
build that has its kernels. No version is ever compared with another one: flags are common to all
these releases, names of metrics and paths are taken as the server has them, so that a build called
``dev`` is served as any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.error import HTTPError

from ...datasets.prompts import Prompt
from ...experiment.serving import Serving
from ...experiment.workloads import Sampling
from ...models import ModelPair
from ...telemetry.gpu import Gpu
from ...telemetry.prometheus import Page
from ..base import MODEL_NAME, EngineError, Launch, Launcher
from ..capabilities import Capabilities
from ..http import NO_ANSWER, ask
from ..launching import ONE_THREAD, Interpreter, flags_of, parser_of, without_look_ups
from ..openai import OpenAIEndpoint
from .log import CAUSES
from .page import SOURCES, read

if TYPE_CHECKING:
    from ..builds import Build

RESOLVED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
"""Sampling parameters that a model's ``generation_config.json`` sets in SGLang."""
NEUTRAL = {
    "frequency_penalty": 0.0,
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "repetition_penalty": 1.0,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
}
"""SGLang's own values where neither a request nor the model says another; top_k is -1 there, which
is 0 in other engines: all tokens."""
INFO = ("/server_info", "/get_server_info")
"""What a server says of itself: the second one is the only one before 0.5.6."""
OWN_TYPES = ("auto", "bf16", "bfloat16", None)
"""KV caches of a model's own type."""
PARSERS = {
    "deepseek-r1": "deepseek-r1",
    "qwen3": "qwen3",
    "granite": "granite_thinking_parser",
    "glm-4.5": "glm45",
    "gpt-oss": "gpt-oss",
    "mistral": "mistral",
}
"""How a model marks its reasoning (``ModelPair.reasoning_format``) to SGLang's parser of it."""
ONE_MODE = ("deepseek-r1",)
"""Formats whose parser takes all text for reasoning until it is told to end."""
KV_TYPES = {"fp8": "fp8_e4m3"}
"""Our name of a KV cache's type to SGLang's, where they differ."""
KV_BYTES = {"fp8_e4m3": 1, "fp8_e5m2": 1}
"""Bytes per number of KV caches that are not of 16 bits."""
SHARE = 0.4
"""Share of the memory for one server where no plan says it: two of a comparison are up at once."""
GAUGES_EVERY = 4
"""Decoding steps between two updates of the gauges; 40 would hide how the KV cache moves."""
_FIND = """
import importlib.util, json, pathlib, runpy
from importlib import metadata
there = importlib.util.find_spec
version = None
if there("sglang"):
    try:
        version = metadata.version("sglang") or "dev"
    except metadata.PackageNotFoundError:
        version = "dev"
gpu = False
if torch := there("torch"):
    built = runpy.run_path(str(pathlib.Path(torch.origin).with_name("version.py")))
    gpu = any(built.get(kind) for kind in ("cuda", "hip", "xpu")) or bool(there("torch_npu"))
kernels = there("sgl_kernel") is not None
compiled = "sgl_kernel" in metadata.packages_distributions()
print(json.dumps([version, gpu, kernels, compiled]))
"""


@dataclass(frozen=True)
class _Package:
    """An installed SGLang.

    Attributes:
        version: of the package; ``dev`` where it is a checkout without metadata.
        gpu: whether its PyTorch is built for a GPU.
        kernels: whether ``sgl_kernel`` can be imported, without which SGLang does not start.
        compiled: whether a package brings it: without compiled kernels PyTorch does all the work.
    """

    version: str
    gpu: bool
    kernels: bool
    compiled: bool


class SglangEngine(OpenAIEndpoint, Launcher):
    """SGLang's OpenAI server in its own process."""

    name: ClassVar[str] = "sglang"
    packages: ClassVar[frozenset[str]] = frozenset({"sglang"})
    example_build: ClassVar[str] = "sglang==0.5.23"
    causes = CAUSES
    health_path: ClassVar[str] = "/health"
    metrics_path: ClassVar[str | None] = "/metrics"
    token_ids: ClassVar[Mapping[str, Any]] = {"return_input_ids_in_sglext": True}
    neutral: ClassVar[Mapping[str, Any]] = {"min_p": 0.0, "repetition_penalty": 1.0, "top_k": -1}

    def __init__(self, build: Build | None = None) -> None:
        super().__init__(build)
        self._python = Interpreter.of(build)

    # ---- which one it is

    def version(self) -> str:
        return " ".join(str(self._info["version"]).split()) if self.url else self._package.version

    @property
    def on_cpu(self) -> bool:
        """Of a server that runs already: what it says; of a build: what its PyTorch is made for."""
        return self._info.get("device") == "cpu" if self.url else not self._package.gpu

    @classmethod
    def cannot_install(cls) -> str | None:
        gpu = Gpu()
        if gpu.devices:
            return None
        return (
            "PyPI's packages of SGLang serve on NVIDIA GPUs, and this machine has none "
            f"({gpu.why_not}); name an interpreter that has SGLang for CPU instead, sglang@PATH"
        )

    @cached_property
    def _package(self) -> _Package:
        said = self._python.said("-c", _FIND)
        version, gpu, kernels, compiled = json.loads(said.splitlines()[-1])
        if version is None:
            raise EngineError(
                f"SGLang is not installed for {self._python}: install sglang there, or name an "
                "interpreter that has it, --rllm-engine sglang@PATH (see 'Engines' in the README)"
            )
        return _Package(version, gpu, kernels, compiled)

    @cached_property
    def _info(self) -> dict[str, Any]:
        """What the server that runs already says of itself."""
        told = server_info(str(self.url))
        if not str(told.get("version") or "").strip():
            raise EngineError(
                f"GET {self.url}{INFO[0]} did not answer as sglang does: it tells no version; "
                "is the server SGLang's?"
            )
        return told

    # ---- what it can do

    @property
    def declared(self) -> Capabilities:
        """Seeds are not among them: without ``--enable-deterministic-inference``, which makes it
        slower, SGLang takes the ``seed`` of a request and does not follow it."""
        kernels = not self._bare
        return Capabilities(
            models=frozenset({"reasoning", "plain"}),
            series=frozenset(SOURCES) - (set() if kernels else {"drafts"}),
            reasoning=True,
            fixed_length=True,
            token_counts=True,
            log_probabilities=True,
            prefix_caching=True,
            speculative=frozenset({"ngram", "draft", "eagle"} if kernels else ()),
            kv_cache_dtype=kernels,
            quantization=kernels,
            checkpoints=kernels,
            tensor_parallel=True,
            scheduling=frozenset({"priority"}),
            batch_invariant=not self.on_cpu,
            flags=True,
        )

    @property
    def _bare(self) -> bool:
        """Whether it is a CPU build whose kernels are not installed."""
        return self.url is None and self.on_cpu and not self._package.compiled

    def cannot(self, serving: Serving, sampling: Sampling | None = None) -> str | None:
        if self._bare and (lacking := self.declared.lacking(serving)):
            return (
                f"{self.label} cannot serve {' and '.join(lacking)} on this CPU: that takes "
                "SGLang's compiled kernels (sgl_kernel), and no build of them is installed beside "
                "it; use a GPU, or build SGLang for CPU from its source"
            )
        return super().cannot(serving, sampling)

    # ---- how to ask it

    def body(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        body = super().body(prompt, sampling)
        body["stream_options"]["continuous_usage_stats"] = True
        return body | {"ignore_eos": sampling.fixed_length}

    def prioritised(self, body: Mapping[str, Any], priority: int) -> dict[str, Any]:
        return {**body, "priority": priority}

    def greedy_body(
        self, text: str, tokens: int, *, log_probabilities: bool = False
    ) -> dict[str, Any]:
        body = super().greedy_body(text, tokens, log_probabilities=log_probabilities)
        return body | {"ignore_eos": True}

    def empty_cache(self, url: str) -> bool:
        ask(f"{url}/flush_cache", {})
        return True

    # ---- what it tells

    def ids_of_prompt(self, chunk: Mapping[str, Any]) -> list[int] | None:
        return (chunk.get("sglext") or {}).get("input_ids") or None

    def sampling_defaults(self, url: str, context: int) -> dict[str, Any] | None:  # noqa: ARG002
        """What SGLang takes for what a request leaves out, as its source says it is resolved.

        A server tells whether it follows the model's ``generation_config.json``, and where the
        model is; the file is read here. None where the model is no folder of this machine.
        """
        told = server_info(url)
        follows, model = told.get("sampling_defaults"), Path(str(told.get("model_path")))
        if follows == "openai":
            return dict(NEUTRAL)
        if follows != "model" or not model.is_dir():
            return None
        file = model / "generation_config.json"
        said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        found = NEUTRAL | {name: said[name] for name in RESOLVED if said.get(name) is not None}
        return found | {"top_k": max(0, found["top_k"])}

    def read_metrics(self, page: str, serving: Serving) -> Page:
        return read(page, speculates=bool(serving.speculative))

    def switched_on(self, page: str) -> list[str]:  # noqa: ARG002
        """As the server says of itself: its page does not tell."""
        told, found = self._info, []
        if not told.get("disable_radix_cache", False):
            found.append("prefix caching")
        if told.get("kv_cache_dtype") not in OWN_TYPES:
            found.append(f"a KV cache of {told['kv_cache_dtype']}")
        if told.get("speculative_algorithm"):
            found.append("speculation")
        return found

    # ---- how to start it

    def launch(self, serving: Serving, pair: ModelPair, port: int) -> Launch:
        package = self._package
        if not package.kernels:
            raise EngineError(
                f"{self.label} of {self._python} does not start without the module sgl_kernel, "
                "which is not installed there: install sglang with all that it needs"
            )
        model, quantization = pair.weights(serving.model, serving.quantization)
        place = self.placement
        kv_type = KV_TYPES.get(serving.kv_cache_dtype or "", serving.kv_cache_dtype)
        options: dict[str, str | int | None] = {
            "--model-path": model,
            "--served-model-name": MODEL_NAME,
            "--host": "127.0.0.1",
            "--port": port,
            "--context-length": pair.context_of(serving.model),
            "--tp-size": max(serving.tensor_parallel, place.gpus if place else 1),
            "--page-size": pair.kv_block_tokens,
            "--max-total-tokens": _kv_tokens(pair, model, kv_type),
            "--quantization": quantization,
            "--kv-cache-dtype": kv_type,
            "--decode-log-interval": GAUGES_EVERY,
        }
        if serving.reasons:
            options["--reasoning-parser"] = parser_of(pair, "SGLang", PARSERS, ONE_MODE)
        options |= _speculation(serving, pair)
        # Without --sleep-on-idle an idle server keeps a processor busy that the other arm needs.
        switches = ["--enable-metrics", "--enable-cache-report", "--sleep-on-idle"]
        if not serving.prefix_caching:
            switches.append("--disable-radix-cache")
        if serving.scheduling == "priority":
            switches += ["--enable-priority-scheduling", "--schedule-low-priority-values-first"]
        switches += ["--enable-deterministic-inference"] * serving.batch_invariant
        # Else each question whether it is healthy takes a second, and generates a token.
        env: dict[str, str | None] = {"SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "false"}
        env |= without_look_ups(model)
        if not package.gpu:
            options["--device"] = "cpu"
            if not package.compiled:
                options["--attention-backend"] = "torch_native"
                switches.append("--disable-overlap-schedule")
            env |= {"SGLANG_USE_CPU_ENGINE": "1", **ONE_THREAD}
        if pair.kv_cache_bytes is None:
            # Of the memory that is free when it starts.
            options["--mem-fraction-static"] = f"{place.share_of_free if place else SHARE:.3f}"
        server = [self._python.path, "-m", "sglang.launch_server", *flags_of(options), *switches]
        argv = [*server, *pair.flags.get(self.name, ()), *serving.flags]
        return Launch(argv, env | self._python.variables)


def server_info(url: str) -> dict[str, Any]:
    """What a server says of itself: its flags as they were resolved, and its version.

    Raises:
        EngineError: it does not answer, or not as SGLang does.
    """
    for path in INFO:
        try:
            told = json.loads(ask(url + path))
            if isinstance(told, dict):
                return told
            error: Exception = TypeError("the answer is no object")
        except HTTPError as refused:
            error = refused
            if refused.code == 404:
                continue
        except (*NO_ANSWER, ValueError) as failed:
            error = failed
        break
    raise EngineError(
        f"GET {url}{path} did not answer as sglang does ({type(error).__name__}: {error}); does "
        "the server still run, and is it SGLang's?"
    ) from error


def _config(model: str) -> dict[str, Any]:
    """The ``config.json`` of a checkpoint's language model; empty for one that is no folder."""
    file = Path(model) / "config.json"
    if not file.is_file():
        return {}
    config = json.loads(file.read_text(encoding="utf-8"))
    return dict(config | config.get("text_config", {}))


def _kv_tokens(pair: ModelPair, model: str, kv_type: str | None) -> int | None:
    """How many tokens a KV cache of the pair's size holds: SGLang is told tokens, not bytes."""
    if pair.kv_cache_bytes is None:
        return None
    config = _config(model)
    try:
        heads = config["num_attention_heads"]
        numbers = config["num_hidden_layers"] * (config.get("num_key_value_heads") or heads)
        numbers *= config.get("head_dim") or config["hidden_size"] // heads
    except KeyError as error:
        raise ValueError(
            f"the model pair {pair.name!r} sets kv_cache_bytes, and SGLang is told tokens: how "
            f"many these are is not known, because {model}/config.json has no {error}; leave "
            "kv_cache_bytes out, and say --max-total-tokens among the pair's flags"
        ) from error
    return int(pair.kv_cache_bytes // (2 * numbers * KV_BYTES.get(kv_type or "", 2)))


def _speculation(serving: Serving, pair: ModelPair) -> dict[str, str | int | None]:
    """Flags that propose ``speculative_tokens`` in a row, which SGLang counts with the token before
    them."""
    if serving.speculative is None:
        return {}
    flags: dict[str, str | int | None] = {
        "--speculative-num-draft-tokens": serving.speculative_tokens + 1
    }
    if serving.speculative == "ngram":
        # A row, not a tree: trees need other attention than a paged KV cache has.
        return flags | {
            "--speculative-algorithm": "NGRAM",
            "--speculative-ngram-max-bfs-breadth": 1,
        }
    role = "eagle" if serving.speculative == "eagle" else "draft"
    return flags | {
        # Without heads it is a small model of its own.
        "--speculative-algorithm": pair.heads(role) or "STANDALONE",
        "--speculative-draft-model-path": pair.path(role),
        "--speculative-num-steps": serving.speculative_tokens,
        "--speculative-eagle-topk": 1,
    }
