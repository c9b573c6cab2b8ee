"""What a server that runs already really serves: which model, and whether two URLs are one server.

Nobody here started it, so what the user says of it is checked as far as it can be.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from ..experiment.serving import Serving
from ..models import ModelPair
from .base import MODEL_NAME, Endpoint, EngineError
from .http import NO_ANSWER, Refused, ask
from .server import Server

TOKENS = (5, 9)
"""Lengths of the probes by which a server is recognised: unlike ones, because others may use it."""
TRIES = 3
COUNTED_WITHIN_S = 5.0
"""Seconds in which a server's own counter must show the tokens of an answer."""
_NUMBER = re.compile(r"\D(\d{1,9})$")
"""A running number at the end of an answer's id."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "::")  # noqa: S104


# ---- which model


def model_named(engine: Endpoint, serving: Serving, pair: ModelPair) -> Endpoint:
    """The engine, with requests that call the model as its server does.

    Args:
        engine: of a server that runs already.
        serving: what it is to serve.
        pair: the models, and, where the user says so, what the server calls them.

    Raises:
        EngineError: it serves another model, or does not tell which.
    """
    assert engine.url is not None
    wanted = pair.served_name
    try:
        listed = list(json.loads(ask(f"{engine.url}/v1/models"))["data"])
        names = [_names(model) for model in listed]
    except (*NO_ANSWER, ValueError, LookupError, TypeError) as error:
        if getattr(error, "advice", None) is not None:
            raise EngineError(f"GET {engine.url}/v1/models: {error}") from None
        if isinstance(error, NO_ANSWER) and not isinstance(error, Refused):
            raise EngineError(
                f"{engine.name} at {engine.url} does not answer "
                f"({type(error).__name__}: {error}): start it, or correct the address"
            ) from None
        if wanted is not None:
            return _as_said(engine, wanted)
        raise EngineError(
            f"GET {engine.url}/v1/models does not tell which model it serves "
            f"({type(error).__name__}: {error}); say what it calls it: --rllm-model-name NAME, or "
            "served_name in the pair's file"
        ) from None
    ids = [one[0] for one in names]
    if wanted is not None:
        if wanted not in ids:
            raise EngineError(
                f"{engine.url} serves {_all(ids)}, and no {wanted!r}, as --rllm-model-name or "
                "served_name says: correct that, or serve it there"
            )
        return _as_said(engine, wanted)
    path = pair.weights(serving.model, serving.quantization)[0]
    like = [one[0] for one in names if any(_same(name, path) for name in one)]
    exact = [one[0] for one in names if any(name.lower() == path.lower() for name in one)]
    if len(exact or like) > 1:
        raise EngineError(
            f"{engine.url} serves {_all(exact or like)}, each of which may be the {serving.model} "
            f"model of the pair {pair.name!r}, {path}: say which one, --rllm-model-name NAME"
        )
    if like:
        return engine.calling((exact or like)[0])
    if any(one == [MODEL_NAME] for one in names):  # started by us, or as we do
        return engine.calling(MODEL_NAME)
    raise EngineError(
        f"{engine.url} serves {_all(ids)}, and the {serving.model} model of the pair {pair.name!r} "
        f"is {path}: serve that one there, measure another pair (--rllm-model), or, if "
        f"{ids[0] if ids else 'NAME'} is what that server calls it, say so: --rllm-model-name "
        f"{ids[0] if ids else 'NAME'}"
    )


def _as_said(engine: Endpoint, name: str) -> Endpoint:
    """With the name that the user says: the server need not tell one."""
    calling = engine.calling(name)
    calling.named = True
    return calling


def _names(model: Mapping[str, Any]) -> list[str]:
    """What a server calls a model, and where it has it from, when it tells."""
    return list(dict.fromkeys([str(model["id"]), str(model.get("root") or model["id"])]))


def _same(name: str, path: str) -> bool:
    """Whether a name that a server tells is that of a folder or a model id."""
    return name.lower() == path.lower() or _last(name) == _last(path)


def _last(name: str) -> str:
    return PurePosixPath(name.lower().partition("@")[0]).name


def _all(ids: list[str]) -> str:
    return ", ".join(map(repr, ids[:5])) + (f" and {len(ids) - 5} more" if ids[5:] else "")


# ---- two URLs


def one_server(first: Server, second: Server) -> str | None:
    """Whether the servers of two URLs are one and the same.

    They are recognised by the address, by the counters of their metrics pages, which a request to
    one of them must not move in the other, or by the running numbers of their answers. Both are
    asked: a gateway may count for itself what it passes on to the other one.

    Returns:
        None when they are two; a remark when that cannot be told.

    Raises:
        EngineError: they are one.
    """
    if _address(first.url) == _address(second.url):
        raise EngineError(_one(first, second, "they are one address"))
    try:
        counted = [_by_counters(*both) for both in ((first, second), (second, first))]
        if True in counted:
            raise EngineError(_one(first, second, "a request to one is counted by the other"))
        numbered = _by_numbers(first, second)
        if numbered is True:
            raise EngineError(_one(first, second, "their answers are numbered in one row"))
        if numbered is False or counted == [False, False]:
            return None
        why = "neither counters nor the numbers of answers tell"
    except (*NO_ANSWER, ValueError, LookupError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
    return (
        f"whether {first.url} and {second.url} are two servers could not be checked ({why}): if "
        "both lead to one, the comparison shows nothing"
    )


def _one(first: Server, second: Server, why: str) -> str:
    return (
        f"{first.url} and {second.url} are one server ({why}): it cannot be compared with itself; "
        "start a second one, and give its own URL"
    )


def _address(url: str) -> tuple[str, str, int | None, str]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, "localhost" if host in _LOOPBACK else host, port, parts.path.rstrip("/")


def _by_counters(asked: Server, other: Server) -> bool | None:
    """True: both count what one was asked; False: they do not; None: it cannot be told."""
    if any("generation_tokens" not in s.engine.capabilities.series for s in (asked, other)):
        return None
    alike = 0
    for tokens in (*TOKENS, *TOKENS)[: TRIES + 1]:
        before = [_counted(server) for server in (asked, other)]
        made = int(_probe(asked, tokens)["usage"]["completion_tokens"])
        given_up = time.monotonic() + COUNTED_WITHIN_S
        while (own := _counted(asked) - before[0]) < made:
            if time.monotonic() > given_up:
                return None
            time.sleep(0.05)
        if own != made:
            continue  # somebody else uses it
        grown = _counted(other) - before[1]
        if grown == 0:
            return False
        alike = alike + 1 if grown == made else 0
        if alike == len(TOKENS):
            return True
    return None


def _counted(server: Server) -> float:
    assert server.engine.metrics_path
    page = ask(server.url + server.engine.metrics_path).decode()
    return server.engine.read_metrics(page, server.serving).values["generation_tokens"]


def _by_numbers(first: Server, second: Server) -> bool | None:
    """True: one row of numbers; False: each has its own; None: there are none."""
    found = [_NUMBER.search(str(_probe(s, 1).get("id"))) for s in (first, second) * 2]
    numbers = [int(match[1]) for match in found if match]
    if len(numbers) < len(found):
        return None
    if numbers == list(range(numbers[0], numbers[0] + 4)):
        return True
    if numbers[2] == numbers[0] + 1 and numbers[3] == numbers[1] + 1:
        return False
    return None


def _probe(server: Server, tokens: int) -> dict[str, Any]:
    body = server.greedy_body("Count to ten.", tokens)
    answer = json.loads(ask(f"{server.url}/v1/chat/completions", body))
    if not isinstance(answer, dict):
        raise TypeError("the answer is no object")
    return answer
