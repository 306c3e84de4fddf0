"""Annealing, cooldown, step size and shares of samples."""

from __future__ import annotations

import pytest

from asyncade_rl.schedule import (
    SMALLEST_SHARE,
    annealed,
    cooldown_left,
    learning_rate_at,
    share_of_samples,
)


@pytest.mark.parametrize(
    ("env_steps", "expected"), [(0, 1.0), (25, 0.75), (50, 0.5), (90, 0.1), (95, 0.1), (999, 0.1)]
)
def test_annealed_falls_linearly_to_its_end(env_steps: int, expected: float) -> None:
    assert annealed(env_steps, 100, 0.1) == pytest.approx(expected)


def test_annealed_may_fall_to_zero_or_not_at_all() -> None:
    assert annealed(200, 100, 0.0) == 0.0
    assert annealed(50, 100, 1.0) == 1.0


@pytest.mark.parametrize(
    ("env_steps", "expected"), [(100, 1.0), (125, 0.5), (145, 0.1), (150, 0.0), (9999, 0.0)]
)
def test_the_cooldown_falls_linearly_to_zero(env_steps: int, expected: float) -> None:
    assert cooldown_left(env_steps, 100, 0.5) == pytest.approx(expected)


def test_a_cooldown_of_zero_length_ends_at_the_target() -> None:
    assert cooldown_left(100, None, 0.0) == 1.0
    assert cooldown_left(100, 100, 0.0) == 0.0


@pytest.mark.parametrize(("samples", "rate"), [(128, 1e-3), (512, 2e-3), (32, 0.5e-3)])
def test_the_step_size_grows_with_the_root_of_the_samples(samples: int, rate: float) -> None:
    assert learning_rate_at(1.0, 1e-3, samples) == pytest.approx(rate)
    assert learning_rate_at(0.25, 1e-3, samples) == pytest.approx(rate / 4)


@pytest.mark.parametrize(
    ("samples", "sharers", "share"),
    [(128, 0, 128), (128, 1, 128), (128, 2, 64), (128, 100, SMALLEST_SHARE), (16, 2, 16)],
)
def test_a_share_is_an_equal_part_with_a_minimum(samples: int, sharers: int, share: int) -> None:
    assert share_of_samples(samples, sharers) == share
