"""Doubles of the Hugging Face hub: an object that answers in its place, and a server of its API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from pytest_rllm.checkpoints.hub import NotToBeHad

GIB = 2**30


@dataclass
class MockHub:
    """Is asked in place of the hub, and notes what it was asked.

    Attributes:
        here: models that its cache has.
        sizes: GiB of the models that can be downloaded; all others do not exist.
        free: GiB on its disk.
        breaks: models whose download breaks off.
        asked, fetched: models, in order.
        data: data sets that were asked for, by whoever notes it.
    """

    here: set[str] = field(default_factory=set)
    sizes: Mapping[str, float] = field(default_factory=dict)
    free: float = 1000
    breaks: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    cache: Path = Path("/mock/hub")

    def free_bytes(self) -> int:
        return int(self.free * GIB)

    def holds(self, model: str) -> bool:
        return model in self.here

    def missing_bytes(self, model: str) -> int:
        self.asked.append(model)
        if model not in self.sizes:
            raise NotToBeHad(f"there is no model {model} on the mock hub")
        return int(self.sizes[model] * GIB)

    def fetch(self, model: str, fetched: Callable[[float], None]) -> None:
        self.fetched.append(model)
        fetched(self.sizes[model] * GIB / 2)
        if model in self.breaks:
            raise NotToBeHad(f"{model} could not be downloaded: the mock hub broke off")


class _Answers(BaseHTTPRequestHandler):
    """Answers as the hub does: what a model has, and its files."""

    models: Mapping[str, Mapping[str, bytes]]
    gated: frozenset[str]
    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer(send=False)

    def do_GET(self) -> None:
        self._answer(send=True)

    def _answer(self, *, send: bool) -> None:
        self.asked.append(self.path)
        path = self.path.partition("?")[0]
        api = path.startswith("/api/models/")
        owner, name, *more = path.removeprefix("/api/models" if api else "")[1:].split("/")
        model, file = f"{owner}/{name}", "/".join(more[2:])  # after "resolve" and a revision
        files = self.models.get(model)
        if files is None:
            self._say(b"{}", send, 401, "RepoNotFound")
        elif api:
            self._say(json.dumps(self._about(model, files, more)).encode(), send)
        elif model in self.gated:
            self._say(b"{}", send, 403, "GatedRepo")
        elif file not in files:
            self._say(b"{}", send, 404, "EntryNotFound")
        else:
            self._say(files[file], send)

    def _about(self, model: str, files: Mapping[str, bytes], asked: list[str]) -> object:
        sizes = {name: len(content) for name, content in files.items()}
        if asked[:1] == ["tree"]:
            return [
                {"type": "file", "path": name, "size": size, "oid": "b" * 40}
                for name, size in sizes.items()
            ]
        listed = [{"rfilename": name, "size": size} for name, size in sizes.items()]
        gated = "auto" if model in self.gated else False
        return {"id": model, "sha": "a" * 40, "siblings": listed, "gated": gated}

    def _say(self, body: bytes, send: bool, status: int = 200, error: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hash(body) & 0xFFFFFFFFFF:010x}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if send:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """A test's output stays quiet."""


@contextmanager
def mock_hub_server(
    models: Mapping[str, Mapping[str, bytes]], gated: frozenset[str] = frozenset()
) -> Iterator[tuple[str, list[str]]]:
    """A server on this machine that answers as the hub does.

    Args:
        models: per model id its files.
        gated: models whose files nobody may have.

    Yields:
        Its address, and the paths that it was asked, which grow.
    """
    asked: list[str] = []
    about = {"models": models, "gated": gated, "asked": asked}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (_Answers,), about))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
