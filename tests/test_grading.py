"""Every answer gets one of five grades."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from doubles.synthetic import run, sample

from pytest_rllm.datasets import grading, inside_sandbox, sandbox
from pytest_rllm.datasets.grading import final_answer, final_program, grade
from pytest_rllm.metrics.answers import ACCURACY
from pytest_rllm.metrics.base import MetricUnavailable


@pytest.mark.parametrize(
    ("answer", "key"),
    [
        (r"So it is \boxed{7}.", "7"),
        (r"\boxed{ 7 }", " 7 "),
        (r"\boxed{3} was too low, \boxed{7}", "7"),
        (r"The answer is 3, no: \boxed{7}", "7"),
        (r"\boxed{\frac{1}{2}}", "0.5"),
        (r"\boxed{0.5}", r"\frac{1}{2}"),
        (r"\boxed{\frac{3}{6}}", r"\frac12"),
        (r"\boxed{\sqrt{8}}", r"2\sqrt{2}"),
        (r"\boxed{1{,}000}", "1000"),
        (r"\boxed{x = 5}", "5"),
        (r"\boxed{\{1, 2\}}", r"\{2, 1\}"),
        ("The answer is 7.", "7"),
        ("the ANSWER is: **7**", "7"),
        ("The answer is 0.5.", "0.5"),
        ("The answer is 3. Wait, the answer is 7!", "7"),
    ],
)
def test_the_same_mathematics_is_right(answer: str, key: str) -> None:
    assert grade(answer, key, "math", "stop") == "right"


@pytest.mark.parametrize(
    ("answer", "key"),
    [
        (r"\boxed{8}", "7"),
        (r"\boxed{7}, no: \boxed{8}", "7"),
        (r"\boxed{0.51}", r"\frac{1}{2}"),
        (r"\boxed{(1, 2)}", "(2, 1)"),
        (r"\boxed{unknown}", "7"),
        ("The answer is 0.25.", "0"),
    ],
)
def test_other_mathematics_is_wrong(answer: str, key: str) -> None:
    assert grade(answer, key, "math", "stop") == "wrong"


@pytest.mark.parametrize(
    ("answer", "key", "expected"),
    [
        (r"\boxed{paris}", "Paris", "right"),
        (r"\boxed{Paris}", " paris ", "right"),
        (r"\boxed{\text{B}}", "B", "right"),
        ("The answer is **B**.", "b", "right"),
        (r"\boxed{London}", "Paris", "wrong"),
        (r"\boxed{0.5}", "1/2", "wrong"),
    ],
)
def test_words_are_compared_as_text(answer: str, key: str, expected: str) -> None:
    assert grade(answer, key, "word", "stop") == expected


@pytest.mark.parametrize("kind", ["math", "word"])
@pytest.mark.parametrize(
    ("answer", "finish_reason", "expected"),
    [
        ("It is 7", "stop", "unparsed"),
        (r"\boxed{", "stop", "unparsed"),
        (r"\boxed{\frac{1}{2}", "stop", "unparsed"),
        (r"\boxed{}", "stop", "unparsed"),
        ("It is 7", None, "unparsed"),
        ("It is 7", "length", "truncated"),
        (r"First \boxed{7}, then \boxed{", "length", "truncated"),
        ("", "length", "truncated"),
        ("", "stop", "empty"),
        (" \n", "stop", "empty"),
        (r"\boxed{7}", "length", "right"),
    ],
)
def test_an_answer_without_a_result_is_graded_by_its_cause(
    kind: str, answer: str, finish_reason: str | None, expected: str
) -> None:
    assert grade(answer, "7", kind, finish_reason) == expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{\frac{1}{\sqrt{2}}} and more}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{a}{b}", "a"),
        ("nothing", None),
    ],
)
def test_braces_in_a_box_may_nest(text: str, found: str | None) -> None:
    assert final_answer(text) == found


def test_an_answer_that_would_be_computed_for_ever_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grading, "TIMEOUT_S", 1)
    begun = time.monotonic()
    assert grade(r"\boxed{9^{9^{9^9}}}", "7", "math", "stop") == "wrong"
    assert time.monotonic() - begun < 30


# ---- answers that are programs run in a sandbox: they are graded by their tests, and harm nothing

SETUP = '''from typing import List


def half(n: int) -> int:
    return n // 2


def doubled(numbers: List[int]) -> List[int]:
    """Every number twice as large."""
'''
TEST = """
METADATA = {}


def check(candidate):
    assert candidate([1, 2]) == [2, 4]
    assert candidate([]) == []
    assert half(candidate([3])[0]) == 3
"""
KEY = sandbox.key_of(SETUP, TEST, "doubled")
RIGHT = (
    "def doubled(numbers: List[int]) -> List[int]:\n    return [2 * half(2 * n) for n in numbers]\n"
)
BODY = "\ndef doubled(numbers):\n    {}\n    return [2 * n for n in numbers]\n"


def why_no_bwrap() -> str | None:
    """Why bubblewrap cannot be used here; None when it can."""
    sandbox.use("bwrap")
    try:
        sandbox.check()
    except sandbox.NoSandbox as missing:
        return str(missing)
    finally:
        sandbox.use(None)
    return None


NO_BWRAP = why_no_bwrap()


@pytest.fixture
def bwrap(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The real bubblewrap, which waits 3 s for a program."""
    if NO_BWRAP:
        pytest.skip(NO_BWRAP)
    monkeypatch.setattr(sandbox, "TIME_S", 3)
    sandbox.use("bwrap")
    yield
    sandbox.use(None)


