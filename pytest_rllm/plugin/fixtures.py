"""The plugin's fixtures. Their bodies import when they run, so that naming them costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..datasets.prompts import Prompt
    from ..engines.api_diff import ApiCheck
    from ..engines.base import Endpoint
    from ..experiment.arm import Arm
    from ..models import ModelPair
    from ..records.run import Run
    from ..reports.row import Row
    from ..session.case import FindingCase
    from ..session.comparison import Comparison
    from ..session.contrasts import Contrasts
    from ..session.knee import Knee
    from ..session.session import Session
    from ..telemetry.gpu import Gpu

SESSION = pytest.StashKey["Session"]()
CASE = pytest.StashKey["FindingCase"]()
ROWS = pytest.StashKey[list["Row"]]()
"""Of the attempts at a case."""


def session_of(config: pytest.Config) -> Session:
    """The measuring session, made when first asked for.

    Raises:
        pytest.UsageError: an option has an impossible value; the message says which are possible.
    """
    from .options import make_session

    if SESSION not in config.stash:
        try:
            config.stash[SESSION] = make_session(config)
        except ValueError as error:
            raise pytest.UsageError(str(error)) from error
    return config.stash[SESSION]


def refuse_workers(config: pytest.Config) -> None:
    """Raises pytest.UsageError in one of several workers of pytest-xdist that would measure."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    if workers > 1 and not session_of(config).replaying:
        raise pytest.UsageError(
            f"{workers} workers on one engine would measure each other: run findings without -n "
            "(or --dist and --tx), or replay records with --rllm-replay DIR"
        )


def prepare_builds(config: pytest.Config) -> None:
    """Make the environments of the builds that were named, before anything is measured.

    Raises:
        pytest.UsageError: a build is none, or cannot be had; the message says why.
    """
    from ..engines.base import EngineError

    session = session_of(config)
    option = "replay" if session.replaying else "engine"
    try:
        if session.replaying:
            session.engines.builds  # noqa: B018 - what the records say of builds
            session.engines.memo  # noqa: B018 - and of what was not measured
            return
        if "@" in session.engines.text or config.getoption("rllm_engine"):
            session.engines.own.version()
            _check_models(config, session.engines.own)
        if session.engines.against:
            session.engines.own.version()
            option = "against"
            session.engines.of(session.engines.against).version()
            session.engines.builds  # noqa: B018 - made when first asked for
            _check_models(config, session.engines.of(session.engines.against))
    except (ValueError, EngineError) as error:
        raise pytest.UsageError(f"--rllm-{option}: {error}") from error


def _check_models(config: pytest.Config, engine: Endpoint) -> None:
    """Raises EngineError where a server that runs already serves none of the pairs to measure."""
    from ..engines.base import EngineError
    from ..engines.served import model_named
    from ..experiment.serving import Serving
    from .options import model_names

    refused = list[EngineError]()
    for name in model_names(config) if engine.url else ():
        try:
            model_named(engine, Serving(), named_pair(config, name))
        except EngineError as error:
            refused.append(error)
        else:
            return
    if refused:
        raise refused[0]


def named_pair(config: pytest.Config, name: str) -> ModelPair:
    """The pair of that name, with what a server calls its model, where the user says it."""
    from dataclasses import replace

    from ..models import pair_named
    from .options import value

    pair, called = pair_named(name), value(config, "model-name")
    return pair if called is None else replace(pair, served_name=called)


@pytest.fixture(scope="session")
def gpu(request: pytest.FixtureRequest) -> Gpu:
    """The GPUs of this machine (``devices``, ``read()``), or ``why_not`` there are none."""
    return session_of(request.config).gpu


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> Endpoint:
    """The engine that ``--rllm-engine`` names; it starts servers only for ``compare`` and
    ``measure``."""
    return session_of(request.config).engines.own


@pytest.fixture(scope="session")
def model(request: pytest.FixtureRequest) -> ModelPair:
    """The pair of models that is measured: a case per pair in a finding, else the first one."""
    from .options import model_names

    named = getattr(request, "param", None) or model_names(request.config)[0]
    return named_pair(request.config, named)


