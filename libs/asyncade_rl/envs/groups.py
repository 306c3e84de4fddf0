"""Games whose number can change while they are played, without cutting an episode short.

The emulators of one `Environments` are all stepped together, and every further `Environments` costs
time. So the games are divided into few groups: all games that begin together are one, and any other
number is a sum of halves (7 of 8 games: 4 + 2 + 1). A group that is no longer wanted stops game by
game, each at the end of its episode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from asyncade_rl.envs.base import Environments, Observations, Step, check_actions
from asyncade_rl.games import FRAME_SIDE

Rows: TypeAlias = npt.NDArray[np.int64]

_NOTHING: Final = np.zeros((0, 4, FRAME_SIDE, FRAME_SIDE), dtype=np.uint8)


class _Group:
    """Games that begin together; each may stop alone.

    Attributes:
        size: number of games.
        plays: bool [size]; the others are stepped, without effect, while any plays.
        playing: number of those that play.
        rows: numbers of the playing games before a change of the games, -1 if they begin with it.
    """

    def __init__(self, make: Callable[[int], Environments], size: int) -> None:
        self._make = make
        self._environments: Environments | None = None
        self.size = size
        self.plays = np.zeros(size, dtype=bool)
        self.playing = 0
        self.rows: Rows = np.zeros(0, dtype=np.int64)
        self._observations = _NOTHING

    @property
    def environments(self) -> Environments:
        """The games, made on first use and kept: a few megabytes each."""
        if self._environments is None:
            self._environments = self._make(self.size)
        return self._environments

    @property
    def made(self) -> bool:
        return self._environments is not None

    @property
    def whole(self) -> bool:
        """True if all games play."""
        return self.playing == self.size

    @property
    def observations(self) -> Observations:
        """Those of the playing games."""
        return self._observations[self.plays]

    def begin(self, seed: int) -> None:
        self._observations = self.environments.reset(seed)
        self.plays[:] = True
        self.playing = self.size
        self.rows = np.full(self.size, -1)

    def stop(self, may_stop: npt.NDArray[np.bool_]) -> None:
        """Stops those of the playing games that may stop, bool [playing]."""
        self.plays[self.plays] = ~may_stop
        self.playing = int(self.plays.sum())
        self.rows = self.rows[~may_stop]

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        """Steps the group with the actions of the playing games; returns those games' results."""
        if self.whole:
            step = self.environments.step(actions)
            self._observations = step.observations
            return step
        every = np.zeros(self.size, dtype=np.int64)
        every[self.plays] = actions
        step = self.environments.step(every)
        self._observations = step.observations
        final = step.final_observations
        return Step(
            observations=step.observations[self.plays],
            rewards=step.rewards[self.plays],
            terminated=step.terminated[self.plays],
            truncated=step.truncated[self.plays],
            final_observations=None if final is None else final[self.plays],
        )

    def close(self) -> None:
        if self._environments is not None:
            self._environments.close()


