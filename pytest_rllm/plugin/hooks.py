"""Hooks and options of pytest-rllm. Each hook imports pytest only and hands over in a few lines."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from .findings import (
    MARK,
    agenda,
    check,
    finding_id,
    pair_of,
    records_of,
    row_without_gpu,
    select,
    title_of,
)
from .fixtures import CASE, ROWS, SESSION, prepare_builds, refuse_workers, session_of
from .options import FLAGS, LISTS, OPTIONS, model_names, upgrading, value

WHOLE = pytest.StashKey[dict[str, set[str]] | None]()
FILES = pytest.StashKey[set[Path]]()
"""Test files that are collected."""
FINDINGS = pytest.StashKey[list[pytest.Item]]()
"""Findings that are collected, before anybody takes some out."""
OTHERS = pytest.StashKey[list[pytest.Item]]()
"""Those of them that answer another question than this session asks."""
REFUSED = "rllm_refused"
"""Name under which a worker tells the controller why it measures nothing."""
REFUSED_BY_WORKER = pytest.StashKey[str]()
PROPERTY = "rllm"
"""Name under which a case's row travels in ``user_properties``, as one JSON string."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("rllm", "findings about serving reasoning language models")
    for name, (metavar, help_text) in OPTIONS.items():
        group.addoption(f"--rllm-{name}", metavar=metavar, help=help_text)
        parser.addini(f"rllm_{name}".replace("-", "_"), help=help_text)
    for name, (metavar, help_text) in LISTS.items():
        group.addoption(f"--rllm-{name}", action="append", metavar=metavar, help=help_text)
        stored = f"rllm_{name}".replace("-", "_")
        parser.addini(stored, help=help_text, type="linelist", default=[])
    for name, help_text in FLAGS.items():
        group.addoption(f"--rllm-{name}", action="store_true", default=None, help=help_text)
        parser.addini(f"rllm_{name}", help=help_text, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"{MARK}(sentence, cite): a finding, see pytest_rllm.finding"
    )
    config.addinivalue_line(
        "markers",
        "rllm_tier(name): of a case of a finding: the smallest tier that measures it",
    )
    config.addinivalue_line(
        "markers",
        "gpu(memory_gib=0, count=1, capability=0): of a finding: needs NVIDIA GPUs of that size",
    )
    if value(config, "model"):
        model_names(config)
    if (folder := value(config, "conformance")) and not hasattr(config, "workerinput"):
        from .conformance.record import Recorder

        config.pluginmanager.register(Recorder(Path(folder)), "rllm-conformance")


@pytest.hookimpl(tryfirst=True)  # before workers are started
def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    if config.pluginmanager.hasplugin("dsession") and upgrading(config):
        raise pytest.UsageError(
            "the upgrade gate takes one decision, and each worker knows only a part of the cases: "
            "leave out -n, or --dist and --tx"
        )


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    if refused := getattr(node, "workeroutput", {}).get(REFUSED):
        node.config.stash[REFUSED_BY_WORKER] = refused


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> None:
    parent.config.stash.setdefault(FILES, set()).add(module_path)


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.get_closest_marker(MARK):
        item.config.stash.setdefault(FINDINGS, []).append(item)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker(MARK)
    if mark and "model" in metafunc.fixturenames:
        from .model_params import cases

        pairs = cases(
            model_names(metafunc.config),
            finding=finding_id(metafunc.definition),
            function=metafunc.function.__name__,
            tier=mark.kwargs.get("tier", "short"),
            sizes=mark.kwargs.get("sizes"),
            named=bool(value(metafunc.config, "model")),
        )
        metafunc.parametrize("model", pairs, indirect=True, scope="session")
    if mark and "kv_dtype" in metafunc.fixturenames:
        from .model_params import kv_dtypes

        offered = session_of(metafunc.config).engines.kv_types()
        metafunc.parametrize("kv_dtype", kv_dtypes(offered))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    try:
        _prepare(config, items)
    except pytest.UsageError as error:
        if not hasattr(config, "workeroutput"):
            raise
        # What a worker raises is told as a crash of it: the controller refuses in its place.
        config.workeroutput[REFUSED] = str(error)
        items.clear()


