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
from asyncade_rl.env import Environments, Step
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
        self._returns = np.zeros(environments.num_envs, dtype=np.float32)
        self._lengths = np.zeros(environments.num_envs, dtype=np.int32)

    def play(
        self, network: ActorCritic, steps: int, before_step: Callable[[], None] | None = None
    ) -> Unroll:
        """Plays `steps` steps in every environment. Rewards are clipped to [-1, 1].

        Args:
            network: the policy.
            steps: T.
            before_step: called before each step; it may write newer weights into the network.
        """
        envs = self._environments.num_envs
        frames = np.empty((envs, steps + STACK, *self._observations.shape[2:]), dtype=np.uint8)
        frames[:, :STACK] = self._observations
        actions = np.empty((steps, envs), dtype=np.uint8)
        log_probs = np.empty((steps, envs), dtype=np.float32)
        rewards = np.empty((steps, envs), dtype=np.float32)
        ends = np.full((steps, envs), GOES_ON, dtype=np.uint8)
        bootstrap_values: list[float] = []
        returns: list[float] = []
        lengths: list[int] = []
        for t in range(steps):
            if before_step is not None:
                before_step()
            self._stages.enter("inference")
            chosen, log_probs[t] = self._choose(network)
            self._stages.enter("environment")
            step = self._environments.step(chosen)
            self._observations = step.observations
            frames[:, t + STACK] = step.observations[:, -1]
            actions[t] = chosen
            np.clip(step.rewards, -1.0, 1.0, out=rewards[t])
            self._returns += step.rewards
            self._lengths += 1
            over = step.terminated | step.truncated
            if over.any():
                ends[t, step.terminated] = TERMINATED
                ends[t, step.truncated] = TRUNCATED
                bootstrap_values += _values_cut_off(network, step)
                returns += self._returns[over].tolist()
                lengths += self._lengths[over].tolist()
                self._returns[over] = 0
                self._lengths[over] = 0
        return Unroll(
            frames=frames,
            actions=actions,
            behaviour_log_probs=log_probs,
            rewards=rewards,
            ends=ends,
            bootstrap_values=np.array(bootstrap_values, dtype=np.float32),
            episodes=Episodes(
                returns=np.array(returns, dtype=np.float32),
                lengths=np.array(lengths, dtype=np.int32),
            ),
        )

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
