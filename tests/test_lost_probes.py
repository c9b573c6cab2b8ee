"""An engine that is lost while a probe is asked is an engine error with its last words."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from http.client import BadStatusLine, IncompleteRead, RemoteDisconnected
from typing import Any

import pytest

from pytest_rllm.engines.base import EngineError
from pytest_rllm.engines.capabilities import Capabilities
from pytest_rllm.engines.http import Refused
from pytest_rllm.engines.openai import OpenAIEndpoint
from pytest_rllm.engines.server import Attached
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.models import PAIRS
from pytest_rllm.session.probes import Probes
from pytest_rllm.session.sources import EngineDied

URL = "http://127.0.0.1:1"
WAYS: dict[str, Exception] = {
    "killed": RemoteDisconnected("Remote end closed connection without response"),
    "refused connection": ConnectionRefusedError(111, "Connection refused"),
    "reset": ConnectionResetError(104, "Connection reset by peer"),
    "hung": TimeoutError(f"{URL} was silent for 60 s"),
    "cut": IncompleteRead(b"{"),
    "garbage": BadStatusLine("\x00"),
    "HTTP 500": Refused(URL, 500, "Internal Server Error", b"CUDA out of memory", None),
    "HTTP 503": Refused(URL, 503, "Service Unavailable", b"", None),
}


class Telling(OpenAIEndpoint):
    """An endpoint that tells log probabilities."""

    name = "telling"
    label = "telling 1"

    @property
    def capabilities(self) -> Any:
        return Capabilities(log_probabilities=True)

    def greedy_body(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {}


@dataclass
class MockServer(Attached):
    """A server that is there or gone, whoever asks."""

    up: bool = True

    def answers(self, path: str) -> bool:
        return self.up


MOMENTS: dict[str, Callable[[Probes, MockServer], Any]] = {
    "signature": lambda probes, server: probes.signature(server, "new"),
    "anchor": lambda probes, server: probes.anchor_s(server, "new"),
}


def server(*, up: bool) -> MockServer:
    return MockServer(Telling(), Serving(), PAIRS["tiny"], URL, 1, up=up)


@pytest.mark.parametrize("up", [True, False], ids=["lives", "is gone"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_every_way_to_lose_it_is_told(
    moment: str, way: str, up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object, **__: object) -> bytes:
        raise WAYS[way]

    monkeypatch.setattr("pytest_rllm.session.probes.ask", lost)
    with pytest.raises(EngineError) as caught:
        MOMENTS[moment](Probes(), server(up=up))
    assert isinstance(caught.value, EngineDied) is not up
    told = str(caught.value)
    assert told.startswith("telling 1 ")
    assert str(WAYS[way]) in told
    assert "look for its log where it was started" in told, "its last words"
    assert "urllib" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b"{}", b'{"choices": null}', b"null"])
def test_an_answer_of_another_shape_is_told(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_rllm.session.probes.ask", lambda *_, **__: answer)
    with pytest.raises(EngineError, match="telling 1 answered a probe otherwise than its kind"):
        Probes().signature(server(up=True), "new")