def _prepare(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse what cannot be measured, leave out what is not asked for, make builds.

    Raises:
        pytest.UsageError: why nothing is measured.
    """
    if not check(items):
        return
    session_of(config)  # an impossible option is refused before anything is measured
    refuse_workers(config)
    left_out = select(items, upgrading=upgrading(config))
    config.stash[OTHERS] = left_out
    if not config.option.collectonly:
        prepare_builds(config)
    if left_out:
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(tryfirst=True)  # before the terminal asks what there is to say
def pytest_collection_finish(session: pytest.Session) -> None:
    measuring = session.config.stash.get(SESSION, None)
    if measuring is not None:
        from .whole import existing

        stash = session.config.stash
        files = stash.setdefault(FILES, set())
        findings, others = (stash.setdefault(key, []) for key in (FINDINGS, OTHERS))
        stash[WHOLE] = existing(session, files, findings, others)
        measuring.costs.agenda = agenda(session.items, measuring)
        one_of_many = hasattr(session.config, "workerinput")  # it measures nothing
        if not (measuring.replaying or one_of_many or session.config.option.collectonly):
            from .preflight import look_through

            look_through(measuring, session.items)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    measuring = config.stash.get(SESSION, None)
    if measuring is None or measuring.planning:
        return []  # a plan says it at its end
    return measuring.needs.whole_lines()


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    measuring = session.config.stash.get(SESSION, None)
    if measuring is not None and not measuring.planning and not session.testsfailed:
        measuring.needs.fetch(measuring.say)
        measuring.say.clear()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    failed = item.session.testsfailed
    done = yield
    if (measuring := item.config.stash.get(SESSION, None)) is not None:
        measuring.end_test(passed=item.session.testsfailed == failed)
    return done


def _nothing(**_: object) -> None:
    """The body of a test that had passed before something around it failed."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    if CASE in item.stash:  # another plugin runs it again: that is a fresh attempt
        del item.stash[CASE]
        kept = [one for one in item.user_properties if one != ("rllm_error", True)]
        item.user_properties[:] = kept
    try:
        _skip_without_gpu(item)
        return (yield)
    except Exception as error:
        if not type(error).__module__.startswith("pytest_rllm"):
            raise
        from .results import ERRORS

        if not isinstance(error, ERRORS):
            raise
        raise pytest.fail.Exception(str(error), pytrace=False) from None


def _skip_without_gpu(item: pytest.Item) -> None:
    if item.get_closest_marker(MARK) is None:
        return  # other projects mark their own tests with ``gpu``
    for mark in item.iter_markers("gpu"):
        session = session_of(item.config)
        missing = session.lacks(records_of(item), mark.kwargs, pair_of(item))
        if missing:
            session.left_out[item.nodeid] = missing
            session.without_gpu.append(row_without_gpu(item, missing))
            if session.planning:
                session.costs.plan.not_measured[title_of(item)] = missing
            pytest.skip(missing)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: Any) -> Generator[None]:
    if CASE not in item.stash:
        return (yield)
    from .results import end_as_before, outcome_of

    if (rows := item.stash.get(ROWS, [])) and rows[-1].decided:
        end_as_before(item, rows[-1])
        item.obj = _nothing  # what was measured is not measured until it passes
        return (yield)
    with outcome_of(item, item.stash[CASE], PROPERTY):
        return (yield)


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    if report.when == "call" and report.failed and ("rllm_error", True) in report.user_properties:
        return "error", "E", "ERROR"
    if report.when == "call" and ("rllm_planned", True) in report.user_properties:
        return "planned", "p", "PLANNED"
    return None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if refused := terminalreporter.config.stash.get(REFUSED_BY_WORKER, None):
        terminalreporter.write_line(f"ERROR: {refused}", red=True)
    dumped = {
        text: None
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, text in getattr(report, "user_properties", ())
        if name == PROPERTY
    }
    session = terminalreporter.config.stash.get(SESSION, None)
    if dumped or (
        session is not None
        and (session.messages or session.decision or session.planning or session.interrupted)
    ):
        from .results import summarise

        summarise(terminalreporter, list(dumped))


@pytest.hookimpl(trylast=True)  # after workers are down
def pytest_sessionfinish(session: pytest.Session) -> None:
    if REFUSED_BY_WORKER in session.config.stash:
        session.exitstatus = pytest.ExitCode.USAGE_ERROR
        return
    measuring = session.config.stash.get(SESSION, None)
    if measuring is not None:
        from .results import exit_status

        measuring.interrupted = session.exitstatus == pytest.ExitCode.INTERRUPTED
        measuring.close(session.config.stash.get(WHOLE, None))
        session.exitstatus = exit_status(session, measuring)
