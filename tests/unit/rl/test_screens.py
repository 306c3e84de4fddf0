"""What the network sees of a game in colour is what it sees in training, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from asyncade_rl.envs import make_environments
from asyncade_rl.envs.atari import NOOP_MAX
from asyncade_rl.envs.screens import AtariScreens, ScreenStep, make_screen_game
from asyncade_rl.games import UnknownGameError, num_actions

STEPS = 400
SEED = 11


def played(game: AtariScreens, actions: list[int], noops: int) -> Iterator[ScreenStep]:
    """Yields a game's steps until its end; the first one is its beginning."""
    yield ScreenStep(game.reset(SEED, noops), 0.0, False, [])
    for action in actions:
        step = game.step(action)
        yield step
        if step.over:
            return


def played_by_actors(name: str, sticky: float, actions: list[int]) -> Iterator[ScreenStep]:
    """Yields the same of the actors' environment."""
    with closing(make_environments(name, 1, repeat_action_probability=sticky)) as actors:
        yield ScreenStep(actors.reset(SEED), 0.0, False, [])
        for action in actions:
            step = actors.step(np.array([action]))
            over = bool(step.terminated[0] or step.truncated[0])
            seen = step.final_observations if step.final_observations is not None else None
            yield ScreenStep(
                step.observations if seen is None else seen, float(step.rewards[0]), over, []
            )
            if over:
                return


def alike(one: ScreenStep, other: ScreenStep) -> bool:
    same_end = (one.reward, one.over) == (other.reward, other.over)
    return same_end and np.array_equal(one.observations, other.observations)


@pytest.mark.parametrize(
    ("name", "sticky"), [("pong", 0.0), ("breakout", 0.25), ("freeway", 0.0), ("seaquest", 0.25)]
)
def test_observations_are_those_of_the_actors(name: str, sticky: float) -> None:
    random = np.random.default_rng(1)
    actions = random.integers(num_actions(name), size=STEPS).tolist()
    expected = list(played_by_actors(name, sticky, actions))
    game = AtariScreens(name, sticky)
    # The actors' environment draws the no-ops with a generator of its own.
    same = [
        noops
        for noops in range(NOOP_MAX)
        if all(map(alike, expected[:20], played(game, actions[:19], noops)))
    ]
    assert same
    assert all(map(alike, expected, played(game, actions, same[0])))
    if name == "breakout":  # random play loses it within these steps
        assert expected[-1].over


def test_every_frame_has_a_screen_in_colour() -> None:
    game = make_screen_game("pong")
    game.reset(SEED)
    step = game.step(0)
    assert [screen.shape for screen in step.screens] == [(210, 160)] * 4
    assert game.frames_per_second == 60
    assert game.actions[:3] == ["NOOP", "FIRE", "RIGHT"]
    shown = game.colours()[game.screen()]
    assert len({tuple(pixel) for pixel in shown.reshape(-1, 3)}) >= 3  # field, paddle, border
    assert (shown[..., 0] != shown[..., 2]).any()  # not grey


def test_catch_has_screens_too() -> None:
    game = make_screen_game("catch")
    first = game.reset(SEED)
    assert np.array_equal(game.screen(), first[0, -1])
    steps = [game.step(1) for _ in range(11)]
    assert [step.over for step in steps] == [False] * 10 + [True]
    assert steps[-1].reward in (-1.0, 1.0)
    assert np.array_equal(steps[-1].screens[0], steps[-1].observations[0, -1])


def test_a_screen_is_not_changed_by_later_frames() -> None:
    game = make_screen_game("pong")
    game.reset(SEED)
    first = game.step(0).screens[0]
    before = first.copy()
    for _ in range(40):
        game.step(2)
    assert np.array_equal(first, before)


def test_an_unknown_game_is_named() -> None:
    with pytest.raises(UnknownGameError, match="pong"):
        make_screen_game("pongg")
