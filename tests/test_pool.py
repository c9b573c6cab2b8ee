"""Servers start once, say why when they do not, and leave nothing behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from doubles.script_engine import HEALTHY, STUBBORN, ScriptEngine

from pytest_rllm.engines.base import EngineError, Launch
from pytest_rllm.engines.builds import Build
from pytest_rllm.engines.capabilities import Capabilities
from pytest_rllm.engines.pool import Pool
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling
from pytest_rllm.models import PAIRS

TINY = PAIRS["tiny"]


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=15)
    return not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def running(engine: ScriptEngine) -> list[psutil.Process]:
    """Our processes that run the engine's script; their supervisors have it as an argument, too."""
    mine = psutil.Process().children(recursive=True)
    return [p for p in mine if p.is_running() and engine.script in p.cmdline()]


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_serving_is_started_once_and_stopped_at_the_end(in_tmp: Path) -> None:
    engine = ScriptEngine(HEALTHY)
    with Pool(in_tmp, start_s=30) as pool:
        first = pool.serve(engine, Serving(), TINY)
        assert pool.serve(engine, Serving(), TINY) is first
        other = pool.serve(engine, Serving(prefix_caching=True), TINY)
        assert other is not first
        assert first.alive
        assert other.alive
        processes = psutil.Process(first.process.pid).children(recursive=True)
        assert processes
    assert gone(processes)
    assert first.status == 0  # of the supervisor, which was told to end its server
    assert not first.alive
    assert not other.alive


