"""Servers start once, say why when they do not, and leave nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_rllm.engines.base import Engine, EngineError, Launch
from pytest_rllm.engines.builds import Build
from pytest_rllm.engines.pool import Pool
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.models import PAIRS

TINY = PAIRS["tiny"]
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


class ScriptEngine(Engine):
    """A process that is started like an engine and runs a script of ours; it answers no prompt."""

    name = "script"

    def __init__(self, script: str) -> None:
        self.script = script

    def version(self) -> str:
        return "1"

    def launch(self, serving: Serving, pair: Any, port: int) -> Launch:
        return Launch([sys.executable, "-c", self.script, str(port)])

    def read_metrics(self, page: str, serving: Serving) -> dict[str, float]:
        raise NotImplementedError

    def switched_on(self, page: str) -> list[str]:
        return page.split()


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=15)
    return not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_serving_is_started_once_and_stopped_at_the_end(in_tmp: Path) -> None:
    with Pool(ScriptEngine(HEALTHY), in_tmp, start_s=30) as pool:
        first = pool.serve(Serving(), TINY)
        assert pool.serve(Serving(), TINY) is first
        other = pool.serve(Serving(prefix_caching=True), TINY)
        assert other is not first
        assert first.alive
        assert other.alive
        processes = psutil.Process(first.process.pid).children(recursive=True)
        assert processes
    assert gone(processes)
    assert not first.alive
    assert not other.alive


def test_what_ignores_term_and_what_fled_to_another_session_is_ended_too(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Pool(ScriptEngine(STUBBORN), in_tmp, start_s=30) as pool:
        server = pool.serve(Serving(), TINY)
        processes = psutil.Process(server.process.pid).children(recursive=True)
        assert len(processes) == 2
    assert gone(processes)


def test_nothing_outlives_a_parent_that_is_killed(in_tmp: Path) -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; sys.path.insert(0, sys.argv[2])\n"
            "from test_pool import *\n"
            "pool = Pool(ScriptEngine(HEALTHY), Path(sys.argv[1]))\n"
            "print(pool.serve(Serving(), TINY).process.pid, flush=True); time.sleep(600)",
            str(in_tmp),
            str(Path(__file__).parent),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    warden = psutil.Process(int(parent.stdout.readline()))
    processes = [warden, *warden.children(recursive=True)]
    assert len(processes) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert gone(processes)


def test_an_engine_that_dies_while_loading_shows_its_command_and_last_words(in_tmp: Path) -> None:
    engine = ScriptEngine("print('loading'); raise SystemExit('no such model')")
    with pytest.raises(EngineError) as caught, Pool(engine, in_tmp) as pool:
        pool.serve(Serving(), TINY)
    text = str(caught.value)
    assert "ended with status 1" in text
    assert "  | no such model" in text
    assert "command: " + sys.executable in text


def test_an_engine_that_never_gets_healthy_is_given_up_and_ended(in_tmp: Path) -> None:
    engine = ScriptEngine("import time; print('still loading', flush=True); time.sleep(600)")
    pool = Pool(engine, in_tmp, start_s=1.0)
    with pytest.raises(EngineError, match="not healthy after 1 s") as caught:
        pool.serve(Serving(), TINY)
    assert "still loading" in str(caught.value)
    assert not [p for p in psutil.Process().children(recursive=True) if "600" in p.cmdline()[-2:]]


def test_a_command_that_does_not_exist_says_so(in_tmp: Path) -> None:
    class Absent(ScriptEngine):
        def launch(self, serving: Serving, pair: Any, port: int) -> Launch:
            return Launch(["/no/such/engine"])

    with pytest.raises(EngineError, match="cannot start /no/such/engine"):
        Pool(Absent(""), in_tmp).serve(Serving(), TINY)


def test_a_server_that_died_is_started_anew_when_it_is_asked_for_again(in_tmp: Path) -> None:
    with Pool(ScriptEngine(HEALTHY), in_tmp, start_s=30) as pool:
        server = pool.serve(Serving(), TINY)
        psutil.Process(server.process.pid).children()[0].kill()
        server.process.wait(timeout=15)
        assert not server.answers("/health")
        again = pool.serve(Serving(), TINY)
        assert again.number == 2
        assert again.answers("/health")


# ---- a server that runs already


def attached(url: str) -> Engine:
    engine = ScriptEngine("raise SystemExit('must not be started')")
    engine.build = Build(url, url=url)
    return engine


def test_a_server_that_runs_already_is_asked_and_left_alone(in_tmp: Path) -> None:
    Path("v1").mkdir()
    Path("v1/models").write_text('{"data": [{"id": "mine"}, {"id": "adapter"}]}')
    Path("metrics").touch()
    with Pool(ScriptEngine(HEALTHY), in_tmp / "theirs", start_s=30) as theirs:
        running = theirs.serve(Serving(), TINY)
        engine = attached(running.url)
        assert engine.model_name == "mine"
        with Pool(engine, in_tmp / "ours") as ours:
            server = ours.serve(Serving(), TINY)
            assert ours.serve(Serving(), TINY) is server
            assert (server.url, server.number, server.status) == (running.url, 1, None)
            assert server.answers("/health")
            with pytest.raises(ValueError, match="cannot be asked for 'reasoning, prefix caching'"):
                ours.serve(Serving(prefix_caching=True), TINY)
        assert running.alive
        assert not (in_tmp / "ours").exists()
        theirs.close()
        assert not server.alive
        assert not server.answers("/health")
        assert "is not ours" in server.last_words()
        with pytest.raises(EngineError, match="does not answer") as caught:
            Pool(engine, in_tmp).serve(Serving(), TINY)
        assert server.url in str(caught.value)


def test_a_server_that_runs_with_an_optimisation_on_is_refused(in_tmp: Path) -> None:
    Path("v1").mkdir()
    Path("v1/models").write_text('{"data": [{"id": "mine"}]}')
    with Pool(ScriptEngine(HEALTHY), in_tmp / "theirs", start_s=30) as theirs:
        pool = Pool(attached(theirs.serve(Serving(), TINY).url), in_tmp)
        with pytest.raises(EngineError, match=r"GET http://127.0.0.1:\d+/metrics.*404"):
            pool.serve(Serving(), TINY)
        Path("metrics").write_text("speculation")
        with pytest.raises(ValueError, match="serves with speculation: start it without"):
            pool.serve(Serving(), TINY)


# ---- another interpreter


def test_what_a_launch_removes_from_the_environment_is_gone(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bare(ScriptEngine):
        def launch(self, serving: Serving, pair: Any, port: int) -> Launch:
            env = {"PYTHONPATH": None, "RLLM_GIVEN": "7"}
            return Launch(super().launch(serving, pair, port).argv, env)

    monkeypatch.setenv("PYTHONPATH", "/of/the/running/environment")
    say = "import os; open('env', 'w').write(repr(dict(os.environ)))\n"
    with Pool(Bare(say + HEALTHY), in_tmp, start_s=30) as pool:
        pool.serve(Serving(), TINY)
    env = Path("env").read_text()
    assert "'RLLM_GIVEN': '7'" in env
    assert "PYTHONPATH" not in env
