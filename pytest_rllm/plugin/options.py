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
        "smoke|gate|paper",
        "how much is measured: smoke takes minutes and sees what is broken, gate is what the tests "
        "plan (default), paper is four times as much",
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
    "data": ("DIR", "folder of local data sets, one NAME.jsonl each"),
    "report": ("FORMAT:PATH", "write a report: json, markdown, table, or a plugin's format"),
}
"""Name to (metavar, help)."""
FLAGS: dict[str, str] = {
    "complete": "upgrade gate: measure every case to its end, even when the decision is known",
    "plan": "say what would be measured and what it would cost, and start nothing",
}
"""Name to help of the options without a value."""
REPLAYED = pytest.StashKey[Path]()


def value(config: pytest.Config, name: str) -> str | None:
    """Command line, then ini, then None."""
    given = config.getoption(f"rllm_{name}")
    if given is None:
        return config.getini(f"rllm_{name}") or None
    if not str(given).strip():
        raise pytest.UsageError(f"--rllm-{name} needs a value: {OPTIONS[name][0]}")
    return str(given)


def flag(config: pytest.Config, name: str) -> bool:
    """Command line, then ini."""
    given = config.getoption(f"rllm_{name}")
    return bool(config.getini(f"rllm_{name}") if given is None else given)


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
            for role in ("reasoning", "plain", *(["draft"] if pair.draft else [])):
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
    tier = value(config, "tier") or "gate"
    if tier not in TIERS:
        raise ValueError(f"--rllm-tier: {', '.join(TIERS)}, not {tier!r}")
    # A smoke test leaves much undecided by its nature.
    strict = os.environ.get("CI") and tier != "smoke"
    inconclusive = value(config, "inconclusive") or ("fail" if strict else "skip")
    if inconclusive not in ("fail", "skip"):
        raise ValueError(f"--rllm-inconclusive: fail or skip, not {inconclusive!r}")
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
    if planning and replay:
        raise ValueError("--rllm-plan tells what measuring costs, and --rllm-replay measures none")
    for pair in map(pair_named, model_names(config)):
        _named("model", partial(check, pair))
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
        tier=TIERS[tier],
        planning=planning,
    )


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
