"""What the options say, once it is asked for. Each has an ini setting of the same name."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

T = TypeVar("T")

if TYPE_CHECKING:
    from ..experiment.serving import Serving
    from ..reports.progress import Progress
    from ..session.session import Session

OPTIONS: dict[str, tuple[str, str]] = {
    "engine": (
        "NAME[@BUILD]",
        "serving engine (default: vllm), and which build of it: 'vllm==0.31.0', a path to a "
        "python, or a URL (default: the installed one)",
    ),
    "model": (
        "NAMES",
        "model pairs, joined by commas: names (tiny is bundled), or TOML files that describe a "
        "pair of your own (default: all there are)",
    ),
    "against": (
        "[NAME@]BUILD",
        "upgrade gate: compare the engine with another build of it, or with another engine: "
        "'vllm==0.31.0', a path to a python, a URL, or NAME@BUILD",
    ),
    "tier": (
        "smoke|short|gate|fine|paper",
        "how much is measured: smoke takes minutes and sees what is broken, short leaves out what "
        "takes long (default), gate is all that the tests plan, fine is four times as much, paper "
        "is what the paper asked",
    ),
    "record": (
        "DIR",
        "record runs there (default: a new folder in .rllm/records); finished blocks that are "
        "there are kept, so a session that was stopped goes on",
    ),
    "replay": (
        "PATH",
        "judge the runs recorded in PATH, a folder or an archive NAME.tar.xz; no engine is started",
    ),
    "baseline": ("WORDS", "change stored baselines: create, fix, trim, update; joined by commas"),
    "baselines": ("DIR", "folder of stored baselines (default: baselines)"),
    "inconclusive": ("fail|skip", "how an undecided finding ends (default: fail in CI, else skip)"),
    "data": ("DIR", "folder of local data sets, one NAME.jsonl or NAME.parquet each"),
    "run-code": (
        "bwrap|docker",
        "run the programs that answers are, as those to HumanEval, in this sandbox: bubblewrap, or "
        "a docker container (default: they are not run, and findings that need it are skipped)",
    ),
    "model-name": (
        "NAME",
        "what a server that runs already calls the model (default: it is asked, and must be the "
        "pair's)",
    ),
    "ca-file": (
        "FILE",
        "certificates in PEM form that servers at https:// are checked with (default: those of the "
        "system)",
    ),
    "start-timeout": (
        "SECONDS",
        "how long a server may take until it is healthy (default: by the size of what it loads)",
    ),
    "conformance": (
        "DIR",
        "write what conformance suites (EngineConformance) find there, one NAME.json per engine",
    ),
    "report": ("FORMAT:PATH", "write a report: json, markdown, table, or a plugin's format"),
}
"""Name to (metavar, help)."""
LISTS: dict[str, tuple[str, str]] = {
    "serving": (
        "SERVING=URL",
        "another running server of the engine, and how it serves: 'kv-fp8=http://host:8001', "
        "'prefix-caching=...', 'plain+ngram-5=...'; may be given again",
    ),
    "key-env": (
        "[HOST=]VARIABLE",
        "environment variable that holds the key (Authorization: Bearer) of the servers at URLs, "
        "or of those of one host; may be given again",
    ),
    "header-env": (
        "[HOST=]NAME=VARIABLE",
        "environment variable that holds a further header of requests to servers at URLs; may be "
        "given again",
    ),
}
"""Name to (metavar, help) of the options that may be given several times."""
FLAGS: dict[str, str] = {
    "complete": "upgrade gate: measure every case to its end, even when the decision is known",
    "plan": "say what would be measured and what it would cost, and start nothing",
    "turns": "one server at a time: the arms of a comparison take turns, as they do where the "
    "memory of GPUs holds one only",
}
"""Name to help of the options without a value."""
REPLAYED = pytest.StashKey[Path]()


def value(config: pytest.Config, name: str) -> str | None:
    """Command line, then ini, then None."""
    stored = f"rllm_{name}".replace("-", "_")
    given = config.getoption(stored)
    if given is None:
        text = str(config.getini(stored) or "")
        if not text:
            return None
        from .ini_paths import counted

        return counted(config, name, text)
    if not str(given).strip():
        raise pytest.UsageError(f"--rllm-{name} needs a value: {OPTIONS[name][0]}")
    return str(given)


def values(config: pytest.Config, name: str) -> list[str]:
    """All that an option of LISTS was given: command line, then ini, then none."""
    stored = f"rllm_{name}".replace("-", "_")
    found = [str(text).strip() for text in config.getoption(stored) or config.getini(stored)]
    if not all(found):
        raise pytest.UsageError(f"--rllm-{name} needs a value: {LISTS[name][0]}")
    return found


def flag(config: pytest.Config, name: str) -> bool:
    """Command line, then ini."""
    given = config.getoption(f"rllm_{name}")
    return bool(config.getini(f"rllm_{name}") if given is None else given)


def let_in(config: pytest.Config, *engines: str | None) -> None:
    """Have the servers at URLs asked with the keys, headers and certificates that options name,
    until the session ends.

    Args:
        config: of pytest.
        engines: all that name servers, as options say them.

    Raises:
        ValueError: an option cannot be used; the message holds nothing secret.
    """
    from .. import access
    from ..engines import url_in

    urls = [url for text in engines if text and (url := url_in(text))]
    for url in urls:
        access.checked_url(url)
    given = access.access_from(
        values(config, "key-env"), values(config, "header-env"), value(config, "ca-file"), urls
    )
    access.use(given)
    config.add_cleanup(partial(access.use, access.Access()))


def servings(config: pytest.Config, engine: str, against: str | None) -> dict[Serving, str]:
    """URL by the serving that the user says it serves.

    Raises:
        ValueError: what is wrong with one of them.
    """
    from .. import access
    from ..engines import url_in
    from ..experiment.serving import Serving

    found: dict[Serving, str] = {}
    own = url_in(engine)
    for text in values(config, "serving"):
        slug, _, url = text.partition("=")
        url = access.checked_url(url)
        if own is None:
            raise ValueError(
                f"--rllm-serving {slug}=...: servings are compared on servers of one kind: name "
                f"the one without it, too, --rllm-engine {engine.partition('@')[0]}"
                "@http://HOST:PORT"
            )
        if against is not None:
            raise ValueError(
                "--rllm-serving is for findings, and --rllm-against compares two engines as they "
                "are: leave one of them out"
            )
        serving = Serving.of_slug(slug)
        if serving == Serving():
            raise ValueError(
                f"--rllm-serving {slug}: that is what --rllm-engine names: leave it out"
            )
        same = [other for other in (own, *found.values()) if other.rstrip("/") == url.rstrip("/")]
        if same:
            raise ValueError(
                f"--rllm-serving {slug}: {url} is named before: two servings take two servers"
            )
        if serving in found:
            raise ValueError(f"--rllm-serving {slug}: given twice")
        found[serving] = url
    return found


def model_names(config: pytest.Config) -> list[str]:
    """Names of the model pairs to measure, or the TOML files that describe them.

    Raises:
        pytest.UsageError: one that does not exist, with those there are; a TOML file that cannot be
            used, with the line; or two of one name.
    """
    from ..models import PAIRS, pair_named

    given = value(config, "model")
    names = [name.strip() for name in given.split(",")] if given else list(PAIRS)
    called: dict[str, str] = {}
    for name in names:
        try:
            pair = pair_named(name)
            if called.setdefault(pair.name, name) != name:
                raise ValueError(
                    f"{called[pair.name]} and {name} are both called {pair.name!r}: say name = ... "
                    "in one of the files"
                )
            if given:  # those of the table are there, and variants are made when they are served
                for role in ("reasoning", "plain", *pair.drafters):
                    pair.path(role)
        except ValueError as error:
            raise pytest.UsageError(f"--rllm-model: {error}") from error
    return names


def upgrading(config: pytest.Config) -> bool:
    """Whether two builds are compared: asked for, or so recorded in what is replayed."""
    if value(config, "against"):
        return True
    folder = replayed(config)
    return folder is not None and (folder / "upgrade.json").is_file()


def replayed(config: pytest.Config) -> Path | None:
    """The folder of the session that is replayed; None when none is.

    An archive is extracted at the first call, and the extracted files are removed at the end of the
    session.

    Raises:
        pytest.UsageError: there is no such session; the message says why.
    """
    path = value(config, "replay")
    if path is None:
        return None
    if REPLAYED not in config.stash:
        from ..records.archive import ArchiveError, opened

        opening = ExitStack()
        try:
            config.stash[REPLAYED] = opening.enter_context(opened(Path(path)))
        except ArchiveError as error:
            raise pytest.UsageError(f"--rllm-replay: {error}") from error
        config.add_cleanup(opening.close)
    return config.stash[REPLAYED]


def make_session(config: pytest.Config) -> Session:
    """The measuring session as the options want it.

    Raises:
        ValueError: an impossible value, with the possible ones.
    """
    from ..baselines.store import Baselines
    from ..engines import ENGINES, parse_engine
    from ..engines.starting import seconds_of
    from ..experiment.tiers import TIERS
    from ..models import pair_named
    from ..reports import FORMATS
    from ..session.folders import fresh_records
    from ..session.session import Session
    from .pair_check import check

    root = config.rootpath
    engine = value(config, "engine") or "vllm"
    name, _ = _named("engine", lambda: parse_engine(engine))
    if name not in ENGINES:
        raise ValueError(
            f"--rllm-engine: unknown engine {name!r}; there are {', '.join(ENGINES.names())}"
        )
    tier = value(config, "tier") or "short"
    if tier not in TIERS:
        raise ValueError(f"--rllm-tier: {', '.join(TIERS)}, not {tier!r}")
    # A smoke test leaves much undecided by its nature.
    strict = os.environ.get("CI") and tier != "smoke"
    inconclusive = value(config, "inconclusive") or ("fail" if strict else "skip")
    if inconclusive not in ("fail", "skip"):
        raise ValueError(f"--rllm-inconclusive: fail or skip, not {inconclusive!r}")
    if not value(config, "replay"):
        let_in(config, engine, value(config, "against"), *values(config, "serving"))
    replay, record = value(config, "replay"), value(config, "record")
    if replay and record:
        raise ValueError("--rllm-replay reads records, --rllm-record writes them: choose one")
    against = value(config, "against")
    if replay and against:
        raise ValueError(
            "--rllm-replay judges recorded runs, and their record says which builds they compare: "
            "leave --rllm-against out"
        )
    if against:
        against = _named("against", partial(_whole, against, name))
    if config.getoption("rllm_complete") and not (against or replay):
        raise ValueError("--rllm-complete is for the upgrade gate: give --rllm-against, too")
    words = frozenset(filter(None, (value(config, "baseline") or "").split(",")))
    if words and hasattr(config, "workerinput"):
        raise ValueError("--rllm-baseline: workers (-n) would overwrite each other's baselines")
    data = value(config, "data")
    if data and not Path(data).is_dir():
        raise ValueError(f"--rllm-data: there is no folder {data}")
    report = value(config, "report")
    if report:
        form, _, path = report.partition(":")
        _named("report", lambda: FORMATS.load(form))
        if not path:
            raise ValueError(f"--rllm-report takes FORMAT:PATH, not {report!r}")
        if not Path(path).absolute().parent.is_dir():
            raise ValueError(f"--rllm-report: there is no folder {Path(path).parent}")
    if tier == "smoke" and against:
        raise ValueError(
            "--rllm-tier=smoke measures too little to decide on an upgrade: leave it out, or leave "
            "--rllm-against out"
        )
    planning = flag(config, "plan")
    _named("run-code", partial(_run_code, config, planning))
    if planning and replay:
        raise ValueError("--rllm-plan tells what measuring costs, and --rllm-replay measures none")
    for pair in map(pair_named, model_names(config)):
        _named("model", partial(check, pair))
    pairs = [pair_named(model) for model in model_names(config)]
    if value(config, "model-name") and len(pairs) != 1:
        raise ValueError(
            "--rllm-model-name is what a server calls one model: name its pair, --rllm-model NAME"
        )
    records = replayed(config) or (Path(record) if record else None)
    return Session(
        engine_text=engine,
        records=records or fresh_records(root / ".rllm" / "records"),
        records_name=Path(replay) if replay else None,
        replaying=bool(replay),
        baselines=Baselines(root / (value(config, "baselines") or "baselines"), words),
        inconclusive="fail" if inconclusive == "fail" else "skip",
        data=Path(data) if data else None,
        say=_progress(config),
        against=against,
        complete=flag(config, "complete"),
        turns=flag(config, "turns"),
        tier=TIERS[tier],
        start_timeout_s=_named(
            "start-timeout", partial(seconds_of, value(config, "start-timeout"))
        ),
        planning=planning,
        servings=servings(config, engine, against),
        models_named=bool(value(config, "model-name"))
        or all(pair.served_name is not None for pair in pairs),
    )


def _run_code(config: pytest.Config, planning: bool) -> None:
    """Switch the sandbox for programs on that the user names, until the session ends.

    Raises:
        ValueError: there is no such sandbox, or it does not work here.
    """
    from ..datasets import sandbox

    sandbox.use(value(config, "run-code"))
    config.add_cleanup(partial(sandbox.use, None))
    if value(config, "run-code") and not planning:
        sandbox.check()


def _whole(against: str, engine: str) -> str:
    """The other engine with its build, where the option says a build of the same engine only."""
    from ..engines import parse_engine

    name, build = parse_engine(against, default=engine)
    return name if build is None else f"{name}@{build}"


def _named(option: str, make: Callable[[], T]) -> T:
    """What ``make`` returns; an error of it names the option."""
    try:
        return make()
    except ValueError as error:
        raise ValueError(f"--rllm-{option}: {error}") from error


def _progress(config: pytest.Config) -> Progress:
    from ..reports.progress import Progress

    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if not getattr(reporter, "isatty", False) or os.environ.get("CI"):
        return Progress(None)
    try:
        # While a test runs pytest captures standard output: the terminal itself is written to.
        return Progress(open("/dev/tty", "w"), config.get_terminal_writer().fullwidth)
    except OSError:
        return Progress(None)
