"""What an engine tells of itself: who it is, and what it measures."""

from __future__ import annotations

import time

import pytest

from ...engines.base import COUNTERS, Capabilities, Endpoint
from ...engines.pool import Server
from ...experiment.workloads import Sampling
from .base import IDLE_WITHIN_S, TOKENS, Chapter, measured, page_of, streamed


class Telling(Chapter):
    """Its version, its health, and the series of its metrics page."""

    def test_it_tells_its_version_and_a_label(self, adapter: Endpoint) -> None:
        """Both stand in every record; neither may be empty or change from call to call."""
        version = adapter.version()
        assert version.strip(), "version() is empty"
        assert adapter.version() == version
        assert adapter.distribution.strip(), "distribution is empty"
        assert adapter.label.strip(), "label is empty"
        assert adapter.key == self._engine().key

    def test_its_server_is_healthy(self, adapter: Endpoint, server: Server) -> None:
        """It answers at ``health_path``."""
        assert server.alive
        assert server.answers(adapter.health_path)

    def test_declared_series_are_on_the_page_and_counters_grow(
        self, server: Server, can: Capabilities, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """Read beside a run, as when a finding is measured."""
        wanted = can.series_of(server.serving)
        if not wanted:
            pytest.skip("the engine declares no series of a metrics page")
        run = measured(server, tmp_path_factory)
        assert run.closing is not None
        assert run.closing["telemetry_errors"] == {}
        missing = page_of(server).missing
        assert not wanted & missing.keys(), "\n".join(missing.values())
        assert wanted <= run.series.keys()
        grown = {n: run.series[n][1][-1] - run.series[n][1][0] for n in wanted & set(COUNTERS)}
        assert all(value >= 0 for value in grown.values()), f"a counter shrank: {grown}"
        used = [sample.usage for sample in run.samples]
        for name, field in (
            ("generation_tokens", "completion_tokens"),
            ("prompt_tokens", "prompt_tokens"),
        ):
            if name in grown:
                assert grown[name] == sum(usage[field] for usage in used)
        if "kv_use" in wanted:
            assert 0 <= min(run.series["kv_use"][1]) <= max(run.series["kv_use"][1]) <= 1
        if "running" in wanted:
            assert max(run.series["running"][1]) >= 1, "no request was seen running"

    def test_an_idle_server_runs_nothing(self, server: Server, can: Capabilities) -> None:
        """Requests in flight are gone from the gauges when their answers have ended."""
        gauges = {"running", "waiting"} & can.series
        if not gauges:
            pytest.skip("the engine declares no gauges of requests")
        streamed(server, Sampling(TOKENS))
        given_up = time.monotonic() + IDLE_WITHIN_S
        while any(page_of(server).values[name] for name in gauges):
            assert time.monotonic() < given_up, f"not idle: {page_of(server).values}"
            time.sleep(0.1)
