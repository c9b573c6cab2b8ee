"""Before anything starts: what all selected cases need, found by rehearsing them.

A rehearsal calls the bodies of the cases as a session does that only plans. It is done for pairs
that name something that may have to be had from elsewhere, and for no others: the bundled pairs
need nothing, and nothing is asked of the network for them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from ..checkpoints.hub import is_id
from ..engines.base import EngineError
from ..experiment.serving import Role, Serving
from ..models import ModelPair
from ..session.comparison import CannotMeasure
from ..session.needs import models_of
from ..session.session import Session
from .findings import MARK, records_of, tier_of, title_of
from .fixtures import named_pair
from .options import model_names
from .tools import BUNDLED, case_of, tools

ROLES: tuple[Role, ...] = ("reasoning", "plain")
Selected = Sequence[tuple[Any, ModelPair]]


def look_through(session: Session, items: Sequence[pytest.Item]) -> None:
    """Find out what the cases need that this session measures here; ``session.needs`` has it.

    Models that are no folders here are looked up in the hub's cache, and in the hub itself where
    they are not there; of these the configuration is fetched, and no weights.
    """
    selected = [
        (item, pair)
        for item in items
        if item.get_closest_marker(MARK)
        and not item.get_closest_marker("skip")
        and session.tier.leaves_out(tier_of(item)) is None
        and _from_elsewhere(pair := _pair(item))
        and not any(
            session.lacks(records_of(item), m.kwargs, pair) for m in item.iter_markers("gpu")
        )
    ]
    if not selected:
        return
    try:
        session.engines.own.version()
    except (EngineError, ValueError) as error:
        why = str(error).splitlines()[0]
        session.needs.left_out = {title_of(item): why for item, _ in selected}
        return
    _rehearse(session, selected)
    asked = session.needs.look_up()
    if session.needs.fit() or asked:
        _rehearse(session, selected)  # what is known now may leave cases out


def _pair(item: Any) -> ModelPair:
    named = getattr(item, "callspec", None) and item.callspec.params.get("model")
    return named_pair(item.config, named or model_names(item.config)[0])


def _from_elsewhere(pair: ModelPair) -> bool:
    """Whether a pair's models or questions may have to be downloaded."""
    checkpoints = [model for roles in pair.quantized.values() for model in roles.values()]
    models = filter(None, (pair.reasoning, pair.plain, pair.draft, pair.eagle, *checkpoints))
    data = (name for name in pair.tiers.values() if isinstance(name, str))
    return any(map(is_id, models)) or any(not name.startswith(BUNDLED) for name in data)


def _rehearse(session: Session, selected: Selected) -> None:
    """Note which models the cases want, and why some will not be measured."""
    rehearsal, left_out = _planning(session), dict[str, str]()
    for item, pair in selected:
        title = title_of(item)
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        given = {**parameters, **tools(case_of(item, rehearsal, pair))}
        names = inspect.signature(item.obj).parameters
        try:
            item.obj(**{name: _value(item, name, given) for name in names})
        except CannotMeasure as error:
            left_out[title] = str(error)
        except (Exception, pytest.skip.Exception):  # noqa: BLE001
            # It has a mistake, which is told when it is measured, or fixtures from elsewhere.
            for role in ROLES:
                serving = Serving(model=role)
                rehearsal.needs.note(title, models_of(session.engines.own, pair, serving))
    session.needs.wanted = rehearsal.needs.wanted
    session.needs.left_out = left_out


def _value(item: Any, name: str, given: Mapping[str, Any]) -> Any:
    """What a body gets by a name: what is given, else what a fixture of its module makes."""
    if name in given:
        return given[name]
    fixture = inspect.unwrap(getattr(item.module, name))
    names = inspect.signature(fixture).parameters
    return fixture(**{each: _value(item, each, given) for each in names})


def _planning(session: Session) -> Session:
    """A session that plans what this one is to measure, with its engines and GPUs, and with what is
    known of models and data so far. It counts its cases' needs anew."""
    needs = replace(session.needs, wanted={})
    other = replace(
        session, planning=True, rows=[], left_out={}, without_gpu=[], messages=[], needs=needs
    )
    other.engines.made, other.budget = session.engines.made, session.budget
    return other
