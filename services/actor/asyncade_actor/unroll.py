"""Playing: E environments for T steps under one policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from asyncade_proto.messages import (
    GOES_ON,
    STACK,
    TERMINATED,
    TRUNCATED,
    Episodes,
    Float32,
    UInt8,
)
from asyncade_rl.envs import Environments, Step
from asyncade_rl.losses import action_log_probs
from asyncade_rl.network import ActorCritic
from asyncade_runtime.stages import Stages


@dataclass(frozen=True, kw_only=True, slots=True)
class Unroll:
    """What happened in T steps; fields as in `asyncade_proto.messages.Trajectory`."""

    frames: UInt8
    actions: UInt8
    behaviour_log_probs: Float32
    rewards: Float32
    ends: UInt8
    bootstrap_values: Float32
    episodes: Episodes


class _Recording:
    """An unroll in the making: arrays of their final size, filled step by step."""

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


class Player:
    """Plays on from where it stopped, whatever the policy has become since.

    Args:
        environments: E games; the player resets them.
        seed: of the games and of the choice of actions.
        stages: told what the time goes into.
    """

    def __init__(self, environments: Environments, seed: int, stages: Stages) -> None:
        self._environments = environments
        self._stages = stages
        self._generator = torch.Generator().manual_seed(seed)
        self._observations = environments.reset(seed % 2**30)  # ALE counts on in an int32
        self._recording: _Recording | None = None
        self._running_returns = np.zeros(environments.num_envs, dtype=np.float32)
        self._running_lengths = np.zeros(environments.num_envs, dtype=np.int32)
        self._returns: list[float] = []
        self._lengths: list[int] = []

    def play(
        self, network: ActorCritic, steps: int, before_step: Callable[[], None] | None = None
    ) -> Unroll:
        """Plays what is missing of an unroll of `steps` steps in every environment.

        Rewards are clipped to [-1, 1].

        Args:
            network: the policy.
            steps: T.
            before_step: called before each step; it may write newer weights into the network.
        """
        self.play_ahead(network, steps, steps, before_step)
        recording, self._recording = self._recording, None
        assert recording is not None
        episodes = Episodes(
            returns=np.array(self._returns, dtype=np.float32),
            lengths=np.array(self._lengths, dtype=np.int32),
        )
        self._returns, self._lengths = [], []
        return Unroll(
            frames=recording.frames,
            actions=recording.actions,
            behaviour_log_probs=recording.log_probs,
            rewards=recording.rewards,
            ends=recording.ends,
            bootstrap_values=np.array(recording.bootstrap_values, dtype=np.float32),
            episodes=episodes,
        )

    @property
    def steps_ahead(self) -> int:
        """Steps of the next unroll that are played already."""
        return 0 if self._recording is None else self._recording.done

    def play_ahead(
        self,
        network: ActorCritic,
        steps: int,
        count: int,
        before_step: Callable[[], None] | None = None,
    ) -> None:
        """Plays up to `count` steps of the next unroll of `steps` steps; `play` returns it.

        An unroll begun with another number of steps is given up.
        """
        if self._recording is None or self._recording.steps != steps:
            self._recording = _Recording(self._observations, steps)
        recording = self._recording
        for _ in range(min(count, steps - recording.done)):
            if before_step is not None:
                before_step()
            self._step(network, recording)

    def _step(self, network: ActorCritic, recording: _Recording) -> None:
        t = recording.done
        self._stages.enter("inference")
        chosen, recording.log_probs[t] = self._choose(network)
        self._stages.enter("environment")
        step = self._environments.step(chosen)
        self._observations = step.observations
        recording.frames[:, t + STACK] = step.observations[:, -1]
        recording.actions[t] = chosen
        np.clip(step.rewards, -1.0, 1.0, out=recording.rewards[t])
        recording.done += 1
        self._running_returns += step.rewards
        self._running_lengths += 1
        over = step.terminated | step.truncated
        if over.any():
            recording.ends[t, step.terminated] = TERMINATED
            recording.ends[t, step.truncated] = TRUNCATED
            recording.bootstrap_values += _values_cut_off(network, step)
            self._returns += self._running_returns[over].tolist()
            self._lengths += self._running_lengths[over].tolist()
            self._running_returns[over] = 0
            self._running_lengths[over] = 0

    def close(self) -> None:
        """Ends the games."""
        self._environments.close()

    def _choose(
        self, network: ActorCritic
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Draws an action for every environment; returns actions and their log-probabilities."""
        with torch.inference_mode():
            logits, _ = network(torch.from_numpy(self._observations))
            drawn = torch.multinomial(logits.softmax(-1), 1, generator=self._generator).squeeze(1)
            # Rounding may leave a certain action's log-probability a hair above 0.
            log_probs = action_log_probs(logits, drawn).clamp(max=0.0)
        return drawn.numpy(), log_probs.numpy()


def _values_cut_off(network: ActorCritic, step: Step) -> list[float]:
    """Returns the values of the observations at which the time limit cut episodes off."""
    if step.final_observations is None or not step.truncated.any():
        return []
    with torch.inference_mode():
        _, values = network(torch.from_numpy(step.final_observations[step.truncated]))
    return [float(value) for value in values]
