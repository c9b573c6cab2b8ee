"""A process that is started like an engine and runs a script of ours."""

from __future__ import annotations

import sys
from typing import Any

from pytest_rllm.engines.base import Launch, Launcher
from pytest_rllm.engines.capabilities import Capabilities
from pytest_rllm.engines.openai import OpenAIEndpoint
from pytest_rllm.experiment.serving import Serving

HEALTHY = """
import http.server, sys
open("health", "w").close()
handler = http.server.SimpleHTTPRequestHandler
http.server.test(handler, port=int(sys.argv[1]), bind="127.0.0.1")
"""
STUBBORN = f"""
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
{HEALTHY}
"""


class ScriptEngine(OpenAIEndpoint, Launcher):
    """A process that is started like an engine and runs a script of ours; it answers no prompt.

    Its metrics page holds the words of what is switched on.
    """

    name = "script"
    health_path = "/health"
    metrics_path = "/metrics"

    def __init__(self, script: str) -> None:
        self.script = script

    @property
    def declared(self) -> Capabilities:
        return Capabilities(prefix_caching=True)

    def version(self) -> str:
        return "1"

    @property
    def on_cpu(self) -> bool:
        return True

    def launch(self, serving: Serving, pair: Any, port: int) -> Launch:
        return Launch([sys.executable, "-c", self.script, str(port)])

    def switched_on(self, page: str) -> list[str]:
        return page.split()
