"""The plugin as pytest sees it: what it loads, what it offers, what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_rllm.plugin.options import FLAGS, LISTS, OPTIONS

ARGS = ("-p", "no:cacheprovider")
ROOT = Path(__file__).parent.parent


def test_help_shows_every_option_and_ini(pytester: pytest.Pytester) -> None:
    text = pytester.runpytest_inprocess("--help").stdout.str()
    assert len(OPTIONS) <= 16
    assert set(FLAGS) == {"complete", "plan", "turns"}
    assert set(LISTS) == {"serving", "key-env", "header-env"}
    for name in (*OPTIONS, *FLAGS, *LISTS):
        assert f"--rllm-{name}" in text
        assert f"rllm_{name.replace('-', '_')}" in text


def loaded_by_an_empty_run(folder: Path, *args: str) -> set[str]:
    """Modules in ``sys.modules`` when a pytest on one empty test has ended."""
    (folder / "test_nothing.py").write_text("def test_nothing(): pass\n")
    script = (
        "import json, sys, pytest\n"
        "assert pytest.main(['-q', '-p', 'no:cacheprovider', *sys.argv[1:]]) == 0\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *args],
        cwd=folder,
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_an_unused_plugin_loads_its_own_doors_and_nothing_else(tmp_path: Path) -> None:
    """Neither when it is imported nor in any hook of the run; benchmarks/bench_plugin.py measures
    what that costs."""
    without = loaded_by_an_empty_run(tmp_path)
    with_it = loaded_by_an_empty_run(tmp_path, "-p", "pytest_rllm.plugin")
    doors = ["", ".plugin"]
    doors += [f".plugin.{name}" for name in ("findings", "fixtures", "hooks", "options")]
    assert with_it - without == {f"pytest_rllm{door}" for door in doors}


def test_public_names_are_no_modules_whatever_was_imported_before() -> None:
    script = (
        "import importlib, pkgutil, types, pytest_rllm\n"
        "for found in pkgutil.iter_modules(pytest_rllm.__path__, 'pytest_rllm.'):\n"
        "    found.name.endswith('__') or importlib.import_module(found.name)\n"
        "named = [(name, getattr(pytest_rllm, name)) for name in pytest_rllm.__all__]\n"
        "print([name for name, what in named if isinstance(what, types.ModuleType)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--rllm-engine", "wllm"), "*unknown engine 'wllm'; there are vllm*"),
        (("--rllm-model", "huge"), "*unknown model pair 'huge'; there are tiny*"),
        (("--rllm-model", "./a:./b"), "*reasoning model of the pair*./a holds no config.json*"),
        (("--rllm-inconclusive", "pass"), "*--rllm-inconclusive: fail or skip, not 'pass'*"),
        (("--rllm-replay", "nowhere"), "*there is no folder nowhere*"),
        (("--rllm-replay", ".", "--rllm-record", "x"), "*choose one*"),
        (("--rllm-replay", ".", "--rllm-against", "x"), "*leave --rllm-against out*"),
        (("--rllm-baseline", "crate"), "*takes create, fix, trim, update*not crate*"),
        (("--rllm-data", "nowhere"), "*--rllm-data: there is no folder nowhere*"),
        (
            ("--rllm-report", "pdf:x"),
            "*unknown report 'pdf'; there are findings, json, markdown, table*",
        ),
        (("--rllm-report", "json"), "*--rllm-report*FORMAT:PATH*"),
        (("--rllm-report", "json:nowhere/x"), "*--rllm-report: there is no folder nowhere*"),
        (("--rllm-engine", ""), "*--rllm-engine needs a value: NAME*"),
        (("--rllm-model", " "), "*--rllm-model needs a value: NAMES*"),
        (("--rllm-engine", "mock@"), "*'mock@' names no build: write mock or mock@BUILD*"),
        (("--rllm-engine", "mock@mock==1.0"), "*'mock' has no builds: 'mock==1.0' is no URL*"),
        (("--rllm-engine", "openai@x==1.0"), "*'openai' has no builds: 'x==1.0' is no URL*"),
        (("--rllm-engine", "mock@http://"), "*'http://' names no host: write http://HOST:PORT*"),
        (("--rllm-complete",), "*--rllm-complete is for the upgrade gate*"),
        (("--rllm-start-timeout", "5m"), "*--rllm-start-timeout: a whole number of seconds*'5m'*"),
        (("--rllm-start-timeout", "0"), "*--rllm-start-timeout: a whole number of seconds*'0'*"),
    ],
)
def test_an_impossible_option_is_refused_with_the_possible_ones(pytester, args, message) -> None:
    pytester.makepyfile(
        """
        from pytest_rllm import finding

        @finding("A sentence.", cite="a source")
        def test_it(compare):
            pass
        """
    )
    result = pytester.runpytest_inprocess(*ARGS, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_ini_settings_are_the_options_twins(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nrllm_engine = wllm\n")
    pytester.makepyfile("def test_it(engine): pass")
    result = pytester.runpytest_inprocess(*ARGS)
    result.stdout.fnmatch_lines(["*unknown engine 'wllm'*"])
    pytester.runpytest_inprocess(*ARGS, "--rllm-engine", "vllm").assert_outcomes(passed=1)


SETTINGS = {
    "data": ("answers", "--rllm-data: there is no folder {ini}/answers"),
    "replay": ("kept", "--rllm-replay: there is no folder {ini}/kept"),
    "model": ("mine.toml", "--rllm-model: {ini}/mine.toml"),
    "report": ("json:reports/x", "--rllm-report: there is no folder {ini}/reports"),
    "ca-file": ("ca.pem", "--rllm-ca-file*{ini}/ca.pem"),
    "engine": ("vllm@./bin/python", "{ini}/bin/python"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_paths_in_an_ini_file_count_from_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    text, message = SETTINGS[name]
    pytester.makeini(f"[pytest]\nrllm_{name.replace('-', '_')} = {text}\n")
    below = pytester.mkdir("below")
    (below / "test_it.py").write_text(
        "from pytest_rllm import finding\n"
        "@finding('A sentence.', cite='a source')\n"
        "def test_it(compare): pass\n"
    )
    monkeypatch.chdir(below)
    more = ("--rllm-engine", "openai@https://127.0.0.1:1") if name == "ca-file" else ()
    result = pytester.runpytest_inprocess(*ARGS, *more)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    wanted = message.format(ini=pytester.path)
    from fnmatch import fnmatch

    told = "\n".join(result.errlines + result.outlines)
    assert fnmatch(told, f"*{wanted}*"), told


def test_a_setting_on_the_command_line_counts_from_there(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\n")
    pytester.makepyfile("def test_it(engine): pass")
    below = pytester.mkdir("below")
    (below / "answers").mkdir()
    monkeypatch.chdir(below)
    args = ("-o", "rllm_data=answers", str(pytester.path))
    pytester.runpytest_inprocess(*ARGS, *args).assert_outcomes(passed=1)


WEIRD = ("a/b", "a_b", "..", ".", "x" * 300, "x" * 299 + "y", "a\\\\b", "tab\\t")


def test_every_case_has_a_folder_of_its_own_of_a_bounded_length(
    pytester: pytest.Pytester,
) -> None:
    from pytest_rllm.plugin.findings import LONGEST, case_id, records_of

    cases = ", ".join(f'pytest.param({i}, id="{name}")' for i, name in enumerate(WEIRD))
    items = pytester.getitems(
        f"""
        import pytest

        @pytest.mark.parametrize("n", [{cases}])
        def test_it(n):
            pass
        """
    )
    folders = [records_of(item) for item in items]
    assert len(set(folders)) == len(WEIRD)
    assert all(len(folder.parts) == 2 for folder in folders)
    assert all(len(folder.name.encode()) <= LONGEST for folder in folders)
    assert not [folder for folder in folders if folder.name in (".", "..")]
    plain = {case_id(item): records_of(item).name for item in items}
    assert plain[case_id(items[1])] == case_id(items[1]), "as before, where it can be"


@pytest.mark.parametrize("args", [("-n", "2"), ("--tx", "2*popen", "--dist", "load")], ids=" ".join)
def test_what_a_worker_refuses_is_one_sentence(
    pytester: pytest.Pytester, args: tuple[str, ...]
) -> None:
    pytester.makepyfile(
        """
        from pytest_rllm import finding

        @finding("A sentence.", cite="a source")
        def test_it(compare):
            raise AssertionError("must not run")

        def test_of_another_kind():
            pass
        """
    )
    result = pytester.runpytest_subprocess(*ARGS, *args, "--rllm-engine", "mock")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    told = "\n".join(result.errlines + result.outlines)
    assert told.count("ERROR: 2 workers on one engine would measure each other: ") == 1
    assert "Traceback" not in told
    assert "must not run" not in told


def test_a_finding_must_compare(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from pytest_rllm import finding

        @finding("A sentence.", cite="a source")
        def test_it():
            pass
        """
    )
    result = pytester.runpytest_inprocess(*ARGS)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_it: a @finding must use a fixture of compare, *"])


