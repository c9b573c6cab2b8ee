"""Keys, headers and TLS: servers that want them are measured, and no secret is ever shown."""

from __future__ import annotations

import ast
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import psutil
import pytest
from doubles.dialects import ADAPTERS, mock_of
from doubles.gateway import CHAT, Certificate, Gateway, certificate, running

from pytest_rllm import access
from pytest_rllm.access import HIDDEN, Access, HiddenBytes, Secret, access_from
from pytest_rllm.engines.http import ask
from pytest_rllm.engines.llamacpp import LlamaCppEngine
from pytest_rllm.engines.llamacpp.build import SERVE
from pytest_rllm.engines.mock.engine import MockEngine
from pytest_rllm.engines.pool import Pool
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import closed
from pytest_rllm.loadgen.client import Request
from pytest_rllm.loadgen.run import drive
from pytest_rllm.models import PAIRS
from pytest_rllm.plugin.conformance import PROMPTS
from pytest_rllm.records.header import Header
from pytest_rllm.records.writer import RunWriter

KEY, ORG = "sk-PLANTED-9f8e7d6c5b4a/=+x", "org-PLANTED-33aa44bb"
NEEDED = {"Authorization": f"Bearer {KEY}", "X-Org": ORG}
HOST = "http://host:8000"


@pytest.fixture(autouse=True)
def _forgets() -> Iterator[None]:
    yield
    access.use(Access())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Pool(tmp_path_factory.mktemp("servers")) as pool:
        yield pool.serve(MockEngine(), Serving(), PAIRS["tiny"]).url


