"""The conformance suite: does an engine do what its adapter declares?

The author of an adapter subclasses :class:`EngineConformance` in a test file, and runs it against
the real engine::

    from pytest_rllm import EngineConformance

    class TestMyEngine(EngineConformance):
        engine = "my-engine"  # or "my-engine@http://host:8000", of a server that runs

Every capability that is declared is tried, and everything that is not declared must be refused
before a server is started. What cannot be tried is skipped with the reason.
"""

from __future__ import annotations

from .base import PROMPTS as PROMPTS
from .ends import Ends
from .optimisations import Optimisations
from .streams import Streams
from .telling import Telling


class EngineConformance(Ends, Optimisations, Telling, Streams):
    """Tests of one engine's adapter; subclass it and say which engine.

    Attributes:
        engine: as ``--rllm-engine`` takes it.
        pair: the models, as ``--rllm-model`` takes them; the bundled pair by default.
        start_s: seconds in which a server must be healthy.
        small_kv_cache: what the engine calls a type of the KV cache that is smaller than its own.
        model_name: what a server that runs already calls the model; None: it is asked.
        called: name and version, for the table, of a server that runs already and does not tell
            them.
        faults: tests that the engine is known to fail, by their names (with ``[...]`` or without),
            and why; the table says so, and one that passes after all fails.

    Options of the command line that name keys, headers and a CA file hold for it, too.
    """
