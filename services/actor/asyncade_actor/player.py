"""Plays E games step by step and records each unroll as a `Trajectory`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from asyncade_proto.messages import (
    GOES_ON,
    STACK,
    TERMINATED,
    TRUNCATED,
    Episodes,
    Trajectory,
    UInt8,
)
from asyncade_rl.envs import Environments, Step
from asyncade_rl.envs.groups import GameGroups
from asyncade_rl.losses import action_log_probs
from asyncade_rl.network import ActorCritic
from asyncade_runtime.stages import Stages


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """The first fields of every upstream message; see `asyncade_proto.messages.Trajectory`."""

    actor_id: str
    sequence: int
    policy_version: int
    model: str


class _Recording:
    """An unroll in progress: arrays of their final size, filled step by step."""

    def __init__(self, observations: UInt8, steps: int) -> None:
        envs = len(observations)
        self.steps = steps
        self.done = 0
        self.frames = np.empty((envs, steps + STACK, *observations.shape[2:]), dtype=np.uint8)
        self.frames[:, :STACK] = observations
        self.actions = np.empty((steps, envs), dtype=np.uint8)
        self.log_probs = np.empty((steps, envs), dtype=np.float32)
        self.rewards = np.empty((steps, envs), dtype=np.float32)
        self.ends = np.full((steps, envs), GOES_ON, dtype=np.uint8)
        self.bootstrap_values: list[float] = []

    def trajectory(self, header: Header, episodes: Episodes) -> Trajectory:
        return Trajectory(
            **asdict(header),
            frames=self.frames,
            actions=self.actions,
            behaviour_log_probs=self.log_probs,
            rewards=self.rewards,
            ends=self.ends,
            bootstrap_values=np.array(self.bootstrap_values, dtype=np.float32),
            episodes=episodes,
        )


class Player:
    """Plays unroll after unroll; episodes continue from one to the next, under any policy.

    Args:
        environments: E games; the player resets them. With `GameGroups` E may change between two
            unrolls.
        seed: of the games and of the choice of actions.
        stages: entered at ``inference`` and ``environment`` in every step.
        games: number of games to begin with, as in `play`.
    """

    def __init__(
        self, environments: Environments, seed: int, stages: Stages, games: int | None = None
    ) -> None:
        self._environments = environments
        self._stages = stages
        self._generator = torch.Generator().manual_seed(seed)
        self._observations = environments.reset(seed % 2**30)  # ALE adds to it in an int32
        self._recording: _Recording | None = None
        self._running_returns = np.zeros(environments.num_envs, dtype=np.float32)
        self._running_lengths = np.zeros(environments.num_envs, dtype=np.int32)
        self._returns: list[float] = []
        self._lengths: list[int] = []
        self._steps = 0  # of the unroll before the current one
        self._resize(games)

    def play(
        self,
        network: ActorCritic,
        unroll_length: int,
        games: int | None = None,
    ) -> Iterator[None]:
        """Plays an unroll; yields before each step.

        Newer weights may be loaded into the network at every yield. Rewards are clipped to [-1, 1].

        Args:
            network: the policy.
            unroll_length: T.
            games: number of games; None: all. A game that is no longer
                wanted ends first. Plain environments keep their number.
        """
        self._resize(games)
        recording = self._recording = _Recording(self._observations, unroll_length)
        for _ in range(unroll_length):
            yield
            self._step(network, recording)

    def trajectory(self, header: Header) -> Trajectory:
        """Returns the unroll that `play` completed; the next one begins where it stopped."""
        recording, self._recording = self._recording, None
        assert recording is not None
        assert recording.done == recording.steps
        episodes = Episodes(
            returns=np.array(self._returns, dtype=np.float32),
            lengths=np.array(self._lengths, dtype=np.int32),
        )
        self._returns, self._lengths = [], []
        self._steps = recording.steps
        return recording.trajectory(header, episodes)

    def _resize(self, games: int | None) -> None:
        """Approaches this number of games, between two unrolls.

        A game may stop where its present episode lies wholly in the last unroll: those steps were
        reported, and no other message has anything of an episode whose return will be missing.
        """
        if not isinstance(self._environments, GameGroups):
            return
        may_stop = self._running_lengths <= self._steps
        rows, self._observations = self._environments.resize(games, may_stop)
        self._running_returns = _moved(self._running_returns, rows)
        self._running_lengths = _moved(self._running_lengths, rows)

    def _step(self, network: ActorCritic, recording: _Recording) -> None:
        t = recording.done
        self._stages.enter("inference", len(self._observations))
        actions, recording.log_probs[t] = self._choose(network)
        self._stages.enter("environment", len(self._observations))
        step = self._environments.step(actions)
        self._observations = step.observations
        recording.frames[:, t + STACK] = step.observations[:, -1]
        recording.actions[t] = actions
        np.clip(step.rewards, -1.0, 1.0, out=recording.rewards[t])
        recording.done += 1
        self._running_returns += step.rewards
        self._running_lengths += 1
        over = step.terminated | step.truncated
        if over.any():
            recording.ends[t, step.terminated] = TERMINATED
            recording.ends[t, step.truncated] = TRUNCATED
            recording.bootstrap_values += _truncated_values(network, step)
            self._returns += self._running_returns[over].tolist()
            self._lengths += self._running_lengths[over].tolist()
            self._running_returns[over] = 0
            self._running_lengths[over] = 0

    def _choose(
        self, network: ActorCritic
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Draws actions, int64 [E], and returns them with their log-probabilities, float32 [E]."""
        with torch.inference_mode():
            logits, _ = network(torch.from_numpy(self._observations))
            actions = torch.multinomial(logits.softmax(-1), 1, generator=self._generator).squeeze(1)
            # Rounding may leave a certain action's log-probability a hair above 0.
            log_probs = action_log_probs(logits, actions).clamp(max=0.0)
        return actions.numpy(), log_probs.numpy()


def _moved(values: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Returns the values of each game's former row, 0 where the row is -1."""
    moved = np.zeros(len(rows), dtype=values.dtype)
    moved[rows >= 0] = values[rows[rows >= 0]]
    return moved


def _truncated_values(network: ActorCritic, step: Step) -> list[float]:
    """Returns the values of the final observations of the episodes that the time limit ended."""
    if step.final_observations is None or not step.truncated.any():
        return []
    with torch.inference_mode():
        _, values = network(torch.from_numpy(step.final_observations[step.truncated]))
    return [float(value) for value in values]