@pytest.mark.parametrize(
    "program",
    [
        RIGHT,
        BODY.format("print('noise ' * 100_000)"),
        "import sys\nsys.stdout.write('value [2, 4]')\n" + RIGHT,
        "from math import floor\n" + RIGHT,
    ],
    ids=["plain", "prints", "prints before", "imports"],
)
def test_a_right_program_is_right(bwrap: None, program: str) -> None:
    assert sandbox.passes(program, KEY)


@pytest.mark.parametrize(
    "program",
    {
        "wrong": "def doubled(numbers):\n    return numbers\n",
        "broken": "def doubled(numbers)\n",
        "another name": RIGHT.replace("doubled", "twice"),
        "empty": "",
        "raises": BODY.format("raise ValueError"),
        "hangs": BODY.format("while True: pass"),
        "hangs at once": "while True: pass",
        "sleeps": "import time\n" + BODY.format("time.sleep(60)"),
        "forks": "import os\n" + BODY.format("os.fork()"),
        "forks without end": "import os\nwhile True:\n    os.fork()\n",
        "starts a program": "import subprocess\n" + BODY.format("subprocess.run(['true'])"),
        "starts a thread": "import threading\n"
        + BODY.format("threading.Thread(target=print).start()"),
        "writes": BODY.format("open('/tmp/x', 'w').write('x')"),
        "writes at the root": BODY.format("open('/x', 'w')"),
        "reads a password file": BODY.format("open('/etc/passwd').read()"),
        "takes all memory": BODY.format("numbers + [0] * 10**10"),
        "nests without end": BODY.format("return eval('[' * 90 + ']' * 90)"),
        "ends well at once": "import os\nos._exit(0)\n",
        "ends well when asked": "import os\n" + BODY.format("os._exit(0)"),
        "leaves": "import sys\nsys.exit(0)\n",
        "kills all": "import os, signal\n" + BODY.format("os.kill(-1, signal.SIGKILL)"),
        "equals everything": "class All(list):\n    __eq__ = lambda a, b: True\n"
        "def doubled(numbers):\n    return All()\n",
        "replaces the tests": "def check(candidate):\n    pass\n"
        "def doubled(numbers):\n    return 0\n",
        "patches the checker": "import builtins, ast, json\nbuiltins.AssertionError = Warning\n"
        "ast.literal_eval = lambda text: (([],), {})\njson.loads = lambda text: {}\n"
        "def doubled(numbers):\n    return 0\n",
        "speaks on every wire": "import os\nfor n in range(3, 30):\n    try:\n"
        "        os.write(n, b'passed' * 9)\n    except OSError:\n        pass\n",
        "long lines": BODY.format("return 'x' * 10**7"),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_other_programs_are_wrong(bwrap: None, program: tuple[str, str]) -> None:
    begun = time.monotonic()
    assert not sandbox.passes(program[1], KEY)
    assert time.monotonic() - begun < 10 * sandbox.TIME_S, "it was ended"


def test_a_program_reaches_no_server_of_this_machine(bwrap: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        call = f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)"
        assert not sandbox.passes(BODY.format(call), KEY)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_program_sees_no_files_and_no_variables_of_the_user(
    bwrap: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "s")
    (tmp_path / "mine").write_text("secret")
    tmp_path.chmod(0o755)
    seen = (
        "import os\n"
        "def doubled(numbers):\n"
        f"    assert not os.path.exists({str(tmp_path)!r}) and 'SECRET' not in os.environ\n"
        "    assert not os.path.exists('/home') and not os.path.exists('/root')\n"
        "    return [2 * n for n in numbers]\n"
    )
    assert sandbox.passes(seen, KEY)
    assert (tmp_path / "mine").read_text() == "secret"


def test_no_process_is_left(bwrap: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel ends a sandbox when its first process was killed, which takes a moment."""
    marked = tmp_path / "inside.py"
    marked.write_text(sandbox._INSIDE.read_text() + f"# {tmp_path}\n")
    monkeypatch.setattr(sandbox, "_INSIDE", marked)
    for program in (RIGHT, BODY.format("while True: pass"), "import os\nwhile True:\n os.fork()\n"):
        sandbox.passes(program, KEY)
    mark = str(tmp_path).encode()
    until = time.monotonic() + 60
    while left := [p for p in Path("/proc").glob("[0-9]*/cmdline") if mark in _read(p)]:
        assert time.monotonic() < until, left
        time.sleep(0.05)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_values_of_every_plain_kind_cross(bwrap: None) -> None:
    values = [None, True, -3, 0.5, float("inf"), 2j, "a\nb'\"", b"\0", (1,), (), {1: [2]}, {3}]
    test = (
        "def check(candidate):\n    inf = float('inf')\n"
        f"    for value in {values!r} + [set(), [], {{}}]:\n"
        "        got = candidate(value)\n"
        "        assert got == value and type(got) is type(value), value\n"
    )
    same = "def same(value):\n    return value\n"
    assert sandbox.passes(same, sandbox.key_of("def same(value):\n", test, "same"))


def test_a_text_that_does_not_fit_into_a_pipe_is_wrong(bwrap: None) -> None:
    assert not sandbox.passes(RIGHT + "#" * sandbox.PIPE, KEY)


def test_only_plain_values_have_a_literal() -> None:
    for value in (object(), [object()], range(3), type("L", (list,), {})()):
        with pytest.raises(TypeError, match="is no plain value"):
            inside_sandbox.literal(value)


@pytest.mark.parametrize(
    ("answer", "finish", "program"),
    [
        ("Here:\n```python\nx = 1\n```\nDone.", "stop", "x = 1\n"),
        ("```\nx = 1\n```\nBetter:\n```py\nx = 2\n```", "stop", "x = 2\n"),
        ("def f():\n    return 1\n", "stop", "def f():\n    return 1\n"),
        ("```python\nx = 1\n```\n```python\nx = ", "length", "x = 1\n"),
        ("```python\nx = ", "stop", None),
        ("def f():\n    ret", "length", None),
        ("  ", "stop", None),
    ],
)
def test_the_program_of_an_answer(answer: str, finish: str, program: str | None) -> None:
    assert final_program(answer, finish) == program


@pytest.mark.parametrize(
    ("answer", "finish", "wanted"),
    [
        (f"Here it is:\n\n```python\n{RIGHT}```", "stop", "right"),
        (RIGHT, "stop", "right"),
        ("```python\ndef doubled(numbers):\n    return 1\n```", "stop", "wrong"),
        ("```python\ndef doub", "length", "truncated"),
        ("", "stop", "empty"),
        ("```python\ndef doub", "stop", "unparsed"),
    ],
)
def test_an_answer_with_a_program_has_a_grade(
    bwrap: None, answer: str, finish: str, wanted: str
) -> None:
    assert grade(answer, KEY, "code", finish) == wanted


def test_accuracy_is_the_share_of_programs_that_pass(bwrap: None) -> None:
    samples = [
        sample(f"q{i}", answer=f"```python\n{program}```", key=KEY)
        for i, program in enumerate([RIGHT, "x = 1\n"])
    ]
    programs = run(*(replace(s, prompt=replace(s.prompt, kind="code")) for s in samples))
    assert ACCURACY.of_run(programs) == 0.5


def test_a_program_is_never_run_unless_a_sandbox_is_switched_on() -> None:
    sandbox.use(None)
    assert "--rllm-run-code=bwrap" in str(sandbox.needed())
    with pytest.raises(sandbox.NoSandbox, match="--rllm-run-code=docker"):
        grade(f"```python\n{RIGHT}```", KEY, "code", "stop")
    answered = sample(answer=f"```python\n{RIGHT}```", key=KEY)
    programs = run(replace(answered, prompt=replace(answered.prompt, kind="code")))
    with pytest.raises(MetricUnavailable, match="--rllm-run-code=bwrap"):
        ACCURACY.of_run(programs)
    with pytest.raises(ValueError, match="bwrap or docker, not 'chroot'"):
        sandbox.use("chroot")


def test_docker_has_no_network_no_place_to_write_and_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the command line only: no container was started for this test."""
    (tmp_path / "docker").write_text("#!/bin/sh\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    command = sandbox.docker_command("its-name", "tests")
    assert command[:2] == [str(tmp_path / "docker"), "run"]
    options = command[2 : command.index(sandbox.IMAGE)]
    assert {
        *("--rm", "--interactive", "--pull=never", "--network=none", "--read-only"),
        *("--cap-drop=ALL", "--security-opt=no-new-privileges", "--user=65534:65534"),
        *("--memory=640m", "--memory-swap=640m", "--pids-limit=16"),
    } <= set(options)
    assert not [option for option in options if option.startswith(("-v", "--volume", "--mount"))]
    assert command[-3] == "-c"
    assert command[-1] == "tests"


@pytest.mark.parametrize("name", ["bwrap", "docker"])
def test_a_sandbox_that_is_not_installed_says_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox.use(name)
    try:
        with pytest.raises(sandbox.NoSandbox, match=rf"{name} is not installed: .*install"):
            sandbox.check()
    finally:
        sandbox.use(None)


@pytest.mark.parametrize(
    ("mode", "message"),
    [(0o755, "does not work here: no room for this$"), (0o644, "cannot be started: ")],
)
def test_a_sandbox_that_does_not_work_says_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, message: str
) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'no room for this' >&2\nexit 1\n")
    program.chmod(mode)
    monkeypatch.setattr(shutil, "which", lambda _: str(program))
    monkeypatch.setattr(sandbox, "_as_nobody", dict)
    sandbox.use("bwrap")
    try:
        with pytest.raises(sandbox.NoSandbox, match=message):
            sandbox.check()
    finally:
        sandbox.use(None)
