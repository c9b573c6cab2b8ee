"""A pair of models: the bundled one, asked the questions of this package."""

from dataclasses import replace

from pytest_rllm.models import PAIRS

OUTSIDE = replace(PAIRS["tiny"], name="outside", tiers={"easy": "doubles"})
