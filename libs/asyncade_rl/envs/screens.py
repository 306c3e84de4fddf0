"""One game with its screens in colour, to look at; the network sees what it sees in training.

The emulators of `asyncade_rl.envs.atari` show only what the network observes: small, grey, every
fourth frame. Here a second emulator is stepped frame by frame, and prepares its own observations.
A test compares them with those of the first, bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import ale_py
import numpy as np
import numpy.typing as npt
from ale_py import roms

from asyncade_rl.envs.atari import FRAME_SKIP, MAX_FRAMES_PER_EPISODE, NOOP_MAX
from asyncade_rl.envs.base import Observations
from asyncade_rl.envs.catch import Catch
from asyncade_rl.games import CATCH, FRAME_SIDE, num_actions

Screen: TypeAlias = npt.NDArray[np.uint8]
"""uint8 [H, W], colours as indices into a palette."""

_ATARI_FRAMES_PER_SECOND: Final = 60
_CATCH_FRAMES_PER_SECOND: Final = 15
_STACK: Final = 4


@dataclass(frozen=True, slots=True)
class ScreenStep:
    """The result of one env step.

    Attributes:
        observations: uint8 [1, 4, 84, 84]; at a game's end, its last ones.
        reward: unclipped.
        over: the game is over; call `reset`.
        screens: of every emulator frame, in order.
    """

    observations: Observations
    reward: float
    over: bool
    screens: list[Screen]


class ScreenGame(Protocol):
    """A game in colour.

    Attributes:
        actions: name of every action.
        frames_per_second: of the game's own speed.
        frames_per_step: screens of one env step; fewer at a game's end.
    """

    actions: list[str]
    frames_per_second: int
    frames_per_step: int

    def colours(self) -> npt.NDArray[np.uint8]:
        """Returns the palette, uint8 [256, 3]: red, green and blue of every index."""
        ...

    def screen(self) -> Screen:
        """Returns the present screen."""
        ...

    def reset(self, seed: int) -> Observations:
        """Begins a game; returns the first observations, uint8 [1, 4, 84, 84]."""
        ...

    def step(self, action: int) -> ScreenStep:
        """Takes one env step."""
        ...


def make_screen_game(game: str, *, repeat_action_probability: float = 0.0) -> ScreenGame:
    """Returns a game in colour.

    Args:
        game: an ALE id such as ``pong``, or ``catch``.
        repeat_action_probability: sticky actions, in [0, 1); ignored by ``catch``.

    Raises:
        UnknownGameError: no game has this id.
    """
    num_actions(game)
    return CatchScreens() if game == CATCH else AtariScreens(game, repeat_action_probability)


class AtariScreens:
    """An ALE game, prepared as ale-py's vector environment does it.

    Source: ale-py 0.12.1, src/ale/vector/preprocessed_env.cpp.
    """

    frames_per_second = _ATARI_FRAMES_PER_SECOND
    frames_per_step = FRAME_SKIP

    def __init__(self, game: str, repeat_action_probability: float = 0.0) -> None:
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._ale = ale_py.ALEInterface()
        self._ale.setFloat("repeat_action_probability", repeat_action_probability)
        rom = roms.get_rom_path(game)
        assert rom is not None, "every known game has one"
        self._rom = rom
        self._ale.loadROM(rom)
        self._actions = self._ale.getMinimalActionSet()
        self.actions = [action.name for action in self._actions]
        height, width = self._ale.getScreenDims()
        self._rows, self._columns = _Area(height, FRAME_SIDE), _Area(width, FRAME_SIDE)
        self._last_two = np.zeros((2, height, width), dtype=np.uint8)
        self._stack = np.zeros((1, _STACK, FRAME_SIDE, FRAME_SIDE), dtype=np.uint8)
        self._frames = 0

    def colours(self) -> npt.NDArray[np.uint8]:
        """Returns the palette, black where no screen has shown an index yet."""
        palette = np.zeros((256, 3), dtype=np.uint8)
        palette[self._ale.getScreen().ravel()] = self._ale.getScreenRGB().reshape(-1, 3)
        return palette

    def screen(self) -> Screen:
        """Returns the present screen."""
        screen: Screen = self._ale.getScreen()
        return screen

    def reset(self, seed: int, noops: int | None = None) -> Observations:
        """Begins a game.

        Args:
            seed: of the emulator, and of the number of no-ops.
            noops: frames before the first observation, in 0..29, of which FIRE is one in games
                that have it; None draws them.
        """
        self._ale.setInt("random_seed", seed)
        self._ale.loadROM(self._rom)  # takes the seed over
        self._ale.reset_game()
        fire = ale_py.Action.FIRE in self._actions
        if fire:
            self._ale.act(ale_py.Action.FIRE)
        drawn = np.random.default_rng(seed).integers(NOOP_MAX)
        for _ in range(int(drawn if noops is None else noops) - fire):
            self._ale.act(ale_py.Action.NOOP)
            if self._ale.game_over():
                self._ale.reset_game()
        self._frames = 0
        self._stack[:] = 0
        self._last_two[0] = self._ale.getScreenGrayscale()
        self._last_two[1] = 0
        return self._observe()

    def step(self, action: int) -> ScreenStep:
        """Repeats the action for four frames, or until the game is over."""
        reward, over = 0.0, False
        screens: list[Screen] = []
        for to_come in reversed(range(FRAME_SKIP)):
            reward += self._ale.act(self._actions[action])
            screens.append(self.screen())
            self._frames += 1
            over = self._ale.game_over() or self._frames >= MAX_FRAMES_PER_EPISODE
            if over:
                break  # the observation is made of the frames before
            if to_come < len(self._last_two):
                self._last_two[to_come] = self._ale.getScreenGrayscale()
        return ScreenStep(self._observe(), reward, over, screens)

    def _observe(self) -> Observations:
        brightest, before = self._last_two
        np.maximum(brightest, before, out=brightest)
        small = self._rows.applied(self._columns.applied(brightest.T.astype(np.float32)).T)
        self._stack[0, :-1] = self._stack[0, 1:]
        self._stack[0, -1] = np.rint(small)
        return self._stack.copy()


class _Area:
    """Resizes an axis by averaging areas, with the weights and order of sums of OpenCV.

    Source: OpenCV's resize.cpp, computeResizeAreaTab; rounding differs in any other order.
    """

    def __init__(self, source: int, target: int) -> None:
        scale = source / target
        taps: list[list[tuple[int, float]]] = []
        for to in range(target):
            begin, end = to * scale, (to + 1) * scale
            width = min(scale, source - begin)
            first = math.ceil(begin)
            last = min(math.floor(end), source - 1)
            first = min(first, last)
            before = [(first - 1, (first - begin) / width)] if first - begin > 1e-3 else []
            whole = [(at, 1.0 / width) for at in range(first, last)]
            rest = min(end - last, 1.0, width) / width
            after = [(last, rest)] if end - last > 1e-3 else []
            taps.append([*before, *whole, *after])
        most = max(map(len, taps))
        padded = [[*one, *[(0, 0.0)] * (most - len(one))] for one in taps]
        self._taps = [
            (
                np.array([tap[0] for tap in taps_of_one], dtype=np.intp),
                np.array([tap[1] for tap in taps_of_one], dtype=np.float32)[:, None],
            )
            for taps_of_one in zip(*padded, strict=True)
        ]

    def applied(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Returns float32 [target, N] for float32 [source, N]."""
        total: npt.NDArray[np.float32] | None = None
        for at, weight in self._taps:
            part = values[at] * weight
            total = part if total is None else total + part
        assert total is not None
        return total


class CatchScreens:
    """The toy game; its screen is what the network sees."""

    frames_per_second = _CATCH_FRAMES_PER_SECOND
    frames_per_step = 1

    def __init__(self) -> None:
        self.actions = ["LEFT", "STAY", "RIGHT"]
        self._catch = Catch(1)
        self._screen = np.zeros((FRAME_SIDE, FRAME_SIDE), dtype=np.uint8)

    def colours(self) -> npt.NDArray[np.uint8]:
        """Returns greys."""
        return np.arange(256, dtype=np.uint8).repeat(3).reshape(256, 3)

    def screen(self) -> Screen:
        """Returns the newest frame of the stack."""
        return self._screen

    def reset(self, seed: int) -> Observations:
        """Begins a game."""
        observations = self._catch.reset(seed)
        self._screen = observations[0, -1]
        return observations

    def step(self, action: int) -> ScreenStep:
        """Takes one step."""
        step: Any = self._catch.step(np.array([action]))
        over = bool(step.terminated[0])
        seen = step.final_observations if over else step.observations
        self._screen = seen[0, -1]
        return ScreenStep(seen, float(step.rewards[0]), over, [self._screen])
