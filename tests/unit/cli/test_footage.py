"""What is filmed of a game, and for how long."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from asyncade_cli.film import Film
from asyncade_cli.footage import in_pairs, shoot
from asyncade_cli.trained import load_trained
from asyncade_rl.envs.catch import CELLS
from asyncade_rl.envs.shown import ENV_STEPS_PER_SECOND
from asyncade_rl.evaluation import Chooser
from asyncade_runtime.run_folder import RunFolder
from rigs.models import write_model


class Kept:
    """A film that keeps its pictures."""

    full = cut = False

    def __init__(self) -> None:
        self.shown: list[npt.NDArray[np.uint8]] = []

    @property
    def env_steps(self) -> int:
        return len(self.shown)

    def add(self, pictures: npt.NDArray[np.uint8]) -> None:
        self.shown.append(pictures)


def filmed(root: Path, game: str, *, stop: bool = False, **options: Any) -> Kept:
    folder = RunFolder.create(root)
    write_model(folder, game)
    trained, film, ended = load_trained(folder), Kept(), threading.Event()
    if stop:
        ended.set()
    chooser = Chooser(trained.session(1).network, "sample", 0)
    shoot(cast("Film", film), trained, chooser, 0, ended, **options)
    return film


def test_a_whole_game_is_filmed_with_its_last_picture(tmp_path: Path) -> None:
    film = filmed(tmp_path, "catch")
    assert film.env_steps == CELLS
    assert not film.cut
    game = film.shown[-1][-1, : 5 * 84, : 5 * 84]
    assert game[-5 * 7 :].any(axis=(1, 2)).all(), "the paddle, and the ball beside or upon it"
    assert not game[: -5 * 7].any()


def test_games_follow_each_other_until_the_time_is_up(tmp_path: Path) -> None:
    film = filmed(tmp_path, "catch", seconds=2.0)
    assert film.env_steps == 2 * ENV_STEPS_PER_SECOND
    assert film.cut


def test_a_film_in_colour_of_an_atari_game(tmp_path: Path) -> None:
    film = filmed(tmp_path, "breakout", seconds=1.0)
    game = film.shown[-1][:, : 2 * 210, : 2 * 160]
    assert game.shape == (2, 420, 320, 3)
    assert (np.ptp(game, axis=-1) > 50).any(), "red is not grey"


def test_a_stop_ends_the_film(tmp_path: Path) -> None:
    assert filmed(tmp_path, "catch", stop=True).env_steps == 0


@pytest.mark.parametrize(("count", "pairs"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_what_flickers_is_in_every_pair(count: int, pairs: int) -> None:
    pictures = np.zeros((count, 4, 4, 3), np.uint8)
    pictures[::2] = 9
    assert in_pairs(pictures).shape == (pairs, 4, 4, 3)
    assert (in_pairs(pictures) == 9).all()
