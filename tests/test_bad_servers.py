"""What bad input gets from every engine: one sentence at the surface, never below a traceback."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.dialects import ADAPTERS, mock_of
from doubles.gateway import CHAT, Gateway, running
from doubles.synthetic import run, sample

from pytest_rllm.engines import engine_named, parse_engine
from pytest_rllm.engines.base import CannotServe, EngineError
from pytest_rllm.engines.builds import Build
from pytest_rllm.engines.last_words import cause
from pytest_rllm.engines.launching import Interpreter
from pytest_rllm.engines.llamacpp import LlamaCppEngine, checkpoint
from pytest_rllm.engines.llamacpp.build import of_package, version_of
from pytest_rllm.engines.mock.engine import MockEngine
from pytest_rllm.engines.openai import OpenAIEndpoint
from pytest_rllm.engines.pool import Attached, Pool
from pytest_rllm.engines.served import model_named, one_server
from pytest_rllm.engines.sglang import SglangEngine
from pytest_rllm.engines.vllm import VllmEngine
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling
from pytest_rllm.models import PAIRS
from pytest_rllm.plugin.conformance import PROMPTS
from pytest_rllm.records.header import SAID_TO_SERVE
from pytest_rllm.telemetry.gpu import Gpu
from pytest_rllm.verdicts.really_on import faults_of_run, unproven

TINY = PAIRS["tiny"]
ARGS = ("-p", "no:cacheprovider", "-p", "no:randomly", "-rs", "--rllm-record=records")
FINDING = """
from pytest_rllm import FAILED, Sampling, Serving, finding, not_higher, pp

@finding("Caching leaves answers as they are.", cite="this test")
def test_cached(compare, dataset, workload):
    compare(
        Serving(), against=Serving(prefix_caching=CACHED), prompts=dataset("easy", n=8, repeats=2),
        workload=workload.closed(4), sampling=Sampling(32), blocks=2,
    ).shows(not_higher(FAILED, by_more_than=pp(90)))
"""
Start = Callable[..., str]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start mock servers of somebody else; gives their URLs."""
    with Pool(tmp_path_factory.mktemp("servers")) as pool:
        yield lambda serving=Serving(), copy=0: (  # noqa: B008
            pool.serve(MockEngine(), serving, TINY, copy=copy).url
        )


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")


def session(
    pytester: pytest.Pytester, *options: str, cached: bool = False, model: str = "tiny"
) -> pytest.RunResult:
    """A session of one finding; nothing of it may be a traceback."""
    pytester.makepyfile(test_cached=FINDING.replace("CACHED", str(cached)))
    result = pytester.runpytest_inprocess(*ARGS, f"--rllm-model={model}", *options)
    shown = result.stdout.str() + result.stderr.str()
    lines = [line for line in shown.splitlines() if not line.startswith("  | ")]  # of a log
    assert not [one for one in lines if "Traceback" in one or re.search(r"cached\.py:\d+:", one)]
    return result


