"""Statistics of returns."""

from __future__ import annotations

import numpy as np
import pytest

from asyncade_rl.evaluation import interval_of_mean


def test_the_interval_holds_the_true_mean_nineteen_times_in_twenty() -> None:
    random = np.random.default_rng(1)
    held = 0
    for _ in range(100):
        low, high = interval_of_mean(random.normal(3.0, 2.0, size=50).tolist()) or (0.0, 0.0)
        assert low < high
        held += low < 3.0 < high
    assert held in range(88, 100)


def test_the_interval_stays_within_the_returns() -> None:
    """An interval from the deviation would end above 21."""
    returns = [21.0] * 18 + [20.0, 5.0]
    low, high = interval_of_mean(returns) or (0.0, 0.0)
    assert 5.0 < low < np.mean(returns) < high <= 21.0
    assert interval_of_mean(returns) == (low, high)


@pytest.mark.parametrize(("returns", "interval"), [([], None), ([3.0], None), ([3.0] * 5, (3, 3))])
def test_what_does_not_vary_has_no_interval_or_a_point(
    returns: list[float], interval: tuple[float, float] | None
) -> None:
    assert interval_of_mean(returns) == interval
