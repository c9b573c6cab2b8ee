"""Whether optimisations that an engine declares are really on, and off where nobody asks."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from ...engines.capabilities import SPECULATION, Capabilities
from ...engines.server import Server
from ...experiment.serving import Serving
from ...experiment.workloads import Sampling
from .base import OPTIONAL, TOKENS, Chapter, measured, page_of, streamed


class Optimisations(Chapter):
    """Prefix caching, speculation, KV caches of other types."""

    def test_prefix_caching_is_really_on(
        self, served: Callable[[Serving], Server], can: Capabilities
    ) -> None:
        """Where declared: a prompt that is asked again is found in the cache."""
        server = served(OPTIONAL["prefix caching"])
        if "prefix_hits" not in can.series:
            pytest.skip("the engine declares prefix caching, and no series 'prefix_hits' of it")
        for _ in range(2):
            assert streamed(server, Sampling(TOKENS)).error is None
        assert page_of(server).values["prefix_hits"] > 0

    def test_the_prefix_cache_can_be_emptied(
        self, served: Callable[[Serving], Server], can: Capabilities
    ) -> None:
        """Where the engine has a way to: a prompt that was asked before is not found any more."""
        server = served(OPTIONAL["prefix caching"])
        if "prefix_hits" not in can.series:
            pytest.skip("the engine declares prefix caching, and no series 'prefix_hits' of it")
        if not server.engine.empty_cache(server.url):
            pytest.skip("the engine has no way to empty its prefix cache")
        hits = []
        for empty in (False, False, True):
            if empty:
                server.engine.empty_cache(server.url)
            before = page_of(server).values["prefix_hits"]
            assert streamed(server, Sampling(TOKENS)).error is None
            hits.append(page_of(server).values["prefix_hits"] - before)
        assert hits[1] > 0 == hits[2]

    def test_prefix_caching_is_off_where_it_is_not_asked_for(
        self, server: Server, can: Capabilities
    ) -> None:
        """The default serving is the base of every comparison."""
        if "prefix_hits" not in can.series:
            pytest.skip("the engine declares no series 'prefix_hits'")
        for _ in range(2):
            assert streamed(server, Sampling(TOKENS)).error is None
        assert page_of(server).values["prefix_hits"] == 0

    @pytest.mark.parametrize("kind", ["ngram", "draft"])
    def test_speculation_is_really_on(
        self,
        served: Callable[[Serving], Server],
        can: Capabilities,
        kind: str,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        """Where declared: tokens are drafted, and no more are accepted."""
        server = served(OPTIONAL[kind])
        told = can.series & set(SPECULATION)
        if not told:
            pytest.skip("the engine declares speculation, and no series of it")
        run = measured(server, tmp_path_factory)
        assert all(sample.error is None for sample in run.samples)
        page = page_of(server)
        assert not told & page.missing.keys(), "\n".join(page.missing.values())
        assert all(page.values[name] > 0 for name in told - {"accepted_tokens"})
        assert page.values.get("accepted_tokens", 0) <= page.values.get("draft_tokens", math.inf)

    def test_a_kv_cache_of_another_type_holds_more(
        self, server: Server, served: Callable[[Serving], Server], can: Capabilities
    ) -> None:
        """Where declared: a smaller one has room for more tokens than the model's own type."""
        smaller = served(Serving(kv_cache_dtype=self.small_kv_cache))
        if "kv_capacity_tokens" not in can.series:
            pytest.skip("the engine declares no series 'kv_capacity_tokens'")
        rooms = [page_of(one).values["kv_capacity_tokens"] for one in (smaller, server)]
        assert rooms[0] > rooms[1]
