"""A real server of somebody else's: Hugging Face ``transformers serve``, with the bundled model."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import pytest

from pytest_rllm import EngineConformance
from pytest_rllm.engines import engine_named
from pytest_rllm.engines.base import EngineError
from pytest_rllm.engines.http import NO_ANSWER, ask
from pytest_rllm.engines.pool import Pool, free_port
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.models import PAIRS
from pytest_rllm.session import probes

NEEDED = ("transformers", "accelerate", "fastapi", "uvicorn")
MISSING = [name for name in NEEDED if find_spec(name) is None]
VERSION = "" if "transformers" in MISSING else metadata.version("transformers")
MODEL = str(Path(PAIRS["tiny"].reasoning))
NAME = MODEL  # it calls it MODEL@main in its answers, and refuses that name in requests
STARTED_WITHIN_S = 180

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}: pip install them"),
]


@contextmanager
def serving(folder: Path, *flags: str) -> Iterator[str]:
    """The URL of a server of the bundled reasoning model."""
    port = free_port()
    program = Path(sys.executable).with_name("transformers")
    command = [program, "serve", MODEL, "--device", "cpu", "--dtype", "float32", "--port", port]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(folder)}
    log = folder / "server.log"
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [*map(str, command), *flags], env=env, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        url, given_up = f"http://127.0.0.1:{port}", time.monotonic() + STARTED_WITHIN_S
        while True:
            assert process.poll() is None, log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < given_up, log.read_text(errors="replace")[-3000:]
            try:
                ask(f"{url}/health", timeout_s=5)
                break
            except NO_ANSWER:
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def somebody_elses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The server that the suite is run against."""
    with serving(tmp_path_factory.mktemp("transformers")) as url:
        TestTransformersServe.engine = f"openai@{url}"
        yield


@pytest.mark.usefixtures("somebody_elses")
class TestTransformersServe(EngineConformance):
    """The whole public suite."""

    engine: ClassVar[str] = ""
    model_name = NAME
    called = ("transformers serve", VERSION)
    faults: ClassVar = {
        "test_a_request_that_cannot_be_served_is_refused[no messages]": "it answers HTTP 500",
        "test_a_request_that_cannot_be_served_is_refused[too long a prompt]": (
            "it does not compare the length of a prompt with the model's context"
        ),
    }


def test_a_server_that_falls_silent_is_an_error_in_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With continuous batching its streams stop after a token."""
    monkeypatch.setattr(probes, "observe", patient(probes.observe, monkeypatch))
    with serving(tmp_path, "--continuous-batching") as url, Pool(tmp_path / "pool") as pool:
        engine = engine_named(f"openai@{url}", named=True)
        pair = replace(PAIRS["tiny"], served_name=NAME)
        server = pool.serve(engine, Serving(), pair)
        with pytest.raises(EngineError, match=r"was silent for 10 s") as caught:
            probes.Probes().snapshot(server)
        assert str(caught.value).count("was silent") == 1, "asked once, not three times"


def patient(observe: object, monkeypatch: pytest.MonkeyPatch) -> object:
    """``observe`` with a patience of 10 s instead of 60."""
    from pytest_rllm.engines import api_snapshot

    monkeypatch.setattr(api_snapshot, "ask", lambda url, body=None: ask(url, body, timeout_s=10))
    return observe
