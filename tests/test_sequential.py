"""All looks at growing data together err as often as a single one may."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from doubles import close, four_errors

from pytest_rllm.verdicts.location import location
from pytest_rllm.verdicts.sequential import confidences

LOOKS = [(12, 24, 36, 48, 60), (8, 16), (1, 2, 3), (10, 20, 80)]


@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.2])
def test_a_single_look_spends_all(alpha: float) -> None:
    assert confidences((7,), alpha) == (1 - alpha,)


@pytest.mark.parametrize("looks", LOOKS, ids=str)
def test_a_later_look_asks_for_less_and_each_for_more_than_a_single_one(
    looks: tuple[int, ...],
) -> None:
    found = confidences(looks)
    assert len(found) == len(looks)
    assert list(found) == sorted(set(found), reverse=True)
    assert found[-1] > 0.95


@pytest.mark.parametrize("looks", LOOKS, ids=str)
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_all_looks_together_err_as_often_as_a_single_one(
    looks: tuple[int, ...], alpha: float
) -> None:
    """Brownian motion, seen at the looks: how often it leaves the bounds of any of them."""
    tries = 200_000
    rng = np.random.default_rng(5)
    times = np.array(looks) / looks[-1]
    steps = np.sqrt(np.diff(times, prepend=0.0))
    seen = np.cumsum(rng.normal(size=(tries, len(looks))) * steps, axis=1) / np.sqrt(times)
    bounds = scipy.stats.norm.ppf(0.5 + np.array(confidences(looks, alpha)) / 2)
    out = np.abs(seen) > bounds
    assert out.any(axis=1).mean() == pytest.approx(alpha, abs=four_errors(alpha, tries))
    spent = alpha * times[0] ** 1.5
    assert out[:, 0].mean() == pytest.approx(spent, abs=four_errors(spent, tries))


@pytest.mark.parametrize("looks", [(8, 16), (1, 2, 3), (10, 20, 80)], ids=str)
def test_looks_spend_what_they_may_to_the_fifth_digit(looks: tuple[int, ...]) -> None:
    """The shares that the looks see correlate as the root of their sizes' ratio."""
    bounds = scipy.stats.norm.ppf(0.5 + np.array(confidences(looks)) / 2)
    for n in range(1, len(looks) + 1):
        sizes, z = np.array(looks[:n]), bounds[:n]
        together = np.sqrt(np.minimum.outer(sizes, sizes) / np.maximum.outer(sizes, sizes))
        law = scipy.stats.multivariate_normal(cov=together, seed=1, maxpts=10**6, abseps=1e-8)
        inside = law.cdf(z, lower_limit=-z)
        assert 1 - inside == pytest.approx(0.05 * (looks[n - 1] / looks[-1]) ** 1.5, abs=2e-6)


def test_looks_at_real_blocks_err_no_more_than_they_may() -> None:
    """The true effect lies on the margin; some look sees all of the interval above it."""
    tries, looks = 1500, (8, 16, 24)
    rng = np.random.default_rng(6)
    wrong = 0
    for _ in range(tries):
        blocks = rng.normal(size=looks[-1]).tolist()
        bars = (location(blocks[:n], c) for n, c in zip(looks, confidences(looks), strict=True))
        wrong += any(bar.low > 0 for bar in bars)
    assert wrong / tries < 0.025 + four_errors(0.025, tries)


@pytest.mark.parametrize("scale", [3, 40])
def test_only_the_shares_of_the_last_look_matter(scale: int) -> None:
    assert confidences(tuple(scale * n for n in (1, 2, 4))) == close(confidences((1, 2, 4)))


@pytest.mark.parametrize("looks", [(), (2, 1), (3, 3), (0, 4), (-1, 2)])
def test_looks_grow(looks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="looks are growing numbers of replicates"):
        confidences(looks)