@pytest.fixture(scope="session")
def dataset(request: pytest.FixtureRequest, model: ModelPair) -> Callable[..., list[Prompt]]:
    """``dataset("easy", "hard", n=64, repeats=1)``: questions of the pair's tiers, interleaved.
    ``shots=8`` puts the same eight other questions with their answers before each of them,
    ``turns=6`` makes conversations of six questions.

    A finding is not measured further that asks for a tier which the pair has not, for a published
    data set that cannot be had, for programs without a sandbox, or for more questions than the TOML
    file of a pair gives.
    """
    from .tools import asking

    return asking(session_of(request.config), model)


@pytest.fixture(scope="session")
def workload() -> ModuleType:
    """When requests start: ``together()``, ``closed(k)``, ``poisson(r)`` or ``gamma(r, cv)``."""
    from ..experiment import workloads

    return workloads


@pytest.fixture
def measure(request: pytest.FixtureRequest, model: ModelPair) -> Callable[..., Run]:
    """``measure(Arm(...), "name")``: one recorded run, for what no claim is judged on."""
    return _case(request, model).measure


@pytest.fixture
def knee(request: pytest.FixtureRequest, model: ModelPair) -> Callable[[Arm], Knee]:
    """``knee(Arm(...))``: the highest rate of arrivals that the arm's engine answers in time, found
    in a short search that all cases share; ``Knee.rate`` and ``Knee.ttft_s``."""
    from ..session.knee import knee_of

    return partial(knee_of, _case(request, model))


@pytest.fixture
def compare(request: pytest.FixtureRequest, model: ModelPair) -> Callable[..., Comparison]:
    """``compare(A, against=B, prompts=, workload=).shows(claims...)``; see
    ``FindingCase.compare``."""
    return _case(request, model).compare


@pytest.fixture
def compare_curve(request: pytest.FixtureRequest, model: ModelPair) -> Callable[..., Contrasts]:
    """``compare_curve({8: arm, 16: arm}, of="in flight").shows(rises(...), flat(...))``: arms that
    differ by one number; see ``session.contrasts.compare_curve``."""
    from ..session.contrasts import compare_curve

    return partial(compare_curve, _case(request, model))


@pytest.fixture
def compare_effects(request: pytest.FixtureRequest, model: ModelPair) -> Callable[..., Contrasts]:
    """``compare_effects(A, against=B, prompts=, workload=).shows(claims...)``: what a change does
    to the reasoning model beside what it does to the plain one; see
    ``session.contrasts.compare_effects``."""
    from ..session.contrasts import compare_effects

    return partial(compare_effects, _case(request, model))


@pytest.fixture
def compare_repeated(request: pytest.FixtureRequest, model: ModelPair) -> Callable[..., Contrasts]:
    """``compare_repeated(A, against=B, again=C).shows(not_lower(EARLY_AGREEMENT, ...))``: do the
    answers of A agree with those of B as far as those of C, which is B again, do? See
    ``session.repetition.compare_repeated``."""
    from ..session.repetition import compare_repeated

    return partial(compare_repeated, _case(request, model))


@pytest.fixture
def compare_builds(request: pytest.FixtureRequest, model: ModelPair) -> Callable[..., Comparison]:
    """``compare_builds(Serving(), prompts=, workload=).shows(claims...)``: the session's engine
    against that of ``--rllm-against``; see ``FindingCase.compare_builds``."""
    return _case(request, model).compare_builds


@pytest.fixture
def contract(request: pytest.FixtureRequest) -> ApiCheck:
    """Whether the engine's API is as it is stored for its version (``kept``), else what differs."""
    session = session_of(request.config)
    if session.planning:
        session.costs.plan.checks.append("the API check asks one server for its names and defaults")
        pytest.skip("a check of the engine's API: planned, not made")
    return session.kept_api()


def _case(request: pytest.FixtureRequest, model: ModelPair) -> FindingCase:
    from .tools import case_of

    item: Any = request.node
    if CASE not in item.stash:
        refuse_workers(request.config)
        attempt = len(item.stash.get(ROWS, ())) + 1
        item.stash[CASE] = case_of(item, session_of(request.config), model, attempt)
    case: FindingCase = item.stash[CASE]
    return case
