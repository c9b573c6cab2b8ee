"""Any server of OpenAI's chat completions, by its URL: ``--rllm-engine openai@http://host:8000``.

It is asked for no more than OpenAI's API has, so little can be measured: latencies and answers, no
KV cache, no fixed lengths. Engines that speak more than this API derive from this class; what the
documents of some servers say on top is in ``dialects``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from ..datasets.prompts import Prompt
from ..experiment.workloads import Sampling
from .base import Endpoint
from .capabilities import Capabilities


class OpenAIEndpoint(Endpoint):
    """A server that runs already, and tells neither metrics nor what engine it is."""

    name: ClassVar[str] = "openai"
    health_path: ClassVar[str] = "/v1/models"

    def version(self) -> str:
        """Not told by this API; who owns its models is the nearest to it."""
        if self.named:  # it need not list its models
            return "version not told"
        return f"version not told, model owned by {self._owner}"

    @cached_property
    def _owner(self) -> str:
        def owners(said: Any) -> str:
            listed = [str(model.get("owned_by") or "not told") for model in said["data"]]
            return " or ".join(dict.fromkeys(listed))

        return self.told("/v1/models", owners)

    @property
    def declared(self) -> Capabilities:
        """OpenAI's API has no field for reasoning, and many servers tell no log probabilities."""
        return Capabilities()

    def body(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        return {
            "model": self.model_name,
            "messages": prompt.messages,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def greedy_body(
        self, text: str, tokens: int, *, log_probabilities: bool = False
    ) -> dict[str, Any]:
        body = {
            "model": self.model_name,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": tokens,
        }
        return body | ({"logprobs": True} if log_probabilities else {})

    def log_probabilities(self, answer: Mapping[str, Any]) -> list[float]:
        told = (answer["choices"][0].get("logprobs") or {}).get("content") or []
        return [float(token["logprob"]) for token in told]
