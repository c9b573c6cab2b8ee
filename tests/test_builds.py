"""Builds: what names one, and environments that are made once, locked, and never half."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import psutil
import pytest

from pytest_rllm.cache import cache_folder
from pytest_rllm.engines.base import EngineError
from pytest_rllm.engines.builds import Build, build_named
from pytest_rllm.engines.environments import Installed, clean_environment
from pytest_rllm.engines.pip_settings import UvSettings, uv_settings

HERE = metadata.version("iniconfig")


def make_wheel(
    folder: Path, name: str, version: str, needs: tuple[str, ...] = (), code: str = ""
) -> Path:
    """A wheel of one module with a line of code."""
    info = f"{name}-{version}.dist-info"
    about = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    about += [f"Requires-Dist: {need}" for need in needs]
    files = {
        f"{name}/__init__.py": code,
        f"{info}/METADATA": "\n".join(about) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
    return path


@dataclass
class Shelf:
    """Wheels that pip and uv find without a network, and a cache for what is made of them."""

    wheels: Path
    cache: Path
    said: list[str] = field(default_factory=list)

    def build(self, text: str) -> Build:
        return build_named(text, cache=self.cache, say=self.said.append)

    @property
    def folders(self) -> list[Path]:
        return [path for path in (self.cache / "builds").glob("*") if path.is_dir()]


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """Only pip is told where wheels are: uv has to learn it from pip's settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
            patch.delenv(name)
        patch.setenv("UV_CACHE_DIR", str(tmp_path_factory.mktemp("uv")))
        patch.setenv("UV_NO_CONFIG", "1")
        patch.setenv("UV_OFFLINE", "1")
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_CONFIG_FILE", "/dev/null")
        yield patch


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, offline: pytest.MonkeyPatch) -> Shelf:
    """An engine for CPU, with all that is troublesome about one."""
    wheels = tmp_path_factory.mktemp("wheels")
    offline.setenv("PIP_FIND_LINKS", str(wheels))
    needs = ("torch==9.9+cpu", "torchvision", "iniconfig", "rllm_part", "packaging<1")
    make_wheel(wheels, "rllm_engine", "1.0", (*needs, 'absent; extra == "x"'))
    make_wheel(wheels, "torch", "9.9+cpu", ("rllm_sympy", 'absent; extra == "x"'))
    make_wheel(wheels, "rllm_sympy", "1.0")
    make_wheel(wheels, "packaging", "0.1")
    make_wheel(wheels, "iniconfig", HERE)
    make_wheel(wheels, "iniconfig", "99.0")
    make_wheel(wheels, "rllm_part", "1.0", ("pluggy<1",))  # this environment has a newer one
    make_wheel(wheels, "pluggy", "0.5")
    make_wheel(wheels, "rllm_lame", "1.0", ("no_such_thing==7.5",))
    make_wheel(wheels, "rllm_broken", "1.0", code="raise OSError('libengine.so is missing')")
    return Shelf(wheels, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def made(shelf: Shelf) -> Build:
    return shelf.build("rllm-engine==1.0")


# ---- environments


def test_a_version_gets_an_environment_of_its_own(made: Build) -> None:
    assert made.python
    assert made.url is None
    say = "import sys, rllm_engine; print(rllm_engine.__file__.startswith(sys.prefix))"
    env = clean_environment()
    said = subprocess.run([made.python, "-c", say], capture_output=True, text=True, env=env)
    assert said.stdout.strip() == "True", said.stderr


def test_the_lock_lists_what_resolved_and_says_how(made: Build) -> None:
    """The running environment's iniconfig was taken; its pluggy, packaging and torch were not."""
    assert made.python
    how, *lines = (Path(made.python).parents[1] / "lock.txt").read_text().splitlines()
    prefers = "which prefers the versions of the running environment; different: "
    assert how.startswith(f"# resolved by uv {metadata.version('uv')}, {prefers}")
    pluggy = metadata.version("pluggy")
    assert f"pluggy 0.5 (running environment: {pluggy})" in how
    assert "packaging 0.1 (" in how
    assert "iniconfig" not in how
    expected = {f"iniconfig=={HERE}", "pluggy==0.5", "rllm-engine==1.0", "torch==9.9+cpu"}
    assert expected < set(lines)
    assert {"rllm-sympy==1.0", "packaging==0.1"} < set(lines)
    assert lines == sorted(lines)
    assert not [line for line in lines if line.startswith(("torchvision", "absent", "pip="))]


def test_it_is_used_again_as_it_is(shelf: Shelf, made: Build) -> None:
    (log,) = (shelf.cache / "builds").glob("rllm-engine-*.log")
    before, said = log.read_bytes(), len(shelf.said)
    again = shelf.build("rllm_engine == 1.0")
    assert again.python == made.python
    assert log.read_bytes() == before
    assert shelf.said[said:] == []


def test_a_folder_that_was_never_finished_is_made_anew_by_one_of_two_sessions(
    shelf: Shelf, made: Build
) -> None:
    assert made.python
    folder = Path(made.python).parents[1]
    (folder / "ready").unlink()
    (folder / "left-behind").touch()
    said: list[list[str]] = [[], []]
    sessions = [
        threading.Thread(
            target=build_named,
            args=("rllm-engine==1.0",),
            kwargs={"cache": shelf.cache, "say": said[i].append},
        )
        for i in range(2)
    ]
    for session in sessions:
        session.start()
    for session in sessions:
        session.join()
    waiting = [any("waiting for another session" in text for text in words) for words in said]
    making = [any("making an environment" in text for text in words) for words in said]
    assert sorted(waiting) == sorted(making) == [False, True]
    assert waiting != making
    assert (folder / "ready").exists()
    assert not (folder / "left-behind").exists()


def test_an_interrupted_build_leaves_nothing_that_is_taken_for_one(shelf: Shelf) -> None:
    """Neither a folder nor a process, be it one that a command has started itself."""
    others, started = psutil.Process().children(recursive=True), list[psutil.Process]()

    def interrupt(text: str) -> None:
        started[:] = set(psutil.Process().children(recursive=True)).difference(others)
        if text.startswith("making an environment") and len(started) > 1:
            raise KeyboardInterrupt

    before = shelf.folders
    with pytest.raises(KeyboardInterrupt):
        build_named("rllm-part==1.0", cache=shelf.cache, say=interrupt)
    assert shelf.folders == before
    assert len(started) > 1
    assert psutil.wait_procs(started, timeout=10)[1] == []


def test_what_uv_says_when_it_fails_is_in_the_error(shelf: Shelf) -> None:
    before = shelf.folders
    with pytest.raises(EngineError) as caught:
        shelf.build("rllm-lame==1.0")
    text = str(caught.value)
    assert "resolving what rllm-lame needs failed with status 1" in text
    assert "no-such-thing was not found in the provided package locations" in " ".join(text.split())
    assert "no-such-thing==7.5" in text
    assert "uv pip compile" in text
    (log,) = (shelf.cache / "builds").glob("rllm-lame-*.log")
    assert f"log: {log}" in text
    assert "no-such-thing" in log.read_text()
    assert shelf.folders == before


def test_a_build_that_does_not_import_is_an_error(shelf: Shelf) -> None:
    with pytest.raises(EngineError, match=r"checking rllm-broken @ file") as caught:
        shelf.build(str(shelf.wheels / "rllm_broken-1.0-py3-none-any.whl"))
    assert "libengine.so is missing" in str(caught.value)


def test_a_wheel_with_other_bytes_is_another_build(shelf: Shelf, tmp_path: Path) -> None:
    from pytest_rllm.engines.builds import _folder_name, _wheel

    path = make_wheel(tmp_path, "nightly", "2.0.dev1")
    first = _folder_name(_wheel(path))
    assert first.startswith(f"nightly-2.0.dev1-py3.{sys.version_info.minor}-")
    assert first == _folder_name(_wheel(path))
    make_wheel(tmp_path, "nightly", "2.0.dev1", code="x = 1")
    assert first != _folder_name(_wheel(path))


def installed(wheel: Path, *extras: str) -> Installed:
    """A wheel as if it was installed: Python reads the metadata in the file too."""
    return Installed(wheel.name.partition("-")[0], (str(wheel),), frozenset(extras))


def test_needs_of_an_extra_and_of_another_machine(tmp_path: Path) -> None:
    needs = ("numpy", 'soundfile; extra == "audio"', 'winreg; platform_system == "Windows"')
    path = make_wheel(tmp_path, "spoken", "1.0", needs)
    assert [str(need) for need in installed(path).needs] == ["numpy"]
    assert [str(need) for need in installed(path, "audio").needs] == ["numpy", "soundfile"]


def test_what_belongs_to_a_gpu_builds_torch_is_not_shared(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "fast", "1.0", ("torch==2.9", "numpy<2"))
    here = {"fast": "2.0", "old": "1-x-y", "torch": "2.13+cpu", "triton": "3.9", "regex": "2026.1"}
    assert installed(path).cpu_torch is None
    assert installed(path).shareable(here | {"nvidia-cublas-cu12": "12.8"}) == {"regex": "2026.1"}


def test_a_build_without_a_torch_of_its_own_has_all_that_it_needs(shelf: Shelf) -> None:
    make_wheel(shelf.wheels, "rllm_plain", "1.0", ("iniconfig", "torch"))
    made = shelf.build("rllm-plain==1.0")
    assert made.python
    lines = (Path(made.python).parents[1] / "lock.txt").read_text().splitlines()
    assert {f"iniconfig=={HERE}", "rllm-plain==1.0", "torch==9.9+cpu"} < set(lines)


def test_the_log_names_no_address_of_an_index(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Addresses may hold passwords, and logs are attached to bug reports."""
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://me:hunter2@127.0.0.1:9/simple")
    make_wheel(shelf.wheels, "rllm_guarded", "1.0")
    shelf.build("rllm-guarded==1.0")
    (log,) = (shelf.cache / "builds").glob("rllm-guarded-*.log")
    assert "UV_INDEX" in log.read_text()
    assert "hunter2" not in log.read_text()


def test_the_running_environments_own_settings_of_pip_hold_too(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_wheel(tmp_path, "rllm_apart", "1.0")
    (tmp_path / "pip.conf").write_text(f"[global]\nfind-links = {tmp_path}\n")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.delenv("PIP_CONFIG_FILE")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert shelf.build("rllm-apart==1.0").python


def test_settings_of_pip_that_cannot_be_read(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pip.conf").write_text("no section\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    make_wheel(shelf.wheels, "rllm_unset", "1.0")
    with pytest.raises(EngineError, match=r"pip's configuration cannot be read: correct it"):
        shelf.build("rllm-unset==1.0")


def test_the_cache_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLLM_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path.home() / ".cache" / "pytest-rllm"
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/pytest-rllm")
    monkeypatch.setenv("RLLM_CACHE", "~/here")
    assert cache_folder() == Path.home() / "here"


# ---- names


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("vllm", "is not pinned to an exact version; write NAME==VERSION"),
        ("vllm>=0.31", "is not pinned to an exact version"),
        ("vllm==0.31.*", "is not pinned to an exact version"),
        ("vllm==0.31.0,!=0.31.1", "is not pinned to an exact version"),
        ("vllm 0.31.0", "names no build"),
        ("", "names no build"),
        ("vllm==0.31.0; python_version > '3'", "a condition after ';' is not supported"),
        ("vllm @ git+https://host.invalid/vllm", r"only a URL of a wheel \(.whl\) is pinned"),
        ("vllm @ file:///no/such/vllm-0.31.0-py3-none-any.whl", "there is no file /no/such/vllm"),
    ],
)
def test_what_is_not_pinned_is_refused(text: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=why):
        build_named(text, cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_interpreter_or_its_virtual_environment() -> None:
    assert build_named(sys.executable) == Build(sys.executable, python=sys.executable)
    venv = Path(sys.executable).parents[1]
    assert build_named(f"{venv}/") == Build(f"{venv}/", python=f"{venv}/bin/python")


def test_a_path_that_is_no_interpreter(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file or folder; give an interpreter"):
        build_named(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="holds no executable bin/python"):
        build_named(str(tmp_path))
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho this is no Python >&2\nexit 3\n")
    with pytest.raises(ValueError, match="cannot be executed"):
        build_named(str(script))
    script.chmod(0o755)
    with pytest.raises(ValueError, match="does not run as a Python interpreter: this is no Python"):
        build_named(str(script))


# ---- servers


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A server of the files in ``tmp_path``."""
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout
        port = process.stdout.readline().split(" port ")[1].split()[0]
        yield f"http://127.0.0.1:{port}"
        process.kill()


def test_a_url_is_a_build_when_it_lists_a_model(server: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"GET http://127.0.0.1:\d+/v1/models did not answer.*404"):
        build_named(server)
    (tmp_path / "v1").mkdir()
    models = tmp_path / "v1" / "models"
    models.write_text("<html>")
    with pytest.raises(ValueError, match="did not answer as an OpenAI-compatible server"):
        build_named(server)
    models.write_text('{"data": []}')
    with pytest.raises(ValueError, match="lists no model"):
        build_named(server)
    models.write_text('{"data": [{"id": "mine"}]}')
    for said in (server, f"{server}/", f"{server}/v1", f"{server}/v1/"):
        assert build_named(said) == Build(said, url=server)


def test_a_url_that_nobody_answers() -> None:
    with pytest.raises(ValueError, match="start the server, or correct the address"):
        build_named("http://127.0.0.1:9")


# ---- pip's settings, given to uv

LISTING = """\
:env:.find-links='/a /b'
:env:.timeout='180'
download.index-url='https://download.invalid/simple'
global.cert='/ca.pem'
global.constraint='/c.txt'
global.extra-index-url='https://two.invalid/simple\\nfile:///three'
global.find-links='/overridden'
global.index-url='https://one.invalid/simple'
global.no-index='false'
global.trusted-host='one.invalid two.invalid:8443'
install.constraint='/later.txt'
"""


def test_each_setting_of_pip_has_its_counterpart() -> None:
    assert uv_settings(LISTING, {}) == UvSettings(
        {
            "UV_DEFAULT_INDEX": "https://one.invalid/simple",
            "UV_INDEX": "https://two.invalid/simple file:///three",
            "UV_FIND_LINKS": "/a,/b",
            "UV_CONSTRAINT": "/later.txt",
            "UV_INSECURE_HOST": "one.invalid two.invalid:8443",
            "SSL_CERT_FILE": "/ca.pem",
            "UV_HTTP_TIMEOUT": "180",
            "UV_INDEX_STRATEGY": "unsafe-best-match",
        }
    )


def test_what_uv_is_told_itself_stays() -> None:
    told = {
        "UV_INDEX_URL": "https://mine.invalid/simple",
        "UV_EXTRA_INDEX_URL": "https://mine.invalid/more",
        "SSL_CERT_FILE": "/mine.pem",
        "UV_FIND_LINKS": "",
    }
    settings = uv_settings(LISTING, told)
    assert settings.variables.keys() == {
        "UV_FIND_LINKS",
        "UV_CONSTRAINT",
        "UV_INSECURE_HOST",
        "UV_HTTP_TIMEOUT",
    }


@pytest.mark.parametrize("text", ["1", "true", "True", "yes", "on"])
def test_no_index_is_an_option_because_uv_has_no_variable_for_it(text: str) -> None:
    listing = f"global.no-index='{text}'\n"
    assert uv_settings(listing, {}) == UvSettings({}, ("--no-index",))
    assert uv_settings(listing, {"UV_INDEX": "https://mine.invalid"}) == UvSettings({})


def test_nothing_configured_and_an_option_that_was_emptied() -> None:
    assert uv_settings("", {}) == UvSettings()
    assert uv_settings("global.constraint='/c.txt'\n:env:.constraint=''\n", {}) == UvSettings()


def test_the_listing_is_what_pip_prints(tmp_path: Path) -> None:
    configuration = tmp_path / "pip.conf"
    configuration.write_text(
        "[global]\nindex-url = https://o'ne.invalid/simple?a=b.c\nextra-index-url =\n"
        "    https://two.invalid/\n    https://three.invalid/\n[install]\nno-index = yes\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        env={"PIP_CONFIG_FILE": str(configuration), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    own = {
        "UV_DEFAULT_INDEX": "https://o'ne.invalid/simple?a=b.c",
        "UV_INDEX": "https://two.invalid/ https://three.invalid/",
    }
    settings = uv_settings(done.stdout, {})
    assert own.items() <= settings.variables.items()
    assert settings.options == ("--no-index",)
