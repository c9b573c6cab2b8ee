"""What runs inside a sandbox: an answer's program, or the tests that call it. Stands for itself.

``python -c <this file> program`` and ``python -c <this file> tests`` run in a sandbox each, and the
standard output of one is the standard input of the other. The tests send a line per call, the
program's side a line back. Values are Python literals, so nothing but numbers, texts and
collections of them crosses: a program cannot reach the process that decides whether it is right.
"""

import ast
import json
import math
import os
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

MEMORY = 512 << 20
"""Address space of a process, in bytes."""
CPU_S = 8
"""Processor time of a process, in s."""
LINE = 1 << 20
"""Longest line that is read, in characters."""


class WrongAnswer(Exception):
    """The program raised, ended, or gave what is no literal."""


def limit() -> None:
    """Limit this process for good: memory, processor time, files and processes."""
    limits = {
        resource.RLIMIT_AS: MEMORY,
        resource.RLIMIT_CPU: CPU_S,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 32,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        resource.setrlimit(kind, (most, most))


def literal(value: Any) -> str:
    """A value as text that ``ast.literal_eval`` reads.

    Raises:
        TypeError: it is neither a number, a text nor a collection of them.
    """
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return repr(value)
    if type(value) is dict:
        return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    inner = ", ".join(map(literal, value)) if type(value) in (list, tuple, set) else None
    if inner is None:
        raise TypeError(f"{type(value).__name__} is no plain value")
    if type(value) is list:
        return f"[{inner}]"
    if type(value) is set:
        return f"{{{inner}}}" if value else "set()"
    return f"({inner},)" if value else "()"


def wires() -> tuple[Callable[[], str], Callable[[str], None]]:
    """How to read a line and how to send one; what is printed from now on goes nowhere."""
    lines = os.fdopen(os.dup(0), encoding="utf-8")
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)

    def read() -> str:
        line = lines.readline(LINE)
        if not line.endswith("\n"):
            raise WrongAnswer("the other side ended, or its line is too long")
        return line

    def send(text: str) -> None:
        out.write(f"{text}\n")
        out.flush()

    return read, send


def with_setup(setup: str) -> dict[str, Any]:
    """A namespace with the imports and helpers of a question, where they stand for themselves."""
    space: dict[str, Any] = {"__name__": "answer"}
    with suppress(SyntaxError):
        exec(setup + "    pass\n", space)  # noqa: S102 - the sandbox is for that
    return space


def run_program(read: Callable[[], str], send: Callable[[str], None]) -> None:
    """Answer calls with what the program's function returns."""
    told = json.loads(read())
    limit()
    space = with_setup(told["setup"])
    exec(told["program"], space)  # noqa: S102 - the sandbox is for that
    function = space[told["entry_point"]]
    while True:
        args, kwargs = ast.literal_eval(read())
        try:
            reply = f"value {literal(function(*args, **kwargs))}"
        except Exception:  # noqa: BLE001 - whatever it is, the tests decide
            reply = "raised"
        send(reply)


def run_tests(read: Callable[[], str], send: Callable[[str], None]) -> None:
    """Call the program as the tests do; return if they pass, and raise if not."""
    told = json.loads(read())
    limit()

    def candidate(*args: Any, **kwargs: Any) -> Any:
        send(literal((args, kwargs)))
        kind, _, value = read().partition(" ")
        if kind != "value":
            raise WrongAnswer(kind)
        return ast.literal_eval(value)

    space = with_setup(told["setup"])
    space[told["entry_point"]] = candidate
    exec(told["test"], space)  # noqa: S102 - the sandbox is for that
    space["check"](candidate)


if __name__ == "__main__":
    role = {"program": run_program, "tests": run_tests}[sys.argv[1]]
    try:
        role(*wires())
    except BaseException:  # noqa: BLE001 - a wrong answer, however it came about
        os._exit(1)
    os._exit(0)
