"""Games whose number can change while they are played, without cutting an episode short.

The emulators of one `Environments` are all stepped together, and every further `Environments` costs
time. So games that begin together are one group. A group that is no longer wanted stops game by
game, each where its episode ends; meanwhile games that have stopped are stepped without effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from asyncade_rl.envs.base import Environments, Observations, Step, check_actions
from asyncade_rl.games import FRAME_SIDE

Rows: TypeAlias = npt.NDArray[np.int64]


class _Group:
    """Games that began together.

    Attributes:
        size: number of games.
        playing: number of those that have not stopped.
        rows: numbers of the playing games before a change of the games, -1 if they begin with it.
    """

    def __init__(self, environments: Environments, seed: int) -> None:
        self.environments = environments
        self.size = environments.num_envs
        self.playing = self.size
        self.rows: Rows = np.full(self.size, -1)
        self._plays = np.ones(self.size, dtype=bool)
        self._observations = environments.reset(seed)

    @property
    def whole(self) -> bool:
        """True if no game has stopped."""
        return self.playing == self.size

    @property
    def observations(self) -> Observations:
        """Those of the playing games."""
        return self._observations[self._plays]

    def stop(self, may_stop: npt.NDArray[np.bool_]) -> None:
        """Stops those of the playing games that may stop, bool [playing]."""
        self._plays[self._plays] = ~may_stop
        self.playing = int(self._plays.sum())
        self.rows = self.rows[~may_stop]

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        """Steps the games; actions and results are those of the playing ones."""
        if self.whole:
            step = self.environments.step(actions)
            self._observations = step.observations
            return step
        every = np.zeros(self.size, dtype=np.int64)
        every[self._plays] = actions
        step = self.environments.step(every)
        self._observations = step.observations
        final = step.final_observations
        return Step(
            observations=step.observations[self._plays],
            rewards=step.rewards[self._plays],
            terminated=step.terminated[self._plays],
            truncated=step.truncated[self._plays],
            final_observations=None if final is None else final[self._plays],
        )


class GameGroups:
    """An `Environments` of a changing number E of games, at first none.

    The i-th game that ever begins has the seed of `reset` plus i.

    Args:
        make: makes a number of environments.
        at_most: number of games that it never exceeds.
    """

    def __init__(self, make: Callable[[int], Environments], at_most: int) -> None:
        self._make = make
        self._at_most = at_most
        self._groups: list[_Group] = []
        self._seed = 0

    @property
    def num_envs(self) -> int:
        """E, the games that play now."""
        return sum(group.playing for group in self._groups)

    @property
    def num_actions(self) -> int:
        """A, known once games have begun; actions are in [0, A)."""
        return self._groups[0].environments.num_actions

    def protocol(self) -> dict[str, Any]:
        """Returns the preprocessing and rules, known once games have begun."""
        return self._groups[0].environments.protocol()

    def reset(self, seed: int) -> Observations:
        """Stops every game; `resize` begins new ones. Returns uint8 [0, 4, 84, 84]."""
        self.close()
        self._seed = seed
        return np.zeros((0, 4, FRAME_SIDE, FRAME_SIDE), dtype=np.uint8)

    def resize(
        self, games: int | None, may_stop: npt.NDArray[np.bool_]
    ) -> tuple[Rows, Observations]:
        """Approaches a number of games: begins new ones, and stops those that may stop.

        There are never fewer than `games` afterwards. There may be up to twice as many, or as many
        as before, until the games of groups that are not wanted have stopped.

        Args:
            games: number asked for, at least 1; None, or a larger one, means `at_most`.
            may_stop: bool [E], whether a game may stop here.

        Returns:
            int64 [E'], each game's former row, -1 for a game that begins here; and the games'
            observations, uint8 [E', 4, 84, 84].
        """
        target = self._at_most if games is None else min(games, self._at_most)
        kept = self._kept(target)
        for group, rows in self._divided(np.arange(len(may_stop))):
            group.rows = rows
            if group not in kept:
                group.stop(may_stop[rows])
        self._begin(target - sum(group.size for group in kept), target)
        for group in self._groups:
            if not group.playing:
                group.environments.close()
        self._groups = [group for group in self._groups if group.playing]
        rows = np.concatenate([group.rows for group in self._groups])
        return rows, np.concatenate([group.observations for group in self._groups])

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        """Takes one step in every game."""
        check_actions(actions, self.num_envs, self.num_actions)
        return _joined([group.step(own) for group, own in self._divided(actions)])

    def close(self) -> None:
        """Frees the games."""
        for group in self._groups:
            group.environments.close()
        self._groups = []

    def _kept(self, target: int) -> list[_Group]:
        """Returns the groups that go on as they are, the largest that fit into the target."""
        kept = []
        for group in sorted(self._groups, key=lambda group: -group.size):
            if group.whole and group.size <= target:
                kept.append(group)
                target -= group.size
        return kept

    def _begin(self, missing: int, target: int) -> None:
        """Begins the missing games in one group as soon as that leaves at most twice the target.

        Beginning one whenever another stops would give as many groups as games.
        """
        playing = self.num_envs
        room = min(2 * target, self._at_most) - playing
        if missing > room:
            missing = room if playing < target else 0
        if missing:
            self._groups.append(_Group(self._make(missing), self._seed))
            self._seed += missing

    def _divided(self, values: Rows) -> Iterator[tuple[_Group, Rows]]:
        """Yields the groups, each with the values of its own playing games."""
        start = 0
        for group in self._groups:
            end = start + group.playing
            yield group, values[start:end]
            start = end


def in_groups(make_environments: Callable[..., Environments]) -> Callable[..., GameGroups]:
    """Returns a `make_environments` whose environments are `GameGroups`."""

    def make(game: str, num_envs: int, **options: Any) -> GameGroups:
        return GameGroups(partial(make_environments, game, **options), num_envs)

    return make


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
