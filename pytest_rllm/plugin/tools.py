"""What a finding's body works with: its fixtures' values, made for a session and a pair."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..datasets import sandbox
from ..datasets.hub import cache_only
from ..datasets.prompts import DataMissing, Prompt, TooFewQuestions, choose
from ..experiment import workloads
from ..models import TIERS, ModelPair
from ..session.case import FindingCase
from ..session.comparison import CannotMeasure
from ..session.contrasts import compare_curve, compare_effects
from ..session.knee import knee_of
from ..session.repetition import compare_repeated
from .findings import MARK, case_id, finding_id, records_of, tier_of

if TYPE_CHECKING:
    from ..session.session import Session

MOST_ATTEMPTS = 9
"""At one case, of which records are looked for."""
BUNDLED = "bundled-"
"""How names of data sets begin that a finding must not ask for more questions than they have."""


def case_of(item: Any, session: Session, model: ModelPair, attempt: int = 1) -> FindingCase:
    """The case that a test item is, for a session and a pair.

    Each attempt has records of its own; a replay judges those of the last one.
    """
    folders = [attempt_folder(records_of(item), n) for n in range(1, MOST_ATTEMPTS + 1)]
    folder = attempt_folder(records_of(item), attempt)
    if session.replaying:
        folder = next((f for f in reversed(folders) if (session.records / f).is_dir()), folder)
    session.engines.pair = model
    mark = item.get_closest_marker(MARK)
    about = mark.kwargs if mark else {"sentence": item.name, "cite": "not a finding"}
    return FindingCase(
        finding=finding_id(item),
        case=case_id(item),
        session=session,
        pair=model,
        folder=folder,
        sentence=about["sentence"],
        cite=about["cite"],
        tier=tier_of(item),
        attempt=attempt,
    )


def attempt_folder(folder: Path, attempt: int) -> Path:
    """Where the records of an attempt lie, beside those of the first."""
    return folder if attempt == 1 else folder.with_name(f"{folder.name}.attempt-{attempt}")


def tools(case: FindingCase) -> dict[str, Any]:
    """By name of a fixture what a body gets that uses it; ``contract`` is none of them."""
    session = case.session
    return {
        "compare": case.compare,
        "compare_builds": case.compare_builds,
        "compare_curve": partial(compare_curve, case),
        "compare_effects": partial(compare_effects, case),
        "compare_repeated": partial(compare_repeated, case),
        "dataset": asking(session, case.pair),
        "engine": session.engines.own,
        "gpu": session.gpu,
        "knee": partial(knee_of, case),
        "measure": case.measure,
        "model": case.pair,
        "workload": workloads,
    }


def asking(session: Session, model: ModelPair) -> Callable[..., list[Prompt]]:
    """The value of the fixture ``dataset``."""

    def chosen(
        *tiers: str,
        n: int,
        repeats: int = 1,
        at_most: bool = False,
        fill: bool = False,
        shots: int = 0,
        turns: int = 1,
    ) -> list[Prompt]:
        without = [tier for tier in tiers if tier in TIERS and tier not in model.tiers]
        if without:
            raise CannotMeasure(
                f"the model pair {model.name!r} has no data for {' and '.join(without)}"
            )
        tier = session.tier
        asked = tuple(str(model.tiers[each]) for each in tiers if each in model.tiers)
        for name in asked:  # asking the hub again would take its time again
            if name in session.needs.no_data:
                raise CannotMeasure(session.needs.no_data[name])
        try:
            with cache_only(session.replaying):
                found = choose(
                    model.tiers,
                    *tiers,
                    n=n if tier.questions is None else tier.questions * len(tiers),
                    repeats=max(repeats, tier.answers),
                    folder=session.data,
                    at_most=at_most or tier.questions is not None,
                    fill=fill and tier.questions is None,
                    times=tier.times,
                    shots=shots,
                    turns=turns,
                )
        except DataMissing as missing:
            session.needs.no_data[missing.data] = str(missing)
            raise CannotMeasure(str(missing)) from missing
        except TooFewQuestions as few:
            if all(name.startswith(BUNDLED) for name in asked):
                raise  # a mistake of the test: these are always there
            raise CannotMeasure(str(few)) from few
        unable = sandbox.needed() if any(prompt.kind == "code" for prompt in found) else None
        if unable:
            raise CannotMeasure(unable)
        return found

    return chosen