@pytest.mark.parametrize("given", ['"", cite="x"', '"x", cite=" "', 'None, cite="x"'])
def test_a_finding_has_a_sentence_and_a_source(pytester: pytest.Pytester, given: str) -> None:
    pytester.makepyfile(
        f"from pytest_rllm import finding\n@finding({given})\ndef test_it(compare): pass"
    )
    result = pytester.runpytest_inprocess(*ARGS)
    result.stdout.fnmatch_lines(["*ValueError: @finding needs a *"])


def test_a_finding_that_compares_nothing_fails(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from pytest_rllm import finding

        @finding("A sentence.", cite="a source")
        def test_it(compare, model):
            pass
        """
    )
    result = pytester.runpytest_inprocess(*ARGS, "--rllm-model", "tiny")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*compared nothing*"])


def test_two_findings_of_one_name_are_refused(pytester: pytest.Pytester) -> None:
    body = """
        from pytest_rllm import finding

        @finding("A sentence.", cite="a source")
        def test_it(compare):
            pass
    """
    pytester.mkpydir("a").joinpath("test_it.py").write_text(_dedent(body))
    pytester.mkpydir("b").joinpath("test_it.py").write_text(_dedent(body))
    result = pytester.runpytest_inprocess(*ARGS, "--rllm-model", "tiny")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*are one finding and case, it *rename one*"])


def test_gpu_cases_skip_with_what_is_missing(pytester: pytest.Pytester, monkeypatch) -> None:
    from pytest_rllm.telemetry.gpu import Gpu

    monkeypatch.setattr(Gpu, "why_not", "no NVIDIA GPU: none here")
    pytester.makepyfile(
        """
        import pytest
        from pytest_rllm import finding

        @finding("A sentence.", cite="a source")
        def test_it(compare, model):
            raise AssertionError("must not run")

        @pytest.mark.gpu(memory_gib=16)
        @finding("Another.", cite="a source")
        def test_other(compare):
            raise AssertionError("must not run")
        """
    )
    result = pytester.runpytest_inprocess(*ARGS, "-rs", "-m", "gpu")
    assert result.parseoutcomes()["skipped"] >= 6
    assert "failed" not in result.parseoutcomes()
    result.stdout.fnmatch_lines(["*no NVIDIA GPU: none here*"])


@pytest.mark.parametrize("arguments", ["", "(memory_gib=16)", "('of another project', cards=7)"])
def test_a_gpu_mark_on_a_test_that_is_no_finding_is_left_alone(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    """That mark is not ours alone: the test runs, and no measuring session is made for it."""
    from pytest_rllm.session.session import Session
    from pytest_rllm.telemetry.gpu import Gpu

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("no session and no GPU is asked for")

    monkeypatch.setattr(Session, "__init__", refused)
    monkeypatch.setattr(Gpu, "missing", refused)
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.gpu{arguments}
        def test_of_another_project():
            pass
        """
    )
    result = pytester.runpytest_inprocess(*ARGS)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*= findings =*")


def _dedent(text: str) -> str:
    from textwrap import dedent

    return dedent(text)
