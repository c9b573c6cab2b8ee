"""What an engine tells of itself: who it is, and what it measures."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import pytest

from ...engines.base import Endpoint
from ...engines.capabilities import COUNTERS, Capabilities
from ...engines.server import Server
from ...models import ModelPair
from .base import IDLE_WITHIN_S, IN_FLIGHT, Chapter, Load, page_of


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

    def test_declared_series_are_on_the_page(self, server: Server, load: Load) -> None:
        """Read beside a run, as when a finding is measured; no more and no fewer."""
        wanted = server.engine.capabilities.series_of(server.serving)
        assert load.run.closing is not None
        assert load.run.closing["telemetry_errors"] == {}
        assert not wanted & load.after.missing.keys(), "\n".join(load.after.missing.values())
        assert wanted <= load.run.series.keys()

    def test_counters_grow_as_clients_count(self, load: Load, can: Capabilities) -> None:
        """None shrinks, and tokens are as many as the usage of the answers tells."""
        counters = can.series & set(COUNTERS) & load.run.series.keys()
        if not counters:
            pytest.skip("the engine declares no counters")
        for name in sorted(counters):
            values = load.run.series[name][1]
            assert all(a <= b for a, b in pairwise(values)), f"{name} shrank: {values}"
        used = [sample.usage for sample in load.run.samples]
        for name, field in (
            ("generation_tokens", "completion_tokens"),
            ("prompt_tokens", "prompt_tokens"),
        ):
            if name in counters:
                grown = load.after.values[name] - load.before.values[name]
                assert grown == sum(usage[field] for usage in used), f"{name} grew by {grown}"

    def test_shares_stay_within_0_and_1(self, load: Load, can: Capabilities) -> None:
        """The use of the KV cache."""
        if "kv_use" not in can.series:
            pytest.skip("the engine declares no series 'kv_use'")
        values = [*load.run.series["kv_use"][1], load.before.values["kv_use"]]
        assert 0 <= min(values) <= max(values) <= 1

    def test_gauges_move_under_load_and_go_back(
        self, server: Server, load: Load, can: Capabilities
    ) -> None:
        """Requests and their KV cache are seen while they run, and not any more afterwards."""
        gauges = {"kv_use", "running", "waiting"} & can.series
        if not gauges:
            pytest.skip("the engine declares no gauges")
        if "running" in gauges:
            running = load.run.series["running"][1]
            assert 1 <= max(running) <= IN_FLIGHT, f"requests that run, of {IN_FLIGHT}: {running}"
        if "kv_use" in gauges:
            assert max(load.run.series["kv_use"][1]) > load.before.values["kv_use"]
        given_up = time.monotonic() + IDLE_WITHIN_S
        while above := {
            name: value
            for name, value in page_of(server).values.items()
            if name in gauges and value > load.before.values[name]
        }:
            assert time.monotonic() < given_up, f"idle, and still above what they were: {above}"
            time.sleep(0.1)

    def test_it_tells_what_a_request_without_sampling_parameters_gets(
        self, server: Server, models: ModelPair
    ) -> None:
        """What the model's ``generation_config.json`` sets, else the engine's own values."""
        told = server.engine.sampling_defaults(server.url, models.max_model_len)
        if told is None:
            pytest.skip("the engine does not tell what it resolves")
        assert {"temperature", "top_p"} <= told.keys(), f"there are {sorted(told)}"
        assert told["temperature"] >= 0
        assert 0 < told["top_p"] <= 1
        assert told == server.engine.sampling_defaults(server.url, models.max_model_len)
        file = Path(models.path("reasoning")) / "generation_config.json"
        said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        for name in ("temperature", "top_p"):
            assert told[name] == said.get(name, told[name]), f"{name}: {file} says another value"
