"""The game that is shown is the game that is played, and watching it does not change it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from asyncade_rl.envs import ShownGame, Step, atari, make_environments, make_shown_game
from asyncade_rl.envs.shown import in_words
from packages import MY_GAME, install

ATARI = [("breakout", 0.0), ("breakout", 0.25), ("seaquest", 0.25), ("freeway", 0.0)]
GAMES = [("catch", 0.0), *ATARI]


def actions(game: str, steps: int = 800) -> Iterator[npt.NDArray[np.int64]]:
    """Random actions, the same in every call."""
    number = make_environments(game, 1).num_actions
    yield from np.random.default_rng(0).integers(number, size=(steps, 1))


def ends(step: Step) -> bool:
    return bool(step.terminated[0] | step.truncated[0])


@pytest.mark.parametrize(("game", "sticky"), GAMES)
def test_observations_are_those_of_a_game_that_is_not_shown(game: str, sticky: float) -> None:
    plain = make_environments(game, 1, repeat_action_probability=sticky)
    shown = make_shown_game(game, repeat_action_probability=sticky)
    np.testing.assert_array_equal(plain.reset(3), shown.reset(3))
    assert shown.protocol() == plain.protocol()
    assert len(set(shown.action_names)) == shown.num_actions == plain.num_actions
    for action in actions(game):
        ours, theirs = plain.step(action), shown.step(action)
        np.testing.assert_array_equal(ours.observations, theirs.observations)
        assert ours.rewards == theirs.rewards
        assert ends(ours) == ends(theirs)


def luminance(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    return picture @ np.array([0.2989, 0.587, 0.114])


@pytest.mark.parametrize(("game", "sticky"), ATARI)
def test_the_pictures_are_of_the_game_that_the_agent_sees(game: str, sticky: float) -> None:
    """The grey picture's mean is that of the observation, in every step of several games."""
    shown = make_shown_game(game, repeat_action_probability=sticky)
    shown.reset(2)  # and anew
    shown.reset(3)
    assert shown.pictures.shape == (1, 210, 160, 3)
    over = 0
    for action in actions(game):
        step = shown.step(action)
        assert shown.pictures.shape[1:] == (210, 160, 3)
        assert shown.pictures.dtype == np.uint8
        seen = step.observations[0, -1]
        if step.final_observations is not None:
            seen = step.final_observations[0, -1]
            over += 1
        else:
            assert len(shown.pictures) == atari.FRAME_SKIP
        last_two = shown.pictures[-2:].max(axis=0)  # of which the agent sees the maximum
        rows = luminance(last_two).reshape(7, 30, 160).mean(axis=(1, 2))
        np.testing.assert_allclose(rows, seen.reshape(7, 12, 84).mean(axis=(1, 2)), atol=1.5)
    assert over >= (0 if game == "freeway" else 1)  # its games are longer
    assert (shown.pictures[-1].std(axis=-1) > 0).any(), "in colour"


def test_the_time_limit_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atari, "MAX_FRAMES_PER_EPISODE", 80)
    shown = make_shown_game("pong")
    shown.reset(0)
    steps = [shown.step(np.ones(1, np.int64)) for _ in range(60)]
    assert sum(map(ends, steps)) == 3


def test_a_picture_of_another_game_is_an_error() -> None:
    shown, other = (make_environments("breakout", 1) for _ in range(2))
    other.reset(1)
    assert isinstance(other, atari.AtariEnvironments)
    mixed = ShownGame(shown, atari.AtariScreen(other, "breakout", 0.0))
    mixed.reset(0)
    with pytest.raises(RuntimeError, match="another"):
        mixed.step(np.zeros(1, np.int64))


def test_pictures_are_not_changed_by_later_ones() -> None:
    shown = make_shown_game("pong")
    shown.reset(0)
    shown.step(np.zeros(1, np.int64))
    first = shown.pictures
    before = first.copy()
    for _ in range(40):
        shown.step(np.full(1, 2))
    np.testing.assert_array_equal(first, before)
    assert not np.array_equal(shown.pictures, before)


def test_a_screen_of_another_height_is_shown_as_it_is() -> None:
    shown = make_shown_game("air_raid")
    shown.reset(0)
    shown.step(np.zeros(1, np.int64))
    assert shown.pictures.shape == (4, 250, 160, 3)


def test_catch_shows_its_last_frame_at_the_end() -> None:
    shown = make_shown_game("catch")
    shown.reset(0)
    step = shown.step(np.ones(1, np.int64))
    while not ends(step):
        step = shown.step(np.ones(1, np.int64))
    assert step.final_observations is not None
    np.testing.assert_array_equal(shown.pictures[-1, :, :, 0], step.final_observations[0, -1])


def test_actions_have_names() -> None:
    assert make_shown_game("breakout").action_names == ("NOOP", "FIRE", "RIGHT", "LEFT")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NOOP", "wait"),
        ("FIRE", "fire"),
        ("UPRIGHTFIRE", "up right + fire"),
        ("DOWNLEFT", "down left"),
        ("0", "0"),
    ],
)
def test_actions_are_shown_in_words(name: str, words: str) -> None:
    assert in_words(name) == words


def test_a_game_of_another_package_is_shown_in_grey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in install(MY_GAME, tmp_path)["PYTHONPATH"].split(os.pathsep)[:2]:
        monkeypatch.syspath_prepend(folder)
    shown = make_shown_game("dodge")
    shown.reset(0)
    step = shown.step(np.ones(1, np.int64))
    assert shown.action_names == ("0", "1", "2")
    assert shown.pictures.shape == (4, 84, 84, 3)
    assert (shown.pictures == step.observations[0, -1, :, :, None]).all()
