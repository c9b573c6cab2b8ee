"""The mock engine's server behind a gateway that gives its pages as another engine does."""

from __future__ import annotations

import json
from typing import Any

from doubles.gateway import Gateway
from pytest_rllm.engines import dialects, llamacpp, vllm
from pytest_rllm.engines.mock.server import METRICS
from pytest_rllm.engines.sglang.page import SOURCES

ADAPTERS = ("vllm", "sglang", "llamacpp", "openai", "openai+tgi")
"""Adapters that attach to a URL, and that a mock server can play."""


def mock_of(adapter: str, upstream: str, **more: Any) -> Gateway:
    """A gateway before a mock server, whose pages are those that an adapter asks for.

    Args:
        adapter: one of ``ADAPTERS``.
        upstream: URL of the mock server.
        more: of the gateway.
    """
    words: dict[str, str] = {}
    told: dict[str, Any] = {}
    if adapter == "vllm":
        words = {ours: names[0] for ours, names in vllm.ALWAYS.items()}
        told["/version"] = {"version": "0.32.0"}
    elif adapter == "sglang":
        words = {ours: source.name for ours, (source, *_) in SOURCES.items() if not source.modes}
        told["/server_info"] = {"version": "0.5.23", "disable_radix_cache": True, "device": "cpu"}
    elif adapter == "llamacpp":
        names = llamacpp.TOKENS
        words = {ours: found[0] for ours, found in llamacpp.ALWAYS.items()}
        words |= {"prompt_tokens": names["read"], "prefix_hits": names["cached"]}
        params = dict.fromkeys(llamacpp.SAMPLING, 0)
        told["/props"] = {
            "build_info": "b5549-abc1234",
            "default_generation_settings": {"params": params},
        }
        told["/slots"] = []
    elif adapter == "openai+tgi":
        words = dict(dialects.Tgi.dialect.metrics)
        told["/info"] = {"version": "3.3.1"}
    pages = {path: (200, json.dumps(said).encode()) for path, said in told.items()}
    gateway = Gateway(upstream, **more)
    gateway.words = {METRICS[ours]: theirs for ours, theirs in words.items()}
    gateway.pages = pages | gateway.pages
    return gateway