def key_for(*urls: str, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Access:
    monkeypatch.setenv("MY_KEY", KEY)
    return access_from(["MY_KEY"], [], more.get("ca_file"), urls)


# ---- what options say


@pytest.mark.parametrize(
    ("keys", "headers", "urls", "said"),
    [
        (["sk-PLANTED/="], [], [HOST], "a key itself is never given: put it into a variable"),
        (["NOT_SET"], [], [HOST], "variable NOT_SET is not set; set it where pytest is started"),
        (["EMPTY"], [], [HOST], "variable EMPTY is empty"),
        (["SHORT"], [], [HOST], "SHORT holds fewer than 8 characters"),
        (["LINES"], [], [HOST], "LINES holds characters that no header may have"),
        (["MY_KEY"], [], [], "is for a server that runs already: name one by its URL"),
        (["MY_KEY"], [], [HOST, "http://other"], "which of host, other gets it"),
        (["MY_KEY", "MY_KEY"], [], [HOST], "given the header Authorization twice"),
        (["third=MY_KEY"], [], [HOST], "no URL of the options is of third: correct the host"),
        ([], ["MY_KEY"], [HOST], "takes NAME=VARIABLE or HOST=NAME=VARIABLE"),
        ([], ["X Org=MY_KEY"], [HOST], "takes NAME=VARIABLE"),
        ([], ["Host=MY_KEY"], [HOST], "Host is a header that the client sets itself"),
    ],
)
def test_what_is_wrong_is_said_without_the_value(
    keys: list[str], headers: list[str], urls: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"EMPTY": "", "SHORT": "abc", "LINES": f"{KEY}\nx", "MY_KEY": KEY}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=said) as caught:
        access_from(keys, headers, None, urls)
    assert "PLANTED" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "there is no file"), ("no certificate", "holds no certificates in PEM form")],
)
def test_a_ca_file_that_is_none(content: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    with pytest.raises(ValueError, match=f"--rllm-ca-file: .*{said}"):
        access_from([], [], str(path), [])


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://me:PLANTED@host/v1", r"http://\*\*\*@host/v1: a URL with a user or password"),
        ("http://host?api_key=PLANTED", r"http://host\?\*\*\*: a URL of a server has no \?"),
        ("http://me:PLANTED@", "write http://|names no host"),
        ("ftp://me:PLANTED@host", "write http:// or https://"),
        ("http://me:PLANTED@host:port", "Port could not be cast"),
    ],
)
def test_a_url_that_holds_a_secret_is_refused_and_not_shown(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        access.checked_url(url)
    assert "PLANTED" not in str(caught.value)


def test_a_key_goes_to_the_servers_it_is_meant_for_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    given = key_for(f"{HOST}/v1", "http://HOST:8001", monkeypatch=monkeypatch)
    assert [bool(given.of(url)) for url in (HOST, "http://host:8001/metrics")] == [True, True]
    for other in ("http://host", "http://host:9000", "https://host", "http://other:8000"):
        assert given.of(other) == ()
    named = access_from(["other=MY_KEY"], [], None, [HOST, "http://other"])
    assert [bool(named.of(url)) for url in (HOST, "http://other:1", "http://other/v1")] == [
        False,
        False,
        True,
    ]
    assert access_from(["arm:9=MY_KEY"], [], None, [HOST]).of("http://arm:9"), "named in a test"


def test_secrets_do_not_show_and_travel_to_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    given = key_for(HOST, monkeypatch=monkeypatch)
    assert KEY not in repr(given)
    assert repr(Secret("x")) == str(Secret("x")) == f"{Secret('x')}" == HIDDEN
    assert KEY not in f"{HiddenBytes(KEY.encode())!r}"
    assert pickle.loads(pickle.dumps(given)) == given
    access.use(given)
    assert access.header_lines(HOST) == f"Authorization: Bearer {KEY}\r\n".encode()
    assert "MY_KEY" not in access.child_environment()
    assert access.child_environment({"A": "1"})["A"] == "1"


def test_what_a_server_repeats_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUOTED", 'planted"key\\9')
    given = access_from(["QUOTED"], [], None, [HOST])
    for text in ('got planted"key\\9!', 'got planted\\"key\\\\9!', "got planted%22key%5C9!"):
        assert given.without_secrets(text) == f"got {HIDDEN}!"
        assert given.without_secret_bytes(text.encode()) == f"got {HIDDEN}!".encode()


def test_the_password_of_a_whole_header_is_hidden_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHOLE", "Basic cGxhbnRlZDpub3c=")
    given = access_from([], ["Authorization=WHOLE"], None, [HOST])
    assert given.without_secrets("user cGxhbnRlZDpub3c=") == f"user {HIDDEN}"


def test_a_short_header_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM", "7")
    assert access_from([], ["X-Team=TEAM"], None, [HOST]).without_secrets("7 = 7") == "7 = 7"


# ---- what servers do


def test_tls_is_checked_with_the_ca_file(
    files: Certificate, mock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(Gateway(mock, headers={"Authorization": f"Bearer {KEY}"}), files) as gateway:
        with pytest.raises(OSError, match=r"is not trusted: give the file .* --rllm-ca-file FILE"):
            ask(f"{gateway.url}/health")
        access.use(key_for(gateway.url, monkeypatch=monkeypatch, ca_file=str(files.authority)))
        assert ask(f"{gateway.url}/v1/models")


def test_a_wrong_or_missing_key_is_said(mock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(Gateway(mock, headers={"Authorization": "Bearer other"}, repeats=True)) as gateway:
        with pytest.raises(HTTPError, match=r"HTTP 401 .*wants a key.*--rllm-key-env VARIABLE"):
            ask(f"{gateway.url}/v1/models")
        access.use(key_for(gateway.url, monkeypatch=monkeypatch))
        with pytest.raises(HTTPError, match="refuses the key in MY_KEY: it may have exp") as caught:
            ask(f"{gateway.url}/v1/models")
        assert KEY not in f"{caught.value}{caught.value.read()!r}"
        assert HIDDEN in str(caught.value)


def test_no_traceback_goes_through_what_sends_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its locals would be shown by --showlocals."""
    with running(Gateway()) as gateway:
        gone = gateway.url
    access.use(key_for(gone, monkeypatch=monkeypatch))
    with pytest.raises(OSError, match="refused") as caught:
        ask(f"{gone}/v1/models")
    shown = caught.getrepr(showlocals=True, style="long", truncate_locals=False)
    assert KEY not in str(shown)
    assert [entry.name for entry in caught.traceback][-1] == "ask"


@pytest.mark.parametrize("processes", [1, 2])
def test_the_client_and_its_processes_send_keys_over_tls(
    processes: int, files: Certificate, mock: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_ORG", ORG)
    with running(Gateway(mock, headers=NEEDED), files) as gateway:
        monkeypatch.setenv("MY_KEY", KEY)
        access.use(access_from(["MY_KEY"], ["X-Org=MY_ORG"], str(files.authority), [gateway.url]))
        with RunWriter(tmp_path / "run.jsonl", Header()) as writer:
            bodies = [
                {"messages": [{"role": "user", "content": p.text}], "stream": True} for p in PROMPTS
            ]
            requests = [Request(p, body) for p, body in zip(PROMPTS, bodies, strict=True)]
            run = drive(gateway.url, requests, closed(4), writer, processes=processes)
    assert [sample.error for sample in run.samples] == [None] * len(PROMPTS)
    assert run.closing is not None
    assert run.closing["processes"] == processes


# ---- whole sessions, and everything that they write

FINDING = """
from pytest_rllm import ACCURACY, FAILED, Arm, Sampling, Serving, finding, higher, not_higher, pp
from pytest_rllm import EngineConformance

@finding("More requests in flight leave answers as they are.", cite="this test")
def test_in_flight(compare, dataset, workload):
    def arm(n):
        return Arm(Serving(), dataset("easy", n=32), workload.closed(n), Sampling(512))

    compare(arm(8), against=arm(4), blocks=2).shows(not_higher(FAILED, by_more_than=pp(15)))

class TestConforms(EngineConformance):
    engine = "mock@URL"
"""


ASKED_BY_PYTHON = "file -b "
"""Python's own ``platform.architecture`` starts it for libraries, with all variables."""


class Watcher(threading.Thread):
    """Looks at command lines and environments of all programs that a session starts, and at the
    spools that it has while it measures.

    Between fork and exec a child still has the command line and the environment of its parent."""

    def __init__(self, pid: int, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.spools, self.children = folder, 0, 0
        self.root, self.ends, self.found = psutil.Process(pid), threading.Event(), set[str]()
        self.commands, self.own = set[str](), [" ".join(self.root.cmdline())]

    def run(self) -> None:
        while not self.ends.is_set():
            for process in [self.root, *self._children()]:
                try:
                    said = [" ".join(process.cmdline())]
                    self.commands.update(said)
                    if said[0].startswith(ASKED_BY_PYTHON):
                        continue
                    if said != self.own and process != self.root:
                        environment = process.environ().items()
                        said += [f"{said[0]}: {name}={text}" for name, text in environment]
                except (psutil.Error, OSError):
                    continue
                self.found.update(t for t in said if "PLANTED" in t)
            for path in self.folder.rglob("*.spool-*"):
                with suppress(OSError):
                    self.spools += 1
                    self.found.update({str(path)} if holds(path.read_bytes()) else ())
            time.sleep(0.1)

    def _children(self) -> list[psutil.Process]:
        try:
            return self.root.children(recursive=True)
        except psutil.Error:
            return []


def session(folder: Path, url: str, ca_file: Path) -> tuple[int, str, Watcher]:
    """Exit status and output of a session that attaches to one server, and what it started."""
    (folder / "test_secret.py").write_text(FINDING.replace("URL", url))
    return measured(
        folder,
        *("-k", "in_flight or healthy or usage or page", "--rllm-engine", f"mock@{url}"),
        *("--rllm-key-env=MY_KEY", "--rllm-header-env", "X-Org=MY_ORG"),
        *("--rllm-ca-file", str(ca_file)),
    )


def measured(folder: Path, *options: str) -> tuple[int, str, Watcher]:
    """A session of pytest that shows and writes all it can, in its own process."""
    command = [
        *(sys.executable, "-m", "pytest", "-l", "-vv", "--tb=long", "-rA", "test_secret.py"),
        *("-p", "no:cacheprovider", "--junitxml=junit.xml", "--log-file=log.txt"),
        *("--log-file-level=DEBUG", "--rllm-model=tiny", "--rllm-record=records"),
        *("--rllm-report=json:report.json", "--rllm-baseline=create", *options),
    ]
    root, children = Path(__file__).parents[1], folder.with_name(f"{folder.name}-children")
    children.mkdir()
    (children / "sitecustomize.py").write_text(TELLS)
    env = os.environ | {"MY_KEY": KEY, "MY_ORG": ORG, "CHILDREN": str(children)}
    env |= {"PYTHONPATH": f"{children}{os.pathsep}{root}", "RLLM_CACHE": str(folder / "cache")}
    env |= {"HOME": str(folder), "COLUMNS": "1000"}
    with open(folder / "out.txt", "ab") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=out, stderr=subprocess.STDOUT
        )
        watcher = Watcher(process.pid, folder)
        watcher.start()
        status = process.wait(timeout=300)
        watcher.ends.set()
        watcher.join()
    said = {path: path.read_text() for path in children.glob("*.txt")}
    said.pop(children / f"{process.pid}.txt")  # the session itself, which was given the key
    watcher.children = len(said)
    watcher.found.update(str(path) for path, text in said.items() if "PLANTED" in text)
    watcher.commands.update(text.partition("\n")[0] for text in said.values())
    return status, (folder / "out.txt").read_text(errors="replace"), watcher


TELLS = """
import os, sys
with open(os.path.join(os.environ["CHILDREN"], f"{os.getpid()}.txt"), "a") as file:
    file.write(" ".join(sys.orig_argv) + "\\n" + "\\n".join(os.environ.values()) + "\\n")
"""
"""Every Python that a session starts, however short its life, tells its arguments and variables."""


def holds(content: bytes) -> bool:
    """Whether a secret is in it, in any of its forms."""
    return any(form.encode() in content for form in (KEY, ORG, KEY.replace("/", "%2F"), "PLANTED"))


def planted(folder: Path) -> list[str]:
    """Files that hold a secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if holds(path.read_bytes())]


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("well", "PASSED test_secret.py::test_in_flight"),
        ("wrong", r"--rllm-engine: .*HTTP 401.*refuses the key in MY_KEY"),
        ("expires", r"refuses the key in MY_KEY: it may have expired"),
        ("refused", r"Connection refused.*start the server, or correct the address"),
        ("not trusted", r"certificate is not trusted: give the file of the authority"),
    ],
)
def test_a_session_writes_no_secret_anywhere(
    case: str, said: str, mock: str, files: Certificate, tmp_path: Path
) -> None:
    gateway = Gateway(mock, headers=NEEDED, repeats=True)
    other = certificate(tmp_path.parent / f"{tmp_path.name}-tls") if case == "not trusted" else None
    if case == "wrong":
        gateway.headers = NEEDED | {"Authorization": "Bearer another"}
    if case == "expires":
        gateway.expires_after = 30
    with running(gateway, files):
        url = gateway.url
        if case != "refused":
            ca_file = other.authority if other else files.authority
            status, output, watcher = session(tmp_path, url, ca_file)
    if case == "refused":
        status, output, watcher = session(tmp_path, url, files.authority)
    assert planted(tmp_path) == []
    assert watcher.found == set()
    assert any("--rllm-key-env=MY_KEY" in command for command in watcher.commands)
    assert re.search(said, output), output[-3000:]
    assert (status == 0) == (case == "well"), output[-3000:]
    if case == "well":
        sent = [headers for path, headers in gateway.seen if "x-org" in headers]
        assert len(sent) == len(gateway.seen) > 64
        assert {path for path, _ in gateway.seen} >= {"/health", "/metrics", "/v1/models"}


MANY = """
import pytest
from pytest_rllm import FAILED, Arm, Sampling, Serving, finding, not_higher, pp

@finding("Two engines fail alike.", cite="this test")
@pytest.mark.parametrize(("first", "second"), ENGINES, ids=NAMES)
def test_both(compare, dataset, workload, first, second):
    def arm(engine):
        return Arm(Serving(), dataset("easy", n=8), workload.closed(4), Sampling(32), engine)

    found = compare(arm(first), against=arm(second), blocks=2)
    found.shows(not_higher(FAILED, by_more_than=pp(90)))
    assert "sglang" not in second, compare
"""


def of_pairs(
    folder: Path, pairs: Mapping[str, tuple[str, str]], gateways: Sequence[Gateway]
) -> tuple[int, str, Watcher]:
    """A session that compares engines, two by two, and is given the keys of gateways."""
    folder.mkdir()
    text = MANY.replace("ENGINES", repr(list(pairs.values()))).replace("NAMES", repr(list(pairs)))
    (folder / "test_secret.py").write_text(text)
    places = [one.url.removeprefix("http://") for one in gateways]
    keys = [f"--rllm-key-env={place}=MY_KEY" for place in places]
    headers = [f"--rllm-header-env={place}=X-Org=MY_ORG" for place in places]
    return measured(folder, "--rllm-engine=mock", *keys, *headers)


def test_no_adapter_writes_a_secret_anywhere(tmp_path: Path) -> None:
    """Servers that repeat their keys in streams and pages, asked by every adapter, and one beside a
    server that we start; a case fails and shows its locals. Looked through are every file of the
    session and of its replays, its spools while it measures, and its child processes."""
    folder = tmp_path / "session"
    with Pool(tmp_path / "servers") as pool, ExitStack() as stack:
        mocks = [pool.serve(MockEngine(), Serving(), PAIRS["tiny"], copy=i).url for i in (0, 1)]
        made = [
            mock_of(name, mocks[i % 2], headers=NEEDED, repeats=True, echoes=True)
            for i, name in enumerate(ADAPTERS)
        ]
        gateways = [stack.enter_context(running(one)) for one in made]
        vllm, sglang, llamacpp, plain, tgi = (
            f"{name}@{one.url}" for name, one in zip(ADAPTERS, gateways, strict=True)
        )
        pairs = {"one": (vllm, sglang), "two": (llamacpp, plain), "beside": (tgi, "mock")}
        status, output, watcher = of_pairs(folder, pairs, gateways)
    assert (status, "1 failed, 2 passed" in output) == (1, True), output[-3000:]
    assert re.search(r"^compare += <bound method", output, re.MULTILINE), "locals are shown"
    assert planted(folder) == []
    assert watcher.found == set()
    assert watcher.spools
    assert any("pytest_rllm.engines.mock" in command for command in watcher.commands)
    for one in gateways:
        assert all(KEY in headers.get("authorization", "") for _, headers in one.seen)
        assert CHAT in {path for path, _ in one.seen}
    for form in ("markdown", "table"):
        options = ("--rllm-replay=records", f"--rllm-report={form}:report.{form}")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
        env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        subprocess.run([*command, "test_secret.py"], cwd=folder, env=env, capture_output=True)
        assert (folder / f"report.{form}").stat().st_size
    assert {path.name for path in folder.rglob("*.json")} >= {"report.json", "session.json"}
    assert planted(folder) == []


@pytest.mark.engine
def test_a_real_server_and_one_that_we_start_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "session"
    with Pool(tmp_path / "servers") as pool:
        real = pool.serve(LlamaCppEngine(), Serving(), PAIRS["tiny"]).url
        with running(Gateway(real, headers=NEEDED, repeats=True, echoes=True)) as gateway:
            pairs = {"real": (f"llamacpp@{gateway.url}", "llamacpp")}
            status, output, watcher = of_pairs(folder, pairs, [gateway])
    assert (status, "1 passed" in output) == (0, True), output[-3000:]
    assert planted(folder) == []
    assert watcher.found == set()
    assert any(SERVE in command for command in watcher.commands)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "llamacpp"])
def test_an_engine_is_asked_for_its_version_without_our_keys(engine: str, tmp_path: Path) -> None:
    folder = tmp_path / "session"
    folder.mkdir()
    (folder / "test_secret.py").write_text(FINDING.partition("class")[0])
    keys = "--rllm-key-env=127.0.0.1:9=MY_KEY", "--rllm-header-env=127.0.0.1:9=X-Org=MY_ORG"
    _, output, watcher = measured(folder, f"--rllm-engine={engine}", "--rllm-plan", *keys)
    assert watcher.children, output
    assert watcher.found == set()
    assert planted(folder) == []


def test_every_process_that_we_start_is_told_its_environment() -> None:
    """Without one it would get ours, with the keys in it."""
    calls = 0
    for path in (Path(__file__).parents[1] / "pytest_rllm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in STARTS:
                calls += 1
                assert "env" in {keyword.arg for keyword in node.keywords}, f"{path}:{node.lineno}"
    assert calls > 5


STARTS = {
    f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output")
} | {f"asyncio.create_subprocess_{kind}" for kind in ("exec", "shell")}


def test_a_secret_that_arrives_in_parts_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    given = key_for(HOST, monkeypatch=monkeypatch)
    secret = KEY.encode()
    parts = [b"a " + secret[:3], secret[3:9], secret[9:] + b" b" + secret, b"", b"c"]
    assert given.without_secret_parts(parts) == [b"a ***", b"", b" b***", b"", b"c"]
    assert Access().without_secret_parts(parts) == parts