def refused(result: pytest.RunResult, said: str) -> None:
    """The command line is refused in one line."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR, result.stdout.str()
    (line,) = [one for one in result.stderr.str().splitlines() if one.strip()]
    assert re.match(rf"ERROR: --rllm-\w+: .*{said}", line), line


def ended(result: pytest.RunResult, said: str) -> None:
    """The case is an error that begins with a sentence, which the summary repeats."""
    result.assert_outcomes(errors=1)
    lines = result.stdout.str().splitlines()
    head = next(i for i, line in enumerate(lines) if "ERROR at call of test_cached" in line)
    assert re.search(said, lines[head + 1]), result.stdout.str()
    assert any(re.search(said, line) for line in lines if line.startswith("cached ["))


# ---- servers at a URL, for every adapter

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no key": ({"headers": {"authorization": "x"}}, "HTTP 401 .*wants a key.* --rllm-key-env VAR"),
    "forbidden": ({"headers": {"authorization": "x"}, "status": 403}, "HTTP 403 .*wants a key"),
    "redirect": ({"redirect": "https://other"}, "redirects to https://other/.*give the final URL"),
    "gzip": ({"compresses": True}, r"compresses its answers \(gzip\).*switch it off"),
}


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_does_not_let_us_in_is_a_usage_error(
    adapter: str, fault: str, start: Start, pytester: pytest.Pytester
) -> None:
    how, said = FAULTS[fault]
    with running(mock_of(adapter, start(), **how)) as gateway:
        refused(session(pytester, f"--rllm-engine={adapter}@{gateway.url}"), said)


REDIRECTS = {"redirect": "https://other", "only": CHAT}, "redirects to https://other/"
GZIPS = {"compresses": True, "only": CHAT}, r"compresses its answers \(gzip\)"
EXPIRES = {"expires_after": 9}, "HTTP 401.*wants a key"


@pytest.mark.parametrize(
    ("adapter", "fault"),
    [
        ("vllm", EXPIRES),
        ("sglang", REDIRECTS),
        ("llamacpp", GZIPS),
        ("openai", EXPIRES),
        ("openai+tgi", GZIPS),
    ],
)
def test_a_server_whose_streams_cannot_be_read_is_an_error_of_the_case(
    adapter: str, fault: tuple[dict[str, Any], str], start: Start, pytester: pytest.Pytester
) -> None:
    how, said = fault
    with running(mock_of(adapter, start(), **how)) as gateway:
        ended(session(pytester, f"--rllm-engine={adapter}@{gateway.url}"), said)


@pytest.mark.parametrize("adapter", ["vllm", "llamacpp", "openai"])
def test_a_server_of_http_1_0_is_measured(
    adapter: str, start: Start, pytester: pytest.Pytester
) -> None:
    with running(mock_of(adapter, start(), protocol="HTTP/1.0")) as gateway:
        session(pytester, f"--rllm-engine={adapter}@{gateway.url}").assert_outcomes(passed=1)
    (record,) = Path("records").glob("**/00-A.jsonl")
    samples = [json.loads(line) for line in record.read_text().splitlines()]
    errors = [one["error"] for one in samples if one["kind"] == "sample"]
    assert errors == [None] * len(errors)
    assert errors


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_server_of_another_model_is_refused_with_its_name(
    adapter: str, start: Start, pytester: pytest.Pytester
) -> None:
    listed = json.dumps({"data": [{"id": "llama-3"}]}).encode()
    with running(mock_of(adapter, start(), pages={"/v1/models": (200, listed)})) as gateway:
        engine = f"--rllm-engine={adapter}@{gateway.url}"
        said = "serves 'llama-3', and the reasoning model .* say so: --rllm-model-name llama-3"
        refused(session(pytester, engine), said)
        said = "serves 'llama-3', and no 'mine', as --rllm-model-name or served_name says"
        refused(session(pytester, engine, "--rllm-model-name=mine"), said)
        refused(
            session(pytester, "--rllm-engine=mock", f"--rllm-against={adapter}@{gateway.url}"),
            "serves 'llama-3', and the reasoning model",
        )


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_two_urls_of_one_server_are_refused(
    adapter: str, start: Start, pytester: pytest.Pytester
) -> None:
    with running(mock_of(adapter, start())) as one, running(mock_of(adapter, start())) as other:
        options = f"--rllm-engine={adapter}@{one.url}", f"--rllm-serving=prefix-caching={other.url}"
        result = session(pytester, *options, cached=True)
    ended(result, "are one server .*start a second one, and give its own URL")


@pytest.mark.parametrize("adapter", ["sglang", "llamacpp", "openai+tgi"])
def test_a_url_of_another_engine_is_a_usage_error(
    adapter: str, start: Start, pytester: pytest.Pytester
) -> None:
    """The mock server tells a version where vLLM does."""
    result = session(pytester, f"--rllm-engine={adapter}@{start()}")
    refused(result, re.escape(f"did not answer as {adapter}") + " does")


@pytest.mark.parametrize("adapter", [*ADAPTERS, "openai+ollama"])
@pytest.mark.parametrize("option", ["engine", "against", "serving"])
def test_a_password_in_a_url_is_refused_and_not_shown(
    adapter: str, option: str, pytester: pytest.Pytester
) -> None:
    url = "http://me:PLANTED@127.0.0.1:9"
    said = f"prefix-caching={url}" if option == "serving" else f"{adapter}@{url}"
    engine = () if option == "engine" else (f"--rllm-engine={adapter}@http://127.0.0.1:8",)
    result = session(pytester, *engine, f"--rllm-{option}={said}", "-vv", "-l")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    shown = result.stdout.str() + result.stderr.str()
    assert "http://***@127.0.0.1:9: a URL with a user or password would show them" in shown
    assert "PLANTED" not in shown


# ---- one server that looks like two


class OwnCounters(Gateway):
    """A gateway that counts for itself what it passes on to a server that others ask directly."""

    made = 0

    def refuses(self, path: str, headers: dict[str, str]) -> bool:
        if path == CHAT:
            self.made += 5 if self.made % 14 == 0 else 9  # the lengths of the probes, in turn
        page = (
            f"# TYPE mock:generated_tokens_total counter\nmock:generated_tokens_total {self.made}\n"
        )
        self.pages["/metrics"] = (200, page.encode())
        return super().refuses(path, headers)


def attached(url: str, adapter: type[OpenAIEndpoint] = MockEngine) -> Attached:
    return Attached(adapter(Build(url, url=url)), Serving(), TINY, url, 1)


@pytest.mark.parametrize("turned", [False, True])
def test_a_gateway_with_counters_of_its_own_is_seen_through(turned: bool, start: Start) -> None:
    url = start()
    with running(OwnCounters(url)) as gateway:
        urls = [url, gateway.url][:: -1 if turned else 1]
        with pytest.raises(EngineError, match=r"one server .a request to one is counted by the ot"):
            one_server(*map(attached, urls))


def test_two_gateways_with_counters_of_their_own_are_seen_by_the_numbers(start: Start) -> None:
    with (
        running(OwnCounters(start())) as one,
        running(OwnCounters(start())) as other,
        pytest.raises(EngineError, match=r"one server .their answers are numbered in one row"),
    ):
        one_server(attached(one.url), attached(other.url))


@pytest.mark.parametrize(
    ("ids", "called"),
    [
        (["another", "org/tiny-reasoning"], "org/tiny-reasoning"),
        (["x/tiny-reasoning", "y/tiny-reasoning"], None),
        (["x/tiny-reasoning", TINY.reasoning], TINY.reasoning),
    ],
)
def test_the_model_is_found_where_it_is_not_the_first_and_never_guessed(
    ids: list[str], called: str | None
) -> None:
    page = json.dumps({"data": [{"id": i, "owned_by": f"o{i[0]}"} for i in ids]}).encode()
    with running(Gateway(pages={"/v1/models": (200, page)})) as server:
        engine = OpenAIEndpoint(Build(server.url, url=server.url))
        assert f"model owned by o{ids[0][0]} or o{ids[1][0]}" in engine.version()
        if called:
            assert model_named(engine, Serving(), TINY).model_name == called
        else:
            with pytest.raises(EngineError, match=r"'x/tiny.*', 'y/tiny.*each of which may be"):
                model_named(engine, Serving(), TINY)


# ---- a serving that is not what the user says


def test_a_server_with_more_on_than_it_is_said_to_have_is_refused(
    start: Start, tmp_path: Path
) -> None:
    url = start(Serving("plain", prefix_caching=True))
    engine = engine_named(f"mock@{url}")
    with Pool(tmp_path) as pool:
        for serving in (Serving("plain"), Serving("plain", speculative="ngram")):
            said = f"serves with prefix caching: .*{re.escape(repr(str(serving)))} and the rest"
            with pytest.raises(CannotServe, match=said):
                pool.serve(engine.serving_as(serving), serving, TINY)
        on = Serving("plain", prefix_caching=True)
        assert pool.serve(engine.serving_as(on), on, TINY).alive


@pytest.mark.parametrize("serving", [Serving(), Serving(prefix_caching=True)])
def test_llamacpps_prompt_cache_is_used_where_it_is_said_to_be(serving: Serving) -> None:
    engine = LlamaCppEngine(Build("x", url="http://x")).serving_as(serving).calling("m")
    body = engine.body(PROMPTS[0], Sampling(8))
    assert body["cache_prompt"] is serving.prefix_caching


def test_a_plain_model_that_reasons_is_none() -> None:
    made = run(*[sample(f"q{i}") for i in range(4)])
    assert all(one.reasoned for one in made.samples)
    made.header = run().header.__class__(serving=Serving("plain"))
    assert "4 of 4 answers of the plain model have reasoning: its server serves the reasoning" in (
        next(faults_of_run(made, "A", "A")).text
    )


def test_what_no_engine_shows_rests_on_the_users_word() -> None:
    said = Serving(prefix_caching=True, speculative="draft", tensor_parallel=2)
    made = run(sample())
    made.header = run().header.__class__(
        serving=said, repeats=False, notes={SAID_TO_SERVE: "http://b"}
    )
    made.series["drafts"] = made.series["prefix_hits"] = ([0.0, 1.0], [0.0, 5.0])
    (remark,) = unproven(made)
    for unseen in ("that it is draft", "prefix caching", "on how many GPUs"):
        assert unseen in remark


# ---- builds that do not serve


def interpreter(folder: Path, files: dict[str, str], *versions: tuple[str, str]) -> Path:
    """A Python that has these modules and these distributions (name, version), and no other."""
    site = folder / "site"
    for file, text in files.items():
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_text(text)
    for name, version in versions:
        info = site / f"{name.replace('-', '_')}-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
        (info / "top_level.txt").write_text(name.split("-")[0])
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    return python


BROKEN = "raise ImportError('libx.so.1: cannot open shared object file')\n"
NO_IMPORT = r"ImportError: libx.so.1: .*: install it anew with all that it needs, or take another"
TORCH = {"torch/__init__.py": "", "torch/version.py": "cuda = None\n"}


@pytest.mark.parametrize(
    ("engine", "files"),
    [
        ("vllm", {"vllm/__init__.py": BROKEN}),
        ("sglang", {"sglang/__init__.py": BROKEN, "sgl_kernel.py": ""}),
    ],
)
def test_an_engine_that_does_not_import_ends_its_case_with_that_sentence(
    engine: str, files: dict[str, str], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = interpreter(pytester.path / "other", files | TORCH, (engine, "0.9.0"))
    result = session(pytester, f"--rllm-engine={engine}@{python}")
    ended(result, f"{engine} 0.9.0 ended with status 1 .*: it does not import .{NO_IMPORT}")
    monkeypatch.setenv("PYTHONPATH", str(python.parent / "site"))  # that of the running interpreter
    result = session(pytester, f"--rllm-engine={engine}", "--rllm-record=others")
    ended(result, f"{engine}.* ended with status 1 .*: it does not import .{NO_IMPORT}")


def test_llamacpp_that_does_not_import_is_a_usage_error(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = interpreter(pytester.path / "other", {"xllamacpp.py": BROKEN})
    said = "cannot be used: .*ImportError: libx.so.1: .*; reinstall it, or take another version"
    refused(session(pytester, f"--rllm-engine=llamacpp@{python}"), said)
    monkeypatch.setenv("PYTHONPATH", str(python.parent / "site"))
    refused(session(pytester, "--rllm-engine=llamacpp"), said)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "llamacpp"])
def test_what_is_not_installed_is_a_usage_error(engine: str, pytester: pytest.Pytester) -> None:
    python = interpreter(pytester.path / "other", {"torch/__init__.py": "", **TORCH})
    refused(session(pytester, f"--rllm-engine={engine}@{python}"), f"is not installed for {python}")


PARSER = "import argparse\nargparse.ArgumentParser(prog='server').parse_args()\n"


@pytest.mark.parametrize(
    ("engine", "files"),
    [
        ("vllm", {"vllm/__init__.py": "", "vllm/entrypoints/openai/api_server.py": PARSER}),
        (
            "sglang",
            {"sglang/__init__.py": "", "sglang/launch_server.py": PARSER, "sgl_kernel.py": ""},
        ),
    ],
)
def test_a_build_that_is_too_old_for_a_flag_names_the_flag(
    engine: str, files: dict[str, str], pytester: pytest.Pytester
) -> None:
    python = interpreter(pytester.path / "other", files | TORCH, (engine, "0.1"))
    result = session(pytester, f"--rllm-engine={engine}@{python}")
    ended(result, f"{engine} 0.1 ended .*: it does not know --model.*, --served-model-name.*newer")


def test_llamacpp_without_a_kind_of_speculation_is_skipped_with_what_lacks(
    pytester: pytest.Pytester,
) -> None:
    program = pytester.path / "llama-server"
    program.write_text(
        "#!/bin/sh\ncase $1 in\n--version) echo 'version: 0 (unknown)';;\n"
        "--help) echo '--spec-draft-model FILE --port N';;\nesac\n"
    )
    program.chmod(0o755)
    result = session(pytester, f"--rllm-engine=llamacpp@{program}")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*b0-unknown lacks --cache-ram, *: take a newer build*"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "own.gguf is no GGUF file of a language model"),
        ("plain", "own.gguf is a file of another model than .*another chat template; give one"),
    ],
)
def test_a_gguf_of_another_model_is_an_error_of_the_case(
    given: str | None, said: str, pytester: pytest.Pytester
) -> None:
    own = pytester.path / "own.gguf"
    own.write_bytes(b"GGUF is what it is not")
    if given:
        made = checkpoint.gguf_of(Path(TINY.path(given)), TINY.revision(given), None)
        own.write_bytes(made.read_bytes())
    (pytester.path / "own.toml").write_text(
        f'reasoning = "{TINY.reasoning}"\nplain = "{TINY.plain}"\ncontext_length = 1536\n'
        "kv_cache_bytes = 26214400\n[budgets]\nshort = 64\nenough = 512\ngenerous = 1024\n"
        "fixed_length = 128\n[tiers]\neasy.dataset = 'bundled-easy'\n"
        "[engines.llamacpp]\nfiles = { reasoning = 'own.gguf' }\n"
    )
    ended(session(pytester, "--rllm-engine=llamacpp", model="own.toml"), said)


def test_a_gguf_of_the_same_kind_with_other_weights_is_found_out(tmp_path: Path) -> None:
    """As of another fine-tuning of one base model."""
    made = checkpoint.gguf_of(Path(TINY.reasoning), TINY.revision("reasoning"), "Q4_0")
    assert checkpoint.differences(made, Path(TINY.reasoning)) == []
    data = bytearray(made.read_bytes())
    import gguf

    (norm,) = [t for t in gguf.GGUFReader(made).tensors if t.name == "output_norm.weight"]
    begin = norm.data_offset
    data[begin : begin + norm.n_bytes] = bytes(norm.n_bytes)
    (tmp_path / "own.gguf").write_bytes(data)
    (said,) = checkpoint.differences(tmp_path / "own.gguf", Path(TINY.reasoning))
    assert said.startswith("other weights")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], ""),
        (["loading", "Killed"], ""),
        (["x.E: y", "ValueError: no such model"], ": ValueError: no such model"),
        (
            ["(Engine pid=1) ERROR ImportError: no lib", "RuntimeError: engine failed"],
            ": it does not import (ImportError: no lib): install it anew",
        ),
        (["usage: x", "x: error: argument --a: invalid choice"], ": argument --a: invalid choice"),
        (["error: invalid argument: --spec-type"], ": invalid argument: --spec-type"),
        (["x: error: unrecognized arguments: --a 1 --b"], ": it does not know --a, --b: take a"),
        (["E" * 9 + "Error: " + "x" * 999], "x ..."),
    ],
)
def test_the_cause_is_found_among_the_last_words(lines: list[str], said: str) -> None:
    found = cause(lines)
    assert found.endswith(said) if said in ("", "x ...") else found.startswith(said)


# ---- versions that are no releases

ODD = ("0.1.dev3+gabc", "dev", "0.11.1rc2.dev4+g1234.d20261101", "unknown", "2026-11-01 nightly")


@pytest.mark.parametrize("version", ODD)
@pytest.mark.parametrize("adapter", ["vllm", "sglang"])
def test_any_version_of_a_package_is_served(adapter: str, version: str, tmp_path: Path) -> None:
    made = {"vllm": VllmEngine, "sglang": SglangEngine}[adapter]
    files = {f"{adapter}/__init__.py": "", "sgl_kernel.py": "", **TORCH}
    engine = made(Build("x", python=str(interpreter(tmp_path, files, (adapter, version)))))
    assert (engine.label, engine.on_cpu) == (f"{adapter} {version}", True)
    launch = engine.launch(Serving(), TINY, 1)
    assert "--enable-scale-out" not in launch.argv


def test_vllm_is_asked_whether_it_knows_a_flag_and_not_for_its_version(tmp_path: Path) -> None:
    options = "class Arguments:\n    enable_scale_out: bool = False\n"
    files = {"vllm/__init__.py": "", "vllm/entrypoints/launchers/cli_args.py": options, **TORCH}
    checkout = VllmEngine(Build("x", python=str(interpreter(tmp_path, files))))
    assert checkout.label == "vllm dev"
    assert "--enable-scale-out" in checkout.launch(Serving(), TINY, 1).argv
    fork = interpreter(tmp_path / "fork", files, ("vllm-fork", "1.0"))
    assert VllmEngine(Build("y", python=str(fork))).label == "vllm-fork 1.0"


@pytest.mark.parametrize("version", ODD)
def test_any_version_of_xllamacpp_is_served(version: str, tmp_path: Path) -> None:
    module = f"__version__ = {version!r}\nclass CommonParams: pass\nget_device_info = lambda: []\n"
    python = interpreter(tmp_path, {"xllamacpp.py": module})
    assert LlamaCppEngine(Build("x", python=str(python))).version() == version
    bare = interpreter(tmp_path / "bare", {"xllamacpp.py": module.partition("\n")[2]})
    assert of_package(Interpreter(str(bare), apart=True)).version == "dev"


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ("version: 0 (unknown)", "b0-unknown"),
        ("version: 5549 (abc1234-dirty)", "b5549-abc1234-dirty"),
        ("version: dev", "dev"),
        ("version: b9012 (local build)", "b9012-local-build"),
        ("release 3", None),
    ],
)
def test_any_version_of_a_program_is_served(told: str, version: str | None, tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text(f"#!/bin/sh\necho '{told}'\n")
    program.chmod(0o755)
    assert version_of(program) == version


@pytest.mark.parametrize("version", [*ODD, "", None])
@pytest.mark.parametrize(
    ("adapter", "path", "key"),
    [
        ("vllm", "/version", "version"),
        ("sglang", "/server_info", "version"),
        ("llamacpp", "/props", "build_info"),
        ("openai+tgi", "/info", "version"),
    ],
)
def test_any_version_of_a_server_is_taken_and_none_is_said(
    adapter: str, path: str, key: str, version: str | None
) -> None:
    pages = {path: {key: version}, "/v1/models": {"data": [{"id": "m"}]}}
    told = {where: (200, json.dumps(page).encode()) for where, page in pages.items()}
    with running(Gateway(pages=told)) as server:
        engine = engine_named(f"{adapter}@{server.url}")
        if version:
            assert engine.version() == version
            assert version in engine.label
        else:
            with pytest.raises(
                EngineError, match=f"{path} did not answer as .*{adapter[-3:]} does"
            ):
                engine.version()


# ---- every path by which a build comes


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gpu, "devices", ())
    monkeypatch.setattr(Gpu, "why_not", "none here")


@pytest.mark.parametrize("engine", ["vllm", "sglang", "llamacpp", "mock"])
@pytest.mark.parametrize(
    "build",
    [
        "sglang==0.5.22",
        "sglang[all]==0.5.22",
        "sglang@sglang==0.5.22",
        "sglang @ https://host.invalid/sglang-0.5.22-py3-none-any.whl",
        "WHEEL",
    ],
)
def test_no_path_installs_what_cannot_serve_here(
    engine: str, build: str, no_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLLM_CACHE", str(tmp_path / "cache"))
    wheel = tmp_path / "sglang-0.5.22-py3-none-any.whl"
    wheel.touch()
    name, said = parse_engine(build.replace("WHEEL", str(wheel)), engine)
    assert name == "sglang"
    with pytest.raises(
        ValueError, match=r"serve on NVIDIA GPUs, and this machine has none .none h"
    ):
        engine_named(f"{name}@{said}")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("engine", "against", "said"),
    [
        ("mock", "sglang==0.5.22", "PyPI's packages of SGLang serve on NVIDIA GPUs"),
        ("llamacpp", "/x/llama-server", "no such file or folder; give a llama-server, an interpr"),
        ("llamacpp", "llamacpp@/x/llama-server", "give a llama-server, .*such as xllamacpp==2026"),
        ("llamacpp", "false", "does not run as a Python interpreter, nor as llama-server does"),
        ("llamacpp", "xllamacpp>=2026", "write NAME==VERSION, such as xllamacpp==2026"),
        (
            "llamacpp",
            "vllm@xllamacpp==2026.1",
            "a package of the engine 'llamacpp': write llamacpp",
        ),
        ("mock", "sglang@/x", "no such file or folder; give an interpreter, .* as sglang==0.5"),
        ("mock", "vllm@vllm-1-2.whl", "is not pinned to an exact version"),
        ("mock", "xllamacpp", "unknown engine 'xllamacpp'"),
    ],
)
def test_a_build_to_compare_with_that_is_none_is_a_usage_error(
    engine: str, against: str, said: str, no_gpu: None, pytester: pytest.Pytester
) -> None:
    result = session(pytester, f"--rllm-engine={engine}", f"--rllm-against={against}")
    refused(result, said)


def test_a_program_on_path_is_a_build_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\necho 'version: 7 (abc)'\n")
    program.chmod(0o755)
    for text in (str(program), "llama-server"):
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        name, build = parse_engine(text, "llamacpp")
        assert engine_named(f"{name}@{build}").version() == "b7-abc"
    assert parse_engine("xllamacpp==2026.9.11063", "vllm") == (
        "llamacpp",
        "xllamacpp==2026.9.11063",
    )


def test_a_build_that_an_arm_names_is_said_without_a_traceback(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_cached=FINDING.replace("CACHED", "True")
        .replace("Serving,", "Arm, Serving,")
        .replace("    compare(", "    from pytest_rllm import Arm\n    compare(")
        .replace(
            "Serving(), against",
            "Arm(Serving(), dataset('easy', n=8), workload.closed(4), Sampling(32), "
            "'vllm@/no/python'), against",
        )
        .replace("Serving(prefix_caching=True), prompts", "Serving(), prompts")
    )
    result = pytester.runpytest_inprocess(*ARGS, "--rllm-model=tiny", "--rllm-engine=mock")
    ended(result, "/no/python: there is no such file or folder; give an interpreter")
    assert "Traceback" not in result.stdout.str()
