"""Schedules are seeded, ascending, and have the rate and the burstiness that were asked for."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from pytest_rllm.experiment.workloads import Sampling, Workload, closed, gamma, poisson, together


def test_together_starts_all_at_once() -> None:
    assert together().starts(3) == [0.0, 0.0, 0.0]


def test_the_starts_of_a_closed_loop_depend_on_the_answers() -> None:
    assert closed(4).starts(10) is None


@pytest.mark.parametrize("n", [0, 1, 5])
def test_an_open_loop_starts_at_zero_and_ascends(n: int) -> None:
    starts = poisson(2.0).starts(n)
    assert starts is not None
    assert len(starts) == n
    assert starts == sorted(starts)
    assert starts[:1] == [0.0][:n]


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("rate", [0.5, 20.0])
def test_gaps_have_the_mean_and_the_variation_asked_for(rate: float, cv: float) -> None:
    gaps = np.diff(gamma(rate, cv, seed=3).starts(20_000) or [])
    assert gaps.mean() == pytest.approx(1 / rate, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)


def test_poisson_is_gamma_with_exponential_gaps() -> None:
    assert poisson(3.0, seed=7) == gamma(3.0, 1.0, seed=7)


def test_one_seed_gives_one_schedule() -> None:
    load = gamma(5.0, 2.0, seed=1)
    assert load.starts(20) == gamma(5.0, 2.0, seed=1).starts(20)
    assert load.starts(20) != load.seeded(2).starts(20)
    assert load.seeded(2).seeded(1) == load


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (together(), "together"),
        (closed(8), "8 in flight"),
        (poisson(2.5), "2.5/s, cv 1"),
        (gamma(2, 0.5), "2/s, cv 0.5"),
    ],
)
def test_a_workload_in_words(load: Workload, words: str) -> None:
    assert str(load) == words
    assert str(load.seeded(9)) == words


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: closed(0), "at least 1 request in flight, not 0"),
        (lambda: poisson(0), "above 0, not 0 and 1"),
        (lambda: gamma(1, 0), "above 0, not 1 and 0"),
        (lambda: gamma(math.inf, 1), "finite numbers above 0, not inf and 1"),
        (lambda: gamma(1, math.nan), "finite numbers above 0, not 1 and nan"),
        (lambda: Sampling(0), "max_tokens is at least 1, not 0"),
        (lambda: Sampling(1, temperature=-0.1), "temperature >= 0 .* not -0.1"),
        (lambda: Sampling(1, temperature=math.nan), "temperature >= 0 .* not nan"),
        (lambda: Sampling(1, top_p=0), "0 < top_p <= 1, not 0.6 and 0$"),
        (lambda: Sampling(1, top_p=1.1), "0 < top_p <= 1, not 0.6 and 1.1"),
    ],
)
def test_impossible_loads_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_sampling_is_the_papers_by_default() -> None:
    assert Sampling(9) == Sampling(9, temperature=0.6, top_p=0.95, fixed_length=False)
    assert Sampling(9, temperature=0, top_p=1)
