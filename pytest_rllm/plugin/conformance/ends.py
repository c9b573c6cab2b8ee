"""What an engine refuses, and its end."""

from __future__ import annotations

import pytest

from ...engines.base import Capabilities, Endpoint
from ...engines.pool import Attached, Pool, served_as
from ...experiment.serving import Serving
from ...experiment.workloads import Sampling
from ...models import ModelPair
from .base import OPTIONAL, TOKENS, Chapter


class Ends(Chapter):
    """Errors, refusals, and how a server ends."""

    def test_what_is_not_declared_is_refused_with_a_reason(
        self, pool: Pool, adapter: Endpoint, models: ModelPair, can: Capabilities
    ) -> None:
        """Before a server is started."""
        refused = [
            serving for serving in OPTIONAL.values() if can.lacking(served_as(serving, models))
        ]
        if not refused:
            pytest.skip("the engine declares every capability: there is nothing to refuse")
        started = pool.started
        for serving in refused:
            assert adapter.cannot(serving), f"'{serving}' is not declared, and not refused"
            with pytest.raises(ValueError, match="cannot"):
                pool.serve(adapter, serving, models)
        assert pool.started == started

    def test_a_fixed_length_that_is_not_declared_is_refused(
        self, adapter: Endpoint, can: Capabilities
    ) -> None:
        """Before anything is asked."""
        reason = adapter.cannot(Serving(), Sampling(TOKENS, fixed_length=True))
        assert (reason is None) == can.fixed_length

    def test_a_server_is_gone_when_it_is_stopped(
        self, pool: Pool, adapter: Endpoint, models: ModelPair
    ) -> None:
        """One that we started; one that ran already stays up."""
        server = pool.serve(adapter, Serving(), models)
        server.stop()
        ours = not isinstance(server, Attached)
        assert server.alive is not ours
        assert server.answers(adapter.health_path) is not ours