def test_what_ignores_term_and_what_fled_to_another_session_is_ended_too(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Pool(in_tmp, start_s=30) as pool:
        engine = ScriptEngine(STUBBORN)
        server = pool.serve(engine, Serving(), TINY)
        assert running(engine)  # so it is told when one is left over
        processes = psutil.Process(server.process.pid).children(recursive=True)
        assert len(processes) == 2
    assert gone(processes)


def test_nothing_outlives_a_parent_that_is_killed(in_tmp: Path) -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; sys.path.insert(0, sys.argv[2])\n"
            "from pathlib import Path\n"
            "from doubles.script_engine import HEALTHY, ScriptEngine\n"
            "from pytest_rllm.engines.pool import Pool\n"
            "from pytest_rllm.experiment.serving import Serving\n"
            "from pytest_rllm.models import PAIRS\n"
            "engine, pool = ScriptEngine(HEALTHY), Pool(Path(sys.argv[1]))\n"
            "server = pool.serve(engine, Serving(), PAIRS['tiny'])\n"
            "print(server.process.pid, flush=True); time.sleep(600)",
            str(in_tmp),
            str(Path(__file__).parent),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    supervisor = psutil.Process(int(parent.stdout.readline()))
    processes = [supervisor, *supervisor.children(recursive=True)]
    assert len(processes) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert gone(processes)


def test_an_engine_that_dies_while_loading_shows_its_command_and_last_words(in_tmp: Path) -> None:
    engine = ScriptEngine("print('loading'); raise SystemExit('no such model')")
    with pytest.raises(EngineError) as caught, Pool(in_tmp) as pool:
        pool.serve(engine, Serving(), TINY)
    text = str(caught.value)
    assert "ended with status 1" in text
    assert "  | no such model" in text
    assert "command: " + sys.executable in text


def test_an_engine_that_never_gets_healthy_is_given_up_and_ended(in_tmp: Path) -> None:
    engine = ScriptEngine("import time; print('still loading', flush=True); time.sleep(600)")
    pool = Pool(in_tmp, start_s=1.0)
    with pytest.raises(EngineError, match="not healthy after 1 s") as caught:
        pool.serve(engine, Serving(), TINY)
    assert "still loading" in str(caught.value)
    assert not running(engine)


def test_a_command_that_does_not_exist_says_so(in_tmp: Path) -> None:
    class Absent(ScriptEngine):
        def launch(self, serving: Serving, pair: Any, port: int) -> Launch:
            return Launch(["/no/such/engine"])

    with pytest.raises(EngineError, match="cannot start /no/such/engine"):
        Pool(in_tmp).serve(Absent(""), Serving(), TINY)


def test_a_server_that_died_is_started_anew_when_it_is_asked_for_again(in_tmp: Path) -> None:
    with Pool(in_tmp, start_s=30) as pool:
        server = pool.serve(ScriptEngine(HEALTHY), Serving(), TINY)
        psutil.Process(server.process.pid).children()[0].kill()
        server.process.wait(timeout=15)
        assert not server.answers("/health")
        again = pool.serve(ScriptEngine(HEALTHY), Serving(), TINY)
        assert again.number == 2
        assert again.answers("/health")


# ---- a port that somebody else took


@contextmanager
def listening(script: str, **options: int) -> Iterator[int]:
    """The port of a process of somebody else's that listens; it is no child of a supervisor."""
    with socket.socket() as held:
        for option, value in options.items():
            held.setsockopt(socket.SOL_SOCKET, getattr(socket, option), value)
        held.bind(("127.0.0.1", 0))
        held.listen()
        with subprocess.Popen(
            [sys.executable, "-c", script, str(held.fileno())], pass_fds=[held.fileno()]
        ) as process:
            try:
                yield int(held.getsockname()[1])
            finally:
                process.kill()


ANSWERS = """
import http.server, socket, sys
class Well(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", 0), Well, bind_and_activate=False)
server.socket = socket.socket(fileno=int(sys.argv[1]))
server.serve_forever()
"""
SHARES_ITS_PORT = """
import socket, sys, time
with socket.socket() as mine:
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    mine.bind(("127.0.0.1", int(sys.argv[1])))
    mine.listen()
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("other", "options", "script", "said"),
    [
        pytest.param("import time; time.sleep(600)", {}, HEALTHY, "ended with status", id="mute"),
        pytest.param(ANSWERS, {}, "import time; time.sleep(600)", "script 1: ", id="well"),
        pytest.param(ANSWERS, {"SO_REUSEPORT": 1}, SHARES_ITS_PORT, "script 1: ", id="shared"),
    ],
)
def test_a_port_that_was_taken_meanwhile_is_said(
    in_tmp: Path, other: str, options: dict[str, int], script: str, said: str
) -> None:
    """Be the other process mute, well, or beside ours on the one port."""
    engine = ScriptEngine(script)
    with listening(other, **options) as port, Pool(in_tmp, start_s=60) as pool:
        pool._free_port = lambda: port  # type: ignore[method-assign]
        sentence = f"the port {port}, which it was told to take, was taken by another process"
        with pytest.raises(EngineError, match=f"{said}.*{sentence}"):
            pool.serve(engine, Serving(), TINY)
        assert not running(engine)


# ---- a server that runs already


def attached(url: str) -> ScriptEngine:
    engine = ScriptEngine("raise SystemExit('must not be started')")
    engine.build = Build(url, url=url)
    return engine


def test_a_server_that_runs_already_is_asked_and_left_alone(in_tmp: Path) -> None:
    Path("v1").mkdir()
    Path("v1/models").write_text('{"data": [{"id": "under-test"}, {"id": "adapter"}]}')
    Path("metrics").touch()
    with Pool(in_tmp / "theirs", start_s=30) as theirs:
        running = theirs.serve(ScriptEngine(HEALTHY), Serving(), TINY)
        engine = attached(running.url)
        assert engine.model_name == "under-test"
        with Pool(in_tmp / "ours") as ours:
            server = ours.serve(engine, Serving(), TINY)
            assert ours.serve(engine, Serving(), TINY) is server
            assert (server.url, server.status) == (running.url, None)
            assert server.answers("/health")
            with pytest.raises(ValueError, match="measured as 'reasoning', not 'reasoning, prefix"):
                ours.serve(engine, Serving(prefix_caching=True), TINY)
        assert running.alive
        assert not (in_tmp / "ours").exists()
        with Pool(in_tmp / "later") as later:
            assert later.serve(engine, Serving(), TINY).number == server.number, "it is one server"
        theirs.close()
        assert not server.alive
        assert not server.answers("/health")
        assert "is not ours" in server.last_words()
        with pytest.raises(EngineError, match="does not answer") as caught:
            Pool(in_tmp).serve(engine, Serving(), TINY)
        assert server.url in str(caught.value)


def test_servers_of_a_session_that_goes_on_are_numbered_after_those_before(in_tmp: Path) -> None:
    for _ in range(2):
        with Pool(in_tmp / "logs", start_s=30) as pool:
            before = pool.started
            assert pool.serve(ScriptEngine(HEALTHY), Serving(), TINY).number == before + 1
    assert (before, pool.started) == (1, 2)


def test_a_server_that_runs_with_an_optimisation_on_is_refused(in_tmp: Path) -> None:
    Path("v1").mkdir()
    Path("v1/models").write_text('{"data": [{"id": "under-test"}]}')
    with Pool(in_tmp / "theirs", start_s=30) as theirs:
        engine = attached(theirs.serve(ScriptEngine(HEALTHY), Serving(), TINY).url)
        pool = Pool(in_tmp)
        with pytest.raises(EngineError, match=r"GET http://127.0.0.1:\d+/metrics.*404"):
            pool.serve(engine, Serving(), TINY)
        Path("metrics").write_text("speculation")
        with pytest.raises(ValueError, match="serves with speculation: start it without"):
            pool.serve(engine, Serving(), TINY)


# ---- another interpreter


def test_what_a_launch_removes_from_the_environment_is_gone(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Removing(ScriptEngine):
        def launch(self, serving: Serving, pair: Any, port: int) -> Launch:
            env = {"PYTHONPATH": None, "RLLM_GIVEN": "7"}
            return Launch(super().launch(serving, pair, port).argv, env)

    monkeypatch.setenv("PYTHONPATH", "/of/the/running/environment")
    say = "import os; open('env', 'w').write(repr(dict(os.environ)))\n"
    with Pool(in_tmp, start_s=30) as pool:
        pool.serve(Removing(say + HEALTHY), Serving(), TINY)
    env = Path("env").read_text()
    assert "'RLLM_GIVEN': '7'" in env
    assert "PYTHONPATH" not in env


# ---- several engines in one pool


class Other(ScriptEngine):
    """An engine of another name."""

    name = "other"


def test_servers_of_two_engines_and_of_two_builds_are_up_at_once(in_tmp: Path) -> None:
    """Each has its number, which counts over all of them, and a log named after its engine."""
    build = ScriptEngine(HEALTHY)
    build.build = Build("/another/python", python="/another/python")
    engines = [ScriptEngine(HEALTHY), Other(HEALTHY), build]
    with Pool(in_tmp / "logs", start_s=30) as pool:
        servers = [pool.serve(engine, Serving(), TINY) for engine in engines]
        assert [server.engine for server in servers] == engines
        assert [server.number for server in servers] == [1, 2, 3]
        assert all(server.alive for server in servers)
        assert len(pool.servers) == len({server.url for server in servers}) == 3
    names = sorted(path.name for path in (in_tmp / "logs").iterdir())
    assert names == [
        f"{name}-1-{number}-{Serving().key}.log"
        for name, number in (("other", 2), ("script", 1), ("script", 3))
    ]


def test_servers_that_are_asked_for_together_start_side_by_side(in_tmp: Path) -> None:
    """Each waits for a file that the other one writes: one after the other they never start."""
    scripts = [
        f"import pathlib, time; pathlib.Path('{mine}').touch()\n"
        f"while not pathlib.Path('{theirs}').exists(): time.sleep(0.01)\n{HEALTHY}"
        for mine, theirs in (("a", "b"), ("b", "a"))
    ]
    first, second = ScriptEngine(scripts[0]), Other(scripts[1])
    with Pool(in_tmp, start_s=60) as pool:
        wanted = [(engine, Serving(), TINY) for engine in (first, second)]
        servers = pool.serve_all([*wanted, wanted[0]])
        assert servers[0] is servers[2]
        assert sorted(server.number for server in servers[:2]) == [1, 2]
        assert all(server.alive for server in servers)
        assert pool.serve_all(wanted) == servers[:2]


@pytest.mark.parametrize("turned", [False, True])
def test_one_that_does_not_start_stops_the_others_that_are_starting(
    in_tmp: Path, turned: bool
) -> None:
    good, bad = ScriptEngine("import time; time.sleep(600)"), Other("raise SystemExit('broken')")
    pool = Pool(in_tmp, start_s=600)
    wanted = [(bad, Serving(), TINY), (good, Serving(), TINY)]
    with pytest.raises(EngineError, match="other 1 ended with status 1"):
        pool.serve_all(wanted[::-1] if turned else wanted)
    assert not running(good)
    assert pool.servers == {}


def test_closing_a_pool_ends_a_server_that_another_thread_starts(in_tmp: Path) -> None:
    engine = ScriptEngine("import time; time.sleep(600)")
    pool, said = Pool(in_tmp, start_s=600), threading.Event()
    pool.say = lambda _text: said.set()
    failed: list[Exception] = []

    def start() -> None:
        try:
            pool.serve(engine, Serving(), TINY)
        except EngineError as error:
            failed.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    assert said.wait(60)
    pool.close()
    thread.join(60)
    assert "before it was healthy" in str(failed[0])
    assert not running(engine)


def test_memory_is_made_free_by_the_server_that_was_used_longest_ago(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = ScriptEngine(HEALTHY), Other(HEALTHY), ScriptEngine(HEALTHY)
    third.build = Build("third", python="third")
    with Pool(in_tmp, start_s=30) as pool:
        servers = [pool.serve(engine, Serving(), TINY) for engine in (first, second)]
        monkeypatch.setattr("pytest_rllm.engines.pool.NEEDED_BYTES", 2**60)
        pool.serve(third, Serving(), TINY, beside=servers[0])
        assert [server.alive for server in servers] == [True, False]
        pool.serve_all([(third, Serving(), TINY), (second, Serving(), TINY)])
        assert [server.engine for server in pool.servers.values()] == [third, second]
        assert not servers[0].alive


# ---- what an engine cannot do


class Bare(ScriptEngine):
    """Declares nothing."""

    @property
    def declared(self) -> Capabilities:
        return Capabilities()


@pytest.mark.parametrize(
    ("serving", "what"),
    [
        (Serving(model="plain"), "the plain model"),
        (Serving(quantization="int8"), "int8 weights"),
        (Serving(kv_cache_dtype="fp8"), "a KV cache of fp8"),
        (Serving(prefix_caching=True), "prefix caching"),
        (Serving(speculative="ngram"), "ngram speculation"),
        (Serving(tensor_parallel=2), "2 GPUs per copy of the model"),
        (Serving(flags=("--x", "1")), "the flags --x 1"),
    ],
)
def test_what_is_not_declared_is_refused_before_anything_is_started(
    in_tmp: Path, serving: Serving, what: str
) -> None:
    engine = Bare("raise SystemExit('must not be started')")
    reason = f"the engine 'script' cannot serve {what}"
    assert engine.cannot(serving) == reason
    pool = Pool(in_tmp / "logs")
    with pytest.raises(ValueError, match=reason):
        pool.serve(engine, serving, TINY)
    assert pool.started == 0
    assert not (in_tmp / "logs").exists()


def test_a_fixed_length_is_refused_where_it_is_not_declared() -> None:
    engine = Bare("")
    assert engine.cannot(Serving(), Sampling(8)) is None
    reason = engine.cannot(Serving(), Sampling(8, fixed_length=True))
    assert reason == (
        "the engine 'script' cannot run answers to a fixed length: their model ends them"
    )


def test_a_series_that_is_none_of_ours_cannot_be_declared() -> None:
    with pytest.raises(ValueError, match="kv_usage is no series of ours; there are kv_use, "):
        Capabilities(series=frozenset({"kv_usage"}))