class GameGroups:
    """An `Environments` of a changing number E of games, at first none.

    The i-th game that ever begins has the seed of `reset` plus i.

    Args:
        make: makes a number of environments.
        at_most: number of games that it never exceeds.
    """

    def __init__(self, make: Callable[[int], Environments], at_most: int) -> None:
        self._at_most = at_most
        self._groups = [_Group(make, size) for size in _sizes(at_most)]
        self._playing: list[_Group] = []
        self._seed = 0

    @property
    def num_envs(self) -> int:
        """E, the games that play now."""
        return sum(group.playing for group in self._playing)

    @property
    def num_actions(self) -> int:
        """A; actions are in [0, A)."""
        return self._any().num_actions

    def protocol(self) -> dict[str, Any]:
        """Returns the preprocessing and rules."""
        return self._any().protocol()

    def reset(self, seed: int) -> Observations:
        """Stops every game; `resize` begins new ones. Returns uint8 [0, 4, 84, 84]."""
        self._seed = seed
        for group in self._playing:
            group.stop(np.ones(group.playing, dtype=bool))
        self._playing = []
        return _NOTHING.copy()

    def resize(
        self, games: int | None, may_stop: npt.NDArray[np.bool_]
    ) -> tuple[Rows, Observations]:
        """Approaches a number of games: begins new ones, and stops those that may stop.

        Until the games of a group that is not wanted have ended, there may be more than `games`, up
        to twice as many where the new games form another group; after a change of mind also fewer.

        Args:
            games: number asked for, at least 1; None, or a larger one, means `at_most`.
            may_stop: bool [E], whether a game may stop here.

        Returns:
            int64 [E'], each game's former row, -1 for a game that begins here; and the games'
            observations, uint8 [E', 4, 84, 84].
        """
        target = self._at_most if games is None else min(games, self._at_most)
        wanted = self._wanted(target)
        for group, rows in self._divided(np.arange(len(may_stop))):
            group.rows = rows
            if group not in wanted or not group.whole:
                group.stop(may_stop[rows])
        room = min(2 * target, self._at_most) - self.num_envs
        for group in wanted:
            if not group.playing and group.size <= room:
                group.begin(self._seed)
                self._seed += group.size
                room -= group.size
        self._playing = [group for group in self._groups if group.playing]
        rows = np.concatenate([group.rows for group in self._playing])
        return rows, np.concatenate([group.observations for group in self._playing])

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        """Takes one step in every game."""
        check_actions(actions, self.num_envs, self.num_actions)
        return _joined([group.step(own) for group, own in self._divided(actions)])

    def close(self) -> None:
        """Frees the games."""
        for group in self._groups:
            group.close()

    def _wanted(self, target: int) -> list[_Group]:
        """Returns the groups whose sizes add up to the target, the largest first.

        All games are one group, the fastest, if they begin together.
        """
        full, *parts = self._groups
        if target == full.size and (full.whole or not self.num_envs):
            return [full]
        wanted = []
        for group in parts:
            if group.size <= target:
                wanted.append(group)
                target -= group.size
        return wanted

    def _divided(self, values: Rows) -> Iterator[tuple[_Group, Rows]]:
        """Yields the playing groups, each with the values of its own games."""
        start = 0
        for group in self._playing:
            end = start + group.playing
            yield group, values[start:end]
            start = end

    def _any(self) -> Environments:
        made = (group for group in self._groups if group.made)
        return next(made, self._groups[-1]).environments


def in_groups(make_environments: Callable[..., Environments]) -> Callable[..., GameGroups]:
    """Returns a `make_environments` whose environments are `GameGroups`."""

    def make(game: str, num_envs: int, **options: Any) -> GameGroups:
        return GameGroups(partial(make_environments, game, **options), num_envs)

    return make


def _sizes(count: int) -> list[int]:
    """Returns `count` and its halves, one of them halved again, and so on: 8, 4, 4, 2, 2, 1, 1.

    Any number up to `count` is a sum of some of them, found by taking the largest that fits; so it
    is without the first.
    """
    if count == 1:
        return [1, 1]
    return [count, count - count // 2, *_sizes(count // 2)]


def _joined(steps: Sequence[Step]) -> Step:
    """Joins the steps of several groups into one."""
    if len(steps) == 1:
        return steps[0]
    observations = np.concatenate([step.observations for step in steps])
    final = None
    if any(step.final_observations is not None for step in steps):
        finals = [  # where no game of a group has ended, anything of that shape
            step.observations if step.final_observations is None else step.final_observations
            for step in steps
        ]
        final = np.concatenate(finals)
    return Step(
        observations=observations,
        rewards=np.concatenate([step.rewards for step in steps]),
        terminated=np.concatenate([step.terminated for step in steps]),
        truncated=np.concatenate([step.truncated for step in steps]),
        final_observations=final,
    )
