"""Annealing, cooldown, step size, and what a batch of any number of actors is."""

from __future__ import annotations

import pytest

from asyncade_rl.schedule import (
    annealed,
    cooldown_left,
    learning_rate_at,
    minibatch_of,
    shared_play,
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
    ("actors", "games", "steps"),
    [
        *((0, 16, 64), (1, 16, 64), (2, 8, 64), (3, 5, 64), (4, 4, 64), (6, 3, 64), (8, 2, 64)),
        *((12, 1, 64), (16, 1, 64), (18, 1, 56), (24, 1, 40), (32, 1, 32), (64, 1, 32)),
    ],
)
def test_fewer_games_then_shorter_unrolls_then_a_larger_batch(
    actors: int, games: int, steps: int
) -> None:
    assert shared_play(1024, actors, 64) == (games, steps)


@pytest.mark.parametrize("actors", range(1, 33))
def test_the_batch_does_not_grow_with_up_to_32_actors(actors: int) -> None:
    """It is uneven by up to a third: with 10 and 11 actors, between one game and two."""
    games, steps = shared_play(1024, actors, 64)
    assert 1024 * 2 / 3 <= actors * games * steps <= 1024 * 4 / 3


def test_an_unroll_is_never_longer_than_the_longest() -> None:
    assert shared_play(1024, 1, 8) == (128, 8)
    assert shared_play(1024, 1000, 8) == (1, 8)
    assert shared_play(1 << 20, 1, 64)[1] == 64


@pytest.mark.parametrize(
    ("samples", "size"),
    [(16, 128), (1024, 128), (1535, 128), (1536, 192), (2048, 256), (10_240, 1280)],
)
def test_a_minibatch_grows_with_a_batch_that_had_to_grow(samples: int, size: int) -> None:
    assert minibatch_of(samples, 1024, 128) == size
