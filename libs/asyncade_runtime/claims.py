"""What senders claim, against what they were asked for: in the learner and in relays.

A message says how much was played and how the games went, and nobody can see that from here. But
nothing can have been played that was not asked for, and the parts of a message must agree with each
other and with those before it. Everything here holds for every honest sender, whatever is lost or
restarted on the way (a property test plays them); what a liar can still claim is consistent.

No I/O, no clock, no game: its limits are arguments.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from asyncade_proto.messages import GOES_ON, Float32, Gradients, Trajectory, Upstream
from asyncade_runtime.admission import Dropped

_SURPLUS: Final = 2
"""An actor plays up to twice as many games as asked, until those that are not wanted have ended:
`asyncade_rl.envs.groups`."""

_SENDERS: Final = 1024
"""Senders with an account, those heard of last. Who is forgotten begins a new one."""

_WAITING: Final = 16
"""Rounds that a relay may have gathered before this process heard of it."""

_ROUNDING: Final = 1e-3
"""Relative, and absolute in points: sums of float32 that were added in another order."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The most that an actor is asked for in one message.

    Attributes:
        games: played in parallel.
        env_steps: in all of them together.
        messages_in_flight: that it may send for each version of the weights.
    """

    games: int
    env_steps: int
    messages_in_flight: int = 1


@dataclass(slots=True)
class _AllButTheLargest:
    """A sum of values without its `spared` largest.

    Of a sender's finished episodes at most one per game began before its account, and its length
    and points are not known from the messages. Whichever these are, the others cannot add up to
    more than the messages say, nor can the sum without the largest.
    """

    spared: int
    total: float = 0.0
    _largest: list[float] = field(default_factory=list)

    def after(self, values: Collection[float]) -> _AllButTheLargest:
        """Returns the sum with more values; this one stays as it is."""
        if not values:
            return self
        new = _AllButTheLargest(self.spared, self.total, self._largest.copy())
        for value in values:
            if len(new._largest) < new.spared:
                heapq.heappush(new._largest, value)
            else:
                new.total += heapq.heappushpop(new._largest, value)
        return new


@dataclass(frozen=True, slots=True)
class _Account:
    """What a sender has reported so far; lost messages count as if they had held the most."""

    sequence: int
    version: int
    env_steps: float
    won: float
    lost: float
    lengths: _AllButTheLargest
    gains: _AllButTheLargest
    losses: _AllButTheLargest


class Claims:
    """Checks what messages claim, with an account of every sender.

    Args:
        asked: the most that an actor may have been asked for, by this process or one before it.
        largest_reward: no reward of the game is larger, before it is clipped to [-1, 1]; infinite
            if that is not known.
        actors_behind_relay: actors whose gradients one message may be the mean of.
    """

    def __init__(
        self, asked: Asked, *, largest_reward: float = math.inf, actors_behind_relay: int = 1
    ) -> None:
        self._games = _SURPLUS * asked.games
        self._env_steps = _SURPLUS * asked.env_steps
        self._in_flight = asked.messages_in_flight
        self._largest_reward = largest_reward
        self._behind = actors_behind_relay
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._first_version: int | None = None

    def check(self, message: Upstream, policy_version: int) -> Dropped | None:
        """Returns why a message cannot be true; None if it can, and is now on its sender's account.

        Args:
            message: decoded.
            policy_version: the newest that was published to the sender.
        """
        if self._first_version is None:
            self._first_version = policy_version
        at_most = self._at_most(message, policy_version)
        problem = self._problem_of_size(message, at_most)
        if problem is None and isinstance(message, Trajectory):
            problem = _problem_of_unroll(message, self._largest_reward)
        if problem is None:
            account = self._after(message, policy_version, at_most)
            problem = self._problem_of_account(account)
            if problem is None:
                self._accounts.pop(message.actor_id, None)
                self._accounts[message.actor_id] = account
                if len(self._accounts) > _SENDERS:
                    self._accounts.popitem(last=False)
        return None if problem is None else Dropped("claim", f"{message.actor_id}: {problem}")

    def _at_most(self, message: Upstream, policy_version: int) -> int:
        """Returns the most env steps in a message.

        A relay whose messages wait for credit gathers on: one for every version of the weights.
        """
        if self._behind == 1 or isinstance(message, Trajectory):
            return self._env_steps
        return self._behind * self._env_steps * (self._lost_at_most(message, policy_version) + 1)

    def _lost_at_most(self, message: Upstream, policy_version: int) -> int:
        """Returns the most messages that one actor can have made since the sender's last one."""
        account = self._accounts.get(message.actor_id)
        if account is None:
            assert self._first_version is not None
            versions = policy_version - self._first_version + _WAITING
        else:
            versions = policy_version - account.version
        return self._in_flight * (max(0, versions) + 2)

    def _problem_of_size(self, message: Upstream, at_most: int) -> str | None:
        samples = message.samples if isinstance(message, Gradients) else message.env_steps
        if samples > at_most or message.env_steps > at_most:
            most = max(samples, message.env_steps)
            cure = "; if it is a relay, say so with --actors-behind-relay"
            return f"{most:,} samples or env steps, at most {at_most:,} were asked for" + (
                cure if isinstance(message, Gradients) else ""
            )
        points = message.points_won + message.points_lost
        if points > message.env_steps * (1 + _ROUNDING):
            return f"{points:,.0f} points in {message.env_steps:,} env steps, each clipped to 1"
        lengths, returns = message.episodes.lengths, message.episodes.returns
        if len(lengths) > message.env_steps:
            return f"{len(lengths):,} games ended in {message.env_steps:,} env steps"
        if not len(lengths):
            return None
        limits = lengths * self._largest_reward * (1 + _ROUNDING)
        if (np.abs(returns) > limits).any():
            return f"a return above {self._largest_reward:g} for each of its env steps"
        return None

    def _after(self, message: Upstream, policy_version: int, at_most: int) -> _Account:
        """Returns the sender's account with a message; what was lost before it may have been."""
        account = self._accounts.get(message.actor_id)
        games = self._games * (self._behind if isinstance(message, Gradients) else 1)
        unseen = 0
        if account is not None:
            gap = message.sequence - account.sequence - 1
            # A lower number: restarted under its name, and its first messages may be lost.
            gap = message.sequence if gap < 0 else gap
            unseen = at_most * min(gap, self._lost_at_most(message, policy_version))
        else:
            none = _AllButTheLargest(games)
            account = _Account(0, 0, 0.0, 0.0, 0.0, none, none, none)
        returns: list[float] = message.episodes.returns.tolist()
        return _Account(
            sequence=message.sequence,
            version=policy_version,
            env_steps=account.env_steps + message.env_steps + unseen,
            won=account.won + message.points_won + unseen,
            lost=account.lost + message.points_lost + unseen,
            lengths=account.lengths.after(message.episodes.lengths.tolist()),
            gains=account.gains.after([one for one in returns if one > 0]),
            losses=account.losses.after([-one for one in returns if one < 0]),
        )

    def _problem_of_account(self, account: _Account) -> str | None:
        if account.lengths.total > account.env_steps:
            return f"games of {account.lengths.total:,.0f} env steps, more than it has played"
        for name, sums, points in (
            ("won", account.gains, account.won),
            ("lost", account.losses, account.lost),
        ):
            limit = self._largest_reward * points if points else 0.0
            if sums.total > limit * (1 + _ROUNDING) + _ROUNDING:
                return f"returns of more points than were {name}"
        return None


