"""Games of installed packages: found by entry point, checked, and seen as Atari games are."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Space

from asyncade_rl.envs import make_environments
from asyncade_rl.games import GROUP, Game, UnknownGameError, largest_reward, num_actions
from packages import MY_GAME, install

Image = npt.NDArray[np.uint8]


class Scripted(gymnasium.Env[Image, np.int64]):
    """Shows one image for ever, pays what the action says, ends after three steps."""

    def __init__(self, image: Image, actions: Space[Any], terminates: bool = True) -> None:
        self.observation_space = Box(0, 255, image.shape, image.dtype.type)
        self.action_space = actions
        self._image = image
        self._terminates = terminates
        self.taken: list[int] = []
        self.seeds: list[int | None] = []

    def reset(self, *, seed: int | None = None, **_: object) -> tuple[Image, dict[str, Any]]:
        self.seeds.append(seed)
        self.taken = []
        return self._image, {}

    def step(self, action: np.int64) -> tuple[Image, float, bool, bool, dict[str, Any]]:
        self.taken.append(int(action))
        over = len(self.taken) == 3
        return self._image, float(action), over and self._terminates, over, {}


@pytest.mark.parametrize(
    ("declared", "found"),
    [({}, math.inf), ({"largest_reward": 5.0}, 5.0), ({"largest_reward": 0.1}, 1.0)],
)
def test_a_game_may_declare_its_largest_reward(
    offered: Callable[[object], None], declared: dict[str, float], found: float
) -> None:
    offered(Game(num_actions=3, make=lambda: None, **declared))
    assert largest_reward("mine") == found


def image(*shape: int) -> Image:
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """Offers an object as the game `mine`."""

    def offer(thing: object) -> None:
        entry = SimpleNamespace(value="mine:GAME", load=lambda: thing)
        monkeypatch.setattr("asyncade_rl.games.entry_points", lambda group: _Entries(mine=entry))

    return offer


class _Entries(dict[str, SimpleNamespace]):
    names = property(lambda self: set(self))


def play(offered: Callable[[object], None], env: Scripted, **options: Any) -> Any:
    offered(Game(3, lambda: env))
    return make_environments("mine", 1, **options)


@pytest.mark.parametrize("shape", [(84, 84), (84, 84, 1)])
def test_grey_images_of_the_right_size_are_unchanged(
    shape: tuple[int, ...], offered: Callable[[object], None]
) -> None:
    seen = play(offered, Scripted(image(*shape), Discrete(3))).reset(0)
    np.testing.assert_array_equal(seen[0, -1], image(*shape).reshape(84, 84))
    assert not seen[0, :-1].any()


def test_cells_become_squares(offered: Callable[[object], None]) -> None:
    seen = play(offered, Scripted(image(12, 42), Discrete(3))).reset(0)
    np.testing.assert_array_equal(seen[0, -1], image(12, 42).repeat(7, axis=0).repeat(2, axis=1))


def test_larger_images_are_averaged_over_areas(offered: Callable[[object], None]) -> None:
    seen = play(offered, Scripted(image(168, 252), Discrete(3))).reset(0)
    means = image(168, 252).reshape(84, 2, 84, 3).mean(axis=(1, 3))
    assert np.abs(seen[0, -1] - means).max() <= 0.51


@pytest.mark.parametrize(
    ("colour", "grey"), [((255, 255, 255), 255), ((255, 0, 0), 76), ((0, 255, 0), 150)]
)
def test_colours_become_grey(
    colour: tuple[int, ...], grey: int, offered: Callable[[object], None]
) -> None:
    one = np.full((210, 160, 3), colour, dtype=np.uint8)
    assert np.unique(play(offered, Scripted(one, Discrete(3))).reset(0)[0, -1]) == [grey]


@pytest.mark.parametrize("terminates", [True, False])
def test_an_end_is_the_games_own(terminates: bool, offered: Callable[[object], None]) -> None:
    environments = play(offered, Scripted(image(84, 84), Discrete(3), terminates))
    environments.reset(0)
    steps = [environments.step(np.array([2])) for _ in range(6)]
    assert [step.rewards.item() for step in steps] == [2.0] * 6
    ended = [False, False, True] * 2
    assert [step.terminated.item() for step in steps] == [terminates and one for one in ended]
    assert [step.truncated.item() for step in steps] == [not terminates and one for one in ended]


def test_each_game_has_a_seed_of_its_own_and_then_goes_on(
    offered: Callable[[object], None],
) -> None:
    games = [Scripted(image(84, 84), Discrete(3)) for _ in range(2)]
    offered(Game(3, iter(games).__next__))
    environments = make_environments("mine", 2)
    environments.reset(7)
    for _ in range(3):
        environments.step(np.array([0, 0]))
    assert [game.seeds for game in games] == [[7, None], [8, None]]


def test_actions_can_be_sticky(offered: Callable[[object], None]) -> None:
    env = Scripted(image(84, 84), Discrete(3))
    play(offered, env, repeat_action_probability=0.0).reset(0)
    sticky = play(offered, env, repeat_action_probability=0.999)
    sticky.reset(0)
    for action in (2, 1):
        sticky.step(np.array([action]))
    assert env.taken == [2, 2]


@pytest.mark.parametrize(
    ("env", "named"),
    [
        (Scripted(image(84, 84), Discrete(4)), "Discrete"),
        (Scripted(image(84, 84), Discrete(3, start=1)), "Discrete"),
        (Scripted(image(84, 84), MultiDiscrete([3])), "Discrete"),
        (Scripted(image(84), Discrete(3)), "images"),
        (Scripted(image(84, 84, 4), Discrete(3)), "images"),
        (Scripted(image(84, 84).astype(np.float32), Discrete(3)), "images"),
    ],
)
def test_what_is_not_a_game_of_images_is_refused(
    env: Scripted, named: str, offered: Callable[[object], None]
) -> None:
    with pytest.raises(UnknownGameError, match=rf"'mine'.*{named}"):
        play(offered, env)


@pytest.mark.parametrize("thing", [Scripted, Game(0, lambda: None), None])
def test_an_entry_point_that_is_no_game_is_named(
    thing: object, offered: Callable[[object], None]
) -> None:
    offered(thing)
    with pytest.raises(UnknownGameError, match="mine:GAME"):
        num_actions("mine")


def test_a_package_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken-1.dist-info").mkdir()
    written = f"[{GROUP}]\nbroken = absent_module:GAME\n"
    (tmp_path / "broken-1.dist-info/entry_points.txt").write_text(written)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownGameError, match=r"'broken'.*absent_module"):
        num_actions("broken")


def test_an_unknown_game_is_told_which_there_are(offered: Callable[[object], None]) -> None:
    offered(Game(3, lambda: None))
    with pytest.raises(UnknownGameError, match=r"'mone'; did you mean mine\b.*\(mine\)"):
        num_actions("mone")


def test_a_learner_needs_no_emulator(tmp_path: Path) -> None:
    code = "import sys, asyncade_rl.games as g; print(g.num_actions('dodge'), *sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env=install(MY_GAME, tmp_path),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert printed[0] == "3"
    assert "my_game" in printed
    assert not {"gymnasium", "torch", "my_game.dodge"} & set(printed)
