"""What the description of a model pair names and only other rooms know: data sets and engines."""

from __future__ import annotations

from ..datasets.prompts import datasets_known, load
from ..engines import engines_known
from ..local_data import LocalData
from ..models import ModelPair, place_of


def check(pair: ModelPair) -> None:
    """Refuse a pair of a TOML file whose data cannot be asked, before anything is measured.

    Raises:
        ValueError: a data set or an engine that does not exist, or a file of questions that cannot
            be used; with the line of the TOML file, or with the row of the file of questions.
    """
    if pair.file is None:
        return
    for name in pair.flags:
        if name not in engines_known():
            raise ValueError(
                f"{place_of(pair.file, 'engines', name)}: there is no engine {name!r}; "
                f"there are {', '.join(engines_known())}"
            )
    for tier, data in pair.tiers.items():
        if isinstance(data, LocalData):
            load(data)
        elif data not in datasets_known():
            raise ValueError(
                f"{place_of(pair.file, 'tiers', tier, 'dataset')}: there is no data set {data!r}; "
                f"there are {', '.join(datasets_known())}"
            )