def _problem_of_unroll(unroll: Trajectory, largest_reward: float) -> str | None:
    """Returns where an unroll's episodes differ from its own ends and rewards.

    Episodes are in the order of `ends`, [T, E] in C order. One that begins in the unroll lies
    wholly in it: its length is known, and its return as far as the rewards were not clipped.
    """
    rewards = unroll.rewards
    if (np.abs(rewards) > 1).any():
        return "a reward beyond what is clipped to [-1, 1]"
    steps, games = np.nonzero(unroll.ends != GOES_ON)
    lengths, returns = unroll.episodes.lengths, unroll.episodes.returns
    if len(steps) != len(lengths):
        return f"{len(lengths)} finished games, but {len(steps)} ends"
    begun = np.zeros(rewards.shape[1], dtype=np.int64)  # of each game's present episode
    for step, game, length, value in zip(steps, games, lengths, returns, strict=True):
        since, begun[game] = begun[game], step + 1
        here = int(step + 1 - since)
        if length < here or (since and length != here):
            return f"a game of {length} env steps, but its ends are {here} apart"
        if length == here and not _agrees(rewards[since : step + 1, game], value, largest_reward):
            return f"a return of {value:g}, which the rewards of its game contradict"
    return None


def _agrees(rewards: Float32, value: float, largest_reward: float) -> bool:
    """True if a game with these clipped rewards can have had this return."""
    total = float(rewards.sum(dtype=np.float64))
    rounding = _ROUNDING * (1 + float(np.abs(rewards).sum(dtype=np.float64)))
    more, less = np.count_nonzero(rewards >= 1), np.count_nonzero(rewards <= -1)
    clipped = largest_reward - 1  # at most, of one reward
    highest = total + (more * clipped if more else 0.0)
    lowest = total - (less * clipped if less else 0.0)
    return lowest - rounding <= value <= highest + rounding
