"""Doubles that several tests share: synthetic runs, and servers and devices that are none.

And how closely numbers must agree in tests of statistics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest


def close(values: Sequence[float]) -> object:
    return pytest.approx(values, rel=1e-7, abs=1e-9)


def four_errors(probability: float, n: int) -> float:
    """Four standard errors of a share of n draws: a right one strays further once in 15 000."""
    return 4 * math.sqrt(probability * (1 - probability) / n)
